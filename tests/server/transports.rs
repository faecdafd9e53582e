//! The same query gets the same reply over every transport.

use lodestone::{server::Scheme, wire::Type};

use crate::{
    client::{ask_tcp, ask_udp, describe, next, query, query_for, send, with_edns, with_id},
    grpc, http3, https,
    identity::{Certificate, connect, listener},
    plugins::{serve, wanted},
    quic,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_transport_gives_the_same_reply() {
    let certificate = Certificate::new();
    let mut serving = serve();
    let all = [
        Scheme::Dns,
        Scheme::Tls,
        Scheme::Quic,
        Scheme::Https,
        Scheme::Https3,
        Scheme::Grpc,
    ];
    let listeners = all.map(|scheme| {
        let mut wanted = wanted("127.0.0.1:0", &serving.plugin);
        wanted.listener = listener(scheme);
        wanted.tls = (scheme != Scheme::Dns).then(|| certificate.identity());
        wanted
    });
    serving.servers.apply(listeners.into()).unwrap();
    let [dns, tls, doq, doh, doh3, rpc] =
        all.map(|scheme| serving.servers.bound(listener(scheme))[0]);

    let mut notify = query("a.test");
    notify[2] |= 4 << 3;
    let mut two_questions = query("a.test");
    two_questions[5] = 2;
    two_questions.extend(b"\x01b\x00\x00\x01\x00\x01");
    let mut understands = query("signed.test");
    understands[3] |= 0x30;
    // The last ones are not queries: HTTP and gRPC report an error instead of a reply.
    let table = [
        ("a name", query("a.test"), true),
        ("a name as spelled", query("A.tEsT"), true),
        (
            "no such name, with a record that says so",
            query("soa.test"),
            true,
        ),
        ("EDNS", with_edns(query("a.test"), 4096, 0, false), true),
        (
            "DNSSEC",
            with_edns(query("signed.test"), 4096, 0, true),
            true,
        ),
        ("AD and CD", understands, true),
        ("no EDNS, signed", query("signed.test"), true),
        (
            "a long reply",
            with_edns(query("big.test"), 65_535, 0, false),
            true,
        ),
        ("a sub-query", query("alias.test"), true),
        ("a name without a plugin", query("nobody.test"), true),
        ("another zone", query("a.example"), true),
        ("a panic", query("panic.test"), true),
        ("a later panic", query("panic-later.test"), true),
        (
            "a later EDNS",
            with_edns(query("a.test"), 1232, 9, false),
            true,
        ),
        ("an odd type", query_for("a.test", Type(65_280)), true),
        ("another opcode", notify, true),
        ("two questions", two_questions, false),
        (
            "nothing behind the header",
            query("a.test")[..12].to_vec(),
            false,
        ),
    ];
    let mut stream = connect(tls, certificate.client(&["dot"])).await;
    let (_endpoint, connection) = quic::connect(doq, &certificate, "doq").await.unwrap();
    let mut second = https::second(doh, &certificate).await;
    let (_endpoint3, mut third) = http3::connect(doh3, &certificate).await;
    let mut calls = https::second(rpc, &certificate).await;
    for (what, message, is_query) in table {
        let message = with_id(message, 0);
        let udp = describe(&ask_udp(dns, &message).await);
        let tcp = describe(&ask_tcp(dns, &message).await);
        // Replies above 1232 bytes are not sent over UDP.
        if what != "a long reply" {
            assert_eq!(udp, tcp, "{what}");
        }
        send(&mut stream, &message).await;
        let tls = describe(&next(&mut stream).await.expect(what));
        assert_eq!(tcp, tls, "{what}");
        if is_query {
            let quic = describe(&quic::ask(&connection, &message).await);
            let https = describe(&https::ask(&mut second, &message).await);
            let http3 = describe(&http3::ask(&mut third, &message).await);
            let grpc = describe(&grpc::ask(&mut calls, &message).await);
            for (transport, reply) in [
                ("quic", quic),
                ("https", https),
                ("https3", http3),
                ("grpc", grpc),
            ] {
                assert_eq!(tcp, reply, "{what} over {transport}");
            }
        }
    }

    // Over encrypted transports, a padded query gets a padded reply (RFC 7830, RFC 8467).
    let plain = with_id(with_edns(query("a.test"), 1232, 0, false), 0);
    let mut padded = plain.clone();
    *padded.last_mut().unwrap() = 12;
    padded.extend(b"\0\x0C\0\x08........");
    let same = ask_udp(dns, &plain).await.len();
    assert!(same < 100);
    for (message, length) in [(&plain, same), (&padded, 468)] {
        send(&mut stream, message).await;
        let lengths = [
            next(&mut stream).await.unwrap().len(),
            quic::ask(&connection, message).await.len(),
            https::ask(&mut second, message).await.len(),
            http3::ask(&mut third, message).await.len(),
        ];
        assert_eq!(lengths, [length; 4]);
        assert_eq!(ask_udp(dns, message).await.len(), same);
        assert_eq!(ask_tcp(dns, message).await.len(), same);
    }
}
