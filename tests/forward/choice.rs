//! `policy`, `failover` and `next`.

use std::sync::Arc;

use lodestone::{reply::Why, wire::Rcode};

use crate::{
    served::Served,
    upstream::{Act, Upstream, answer_of},
};

async fn three() -> (Vec<Upstream>, String) {
    let mut list = Vec::new();
    for last in 1..=3 {
        list.push(Upstream::answering(last).await);
    }
    let to: Vec<_> = list.iter().map(|one| one.address.to_string()).collect();
    (list, to.join(" "))
}

async fn answers(policy: &str, count: usize) -> Vec<u8> {
    let (_upstreams, to) = three().await;
    let served = Served::new(&format!("forward . {to} {{\n policy {policy}\n}}"));
    let mut answers = Vec::new();
    for number in 0..count {
        let reply = served.ask(&format!("n{number}.example")).await;
        answers.push(answer_of(&reply));
    }
    answers
}

#[tokio::test]
async fn policies_choose_the_first_upstream() {
    assert_eq!(answers("sequential", 4).await, [1, 1, 1, 1]);
    assert_eq!(answers("round_robin", 7).await, [1, 2, 3, 1, 2, 3, 1]);
    let random = answers("random", 90).await;
    for last in 1..=3 {
        let count: usize = random.iter().map(|one| usize::from(*one == last)).sum();
        assert!((10..=60).contains(&count), "{last}: {count}");
    }
}

#[tokio::test]
async fn failover_tries_the_next_and_returns_the_last_answer() {
    let (upstreams, to) = three().await;
    upstreams[0].now(|_| vec![Act::Code(Rcode::SERVFAIL)]);
    upstreams[1].now(|_| vec![Act::Code(Rcode::REFUSED)]);
    let lines = format!("forward . {to} {{\n policy sequential\n failover SERVFAIL REFUSED\n}}");
    let served = Served::new(&lines);
    assert_eq!(answer_of(&served.ask("a.example").await), 3);
    upstreams[2].now(|_| vec![Act::Code(Rcode::SERVFAIL)]);
    let reply = served.ask("a.example").await;
    assert_eq!((reply.rcode, reply.why), (Rcode::SERVFAIL, Why::Upstream));
    let counts: Vec<_> = upstreams.iter().map(Upstream::count).collect();
    assert_eq!(counts, [2, 2, 2], "no upstream is queried twice");
    upstreams[0].now(|_| vec![Act::Code(Rcode::NXDOMAIN)]);
    let reply = served.ask("a.example").await;
    assert_eq!(
        reply.rcode,
        Rcode::NXDOMAIN,
        "a code that is not named is believed"
    );
}

#[tokio::test]
async fn next_passes_to_the_next_forward_only() {
    let (upstreams, _) = three().await;
    upstreams[0].now(|_| vec![Act::Code(Rcode::NXDOMAIN)]);
    upstreams[1].now(|_| vec![Act::Many(0)]);
    let [first, second, third] = &upstreams[..] else {
        panic!()
    };
    let served = Served::new(&format!(
        "forward . {} {{\n next nxdomain\n}}\nforward . {} {{\n next_on_nodata\n}}\n\
         forward . {} {{\n next NOERROR\n}}",
        first.address, second.address, third.address
    ));
    assert_eq!(answer_of(&served.ask("a.example").await), 3);
    upstreams[1].now(|_| vec![Act::Answer(2)]);
    assert_eq!(answer_of(&served.ask("a.example").await), 2);
    upstreams[0].now(|_| vec![Act::Many(0)]);
    let reply = served.ask("a.example").await;
    assert_eq!((reply.rcode, reply.why), (Rcode::NOERROR, Why::Upstream));
}

#[tokio::test]
async fn query_keeps_the_upstreams_it_started_with() {
    use lodestone::{
        metrics::Metrics,
        query::{Query, Question},
        upstream::{
            InFlight, Packet, PendingLimit, Plan, PoolSettings, Settings, Target, TransportPolicy,
            UpstreamGroup, UpstreamQuery,
        },
        wire::{Class, Name, Rcode, Type},
    };
    let slow = Upstream::start(|_| vec![Act::AfterGo, Act::Answer(1)]).await;
    let new = Upstream::answering(2).await;
    let metrics = Metrics::new();
    let settings = Settings {
        pool: PoolSettings {
            expire: std::time::Duration::from_secs(10),
            max_age: std::time::Duration::ZERO,
            max_idle: 0,
        },
        max_fails: 2,
        ..Settings::unpooled()
    };
    let open = |upstream: &Upstream| {
        let target = Target::at(upstream.address);
        let runtime = tokio::runtime::Handle::current();
        Arc::new(lodestone::upstream::Upstream::new(
            target, &settings, runtime, &metrics,
        ))
    };
    let healthcheck_broken = metrics.forward.healthcheck_broken_total.clone();
    let group = Arc::new(UpstreamGroup::new(
        vec![open(&slow)],
        Plan::default(),
        healthcheck_broken,
    ));
    let question = Question::new(Name::parse("a.example").unwrap(), Type::A, Class::IN);
    let limit = PendingLimit::new(10, Rcode::REFUSED, []);
    let reply = || {
        let permit = limit.enter(0, [127, 0, 0, 1].into()).unwrap();
        let (packet, in_flight) = (Packet::of(&Query::internal(question)), Arc::default());
        let in_flight: Arc<InFlight> = in_flight;
        let (group, transport) = (Arc::clone(&group), TransportPolicy::Udp);
        Box::new(UpstreamQuery::new(
            group, in_flight, packet, transport, permit,
        ))
        .reply()
    };
    let in_flight = tokio::spawn(reply());
    slow.came(1).await;
    let old = Arc::downgrade(&group.members()[0].upstream);
    group.replace(vec![open(&new)]);
    assert_eq!(answer_of(&reply().await), 2);
    slow.go();
    assert_eq!(answer_of(&in_flight.await.unwrap()), 1);
    assert!(old.upgrade().is_none(), "and then it goes");
}
