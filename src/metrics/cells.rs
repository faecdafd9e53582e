//! Contention-free counters: each thread adds to its own cells, a scrape sums them.
//!
//! A thread owns its slot exclusively, so a relaxed load and store suffice. A shared counter would
//! need an atomic addition and move a cache line between cores for each query.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

/// Number of threads with their own slot; further threads share one more slot with atomic
/// additions.
const OWNED_SLOTS: usize = 64;

/// Slots without a living owner. The lock orders a slot's use by an exited thread before its use by
/// the next owner.
static FREE: Mutex<FreeSlots> = Mutex::new(FreeSlots {
    returned: Vec::new(),
    next: 0,
});

struct FreeSlots {
    returned: Vec<usize>,
    next: usize,
}

struct Slot(usize);

thread_local! {
    static SLOT: Slot = Slot::take();
}

impl Slot {
    fn take() -> Self {
        let mut free = FREE.lock();
        if let Some(index) = free.returned.pop() {
            return Self(index);
        }
        let index = free.next.min(OWNED_SLOTS);
        free.next = (index + 1).min(OWNED_SLOTS);
        Self(index)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.0 < OWNED_SLOTS {
            FREE.lock().returned.push(self.0);
        }
    }
}

/// A `T` for every thread that has used it.
pub struct PerThread<T> {
    slots: [OnceLock<Box<Padded<T>>>; OWNED_SLOTS + 1],
}

/// Two cache lines, because processors prefetch in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Padded<T>(T);

/// The calling thread's cells.
#[derive(Clone, Copy)]
pub struct LocalCells<'a, T> {
    /// The thread's cells.
    pub cells: &'a T,
    owned: bool,
}

impl<T: Default> PerThread<T> {
    /// Without cells: each thread's cells are allocated at its first use.
    pub fn new() -> Self {
        Self {
            slots: [const { OnceLock::new() }; OWNED_SLOTS + 1],
        }
    }

    /// The calling thread's cells.
    pub fn local(&self) -> LocalCells<'_, T> {
        // While a thread exits its slot is already released: the shared slot is used.
        let index = SLOT.try_with(|slot| slot.0).unwrap_or(OWNED_SLOTS);
        LocalCells {
            cells: &self.slots[index].get_or_init(Box::default).0,
            owned: index < OWNED_SLOTS,
        }
    }

    /// All threads' cells.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.slots
            .iter()
            .filter_map(|slot| slot.get().map(|padded| &padded.0))
    }
}

impl<T: Default> Default for PerThread<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> LocalCells<'_, T> {
    /// Adds to one of these cells.
    pub fn add(&self, cell: &AtomicU64, amount: u64) {
        if self.owned {
            cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
        } else {
            cell.fetch_add(amount, Relaxed);
        }
    }
}

/// A counter for many threads, at about the cost of a non-atomic addition.
#[derive(Default)]
pub struct ShardedCounter {
    cells: PerThread<AtomicU64>,
}

impl ShardedCounter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        let local = self.cells.local();
        local.add(local.cells, amount);
    }

    /// Sum over all threads.
    pub fn get(&self) -> u64 {
        self.cells.all().map(|cell| cell.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn concurrent_additions_are_exact() {
        let counter = Arc::new(ShardedCounter::default());
        // Several generations of more threads than slots: owned, reused and shared slots.
        for _ in 0..3 {
            let threads: Vec<_> = (0..OWNED_SLOTS + 16)
                .map(|_| {
                    let counter = Arc::clone(&counter);
                    std::thread::spawn(move || (0..1000).for_each(|_| counter.inc()))
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        }
        assert_eq!(counter.get(), 3 * (OWNED_SLOTS as u64 + 16) * 1000);
    }
}
