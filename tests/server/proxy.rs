//! PROXY headers, as a load balancer sends them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lodestone::{
    server::{
        Listener, Scheme,
        limits::Limits,
        proxy::{ProxyPolicy, Sessions, Treatment},
    },
    wire::Rcode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    client::{PATIENCE, first_answer, framed, next, query, rcode, receive, send, udp, with_id},
    identity::{Certificate, listener, within},
    plugins::{Serving, serve_with, wanted},
};

const LINE: &[u8] = b"PROXY TCP4 192.0.2.77 198.51.100.1 4660 53\r\n";

/// A header of version 2 for 192.0.2.77 port 7.
fn binary(datagrams: bool) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    header.extend([if datagrams { 0x12 } else { 0x11 }, 0, 12]);
    header.extend([192, 0, 2, 77, 198, 51, 100, 1, 0, 7, 0, 53]);
    header
}

fn behind(others: Treatment, sessions: bool, listener: Listener) -> Serving {
    let policy = Arc::new(ProxyPolicy {
        allow: Vec::new(),
        others,
        sessions: sessions.then_some(Sessions {
            ttl: Duration::from_secs(30),
            most: 10,
        }),
    });
    serve_with(Limits::default(), |wanted| {
        wanted.listener = listener;
        wanted.proxy = Some(policy);
        wanted.streams.first_query = Duration::from_millis(300);
    })
}

/// The client address that the server sees, over TCP after these bytes.
async fn over_tcp(at: SocketAddr, header: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(header).await.unwrap();
    stream
        .write_all(&framed(&query("client.test")))
        .await
        .unwrap();
    let mut length = [0; 2];
    let read = timeout(PATIENCE, stream.read_exact(&mut length))
        .await
        .unwrap();
    read.ok()?;
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply).await.unwrap();
    Some(first_answer(&reply))
}

const TOLD: Option<&[u8]> = Some(&[192, 0, 2, 77]);
const OWN: Option<&[u8]> = Some(&[127, 0, 0, 1]);

#[tokio::test(flavor = "multi_thread")]
async fn connections_follow_the_rule_for_their_peer() {
    for (others, with_header) in [
        (Treatment::Use, TOLD),
        (Treatment::Ignore, OWN),
        (Treatment::Reject, None),
    ] {
        let serving = behind(others, false, listener(Scheme::Dns));
        for header in [LINE.to_vec(), binary(false)] {
            let client = over_tcp(serving.at, &header).await;
            assert_eq!(client.as_deref(), with_header, "{others:?}");
        }
        assert_eq!(
            over_tcp(serving.at, b"").await.as_deref(),
            OWN,
            "{others:?}"
        );
    }
    let serving = behind(Treatment::Skip, false, listener(Scheme::Dns));
    assert_eq!(over_tcp(serving.at, LINE).await, None, "it is not a query");
    assert_eq!(over_tcp(serving.at, b"").await.as_deref(), OWN);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_may_be_fragmented_and_have_a_timeout() {
    let serving = behind(Treatment::Use, false, listener(Scheme::Dns));
    let mut stream = TcpStream::connect(serving.at).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in LINE {
        stream.write_all(&[*byte]).await.unwrap();
    }
    send(&mut stream, &with_id(query("client.test"), 1)).await;
    send(&mut stream, &with_id(query("a.test"), 2)).await;
    let reply = next(&mut stream).await.unwrap();
    assert_eq!(first_answer(&reply), [192, 0, 2, 77]);
    assert!(next(&mut stream).await.is_some());
    for broken in [
        &b"PROXY TCP4 192.0"[..],
        b"PROXY nonsense\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF",
    ] {
        let mut stream = TcpStream::connect(serving.at).await.unwrap();
        stream.write_all(broken).await.unwrap();
        let read = timeout(PATIENCE, stream.read(&mut [0])).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{broken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn header_precedes_tls() {
    let certificate = Certificate::new();
    let identity = certificate.identity();
    let policy = ProxyPolicy {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        others: Treatment::Reject,
        sessions: None,
    };
    let serving = serve_with(Limits::default(), |wanted| {
        wanted.listener = listener(Scheme::Tls);
        wanted.tls = Some(identity);
        wanted.proxy = Some(Arc::new(policy));
    });
    let mut stream = TcpStream::connect(serving.at).await.unwrap();
    stream.write_all(&binary(false)).await.unwrap();
    let mut stream = within(stream, certificate.client(&[])).await.unwrap();
    send(&mut stream, &query("client.test")).await;
    let reply = next(&mut stream).await.unwrap();
    assert_eq!(first_answer(&reply), [192, 0, 2, 77]);
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_have_a_header_or_belong_to_a_session() {
    let serving = behind(Treatment::Use, true, listener(Scheme::Dns));
    let socket = udp(serving.at).await;
    let ask = |with_header: bool, name: &str| {
        let mut datagram = if with_header {
            binary(true)
        } else {
            Vec::new()
        };
        datagram.extend(query(name));
        datagram
    };
    socket.send(&ask(false, "client.test")).await.unwrap();
    assert_eq!(first_answer(&receive(&socket).await), [127, 0, 0, 1]);
    socket.send(&ask(true, "client.test")).await.unwrap();
    assert_eq!(first_answer(&receive(&socket).await), [192, 0, 2, 77]);
    socket.send(&ask(false, "client.test")).await.unwrap();
    assert_eq!(first_answer(&receive(&socket).await), [192, 0, 2, 77]);
    // A delayed reply goes to the proxy too.
    socket.send(&ask(true, "alias.test")).await.unwrap();
    assert_eq!(rcode(&receive(&socket).await), Rcode::NOERROR);
    // An invalid datagram header is dropped; a bare header only starts a session.
    let other = udp(serving.at).await;
    let mut line = LINE.to_vec();
    line.extend(query("client.test"));
    other.send(&line).await.unwrap();
    other.send(&binary(true)).await.unwrap();
    other.send(&ask(false, "client.test")).await.unwrap();
    assert_eq!(first_answer(&receive(&other).await), [192, 0, 2, 77]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_applies_to_the_next_datagram_of_the_same_socket() {
    let mut serving = behind(Treatment::Use, false, listener(Scheme::Dns));
    let ask = async |at| {
        let socket = udp(at).await;
        let datagram = [binary(true), query("client.test")].concat();
        socket.send(&datagram).await.unwrap();
        timeout(PATIENCE, receive(&socket)).await
    };
    assert_eq!(
        first_answer(&ask(serving.at).await.unwrap()),
        [192, 0, 2, 77]
    );
    let plain = |proxy: Option<ProxyPolicy>| {
        let mut plain = wanted("127.0.0.1:0", &serving.plugin);
        plain.proxy = proxy.map(Arc::new);
        plain
    };
    let without = plain(None);
    let policy = ProxyPolicy {
        allow: Vec::new(),
        others: Treatment::Ignore,
        sessions: None,
    };
    let ignoring = plain(Some(policy));
    serving.servers.apply(vec![without]).unwrap();
    let malformed = ask(serving.at).await.unwrap();
    assert_eq!(malformed.len(), 12, "it is not a query");
    serving.servers.apply(vec![ignoring]).unwrap();
    let ignored = ask(serving.at).await.unwrap();
    assert_eq!(
        first_answer(&ignored),
        [127, 0, 0, 1],
        "the header is ignored"
    );
}
