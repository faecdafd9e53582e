use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::{
    metrics::Metrics,
    query::{Query, Question},
    upstream::{HealthCheck, Plan, SelectionPolicy, Settings, Target, UpstreamProtocol},
    wire::{Class, Name, Rcode, Type},
};

const FAILOVER: Rcode = Rcode::REFUSED;

/// An exchange whose upstreams are played by the test; the time too.
struct Played {
    /// What carries an attempt is of no meaning here.
    exchange: Exchange<()>,
    request: UpstreamRequest,
    upstreams: Vec<Arc<Upstream>>,
    start: Instant,
    reply: Reply,
    /// Where health checks would run. It is never driven.
    _runtime: Runtime,
}

fn plan() -> Plan {
    Plan {
        policy: SelectionPolicy::Sequential,
        failover: [FAILOVER].into(),
        ..Plan::default()
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn reply(rcode: Rcode) -> Reply {
    Reply::failure(rcode, Why::Upstream)
}

fn truncated() -> Reply {
    let mut reply = reply(Rcode::NOERROR);
    reply.truncated = true;
    reply
}

impl Played {
    fn new(upstreams: usize, plan: Plan, transport: TransportPolicy) -> Self {
        Self::with(upstreams, plan, transport, |_| {})
    }

    /// With one upstream over TLS, whose attempts are streams whatever the policy.
    fn over_tls() -> Self {
        let tls = UpstreamProtocol::Tls;
        Self::over(tls, 1, plan(), TransportPolicy::UdpThenTcp, |_| {})
    }

    /// `prepare` is called with the upstreams before any is selected.
    fn with(
        upstreams: usize,
        plan: Plan,
        transport: TransportPolicy,
        prepare: impl FnOnce(&[Arc<Upstream>]),
    ) -> Self {
        Self::over(UpstreamProtocol::Dns, upstreams, plan, transport, prepare)
    }

    fn over(
        protocol: UpstreamProtocol,
        upstreams: usize,
        plan: Plan,
        transport: TransportPolicy,
        prepare: impl FnOnce(&[Arc<Upstream>]),
    ) -> Self {
        let runtime = Builder::new_current_thread().build().unwrap();
        let metrics = Metrics::new();
        let settings = Settings {
            max_fails: 1,
            ..Settings::unpooled()
        };
        let upstreams: Vec<_> = (0..upstreams)
            .map(|number| {
                let target = Target {
                    protocol,
                    ..Target::at(([192, 0, 2, u8::try_from(number).unwrap()], 53).into())
                };
                let handle = runtime.handle().clone();
                Arc::new(Upstream::new(target, &settings, handle, &metrics))
            })
            .collect();
        prepare(&upstreams);
        let desperate = metrics.forward.healthcheck_broken_total.clone();
        let group = Arc::new(UpstreamGroup::new(upstreams.clone(), plan, desperate));
        let question = Question::new(Name::parse("a.example").unwrap(), Type::A, Class::IN);
        let request = UpstreamRequest {
            packet: Arc::new(Packet::of(&Query::internal(question))),
            transport,
            counts_failures: true,
            group,
        };
        let start = Instant::now();
        let selection = request.group.select().ok().unwrap();
        let mut exchange = Exchange::new(&request, selection, start);
        exchange.sent(0, ());
        Self {
            exchange,
            request,
            upstreams,
            start,
            reply: Reply::default(),
            _runtime: runtime,
        }
    }

    /// Takes the part of the engine: an attempt that is to be made is in flight.
    fn made(&mut self, action: Action) -> Action {
        if let Action::Send(attempt) = action {
            self.exchange.sent(attempt, ());
        }
        action
    }

    fn replied(&mut self, attempt: usize, reply: Reply, at: Duration) -> Action {
        self.reply = reply;
        let now = self.start + at;
        let exchange = &mut self.exchange;
        let action = exchange.on_reply(&self.request, attempt, &mut self.reply, now);
        self.made(action)
    }

    fn failed(&mut self, attempt: usize, failure: Failure, at: Duration) -> Action {
        let now = self.start + at;
        let exchange = &mut self.exchange;
        let action = exchange.on_failure(&self.request, attempt, failure, &mut self.reply, now);
        self.made(action)
    }

    /// The next timeout passes: when it does, and what follows.
    fn silence(&mut self) -> (Duration, Action) {
        let now = self.exchange.next_timeout(&self.request);
        let exchange = &mut self.exchange;
        let action = exchange.on_timeout(&self.request, &mut self.reply, now);
        (now - self.start, self.made(action))
    }

    /// Whether a failure was counted against an upstream.
    fn is_checked(&self, upstream: usize) -> bool {
        !self.upstreams[upstream].health.begin()
    }
}

#[test]
fn the_first_reply_is_final_and_counts_for_its_upstream() {
    let mut played = Played::new(2, plan(), TransportPolicy::Udp);
    let action = played.replied(0, reply(Rcode::NXDOMAIN), millis(5));
    assert_eq!(action, Action::Finish);
    assert_eq!(played.reply.rcode, Rcode::NXDOMAIN);
    assert!(!played.is_checked(0) && !played.is_checked(1));
}

#[test]
fn beside_a_silent_upstream_the_next_is_tried_and_either_may_reply() {
    for replies in [0, 1] {
        let mut played = Played::new(2, plan(), TransportPolicy::Udp);
        assert_eq!(played.silence(), (millis(1000), Action::Send(1)));
        let action = played.replied(replies, reply(Rcode::NOERROR), millis(1100));
        assert_eq!(action, Action::Finish);
        assert_eq!(played.reply.rcode, Rcode::NOERROR);
        assert!(played.is_checked(0), "it was silent for too long");
        assert!(!played.is_checked(1));
    }
}

#[test]
fn silent_upstreams_get_servfail_at_the_total_and_each_is_checked() {
    let mut played = Played::new(2, plan(), TransportPolicy::Udp);
    let mut sent = Vec::new();
    let end = loop {
        match played.silence() {
            (at, Action::Send(attempt)) => sent.push((attempt, at)),
            (at, Action::Finish) => break at,
            (_, Action::Wait) => {}
        }
    };
    let at = |attempt, at| (attempt, millis(at));
    assert_eq!(sent, [at(1, 1000), at(2, 2000), at(3, 3000)]);
    assert_eq!(end, millis(3800));
    assert_eq!(played.reply.rcode, Rcode::SERVFAIL);
    assert_eq!(played.reply.why, Why::UpstreamTimeout);
    assert!(played.is_checked(0) && played.is_checked(1));
    let cause = played.reply.cause.unwrap();
    assert!(cause.starts_with("4 tries in 3.8 s: "), "{cause}");
    assert!(cause.ends_with("i/o timeout"), "{cause}");
}

#[test]
fn a_lone_upstream_is_tried_three_times_also_when_it_has_just_gone_down() {
    let down = |upstreams: &[Arc<Upstream>]| {
        assert!(upstreams[0].health.begin());
        assert_eq!(upstreams[0].health.failed_check(), Some(true));
    };
    for is_down in [false, true] {
        let prepare = |upstreams: &[Arc<Upstream>]| {
            if is_down {
                down(upstreams);
            }
        };
        let mut played = Played::with(1, plan(), TransportPolicy::Udp, prepare);
        let mut sent = Vec::new();
        let end = loop {
            match played.silence() {
                (at, Action::Send(_)) => sent.push(at),
                (at, Action::Finish) => break at,
                (_, Action::Wait) => {}
            }
        };
        assert_eq!((sent, end), (vec![millis(800), millis(2400)], millis(3800)));
    }
}

#[test]
fn a_failure_moves_on_at_once_and_each_upstream_fails_twice_at_most() {
    let mut played = Played::new(2, plan(), TransportPolicy::Udp);
    for attempt in 0..3 {
        let action = played.failed(attempt, Failure::Refused, millis(1));
        assert_eq!(action, Action::Send(attempt + 1));
    }
    let action = played.failed(3, Failure::Refused, millis(1));
    assert_eq!(action, Action::Finish);
    assert_eq!(played.reply.why, Why::UpstreamUnreachable);
    assert_eq!(played.exchange.last_failure(), Some(&Failure::Refused));
    assert!(played.is_checked(0) && played.is_checked(1));
}

#[test]
fn a_lack_of_this_machine_is_not_counted() {
    let mut played = Played::new(1, plan(), TransportPolicy::Udp);
    assert_eq!(
        played.failed(0, Failure::Busy, millis(1)),
        Action::Send(1),
        "it may be over"
    );
    assert_eq!(played.failed(1, Failure::Busy, millis(1)), Action::Finish);
    assert_eq!(played.reply.why, Why::Overload);
    assert!(!played.is_checked(0));
}

#[test]
fn without_a_limit_of_attempts_failures_are_not_retried_in_a_tight_loop() {
    let unlimited = Plan {
        max_attempts: Some(0),
        ..plan()
    };
    let mut played = Played::new(1, unlimited, TransportPolicy::Udp);
    assert_eq!(
        played.failed(0, Failure::Refused, millis(1)),
        Action::Send(1)
    );
    assert_eq!(played.failed(1, Failure::Refused, millis(2)), Action::Wait);
    assert_eq!(played.silence(), (millis(801), Action::Send(2)));
    assert_eq!(
        played.failed(2, Failure::Refused, millis(803)),
        Action::Wait
    );
    let mut end = Duration::ZERO;
    for attempt in 3.. {
        match played.silence() {
            (at, Action::Send(number)) => {
                assert_eq!(number, attempt);
                assert_eq!(played.failed(number, Failure::Refused, at), Action::Wait);
            }
            (at, Action::Finish) => {
                end = at;
                break;
            }
            (at, Action::Wait) => panic!("nothing follows at {at:?}"),
        }
    }
    assert_eq!(end, millis(3800));
}

#[test]
fn max_attempts_is_a_limit_whatever_fails() {
    let once = || Plan {
        max_attempts: Some(1),
        ..plan()
    };
    let mut failed = Played::new(3, once(), TransportPolicy::Udp);
    assert_eq!(
        failed.failed(0, Failure::Malformed, millis(1)),
        Action::Finish
    );
    assert_eq!(failed.reply.why, Why::UpstreamMalformed);
    let mut silent = Played::new(3, once(), TransportPolicy::Udp);
    assert_eq!(silent.silence(), (millis(1000), Action::Wait));
    assert_eq!(silent.silence(), (millis(3800), Action::Finish));
    let mut other = Played::new(3, once(), TransportPolicy::Udp);
    assert_eq!(other.replied(0, reply(FAILOVER), millis(1)), Action::Finish);
    assert_eq!(other.reply.rcode, FAILOVER);
}

#[test]
fn a_read_timeout_is_that_of_each_attempt_and_of_the_last() {
    let short = Plan {
        read_timeout: Some(millis(100)),
        ..plan()
    };
    let mut played = Played::new(1, short, TransportPolicy::Udp);
    assert_eq!(played.silence(), (millis(100), Action::Send(1)));
    assert_eq!(played.silence(), (millis(200), Action::Finish));
    assert_eq!(played.reply.why, Why::UpstreamTimeout);
}

#[test]
fn a_failover_code_is_used_only_if_no_other_upstream_has_a_better_reply() {
    let mut better = Played::new(2, plan(), TransportPolicy::Udp);
    let action = better.replied(0, reply(FAILOVER), millis(1));
    assert_eq!(action, Action::Send(1));
    let action = better.replied(1, reply(Rcode::NOERROR), millis(2));
    assert_eq!(action, Action::Finish);
    assert_eq!(better.reply.rcode, Rcode::NOERROR);

    let mut refused = Played::new(2, plan(), TransportPolicy::Udp);
    refused.replied(0, reply(FAILOVER), millis(1));
    let action = refused.failed(1, Failure::Refused, millis(2));
    assert_eq!(action, Action::Finish, "no upstream is tried twice");
    assert_eq!(refused.reply.rcode, FAILOVER);

    let mut silent = Played::new(2, plan(), TransportPolicy::Udp);
    silent.replied(0, reply(FAILOVER), millis(1));
    assert_eq!(silent.silence(), (millis(1001), Action::Wait));
    assert_eq!(silent.silence(), (millis(3800), Action::Finish));
    assert_eq!(silent.reply.rcode, FAILOVER);
}

#[test]
fn with_all_upstreams_down_it_ends_early_unless_one_comes_up() {
    let down = |upstreams: &[Arc<Upstream>]| {
        for upstream in upstreams {
            assert!(upstream.health.begin());
            assert_eq!(upstream.health.failed_check(), Some(true));
            for _ in 0..HealthCheck::LONG {
                upstream.health.failed_check();
            }
        }
    };
    for comes_up in [false, true] {
        let mut played = Played::with(2, plan(), TransportPolicy::Udp, down);
        if comes_up {
            played.upstreams[1].health.answered();
        }
        let end = loop {
            if let (at, Action::Finish) = played.silence() {
                break at;
            }
        };
        assert_eq!(end, millis(if comes_up { 3800 } else { 1000 }));
    }
}

#[test]
fn after_a_truncated_datagram_the_whole_reply_comes_by_stream() {
    let mut played = Played::new(1, plan(), TransportPolicy::UdpThenTcp);
    let action = played.replied(0, truncated(), millis(5));
    assert_eq!(action, Action::Send(0), "the same attempt");
    assert!(!played.exchange.is_by_datagram(&played.request, 0));
    let action = played.replied(0, reply(Rcode::NOERROR), millis(9));
    assert_eq!(action, Action::Finish);
    assert!(!played.reply.truncated);
}

#[test]
fn a_truncated_reply_is_better_than_none() {
    let mut failed = Played::new(1, plan(), TransportPolicy::UdpThenTcp);
    failed.replied(0, truncated(), millis(5));
    assert_eq!(failed.failed(0, Failure::Closed, millis(6)), Action::Finish);
    assert!(failed.reply.truncated);
    assert!(!failed.is_checked(0), "it has replied");

    let mut silent = Played::new(2, plan(), TransportPolicy::UdpThenTcp);
    silent.replied(0, truncated(), millis(5));
    assert_eq!(silent.silence(), (millis(1000), Action::Send(1)));
    assert_eq!(silent.silence(), (millis(1005), Action::Finish));
    assert!(silent.reply.truncated);
}

#[test]
fn a_reply_by_stream_is_final_even_where_it_is_truncated() {
    let mut played = Played::over_tls();
    let action = played.replied(0, truncated(), millis(5));
    assert_eq!(action, Action::Finish);
    assert!(played.reply.truncated);
}

#[test]
fn it_ends_when_every_upstream_with_an_open_attempt_has_failed_since() {
    let mut played = Played::new(1, plan(), TransportPolicy::Udp);
    assert_eq!(played.silence(), (millis(800), Action::Send(1)));
    let action = played.failed(1, Failure::Refused, millis(801));
    assert_eq!(action, Action::Finish);
    assert_eq!(played.reply.why, Why::UpstreamUnreachable);
}

#[test]
fn an_evicted_query_counts_against_the_upstreams_it_waits_for() {
    let mut played = Played::new(2, plan(), TransportPolicy::Udp);
    played.exchange.count_open(&played.request);
    assert!(played.is_checked(0) && !played.is_checked(1));
}

#[test]
fn a_health_check_counts_nothing() {
    let mut played = Played::new(1, plan(), TransportPolicy::Udp);
    played.request.counts_failures = false;
    played.failed(0, Failure::Refused, millis(1));
    played.exchange.count_open(&played.request);
    assert!(!played.is_checked(0));
}

/// Numbers that look random, the same at every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

#[test]
fn whatever_happens_timeouts_make_progress_and_the_exchange_ends_in_time() {
    let mut numbers = Numbers(1);
    for round in 0..200 {
        let upstreams = usize::try_from(numbers.below(4)).unwrap() + 1;
        let random = Plan {
            read_timeout: (numbers.below(3) == 0).then(|| millis(1 + numbers.below(6000))),
            max_attempts: (numbers.below(2) == 0)
                .then(|| usize::try_from(numbers.below(5)).unwrap()),
            ..plan()
        };
        let transport = if numbers.below(2) == 0 {
            TransportPolicy::Udp
        } else {
            TransportPolicy::UdpThenTcp
        };
        let all_down = numbers.below(4) == 0;
        let mut played = Played::with(upstreams, random, transport, |upstreams| {
            for upstream in upstreams.iter().filter(|_| all_down) {
                upstream.health.begin();
                upstream.health.failed_check();
            }
        });
        let deadline = played.start + millis(5001);
        let mut now = played.start;
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 200, "round {round}: too many steps");
            let next = played.exchange.next_timeout(&played.request);
            assert!(now < deadline && next <= deadline, "round {round}");
            let open: Vec<_> = (0..played.exchange.attempts.len())
                .filter(|attempt| played.exchange.is_open(*attempt))
                .collect();
            let happens = numbers.below(10);
            let at = now - played.start + millis(numbers.below(300));
            let action = if open.is_empty() || happens < 5 || played.start + at >= next {
                // Timeouts are seen late, and not later than a few ticks.
                now = now.max(next) + millis(numbers.below(2) * numbers.below(50));
                let mut calls = 0;
                loop {
                    let (exchange, request) = (&mut played.exchange, &played.request);
                    let action = exchange.on_timeout(request, &mut played.reply, now);
                    let action = played.made(action);
                    calls += 1;
                    assert!(calls <= 2 * upstreams + 2, "round {round}: no progress");
                    if action == Action::Finish
                        || played.exchange.next_timeout(&played.request) > now
                    {
                        break action;
                    }
                }
            } else {
                now = played.start + at;
                let attempt = open[usize::try_from(numbers.below(open.len() as u64)).unwrap()];
                match happens {
                    5 => played.replied(attempt, truncated(), at),
                    6 => played.replied(attempt, reply(FAILOVER), at),
                    7 => played.failed(attempt, Failure::Busy, at),
                    8 => played.failed(attempt, Failure::Refused, at),
                    _ => played.replied(attempt, reply(Rcode::NOERROR), at),
                }
            };
            if action == Action::Finish {
                break;
            }
        }
    }
}
