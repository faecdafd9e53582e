//! One remembered reply: whether a reply may be remembered at all, for how long, and what of it is
//! given to the next asker.

use std::{
    sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{
    config::{Bounds, Config, Prefetch},
    key::{KeyRef, Rest},
};
use crate::{
    query::Query,
    reply::{Packed, Reply, Section, Why},
    wire::{NameRef, Opcode, Rcode, Type},
};

/// Seconds that an answer without any record says it may be kept.
const NOTHING_TTL: u32 = 5;

/// Octets of a reply that is not remembered any more: names in it are uncompressed, so that a
/// message can be many times its size.
const TOO_HEAVY: usize = 128 * 1024;

/// What sort of word is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There are records of the type that was asked for, or a referral.
    Success,
    /// There is no such name or no such type (RFC 2308).
    Denial,
    /// The upstream could not say (RFC 2308 §7.1).
    Failure,
}

/// A judged reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What sort of word it is.
    pub kind: Kind,
    /// Seconds that it may be kept, from 1.
    pub ttl: u32,
}

/// A remembered reply, and what it is the reply to.
#[derive(Debug)]
pub struct Entry {
    /// What sort of word it is.
    pub kind: Kind,
    /// With the key's name and options beside it, the name first.
    reply: Packed,
    name_length: u8,
    rest: Rest,
    store: AtomicU32,
    gone: AtomicBool,
    /// Tables of threads that hold it: see `near`.
    near: AtomicU16,
    stored: Instant,
    ttl: u32,
    hits: AtomicU32,
    last_hit: AtomicU64,
    refreshing: AtomicBool,
    recheck_from: AtomicU64,
}

impl Verdict {
    /// Judges a reply; nothing where it must not be kept and keeps its own TTLs.
    pub fn of(config: &Config, query: &Query, reply: &Reply) -> Option<Self> {
        let asked = query.question.rtype;
        // 128 to 254 ask for transactions, not for data (RFC 6895 §3.1); 41 is OPT.
        let is_data = asked != Type::OPT && !(128..=254).contains(&asked.0);
        if !reply.why.is_upstreams()
            || reply.truncated
            || query.opcode != Opcode::QUERY
            || !is_data
            || reply.weight() > TOO_HEAVY
        {
            return None;
        }
        let has_soa = reply.has_authority(Type::SOA);
        let (kind, ttl) = match reply.rcode {
            Rcode::NOERROR if reply.answers(asked) => {
                (Kind::Success, success_ttl(config.success, reply))
            }
            // Aliases may lead there: the SOA record bounds the time (RFC 2308 sections 2.1, 2.2).
            Rcode::NOERROR | Rcode::NXDOMAIN if has_soa => {
                (Kind::Denial, denial_ttl(config.denial, reply))
            }
            // A chain of aliases without its end, and without a denial: the next query may bring
            // the rest.
            Rcode::NOERROR if !reply.section(Section::Answer).is_empty() => return None,
            // A referral: no data, and where they are to be had.
            Rcode::NOERROR if reply.has_authority(Type::NS) => {
                (Kind::Success, success_ttl(config.success, reply))
            }
            // Without an SOA nobody says how long it holds (RFC 2308 §5).
            Rcode::NOERROR => (Kind::Denial, NOTHING_TTL.min(config.denial.max_ttl)),
            Rcode::SERVFAIL | Rcode::NOTIMP => (Kind::Failure, whole_seconds(config.servfail)),
            _ => return None,
        };
        (ttl > 0).then_some(Self { kind, ttl })
    }
}

impl Entry {
    /// Remembers `reply` to what has this key as it is, from `now` on. Of an OPT record, nothing is
    /// remembered but what went wrong, and the networks that the answer is for (RFC 6891 §6.2.1).
    pub fn new(verdict: Verdict, key: KeyRef<'_>, reply: &Reply, now: Instant) -> Self {
        let key_octets = [key.name, key.options].concat();
        Self {
            kind: verdict.kind,
            reply: Packed::new(reply, &key_octets),
            name_length: u8::try_from(key.name.len()).expect("a name has at most 255 octets"),
            rest: key.rest,
            store: AtomicU32::new(0),
            gone: AtomicBool::new(false),
            near: AtomicU16::new(0),
            stored: now,
            ttl: verdict.ttl,
            hits: AtomicU32::new(0),
            last_hit: AtomicU64::new(0),
            refreshing: AtomicBool::new(false),
            recheck_from: AtomicU64::new(0),
        }
    }

