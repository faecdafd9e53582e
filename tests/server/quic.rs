//! DNS over QUIC: queries, protocol errors, limits and shutdown.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lodestone::{
    server::{Scheme, limits::Limits},
    wire::Rcode,
};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, VarInt, crypto::rustls::QuicClientConfig,
};
use tokio::time::timeout;

use crate::{
    client::{PATIENCE, framed, query, rcode, with_id},
    identity::{Certificate, listener, serve_over},
    plugins::{Serving, serve_with},
};

/// A connection with ALPN `protocol`, and its endpoint.
pub async fn connect(
    at: SocketAddr,
    certificate: &Certificate,
    protocol: &str,
) -> Result<(Endpoint, Connection), ConnectionError> {
    let crypto = QuicClientConfig::try_from(certificate.client(&[protocol])).unwrap();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    let connecting = endpoint.connect(at, "dns.test").unwrap();
    Ok((endpoint, connecting.await?))
}

async fn doq(serving: &Serving, certificate: &Certificate) -> (Endpoint, Connection) {
    connect(serving.at, certificate, "doq").await.unwrap()
}

/// The response on a stream to these bytes.
async fn exchange(connection: &Connection, bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(bytes).await.ok()?;
    send.finish().ok()?;
    let read = timeout(PATIENCE, receive.read_to_end(200_000)).await;
    read.expect("the stream ends").ok()
}

/// The reply to a message; panics without one.
pub async fn ask(connection: &Connection, message: &[u8]) -> Vec<u8> {
    let message = with_id(message.to_vec(), 0);
    let reply = exchange(connection, &framed(&message)).await.unwrap();
    assert_eq!(
        reply.len(),
        2 + usize::from(u16::from_be_bytes([reply[0], reply[1]]))
    );
    reply[2..].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_query_has_its_own_stream() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Quic, &certificate);
    let (_endpoint, connection) = doq(&serving, &certificate).await;
    let slow = tokio::spawn({
        let connection = connection.clone();
        async move { ask(&connection, &query("wait.test")).await }
    });
    serving.begun(1).await;
    for name in ["a.test", "alias.test", "big.test", "local.test"] {
        assert_eq!(rcode(&ask(&connection, &query(name)).await), Rcode::NOERROR);
    }
    let reply = ask(&connection, &query("local.test")).await;
    assert!(
        reply.ends_with(&[127, 0, 0, 1]),
        "the address that was asked"
    );
    serving.plugin.release.add_permits(1);
    assert_eq!(rcode(&slow.await.unwrap()), Rcode::NOERROR);
    assert_eq!(
        exchange(&connection, &framed(&with_id(query("drop.test"), 0))).await,
        None
    );
    let counted =
        serving.metric("coredns_dns_quic_responses_total{server=\"dns://:0\",status=\"0x0\"}");
    assert_eq!(counted, "6");
}

#[tokio::test(flavor = "multi_thread")]
async fn protocol_errors_close_the_connection() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Quic, &certificate);
    let mut keepalive = with_id(query("a.test"), 0);
    keepalive[11] = 1;
    keepalive.extend(b"\0\0\x29\x04\xD0\0\0\0\0\0\x04\0\x0B\0\0");
    let mut trailing = framed(&with_id(query("a.test"), 0));
    trailing.push(0);
    let cases = [
        ("another id", framed(&with_id(query("a.test"), 7))),
        ("an option of TCP", framed(&keepalive)),
        ("no length", with_id(query("a.test"), 0)),
        ("nothing", framed(&[])),
        ("no query", framed(&[0; 12])),
        (
            "an early end",
            framed(&with_id(query("a.test"), 0))[..9].to_vec(),
        ),
        ("no octet", Vec::new()),
        ("more than one message", trailing),
    ];
    for (what, bytes) in &cases {
        let (_endpoint, connection) = doq(&serving, &certificate).await;
        let _ = exchange(&connection, bytes).await;
        let closed = timeout(PATIENCE, connection.closed()).await;
        let Ok(ConnectionError::ApplicationClosed(closed)) = closed else {
            panic!("{what}: {closed:?}");
        };
        assert_eq!(closed.error_code, VarInt::from_u32(2), "{what}");
    }
    let counted =
        serving.metric("coredns_dns_quic_responses_total{server=\"dns://:0\",status=\"0x2\"}");
    assert_eq!(counted, cases.len().to_string());
}

