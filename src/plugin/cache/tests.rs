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
    metrics::Metrics,
    plugin::{
        Block, Door, Outcome, ZoneList,
        testing::{self, Place},
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

/// Plays the upstream: answers as told, or not at all, and counts.
struct Inner {
    reply: Mutex<Option<Reply>>,
    asked: AtomicUsize,
}

impl Plugin for Inner {
    fn name(&self) -> &'static str {
        "inner"
    }

    fn ask(&self, _: &Context<'_>, _: &mut Query, reply: &mut Reply) -> Step {
        self.asked.fetch_add(1, Relaxed);
        match &*self.reply.lock() {
            Some(scripted) => {
                reply.copy_from(scripted);
                Step::Answer
            }
            None => Step::Wait(Box::pin(std::future::pending())),
        }
    }
}

/// Plays `kubernetes` or `hosts`: answers for the names that it has, passes on the others.
#[derive(Default)]
struct Own(Mutex<Option<Name>>);

impl Plugin for Own {
    fn name(&self) -> &'static str {
        "own"
    }

    fn ask(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if *self.0.lock() != Some(query.question.lower) {
            return Step::Pass;
        }
        reply.answer(Type::A, 0, Data::A(Ipv4Addr::LOCALHOST));
        reply.why = Why::ClusterRecord;
        Step::Answer
    }
}

/// A server of one block: data of its own, a cache, an upstream.
struct World {
    block: Arc<Block>,
    own: Arc<Own>,
    inner: Arc<Inner>,
    cache: Cache,
    metrics: Arc<Metrics>,
    start: Instant,
}

struct Server(Arc<Block>);

impl Door for Server {
    fn answer(self: Arc<Self>, mut query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        Box::pin(async move {
            let door: Arc<dyn Door> = Arc::clone(&self) as _;
            let context = Context {
                door: &door,
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
            asked: AtomicUsize::new(0),
        });
        let place = Place::new(vec![
            Arc::clone(&own) as _,
            Arc::new(cache.clone()),
            Arc::clone(&inner) as _,
        ]);
        Self {
            block: place.block,
            own,
            inner,
            cache,
            metrics,
            // Ahead of the clock, so that the queries' time is the one that counts.
            start: Instant::now() + secs(1_000_000),
        }
    }

    fn query(&self, text: &str, at: Duration) -> Query {
        let mut query = Query::internal(Question::new(name(text), Type::A, Class::IN));
        query.received = self.start + at;
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

    fn asked(&self) -> usize {
        self.inner.asked.load(Relaxed)
    }

    /// Lets the refreshes that are under way come to their end.
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
async fn a_second_asker_is_answered_from_memory() {
    let world = World::new(|_| {});
    let first = world.ask(0).await;
    assert_eq!((first.why, ttls(&first)), (Why::Upstream, vec![300]));
    let second = world.ask(100).await;
    assert_eq!((second.why, ttls(&second)), (Why::Cached, vec![200]));
    assert_eq!(second.data(&second.section(Section::Answer)[0]), A.octets());
    assert_eq!(ttls(&world.ask(299).await), [1]);
    assert_eq!(world.asked(), 1);
    assert_eq!(ttls(&world.ask(300).await), [300]);
    assert_eq!(world.asked(), 2);
}

/// What of a reply is kept, and with which TTL it is given at first and three seconds later.
#[tokio::test]
async fn replies_are_kept_as_long_as_the_rules_say() {
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
    // (case, options, reply, first TTL, TTL three seconds later where it is kept)
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
        assert_eq!(world.asked(), if later.is_some() { 1 } else { 2 }, "{case}");
    }
    // Aliases without what they lead to: a denial where an SOA record vouches for it, else nothing.
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
            assert_eq!(world.asked(), 2, "{case}");
            continue;
        };
        world.ask(kept - 1).await;
        assert_eq!(world.asked(), 1, "{case}");
        world.ask(kept).await;
        assert_eq!(world.asked(), 2, "{case}");
    }
    // An alias is the answer where it is asked for, and where anything is.
    for rtype in [Type::CNAME, Type::ANY, Type::DNAME] {
        let world = World::new(usual);
        world.script(aliased(Rcode::NOERROR, None, None));
        for _ in 0..2 {
            let mut query = world.query("example.org", secs(0));
            query.question.rtype = rtype;
            world.send(query).await;
        }
        let is_kept = rtype != Type::DNAME;
        assert_eq!(world.asked(), if is_kept { 1 } else { 2 }, "{rtype}");
    }
    // Replies without a record: kept for so many seconds, or not at all.
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
            assert_eq!(world.asked(), 2, "{case}");
            continue;
        };
        world.ask(kept - 1).await;
        assert_eq!(world.asked(), 1, "{case}");
        world.ask(kept).await;
        assert_eq!(world.asked(), 2, "{case}");
    }
}

