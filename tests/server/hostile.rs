//! What has gone wrong in other servers, over every transport: see `docs/threat-model.md`.

use std::{
    fmt::Write,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use lodestone::{
    config::{Config, Source},
    corefile::Disk,
    interfaces::Interfaces,
    metrics::Metrics,
    process::Process,
    server::{Scheme, limits::Limits},
    tsig,
    wire::{Header, Name, Rcode, Type},
};

use crate::{
    client::{ask_tcp, ask_udp, first_answer, next, query, query_for, rcode, send, with_id},
    corefile, grpc, http3, https,
    identity::{Certificate, connect, listener},
    plugins::serve_with,
    quic,
    tsig::{KEY, outcome, right, signed, signer},
};

/// The replies to a message over UDP, TCP, TLS, QUIC, gRPC, HTTPS and HTTP/3.
async fn ask_all(
    process: &Process,
    certificate: &Certificate,
    message: &[u8],
) -> Vec<(&'static str, Vec<u8>)> {
    let message = with_id(message.to_vec(), 0);
    let [dns, tls, doq, rpc, doh, doh3] = corefile::addresses(process);
    let mut stream = connect(tls, certificate.client(&["dot"])).await;
    send(&mut stream, &message).await;
    let (_endpoint, connection) = quic::connect(doq, certificate, "doq").await.unwrap();
    let mut calls = https::second(rpc, certificate).await;
    let mut requests = https::second(doh, certificate).await;
    let (_endpoint, mut third) = http3::connect(doh3, certificate).await;
    vec![
        ("UDP", ask_udp(dns, &message).await),
        ("TCP", ask_tcp(dns, &message).await),
        ("TLS", next(&mut stream).await.unwrap()),
        ("QUIC", quic::ask(&connection, &message).await),
        ("gRPC", grpc::ask(&mut calls, &message).await),
        ("HTTPS", https::ask(&mut requests, &message).await),
        ("HTTP/3", http3::ask(&mut third, &message).await),
    ]
}

/// An upstream that answers `A 192.0.2.1` and counts; `additional` records, all of `www.bank.example`, are
/// added to each section.
fn upstream(additional: bool) -> (u16, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut reply = buffer[..length].to_vec();
            // Health checks are for the root, and have a name of one byte.
            if reply[12] == 0 {
                reply[2] |= 0x80;
                let _ = socket.send_to(&reply, from);
                continue;
            }
            counter.fetch_add(1, Ordering::SeqCst);
            reply[2] |= 0x80;
            reply[3] = 0x80;
            // The OPT record of the query, if any, is cut.
            let end = 12 + reply[12..].iter().position(|it| *it == 0).unwrap() + 5;
            reply.truncate(end);
            reply[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            reply.extend(b"\xC0\x0C\0\x01\0\x01\0\0\x0E\x10\0\x04\xC0\0\x02\x01");
            if additional {
                for count in [7, 9, 11] {
                    reply[count] += 1;
                    reply.extend(Name::parse("www.bank.example").unwrap().as_wire());
                    reply.extend(b"\0\x01\0\x01\0\0\x0E\x10\0\x04\xC0\0\x02\x66");
                }
            }
            let _ = socket.send_to(&reply, from);
        }
    });
    (port, count)
}

async fn start(text: &str) -> Process {
    let source = Source {
        name: "Corefile",
        text,
        loader: &Disk,
        interfaces: &Interfaces::default(),
        default_port: 53,
    };
    let config = Config::read(&source).unwrap_or_else(|errors| panic!("{errors}"));
    Process::start(config, 53, Metrics::new()).await.unwrap()
}

/// CVE-2026-86003.
#[tokio::test(flavor = "multi_thread")]
async fn updates_are_answered_with_notimp_and_never_forwarded() {
    let certificate = Certificate::new();
    let (port, forwarded) = upstream(false);
    let lines = format!("forward . 127.0.0.1:{port}");
    let config = corefile::config(&certificate, &lines);
    let process = Process::start(config, 53, Metrics::new()).await.unwrap();
    // Opcodes of IQUERY, STATUS, UPDATE and DSO, of NOTIFY, and one that is unassigned.
    for opcode in [1, 2, 4, 5, 6, 15] {
        let mut message = query_for("elsewhere.test", Type::SOA);
        message[2] = opcode << 3;
        for (transport, reply) in ask_all(&process, &certificate, &message).await {
            assert_eq!(rcode(&reply), Rcode::NOTIMP, "{opcode} over {transport}");
            assert_eq!(Header::read(&reply).unwrap().opcode().0, opcode);
        }
    }
    assert_eq!(forwarded.load(Ordering::SeqCst), 0);
    let reply = ask_udp(corefile::addresses(&process)[0], &query("elsewhere.test")).await;
    assert_eq!(first_answer(&reply), [192, 0, 2, 1]);
}

/// CVE-2026-33190, CVE-2026-35579.
#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_verified_over_every_transport() {
    let certificate = Certificate::new();
    let secret = BASE64_STANDARD.encode(KEY);
    let lines = format!("tsig {{\nsecret transfer.example. {secret}\nrequire all\n}}");
    let config = corefile::config(&certificate, &lines);
    let process = Process::start(config, 53, Metrics::new()).await.unwrap();
    for (transport, reply) in ask_all(&process, &certificate, &query("a.test")).await {
        assert_eq!(rcode(&reply), Rcode::REFUSED, "{transport}");
    }
    let at = tsig::now();
    let (message, _) = signed("a.test.", RecordType::A, &right(), at);
    for (transport, reply) in ask_all(&process, &certificate, &message).await {
        let message = Message::from_vec(&reply).unwrap();
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        let signature = message.signature().expect(transport);
        assert!(!signature.data.mac.is_empty(), "{transport}");
    }
    let forger = signer(
        "transfer.example.",
        b"another secret of some length",
        right().algorithm().clone(),
    );
    let (message, _) = signed("a.test.", RecordType::A, &forger, at);
    for (transport, reply) in ask_all(&process, &certificate, &message).await {
        assert_eq!(outcome(&reply).0, ResponseCode::NotAuth, "{transport}");
    }
}

