//! `max_pps`: a rate of packets to the upstreams.

use lodestone::{reply::Why, wire::Rcode};

use crate::{
    served::Served,
    upstream::{Upstream, answer_of},
};

#[tokio::test]
async fn queries_beyond_the_budget_fail_at_once_with_the_reason() {
    let upstream = Upstream::answering(1).await;
    let served = Served::new(&format!(
        "forward . {} {{\n max_pps 20\n}}",
        upstream.address
    ));
    let begun = std::time::Instant::now();
    let (mut answered, mut denied) = (0, 0);
    for number in 0..100 {
        let reply = served.ask(&format!("n{number}.example")).await;
        if reply.why == Why::Upstream {
            assert_eq!(answer_of(&reply), 1);
            answered += 1;
        } else {
            assert_eq!((reply.rcode, reply.why), (Rcode::SERVFAIL, Why::Overload));
            let cause = reply.cause.as_deref().unwrap_or_default();
            assert!(cause.contains("the packet budget (max_pps)"), "{cause}");
            denied += 1;
        }
    }
    // A burst of two, and then one every 50 ms.
    let most = 2 + begun.elapsed().as_millis() / 50 + 1;
    assert!(
        answered >= 2 && answered <= most,
        "{answered} of at most {most}"
    );
    assert!(denied > 0);
    // Those that were denied were not sent.
    assert_eq!(upstream.count() as u128, answered);
    let metric = |name: &str| served.metric(&format!("{name}{{from=\".\"}}"));
    assert!(metric("lodestone_forward_packets_denied_total") >= f64::from(denied));
    assert!((metric("lodestone_forward_max_pps") - 20.0).abs() < f64::EPSILON);
}
