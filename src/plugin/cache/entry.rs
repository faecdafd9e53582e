//! One cached reply: whether it is cacheable, for how long, and its state of refresh.

use std::{
    sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{
    config::{Bounds, Config, Prefetch},
    key::{Flags, KeyRef},
};
use crate::{
    query::Query,
    reply::{Packed, Reply, Section, Why},
    wire::{NameRef, Opcode, Rcode, Type},
};

/// TTL in seconds of an answer without any record.
const NOTHING_TTL: u32 = 5;

/// Bytes of the largest reply that is cached. Names are stored uncompressed, so that a reply can be many
/// times the size of its message.
const MAX_WEIGHT: usize = 128 * 1024;

/// The kind of a cached reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records of the queried type, or a referral.
    Success,
    /// NXDOMAIN or NODATA (RFC 2308).
    Denial,
    /// The upstream failed (RFC 2308 section 7.1).
    Failure,
}

/// How a cacheable reply is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cacheability {
    /// Its kind.
    pub kind: Kind,
    /// Its TTL in seconds, from 1.
    pub ttl: u32,
}

/// A cached reply and its key.
#[derive(Debug)]
pub struct Entry {
    /// Its kind.
    pub kind: Kind,
    /// The packed reply, prefixed with the name and the options of the key.
    reply: Packed,
    name_length: u8,
    flags: Flags,
    key_hash: u32,
    store: AtomicU32,
    evicted: AtomicBool,
    /// Number of near caches that hold it.
    near: AtomicU16,
    stored: Instant,
    ttl: u32,
    hits: AtomicU32,
    last_hit: AtomicU32,
    refreshing: AtomicBool,
    recheck_from: AtomicU32,
}

impl Cacheability {
    /// Kind and TTL of a reply. `None` if it is not cacheable; its TTLs then stay as they are.
    pub fn of(config: &Config, query: &Query, reply: &Reply) -> Option<Self> {
        let rtype = query.question.rtype;
        // Types 128 to 254 are meta-types, OPT (41) is one too (RFC 6895 section 3.1).
        let is_data = rtype != Type::OPT && !(128..=254).contains(&rtype.0);
        if !reply.why.is_upstreams()
            || reply.truncated
            || query.opcode != Opcode::QUERY
            || !is_data
            || reply.weight() > MAX_WEIGHT
        {
            return None;
        }
        let has_soa = reply.has_authority(Type::SOA);
        let (kind, ttl) = match reply.rcode {
            Rcode::NOERROR if reply.answers(rtype) => {
                (Kind::Success, success_ttl(config.success, reply))
            }
            // With or without aliases, the SOA record bounds the TTL (RFC 2308 sections 2.1, 2.2).
            Rcode::NOERROR | Rcode::NXDOMAIN if has_soa => {
                (Kind::Denial, denial_ttl(config.denial, reply))
            }
            // An incomplete chain of aliases, without a denial: the next response may complete it.
            Rcode::NOERROR if !reply.section(Section::Answer).is_empty() => return None,
            // A referral: no data, but the name servers of a delegation.
            Rcode::NOERROR if reply.has_authority(Type::NS) => {
                (Kind::Success, success_ttl(config.success, reply))
            }
            // Without an SOA record a denial has no TTL (RFC 2308 section 5): cached briefly.
            Rcode::NOERROR => (Kind::Denial, NOTHING_TTL.min(config.denial.max_ttl)),
            Rcode::SERVFAIL | Rcode::NOTIMP => (Kind::Failure, ceil_seconds(config.servfail)),
            _ => return None,
        };
        (ttl > 0).then_some(Self { kind, ttl })
    }
}

impl Entry {
    /// The entry of `reply` for this key, with its lifetime from `now`. Of an OPT record, only the
    /// extended error and the client subnet are cached (RFC 6891 section 6.2.1).
    pub fn new(verdict: Cacheability, key: KeyRef<'_>, reply: &Reply, now: Instant) -> Self {
        let key_bytes = [key.name, key.options].concat();
        Self {
            kind: verdict.kind,
            reply: Packed::new(reply, &key_bytes),
            name_length: u8::try_from(key.name.len()).expect("a name has at most 255 bytes"),
            flags: key.flags,
            key_hash: key.hash,
            store: AtomicU32::new(0),
            evicted: AtomicBool::new(false),
            near: AtomicU16::new(0),
            stored: now,
            ttl: verdict.ttl,
            hits: AtomicU32::new(0),
            last_hit: AtomicU32::new(0),
            refreshing: AtomicBool::new(false),
            recheck_from: AtomicU32::new(0),
        }
    }

