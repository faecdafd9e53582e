use std::{
    net::Ipv4Addr,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::{config::*, *};
use crate::{
    edns::Options,
    hooks,
    metrics::Metrics,
    plugin::{
        Block, Outcome, SubQueryHandler, ZoneList,
        testing::{self, TestBlock},
    },
    query::{Edns, Question, Transport},
    reply::{Data, Owner, Section, Soa},
    wire::{Class, Name, Opcode, Rcode, Type},
};

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn zones(text: &str) -> ZoneList {
    [name(text)].into_iter().collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A mock upstream: answers as scripted, or not at all, and counts queries.
struct Inner {
    reply: Mutex<Option<Reply>>,
    queries: AtomicUsize,
}

hooks!(Inner, "inner" => on_query);

impl OnQuery for Inner {
    fn on_query(&self, _: &Context<'_>, _: &mut Query, reply: &mut Reply) -> Step {
        self.queries.fetch_add(1, Relaxed);
        match &*self.reply.lock() {
            Some(scripted) => {
                reply.copy_from(scripted);
                Step::Answer
            }
            None => Step::Wait(Box::pin(std::future::pending())),
        }
    }
}

/// A mock of `kubernetes` or `hosts`: answers for the names that it has, passes the others.
#[derive(Default)]
struct Own(Mutex<Option<Name>>);

hooks!(Own, "own" => on_query);

impl OnQuery for Own {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if *self.0.lock() != Some(query.question.lower) {
            return Step::Pass;
        }
        reply.answer(Type::A, 0, Data::A(Ipv4Addr::LOCALHOST));
        reply.why = Why::ClusterRecord;
        Step::Answer
    }
}

/// A server of one block: local data, a cache, an upstream.
struct World {
    block: Arc<Block>,
    own: Arc<Own>,
    inner: Arc<Inner>,
    cache: Cache,
    metrics: Arc<Metrics>,
    start: Instant,
}

struct Server(Arc<Block>);

impl SubQueryHandler for Server {
    fn answer(self: Arc<Self>, mut query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        Box::pin(async move {
            let sub_queries: Arc<dyn SubQueryHandler> = Arc::clone(&self) as _;
            let context = Context {
                sub_queries: &sub_queries,
                block: &self.0,
            };
            let mut reply = Reply::default();
            let walk = self.0.chain.walk(&context, &mut query, &mut reply);
            match walk {
                Outcome::Done => reply,
                Outcome::Dropped => panic!("nothing here drops"),
                Outcome::Pending(waiting) => waiting.finish().await.1.unwrap(),
            }
        })
    }
}

impl World {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(ZoneList::all());
        change(&mut config);
        let metrics = Metrics::new();
        let store = Arc::new(Store::new(&config));
        let cache = Cache {
            counters: Counters::new(&metrics, config.zones.label(), &store),
            store,
            config: Arc::new(config),
            refreshes: Refreshes::new(&tokio::runtime::Handle::current()),
        };
        let own = Arc::new(Own::default());
        let inner = Arc::new(Inner {
            reply: Mutex::new(Some(positive(300))),
            queries: AtomicUsize::new(0),
        });
        let test_block = TestBlock::new(vec![
            Arc::clone(&own).into(),
            cache.clone().into(),
            Arc::clone(&inner).into(),
        ]);
        Self {
            block: test_block.block,
            own,
            inner,
            cache,
            metrics,
            // Ahead of the clock, so that the queries' time is used.
            start: Instant::now() + secs(1_000_000),
        }
    }

    fn query(&self, text: &str, at: Duration) -> Query {
        let mut query = Query::internal(Question::new(name(text), Type::A, Class::IN));
        query.receive(|it| it.received = self.start + at);
        query
    }

    async fn send(&self, query: Query) -> Reply {
        Arc::new(Server(Arc::clone(&self.block)))
            .answer(query)
            .await
    }

    async fn ask(&self, at: u64) -> Reply {
        self.send(self.query("example.org", secs(at))).await
    }

    fn script(&self, reply: Reply) {
        *self.inner.reply.lock() = Some(reply);
    }

    fn silence(&self) {
        *self.inner.reply.lock() = None;
    }

    fn queries(&self) -> usize {
        self.inner.queries.load(Relaxed)
    }

    /// Completes when no refresh is in flight.
    async fn settle(&self) {
        while !self.cache.refreshes.are_idle() {
            tokio::task::yield_now().await;
        }
    }
}

fn upstream(rcode: Rcode) -> Reply {
    Reply::failure(rcode, Why::Upstream)
}

fn positive(ttl: u32) -> Reply {
    let mut reply = upstream(Rcode::NOERROR);
    reply.answer(Type::A, ttl, Data::A(A));
    reply
}

fn with_soa(mut reply: Reply, ttl: u32, minimum: u32) -> Reply {
    let zone = name("org");
    let soa = Soa {
        primary: zone.as_ref(),
        mailbox: zone.as_ref(),
        serial: 1,
        refresh: 2,
        retry: 3,
        expire: 4,
        minimum,
    };
    let owner = Owner::Name(zone.as_ref());
    reply.push(Section::Authority, owner, Type::SOA, ttl, Data::Soa(soa));
    reply
}

fn ttls(reply: &Reply) -> Vec<u32> {
    reply.records().map(|record| record.ttl).collect()
}

