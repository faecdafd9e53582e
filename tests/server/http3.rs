//! DNS over HTTPS with HTTP/3.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use hyper::Request;
use lodestone::{
    server::{Scheme, limits::Limits},
    wire::Rcode,
};
use quinn::{Endpoint, SendStream, WriteError};
use tokio::time::timeout;

use crate::{
    client::{PATIENCE, query, rcode},
    identity::{Certificate, listener, serve_over},
    plugins::{Serving, serve_with},
    quic,
};

pub type Sender = SendRequest<h3_quinn::OpenStreams, Bytes>;

pub async fn connect(at: SocketAddr, certificate: &Certificate) -> (Endpoint, Sender) {
    let (endpoint, connection) = quic::connect(at, certificate, "h3").await.unwrap();
    let built = h3::client::new(h3_quinn::Connection::new(connection)).await;
    let (mut driver, sender) = built.unwrap();
    tokio::spawn(async move { driver.wait_idle().await });
    (endpoint, sender)
}

/// A server with short timeouts and this limit of connections.
fn hasty(certificate: &Certificate, connections: Option<usize>) -> Serving {
    let identity = certificate.identity();
    serve_with(Limits::default(), |wanted| {
        wanted.listener = listener(Scheme::Https3);
        wanted.tls = Some(identity);
        wanted.streams.first_query = Duration::from_millis(200);
        wanted.streams.connections = connections;
    })
}

fn post(body: &[u8]) -> (Request<()>, Bytes) {
    let request = Request::post("https://dns.test/dns-query")
        .header("content-type", "application/dns-message")
        .body(())
        .unwrap();
    (request, Bytes::copy_from_slice(body))
}

async fn exchange(sender: &mut Sender, request: (Request<()>, Bytes)) -> (u16, String, Vec<u8>) {
    let exchange = async {
        let mut stream = sender.send_request(request.0).await.unwrap();
        // The request may be rejected before it is sent completely.
        let _ = stream.send_data(request.1).await;
        let _ = stream.finish().await;
        let response = stream.recv_response().await.unwrap();
        let mut body = Vec::new();
        while let Some(mut part) = stream.recv_data().await.unwrap() {
            body.extend(part.copy_to_bytes(part.remaining()));
        }
        let age = response.headers().get("cache-control");
        let age = age.map_or("", |age| age.to_str().unwrap()).to_owned();
        (response.status().as_u16(), age, body)
    };
    timeout(PATIENCE, exchange).await.expect("a response comes")
}

/// The reply to a message; panics without one.
pub async fn ask(sender: &mut Sender, message: &[u8]) -> Vec<u8> {
    let (status, age, body) = exchange(sender, post(message)).await;
    assert_eq!(status, 200);
    assert!(age.starts_with("max-age="));
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_answered_and_invalid_requests_get_a_status() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Https3, &certificate);
    let (_endpoint, mut sender) = connect(serving.at, &certificate).await;
    let mut slow_sender = sender.clone();
    let slow = tokio::spawn(async move { ask(&mut slow_sender, &query("wait.test")).await });
    serving.begun(1).await;
    for name in ["a.test", "alias.test", "big.test"] {
        assert_eq!(rcode(&ask(&mut sender, &query(name)).await), Rcode::NOERROR);
    }
    serving.plugin.release.add_permits(1);
    assert_eq!(rcode(&slow.await.unwrap()), Rcode::NOERROR);
    let get = |path: &str| {
        let request = Request::get(format!("https://dns.test{path}"));
        (request.body(()).unwrap(), Bytes::new())
    };
    for (status, request) in [
        (404, get("/")),
        (400, get("/dns-query")),
        (400, post(b"no query")),
        (413, post(&vec![0; 70_000])),
        (500, post(&query("drop.test"))),
    ] {
        assert_eq!(exchange(&mut sender, request).await.0, status);
    }
    let counted = |status| {
        let labels = format!("{{server=\"dns://:0\",status=\"{status}\"}}");
        serving.metric(&format!("coredns_dns_https3_responses_total{labels}"))
    };
    assert_eq!((counted(200), counted(400)), ("4".into(), "2".into()));
}

