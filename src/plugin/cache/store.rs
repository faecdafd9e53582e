//! The store of a cache: a bounded partition for positive answers, and one for denials and failures.
//!
//! Each partition is bounded by weight: an entry weighs its bytes, but no less than [`WEIGHT`], and a
//! partition holds `capacity` times [`WEIGHT`]. So it never holds more than `capacity` entries, and
//! never more bytes than that, whatever upstreams send. The rest of `capacity` times [`SHARE`] bytes is
//! for entries that were dropped from the store and are still held by a near cache ([`near`]).
//!
//! The store reads no clock: the time is an argument.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync};

use super::{
    config::{Config, ServeStale, rounded},
    entry::{Entry, Kind},
    key::{Key, KeyRef},
    near,
};

/// Bytes of memory per entry of capacity. An ordinary answer with its key takes 400 to 700.
pub const SHARE: u64 = 1024;

/// The part of [`SHARE`] for the store; the least weight of an entry.
pub const WEIGHT: u64 = SHARE - SHARE / 8;

/// Bytes that one store adds at most to the budget of the near caches: 256 full ones.
const MAX_ALLOWANCE: usize = 512 << 20;

/// Approximate bytes of the store's overhead for an entry: its slot, its hash, its links.
const OVERHEAD: usize = 64;

/// The cached replies.
pub struct Store {
    /// Unique among the stores of the process.
    number: u32,
    success: Partition,
    denial: Partition,
    /// Declared, and so dropped, after the entries: near caches then drop the last references.
    _near: near::Allowance,
}

type Partition = sync::Cache<Key, Arc<Entry>, Weigher, foldhash::fast::RandomState, Evictions>;

/// The result of a lookup.
#[derive(Debug)]
pub enum CacheLookup {
    /// No usable entry.
    Miss,
    /// A fresh entry with its remaining TTL in seconds.
    Fresh(Arc<Entry>, u32),
    /// An expired entry that may be served stale.
    Stale {
        /// The entry.
        entry: Arc<Entry>,
        /// A fresh denial or failure exists: no refresh is to be started yet.
        settled: bool,
    },
}

