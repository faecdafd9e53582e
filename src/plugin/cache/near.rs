//! A near cache: a small table of recently used entries for each thread, in front of the shared store.
//!
//! A hit in the store costs a lock, a reference count and a mark of use, each on a cache line that other
//! threads write too, and a chain of pointers to the key. A hit in the near cache writes nothing that
//! another thread reads.
//!
//! The store stays authoritative: an entry that it has dropped is marked ([`Entry::is_evicted`]), and a
//! hit is passed to the store now and then, so that its eviction policy sees which entries are in use.
//!
//! An entry that a store has dropped stays in memory for as long as a near cache holds it. The total of
//! all near caches is therefore bounded, by a part of the stores' capacity ([`Allowance`]), and all
//! entries are dropped once a store is dropped, as after a reload.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use super::{entry::Entry, key::KeyRef, store::SHARE};

/// Number of sets. The table is set-associative: a key can be in any slot of one set. A power of two.
const SETS: usize = 512;

/// Slots of a set, which is one cache line.
const SLOTS: usize = 4;

/// Number of hits on an entry after which the next lookup is passed to the store.
const MAX_HITS: u16 = 64;

thread_local! {
    static NEAR_CACHE: RefCell<Option<NearCache>> = const { RefCell::new(None) };
}

static BUDGET: Budget = Budget::new();

/// Bytes that the near caches of the process hold and may hold.
struct Budget {
    /// An entry counts once, however many near caches hold it.
    held: AtomicUsize,
    limit: AtomicUsize,
    generation: Generation,
}

/// Counts the stores that were dropped: each near cache drops its entries when this changes. Read at
/// every lookup, so on a cache line of its own.
#[repr(align(64))]
struct Generation(AtomicU32);

impl Generation {
    fn now(&self) -> u32 {
        self.0.load(Relaxed)
    }

