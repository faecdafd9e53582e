//! hickory-server's loops instead of Lodestone's: the same queries get the same replies.

use std::{sync::Arc, time::Duration};

use lodestone::{
    metrics::Metrics,
    reply::Section,
    server::{
        LoopKind, Servers,
        limits::Limits,
        proxy::{ProxyPolicy, Treatment},
    },
    wire::{Header, Rcode, Type},
};
use tokio::{
    net::{TcpStream, UdpSocket},
    runtime::Handle,
    time::timeout,
};

use crate::{
    client::{
        PATIENCE, ask_tcp, ask_udp, describe, first_answer, next, query, query_for, rcode, read,
        receive, send, udp, with_edns, with_id,
    },
    plugins::{Labels, Serving, serve, serve_by, wanted},
};

fn serve_by_hickory() -> Serving {
    serve_by(LoopKind::Hickory, Limits::default(), |_| {})
}

/// Messages of all kinds that get a reply.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let opcode = |message: Vec<u8>, code: u8| {
        let mut message = message;
        message[2] |= code << 3;
        message
    };
    let mut two_questions = query("a.test");
    two_questions[5] = 2;
    two_questions.extend(b"\x01b\x00\x00\x01\x00\x01");
    let mut understands = query("signed.test");
    understands[3] |= 0x30;
    let mut with_option = with_edns(query("a.test"), 1232, 0, false);
    *with_option.last_mut().unwrap() = 12;
    with_option.extend(b"\0\x0A\0\x08\x01\x02\x03\x04\x05\x06\x07\x08");
    vec![
        ("a name", query("a.test")),
        ("a name as spelled", query("A.tEsT")),
        ("a denial with a record in authority", query("soa.test")),
        ("EDNS", with_edns(query("a.test"), 4096, 0, false)),
        ("an EDNS option", with_option),
        ("DO", with_edns(query("signed.test"), 4096, 0, true)),
        ("AD and CD", understands),
        ("a truncated reply", query("big.test")),
        (
            "a truncated reply with EDNS",
            with_edns(query("big.test"), 1232, 0, false),
        ),
        ("a sub-query", query("alias.test")),
        ("no plugin's name", query("nobody.test")),
        ("a zone that is not served", query("a.example")),
        ("a panic", query("panic.test")),
        ("a panic later", query("panic-later.test")),
        ("BADVERS", with_edns(query("a.test"), 1232, 9, false)),
        ("an unknown type", query_for("a.test", Type(65_280))),
        ("a transfer", query_for("a.test", Type::AXFR)),
        ("a notification", opcode(query("copied.test"), 4)),
        ("a refused notification", opcode(query("guarded.test"), 4)),
        ("an update", opcode(query("a.test"), 5)),
        ("two questions", two_questions),
        (
            "shorter than its header claims",
            query("a.test")[..12].to_vec(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_get_the_same_bytes_as_from_the_own_loop() {
    let (own, hickory) = (serve(), serve_by_hickory());
    for (what, message) in messages() {
        let expected = ask_udp(own.at, &message).await;
        assert_eq!(ask_udp(hickory.at, &message).await, expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_get_the_same_replies_except_for_name_compression() {
    let (own, hickory) = (serve(), serve_by_hickory());
    let mut stream = TcpStream::connect(hickory.at).await.unwrap();
    for (what, message) in messages() {
        let expected = ask_tcp(own.at, &message).await;
        send(&mut stream, &message).await;
        let reply = next(&mut stream).await.expect(what);
        assert_eq!(describe(&reply), describe(&expected), "{what}");
        if read_or_none(&expected).is_none_or(|reply| reply == 0) {
            assert_eq!(
                reply, expected,
                "{what}: without records the bytes are the same"
            );
        }
    }
}

/// Number of records of a reply; `None` for a bare header.
fn read_or_none(reply: &[u8]) -> Option<usize> {
    let header = Header::read(reply).unwrap();
    (header.counts[0] > 0).then(|| read(reply).reply.records().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_messages_do_not_affect_others() {
    let hickory = serve_by_hickory();
    let socket = udp(hickory.at).await;
    let mut response = query("a.test");
    response[2] |= 0x80;
    let silent = [
        vec![0; 3],
        response,
        query("drop.test"),
        query("drop-later.test"),
    ];
    for message in &silent {
        socket.send(message).await.unwrap();
    }
    socket.send(&with_id(query("a.test"), 9)).await.unwrap();
    assert_eq!(receive(&socket).await[1], 9);
    let mut buffer = [0; 512];
    let more = timeout(Duration::from_millis(100), socket.recv(&mut buffer)).await;
    assert!(more.is_err(), "a second reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_query_does_not_delay_other_datagrams() {
    let hickory = serve_by_hickory();
    let socket = udp(hickory.at).await;
    socket.send(&with_id(query("wait.test"), 1)).await.unwrap();
    hickory.begun(1).await;
    socket.send(&with_id(query("a.test"), 2)).await.unwrap();
    assert_eq!(receive(&socket).await[1], 2);
    hickory.plugin.release.add_permits(1);
    assert_eq!(receive(&socket).await[1], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_replaces_the_routes_and_keeps_the_sockets() {
    let mut hickory = serve_by_hickory();
    let mut stream = TcpStream::connect(hickory.at).await.unwrap();
    for version in 2..5 {
        let next_wanted = wanted("127.0.0.1:0", &Labels::new(version));
        hickory.servers.apply(vec![next_wanted]).unwrap();
        let reply = ask_udp(hickory.at, &query("version.test")).await;
        assert_eq!(first_answer(&reply)[3], version);
        send(&mut stream, &query("version.test")).await;
        let reply = next(&mut stream).await.unwrap();
        assert_eq!(first_answer(&reply)[3], version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_pending_queries_and_frees_the_port() {
    let mut hickory = serve_by_hickory();
    let at = hickory.at;
    let socket = udp(at).await;
    socket.send(&query("wait.test")).await.unwrap();
    let mut stream = TcpStream::connect(at).await.unwrap();
    send(&mut stream, &query("wait.test")).await;
    hickory.begun(2).await;
    let plugin = Arc::clone(&hickory.plugin);
    let draining = tokio::spawn(async move { hickory.servers.drain(PATIENCE).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    plugin.release.add_permits(2);
    assert_eq!(rcode(&receive(&socket).await), Rcode::NOERROR);
    assert_eq!(rcode(&next(&mut stream).await.unwrap()), Rcode::NOERROR);
    assert!(draining.await.unwrap(), "everything was answered");
    let freed = async {
        while UdpSocket::bind(at).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, freed).await.is_ok());
    drop(stream);
    assert!(TcpStream::connect(at).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_at_its_deadline() {
    let mut hickory = serve_by_hickory();
    let socket = udp(hickory.at).await;
    socket.send(&query("wait.test")).await.unwrap();
    hickory.begun(1).await;
    assert!(!hickory.servers.drain(Duration::from_millis(50)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_addresses_of_the_machine_are_served() {
    let hickory = serve_by(LoopKind::Hickory, Limits::default(), |wanted| {
        wanted.listener.address = "[::]:0".parse().unwrap();
    });
    for ip in ["127.0.0.1", "::1"] {
        let at = std::net::SocketAddr::new(ip.parse().unwrap(), hickory.at.port());
        for reply in [
            ask_udp(at, &query("client.test")).await,
            ask_tcp(at, &query("client.test")).await,
        ] {
            assert_eq!(read(&reply).reply.section(Section::Answer).len(), 1, "{ip}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_headers_are_refused_and_not_ignored() {
    let trust = Arc::new(ProxyPolicy {
        allow: Vec::new(),
        others: Treatment::Ignore,
        sessions: None,
    });
    let mut servers = Servers::new(Handle::current(), Limits::default(), Metrics::new());
    servers.use_loops(LoopKind::Hickory);
    let mut behind = wanted("127.0.0.1:0", &Labels::new(1));
    behind.proxy = Some(trust);
    let error = servers.apply(vec![behind]).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("proxyproto"), "{source}");
}
