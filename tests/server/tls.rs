//! DNS over TLS: handshakes, certificates, limits and shutdown.

use std::{net::SocketAddr, time::Duration};

use lodestone::{
    server::{Scheme, limits::Limits},
    tls::{ClientAuth, Identity},
    wire::Rcode,
};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{PATIENCE, framed, next, query, rcode, read, send, with_id},
    identity::{Certificate, connect, listener, serve_over, try_connect},
    plugins::{Serving, serve_with, wanted},
};

fn serve_with_settings(
    certificate: &Certificate,
    change: impl FnOnce(&mut lodestone::server::limits::StreamSettings),
) -> Serving {
    let identity = certificate.identity();
    serve_with(Limits::default(), |wanted| {
        wanted.listener = listener(Scheme::Tls);
        wanted.tls = Some(identity);
        change(&mut wanted.streams);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_query_does_not_delay_later_ones() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Tls, &certificate);
    let mut stream = connect(serving.at, certificate.client(&["dot"])).await;
    let mut together = framed(&with_id(query("wait.test"), 1));
    together.extend(framed(&with_id(query("a.test"), 2)));
    stream.write_all(&together).await.unwrap();
    assert_eq!(read(&next(&mut stream).await.unwrap()).header.id, 2);
    serving.plugin.release.add_permits(1);
    assert_eq!(read(&next(&mut stream).await.unwrap()).header.id, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_larger_than_all_buffers_are_complete() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Tls, &certificate);
    let stream = connect(serving.at, certificate.client(&[])).await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        for id in 0..1_000 {
            let question = framed(&with_id(query("big.test"), id));
            writer.write_all(&question).await.unwrap();
        }
        writer.flush().await.unwrap();
        writer
    });
    for id in 0..1_000 {
        let reply = read(&next(&mut reader).await.unwrap());
        assert_eq!((reply.header.id, reply.header.counts[1]), (id, 200));
    }
    drop(writing.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_before_a_half_close_are_answered() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Tls, &certificate);
    let mut stream = connect(serving.at, certificate.client(&[])).await;
    send(&mut stream, &query("wait.test")).await;
    serving.begun(1).await;
    // A TCP half-close, without close_notify.
    stream.get_mut().0.shutdown().await.unwrap();
    serving.plugin.release.add_permits(1);
    assert_eq!(rcode(&next(&mut stream).await.unwrap()), Rcode::NOERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_does_not_read_is_disconnected() {
    let certificate = Certificate::new();
    let serving = serve_with_settings(&certificate, |settings| {
        settings.write = Duration::from_millis(100);
        settings.idle = Duration::from_mins(1);
    });
    let mut stream = connect(serving.at, certificate.client(&[])).await;
    let question = framed(&query("big.test"));
    let asking = async { while stream.write_all(&question).await.is_ok() {} };
    let gave_up = tokio::time::timeout(Duration::from_secs(20), asking).await;
    assert!(gave_up.is_ok());
}

/// Whether a client gets an answer.
async fn is_answered(at: SocketAddr, config: ClientConfig) -> bool {
    let asking = async {
        let mut stream = try_connect(at, config).await?;
        stream.write_all(&framed(&query("a.test"))).await?;
        stream.read_u16().await
    };
    // With TLS 1.3 a client learns of the rejection when it reads.
    asking.await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn client_auth_modes_accept_and_reject_certificates() {
    let (server, stranger) = (Certificate::new(), Certificate::new());
    for (client_auth, without, strange, known) in [
        (ClientAuth::NoCertificate, true, true, true),
        (ClientAuth::Request, true, true, true),
        (ClientAuth::Require, false, true, true),
        (ClientAuth::VerifyIfGiven, true, false, true),
        (ClientAuth::RequireAndVerify, false, false, true),
    ] {
        let identity = server.asking(client_auth);
        let serving = serve_with(Limits::default(), |wanted| {
            wanted.listener = listener(Scheme::Tls);
            wanted.tls = Some(identity);
        });
        let answered = [
            is_answered(serving.at, server.client(&[])).await,
            is_answered(serving.at, server.client_with(&stranger)).await,
            is_answered(serving.at, server.client_with(&server)).await,
        ];
        assert_eq!(answered, [without, strange, known], "{client_auth:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificate_is_used_for_new_connections() {
    let mut certificate = Certificate::new();
    let identity = certificate.identity();
    identity.follow(Duration::from_millis(5));
    let serving = serve_with(Limits::default(), |wanted| {
        wanted.listener = listener(Scheme::Tls);
        wanted.tls = Some(identity);
    });
    let mut before = connect(serving.at, certificate.client(&[])).await;
    certificate.renew();
    let renewed = async {
        while !is_answered(serving.at, certificate.client(&[])).await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, renewed).await.is_ok());
    send(&mut before, &query("a.test")).await;
    assert!(
        next(&mut before).await.is_some(),
        "existing connections stay"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_with_another_certificate_keeps_sockets_and_connections() {
    let (first, second) = (Certificate::new(), Certificate::new());
    let mut serving = serve_over(Scheme::Tls, &first);
    let mut before = connect(serving.at, first.client(&[])).await;
    send(&mut before, &query("a.test")).await;
    assert!(next(&mut before).await.is_some());
    let mut other = wanted("127.0.0.1:0", &serving.plugin);
    other.listener = listener(Scheme::Tls);
    other.tls = Some(second.identity());
    serving.servers.apply(vec![other]).unwrap();
    assert_eq!(serving.servers.bound(listener(Scheme::Tls))[0], serving.at);
    assert!(is_answered(serving.at, second.client(&[])).await);
    assert!(!is_answered(serving.at, first.client(&[])).await);
    send(&mut before, &query("a.test")).await;
    assert!(next(&mut before).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_handshake_times_out() {
    let certificate = Certificate::new();
    let serving = serve_with_settings(&certificate, |settings| {
        settings.first_query = Duration::from_millis(50);
    });
    for begun in [
        &b""[..],
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(serving.at).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut said = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "{begun:?}");
    }
    let mut silent = connect(serving.at, certificate.client(&[])).await;
    assert!(next(&mut silent).await.is_none(), "nor is silence after it");
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_handshakes_are_evicted_first() {
    let certificate = Certificate::new();
    let identity = certificate.identity();
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let serving = serve_with(limits, |wanted| {
        wanted.listener = listener(Scheme::Tls);
        wanted.tls = Some(identity);
    });
    let mut busy = connect(serving.at, certificate.client(&[])).await;
    send(&mut busy, &query("wait.test")).await;
    serving.begun(1).await;
    let mut half_open = TcpStream::connect(serving.at).await.unwrap();
    half_open.write_all(b"\x16\x03\x01").await.unwrap();
    assert!(is_answered(serving.at, certificate.client(&[])).await);
    assert!(matches!(half_open.read(&mut [0]).await, Ok(0) | Err(_)));
    serving.plugin.release.add_permits(1);
    assert!(next(&mut busy).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_answers_queries_in_flight() {
    let certificate = Certificate::new();
    let mut serving = serve_over(Scheme::Tls, &certificate);
    let mut stream = connect(serving.at, certificate.client(&[])).await;
    send(&mut stream, &query("wait.test")).await;
    let mut half_open = TcpStream::connect(serving.at).await.unwrap();
    serving.begun(1).await;
    let plugin = std::sync::Arc::clone(&serving.plugin);
    let draining = tokio::spawn(async move { serving.servers.drain(PATIENCE).await });
    assert!(matches!(half_open.read(&mut [0]).await, Ok(0) | Err(_)));
    plugin.release.add_permits(1);
    assert_eq!(rcode(&next(&mut stream).await.unwrap()), Rcode::NOERROR);
    assert!(next(&mut stream).await.is_none());
    drop(stream);
    assert!(draining.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn keylog_contains_the_secrets_of_each_connection() {
    let certificate = Certificate::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let mut files = certificate.files();
    files.key_log = Some(path.clone());
    let identity = Identity::load(files).unwrap();
    let serving = serve_with(Limits::default(), |wanted| {
        wanted.listener = listener(Scheme::Tls);
        wanted.tls = Some(identity);
    });
    assert!(is_answered(serving.at, certificate.client(&[])).await);
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("CLIENT_TRAFFIC_SECRET_0 "), "{text}");
    assert!(text.lines().all(|line| line.split(' ').count() == 3));
}