#[tokio::test]
async fn a_second_query_is_answered_from_the_cache() {
    let world = World::new(|_| {});
    let first = world.ask(0).await;
    assert_eq!((first.why, ttls(&first)), (Why::Upstream, vec![300]));
    let second = world.ask(100).await;
    assert_eq!((second.why, ttls(&second)), (Why::Cached, vec![200]));
    assert_eq!(second.data(&second.section(Section::Answer)[0]), A.octets());
    assert_eq!(ttls(&world.ask(299).await), [1]);
    assert_eq!(world.queries(), 1);
    assert_eq!(ttls(&world.ask(300).await), [300]);
    assert_eq!(world.queries(), 2);
}

/// Which replies are cached, with their TTL at first and three seconds later.
#[tokio::test]
async fn replies_are_cached_for_their_bounded_ttl() {
    type Change = fn(&mut Config);
    let truncated = |mut reply: Reply| {
        reply.truncated = true;
        reply
    };
    let because = |mut reply: Reply, why| {
        reply.why = why;
        reply
    };
    let referral = {
        let mut reply = upstream(Rcode::NOERROR);
        let zone = name("org");
        let owner = Owner::Name(zone.as_ref());
        reply.push(
            Section::Authority,
            owner,
            Type::NS,
            50,
            Data::Name(zone.as_ref()),
        );
        reply
    };
    let mixed = {
        let mut reply = positive(300);
        reply.answer(Type::A, 20, Data::A(A));
        reply
    };
    let usual: Change = |_| {};
    let cache_30: Change = |config| {
        config.success.max_ttl = 30;
        config.denial.max_ttl = 30;
    };
    let no_servfail: Change = |config| config.servfail = Duration::ZERO;
    let no_min: Change = |config| config.success.min_ttl = 0;
    let no_success: Change = |config| config.no_success = zones("org");
    let no_denial: Change = |config| config.no_denial = zones("org");
    let elsewhere: Change = |config| config.no_denial = zones("net");
    let other_zone: Change = |config| config.zones = zones("net");
    let keep_ttl: Change = |config| config.keep_ttl = true;
    let nxdomain = || upstream(Rcode::NXDOMAIN);
    let nodata = || upstream(Rcode::NOERROR);
    // (case, options, reply, first TTL, TTL three seconds later if it is cached)
    let rows: Vec<(&str, Change, Reply, u32, Option<u32>)> = vec![
        ("its own TTL", usual, positive(100), 100, Some(97)),
        ("at most an hour", usual, positive(86400), 3600, Some(3597)),
        ("a TTL of 0 becomes 5", usual, positive(0), 5, Some(2)),
        ("a TTL of 1 becomes 5", usual, positive(1), 5, Some(2)),
        ("a TTL of 0 without minimum", no_min, positive(0), 0, None),
        (
            "a TTL with the sign bit is 0",
            usual,
            positive(1 << 31),
            5,
            Some(2),
        ),
        (
            "cache 30 holds for the first",
            cache_30,
            positive(100),
            30,
            Some(27),
        ),
        ("the shortest TTL holds for all", usual, mixed, 20, Some(17)),
        ("a referral", usual, referral, 50, Some(47)),
        (
            "NXDOMAIN",
            usual,
            with_soa(nxdomain(), 60, 90),
            60,
            Some(57),
        ),
        (
            "the SOA's minimum",
            usual,
            with_soa(nxdomain(), 60, 20),
            20,
            Some(17),
        ),
        (
            "at most half an hour",
            usual,
            with_soa(nxdomain(), 9000, 9000),
            1800,
            Some(1797),
        ),
        ("NODATA", usual, with_soa(nodata(), 60, 90), 60, Some(57)),
        (
            "cache 30 for denials",
            cache_30,
            with_soa(nodata(), 60, 90),
            30,
            Some(27),
        ),
        ("keepttl", keep_ttl, positive(100), 100, Some(100)),
        ("success disabled", no_success, positive(100), 100, None),
        (
            "denial disabled",
            no_denial,
            with_soa(nxdomain(), 60, 60),
            60,
            None,
        ),
        (
            "denial disabled elsewhere",
            elsewhere,
            with_soa(nxdomain(), 60, 60),
            60,
            Some(57),
        ),
        (
            "another zone's cache",
            other_zone,
            positive(9999),
            9999,
            None,
        ),
        ("truncated", usual, truncated(positive(100)), 100, None),
        (
            "a cluster record",
            usual,
            because(positive(0), Why::ClusterRecord),
            0,
            None,
        ),
        (
            "a hosts record",
            usual,
            because(positive(9999), Why::HostsRecord),
            9999,
            None,
        ),
        (
            "made up",
            usual,
            because(positive(0), Why::Synthesized),
            0,
            None,
        ),
        (
            "no such Service",
            usual,
            because(with_soa(nxdomain(), 5, 5), Why::NoSuchService),
            5,
            None,
        ),
    ];
    for (case, change, reply, first, later) in rows {
        let world = World::new(change);
        world.script(reply);
        assert!(
            ttls(&world.ask(0).await).iter().all(|ttl| *ttl == first),
            "{case}"
        );
        let again = world.ask(3).await;
        if let Some(later) = later {
            assert!(
                ttls(&again).iter().all(|ttl| *ttl == later),
                "{case}: {again:?}"
            );
            assert_eq!(again.why, Why::Cached, "{case}");
        }
        assert_eq!(
            world.queries(),
            if later.is_some() { 1 } else { 2 },
            "{case}"
        );
    }
    // Aliases without data of their target: a denial with an SOA record, otherwise not cached.
    let aliased = |rcode, soa: Option<u32>, rtype: Option<Type>| {
        let mut reply = upstream(rcode);
        let target = name("target.org");
        reply.answer(Type::CNAME, 600, Data::Name(target.as_ref()));
        if let Some(rtype) = rtype {
            let owner = Owner::Name(target.as_ref());
            reply.push(Section::Answer, owner, rtype, 600, Data::A(A));
        }
        match soa {
            Some(minimum) => with_soa(reply, 900, minimum),
            None => reply,
        }
    };
    let referred = {
        let mut reply = aliased(Rcode::NOERROR, None, None);
        let zone = name("org");
        let data = Data::Name(zone.as_ref());
        reply.push(
            Section::Authority,
            Owner::Name(zone.as_ref()),
            Type::NS,
            50,
            data,
        );
        reply
    };
    let denial_30: Change = |config| config.denial.max_ttl = 30;
    let success_30: Change = |config| config.success.max_ttl = 30;
    let rows: Vec<(&str, Change, Reply, Option<u64>)> = vec![
        (
            "NODATA behind an alias",
            usual,
            aliased(Rcode::NOERROR, Some(5), None),
            Some(5),
        ),
        (
            "its signature",
            usual,
            aliased(Rcode::NOERROR, Some(5), Some(Type::RRSIG)),
            Some(5),
        ),
        (
            "as a denial",
            denial_30,
            aliased(Rcode::NOERROR, Some(99), None),
            Some(30),
        ),
        (
            "as no success",
            success_30,
            aliased(Rcode::NOERROR, Some(99), None),
            Some(99),
        ),
        (
            "no name behind an alias",
            success_30,
            aliased(Rcode::NXDOMAIN, Some(99), None),
            Some(99),
        ),
        (
            "an alias and data",
            denial_30,
            aliased(Rcode::NOERROR, None, Some(Type::A)),
            Some(600),
        ),
        (
            "an alias alone",
            usual,
            aliased(Rcode::NOERROR, None, None),
            None,
        ),
        ("an alias and a referral", usual, referred, None),
        (
            "denials disabled",
            no_denial,
            aliased(Rcode::NOERROR, Some(5), None),
            None,
        ),
        (
            "successes disabled",
            no_success,
            aliased(Rcode::NOERROR, Some(5), None),
            Some(5),
        ),
    ];
    for (case, change, reply, kept) in rows {
        let world = World::new(change);
        world.script(reply);
        world.ask(0).await;
        let Some(kept) = kept else {
            world.ask(0).await;
            assert_eq!(world.queries(), 2, "{case}");
            continue;
        };
        world.ask(kept - 1).await;
        assert_eq!(world.queries(), 1, "{case}");
        world.ask(kept).await;
        assert_eq!(world.queries(), 2, "{case}");
    }
    // An alias is the answer to queries for CNAME and ANY.
    for rtype in [Type::CNAME, Type::ANY, Type::DNAME] {
        let world = World::new(usual);
        world.script(aliased(Rcode::NOERROR, None, None));
        for _ in 0..2 {
            let mut query = world.query("example.org", secs(0));
            query.question.rtype = rtype;
            world.send(query).await;
        }
        let is_cached = rtype != Type::DNAME;
        assert_eq!(world.queries(), if is_cached { 1 } else { 2 }, "{rtype}");
    }
    // Replies without a record: cached for this number of seconds, or not at all.
    let rows: Vec<(Change, Reply, Option<u64>)> = vec![
        (usual, nodata(), Some(5)),
        (usual, nxdomain(), None),
        (usual, upstream(Rcode::SERVFAIL), Some(5)),
        (usual, upstream(Rcode::NOTIMP), Some(5)),
        (no_servfail, upstream(Rcode::SERVFAIL), None),
        (usual, upstream(Rcode::REFUSED), None),
        (usual, upstream(Rcode::FORMERR), None),
        (
            usual,
            Reply::failure(Rcode::SERVFAIL, Why::UpstreamTimeout),
            Some(5),
        ),
        (usual, Reply::failure(Rcode::SERVFAIL, Why::Overload), None),
        (usual, Reply::failure(Rcode::SERVFAIL, Why::NotSynced), None),
    ];
    for (change, reply, kept) in rows {
        let world = World::new(change);
        let case = format!("{} {:?}", reply.rcode, reply.why);
        world.script(reply);
        world.ask(0).await;
        let Some(kept) = kept else {
            world.ask(0).await;
            assert_eq!(world.queries(), 2, "{case}");
            continue;
        };
        world.ask(kept - 1).await;
        assert_eq!(world.queries(), 1, "{case}");
        world.ask(kept).await;
        assert_eq!(world.queries(), 2, "{case}");
    }
}

