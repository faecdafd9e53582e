//! CoreDNS's gRPC service.

use bytes::{BufMut, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lodestone::{
    server::{Scheme, limits::Limits},
    wire::Rcode,
};
use prost::Message;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    client::{PATIENCE, query, rcode},
    https::{self, Request2},
    identity::{Certificate, listener, serve_over},
    plugins::serve_with,
};

#[derive(Clone, PartialEq, prost::Message)]
struct DnsPacket {
    #[prost(bytes = "vec", tag = "1")]
    msg: Vec<u8>,
}

const METHOD: &str = "/coredns.dns.DnsService/Query";

fn request(method: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    Request::post(format!("http://dns.test{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let packet = DnsPacket {
        msg: message.to_vec(),
    };
    let mut framed = vec![0];
    framed.put_u32(u32::try_from(packet.encoded_len()).unwrap());
    framed.extend(packet.encode_to_vec());
    framed
}

/// The gRPC status, from headers or trailers, and the body.
async fn call(sender: &mut Request2, request: Request<Full<Bytes>>) -> (String, Vec<u8>) {
    let response = timeout(PATIENCE, sender.send_request(request)).await;
    let response = response.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let early = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await.unwrap();
    let late = body
        .trailers()
        .and_then(|it| it.get("grpc-status"))
        .cloned();
    let status = early.or(late).expect("a status");
    let bytes = body.to_bytes();
    let message = bytes.get(5..).map_or_else(Vec::new, |packet| {
        assert_eq!(bytes[0], 0);
        DnsPacket::decode(packet).unwrap().msg
    });
    (status.to_str().unwrap().to_owned(), message)
}

/// The reply to a message; panics without one.
pub async fn ask(sender: &mut Request2, message: &[u8]) -> Vec<u8> {
    let (status, reply) = call(sender, request(METHOD, framed(message))).await;
    assert_eq!(status, "0");
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_answered_with_tls_and_without() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Grpc, &certificate);
    let mut sender = https::second(serving.at, &certificate).await;
    assert_eq!(
        rcode(&ask(&mut sender, &query("a.test")).await),
        Rcode::NOERROR
    );

    let serving = serve_with(Limits::default(), |wanted| {
        wanted.listener = listener(Scheme::Grpc);
    });
    let stream = TokioIo::new(TcpStream::connect(serving.at).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    assert_eq!(
        rcode(&ask(&mut sender, &query("alias.test")).await),
        Rcode::NOERROR
    );
    assert_eq!(
        rcode(&ask(&mut sender, &query("big.test")).await),
        Rcode::NOERROR
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_calls_end_with_a_grpc_status() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Grpc, &certificate);
    let mut sender = https::second(serving.at, &certificate).await;
    let whole = framed(&query("a.test"));
    let mut compressed = whole.clone();
    compressed[0] = 1;
    for (status, method, body) in [
        ("12", "/coredns.dns.DnsService/Watch", whole.clone()),
        ("12", METHOD, compressed),
        ("13", METHOD, Vec::new()),
        ("13", METHOD, whole[..10].to_vec()),
        ("13", METHOD, vec![0, 0, 0, 0, 2, 0xFF, 0xFF]),
        ("8", METHOD, framed(&vec![0; 65_536])),
        ("3", METHOD, framed(b"no query")),
        ("3", METHOD, framed(b"")),
        ("10", METHOD, framed(&query("drop.test"))),
    ] {
        let (got, reply) = call(&mut sender, request(method, body)).await;
        assert_eq!((got.as_str(), reply.len()), (status, 0), "{method}");
    }
    let plain = Request::post("http://dns.test/")
        .body(Full::default())
        .unwrap();
    let response = sender.send_request(plain).await.unwrap();
    assert_eq!(response.status(), 415);
}
