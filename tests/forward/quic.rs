//! Upstreams over QUIC (RFC 9250).

use lodestone::{query::Transport, reply::Why};

use crate::{
    authority::Authority,
    served::Served,
    upstream::{Act, Upstream, answer_of},
};

const NAME: &str = "dns.example";

fn served(authority: &Authority, upstream: &Upstream, name: &str) -> Served {
    let (address, ca) = (upstream.address, authority.path("ca.pem"));
    Served::new(&format!(
        "forward . quic://{}%{name}:{} {{\n tls {ca}\n}}",
        address.ip(),
        address.port()
    ))
}

fn connections(upstream: &Upstream) -> Vec<usize> {
    let asked = upstream.asked();
    asked.iter().map(|one| one.connection).collect()
}

#[tokio::test]
async fn questions_share_a_connection() {
    let authority = Authority::new();
    let tls = authority.speaking(NAME, b"doq");
    let upstream = Upstream::start_quic(tls, |_| vec![Act::Answer(1)]);
    let served = served(&authority, &upstream, NAME);
    for name in ["a.example", "b.example"] {
        let reply = served.ask(name).await;
        assert_eq!(answer_of(&reply), 1);
        let heard = reply.heard.unwrap();
        assert_eq!(*heard.upstream, *upstream.address.to_string());
        assert!(heard.by_datagram);
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
async fn a_connection_that_was_closed_meanwhile_is_opened_again() {
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
async fn another_name_is_a_failure_that_says_so() {
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