#[tokio::test]
async fn a_hit_has_aa_cleared_and_the_ad_of_the_upstream() {
    let world = World::new(|_| {});
    let mut reply = positive(100);
    reply.authoritative = true;
    reply.authentic = true;
    world.script(reply);
    let first = world.ask(0).await;
    assert!(!first.authoritative && first.authentic);
    let hit = world.ask(1).await;
    assert!(!hit.authoritative && hit.authentic);
    assert_eq!(world.queries(), 1);
}

/// The scope of an answer is cached with it (RFC 7871 section 7.2.2).
#[tokio::test]
async fn a_hit_has_the_client_subnet_scope_of_the_upstream() {
    let world = World::new(|_| {});
    let scope = b"\0\x01\x18\x10\xC0\0\x02";
    let mut reply = positive(100);
    reply.options.push(Options::SUBNET, scope);
    reply.options.push(Options::NSID, b"other");
    world.script(reply);
    let ask = async || {
        let mut query = world.query("example.org", secs(0));
        query
            .options
            .push(Options::SUBNET, b"\0\x01\x18\0\xC0\0\x02");
        world.send(query).await
    };
    ask().await;
    let hit = ask().await;
    assert_eq!(world.queries(), 1);
    assert_eq!(
        hit.options.iter().collect::<Vec<_>>(),
        [(Options::SUBNET, &scope[..])]
    );
}