    /// Octets held.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.reply.weight()
    }

    /// What it is the reply to.
    pub fn key(&self) -> KeyRef<'_> {
        let (name, options) = self.reply.prefix().split_at(self.name_length.into());
        KeyRef {
            name,
            options,
            rest: self.rest,
        }
    }

    /// The number of the store that holds it.
    pub fn store(&self) -> u32 {
        self.store.load(Relaxed)
    }

    /// The store with this number holds it from now on.
    pub fn enter(&self, store: u32) {
        self.store.store(store, Relaxed);
    }

    /// Its store has let go of it: whoever still holds it must ask the store again.
    pub fn leave(&self) {
        self.gone.store(true, Relaxed);
    }

    /// Whether its store has let go of it.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// One more thread's table holds it. True for the first.
    pub fn hold_near(&self) -> bool {
        self.near.fetch_add(1, Relaxed) == 0
    }

    /// One thread's table fewer holds it. True for the last.
    pub fn release_near(&self) -> bool {
        self.near.fetch_sub(1, Relaxed) == 1
    }

    /// Seconds that it is still good for, rounded up; none once it has expired.
    pub fn remaining(&self, now: Instant) -> Option<u32> {
        let left = self.lifetime().checked_sub(self.age(now))?;
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
    }

    /// Whether it has expired, by no more than `up_to`. Failures are never good any longer than
    /// their time.
    pub fn is_stale_within(&self, up_to: Duration, now: Instant) -> bool {
        self.kind != Kind::Failure && self.age(now) < self.lifetime() + up_to
    }

    /// Gives it to whoever asked: as remembered, all TTLs `ttl`.
    pub fn give(&self, reply: &mut Reply, ttl: u32, why: Why) {
        self.reply.unpack(ttl, why, reply);
    }

    /// The TTL that it was kept with.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// Whether it has data of its type, which `prefer_positive` holds on to; a referral has none.
    pub fn has_answer(&self) -> bool {
        self.kind == Kind::Success && self.reply.has_answers()
    }

    /// Counts a hit, and says whether the entry is popular and about to expire.
    pub fn is_due(&self, prefetch: &Prefetch, now: Instant, remaining: u32) -> bool {
        let at = milliseconds(self.age(now));
        let gap = at.saturating_sub(self.last_hit.swap(at, Relaxed));
        let hits = if Duration::from_millis(gap) >= prefetch.gap {
            self.hits.store(1, Relaxed);
            1
        } else {
            // Wrapping around would take four thousand million hits within one TTL.
            self.hits.fetch_add(1, Relaxed) + 1
        };
        let last_part = u64::from(self.ttl) * u64::from(prefetch.percent) / 100;
        hits >= prefetch.amount && u64::from(remaining) <= last_part.max(1)
    }

    /// Takes over the popularity of the entry that this one replaces.
    pub fn succeed(&self, other: &Self) {
        self.hits.store(other.hits.load(Relaxed), Relaxed);
    }

    /// Whether a refresh under way, or one that failed a short while ago, forbids another.
    pub fn is_settled(&self, now: Instant) -> bool {
        self.refreshing.load(Relaxed)
            || milliseconds(self.age(now)) < self.recheck_from.load(Relaxed)
    }

    /// Begins a refresh, unless one is under way or one failed a short while ago.
    pub fn begin_refresh(&self, now: Instant) -> bool {
        !self.is_settled(now) && !self.refreshing.swap(true, Relaxed)
    }

    /// Ends a refresh; a failed one is not tried again for `recheck`.
    pub fn end_refresh(&self, failed: bool, recheck: Duration, now: Instant) {
        if failed {
            self.recheck_from
                .store(milliseconds(self.age(now) + recheck), Relaxed);
        }
        self.refreshing.store(false, Relaxed);
    }

    fn lifetime(&self) -> Duration {
        Duration::from_secs(self.ttl.into())
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored)
    }
}

/// Makes a reply of upstream data ready: every TTL is `ttl`, so that a reply is fresh or expired as
/// a whole; and we are nobody's authority, so that AA does not come and go with what is remembered.
pub fn finish(reply: &mut Reply, ttl: u32) {
    reply.authoritative = false;
    for record in reply.records_mut() {
        record.ttl = ttl;
    }
}

fn success_ttl(bounds: Bounds, reply: &Reply) -> u32 {
    bounds.clamp(shortest(reply))
}

/// A denial lasts no longer than its SOA record and that record's minimum field (RFC 2308 §5).
fn denial_ttl(bounds: Bounds, reply: &Reply) -> u32 {
    let minima = reply
        .section(Section::Authority)
        .iter()
        .filter(|record| record.rtype == Type::SOA)
        .filter_map(|record| soa_minimum(reply.data(record)));
    bounds.clamp(minima.fold(shortest(reply), u32::min))
}

fn shortest(reply: &Reply) -> u32 {
    let ttls = reply.records().map(|record| record.ttl);
    // A TTL with its first bit set counts as 0 (RFC 2181 §8).
    let ttls = ttls.map(|ttl| {
        if ttl > i32::MAX.unsigned_abs() {
            0
        } else {
            ttl
        }
    });
    ttls.min().unwrap_or(NOTHING_TTL)
}

fn soa_minimum(data: &[u8]) -> Option<u32> {
    let primary = NameRef::from_wire(data).ok()?.as_wire().len();
    let mailbox = NameRef::from_wire(data.get(primary..)?)
        .ok()?
        .as_wire()
        .len();
    let numbers = data.get(primary + mailbox..)?.get(16..20)?;
    Some(u32::from_be_bytes(numbers.try_into().ok()?))
}

fn whole_seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
