//! TCP and TLS: reuse, sharing and closing of connections.

use std::{path::Path, time::Duration};

use futures_util::future::join_all;
use lodestone::{
    query::Transport,
    reply::Why,
    wire::{Rcode, Type},
};

use crate::{
    authority::Authority,
    served::{Served, query},
    upstream::{Act, Upstream, answer_of},
};

fn connections(upstream: &Upstream) -> Vec<usize> {
    let asked = upstream.asked();
    asked.iter().map(|one| one.connection).collect()
}

fn over_tcp(upstream: &Upstream, options: &str) -> Served {
    let address = upstream.address;
    Served::new(&format!(
        "forward . {address} {{\n force_tcp\n {options}\n}}"
    ))
}

#[tokio::test]
async fn connection_is_reused_until_it_expires() {
    let upstream = Upstream::answering(1).await;
    let served = over_tcp(&upstream, "expire 150ms");
    for name in ["a.example", "b.example", "c.example"] {
        answer_of(&served.ask(name).await);
    }
    assert_eq!(connections(&upstream), [1, 1, 1]);
    tokio::time::sleep(Duration::from_millis(400)).await;
    answer_of(&served.ask("d.example").await);
    assert_eq!(connections(&upstream), [1, 1, 1, 2]);
    let labels = format!(
        "{{proto=\"tcp\",proxy_name=\"forward\",to=\"{}\"}}",
        upstream.address
    );
    let hits = served.metric(&format!("coredns_proxy_conn_cache_hits_total{labels}"));
    let misses = served.metric(&format!("coredns_proxy_conn_cache_misses_total{labels}"));
    assert_eq!((hits, misses), (2.0, 2.0));
}

#[tokio::test]
async fn expire_zero_opens_a_connection_per_query() {
    let pause = Duration::from_millis(50);
    let upstream = Upstream::start(move |_| vec![Act::After(pause), Act::Answer(1)]).await;
    let served = over_tcp(&upstream, "expire 0s");
    for name in ["a.example", "b.example"] {
        answer_of(&served.ask(name).await);
        tokio::time::sleep(pause).await;
    }
    assert_eq!(connections(&upstream), [1, 2]);
}

#[tokio::test]
async fn connection_older_than_max_age_is_not_reused() {
    let upstream = Upstream::answering(1).await;
    let served = over_tcp(&upstream, "expire 100ms\n max_age 100ms");
    answer_of(&served.ask("a.example").await);
    tokio::time::sleep(Duration::from_millis(60)).await;
    answer_of(&served.ask("b.example").await);
    tokio::time::sleep(Duration::from_millis(60)).await;
    answer_of(&served.ask("c.example").await);
    assert_eq!(connections(&upstream), [1, 1, 2]);
}