#[tokio::test]
async fn queries_without_rd_are_answered_from_the_cache_and_not_cached() {
    let world = World::new(|_| {});
    let plain = |at| {
        let mut query = world.query("example.org", secs(at));
        query.receive(|it| it.recursion_desired = false);
        query
    };
    world.send(plain(0)).await;
    world.ask(0).await;
    assert_eq!(world.queries(), 2);
    assert_eq!(world.send(plain(1)).await.why, Why::Cached);
}

#[tokio::test]
async fn the_owner_has_the_letter_case_of_each_query() {
    let world = World::new(|_| {});
    world.send(world.query("Example.ORG", secs(0))).await;
    let reply = world.send(world.query("eXample.org", secs(1))).await;
    let owner = reply.owner(&reply.section(Section::Answer)[0]);
    assert!(matches!(owner, Owner::Question), "{owner:?}");
    assert_eq!(world.queries(), 1);
}

#[test]
fn a_hit_reuses_the_buffers_of_the_reply() {
    let verdict = Cacheability {
        kind: Kind::Success,
        ttl: 10,
    };
    let query = Query::internal(Question::new(name("example.org"), Type::A, Class::IN));
    let entry = Entry::new(verdict, KeyRef::of(&query), &positive(10), Instant::now());
    let mut reply = Reply::default();
    let buffers = |reply: &Reply| {
        let records = reply.section(Section::Answer);
        (records.as_ptr(), reply.data(&records[0]).as_ptr())
    };
    entry.write_to(&mut reply, 5, Why::Cached);
    let first = buffers(&reply);
    reply.clear();
    entry.write_to(&mut reply, 4, Why::Cached);
    assert_eq!(buffers(&reply), first);
    assert_eq!(ttls(&reply), [4]);
}

#[tokio::test]
async fn a_denial_and_an_answer_replace_each_other() {
    let world = World::new(|_| {});
    world.ask(0).await;
    world.script(with_soa(upstream(Rcode::NXDOMAIN), 60, 60));
    let mut refresh = world.query("example.org", secs(1));
    refresh.bypass.cache = true;
    world.send(refresh.clone()).await;
    assert_eq!(world.ask(2).await.rcode, Rcode::NXDOMAIN);
    assert_eq!(world.cache.store.lengths(), (0, 1));
    world.script(positive(300));
    world.send(refresh.clone()).await;
    assert_eq!(world.ask(2).await.rcode, Rcode::NOERROR);
    // A failure does not replace a fresh answer.
    world.script(upstream(Rcode::SERVFAIL));
    world.send(refresh.clone()).await;
    assert_eq!(world.ask(2).await.rcode, Rcode::NOERROR);
    // A reply from local data removes the cached one of an upstream.
    let mut own = positive(5);
    own.why = Why::ClusterRecord;
    world.script(own);
    world.send(refresh).await;
    assert_eq!(world.cache.store.lengths().0, 0);
}

#[tokio::test]
async fn popular_answers_are_prefetched_once_before_they_expire() {
    let world = World::new(|config| {
        config.prefetch = Some(Prefetch {
            amount: 3,
            gap: secs(60),
            percent: 10,
        });
    });
    world.script(positive(100));
    for at in [0, 89, 90] {
        world.ask(at).await;
    }
    world.settle().await;
    assert_eq!(world.queries(), 1, "two hits are not enough");
    world.script(positive(200));
    assert_eq!(ttls(&world.ask(91).await), [9]);
    world.ask(91).await;
    world.settle().await;
    assert_eq!(world.queries(), 2);
    assert_eq!(ttls(&world.ask(92).await), [199]);
    // The count of hits is inherited, unless there was a gap.
    world.ask(280).await;
    world.settle().await;
    assert_eq!(world.queries(), 2);
    world.ask(281).await;
    world.ask(282).await;
    world.settle().await;
    assert_eq!(world.queries(), 3);
}

fn stale(change: impl FnOnce(&mut ServeStale)) -> World {
    World::new(|config| {
        let mut stale = ServeStale::default();
        change(&mut stale);
        config.serve_stale = Some(stale);
        config.servfail = Duration::ZERO;
    })
}

#[tokio::test]
async fn expired_answers_are_served_at_once_and_refreshed() {
    let world = stale(|_| {});
    world.ask(0).await;
    world.script(positive(50));
    let reply = world.ask(310).await;
    assert_eq!((reply.why, ttls(&reply)), (Why::Stale, vec![0]));
    world.settle().await;
    let reply = world.ask(310).await;
    assert_eq!((reply.why, ttls(&reply)), (Why::Cached, vec![50]));
    assert_eq!(world.queries(), 2);
    // Not served any more an hour after its expiry.
    assert_eq!(world.ask(310 + 50 + 3600).await.why, Why::Upstream);
}

#[tokio::test]
async fn failed_refreshes_leave_expired_answers_and_are_not_retried_at_once() {
    let world = stale(|stale| {
        stale.recheck = secs(30);
        stale.ttl = 30;
    });
    world.ask(0).await;
    world.script(upstream(Rcode::SERVFAIL));
    for at in [310, 311, 320] {
        let reply = world.ask(at).await;
        assert_eq!((reply.why, ttls(&reply)), (Why::Stale, vec![30]));
        world.settle().await;
    }
    assert_eq!(world.queries(), 2);
    world.ask(341).await;
    world.settle().await;
    assert_eq!(world.queries(), 3);
}

