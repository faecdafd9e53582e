//! Replies that a thread has given of late, found again without asking the store.
//!
//! What a hit in the store costs is not its instructions: it is a lock, a count of references and a
//! mark of use, each on a line of memory that the other threads write too, and a walk from place to
//! place until the key is reached. Here a thread holds on to a few entries by itself and writes
//! nothing that another thread reads.
//!
//! The store decides all the same: an entry that it lets go of says so ([`Entry::is_gone`]), and it is
//! asked now and then, so that it learns what is in use and must not make room.

use std::{
    cell::RefCell,
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
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

/// A thread's entries.
struct Near {
    sets: Box<[Set]>,
    hasher: foldhash::fast::RandomState,
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
    // An entry that the store has let go of stays in memory for as long as it is held here. A common
    // one is a third of this.
    if entry.weight() as u64 > SHARE {
        return;
    }
    // While a thread ends, nothing is worth keeping.
    let _ = MINE.try_with(|mine| {
        if let Ok(mut mine) = mine.try_borrow_mut() {
            mine.get_or_insert_with(Near::new).keep(key, entry);
        }
    });
}

impl Near {
    fn new() -> Self {
        Self {
            sets: std::iter::repeat_with(Set::default).take(SETS).collect(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    fn find(&mut self, store: u32, key: KeyRef<'_>, now: Instant) -> Option<(&Arc<Entry>, u32)> {
        let (set, tag) = self.set(key);
        let place = set.find(tag, store, key)?;
        let entry = place.entry.as_ref().filter(|entry| !entry.is_gone());
        let Some(remaining) = entry.and_then(|entry| entry.remaining(now)) else {
            place.entry = None;
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
        let (set, tag) = self.set(key);
        let is_it = |held: &Arc<Entry>| Arc::ptr_eq(held, &entry);
        if set
            .0
            .iter()
            .any(|place| place.entry.as_ref().is_some_and(is_it))
        {
            return;
        }
        // The place that was used least, an empty one first.
        let rank = |place: &&mut Place| place.entry.as_ref().map(|_| place.uses);
        let Some(victim) = set.0.iter_mut().min_by_key(rank) else {
            return;
        };
        let is_taken = victim.entry.is_some();
        *victim = Place {
            entry: Some(entry),
            tag,
            uses: 1,
            unasked: 0,
        };
        if is_taken {
            // Otherwise what was in use once would stay for ever.
            set.0.iter_mut().for_each(|place| place.uses /= 2);
        }
    }

    fn set(&mut self, key: KeyRef<'_>) -> (&mut Set, u32) {
        let mut hasher = self.hasher.build_hasher();
        key.hash(&mut hasher);
        let hash = hasher.finish();
        let index = usize::try_from(hash % SETS as u64).expect("below the number of sets");
        let tag = u32::try_from(hash >> 32).expect("32 bits");
        (&mut self.sets[index], tag)
    }
}

impl Set {
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