/// CVE-2026-26017: the check is of the name that is answered, and comes before cached answers.
#[tokio::test(flavor = "multi_thread")]
async fn acl_decides_on_the_rewritten_name_and_before_the_cache() {
    let (port, forwarded) = upstream(false);
    let process = start(&format!(
        ".:0 {{
            bind 127.0.0.1
            acl secret.test {{
                block net 127.0.0.2
            }}
            cache
            rewrite name public.test www.secret.test
            forward . 127.0.0.1:{port}
        }}"
    ))
    .await;
    let at = process.addresses()[0];
    let from = |client: &'static str| async move {
        let socket = tokio::net::UdpSocket::bind((client, 0)).await.unwrap();
        socket.connect(at).await.unwrap();
        socket
    };
    let (trusted, other) = (from("127.0.0.1").await, from("127.0.0.2").await);
    for _ in 0..2 {
        for name in ["public.test", "www.secret.test"] {
            for (socket, expected) in [(&trusted, Rcode::NOERROR), (&other, Rcode::REFUSED)] {
                socket.send(&query(name)).await.unwrap();
                let reply = crate::client::receive(socket).await;
                assert_eq!(rcode(&reply), expected, "{name}");
            }
        }
    }
    assert_eq!(forwarded.load(Ordering::SeqCst), 1, "the rest is cached");
}

/// CVE-2025-40778: records beside the answer are never the answer to another query.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_other_names_answer_no_other_query() {
    let (port, forwarded) = upstream(true);
    let text = format!(".:0 {{\nbind 127.0.0.1\ncache\nforward . 127.0.0.1:{port}\n}}");
    let process = start(&text).await;
    let at = process.addresses()[0];
    for _ in 0..2 {
        let reply = ask_udp(at, &query("www.evil.example")).await;
        assert_eq!(first_answer(&reply), [192, 0, 2, 1]);
    }
    assert_eq!(forwarded.load(Ordering::SeqCst), 1);
    let reply = ask_udp(at, &query("www.bank.example")).await;
    assert_eq!(first_answer(&reply), [192, 0, 2, 1], "of its own query");
    assert_eq!(forwarded.load(Ordering::SeqCst), 2);
}

async fn ask_http2(scheme: Scheme, sender: &mut https::Request2, message: &[u8]) -> Vec<u8> {
    if scheme == Scheme::Grpc {
        grpc::ask(sender, message).await
    } else {
        https::ask(sender, message).await
    }
}

/// CVE-2025-68151.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_connection_are_limited_over_grpc_and_https() {
    let certificate = Certificate::new();
    for scheme in [Scheme::Grpc, Scheme::Https] {
        let identity = certificate.identity();
        let serving = serve_with(Limits::default(), |wanted| {
            wanted.listener = listener(scheme);
            wanted.tls = Some(identity);
            wanted.streams.in_flight = 2;
            wanted.streams.connections = Some(1);
        });
        let mut sender = https::second(serving.at, &certificate).await;
        // The client knows the limit from the first response on; before, the server resets streams above it.
        ask_http2(scheme, &mut sender, &query("a.test")).await;
        let asking: Vec<_> = (0..5)
            .map(|_| {
                let mut sender = sender.clone();
                let message = query("wait.test");
                tokio::spawn(async move { ask_http2(scheme, &mut sender, &message).await })
            })
            .collect();
        serving.begun(2).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert_eq!(serving.plugin.begun.available_permits(), 0, "{scheme:?}");
        serving.plugin.release.add_permits(5);
        for one in asking {
            assert_eq!(rcode(&one.await.unwrap()), Rcode::NOERROR);
        }
        // Another connection takes the place of the idle one.
        let mut second = https::second(serving.at, &certificate).await;
        let reply = ask_http2(scheme, &mut second, &query("a.test")).await;
        assert_eq!(rcode(&reply), Rcode::NOERROR);
        let gone = async {
            while sender.ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(crate::client::PATIENCE, gone).await;
        gone.expect("it is closed");
    }
}

/// CVE-2026-33489: the rule of the queried zone, whose name other zones' names end with.
#[tokio::test(flavor = "multi_thread")]
async fn transfers_follow_the_rule_of_their_own_zone() {
    let directory = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for zone in ["test", "a.test", "xa.test"] {
        let path = directory.path().join(zone);
        std::fs::write(
            &path,
            "@ 60 IN SOA ns admin 1 60 60 60 60\n@ 60 IN NS ns.other.\n",
        )
        .unwrap();
        writeln!(lines, "file {} {zone}", path.display()).unwrap();
    }
    let process = start(&format!(
        ".:0 {{
            bind 127.0.0.1
            transfer test {{
                to *
            }}
            transfer a.test {{
                to 192.0.2.1
            }}
            {lines}
        }}"
    ))
    .await;
    let at = process.addresses()[0];
    for (zone, expected) in [
        ("test", Rcode::NOERROR),
        ("xa.test", Rcode::NOERROR),
        ("A.test", Rcode::REFUSED),
        ("b.test", Rcode::REFUSED),
        ("example", Rcode::REFUSED),
    ] {
        let reply = ask_tcp(at, &query_for(zone, Type::AXFR)).await;
        assert_eq!(rcode(&reply), expected, "{zone}");
    }
}