#[tokio::test]
async fn one_refresh_of_an_entry_is_in_flight_at_a_time() {
    let world = stale(|_| {});
    world.ask(0).await;
    world.silence();
    for _ in 0..10 {
        assert_eq!(world.ask(310).await.why, Why::Stale);
        tokio::task::yield_now().await;
    }
    assert_eq!(world.queries(), 2);
}

#[tokio::test]
async fn verified_answers_are_fresh_if_the_upstream_answers() {
    let verify = |timeout| {
        stale(move |stale| {
            stale.verify = Some(Verify { timeout });
        })
    };
    let world = verify(None);
    world.ask(0).await;
    world.script(positive(50));
    let reply = world.ask(310).await;
    assert_eq!((reply.why, ttls(&reply)), (Why::Cached, vec![50]));
    world.script(upstream(Rcode::SERVFAIL));
    let reply = world.ask(400).await;
    assert_eq!((reply.rcode, reply.why), (Rcode::NOERROR, Why::Stale));
    world.script(with_soa(upstream(Rcode::NXDOMAIN), 60, 60));
    assert_eq!(world.ask(401).await.rcode, Rcode::NXDOMAIN);

    let world = verify(Some(Duration::from_millis(5)));
    world.ask(0).await;
    world.silence();
    assert_eq!(world.ask(310).await.why, Why::Stale);
}

/// A slow upstream delays one query, and no other.
#[tokio::test]
async fn only_the_query_that_started_a_refresh_is_pending_on_it() {
    for recheck in [0, 5] {
        let world = stale(|stale| {
            stale.verify = Some(Verify {
                timeout: Some(secs(3600)),
            });
            stale.recheck = secs(recheck);
        });
        world.ask(0).await;
        world.silence();
        let mut first = Box::pin(world.ask(310));
        assert!((&mut first).now_or_never().is_none());
        for at in [310, 311, 330] {
            let other = world.ask(at).now_or_never().expect("an answer at once");
            assert_eq!((other.why, ttls(&other)), (Why::Stale, vec![0]));
            tokio::task::yield_now().await;
        }
        assert_eq!(world.queries(), 2);
    }
}

#[tokio::test]
async fn an_alias_without_its_target_is_no_positive_answer() {
    let world = stale(|stale| stale.prefer_positive = true);
    world.ask(0).await;
    let target = name("target.org");
    let mut nodata = upstream(Rcode::NOERROR);
    nodata.answer(Type::CNAME, 600, Data::Name(target.as_ref()));
    world.script(with_soa(nodata, 60, 60));
    world.ask(310).await;
    world.settle().await;
    let reply = world.ask(311).await;
    assert_eq!(
        (reply.section(Section::Answer)[0].rtype, reply.why),
        (Type::A, Why::Stale)
    );
    world.settle().await;
    assert_eq!(world.queries(), 2);
}

#[tokio::test]
async fn positive_answers_can_be_preferred_to_denials() {
    for prefer_positive in [false, true] {
        let world = stale(|stale| stale.prefer_positive = prefer_positive);
        world.ask(0).await;
        world.script(with_soa(upstream(Rcode::NXDOMAIN), 60, 60));
        world.ask(310).await;
        world.settle().await;
        let reply = world.ask(311).await;
        if prefer_positive {
            assert_eq!((reply.rcode, reply.why), (Rcode::NOERROR, Why::Stale));
        } else {
            assert_eq!((reply.rcode, reply.why), (Rcode::NXDOMAIN, Why::Cached));
        }
        world.settle().await;
        assert_eq!(world.queries(), 2, "a fresh denial blocks a refresh");
    }
}

/// A cache that holds few entries.
#[tokio::test]
async fn the_last_good_answer_outlives_a_denial_and_a_failure_for_its_time() {
    let keeping = |config: &mut Config| {
        config.keep_last_good = Some(KeepLastGood {
            up_to: secs(3600),
            zones: zones("example.org"),
        });
    };
    for flip in [
        with_soa(upstream(Rcode::NXDOMAIN), 60, 60),
        upstream(Rcode::SERVFAIL),
        Reply::failure(Rcode::SERVFAIL, Why::UpstreamTimeout),
    ] {
        let world = World::new(keeping);
        assert_eq!(ttls(&world.ask(0).await), [300]);
        world.script(flip.clone());
        // Fresh: nothing has been asked.
        assert_eq!(ttls(&world.ask(299).await), [1]);
        // The first query after the expiry asks the upstream, the next one finds its reply in the cache.
        for at in [301, 302] {
            let reply = world.ask(at).await;
            assert_eq!(
                (reply.rcode, ttls(&reply)),
                (Rcode::NOERROR, vec![5]),
                "{flip:?}"
            );
            assert_eq!(reply.why, Why::Stale);
            let error = reply.extended_error.unwrap();
            assert!(
                error.code == 3 && error.text.starts_with("kept answer"),
                "{error:?}"
            );
        }
        assert_eq!(world.queries(), 2, "{flip:?}");
        // It recovers with the upstream.
        world.script(positive(100));
        assert_eq!(ttls(&world.ask(400).await), [100]);
        world.script(flip);
        // An hour after its expiry it is not good any more.
        assert_ne!(world.ask(500 + 3601).await.rcode, Rcode::NOERROR);
    }
}