#[tokio::test]
async fn a_hit_is_nobodys_authority_and_keeps_what_the_upstream_vouches_for() {
    let world = World::new(|_| {});
    let mut reply = positive(100);
    reply.authoritative = true;
    reply.authentic = true;
    world.script(reply);
    let first = world.ask(0).await;
    assert!(!first.authoritative && first.authentic);
    let hit = world.ask(1).await;
    assert!(!hit.authoritative && hit.authentic);
    assert_eq!(world.asked(), 1);
}

/// The scope of an answer goes with it (RFC 7871 section 7.2.2).
#[tokio::test]
async fn a_hit_says_for_which_networks_it_is() {
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
    assert_eq!(world.asked(), 1);
    assert_eq!(
        hit.options.iter().collect::<Vec<_>>(),
        [(Options::SUBNET, &scope[..])]
    );
}

#[tokio::test]
async fn whoever_does_not_want_recursion_reads_and_does_not_write() {
    let world = World::new(|_| {});
    let plain = |at| {
        let mut query = world.query("example.org", secs(at));
        query.recursion_desired = false;
        query
    };
    world.send(plain(0)).await;
    world.ask(0).await;
    assert_eq!(world.asked(), 2);
    assert_eq!(world.send(plain(1)).await.why, Why::Cached);
}

#[tokio::test]
async fn the_owner_is_spelled_as_each_asker_spells_it() {
    let world = World::new(|_| {});
    world.send(world.query("Example.ORG", secs(0))).await;
    let reply = world.send(world.query("eXample.org", secs(1))).await;
    let owner = reply.owner(&reply.section(Section::Answer)[0]);
    assert!(matches!(owner, Owner::Question), "{owner:?}");
    assert_eq!(world.asked(), 1);
}

#[test]
fn a_hit_is_written_into_the_room_that_is_there() {
    let verdict = Verdict {
        kind: Kind::Success,
        ttl: 10,
    };
    let query = Query::internal(Question::new(name("example.org"), Type::A, Class::IN));
    let entry = Entry::new(verdict, KeyRef::of(&query), &positive(10), Instant::now());
    let mut reply = Reply::default();
    let place = |reply: &Reply| {
        let records = reply.section(Section::Answer);
        (records.as_ptr(), reply.data(&records[0]).as_ptr())
    };
    entry.give(&mut reply, 5, Why::Cached);
    let first = place(&reply);
    reply.clear();
    entry.give(&mut reply, 4, Why::Cached);
    assert_eq!(place(&reply), first);
    assert_eq!(ttls(&reply), [4]);
}

#[tokio::test]
async fn a_denial_and_an_answer_do_not_outlive_each_other() {
    let world = World::new(|_| {});
    world.ask(0).await;
    world.script(with_soa(upstream(Rcode::NXDOMAIN), 60, 60));
    let mut refresh = world.query("example.org", secs(1));
    refresh.refresh = true;
    world.send(refresh.clone()).await;
    assert_eq!(world.ask(2).await.rcode, Rcode::NXDOMAIN);
    assert_eq!(world.cache.store.lengths(), (0, 1));
    world.script(positive(300));
    world.send(refresh.clone()).await;
    assert_eq!(world.ask(2).await.rcode, Rcode::NOERROR);
    // A failure does not take the place of what is good.
    world.script(upstream(Rcode::SERVFAIL));
    world.send(refresh.clone()).await;
    assert_eq!(world.ask(2).await.rcode, Rcode::NOERROR);
    // A name that has become the cluster's is an upstream's no longer.
    let mut own = positive(5);
    own.why = Why::ClusterRecord;
    world.script(own);
    world.send(refresh).await;
    assert_eq!(world.cache.store.lengths().0, 0);
}

