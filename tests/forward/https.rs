//! Upstreams over HTTPS (RFC 8484).

use std::time::Duration;

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

const NAME: &str = "dns.example";

async fn upstream(
    authority: &Authority,
    script: impl Fn(&crate::upstream::Asked) -> Vec<Act> + Send + Sync + 'static,
) -> Upstream {
    Upstream::start_https(authority.speaking(NAME, b"h2"), script).await
}

fn served(authority: &Authority, upstream: &Upstream, options: &str) -> Served {
    let (address, ca) = (upstream.address, authority.path("ca.pem"));
    Served::new(&format!(
        "forward . https://{address} {{\n tls {ca}\n tls_servername {NAME}\n {options}\n}}"
    ))
}

fn connections(upstream: &Upstream) -> Vec<usize> {
    let asked = upstream.asked();
    asked.iter().map(|one| one.connection).collect()
}

#[tokio::test]
async fn queries_are_posted_over_one_connection_with_the_certificate_name() {
    let authority = Authority::new();
    let upstream = upstream(&authority, |_| vec![Act::Answer(1)]).await;
    let served = served(&authority, &upstream, "");
    for name in ["a.example", "b.example"] {
        let reply = served.ask(name).await;
        assert_eq!(answer_of(&reply), 1);
        let heard = reply.heard.unwrap();
        assert_eq!(*heard.upstream, *upstream.address.to_string());
        assert!(heard.local.unwrap().ip().is_loopback() && heard.over == Transport::Https);
    }
    assert_eq!(connections(&upstream), [1, 1]);
    assert!(upstream.asked().iter().all(|asked| asked.header.id == 0));
    assert_eq!(upstream.asked()[0].over, Transport::Https);
    let port = upstream.address.port();
    let wanted = (
        "POST".to_owned(),
        format!("https://{NAME}:{port}/dns-query"),
        "application/dns-message".to_owned(),
    );
    assert_eq!(upstream.requests(), [wanted.clone(), wanted]);
    let labels = format!(
        "{{proto=\"https\",proxy_name=\"forward\",to=\"{}\"}}",
        upstream.address
    );
    let hits = served.metric(&format!("coredns_proxy_conn_cache_hits_total{labels}"));
    assert!((hits - 1.0).abs() < f64::EPSILON, "{hits}");
}

#[tokio::test]
async fn get_has_the_query_in_the_url() {
    let authority = Authority::new();
    let upstream = upstream(&authority, |_| vec![Act::Answer(1)]).await;
    let served = served(&authority, &upstream, "doh_method GET");
    assert_eq!(answer_of(&served.ask("a.example").await), 1);
    let (method, address, kind) = upstream.requests().remove(0);
    assert_eq!((&*method, &*kind), ("GET", ""));
    let port = upstream.address.port();
    let begin = format!("https://{NAME}:{port}/dns-query?dns=AAABIA");
    assert!(address.starts_with(&begin), "{address}");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn queries_share_a_connection_without_head_of_line_blocking() {
    let authority = Authority::new();
    let upstream = upstream(&authority, |asked| match asked.number {
        0 => vec![Act::AfterGo, Act::Answer(1)],
        _ => vec![Act::Answer(2)],
    })
    .await;
    let served = served(&authority, &upstream, "");
    let slow = tokio::spawn(served.begin(query("slow.example", Type::A)));
    upstream.came(1).await;
    assert_eq!(answer_of(&served.ask("a.example").await), 2);
    upstream.go();
    assert_eq!(answer_of(&slow.await.unwrap()), 1);
    assert_eq!(connections(&upstream), [1, 1]);
}

#[tokio::test]
async fn closed_connection_is_reopened() {
    let authority = Authority::new();
    let upstream = upstream(&authority, |asked| match asked.number {
        1 => vec![Act::Close],
        _ => vec![Act::Answer(1)],
    })
    .await;
    let served = served(&authority, &upstream, "max_fails 1");
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(answer_of(&served.ask(name).await), 1, "{name}");
    }
    assert_eq!(connections(&upstream), [1, 1, 2, 2]);
}

#[tokio::test]
async fn idle_connection_expires() {
    let authority = Authority::new();
    let upstream = upstream(&authority, |_| vec![Act::Answer(1)]).await;
    let served = served(&authority, &upstream, "expire 100ms");
    assert_eq!(answer_of(&served.ask("a.example").await), 1);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(answer_of(&served.ask("b.example").await), 1);
    assert_eq!(connections(&upstream), [1, 2]);
}

#[tokio::test]
async fn invalid_responses_are_failures_with_a_cause() {
    let authority = Authority::new();
    for (act, words, wrongs) in [
        (Act::Status(503), "HTTP status 503", 0.0),
        // Both attempts.
        (Act::WrongQuestion, "does not fit the question", 2.0),
        (Act::Octets(vec![0, 0]), "does not fit the question", 2.0),
    ] {
        let upstream = upstream(&authority, move |_| vec![act.clone()]).await;
        // Without health checks, which would get the same response.
        let served = served(&authority, &upstream, "max_fails 0");
        let reply = served.ask("a.example").await;
        let outcome = (reply.rcode, reply.why);
        assert_eq!(outcome, (Rcode::SERVFAIL, Why::UpstreamMalformed));
        let cause = reply.cause.unwrap();
        assert!(cause.contains(words), "{cause}");
        let to = format!("{{to=\"{}\"}}", upstream.address);
        let wrong = served.metric(&format!("lodestone_forward_wrong_replies_total{to}"));
        assert!((wrong - wrongs).abs() < f64::EPSILON, "{words}: {wrong}");
    }
}

#[tokio::test]
async fn server_without_http2_is_a_failure_with_a_cause() {
    let authority = Authority::new();
    let acceptor = authority.acceptor(NAME, false);
    let upstream = Upstream::start_tls(acceptor, |_| vec![Act::Answer(1)]).await;
    let served = served(&authority, &upstream, "");
    let reply = served.ask("a.example").await;
    assert_eq!(reply.why, Why::UpstreamTls);
    assert!(reply.cause.unwrap().contains("HTTP/2"));
}

#[tokio::test]
async fn health_checks_use_https() {
    let authority = Authority::new();
    let upstream = upstream(&authority, |asked| match asked.question.rtype {
        Type::NS => vec![Act::Code(Rcode::REFUSED)],
        _ => vec![Act::Status(500)],
    })
    .await;
    let served = served(&authority, &upstream, "max_fails 1\n health_check 50ms");
    assert_eq!(served.ask("a.example").await.rcode, Rcode::SERVFAIL);
    let checked = |asked: &crate::upstream::Asked| asked.question.rtype == Type::NS;
    let patience = tokio::time::timeout(Duration::from_secs(5), async {
        for count in 1.. {
            upstream.came(count).await;
            if upstream.asked().iter().any(checked) {
                return;
            }
        }
    });
    patience.await.unwrap();
    upstream.now(|_| vec![Act::Answer(1)]);
    assert_eq!(answer_of(&served.ask("b.example").await), 1);
}