#[tokio::test]
async fn the_last_good_answer_outlives_a_denial_or_failure_that_is_not_cached() {
    let failed = Reply::failure(Rcode::SERVFAIL, Why::UpstreamTimeout);
    for flip in [
        upstream(Rcode::NXDOMAIN),
        upstream(Rcode::NOERROR),
        upstream(Rcode::REFUSED),
        failed,
    ] {
        let world = World::new(|config| {
            config.keep_last_good = Some(KeepLastGood {
                up_to: secs(3600),
                zones: ZoneList::all(),
            });
            config.servfail = Duration::ZERO;
            config.denial.max_ttl = 0;
        });
        world.ask(0).await;
        world.script(flip.clone());
        for (at, queries) in [(301, 2), (302, 3)] {
            let reply = world.ask(at).await;
            let seen = (reply.rcode, ttls(&reply), reply.why);
            assert_eq!(seen, (Rcode::NOERROR, vec![5], Why::Stale), "{flip:?}");
            assert_eq!(world.queries(), queries, "the upstream is asked each time");
        }
        assert_eq!(world.ask(301 + 3600).await.rcode, flip.rcode);
    }
}

#[tokio::test]
async fn only_the_names_of_keep_last_good_are_kept() {
    let world = World::new(|config| {
        config.keep_last_good = Some(KeepLastGood {
            up_to: secs(3600),
            zones: zones("example.com"),
        });
    });
    world.ask(0).await;
    world.script(with_soa(upstream(Rcode::NXDOMAIN), 60, 60));
    assert_eq!(world.ask(301).await.rcode, Rcode::NXDOMAIN);
    // A name without a good answer is denied.
    let world = World::new(|config| {
        config.keep_last_good = Some(KeepLastGood {
            up_to: secs(3600),
            zones: ZoneList::all(),
        });
    });
    world.script(with_soa(upstream(Rcode::NXDOMAIN), 60, 60));
    assert_eq!(world.ask(0).await.rcode, Rcode::NXDOMAIN);
    assert_eq!(world.ask(1).await.rcode, Rcode::NXDOMAIN);
}

fn small() -> World {
    World::new(|config| config.success.capacity = 1)
}

impl World {
    /// Queries each of these new names twice.
    async fn flood(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            for _ in 0..2 {
                let query = self.query(&format!("n{number}.example.org"), secs(0));
                self.send(query).await;
            }
        }
    }
}

#[tokio::test]
async fn an_entry_that_the_store_evicted_is_not_used_any_more() {
    let world = small();
    for _ in 0..3 {
        world.ask(0).await;
    }
    assert_eq!(world.queries(), 1);
    world.flood(0..5000).await;
    assert_eq!(world.queries(), 5001);
    world.ask(0).await;
    assert_eq!(world.queries(), 5002);
}

#[tokio::test]
async fn an_entry_in_use_is_not_evicted() {
    let world = small();
    for number in 0..500 {
        for _ in 0..3 {
            world.ask(0).await;
        }
        world.flood(number * 10..(number + 1) * 10).await;
    }
    assert_eq!(world.queries(), 5001);
}

#[tokio::test]
async fn each_of_many_names_has_its_own_answer() {
    let world = World::new(|_| {});
    for round in 0..3 {
        for number in 0..8000u32 {
            let mut reply = upstream(Rcode::NOERROR);
            reply.answer(Type::A, 300, Data::A(number.into()));
            world.script(reply);
            let name = format!("n{number}.example.org");
            let reply = world.send(world.query(&name, secs(round))).await;
            let data = reply.data(&reply.section(Section::Answer)[0]);
            assert_eq!(data, number.to_be_bytes(), "{name}");
        }
    }
    assert_eq!(world.queries(), 8000);
}

/// Short and long replies of every kind.
fn shapes() -> Vec<Reply> {
    let mut aliases = positive(300);
    for (number, section) in Section::ALL.into_iter().cycle().take(9).enumerate() {
        let owner = name(&format!("Alias-{number}.Example.org"));
        let target = name(&format!("alias-{}.example.org", number + 1));
        let data = Data::Name(target.as_ref());
        aliases.push(section, Owner::Name(owner.as_ref()), Type::CNAME, 60, data);
    }
    let mut large = positive(300);
    for _ in 0..30 {
        large.answer(Type::TXT, 300, Data::Txt(&[b'x'; 100]));
    }
    let mut explained = with_soa(upstream(Rcode::NXDOMAIN), 60, 60);
    explained.authentic = true;
    explained.recursion_available = true;
    explained.extended_error = Some(crate::reply::ExtendedError {
        code: 15,
        text: "blocked".into(),
    });
    let nodata = with_soa(upstream(Rcode::NOERROR), 60, 60);
    vec![
        positive(300),
        aliases,
        large,
        explained,
        nodata,
        upstream(Rcode::SERVFAIL),
    ]
}

/// Queries for one name that differ in letter case, bits and EDNS.
fn spellings(text: &str) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for (id, spelled) in (1u16..).zip([text, &text.to_uppercase()]) {
        let question = Question::new(name(spelled), Type::A, Class::IN);
        for bits in 0..8u8 {
            let [desired, disabled, authentic] = [0, 1, 2].map(|bit| bits & 1 << bit == 0);
            for payload in [None, Some(100), Some(1232), Some(4096)] {
                let edns = payload.map(|udp_payload| Edns {
                    udp_payload,
                    version: 0,
                    dnssec_ok: bits == 4,
                    wants_nsid: false,
                    is_padded: false,
                });
                let none = Options::default();
                messages.push(crate::message::write_query(
                    id, &question, desired, disabled, authentic, edns, &none,
                ));
            }
        }
    }
    messages
}