#[tokio::test]
async fn queries_share_connections_without_waiting_for_slow_ones() {
    let upstream = Upstream::start(|asked| {
        if asked.question.name.to_string().starts_with("slow") {
            vec![Act::After(Duration::from_millis(400)), Act::Answer(1)]
        } else {
            vec![Act::After(Duration::from_millis(20)), Act::Answer(2)]
        }
    })
    .await;
    let served = over_tcp(&upstream, "");
    let slow = tokio::spawn(served.begin(query("slow.example", Type::A)));
    upstream.came(1).await;
    let begun = std::time::Instant::now();
    let waits = (0..64).map(|number| served.begin(query(&format!("n{number}.example"), Type::A)));
    for reply in join_all(waits).await {
        assert_eq!(answer_of(&reply), 2);
    }
    assert!(
        begun.elapsed() < Duration::from_millis(350),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(answer_of(&slow.await.unwrap()), 1);
    let most = connections(&upstream).into_iter().max().unwrap();
    assert!(
        (2..=16).contains(&most),
        "{most} connections for 65 questions"
    );
}

#[tokio::test]
async fn idle_connections_beyond_the_limit_are_closed() {
    let upstream =
        Upstream::start(|_| vec![Act::After(Duration::from_millis(50)), Act::Answer(1)]).await;
    let served = over_tcp(&upstream, "max_idle_conns 1");
    let waits = (0..16).map(|number| served.begin(query(&format!("n{number}.example"), Type::A)));
    join_all(waits).await;
    let most = connections(&upstream).into_iter().max().unwrap();
    assert!(most >= 3, "{most}");
    let waits = (0..2).map(|number| served.begin(query(&format!("m{number}.example"), Type::A)));
    join_all(waits).await;
    let used = connections(&upstream).split_off(16);
    assert!(
        used.iter().any(|one| *one > most),
        "one was kept, the other is new: {used:?}"
    );
}

#[tokio::test]
async fn reused_connection_closed_by_the_peer_is_retried() {
    let upstream = Upstream::start(|asked| match asked.number {
        0 => vec![Act::Answer(1), Act::Close],
        1 => vec![Act::Answer(2)],
        _ => vec![Act::Close],
    })
    .await;
    let served = over_tcp(&upstream, "");
    assert_eq!(answer_of(&served.ask("a.example").await), 1);
    assert_eq!(answer_of(&served.ask("b.example").await), 2);
    let reply = served.ask("c.example").await;
    assert_eq!(
        (reply.rcode, reply.why),
        (Rcode::SERVFAIL, Why::UpstreamUnreachable)
    );
    assert!(reply.cause.unwrap().contains("connection closed"));
}

#[tokio::test]
async fn connection_with_a_timed_out_query_is_closed() {
    let upstream = Upstream::start(|asked| match asked.connection {
        1 => vec![],
        _ => vec![Act::Answer(2)],
    })
    .await;
    let served = over_tcp(
        &upstream,
        "read_timeout 60ms\n max_connect_attempts 1\n max_fails 0",
    );
    assert_eq!(served.ask("a.example").await.why, Why::UpstreamTimeout);
    assert_eq!(answer_of(&served.ask("b.example").await), 2);
}

#[tokio::test]
async fn reply_of_65535_bytes_is_accepted() {
    let upstream = Upstream::start(|asked| {
        let mut bytes = vec![0, 0, 0x81, 0x80, 0, 1, 0, 0xFF, 0, 0, 0, 0];
        bytes.extend(asked.question.name.as_wire());
        bytes.extend([0, 1, 0, 1]);
        for _ in 0..255 {
            bytes.extend([0xC0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, 240, 239]);
            bytes.extend([b'x'; 239]);
        }
        vec![Act::Octets(bytes)]
    })
    .await;
    let served = over_tcp(&upstream, "");
    let reply = served.ask("a.example").await;
    assert_eq!(reply.section(lodestone::reply::Section::Answer).len(), 255);
}

fn over_tls(upstream: &Upstream, name: &str, options: &str) -> Served {
    let address = upstream.address;
    let to = format!("tls://{}{name}:{}", address.ip(), address.port());
    Served::new(&format!("forward . {to} {{\n {options}\n}}"))
}

#[tokio::test]
async fn certificate_must_be_for_tls_servername_name_or_address() {
    let authority = Authority::new();
    let ca = authority.path("ca.pem");
    let named = Upstream::start_tls(authority.acceptor("dns.example", false), |_| {
        vec![Act::Answer(1)]
    })
    .await;
    let options = format!("tls {ca}\n tls_servername dns.example");
    let served = over_tls(&named, "", &options);
    assert_eq!(answer_of(&served.ask("a.example").await), 1);
    assert_eq!(answer_of(&served.ask("b.example").await), 1);
    assert_eq!(connections(&named), [1, 1], "kept");
    assert_eq!(named.asked()[0].over, Transport::Tls);

    let served = over_tls(&named, "%dns.example", &format!("tls {ca}"));
    assert_eq!(answer_of(&served.ask("a.example").await), 1);

    let numbered = Upstream::start_tls(authority.acceptor("127.0.0.1", false), |_| {
        vec![Act::Answer(2)]
    })
    .await;
    let served = over_tls(&numbered, "", &format!("tls {ca}"));
    assert_eq!(answer_of(&served.ask("a.example").await), 2);
}

#[tokio::test]
async fn wrong_name_or_ca_is_a_failure_with_a_cause() {
    let (authority, other) = (Authority::new(), Authority::new());
    let upstream = Upstream::start_tls(authority.acceptor("dns.example", false), |_| {
        vec![Act::Answer(1)]
    })
    .await;
    for (ca, name) in [(&authority, "dns.example.net"), (&other, "dns.example")] {
        let options = format!("tls {}\n tls_servername {name}", ca.path("ca.pem"));
        let served = over_tls(&upstream, "", &options);
        let reply = served.ask("a.example").await;
        assert_eq!(
            (reply.rcode, reply.why),
            (Rcode::SERVFAIL, Why::UpstreamTls)
        );
        let cause = reply.cause.unwrap();
        assert!(
            cause.contains(name) && cause.contains("certificate"),
            "{cause}"
        );
    }
    assert_eq!(upstream.count(), 0, "nothing is asked of a stranger");
    let plain = Upstream::answering(1).await;
    let options = format!("tls {}", authority.path("ca.pem"));
    let served = over_tls(
        &plain,
        "",
        &format!(
            "{options}
 read_timeout 100ms"
        ),
    );
    let wait = tokio::time::timeout(Duration::from_secs(6), served.ask("a.example"));
    assert_eq!(wait.await.unwrap().rcode, Rcode::SERVFAIL, "no TLS there");
}

#[tokio::test]
async fn client_certificate_is_sent_on_request() {
    let authority = Authority::new();
    let (certificate, key) = authority.certify("client.example");
    let write =
        |name: &str, text: String| std::fs::write(Path::new(&authority.path(name)), text).unwrap();
    write("cert.pem", certificate.pem());
    write("key.pem", key.serialize_pem());
    let upstream = Upstream::start_tls(authority.acceptor("127.0.0.1", true), |_| {
        vec![Act::Answer(1)]
    })
    .await;
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| authority.path(name));
    let served = over_tls(&upstream, "", &format!("tls {cert} {key} {ca}"));
    assert_eq!(answer_of(&served.ask("a.example").await), 1);
    let served = over_tls(&upstream, "", &format!("tls {ca}"));
    assert_eq!(served.ask("a.example").await.rcode, Rcode::SERVFAIL);
}

#[tokio::test]
async fn cancelled_query_releases_its_slot() {
    let upstream = Upstream::silent().await;
    let served = Served::new(&format!(
        "forward . {} {{\n max_concurrent 1\n}}",
        upstream.address
    ));
    for _ in 0..3 {
        let wait = tokio::time::timeout(Duration::from_millis(30), served.ask("a.example"));
        assert!(wait.await.is_err(), "taken in, and not refused");
    }
}