    fn next(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Bytes that one store adds to the budget, until it is dropped.
pub struct Allowance(usize);

impl Allowance {
    /// Adds `bytes` to the budget of the process.
    pub fn new(bytes: usize) -> Self {
        BUDGET.limit.fetch_add(bytes, Relaxed);
        Self(bytes)
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        BUDGET.limit.fetch_sub(self.0, Relaxed);
        BUDGET.generation.next();
    }
}

impl Budget {
    const fn new() -> Self {
        Self {
            held: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            generation: Generation(AtomicU32::new(0)),
        }
    }

    /// Reserves the weight of an entry for one more near cache. False if the budget is exhausted; after
    /// true, the entry must be released in the end.
    fn reserve(&self, entry: &Entry) -> bool {
        if !entry.hold_near() {
            return true;
        }
        let weight = entry.weight();
        let held = self.held.fetch_add(weight, Relaxed) + weight;
        let fits = held <= self.limit.load(Relaxed);
        if !fits {
            self.release(entry);
        }
        fits
    }

    fn release(&self, entry: &Entry) {
        if entry.release_near() {
            self.held.fetch_sub(entry.weight(), Relaxed);
        }
    }
}

/// The near cache of a thread.
struct NearCache {
    sets: Box<[Set]>,
    budget: &'static Budget,
    generation: u32,
}

#[derive(Default)]
#[repr(align(64))]
struct Set([Slot; SLOTS]);

#[derive(Default)]
struct Slot {
    entry: Option<Arc<Entry>>,
    /// The key's hash, to compare before the key.
    tag: u32,
    /// Number of hits, halved whenever an entry of the set is evicted.
    uses: u16,
    /// Number of hits since the store was last used.
    hits_since_store: u16,
}

/// Looks up `key` for the store with this number, and passes the entry and its remaining TTL in seconds to
/// `use_entry`. `None` if the store must be used.
pub fn find<R>(
    store: u32,
    key: KeyRef<'_>,
    now: Instant,
    use_entry: impl FnOnce(&Arc<Entry>, u32) -> R,
) -> Option<R> {
    NEAR_CACHE
        .try_with(|cache| {
            let mut cache = cache.try_borrow_mut().ok()?;
            let (entry, remaining) = cache.as_mut()?.find(store, key, now)?;
            Some(use_entry(entry, remaining))
        })
        .ok()
        .flatten()
}

/// Inserts an entry for `key` that the store has just returned.
pub fn insert(key: KeyRef<'_>, entry: Arc<Entry>) {
    // An ordinary entry is a third of this.
    if entry.weight() as u64 > SHARE {
        return;
    }
    // Fails only while the thread exits.
    let _ = NEAR_CACHE.try_with(|cache| {
        if let Ok(mut cache) = cache.try_borrow_mut() {
            cache
                .get_or_insert_with(|| NearCache::new(&BUDGET))
                .insert(key, entry);
        }
    });
}

impl NearCache {
    fn new(budget: &'static Budget) -> Self {
        Self {
            sets: std::iter::repeat_with(Set::default).take(SETS).collect(),
            generation: budget.generation.now(),
            budget,
        }
    }

    /// Drops every entry if a store was dropped: its entries would stay in memory otherwise.
    fn renew(&mut self) {
        let generation = self.budget.generation.now();
        if generation != self.generation {
            self.generation = generation;
            self.clear();
        }
    }

    #[cold]
    fn clear(&mut self) {
        for slot in self.sets.iter_mut().flat_map(|set| &mut set.0) {
            slot.empty(self.budget);
        }
    }

    fn find(&mut self, store: u32, key: KeyRef<'_>, now: Instant) -> Option<(&Arc<Entry>, u32)> {
        self.renew();
        let budget = self.budget;
        let (set, tag) = self.set(key);
        let slot = set.find(tag, store, key)?;
        let entry = slot.entry.as_ref().filter(|entry| !entry.is_evicted());
        let Some(remaining) = entry.and_then(|entry| entry.remaining(now)) else {
            slot.empty(budget);
            return None;
        };
        if slot.hits_since_store == MAX_HITS {
            slot.hits_since_store = 0;
            return None;
        }
        slot.hits_since_store += 1;
        slot.uses = slot.uses.saturating_add(1);
        slot.entry.as_ref().map(|entry| (entry, remaining))
    }

    fn insert(&mut self, key: KeyRef<'_>, entry: Arc<Entry>) {
        self.renew();
        let budget = self.budget;
        let (set, tag) = self.set(key);
        let is_it = |held: &Arc<Entry>| Arc::ptr_eq(held, &entry);
        let mut slots = set.0.iter();
        if slots.any(|slot| slot.entry.as_ref().is_some_and(is_it)) {
            return;
        }
        // The least used slot, an empty one first.
        let mut victim = set.least(|_| true);
        if !budget.reserve(&entry) {
            // With the budget exhausted, an entry can only replace another one.
            victim = set.least(|slot| slot.entry.is_some());
            let Some(victim) = &mut victim else { return };
            victim.empty(budget);
            if !budget.reserve(&entry) {
                return;
            }
        }
        let Some(victim) = victim else { return };
        let was_used = victim.entry.is_some();
        victim.empty(budget);
        *victim = Slot {
            entry: Some(entry),
            tag,
            uses: 1,
            hits_since_store: 0,
        };
        if was_used {
            // Ages the counts, or an entry that was popular once would never be evicted.
            set.0.iter_mut().for_each(|slot| slot.uses /= 2);
        }
    }

    fn set(&mut self, key: KeyRef<'_>) -> (&mut Set, u32) {
        (&mut self.sets[key.hash as usize % SETS], key.hash)
    }
}

impl Drop for NearCache {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Slot {
    fn empty(&mut self, budget: &Budget) {
        if let Some(entry) = self.entry.take() {
            budget.release(&entry);
        }
    }
}

impl Set {
    /// The least used slot of those for which `is_meant` holds, an empty one first.
    fn least(&mut self, is_meant: impl Fn(&Slot) -> bool) -> Option<&mut Slot> {
        let slots = self.0.iter_mut().filter(|slot| is_meant(slot));
        slots.min_by_key(|slot| slot.entry.as_ref().map(|_| slot.uses))
    }

    fn find(&mut self, tag: u32, store: u32, key: KeyRef<'_>) -> Option<&mut Slot> {
        // All tags first, without a branch: which slot matches is unpredictable.
        let mut alike = 0u32;
        for (index, slot) in self.0.iter().enumerate() {
            alike |= u32::from(slot.tag == tag) << index;
        }
        while alike > 0 {
            let index = alike.trailing_zeros() as usize;
            let is_it = |entry: &Arc<Entry>| entry.store() == store && entry.key() == key;
            if self.0[index].entry.as_ref().is_some_and(is_it) {
                return Some(&mut self.0[index]);
            }
            alike &= alike - 1;
        }
        None
    }
}

#[cfg(test)]
mod tests;