/// Replies from the near cache and from the store have the same bytes, also with a reused scratch buffer.
#[tokio::test]
async fn replies_from_the_near_cache_and_from_the_store_are_identical() {
    use crate::server::{
        handle::{Arrival, MessageHandler, Scratch, Server},
        limits::Limits,
        route::Routes,
    };
    let world = World::new(|_| {});
    let routes = Routes::new([Arc::clone(&world.block).into()]);
    let pending = Limits::default().pending_limit(&world.metrics);
    let server = Server::new("dns://:53".into(), routes, pending, &world.metrics);
    let handler = MessageHandler::new(server);
    let handle = |scratch: &mut Scratch, message: &[u8], at: u64| {
        let arrival = Arrival {
            bytes: message,
            client: ([10, 0, 0, 9], 4000).into(),
            local: ([10, 0, 0, 1], 53).into(),
            transport: Transport::Udp,
            received: world.start + secs(at),
        };
        let mut out = Vec::new();
        handler.handle(&handler.server().routes(), scratch, &arrival, &mut out);
        out
    };
    let mut messages = Vec::new();
    for (number, shape) in shapes().into_iter().enumerate() {
        world.script(shape);
        for message in spellings(&format!("some-{number}.example.org")) {
            handle(&mut Scratch::default(), &message, 0);
            messages.push(message);
        }
    }
    let queries = world.queries();
    let mut scratch = Scratch::default();
    for message in &messages {
        // A new thread has an empty near cache, so that the store is used.
        let from_store = std::thread::scope(|scope| {
            let ask = || handle(&mut Scratch::default(), message, 2);
            scope.spawn(ask).join().unwrap()
        });
        for _ in 0..3 {
            assert_eq!(handle(&mut scratch, message, 2), from_store, "{message:?}");
        }
    }
    assert_eq!(world.queries(), queries);
}

#[tokio::test]
async fn an_entry_replaced_by_another_thread_is_not_used_any_more() {
    let world = Arc::new(World::new(|_| {}));
    for _ in 0..3 {
        assert_eq!(world.ask(0).await.rcode, Rcode::NOERROR);
    }
    world.script(with_soa(upstream(Rcode::NXDOMAIN), 60, 60));
    let other = Arc::clone(&world);
    let handle = tokio::runtime::Handle::current();
    let refresh = move || {
        let mut refresh = other.query("example.org", secs(1));
        refresh.bypass.cache = true;
        handle.block_on(other.send(refresh))
    };
    tokio::task::spawn_blocking(refresh).await.unwrap();
    assert_eq!(world.ask(2).await.rcode, Rcode::NXDOMAIN);
}

#[tokio::test]
async fn entries_and_bytes_are_bounded() {
    let capacity = rounded(1);
    assert_eq!(
        (capacity, rounded(10_000), rounded(1300)),
        (1024, 9984, 1280)
    );
    let fill = async |reply: Reply| {
        let world = small();
        world.script(reply);
        for number in 0..capacity * 2 {
            let query = world.query(&format!("n{number}.example.org"), secs(0));
            world.send(query).await;
        }
        let bytes = world.cache.store.weights().0;
        assert!(bytes <= (capacity as u64) * store::SHARE, "{bytes}");
        world.cache.store.lengths().0
    };
    let small = fill(positive(300)).await;
    assert!((capacity / 2..=capacity).contains(&small), "{small}");
    let mut large = positive(300);
    for _ in 0..100 {
        large.answer(Type::TXT, 300, Data::Txt(&[b'x'; 255]));
    }
    let large = fill(large).await;
    assert!((10..40).contains(&large), "{large}");
}

#[tokio::test]
async fn a_store_survives_a_reload_and_belongs_to_one_block() {
    let resources = crate::plugin::SharedResources::default();
    let metrics = Metrics::new();
    let build_in =
        |view: &'static str, resources: &crate::plugin::SharedResources, config: &Config| {
            testing::build(resources, &metrics, |build| {
                build.view = view;
                config.cache(build).unwrap().store
            })
        };
    let build = |resources: &_, config: &_| build_in("", resources, config);
    let config = Config::new(ZoneList::all());
    let mut other = config.clone();
    other.servfail = secs(1);
    let first = build(&resources, &config);
    let second_block = build(&resources, &config);
    assert!(!Arc::ptr_eq(&first, &second_block));
    let resources = resources.succeed();
    assert!(Arc::ptr_eq(&first, &build(&resources, &config)));
    assert!(!Arc::ptr_eq(&first, &build(&resources, &other)));
    // Two views of one zone each have a store, in whatever order they are built.
    let (inner, outer) = ("inner", "outer");
    let stores = [inner, outer].map(|view| build_in(view, &resources, &config));
    let resources = resources.succeed();
    let [second, first] = [outer, inner].map(|view| build_in(view, &resources, &config));
    assert!(Arc::ptr_eq(&stores[0], &first) && Arc::ptr_eq(&stores[1], &second));
}

/// The fields of a query that a response may depend on, and those that it must not depend on.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // bits of a query
struct Bits {
    name: &'static str,
    rtype: u16,
    class: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
    edns: bool,
    payload: u16,
    authentic_data: bool,
    tcp: bool,
    id: u16,
    network: &'static [u8],
}

