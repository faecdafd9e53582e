//! Upstreams that are down, silent or slow: replies and their delay.

use std::time::{Duration, Instant};

use lodestone::{
    reply::{Reply, Why},
    wire::{Rcode, Type},
};

use crate::{
    served::{Served, query},
    upstream::{Act, Upstream, answer_of, closed_port},
};

fn failed(reply: &Reply, why: Why) {
    let expected = (Rcode::SERVFAIL, why);
    assert_eq!((reply.rcode, reply.why), expected, "{:?}", reply.cause);
    assert!(reply.cause.is_some(), "the log can say why");
}

#[tokio::test]
async fn closed_port_is_servfail_without_delay() {
    let closed = closed_port().await;
    for options in ["", "{\n max_fails 0\n}", "{\n force_tcp\n}"] {
        let served = Served::new(&format!("forward . {closed} {options}"));
        for _ in 0..4 {
            let begun = Instant::now();
            let reply = served.ask("a.example").await;
            assert!(begun.elapsed() < Duration::from_millis(500), "{options}");
            failed(&reply, Why::UpstreamUnreachable);
            let cause = reply.cause.unwrap();
            assert!(
                cause.contains(&format!("{closed}: connection refused")),
                "{cause}"
            );
        }
    }
}

#[tokio::test]
async fn silent_single_upstream_is_servfail_before_clients_give_up() {
    let upstream = Upstream::silent().await;
    let to = upstream.address;
    let served = Served::new(&format!("forward . {to} {{\n health_check 20ms\n }}"));
    let begun = Instant::now();
    let reply = served.ask("a.example").await;
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(4200), "{took:?}");
    failed(&reply, Why::UpstreamTimeout);
    assert!(reply.cause.unwrap().ends_with("i/o timeout"));
    assert_eq!(upstream.count(), 3, "a lost datagram is sent twice more");
    served.checks_failed(upstream.address, 8.0).await;
    let begun = Instant::now();
    failed(&served.ask("b.example").await, Why::UpstreamTimeout);
    let took = begun.elapsed();
    assert!(
        took < Duration::from_millis(2400),
        "known to be down: {took:?}"
    );
}

#[tokio::test]
async fn lost_datagram_is_retried_within_a_second() {
    let upstream = Upstream::start(|asked| match asked.number {
        0 => vec![],
        _ => vec![Act::Answer(3)],
    })
    .await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    let begun = Instant::now();
    assert_eq!(answer_of(&served.ask("a.example").await), 3);
    assert!(begun.elapsed() < Duration::from_millis(1200));
}

