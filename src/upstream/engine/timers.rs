//! The timeouts of an engine's queries: a wheel of ticks, to which a timeout is added in constant time.
//!
//! A query that ends leaves its entry behind until the tick has passed, so entries are checked against the
//! table of queries when they are due.

use std::time::{Duration, Instant};

use crate::upstream::inbox::Key;

/// Resolution of the timeouts.
pub(super) const TICK: Duration = Duration::from_millis(20);

const TICKS_PER_SECOND: u64 = 50;

/// Ticks of one turn of the wheel, some 10 s. A later timeout is due early, and added again then.
const TICKS: u64 = 512;

/// A wheel of timeouts.
pub(super) struct Timers {
    wheel: Box<[Vec<Key>]>,
    origin: Instant,
    /// The first tick that has not been handed out.
    next: u64,
}

impl Timers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            wheel: (0..TICKS).map(|_| Vec::new()).collect(),
            origin: now,
            next: 1,
        }
    }

    /// Makes `key` due at `at`, or up to one tick later.
    pub(super) fn insert(&mut self, key: Key, at: Instant) {
        let tick = self.tick_of(at) + 1;
        let tick = tick.clamp(self.next, self.next + TICKS - 1);
        self.wheel[index(tick)].push(key);
    }

    /// Appends to `due` what has become due by `now`.
    pub(super) fn expire(&mut self, now: Instant, due: &mut Vec<Key>) {
        let last = self.tick_of(now);
        // After a pause longer than a turn, each place is emptied once.
        let first = self.next.max((last + 1).saturating_sub(TICKS));
        for tick in first..=last {
            // Taken, not emptied: a tick's memory would be kept for each of the wheel's ticks.
            due.append(&mut std::mem::take(&mut self.wheel[index(tick)]));
        }
        self.next = self.next.max(last + 1);
    }

    fn tick_of(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        since.as_secs() * TICKS_PER_SECOND + u64::from(since.subsec_nanos() / TICK.subsec_nanos())
    }
}

fn index(tick: u64) -> usize {
    usize::try_from(tick % TICKS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> Key {
        Key { slot, serial: 0 }
    }

    fn due(timers: &mut Timers, at: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        timers.expire(at, &mut due);
        due.into_iter().map(|key| key.slot).collect()
    }

    #[test]
    fn a_timeout_is_due_within_a_tick_of_its_time_and_never_before() {
        let start = Instant::now();
        for millis in [0, 1, 19, 20, 21, 800, 801, 3799] {
            let mut timers = Timers::new(start);
            let at = start + Duration::from_millis(millis);
            timers.insert(key(1), at);
            let before = at.checked_sub(Duration::from_millis(1)).unwrap_or(at);
            if millis > 0 {
                assert!(due(&mut timers, before).is_empty(), "{millis}");
            }
            assert_eq!(due(&mut timers, at + TICK), [1], "{millis}");
        }
    }

    #[test]
    fn none_is_lost_after_a_long_pause_or_beyond_the_wheel() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        let far = start + TICK * 2000;
        timers.insert(key(1), start + TICK);
        timers.insert(key(2), start + TICK * 500);
        timers.insert(key(3), far);
        let mut all = due(&mut timers, start + TICK * 1500);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3], "the third is early and added again");
        timers.insert(key(3), far);
        assert!(due(&mut timers, start + TICK * 1900).is_empty());
        assert_eq!(due(&mut timers, far + TICK), [3]);
    }
}
