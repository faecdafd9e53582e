//! Upstreams over QUIC (RFC 9250).

use std::time::Duration;

use lodestone::{
    query::Transport,
    reply::Why,
    wire::{Rcode, Type},
};
use tokio::time::timeout;

use crate::{
    authority::Authority,
    served::{Served, query},
    upstream::{Act, Asked, Upstream, answer_of},
};

const NAME: &str = "dns.example";

fn served(authority: &Authority, upstream: &Upstream, name: &str) -> Served {
    let (address, ca) = (upstream.address, authority.path("ca.pem"));
    Served::new(&format!(
        // Without health checks, which the upstream would count.
        "forward . quic://{}%{name}:{} {{\n tls {ca}\n max_fails 0\n}}",
        address.ip(),
        address.port()
    ))
}

/// The connections of A queries; health checks query other types.
fn connections(upstream: &Upstream) -> Vec<usize> {
    let asked = upstream.asked().into_iter();
    let asked = asked.filter(|one| one.question.rtype == Type::A);
    asked.map(|one| one.connection).collect()
}

#[tokio::test]
async fn queries_share_a_connection() {
    let authority = Authority::new();
    let tls = authority.speaking(NAME, b"doq");
    let upstream = Upstream::start_quic(tls, |_| vec![Act::Answer(1)]);
    let served = served(&authority, &upstream, NAME);
    for name in ["a.example", "b.example"] {
        let reply = served.ask(name).await;
        assert_eq!(answer_of(&reply), 1);
        let heard = reply.heard.unwrap();
        assert_eq!(*heard.upstream, *upstream.address.to_string());
        assert_eq!(heard.over, Transport::Quic);
    }
    assert_eq!(connections(&upstream), [1, 1]);
    let asked = upstream.asked();
    assert!(
        asked
            .iter()
            .all(|one| one.header.id == 0 && one.over == Transport::Quic)
    );
}

#[tokio::test]
async fn closed_connection_is_reopened() {
    let authority = Authority::new();
    let tls = authority.speaking(NAME, b"doq");
    let upstream = Upstream::start_quic(tls, |asked| match asked.number {
        1 => vec![Act::Close],
        _ => vec![Act::Answer(1)],
    });
    let served = served(&authority, &upstream, NAME);
    for name in ["a.example", "b.example"] {
        assert_eq!(answer_of(&served.ask(name).await), 1, "{name}");
    }
    assert_eq!(connections(&upstream), [1, 1, 2]);
}

#[tokio::test]
async fn certificate_for_another_name_is_a_failure_with_a_cause() {
    let authority = Authority::new();
    let tls = authority.speaking(NAME, b"doq");
    let upstream = Upstream::start_quic(tls, |_| vec![Act::Answer(1)]);
    let reply = served(&authority, &upstream, "dns.example.net")
        .ask("a.example")
        .await;
    assert_eq!(reply.why, Why::UpstreamTls, "{:?}", reply.cause);
    assert!(reply.cause.unwrap().contains("dns.example.net"));
    assert_eq!(upstream.count(), 0);
}