fn bits() -> impl Strategy<Value = Bits> {
    let names = prop::sample::select(vec!["a.org", "A.org", "b.org", "a.b.org", r"a\.b.org", "."]);
    let rtypes = prop::sample::select(vec![1, 28, 255, 256, 65535]);
    let classes = prop::sample::select(vec![1, 3, 255, 257]);
    let flags = any::<(bool, bool, bool, bool, bool)>();
    let networks = prop::sample::select(vec![&b""[..], b"here", b"there"]);
    let numbers = (any::<u16>(), any::<u16>(), networks);
    (names, rtypes, classes, flags, numbers).prop_map(
        |(
            name,
            rtype,
            class,
            (dnssec_ok, checking_disabled, edns, authentic_data, tcp),
            (payload, id, network),
        )| Bits {
            name,
            rtype,
            class,
            dnssec_ok: dnssec_ok && edns,
            checking_disabled,
            edns,
            payload,
            authentic_data,
            tcp,
            id,
            network,
        },
    )
}

impl Bits {
    fn query(&self) -> Query {
        let question = Question::new(name(self.name), Type(self.rtype), Class(self.class));
        let mut query = Query::internal(question);
        query.receive(|it| it.checking_disabled = self.checking_disabled);
        query.receive(|it| {
            it.edns = self.edns.then_some(Edns {
                udp_payload: self.payload,
                version: 0,
                dnssec_ok: self.dnssec_ok,
                wants_nsid: false,
                is_padded: false,
            });
        });
        query.receive(|it| it.authentic_data = self.authentic_data);
        query.receive(|it| {
            it.transport = if self.tcp {
                Transport::Tcp
            } else {
                Transport::Udp
            };
        });
        query.receive(|it| it.id = self.id);
        if !self.network.is_empty() {
            query.options.push(Options::SUBNET, self.network);
        }
        query
    }

    /// All fields that an upstream's response may depend on.
    fn key_fields(&self) -> (String, u16, u16, bool, bool, &[u8]) {
        (
            self.name.to_lowercase(),
            self.rtype,
            self.class,
            self.dnssec_ok,
            self.checking_disabled,
            self.network,
        )
    }
}

proptest! {
    #[test]
    fn queries_share_an_entry_if_and_only_if_their_key_fields_are_equal(one in bits(), other in bits()) {
        let (first, second) = (one.query(), other.query());
        let config = Config::new(ZoneList::all());
        let store = Store::new(&config);
        let now = Instant::now();
        let verdict = Cacheability { kind: Kind::Success, ttl: 10 };
        let entry = Entry::new(verdict, KeyRef::of(&first), &positive(10), now);
        store.insert(entry, now, None);
        let found = store.find(KeyRef::of(&second), now, None);
        let shared = matches!(found, CacheLookup::Fresh(..));
        prop_assert_eq!(shared, one.key_fields() == other.key_fields());
    }
}

#[test]
fn only_queries_for_data_are_cached() {
    let config = Config::new(ZoneList::all());
    let judge = |rtype, opcode| {
        let mut query = Query::internal(Question::new(name("a.org"), rtype, Class::IN));
        query.receive(|it| it.opcode = opcode);
        Cacheability::of(&config, &query, &positive(10)).is_some()
    };
    assert!(judge(Type::A, Opcode::QUERY) && judge(Type::ANY, Opcode::QUERY));
    assert!(!judge(Type::AXFR, Opcode::QUERY) && !judge(Type::IXFR, Opcode::QUERY));
    assert!(!judge(Type::A, Opcode::NOTIFY));
}

#[tokio::test]
async fn a_cached_name_is_answered_from_local_data_once_it_exists_there() {
    let world = World::new(|_| {});
    world.script(with_soa(upstream(Rcode::NXDOMAIN), 60, 60));
    for _ in 0..2 {
        assert_eq!(world.ask(0).await.rcode, Rcode::NXDOMAIN);
    }
    *world.own.0.lock() = Some(name("example.org"));
    let reply = world.ask(1).await;
    assert_eq!((reply.why, ttls(&reply)), (Why::ClusterRecord, vec![0]));
    assert_eq!(world.queries(), 1);
}

#[tokio::test]
async fn metrics_count_hits_misses_and_stale_answers() {
    let world = stale(|_| {});
    world.ask(0).await;
    world.ask(1).await;
    world.ask(310).await;
    world.settle().await;
    world.script(with_soa(upstream(Rcode::NXDOMAIN), 60, 60));
    for _ in 0..3 {
        world.send(world.query("nobody.org", secs(0))).await;
    }
    let text = world.metrics.encode();
    let labels = r#"server="dns://:53",view="",zones=".""#;
    let typed = |kind| format!(r#"server="dns://:53",type="{kind}",view="",zones=".""#);
    let (success, denial) = (typed("success"), typed("denial"));
    for line in [
        format!("coredns_cache_requests_total{{{labels}}} 6"),
        format!("coredns_cache_misses_total{{{labels}}} 2"),
        format!("coredns_cache_served_stale_total{{{labels}}} 1"),
        format!("coredns_cache_prefetch_total{{{labels}}} 0"),
        format!("coredns_cache_drops_total{{{labels}}} 0"),
        format!("coredns_cache_hits_total{{{success}}} 2"),
        format!("coredns_cache_hits_total{{{denial}}} 2"),
        format!("coredns_cache_entries{{{success}}} 1"),
        format!("coredns_cache_entries{{{denial}}} 1"),
        format!("coredns_cache_evictions_total{{{success}}} 0"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn an_entry_and_its_reference_counts_fit_four_cache_lines() {
    assert!(size_of::<Entry>() <= 240, "{}", size_of::<Entry>());
    assert!(size_of::<Entry>() > 232, "{}", size_of::<Entry>());
}
