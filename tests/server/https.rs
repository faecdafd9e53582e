//! DNS over HTTPS: methods, versions, errors, limits and shutdown.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lodestone::{
    server::{Scheme, limits::Limits},
    wire::{Rcode, Type},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    client::{PATIENCE, query, query_for, rcode},
    identity::{Certificate, connect, listener, serve_over},
    plugins::{Serving, serve_with},
};

pub type Request2 = http2::SendRequest<Full<Bytes>>;

/// An HTTP/2 connection.
pub async fn second(at: SocketAddr, certificate: &Certificate) -> Request2 {
    let stream = connect(at, certificate.client(&["h2"])).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// An HTTP/1.1 connection, with TLS or without.
async fn first(
    at: SocketAddr,
    certificate: Option<&Certificate>,
) -> http1::SendRequest<Full<Bytes>> {
    if let Some(certificate) = certificate {
        let stream = connect(at, certificate.client(&["http/1.1"])).await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    } else {
        let stream = TcpStream::connect(at).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

pub fn post(message: &[u8]) -> Request<Full<Bytes>> {
    Request::post("https://dns.test/dns-query")
        .header("content-type", "application/dns-message")
        .body(Full::new(Bytes::copy_from_slice(message)))
        .unwrap()
}

fn get(message: &[u8]) -> Request<Full<Bytes>> {
    let text = BASE64_URL_SAFE_NO_PAD.encode(message);
    Request::get(format!("https://dns.test/dns-query?dns={text}"))
        .body(Full::default())
        .unwrap()
}

/// Waits until the server has closed the connection.
async fn closed(sender: &mut http1::SendRequest<Full<Bytes>>) {
    let closed = async {
        while sender.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, closed).await.expect("it is closed");
}

/// The status, the named header's value and the body.
async fn read(response: Response<hyper::body::Incoming>, header: &str) -> (u16, String, Vec<u8>) {
    let value = response.headers().get(header);
    let value = value.map_or("", |value| value.to_str().unwrap()).to_owned();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap();
    (status, value, body.to_bytes().to_vec())
}

/// The reply to a message; panics without one.
pub async fn ask(sender: &mut Request2, message: &[u8]) -> Vec<u8> {
    let response = timeout(PATIENCE, sender.send_request(post(message))).await;
    let (status, content, body) = read(response.unwrap().unwrap(), "content-type").await;
    assert_eq!((status, content.as_str()), (200, "application/dns-message"));
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn get_and_post_are_answered_over_http_1_and_2() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Https, &certificate);
    let mut second = second(serving.at, &certificate).await;
    let mut first = first(serving.at, Some(&certificate)).await;
    for name in ["a.test", "alias.test", "big.test"] {
        for request in [get(&query(name)), post(&query(name))] {
            let response = second.send_request(request.clone()).await.unwrap();
            let (status, age, body) = read(response, "cache-control").await;
            assert_eq!((status, age.as_str()), (200, "max-age=5"));
            assert_eq!(rcode(&body), Rcode::NOERROR);
            // hyper accepts the next request after the end of the last response.
            first.ready().await.unwrap();
            let response = first.send_request(request).await.unwrap();
            let (status, length, again) = read(response, "content-length").await;
            assert_eq!((status, length), (200, body.len().to_string()));
            assert_eq!(body, again);
        }
    }
    let counted =
        serving.metric("coredns_dns_https_responses_total{server=\"dns://:0\",status=\"200\"}");
    assert_eq!(counted, "12");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_http_1_1_is_served() {
    let serving = serve_with(Limits::default(), |wanted| {
        wanted.listener = listener(Scheme::Https);
    });
    let mut first = first(serving.at, None).await;
    let response = first.send_request(post(&query("a.test"))).await.unwrap();
    let (status, _, body) = read(response, "date").await;
    assert_eq!((status, rcode(&body)), (200, Rcode::NOERROR));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_get_an_http_status() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Https, &certificate);
    let mut sender = second(serving.at, &certificate).await;
    let request = |method: &str, path: &str, content: &str, body: Vec<u8>| {
        Request::builder()
            .method(method)
            .uri(format!("https://dns.test{path}"))
            .header("content-type", content)
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    };
    let dns = "application/dns-message";
    let whole = query("a.test");
    let mut reply = whole.clone();
    reply[2] |= 0x80;
    for (status, request) in [
        (404, request("POST", "/", dns, whole.clone())),
        (405, request("PUT", "/dns-query", dns, whole.clone())),
        (405, request("HEAD", "/dns-query?dns=AAAA", dns, Vec::new())),
        (
            415,
            request("POST", "/dns-query", "application/json", whole.clone()),
        ),
        (413, request("POST", "/dns-query", dns, vec![0; 65_536])),
        (400, request("POST", "/dns-query", dns, Vec::new())),
        (
            400,
            request("POST", "/dns-query", dns, whole[..20].to_vec()),
        ),
        (400, request("POST", "/dns-query", dns, reply)),
        (400, request("GET", "/dns-query", dns, Vec::new())),
        (400, request("GET", "/dns-query?dns=AA=", dns, Vec::new())),
        (500, post(&query("drop.test"))),
        (500, post(&query("drop-later.test"))),
    ] {
        let described = format!("{request:?}");
        let response = sender.send_request(request).await.unwrap();
        let (got, allowed, _) = read(response, "allow").await;
        assert_eq!(got, status, "{described}");
        assert_eq!(allowed.is_empty(), status != 405);
    }
    let axfr = ask(&mut sender, &query_for("test", Type::AXFR)).await;
    assert_eq!(rcode(&axfr), Rcode::REFUSED);
    assert_eq!(
        rcode(&ask(&mut sender, &query("panic.test")).await),
        Rcode::SERVFAIL
    );
    let counted =
        serving.metric("coredns_dns_https_responses_total{server=\"dns://:0\",status=\"400\"}");
    assert_eq!(counted, "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_query_does_not_delay_others_on_its_connection() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Https, &certificate);
    let mut sender = second(serving.at, &certificate).await;
    let slow = tokio::spawn(sender.send_request(post(&query("wait.test"))));
    serving.begun(1).await;
    assert_eq!(
        rcode(&ask(&mut sender, &query("a.test")).await),
        Rcode::NOERROR
    );
    serving.plugin.release.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
}

fn plain(change: impl FnOnce(&mut lodestone::server::limits::StreamSettings)) -> Serving {
    serve_with(Limits::default(), |wanted| {
        wanted.listener = listener(Scheme::Https);
        change(&mut wanted.streams);
    })
}

/// The server's response to these bytes until it closes the connection, possibly before reading all of them.
async fn response_to(at: SocketAddr, bytes: &[u8]) -> String {
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let mut said = Vec::new();
    let talk = async {
        let read = reader.read_to_end(&mut said);
        let _ = tokio::join!(read, writer.write_all(bytes));
    };
    timeout(PATIENCE, talk).await.expect("the connection ends");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_disconnected() {
    let serving = plain(|settings| {
        settings.first_query = Duration::from_millis(50);
        settings.idle = Duration::from_millis(50);
    });
    assert_eq!(response_to(serving.at, b"").await, "");
    assert_eq!(response_to(serving.at, b"POST /dns-query HT").await, "");
    let half = b"POST /dns-query HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\n\r\nhalf";
    let response = response_to(serving.at, half).await;
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    let whole = "GET /dns-query HTTP/1.1\r\nhost: a\r\n\r\n";
    let response = response_to(serving.at, whole.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    let long = b"POST /dns-query HTTP/1.1\r\nhost: a\r\ncontent-length: 70000\r\n\r\n";
    let response = response_to(serving.at, &[long.to_vec(), vec![0; 70_000]].concat()).await;
    assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
    // An endless header is not buffered.
    let endless = format!("GET /{} HTTP/1.1\r\n", "a".repeat(100_000));
    let response = response_to(serving.at, endless.as_bytes()).await;
    assert!(!response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_with_a_pending_request_is_not_idle() {
    let serving = plain(|settings| {
        settings.first_query = Duration::from_millis(100);
        settings.idle = Duration::from_millis(20);
    });
    let mut sender = first(serving.at, None).await;
    let asking = tokio::spawn(sender.send_request(post(&query("wait.test"))));
    serving.begun(1).await;
    assert_eq!(
        response_to(serving.at, b"").await,
        "",
        "another idle connection is closed"
    );
    serving.plugin.release.add_permits(1);
    assert_eq!(asking.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn max_connections_evicts_idle_connections() {
    let serving = plain(|settings| settings.connections = Some(2));
    let mut busy = first(serving.at, None).await;
    let asking = tokio::spawn(busy.send_request(post(&query("wait.test"))));
    serving.begun(1).await;
    let mut idle = first(serving.at, None).await;
    let response = idle.send_request(post(&query("a.test"))).await.unwrap();
    let _ = read(response, "date").await;
    let mut third = first(serving.at, None).await;
    let response = third.send_request(post(&query("a.test"))).await.unwrap();
    assert_eq!(response.status(), 200);
    closed(&mut idle).await;
    serving.plugin.release.add_permits(1);
    assert_eq!(asking.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_answers_queries_in_flight() {
    let certificate = Certificate::new();
    let mut serving = serve_over(Scheme::Https, &certificate);
    let mut sender = second(serving.at, &certificate).await;
    let asking = tokio::spawn(sender.send_request(post(&query("wait.test"))));
    let mut idle = first(serving.at, Some(&certificate)).await;
    let response = idle.send_request(post(&query("a.test"))).await.unwrap();
    let _ = read(response, "date").await;
    serving.begun(1).await;
    let plugin = std::sync::Arc::clone(&serving.plugin);
    let draining = tokio::spawn(async move { serving.servers.drain(PATIENCE).await });
    closed(&mut idle).await;
    plugin.release.add_permits(1);
    let (status, _, body) = read(asking.await.unwrap().unwrap(), "date").await;
    assert_eq!((status, rcode(&body)), (200, Rcode::NOERROR));
    assert!(draining.await.unwrap());
}
