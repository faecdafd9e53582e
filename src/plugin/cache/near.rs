//! Replies that a thread has given of late, found again without asking the store.
//!
//! What a hit in the store costs is not its instructions: it is a lock, a count of references and a
//! mark of use, each on a line of memory that the other threads write too, and a walk from place to
//! place until the key is reached. Here a thread holds on to a few entries by itself and writes
//! nothing that another thread reads.
//!
//! The store decides all the same: an entry that it lets go of says so ([`Entry::is_gone`]), and it is
//! asked now and then, so that it learns what is in use and must not make room.
//!
//! An entry that a store has dropped stays in memory for as long as a table holds it. What the tables
//! of all threads hold is therefore bounded, by a part of what the stores may hold ([`Allowance`]), and
//! all of it is dropped once a store is gone, as after a reload.

use std::{
    cell::RefCell,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use super::{entry::Entry, key::KeyRef, store::SHARE};

/// Sets of places; a key can be in the places of one set. A power of two.
const SETS: usize = 512;

/// Places of a set, which is a line of memory.
const PLACES: usize = 4;

/// The store is asked for an entry again after it was given so often from here.
const ASK_AFTER: u16 = 64;

thread_local! {
    static MINE: RefCell<Option<Near>> = const { RefCell::new(None) };
}

static BUDGET: Budget = Budget::new();

/// What the tables of a process hold and may hold, in bytes.
struct Budget {
    /// An entry counts once, however many tables hold it.
    held: AtomicUsize,
    limit: AtomicUsize,
    generation: Generation,
}

/// Counts the stores that are gone: each table drops its entries when this changes. Read at every
/// look-up, so on a line of memory that nothing else is written to.
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

/// Bytes that the tables may hold for the sake of one store, for as long as that is there.
pub struct Allowance(usize);

impl Allowance {
    /// Adds so many bytes to the budget of the process.
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

    /// Whether one more table may hold the entry; it must be released in the end.
    fn take(&self, entry: &Entry) -> bool {
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

/// A thread's entries.
struct Near {
    sets: Box<[Set]>,
    hasher: foldhash::fast::RandomState,
    budget: &'static Budget,
    generation: u32,
}

#[derive(Default)]
#[repr(align(64))]
struct Set([Place; PLACES]);

#[derive(Default)]
struct Place {
    entry: Option<Arc<Entry>>,
    /// Of the key's hash, so that few entries are looked at in vain.
    tag: u32,
    /// How often it was given, halved whenever another entry of the set had to go.
    uses: u16,
    /// How often it was given since the store was asked.
    unasked: u16,
}

/// Hands the entry for `key` of the store with this number to `give`, with the seconds that it is
/// still good for; nothing where the store must be asked.
pub fn find<R>(
    store: u32,
    key: KeyRef<'_>,
    now: Instant,
    give: impl FnOnce(&Arc<Entry>, u32) -> R,
) -> Option<R> {
    MINE.try_with(|mine| {
        let mut mine = mine.try_borrow_mut().ok()?;
        let (entry, remaining) = mine.as_mut()?.find(store, key, now)?;
        Some(give(entry, remaining))
    })
    .ok()
    .flatten()
}

/// Holds on to an entry for `key` that the store has just given.
pub fn keep(key: KeyRef<'_>, entry: Arc<Entry>) {
    // A common one is a third of this.
    if entry.weight() as u64 > SHARE {
        return;
    }
    // While a thread ends, nothing is worth keeping.
    let _ = MINE.try_with(|mine| {
        if let Ok(mut mine) = mine.try_borrow_mut() {
            mine.get_or_insert_with(|| Near::new(&BUDGET))
                .keep(key, entry);
        }
    });
}

impl Near {
    fn new(budget: &'static Budget) -> Self {
        Self {
            sets: std::iter::repeat_with(Set::default).take(SETS).collect(),
            hasher: foldhash::fast::RandomState::default(),
            generation: budget.generation.now(),
            budget,
        }
    }

    /// Drops every entry once a store is gone, whose entries would stay here otherwise.
    fn renew(&mut self) {
        let generation = self.budget.generation.now();
        if generation != self.generation {
            self.generation = generation;
            self.clear();
        }
    }

    #[cold]
    fn clear(&mut self) {
        for place in self.sets.iter_mut().flat_map(|set| &mut set.0) {
            place.empty(self.budget);
        }
    }

    fn find(&mut self, store: u32, key: KeyRef<'_>, now: Instant) -> Option<(&Arc<Entry>, u32)> {
        self.renew();
        let budget = self.budget;
        let (set, tag) = self.set(key);
        let place = set.find(tag, store, key)?;
        let entry = place.entry.as_ref().filter(|entry| !entry.is_gone());
        let Some(remaining) = entry.and_then(|entry| entry.remaining(now)) else {
            place.empty(budget);
            return None;
        };
        if place.unasked == ASK_AFTER {
            place.unasked = 0;
            return None;
        }
        place.unasked += 1;
        place.uses = place.uses.saturating_add(1);
        place.entry.as_ref().map(|entry| (entry, remaining))
    }

    fn keep(&mut self, key: KeyRef<'_>, entry: Arc<Entry>) {
        self.renew();
        let budget = self.budget;
        let (set, tag) = self.set(key);
        let is_it = |held: &Arc<Entry>| Arc::ptr_eq(held, &entry);
        let mut places = set.0.iter();
        if places.any(|place| place.entry.as_ref().is_some_and(is_it)) {
            return;
        }
        // The place that was used least, an empty one first.
        let mut victim = set.least(|_| true);
        if !budget.take(&entry) {
            // Without room in the budget, an entry takes the place of another one or none.
            victim = set.least(|place| place.entry.is_some());
            let Some(victim) = &mut victim else { return };
            victim.empty(budget);
            if !budget.take(&entry) {
                return;
            }
        }
        let Some(victim) = victim else { return };
        let was_taken = victim.entry.is_some();
        victim.empty(budget);
        *victim = Place {
            entry: Some(entry),
            tag,
            uses: 1,
            unasked: 0,
        };
        if was_taken {
            // Otherwise what was in use once would stay for ever.
            set.0.iter_mut().for_each(|place| place.uses /= 2);
        }
    }

    fn set(&mut self, key: KeyRef<'_>) -> (&mut Set, u32) {
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash % SETS as u64).expect("below the number of sets");
        let tag = u32::try_from(hash >> 32).expect("32 bits");
        (&mut self.sets[index], tag)
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Place {
    fn empty(&mut self, budget: &Budget) {
        if let Some(entry) = self.entry.take() {
            budget.release(&entry);
        }
    }
}

impl Set {
    /// The place of these that was used least, empty ones first.
    fn least(&mut self, is_meant: impl Fn(&Place) -> bool) -> Option<&mut Place> {
        let places = self.0.iter_mut().filter(|place| is_meant(place));
        places.min_by_key(|place| place.entry.as_ref().map(|_| place.uses))
    }

    fn find(&mut self, tag: u32, store: u32, key: KeyRef<'_>) -> Option<&mut Place> {
        // All tags first, without a branch: which place it is nobody could guess.
        let mut alike = 0u32;
        for (index, place) in self.0.iter().enumerate() {
            alike |= u32::from(place.tag == tag) << index;
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