/// A reply to `asked` with this id, preceded by its length.
fn framed(asked: &Asked, id: u8, options: &[u8]) -> Vec<u8> {
    let mut message = vec![0, id, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(asked.question.name.as_wire());
    message.extend(asked.question.rtype.0.to_be_bytes());
    message.extend([0, 1]);
    if !options.is_empty() {
        message[11] = 1;
        message.extend([
            0,
            0,
            41,
            4,
            208,
            0,
            0,
            0,
            0,
            0,
            u8::try_from(options.len()).unwrap(),
        ]);
        message.extend(options);
    }
    let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(message);
    framed
}

#[tokio::test]
async fn protocol_errors_close_the_connection_with_their_code() {
    type Breach = fn(&Asked) -> Vec<u8>;
    let authority = Authority::new();
    let cases: [(&str, Breach); 7] = [
        ("another id", |asked| framed(asked, 77, &[])),
        ("two replies", |asked| {
            [framed(asked, 0, &[]), framed(asked, 0, &[])].concat()
        }),
        ("a cut reply", |asked| framed(asked, 0, &[])[..9].to_vec()),
        ("nothing", |_| Vec::new()),
        ("no byte", |_| vec![0, 0]),
        ("half a length", |_| vec![0]),
        ("an option of TCP", |asked| framed(asked, 0, &[0, 11, 0, 0])),
    ];
    for (what, breach) in cases {
        let tls = authority.speaking(NAME, b"doq");
        let upstream = Upstream::start_quic(tls, move |asked| match asked.number {
            0 => vec![Act::Raw(breach(asked))],
            _ => vec![Act::Answer(1)],
        });
        let (address, ca) = (upstream.address, authority.path("ca.pem"));
        let served = Served::new(&format!(
            "forward . quic://{}%{NAME}:{} {{\n tls {ca}\n max_connect_attempts 1\n max_fails 0\n}}",
            address.ip(),
            address.port()
        ));
        let reply = served.ask("a.example").await;
        assert_eq!(
            reply.why,
            Why::UpstreamMalformed,
            "{what}: {:?}",
            reply.cause
        );
        let codes = timeout(Duration::from_secs(5), upstream.codes(1)).await;
        assert_eq!(codes.unwrap(), [("closed", 2)], "{what}");
        assert_eq!(answer_of(&served.ask("b.example").await), 1, "{what}");
        assert_eq!(connections(&upstream), [1, 2], "{what}");
    }
}

#[tokio::test]
async fn reset_stream_fails_its_own_query_only() {
    let authority = Authority::new();
    let tls = authority.speaking(NAME, b"doq");
    let upstream = Upstream::start_quic(tls, |asked| match asked.number {
        1 => vec![Act::Reset],
        _ => vec![Act::Answer(1)],
    });
    let served = served(&authority, &upstream, NAME);
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(answer_of(&served.ask(name).await), 1, "{name}");
    }
    // The second query is retried.
    assert_eq!(connections(&upstream), [1, 1, 1, 1]);
}

#[tokio::test]
async fn abandoned_query_is_cancelled_and_the_connection_kept() {
    let authority = Authority::new();
    let tls = authority.speaking(NAME, b"doq");
    let upstream = Upstream::start_quic(tls, |asked| match asked.number {
        1 => vec![Act::NoteStop],
        _ => vec![Act::Answer(1)],
    });
    let served = served(&authority, &upstream, NAME);
    assert_eq!(answer_of(&served.ask("a.example").await), 1);
    // Silent for longer than a stalled connection would be kept.
    let asking = served.begin(query("silent.example", Type::A));
    let given_up = timeout(Duration::from_millis(750), asking).await;
    assert!(given_up.is_err(), "{given_up:?}");
    let codes = timeout(Duration::from_secs(5), upstream.codes(1)).await;
    assert_eq!(codes.unwrap(), [("stopped", 3)]);
    assert_eq!(answer_of(&served.ask("b.example").await), 1);
    assert!(connections(&upstream).iter().all(|one| *one == 1));
}

#[tokio::test]
async fn zone_transfers_are_not_forwarded() {
    let authority = Authority::new();
    let tls = authority.speaking(NAME, b"doq");
    let quic = Upstream::start_quic(tls, |_| vec![Act::Answer(1)]);
    let plain = Upstream::answering(1).await;
    let both = [
        served(&authority, &quic, NAME),
        Served::new(&format!("forward . {}", plain.address)),
    ];
    for served in both {
        for rtype in [Type::AXFR, Type::IXFR] {
            for transport in [Transport::Tcp, Transport::Udp, Transport::Quic] {
                let mut asked = query("example", rtype);
                asked.transport = transport;
                let reply = served.query(asked).await;
                assert_eq!(reply.rcode, Rcode::NOTIMP, "{rtype} {transport:?}");
            }
        }
    }
    assert_eq!((quic.asked().len(), plain.asked().len()), (0, 0));
}
