use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::runtime::Runtime;

use super::*;
use crate::{
    metrics::Metrics,
    query::{Query, Question},
    upstream::{
        AttemptObserver, AttemptReport, InFlight, Packet, PendingLimit, Permit, Plan, Settings,
        Target, TransportPolicy, Upstream, UpstreamGroup,
    },
    wire::{Class, Name, Rcode, Type},
};

/// A query's number, by which a test knows its reply.
struct Number(usize);

impl QueryOwner for Number {}

/// An engine, and an upstream that is silent.
struct Silent {
    engine: Engine<Number>,
    group: Arc<UpstreamGroup>,
    in_flight: Arc<InFlight>,
    limit: Arc<PendingLimit>,
    start: Instant,
    _socket: UdpSocket,
    _runtime: Runtime,
}

impl Silent {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let metrics = Metrics::new();
        let settings = Settings {
            max_fails: 1,
            ..Settings::unpooled()
        };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = Target::at(socket.local_addr().unwrap());
        let handle = runtime.handle().clone();
        let upstream = Arc::new(Upstream::new(target, &settings, handle, &metrics));
        let desperate = metrics.forward.healthcheck_broken_total.clone();
        Self {
            engine: Engine::new(None).unwrap(),
            group: Arc::new(UpstreamGroup::new(
                vec![upstream],
                Plan::default(),
                desperate,
            )),
            in_flight: Arc::default(),
            limit: PendingLimit::new(2, Rcode::REFUSED, []),
            start: Instant::now(),
            _socket: socket,
            _runtime: runtime,
        }
    }

    fn permit(&self, last: u8) -> Permit {
        self.limit.enter(0, [192, 0, 2, last].into()).unwrap()
    }

    fn packet(name: &str) -> Packet {
        let question = Question::new(Name::parse(name).unwrap(), Type::A, Class::IN);
        Packet::of(&Query::internal(question))
    }

    fn submit(&mut self, number: usize, packet: Packet, permit: Permit) {
        let (group, in_flight) = (Arc::clone(&self.group), Arc::clone(&self.in_flight));
        let query = UpstreamQuery::new(group, in_flight, packet, TransportPolicy::Udp, permit);
        self.engine
            .submit(Box::new(query), Number(number), self.start);
    }

    /// The key of the query with this number.
    fn key(&self, number: usize) -> Key {
        let mut queries = self.engine.queries.iter();
        let found = queries.find(|(_, query)| query.owner.0 == number);
        self.engine.key(found.unwrap().0)
    }

    /// What is replied so long after the start, by number.
    fn process(&mut self, after: Duration) -> Vec<(usize, Rcode)> {
        let now = self.start + after;
        let mut replies = Vec::new();
        self.engine.process_wakeups(now);
        self.engine
            .process(&mut Reply::default(), now, |Number(number), reply, _| {
                replies.push((number, reply.rcode));
            });
        replies.sort_unstable_by_key(|(number, _)| *number);
        replies
    }
}

/// Panics at the first attempt that is over.
#[derive(Debug, Default)]
struct Panicking(AtomicBool);

impl AttemptObserver for Panicking {
    fn on_attempt(&self, _: &AttemptReport<'_>) {
        assert!(self.0.swap(true, Ordering::Relaxed), "on purpose");
    }
}

#[test]
fn identical_queries_get_one_reply_and_leave_nothing_behind() {
    let mut silent = Silent::new();
    for number in 0..2 {
        let permit = silent.permit(1);
        silent.submit(number, Silent::packet("a.example"), permit);
    }
    assert!(silent.process(Duration::from_secs(1)).is_empty());
    let mut replies = silent.process(Duration::from_secs(4));
    replies.extend(silent.process(Duration::from_secs(4)));
    assert_eq!(replies, [(0, Rcode::SERVFAIL), (1, Rcode::SERVFAIL)]);
    assert!(silent.engine.is_idle());
    assert_eq!(silent.limit.pending(), 0);
}

#[test]
fn a_query_that_is_evicted_before_it_is_submitted_ends_at_once() {
    let mut silent = Silent::new();
    let (first, second) = (silent.permit(1), silent.permit(1));
    let third = silent.permit(2);
    // The engine has looked for evictions since.
    assert!(silent.process(TICK).is_empty());
    silent.submit(0, Silent::packet("a.example"), first);
    let replies = silent.process(TICK);
    assert_eq!(replies, [(0, Rcode::REFUSED)]);
    drop((second, third));
}

#[test]
fn a_panic_at_one_query_does_not_lose_the_events_of_others() {
    let mut silent = Silent::new();
    let mut packet = Silent::packet("panic.example");
    packet.observe(Arc::new(Panicking::default()));
    let permit = silent.permit(1);
    silent.submit(0, packet, permit);
    // One that follows a query in another engine, which goes without a reply.
    let led_elsewhere = Arc::new(Silent::packet("a.example"));
    let lead = silent
        .in_flight
        .join(&led_elsewhere, TransportPolicy::Udp, || unreachable!());
    let permit = silent.permit(2);
    silent.submit(1, Silent::packet("a.example"), permit);
    silent.engine.inbox.push(InboxEvent::Attempt {
        key: silent.key(0),
        attempt: 0,
        result: Err(Failure::Refused),
    });
    drop(lead);
    let now = silent.start;
    let turn = AssertUnwindSafe(|| silent.engine.process_wakeups(now));
    assert!(catch_unwind(turn).is_err());
    silent.engine.recover(now);
    let mut replies = silent.process(Duration::from_secs(4));
    replies.extend(silent.process(Duration::from_secs(8)));
    assert_eq!(replies, [(0, Rcode::SERVFAIL), (1, Rcode::SERVFAIL)]);
    assert!(silent.engine.is_idle());
}