impl Store {
    /// A store of the capacities in `config`.
    pub fn new(config: &Config) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let capacities = [config.success.capacity, config.denial.capacity].map(rounded);
        let near = capacities[0].saturating_add(capacities[1]);
        let each = usize::try_from(SHARE - WEIGHT).expect("a part of a kilobyte");
        Self {
            number: NEXT.fetch_add(1, Relaxed),
            success: partition(capacities[0]),
            denial: partition(capacities[1]),
            // The capacity comes from the Corefile and may be any number.
            _near: near::Allowance::new(near.saturating_mul(each).min(MAX_ALLOWANCE)),
        }
    }

    /// A number that is unique among the stores of the process.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Looks up an entry that is fresh at `now`, or that may be served stale under `stale`.
    pub fn find(&self, key: KeyRef<'_>, now: Instant, stale: Option<&ServeStale>) -> CacheLookup {
        let success = match self.success.get(&key) {
            Some(entry) => match entry.remaining(now) {
                Some(remaining) => return CacheLookup::Fresh(entry, remaining),
                None => Some(entry),
            },
            None => None,
        };
        let denial = self.denial.get(&key);
        let fresh = denial
            .as_ref()
            .and_then(|entry| Some((Arc::clone(entry), entry.remaining(now)?)));
        let usable =
            |entry: &Arc<Entry>| stale.is_some_and(|stale| entry.is_stale_within(stale.up_to, now));
        let prefer_positive = stale.is_some_and(|stale| stale.prefer_positive);
        let success = success.filter(usable);
        match (success, fresh) {
            // A failure never takes precedence over data; a denial does, unless `prefer_positive`.
            (Some(entry), Some((denial, _)))
                if denial.kind == Kind::Failure || (prefer_positive && entry.has_answer()) =>
            {
                CacheLookup::Stale {
                    entry,
                    settled: true,
                }
            }
            (_, Some((entry, remaining))) => CacheLookup::Fresh(entry, remaining),
            (Some(entry), None) => CacheLookup::Stale {
                entry,
                settled: false,
            },
            (None, None) => {
                denial
                    .filter(usable)
                    .map_or(CacheLookup::Miss, |entry| CacheLookup::Stale {
                        entry,
                        settled: false,
                    })
            }
        }
    }

    /// Inserts an entry and removes those that it contradicts. Returns the number of evictions.
    pub fn insert(&self, entry: Entry, now: Instant, stale: Option<&ServeStale>) -> u64 {
        let key = entry.key();
        let partition = match entry.kind {
            Kind::Success => {
                if let (Some(stale), Some(old)) = (stale, self.success.peek(&key)) {
                    // A referral does not replace data that `prefer_positive` retains.
                    let keep = stale.prefer_positive && old.has_answer() && !entry.has_answer();
                    if keep && old.is_stale_within(stale.up_to, now) {
                        return 0;
                    }
                }
                remove(&self.denial, key);
                &self.success
            }
            Kind::Denial => {
                self.deny(key, stale);
                &self.denial
            }
            Kind::Failure => {
                if let (Some(stale), Some(old)) = (stale, self.denial.peek(&key))
                    && old.is_stale_within(stale.up_to, now)
                {
                    return 0;
                }
                &self.denial
            }
        };
        let mut insertion = Insertion {
            replaced: partition.peek(&key),
            ..Insertion::default()
        };
        if let Some(old) = &insertion.replaced {
            entry.inherit_hits(old);
        }
        entry.set_store(self.number);
        let entry = Arc::new(entry);
        partition.insert_with_lifecycle(Key(Arc::clone(&entry)), entry, &mut insertion);
        insertion.evicted
    }

    /// Removes the positive answer that a denial contradicts, even if the denial is not cached.
    pub fn deny(&self, key: KeyRef<'_>, stale: Option<&ServeStale>) {
        if !stale.is_some_and(|stale| stale.prefer_positive) {
            remove(&self.success, key);
        }
    }

    /// Number of entries: positive ones, and denials with failures.
    pub fn lengths(&self) -> (usize, usize) {
        (self.success.len(), self.denial.len())
    }

    /// Weight in bytes, of positive entries and of the others.
    #[cfg(test)]
    pub fn weights(&self) -> (u64, u64) {
        (self.success.weight(), self.denial.weight())
    }
}

fn remove(partition: &Partition, key: KeyRef<'_>) {
    if let Some((_, removed)) = partition.remove(&key) {
        removed.mark_evicted();
    }
}

fn partition(capacity: usize) -> Partition {
    let weight = WEIGHT.saturating_mul(capacity.try_into().unwrap_or(u64::MAX));
    // Each shard has its own bound, which must exceed the weight of the largest entry.
    let shards = (capacity / 1024).max(1);
    let options = OptionsBuilder::new()
        .estimated_items_capacity(capacity)
        .weight_capacity(weight)
        .shards(1 << shards.ilog2())
        // The rest is for new entries, which must stay long enough to be hit again.
        .hot_allocation(0.75)
        .build()
        .expect("both capacities are given");
    let hasher = foldhash::fast::RandomState::default();
    sync::Cache::with_options(options, Weigher, hasher, Evictions)
}

#[derive(Clone)]
struct Weigher;

impl Weighter<Key, Arc<Entry>> for Weigher {
    fn weight(&self, _: &Key, entry: &Arc<Entry>) -> u64 {
        let bytes = entry.weight() + OVERHEAD;
        u64::try_from(bytes).unwrap_or(u64::MAX).max(WEIGHT)
    }
}

#[derive(Clone)]
struct Evictions;

/// Observes the evictions of one insertion.
#[derive(Default)]
struct Insertion {
    /// The entry of the same key, whose removal does not count as an eviction.
    replaced: Option<Arc<Entry>>,
    evicted: u64,
}

impl Lifecycle<Key, Arc<Entry>> for Evictions {
    type RequestState = Insertion;

    fn on_evict(&self, insertion: &mut Insertion, _: Key, removed: Arc<Entry>) {
        removed.mark_evicted();
        let is_replaced = |replaced: &Arc<Entry>| Arc::ptr_eq(replaced, &removed);
        if !insertion.replaced.as_ref().is_some_and(is_replaced) {
            insertion.evicted += 1;
        }
    }
}
