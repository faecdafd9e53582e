//! Where replies are kept: a bounded place for positive answers and one for denials.
//!
//! The bound of each is in entries, and follows from one weight: an entry weighs its octets, but no
//! less than [`WEIGHT`], in a place for `capacity` times [`WEIGHT`] octets. So there are never more
//! than `capacity` entries, and never more bytes than that, whatever an upstream sends. The rest of
//! `capacity` times [`SHARE`] bytes is for entries that are gone from here and still in a thread's
//! table ([`near`]).
//!
//! The store knows no clock and no plugin: times come in with the question.

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

/// Bytes that one entry may take on average, in all. An ordinary answer with its key takes 400 to 700.
pub const SHARE: u64 = 1024;

/// Those of them that it may take in the store.
pub const WEIGHT: u64 = SHARE - SHARE / 8;

/// Bytes that the tables of threads hold at most for the sake of one store: 256 full tables.
const MOST_NEAR: usize = 512 << 20;

/// What the store keeps beside a key and an entry, about: its slot, its hash, its place in a list.
const OVERHEAD: usize = 64;

/// The kept replies.
pub struct Store {
    /// Tells it from every other store of the process.
    number: u32,
    success: Shelf,
    denial: Shelf,
    /// Behind the entries: they are gone when the tables of threads learn that the store is.
    _near: near::Allowance,
}

type Shelf = sync::Cache<Key, Arc<Entry>, Weigher, foldhash::fast::RandomState, Evictions>;

/// What the store knows of a question.
#[derive(Debug)]
pub enum Found {
    /// Nothing of use.
    Nothing,
    /// A reply with so many seconds to live.
    Fresh(Arc<Entry>, u32),
    /// A reply past its time that may be given all the same.
    Stale {
        /// The reply.
        entry: Arc<Entry>,
        /// A fresh denial or failure says that asking again is of no use yet.
        settled: bool,
    },
}

impl Store {
    /// A store of the sizes in `config`.
    pub fn new(config: &Config) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let capacities = [config.success.capacity, config.denial.capacity].map(rounded);
        let near = capacities[0].saturating_add(capacities[1]);
        let each = usize::try_from(SHARE - WEIGHT).expect("a part of a kilobyte");
        Self {
            number: NEXT.fetch_add(1, Relaxed),
            success: shelf(capacities[0]),
            denial: shelf(capacities[1]),
            // The capacity comes from the Corefile and may be any number.
            _near: near::Allowance::new(near.saturating_mul(each).min(MOST_NEAR)),
        }
    }

    /// Tells it from every other store of the process.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Looks for an answer that is good at `now`, or good enough for `stale`.
    pub fn find(&self, key: KeyRef<'_>, now: Instant, stale: Option<&ServeStale>) -> Found {
        let success = match self.success.get(&key) {
            Some(entry) => match entry.remaining(now) {
                Some(remaining) => return Found::Fresh(entry, remaining),
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
            // A failure never outweighs data; a denial does, unless told otherwise.
            (Some(entry), Some((denial, _)))
                if denial.kind == Kind::Failure || (prefer_positive && entry.has_answer()) =>
            {
                Found::Stale {
                    entry,
                    settled: true,
                }
            }
            (_, Some((entry, remaining))) => Found::Fresh(entry, remaining),
            (Some(entry), None) => Found::Stale {
                entry,
                settled: false,
            },
            (None, None) => denial
                .filter(usable)
                .map_or(Found::Nothing, |entry| Found::Stale {
                    entry,
                    settled: false,
                }),
        }
    }

    /// Keeps an entry and drops what it makes untrue. Says how many others had to go.
    pub fn insert(&self, entry: Entry, now: Instant, stale: Option<&ServeStale>) -> u64 {
        let key = entry.key();
        let shelf = match entry.kind {
            Kind::Success => {
                if let (Some(stale), Some(old)) = (stale, self.success.peek(&key)) {
                    // A referral does not take the place of data that are to be held on to.
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
            replaced: shelf.peek(&key),
            ..Insertion::default()
        };
        if let Some(old) = &insertion.replaced {
            entry.succeed(old);
        }
        entry.enter(self.number);
        let entry = Arc::new(entry);
        shelf.insert_with_lifecycle(Key(Arc::clone(&entry)), entry, &mut insertion);
        insertion.evicted
    }

    /// Drops the positive answer that a denial has made untrue, even where the denial itself is
    /// not kept.
    pub fn deny(&self, key: KeyRef<'_>, stale: Option<&ServeStale>) {
        if !stale.is_some_and(|stale| stale.prefer_positive) {
            remove(&self.success, key);
        }
    }

    /// Entries held: positive ones, and denials with failures.
    pub fn lengths(&self) -> (usize, usize) {
        (self.success.len(), self.denial.len())
    }

    /// Octets held, entries below [`WEIGHT`] counted as that: positive ones, and the others.
    #[cfg(test)]
    pub fn weights(&self) -> (u64, u64) {
        (self.success.weight(), self.denial.weight())
    }
}

fn remove(shelf: &Shelf, key: KeyRef<'_>) {
    if let Some((_, gone)) = shelf.remove(&key) {
        gone.leave();
    }
}

fn shelf(capacity: usize) -> Shelf {
    let weight = WEIGHT.saturating_mul(capacity.try_into().unwrap_or(u64::MAX));
    // Each shard is bounded by itself, and must have room for the heaviest entry.
    let shards = (capacity / 1024).max(1);
    let options = OptionsBuilder::new()
        .estimated_items_capacity(capacity)
        .weight_capacity(weight)
        .shards(1 << shards.ilog2())
        // The rest is for newcomers, which must last long enough to be asked for again.
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
        let octets = entry.weight() + OVERHEAD;
        u64::try_from(octets).unwrap_or(u64::MAX).max(WEIGHT)
    }
}

#[derive(Clone)]
struct Evictions;

/// What happens while an entry is put in.
#[derive(Default)]
struct Insertion {
    /// The entry of the same key, which goes without having been driven out.
    replaced: Option<Arc<Entry>>,
    evicted: u64,
}

impl Lifecycle<Key, Arc<Entry>> for Evictions {
    type RequestState = Insertion;

    fn on_evict(&self, insertion: &mut Insertion, _: Key, gone: Arc<Entry>) {
        gone.leave();
        let is_replaced = |replaced: &Arc<Entry>| Arc::ptr_eq(replaced, &gone);
        if !insertion.replaced.as_ref().is_some_and(is_replaced) {
            insertion.evicted += 1;
        }
    }
}