/// The status of a request whose body does not end.
async fn status_of_part(sender: &mut Sender, part: Option<Vec<u8>>) -> u16 {
    let exchange = async {
        let mut stream = sender.send_request(post(&[]).0).await.unwrap();
        if let Some(part) = part {
            // The request may be rejected before it is sent completely.
            let _ = stream.send_data(part.into()).await;
        }
        stream.recv_response().await.unwrap().status().as_u16()
    };
    timeout(PATIENCE, exchange).await.expect("a response comes")
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_body_fails_its_own_request_only() {
    let certificate = Certificate::new();
    let serving = hasty(&certificate, None);
    let (_endpoint, mut sender) = connect(serving.at, &certificate).await;
    for (status, part) in [
        (408, None),
        (408, Some(vec![0; 12])),
        (413, Some(vec![0; 66_000])),
    ] {
        assert_eq!(status_of_part(&mut sender, part).await, status);
    }
    assert_eq!(
        rcode(&ask(&mut sender, &query("a.test")).await),
        Rcode::NOERROR
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_closed_and_idle_ones_evicted() {
    let certificate = Certificate::new();
    let serving = hasty(&certificate, Some(1));
    let (_endpoint, silent) = quic::connect(serving.at, &certificate, "h3").await.unwrap();
    assert!(timeout(PATIENCE, silent.closed()).await.is_ok());
    let (_endpoint, mut first) = connect(serving.at, &certificate).await;
    assert_eq!(
        rcode(&ask(&mut first, &query("a.test")).await),
        Rcode::NOERROR
    );
    let (_endpoint, mut second) = connect(serving.at, &certificate).await;
    assert_eq!(
        rcode(&ask(&mut second, &query("a.test")).await),
        Rcode::NOERROR
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_answers_queries_in_flight() {
    let certificate = Certificate::new();
    let mut serving = serve_over(Scheme::Https3, &certificate);
    let (_endpoint, mut sender) = connect(serving.at, &certificate).await;
    let asking = tokio::spawn(async move { ask(&mut sender, &query("wait.test")).await });
    let (_endpoint, _idle) = connect(serving.at, &certificate).await;
    serving.begun(1).await;
    let plugin = Arc::clone(&serving.plugin);
    let draining = tokio::spawn(async move { serving.servers.drain(PATIENCE).await });
    plugin.release.add_permits(1);
    assert_eq!(rcode(&asking.await.unwrap()), Rcode::NOERROR);
    assert!(draining.await.unwrap());
}

/// Sends `before` and a frame with a length of 1 GiB until the server stops the stream.
async fn endless(mut stream: SendStream, before: &[u8]) -> WriteError {
    const GIBIBYTE: [u8; 8] = [0xc0, 0, 0, 0, 0x40, 0, 0, 0];
    let sending = async {
        stream.write_all(&[before, &GIBIBYTE].concat()).await?;
        stream.write_all(&vec![0; 256 << 10]).await?;
        Ok(())
    };
    let sent = timeout(PATIENCE, sending)
        .await
        .expect("it is not left to wait");
    sent.expect_err("far less is taken")
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_frames_are_rejected() {
    const EXCESSIVE_LOAD: u32 = 0x107;
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Https3, &certificate);
    // A HEADERS frame, and a frame of unknown type.
    let (_endpoint, connection) = quic::connect(serving.at, &certificate, "h3").await.unwrap();
    for kind in [0x01, 0x21] {
        let (stream, _replies) = connection.open_bi().await.unwrap();
        let ended = endless(stream, &[kind]).await;
        assert_eq!(ended, WriteError::Stopped(EXCESSIVE_LOAD.into()));
    }
    assert_eq!(connection.close_reason(), None);
    // SETTINGS, and a frame of unknown type, on the control stream.
    for kind in [0x04, 0x21] {
        let (_endpoint, connection) = quic::connect(serving.at, &certificate, "h3").await.unwrap();
        let ended = endless(connection.open_uni().await.unwrap(), &[0, kind]).await;
        assert!(matches!(
            ended,
            WriteError::Stopped(_) | WriteError::ConnectionLost(_)
        ));
        assert!(timeout(PATIENCE, connection.closed()).await.is_ok());
    }
}