    /// Bytes of memory held.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.reply.weight()
    }

    /// Its key.
    pub fn key(&self) -> KeyRef<'_> {
        let (name, options) = self.reply.prefix().split_at(self.name_length.into());
        KeyRef {
            name,
            options,
            flags: self.flags,
            hash: self.key_hash,
        }
    }

    /// The number of the store that holds it.
    pub fn store(&self) -> u32 {
        self.store.load(Relaxed)
    }

    /// Sets the number of the store that holds it.
    pub fn set_store(&self, store: u32) {
        self.store.store(store, Relaxed);
    }

    /// Marks it as dropped from its store: near caches must not use it any more.
    pub fn mark_evicted(&self) {
        self.evicted.store(true, Relaxed);
    }

    /// Whether its store has dropped it.
    pub fn is_evicted(&self) -> bool {
        self.evicted.load(Relaxed)
    }

    /// Counts one more near cache that holds it. True for the first.
    pub fn hold_near(&self) -> bool {
        self.near.fetch_add(1, Relaxed) == 0
    }

    /// Counts one near cache less that holds it. True for the last.
    pub fn release_near(&self) -> bool {
        self.near.fetch_sub(1, Relaxed) == 1
    }

    /// The remaining TTL in seconds, rounded up; `None` once it has expired.
    pub fn remaining(&self, now: Instant) -> Option<u32> {
        let left = self.lifetime().checked_sub(self.age(now))?;
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
    }

    /// Whether it may be served: not expired, or by less than `up_to`. Failures are never served
    /// stale.
    pub fn is_stale_within(&self, up_to: Duration, now: Instant) -> bool {
        self.kind != Kind::Failure && self.age(now) < self.lifetime() + up_to
    }

    /// Writes the cached reply to `reply`, with `ttl` as the TTL of all records.
    pub fn write_to(&self, reply: &mut Reply, ttl: u32, why: Why) {
        self.reply.unpack(ttl, why, reply);
    }

    /// The TTL at insertion.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// Whether it has data of its type, which `prefer_positive` retains; a referral has none.
    pub fn has_answer(&self) -> bool {
        self.kind == Kind::Success && self.reply.has_answers()
    }

    /// Counts a hit. True if the entry is due for a prefetch: popular and about to expire.
    pub fn is_due(&self, prefetch: &Prefetch, now: Instant, remaining: u32) -> bool {
        let at = milliseconds(self.age(now));
        let gap = at.saturating_sub(self.last_hit.swap(at, Relaxed));
        let hits = if Duration::from_millis(gap.into()) >= prefetch.gap {
            self.hits.store(1, Relaxed);
            1
        } else {
            // Overflow would take 2^32 hits within one TTL.
            self.hits.fetch_add(1, Relaxed) + 1
        };
        let last_part = u64::from(self.ttl) * u64::from(prefetch.percent) / 100;
        hits >= prefetch.amount && u64::from(remaining) <= last_part.max(1)
    }

    /// Copies the number of hits from the entry that this one replaces.
    pub fn inherit_hits(&self, other: &Self) {
        self.hits.store(other.hits.load(Relaxed), Relaxed);
    }

    /// Whether a refresh is in flight, or failed less than `recheck` ago.
    pub fn is_refresh_blocked(&self, now: Instant) -> bool {
        self.refreshing.load(Relaxed)
            || milliseconds(self.age(now)) < self.recheck_from.load(Relaxed)
    }

    /// Begins a refresh, unless one is in flight or failed less than `recheck` ago.
    pub fn begin_refresh(&self, now: Instant) -> bool {
        !self.is_refresh_blocked(now) && !self.refreshing.swap(true, Relaxed)
    }

    /// Ends a refresh; a failed one is not retried for `recheck`.
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

/// Completes a reply from an upstream: every TTL is `ttl`, since a reply expires as one unit; and AA is
/// cleared, so that it does not depend on whether the reply was cached.
pub fn finish(reply: &mut Reply, ttl: u32) {
    reply.authoritative = false;
    for record in reply.records_mut() {
        record.ttl = ttl;
    }
}

fn success_ttl(bounds: Bounds, reply: &Reply) -> u32 {
    bounds.clamp(shortest(reply))
}

/// The TTL of a denial: at most the TTL of its SOA record and that record's minimum field (RFC 2308
/// section 5).
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
    // A TTL with its most significant bit set counts as 0 (RFC 2181 section 8).
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

fn ceil_seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// At most 49 days.
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
