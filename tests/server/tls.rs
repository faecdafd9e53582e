//! The same question gets the same reply over every transport.

use std::{net::SocketAddr, sync::Arc};

use lodestone::{
    server::{
        Listener, Scheme,
        tls::{ClientAuth, server_config},
    },
    wire::Type,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    client::{ask_tcp, ask_udp, describe, next, query, query_for, send, with_edns},
    plugins::{Serving, serve, wanted},
};

/// A server's certificate, and a client that trusts it.
pub fn identity() -> (Arc<ServerConfig>, TlsConnector) {
    let identity = rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    std::fs::write(&certificate, identity.cert.pem()).unwrap();
    std::fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
    let server = server_config(&certificate, &key, None, ClientAuth::default()).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(identity.cert.der().clone()).unwrap();
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    (server, TlsConnector::from(Arc::new(config)))
}

/// Adds a TLS listener to what is served, and gives its address and what a client needs to know.
fn add_tls(serving: &mut Serving) -> (SocketAddr, TlsConnector) {
    let (server, connector) = identity();
    let mut plain = wanted("127.0.0.1:0", &serving.plugin);
    plain.listener.address.set_port(0);
    let mut tls = wanted("127.0.0.1:0", &serving.plugin);
    tls.listener = Listener {
        scheme: Scheme::Tls,
        address: "127.0.0.1:0".parse().unwrap(),
    };
    tls.tls = Some(server);
    let listener = tls.listener;
    serving.servers.apply(vec![plain, tls]).unwrap();
    (serving.servers.bound(listener)[0], connector)
}

pub async fn connect(at: SocketAddr, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(at).await.unwrap();
    let name = ServerName::try_from("dns.test").unwrap();
    connector.connect(name, stream).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_tcp_and_tls_say_the_same() {
    let mut serving = serve();
    let (at, connector) = add_tls(&mut serving);
    let mut notify = query("a.test");
    notify[2] |= 4 << 3;
    let mut two_questions = query("a.test");
    two_questions[5] = 2;
    two_questions.extend(b"\x01b\x00\x00\x01\x00\x01");
    let mut understands = query("signed.test");
    understands[3] |= 0x30;
    let table = [
        ("a name", query("a.test")),
        ("a name as spelled", query("A.tEsT")),
        (
            "no such name, with a record that says so",
            query("soa.test"),
        ),
        ("EDNS", with_edns(query("a.test"), 4096, 0, false)),
        ("DNSSEC", with_edns(query("signed.test"), 4096, 0, true)),
        ("AD and CD", understands),
        ("no EDNS, signed", query("signed.test")),
        (
            "a long reply",
            with_edns(query("big.test"), 65_535, 0, false),
        ),
        ("a sub-query", query("alias.test")),
        ("nobody's name", query("nobody.test")),
        ("another zone", query("a.example")),
        ("a panic", query("panic.test")),
        ("a later panic", query("panic-later.test")),
        ("a later EDNS", with_edns(query("a.test"), 1232, 9, false)),
        ("another opcode", notify),
        ("two questions", two_questions),
        ("an odd type", query_for("a.test", Type(65_280))),
        ("nothing behind the header", query("a.test")[..12].to_vec()),
    ];
    let mut stream = connect(at, &connector).await;
    for (what, message) in table {
        let udp = describe(&ask_udp(serving.at, &message).await);
        let tcp = describe(&ask_tcp(serving.at, &message).await);
        assert_eq!(udp, tcp, "{what}");
        send(&mut stream, &message).await;
        let tls = describe(&next(&mut stream).await.expect(what));
        assert_eq!(tcp, tls, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_of_routes_reaches_tls_connections_that_are_open() {
    let mut serving = serve();
    let (at, connector) = add_tls(&mut serving);
    let mut stream = connect(at, &connector).await;
    send(&mut stream, &query("drop.test")).await;
    send(&mut stream, &query("a.test")).await;
    assert!(
        next(&mut stream).await.is_some(),
        "silence is possible here too"
    );
    assert!(serving.servers.drain(crate::client::PATIENCE).await);
    // The stream ends in one way or the other; no reply comes any more.
    let mut octet = [0];
    let read = tokio::io::AsyncReadExt::read(&mut stream, &mut octet).await;
    assert!(matches!(read, Ok(0) | Err(_)));
}
