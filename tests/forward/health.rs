//! What marks an upstream down, and what does not.

use std::time::{Duration, Instant};

use lodestone::{reply::Why, wire::Type};

use crate::{
    served::{Served, query},
    upstream::{Act, Upstream, answer_of},
};

/// Answers everything except names that start with `slow`.
async fn with_a_dead_authority() -> Upstream {
    Upstream::start(|asked| {
        if asked.question.name.to_string().starts_with("slow") {
            vec![]
        } else {
            vec![Act::Answer(1)]
        }
    })
    .await
}

#[tokio::test]
async fn names_with_a_dead_authority_do_not_mark_the_upstream_down() {
    let upstream = with_a_dead_authority().await;
    let options = "read_timeout 300ms\n max_fails 1\n failfast_all_unhealthy_upstreams";
    let served = Served::new(&format!(
        "forward . {} {{\n {options}\n}}",
        upstream.address
    ));
    for round in 0..3 {
        let slow: Vec<_> = (0..20)
            .map(|number| query(&format!("slow{round}{number}.example"), Type::A))
            .map(|query| tokio::spawn(served.begin(query)))
            .collect();
        for reply in slow {
            assert_eq!(reply.await.unwrap().why, Why::UpstreamTimeout);
            let name = format!("n{round}.example");
            assert_eq!(answer_of(&served.ask(&name).await), 1);
        }
    }
    let asked = upstream.asked();
    let checks = asked.iter().filter(|one| one.question.rtype == Type::NS);
    let checks = checks.count();
    assert!(checks >= 1, "it is asked whether it is up");
    assert!(checks <= 20, "and not for each question: {checks}");
    assert!(served.failed_checks(upstream.address) < 1.0);
}

#[tokio::test]
async fn answer_cancels_other_attempts_without_counting_them() {
    let pause = Duration::from_millis(350);
    let upstream = Upstream::start(move |asked| match asked.question.rtype {
        // Checks are not answered in this test, so a check would be visible.
        Type::NS => vec![],
        _ if asked.number == 0 => vec![Act::After(pause), Act::Answer(1)],
        _ if asked.question.name.to_string().starts_with("slow") => vec![],
        _ => vec![Act::Answer(2)],
    })
    .await;
    let options = "read_timeout 100ms\n max_connect_attempts 0\n max_fails 1\n \
                   failfast_all_unhealthy_upstreams";
    let served = Served::new(&format!(
        "forward . {} {{\n {options}\n}}",
        upstream.address
    ));
    assert_eq!(answer_of(&served.ask("slow.example").await), 1);
    for name in ["a.example", "b.example"] {
        assert_eq!(answer_of(&served.ask(name).await), 2);
    }
    // The answers have ended the checks that the timeouts had started.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(answer_of(&served.ask("c.example").await), 2);
    assert!(served.failed_checks(upstream.address) < 2.0);
}

#[tokio::test]
async fn slow_single_upstream_is_awaited_for_each_query() {
    let upstream =
        Upstream::start(|_| vec![Act::After(Duration::from_secs(3)), Act::Answer(1)]).await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(answer_of(&served.ask(name).await), 1, "{name}");
    }
    // Also for overlapping queries.
    let waits: Vec<_> = ["d.example", "e.example"]
        .map(|name| tokio::spawn(served.begin(query(name, Type::A))))
        .into();
    for wait in waits {
        assert_eq!(answer_of(&wait.await.unwrap()), 1);
    }
}

/// A late reply to a check marks an upstream up that was down.
#[tokio::test]
async fn a_late_answer_to_a_check_marks_a_slow_upstream_up() {
    let upstream = Upstream::start(|asked| match asked.question.rtype {
        Type::NS => vec![Act::After(Duration::from_millis(1500)), Act::Answer(1)],
        _ if asked.number == 0 => vec![],
        _ => vec![Act::After(Duration::from_millis(1500)), Act::Answer(2)],
    })
    .await;
    let options = "max_fails 1\n max_connect_attempts 1\n health_check 100ms";
    let served = Served::new(&format!(
        "forward . {} {{\n {options}\n}}",
        upstream.address
    ));
    let lost = tokio::spawn(served.begin(query("lost.example", Type::A)));
    served.checks_failed(upstream.address, 1.0).await;
    // Down: the query would fail after a second if the upstream were not marked up meanwhile.
    assert_eq!(answer_of(&served.ask("a.example").await), 2);
    assert_eq!(lost.await.unwrap().why, Why::UpstreamTimeout);
}

#[tokio::test]
async fn suspect_upstream_is_tried_after_the_others() {
    let (dead, alive) = (Upstream::silent().await, Upstream::answering(2).await);
    let served = Served::new(&format!(
        "forward . {} {} {{\n policy sequential\n}}",
        dead.address, alive.address
    ));
    let begun = Instant::now();
    assert_eq!(answer_of(&served.ask("a.example").await), 2);
    served.checks_failed(dead.address, 1.0).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    let asked = dead.count();
    for number in 0..20 {
        assert_eq!(
            answer_of(&served.ask(&format!("n{number}.example")).await),
            2
        );
    }
    assert_eq!(dead.count(), asked);
    // It is checked until it answers, and then used again.
    dead.now(|_| vec![Act::Answer(1)]);
    let begun = Instant::now();
    while answer_of(&served.ask("b.example").await) != 1 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