#[tokio::test]
async fn popular_answers_are_fetched_before_they_expire_and_once() {
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
    assert_eq!(world.asked(), 1, "two hits are not enough");
    world.script(positive(200));
    assert_eq!(ttls(&world.ask(91).await), [9]);
    world.ask(91).await;
    world.settle().await;
    assert_eq!(world.asked(), 2);
    assert_eq!(ttls(&world.ask(92).await), [199]);
    // Its popularity lasts, unless it is left alone for longer than the gap.
    world.ask(280).await;
    world.settle().await;
    assert_eq!(world.asked(), 2);
    world.ask(281).await;
    world.ask(282).await;
    world.settle().await;
    assert_eq!(world.asked(), 3);
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
async fn expired_answers_are_given_at_once_and_fetched_anew() {
    let world = stale(|_| {});
    world.ask(0).await;
    world.script(positive(50));
    let reply = world.ask(310).await;
    assert_eq!((reply.why, ttls(&reply)), (Why::Stale, vec![0]));
    world.settle().await;
    let reply = world.ask(310).await;
    assert_eq!((reply.why, ttls(&reply)), (Why::Cached, vec![50]));
    assert_eq!(world.asked(), 2);
    // An hour past its time it is gone.
    assert_eq!(world.ask(310 + 50 + 3600).await.why, Why::Upstream);
}

#[tokio::test]
async fn failures_leave_expired_answers_and_are_not_repeated_at_once() {
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
    assert_eq!(world.asked(), 2);
    world.ask(341).await;
    world.settle().await;
    assert_eq!(world.asked(), 3);
}

#[tokio::test]
async fn one_refresh_an_entry_is_under_way() {
    let world = stale(|_| {});
    world.ask(0).await;
    world.silence();
    for _ in 0..10 {
        assert_eq!(world.ask(310).await.why, Why::Stale);
        tokio::task::yield_now().await;
    }
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn verified_answers_are_fresh_where_the_upstream_speaks() {
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

/// A slow upstream costs one query its patience, and no other anything.
#[tokio::test]
async fn only_the_query_that_started_a_refresh_waits_for_it() {
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
        assert_eq!(world.asked(), 2);
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
    assert_eq!(world.asked(), 2);
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
        assert_eq!(
            world.asked(),
            2,
            "the denial says that asking again is of no use"
        );
    }
}

/// A cache that holds few entries.
fn small() -> World {
    World::new(|config| config.success.capacity = 1)
}

impl World {
    /// Asks for so many names that nobody has asked for before, each twice.
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
async fn what_the_store_has_driven_out_is_not_given_any_more() {
    let world = small();
    for _ in 0..3 {
        world.ask(0).await;
    }
    assert_eq!(world.asked(), 1);
    world.flood(0..5000).await;
    assert_eq!(world.asked(), 5001);
    world.ask(0).await;
    assert_eq!(world.asked(), 5002);
}

#[tokio::test]
async fn what_is_asked_for_again_and_again_is_not_driven_out() {
    let world = small();
    for number in 0..500 {
        for _ in 0..3 {
            world.ask(0).await;
        }
        world.flood(number * 10..(number + 1) * 10).await;
    }
    assert_eq!(world.asked(), 5001);
}

#[tokio::test]
async fn many_names_are_each_given_their_own_answer() {
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
    assert_eq!(world.asked(), 8000);
}

/// Replies of many shapes: short and long, of every kind.
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

/// What different clients write who ask for the same name.
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

/// However a reply comes about, and whatever was asked before in the same room, its octets are the
/// same.
#[tokio::test]
async fn what_is_near_is_octet_for_octet_what_is_in_the_store() {
    use crate::server::{
        handle::{Arrival, Entrance, Scratch, Server},
        limits::Limits,
        route::Routes,
    };
    let world = World::new(|_| {});
    let routes = Routes::new([Arc::clone(&world.block).into()]);
    let pending = Limits::default().pending_limit(&world.metrics);
    let server = Server::new("dns://:53".into(), routes, pending, &world.metrics);
    let entrance = Entrance::new(server);
    let handle = |scratch: &mut Scratch, octets: &[u8], at: u64| {
        let arrival = Arrival {
            octets,
            client: ([10, 0, 0, 9], 4000).into(),
            local: ([10, 0, 0, 1], 53).into(),
            transport: Transport::Udp,
            received: world.start + secs(at),
        };
        let mut out = Vec::new();
        entrance.handle(&entrance.server().routes(), scratch, &arrival, &mut out);
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
    let asked = world.asked();
    let mut scratch = Scratch::default();
    for message in &messages {
        // A thread that has given nothing yet must ask the store.
        let far = std::thread::scope(|scope| {
            let ask = || handle(&mut Scratch::default(), message, 2);
            scope.spawn(ask).join().unwrap()
        });
        for _ in 0..3 {
            assert_eq!(handle(&mut scratch, message, 2), far, "{message:?}");
        }
    }
    assert_eq!(world.asked(), asked);
}

#[tokio::test]
async fn another_threads_news_are_heeded_at_once() {
    let world = Arc::new(World::new(|_| {}));
    for _ in 0..3 {
        assert_eq!(world.ask(0).await.rcode, Rcode::NOERROR);
    }
    world.script(with_soa(upstream(Rcode::NXDOMAIN), 60, 60));
    let other = Arc::clone(&world);
    let handle = tokio::runtime::Handle::current();
    let refresh = move || {
        let mut refresh = other.query("example.org", secs(1));
        refresh.refresh = true;
        handle.block_on(other.send(refresh))
    };
    tokio::task::spawn_blocking(refresh).await.unwrap();
    assert_eq!(world.ask(2).await.rcode, Rcode::NXDOMAIN);
}

#[tokio::test]
async fn entries_and_octets_are_bounded() {
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
        let octets = world.cache.store.weights().0;
        assert!(octets <= (capacity as u64) * store::SHARE, "{octets}");
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
async fn a_store_outlives_a_reload_and_belongs_to_one_block() {
    let parts = crate::plugin::Parts::default();
    let metrics = Metrics::new();
    let build_in = |view: &'static str, parts: &crate::plugin::Parts, config: &Config| {
        testing::build(parts, &metrics, |build| {
            build.view = view;
            config.cache(build).unwrap().store
        })
    };
    let build = |parts: &_, config: &_| build_in("", parts, config);
    let config = Config::new(ZoneList::all());
    let mut other = config.clone();
    other.servfail = secs(1);
    let first = build(&parts, &config);
    let second_block = build(&parts, &config);
    assert!(!Arc::ptr_eq(&first, &second_block));
    let parts = parts.succeed();
    assert!(Arc::ptr_eq(&first, &build(&parts, &config)));
    assert!(!Arc::ptr_eq(&first, &build(&parts, &other)));
    // Two views of one zone keep theirs, whichever stands first.
    let (inner, outer) = ("inner", "outer");
    let stores = [inner, outer].map(|view| build_in(view, &parts, &config));
    let parts = parts.succeed();
    let [second, first] = [outer, inner].map(|view| build_in(view, &parts, &config));
    assert!(Arc::ptr_eq(&stores[0], &first) && Arc::ptr_eq(&stores[1], &second));
}

/// The bits of a query that an answer may depend on, and those that it may not.
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
        query.checking_disabled = self.checking_disabled;
        query.edns = self.edns.then_some(Edns {
            udp_payload: self.payload,
            version: 0,
            dnssec_ok: self.dnssec_ok,
            wants_nsid: false,
            is_padded: false,
        });
        query.authentic_data = self.authentic_data;
        query.transport = if self.tcp {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        query.id = self.id;
        if !self.network.is_empty() {
            query.options.push(Options::SUBNET, self.network);
        }
        query
    }

    /// Everything that an upstream's answer may depend on.
    fn telling(&self) -> (String, u16, u16, bool, bool, &[u8]) {
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
    fn queries_share_an_answer_if_and_only_if_it_cannot_differ(one in bits(), other in bits()) {
        let (first, second) = (one.query(), other.query());
        let config = Config::new(ZoneList::all());
        let store = Store::new(&config);
        let now = Instant::now();
        let verdict = Verdict { kind: Kind::Success, ttl: 10 };
        let entry = Entry::new(verdict, KeyRef::of(&first), &positive(10), now);
        store.insert(entry, now, None);
        let found = store.find(KeyRef::of(&second), now, None);
        let shared = matches!(found, Found::Fresh(..));
        prop_assert_eq!(shared, one.telling() == other.telling());
    }
}

#[test]
fn only_questions_for_data_are_kept() {
    let config = Config::new(ZoneList::all());
    let judge = |rtype, opcode| {
        let mut query = Query::internal(Question::new(name("a.org"), rtype, Class::IN));
        query.opcode = opcode;
        Verdict::of(&config, &query, &positive(10)).is_some()
    };
    assert!(judge(Type::A, Opcode::QUERY) && judge(Type::ANY, Opcode::QUERY));
    assert!(!judge(Type::AXFR, Opcode::QUERY) && !judge(Type::IXFR, Opcode::QUERY));
    assert!(!judge(Type::A, Opcode::NOTIFY));
}

#[tokio::test]
async fn a_name_that_fell_through_is_its_owners_as_soon_as_it_has_one() {
    let world = World::new(|_| {});
    world.script(with_soa(upstream(Rcode::NXDOMAIN), 60, 60));
    for _ in 0..2 {
        assert_eq!(world.ask(0).await.rcode, Rcode::NXDOMAIN);
    }
    *world.own.0.lock() = Some(name("example.org"));
    let reply = world.ask(1).await;
    assert_eq!((reply.why, ttls(&reply)), (Why::ClusterRecord, vec![0]));
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn what_happens_is_counted() {
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
fn an_entry_and_its_counts_of_holders_are_four_lines_of_memory() {
    assert!(size_of::<Entry>() <= 240, "{}", size_of::<Entry>());
    assert!(size_of::<Entry>() > 232, "{}", size_of::<Entry>());
}