#[tokio::test]
async fn late_answer_to_the_first_attempt_is_used() {
    let upstream = Upstream::start(|asked| match asked.number {
        0 => vec![Act::After(Duration::from_secs(1)), Act::Answer(4)],
        _ => vec![],
    })
    .await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    assert_eq!(answer_of(&served.ask("a.example").await), 4);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn failfast_is_servfail_at_once_if_all_are_down() {
    let upstream = Upstream::silent().await;
    let options = "read_timeout 500ms\n failfast_all_unhealthy_upstreams\n health_check 20ms";
    let served = Served::new(&format!(
        "forward . {} {{\n {options}\n}}",
        upstream.address
    ));
    failed(&served.ask("a.example").await, Why::UpstreamTimeout);
    served.checks_failed(upstream.address, 2.0).await;
    let begun = Instant::now();
    let reply = served.ask("a.example").await;
    assert!(begun.elapsed() < Duration::from_millis(400));
    failed(&reply, Why::UpstreamsDown);
    assert_eq!(reply.cause.as_deref(), Some("no healthy proxies"));
    let broken = served.metric("coredns_forward_healthcheck_broken_total");
    assert!((broken - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn second_upstream_answers_at_once_if_the_first_is_unreachable() {
    let (closed, second) = (closed_port().await, Upstream::answering(2).await);
    let lines = format!(
        "forward . {closed} {} {{\n policy sequential\n}}",
        second.address
    );
    for options in ["", "force_tcp"] {
        let served = Served::new(&lines.replace('{', &format!("{{\n {options}")));
        let begun = Instant::now();
        assert_eq!(
            answer_of(&served.ask("a.example").await),
            2,
            "on the first query"
        );
        assert!(begun.elapsed() < Duration::from_millis(500));
    }
}

#[tokio::test]
async fn second_upstream_answers_within_a_second_if_the_first_is_silent() {
    let (first, second) = (Upstream::silent().await, Upstream::answering(2).await);
    let lines = format!("forward . {} {}", first.address, second.address);
    let served = Served::new(&format!(
        "{lines} {{\n policy sequential\n health_check 1h\n}}"
    ));
    let begun = Instant::now();
    assert_eq!(answer_of(&served.ask("a.example").await), 2);
    let took = begun.elapsed();
    assert!((900..1600).contains(&took.as_millis()), "{took:?}");
    // It has failed one check and is not down yet.
    served.checks_failed(first.address, 1.0).await;
    let begun = Instant::now();
    assert_eq!(answer_of(&served.ask("a.example").await), 2);
    assert!(
        begun.elapsed() < Duration::from_millis(300),
        "the second is preferred"
    );
    assert_eq!(first.count(), 1);
}

#[tokio::test]
async fn icmp_error_for_an_earlier_query_does_not_fail_the_next() {
    let upstream = Upstream::answering(1).await;
    let address = upstream.address;
    let served = Served::new(&format!("forward . {address} {{\n max_fails 0\n}}"));
    assert_eq!(answer_of(&served.ask("a.example").await), 1);
    upstream.end().await;
    for number in 0..8 {
        failed(
            &served.ask(&format!("n{number}.example")).await,
            Why::UpstreamUnreachable,
        );
    }
    let _upstream = Upstream::start_on(address, None, |_| vec![Act::Answer(2)]).await;
    for number in 0..8 {
        assert_eq!(
            answer_of(&served.ask(&format!("m{number}.example")).await),
            2
        );
    }
}

#[tokio::test]
async fn upstream_that_disappears_fails_over_at_once() {
    let upstream = Upstream::silent().await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    let begun = Instant::now();
    let wait = tokio::spawn(served.begin(query("a.example", Type::A)));
    upstream.came(1).await;
    upstream.end().await;
    failed(&wait.await.unwrap(), Why::UpstreamUnreachable);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn mismatched_replies_alone_are_a_failure_with_a_cause() {
    let upstream = Upstream::start(|_| vec![Act::WrongQuestion]).await;
    let served = Served::new(&format!(
        "forward . {} {{\n read_timeout 60ms\n}}",
        upstream.address
    ));
    let reply = served.ask("a.example").await;
    failed(&reply, Why::UpstreamMalformed);
    assert!(reply.cause.unwrap().contains("do not fit the question"));
}

#[tokio::test]
async fn stray_reply_does_not_hide_a_timeout() {
    let upstream = Upstream::start(|asked| match asked.number {
        0 => vec![Act::WrongQuestion],
        _ => vec![],
    })
    .await;
    let served = Served::new(&format!(
        "forward . {} {{\n read_timeout 60ms\n}}",
        upstream.address
    ));
    let reply = served.ask("a.example").await;
    failed(&reply, Why::UpstreamTimeout);
    let cause = reply.cause.unwrap();
    assert!(
        cause.contains("do not fit the question") && cause.ends_with("i/o timeout"),
        "{cause}"
    );
}

#[tokio::test]
async fn max_connect_attempts_limits_attempts() {
    let upstream = Upstream::silent().await;
    for (cap, expected) in [(1, 1), (3, 3)] {
        let options = format!("read_timeout 40ms\n max_fails 0\n max_connect_attempts {cap}");
        let served = Served::new(&format!(
            "forward . {} {{\n {options}\n}}",
            upstream.address
        ));
        let before = upstream.count();
        failed(&served.ask("a.example").await, Why::UpstreamTimeout);
        assert_eq!(upstream.count() - before, expected);
    }
    let closed = closed_port().await;
    let options = "read_timeout 200ms\n max_connect_attempts 0";
    let served = Served::new(&format!("forward . {closed} {{\n {options}\n}}"));
    let wait = tokio::time::timeout(Duration::from_millis(700), served.ask("a.example"));
    assert!(
        wait.await.is_err(),
        "no cap, and no tight circle: it goes on trying for its time"
    );
}

#[tokio::test]
async fn queries_beyond_max_concurrent_are_refused() {
    let upstream = Upstream::start(|_| vec![Act::AfterGo, Act::Answer(1)]).await;
    let served = Served::new(&format!(
        "forward . {} {{\n max_concurrent 2\n}}",
        upstream.address
    ));
    let under_way: Vec<_> = ["a.example", "b.example"]
        .map(|name| tokio::spawn(served.begin(query(name, Type::A))))
        .into();
    upstream.came(2).await;
    let reply = served.ask("c.example").await;
    assert_eq!((reply.rcode, reply.why), (Rcode::REFUSED, Why::Overload));
    let words = "concurrent queries exceeded maximum 2";
    assert_eq!(reply.cause.as_deref(), Some(words));
    let rejects = served.metric("coredns_forward_max_concurrent_rejects_total");
    assert!((rejects - 1.0).abs() < f64::EPSILON);
    upstream.go();
    upstream.came(2).await;
    for wait in under_way {
        upstream.go();
        answer_of(&wait.await.unwrap());
    }
    upstream.now(|_| vec![Act::Answer(1)]);
    answer_of(&served.ask("d.example").await);
}

#[tokio::test]
async fn upstream_is_down_until_a_health_check_is_answered() {
    let upstream = Upstream::silent().await;
    let options = "read_timeout 40ms\n max_fails 2\n health_check 30ms no_rec domain Health.example\n \
                   failfast_all_unhealthy_upstreams";
    let served = Served::new(&format!(
        "forward . {} {{\n {options}\n}}",
        upstream.address
    ));
    failed(&served.ask("a.example").await, Why::UpstreamTimeout);
    upstream.came(3).await;
    let asked = upstream.asked();
    let check = asked.iter().find(|one| one.question.rtype == Type::NS);
    let check = check.unwrap().clone();
    assert_eq!(check.question.name.to_string(), "Health.example.");
    assert!(!check.header.has(lodestone::wire::Header::RECURSION_DESIRED));
    assert!(served.failed_checks(upstream.address) < 2.0);
    failed(&served.ask("a.example").await, Why::UpstreamTimeout);
    served.checks_failed(upstream.address, 2.0).await;
    failed(&served.ask("a.example").await, Why::UpstreamsDown);
    upstream.now(|_| vec![Act::Code(Rcode::REFUSED)]);
    // The check in flight is not answered; the next one is.
    let begun = Instant::now();
    while served.ask("a.example").await.why == Why::UpstreamsDown {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let checks = || {
        let asked = upstream.asked();
        asked
            .iter()
            .filter(|one| one.question.rtype == Type::NS)
            .count()
    };
    let before = checks();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(checks(), before, "no checks once it is up");
}

#[tokio::test]
async fn max_fails_zero_disables_checks() {
    let upstream = Upstream::silent().await;
    let options = "read_timeout 20ms\n max_fails 0\n health_check 20ms";
    let served = Served::new(&format!(
        "forward . {} {{\n {options}\n}}",
        upstream.address
    ));
    for _ in 0..4 {
        failed(&served.ask("a.example").await, Why::UpstreamTimeout);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = upstream.asked();
    assert!(asked.iter().all(|one| one.question.rtype == Type::A));
}
