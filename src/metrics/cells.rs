//! Counting without contention: every thread adds to cells of its own, a scrape adds them up.
//!
//! A thread owns a slot for as long as it lives, so a plain load and store suffice where a shared
//! counter would need an atomic addition and move a cache line between cores for each query.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

/// Threads that have a slot of their own; any beyond share one more, at the price of contention.
const OWNED: usize = 64;

/// Slots that no living thread owns. The lock is what hands a slot's cells from a thread that has
/// ended to its successor.
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
        let index = free.next.min(OWNED);
        free.next = (index + 1).min(OWNED);
        Self(index)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.0 < OWNED {
            FREE.lock().returned.push(self.0);
        }
    }
}

/// A `T` for every thread that has asked for one.
pub struct PerThread<T> {
    slots: [OnceLock<Box<Padded<T>>>; OWNED + 1],
}

/// Two cache lines, because processors fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Padded<T>(T);

/// What the calling thread counts into.
#[derive(Clone, Copy)]
pub struct Mine<'a, T> {
    /// The thread's cells.
    pub cells: &'a T,
    owned: bool,
}

impl<T: Default> PerThread<T> {
    /// No cells yet: they come with the first use on a thread.
    pub fn new() -> Self {
        Self {
            slots: [const { OnceLock::new() }; OWNED + 1],
        }
    }

    /// The calling thread's cells.
    pub fn mine(&self) -> Mine<'_, T> {
        // The slot is gone while a thread ends; what it still counts goes to the shared one.
        let index = SLOT.try_with(|slot| slot.0).unwrap_or(OWNED);
        Mine {
            cells: &self.slots[index].get_or_init(Box::default).0,
            owned: index < OWNED,
        }
    }

    /// Every thread's cells.
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

impl<T> Mine<'_, T> {
    /// Adds to a cell of these.
    pub fn add(&self, cell: &AtomicU64, amount: u64) {
        if self.owned {
            cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
        } else {
            cell.fetch_add(amount, Relaxed);
        }
    }
}

/// A counter that many threads add to at once, at about the cost of an ordinary addition.
#[derive(Default)]
pub struct Tally {
    cells: PerThread<AtomicU64>,
}

impl Tally {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        let mine = self.cells.mine();
        mine.add(mine.cells, amount);
    }

    /// The sum over all threads.
    pub fn get(&self) -> u64 {
        self.cells.all().map(|cell| cell.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn many_threads_sum_exactly() {
        let tally = Arc::new(Tally::default());
        // Several generations of more threads than there are slots: owned, handed on and shared.
        for _ in 0..3 {
            let threads: Vec<_> = (0..OWNED + 16)
                .map(|_| {
                    let tally = Arc::clone(&tally);
                    std::thread::spawn(move || (0..1000).for_each(|_| tally.inc()))
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        }
        assert_eq!(tally.get(), 3 * (OWNED as u64 + 16) * 1000);
    }
}