fn with_settings(
    certificate: &Certificate,
    limits: Limits,
    change: impl FnOnce(&mut lodestone::server::limits::StreamSettings),
) -> Serving {
    let identity = certificate.identity();
    serve_with(limits, |wanted| {
        wanted.listener = listener(Scheme::Quic);
        wanted.tls = Some(identity);
        change(&mut wanted.streams);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_silent_clients_are_disconnected() {
    let certificate = Certificate::new();
    let serving = with_settings(&certificate, Limits::default(), |settings| {
        settings.first_query = Duration::from_millis(100);
        settings.idle = Duration::from_millis(300);
    });
    let (_endpoint, silent) = doq(&serving, &certificate).await;
    assert!(timeout(PATIENCE, silent.closed()).await.is_ok());
    let (_endpoint, slow) = doq(&serving, &certificate).await;
    let (mut send, mut receive) = slow.open_bi().await.unwrap();
    send.write_all(&[0, 30, 0, 0]).await.unwrap();
    let reset = timeout(PATIENCE, receive.read_to_end(10)).await.unwrap();
    assert_eq!(reset.unwrap_err(), reset_with(1));
    assert_eq!(rcode(&ask(&slow, &query("a.test")).await), Rcode::NOERROR);
    // The client's direction stays open: STOP_SENDING is a protocol error (RFC 9250 section 4.3.3).
    send.write_all(&[0]).await.unwrap();
    send.finish().unwrap();
    assert_eq!(timeout(PATIENCE, send.stopped()).await.unwrap(), Ok(None));
    assert_eq!(serving.metric(GIVEN_UP), "1");
}

const GIVEN_UP: &str = "coredns_dns_quic_responses_total{server=\"dns://:0\",status=\"0x1\"}";

fn reset_with(code: u32) -> quinn::ReadToEndError {
    quinn::ReadToEndError::Read(quinn::ReadError::Reset(VarInt::from_u32(code)))
}

#[tokio::test(flavor = "multi_thread")]
async fn query_without_fin_is_answered_without_stop_sending() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Quic, &certificate);
    let (_endpoint, connection) = doq(&serving, &certificate).await;
    let question = framed(&with_id(query("a.test"), 0));
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&question).await.unwrap();
    let reply = timeout(PATIENCE, receive.read_to_end(1000))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rcode(&reply[2..]), Rcode::NOERROR);
    // Ensures that everything that the server sent for the first query has arrived.
    assert_eq!(
        rcode(&ask(&connection, &query("a.test")).await),
        Rcode::NOERROR
    );
    send.finish().unwrap();
    assert_eq!(timeout(PATIENCE, send.stopped()).await.unwrap(), Ok(None));
    // Trailing bytes are a protocol error, however late they arrive.
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&question).await.unwrap();
    timeout(PATIENCE, receive.read_to_end(1000))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        rcode(&ask(&connection, &query("a.test")).await),
        Rcode::NOERROR
    );
    send.write_all(&question).await.unwrap();
    let closed = timeout(PATIENCE, connection.closed()).await.unwrap();
    assert!(
        matches!(&closed, ConnectionError::ApplicationClosed(closed) if closed.error_code == VarInt::from_u32(2)),
        "{closed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_query_resets_its_stream() {
    let certificate = Certificate::new();
    let serving = serve_over(Scheme::Quic, &certificate);
    let (_endpoint, connection) = doq(&serving, &certificate).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&[0, 30, 0, 0]).await.unwrap();
    send.reset(VarInt::from_u32(3)).unwrap();
    let reset = timeout(PATIENCE, receive.read_to_end(10)).await.unwrap();
    assert_eq!(reset.unwrap_err(), reset_with(1));
    assert_eq!(
        rcode(&ask(&connection, &query("a.test")).await),
        Rcode::NOERROR
    );
    assert_eq!(serving.metric(GIVEN_UP), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_workers_and_connections_are_limited() {
    let certificate = Certificate::new();
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let serving = with_settings(&certificate, limits, |settings| {
        settings.in_flight = 2;
        settings.workers = Some(1);
        settings.first_query = 4 * PATIENCE;
    });
    let (_endpoint, busy) = doq(&serving, &certificate).await;
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let busy = busy.clone();
            tokio::spawn(async move { ask(&busy, &query("wait.test")).await })
        })
        .collect();
    serving.begun(1).await;
    // If all connections are busy, a new one is refused; if one is idle, it is evicted.
    let (_endpoint, idle) = doq(&serving, &certificate).await;
    let coming = async {
        loop {
            let third = doq(&serving, &certificate).await;
            tokio::select! {
                _ = idle.closed() => break third,
                // The previous connection was not established yet and evicted this one.
                _ = third.1.closed() => {}
            }
        }
    };
    let (_endpoint, third) = timeout(PATIENCE, coming).await.expect("the idle one goes");
    assert_eq!(
        serving.plugin.begun.available_permits(),
        0,
        "one is worked on at a time"
    );
    serving.plugin.release.add_permits(3);
    for one in asking {
        assert_eq!(rcode(&one.await.unwrap()), Rcode::NOERROR);
    }
    assert_eq!(rcode(&ask(&third, &query("a.test")).await), Rcode::NOERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn max_connections_applies_to_the_listener() {
    let certificate = Certificate::new();
    let serving = with_settings(&certificate, Limits::default(), |settings| {
        settings.connections = Some(1);
    });
    let (_endpoint, busy) = doq(&serving, &certificate).await;
    let asking = tokio::spawn({
        let busy = busy.clone();
        async move { ask(&busy, &query("wait.test")).await }
    });
    serving.begun(1).await;
    let (_endpoint, turned_away) = doq(&serving, &certificate).await;
    let closed = timeout(PATIENCE, turned_away.closed()).await.unwrap();
    assert!(
        matches!(&closed, ConnectionError::ApplicationClosed(closed) if closed.error_code == VarInt::from_u32(4)),
        "{closed:?}"
    );
    serving.plugin.release.add_permits(1);
    assert_eq!(rcode(&asking.await.unwrap()), Rcode::NOERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificate_is_used_for_new_connections() {
    let mut certificate = Certificate::new();
    let identity = certificate.identity();
    let kept = Arc::clone(&identity);
    let serving = serve_with(Limits::default(), |wanted| {
        wanted.listener = listener(Scheme::Quic);
        wanted.tls = Some(identity);
    });
    let (_endpoint, before) = doq(&serving, &certificate).await;
    certificate.renew();
    assert!(connect(serving.at, &certificate, "doq").await.is_err());
    assert!(kept.refresh().unwrap());
    assert!(connect(serving.at, &certificate, "doq").await.is_ok());
    assert_eq!(rcode(&ask(&before, &query("a.test")).await), Rcode::NOERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_answers_queries_in_flight() {
    let certificate = Certificate::new();
    let mut serving = serve_over(Scheme::Quic, &certificate);
    let (_endpoint, connection) = doq(&serving, &certificate).await;
    let asking = tokio::spawn({
        let connection = connection.clone();
        async move { ask(&connection, &query("wait.test")).await }
    });
    let (_endpoint, idle) = doq(&serving, &certificate).await;
    assert_eq!(rcode(&ask(&idle, &query("a.test")).await), Rcode::NOERROR);
    serving.begun(1).await;
    let plugin = Arc::clone(&serving.plugin);
    let draining = tokio::spawn(async move { serving.servers.drain(PATIENCE).await });
    let closed = timeout(PATIENCE, idle.closed()).await.unwrap();
    assert!(
        matches!(&closed, ConnectionError::ApplicationClosed(closed) if closed.error_code == VarInt::from_u32(0)),
        "{closed:?}"
    );
    plugin.release.add_permits(1);
    assert_eq!(rcode(&asking.await.unwrap()), Rcode::NOERROR);
    assert!(draining.await.unwrap());
}
