//! A budget of packets to the upstreams of one `forward`, for networks that drop what exceeds a rate: cloud
//! providers limit DNS packets per network interface, AWS to 1,024 a second.
//!
//! Dropped packets cost a client a timeout each. At the budget, an attempt fails at once instead, with its reason.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use prometheus::IntCounter;

/// Part of a second whose packets may leave at once.
const BURSTS_PER_SECOND: u64 = 10;

/// The generic cell rate algorithm, and the number of packets of each second.
#[derive(Debug)]
pub struct PacketBudget {
    per_second: u32,
    begun: Instant,
    /// When the packets so far would have left at the exact rate, in nanoseconds since `begun`.
    due: AtomicU64,
    /// The present second since `begun`, and above it the packets in it.
    second: AtomicU64,
    /// The packets of the last full second.
    last_second: AtomicU64,
    denied: IntCounter,
}

/// Bits for the number of a second: of 136 years.
const SECOND_BITS: u32 = 32;

impl PacketBudget {
    /// At most `per_second` packets; `denied` counts further ones.
    pub fn new(per_second: u32, denied: IntCounter) -> Self {
        Self {
            per_second: per_second.max(1),
            begun: Instant::now(),
            due: AtomicU64::new(0),
            second: AtomicU64::new(0),
            last_second: AtomicU64::new(0),
            denied,
        }
    }

    /// Takes one packet. False if the budget is used up.
    pub fn take(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.begun);
        let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let interval = 1_000_000_000 / u64::from(self.per_second);
        let burst = (1_000_000_000 / BURSTS_PER_SECOND).max(interval);
        let taken = self.due.fetch_update(Relaxed, Relaxed, |due| {
            let due = due.max(nanoseconds);
            (due - nanoseconds < burst).then_some(due + interval)
        });
        if taken.is_err() {
            self.denied.inc();
            return false;
        }
        self.count(now);
        true
    }

    fn count(&self, now: Duration) {
        let second = now.as_secs() & ((1 << SECOND_BITS) - 1);
        let one = 1 << SECOND_BITS;
        let counted = self.second.fetch_update(Relaxed, Relaxed, |before| {
            let is_same = before & ((1 << SECOND_BITS) - 1) == second;
            Some(if is_same { before + one } else { one | second })
        });
        if let Ok(before) = counted {
            let (count, of) = (before >> SECOND_BITS, before & ((1 << SECOND_BITS) - 1));
            if of != second {
                let is_previous = of + 1 == second;
                self.last_second
                    .store(if is_previous { count } else { 0 }, Relaxed);
            }
        }
    }

    /// The packets of the last full second.
    pub fn last_second(&self) -> u64 {
        let now = self.begun.elapsed().as_secs() & ((1 << SECOND_BITS) - 1);
        let present = self.second.load(Relaxed);
        match now.checked_sub(present & ((1 << SECOND_BITS) - 1)) {
            Some(0) => self.last_second.load(Relaxed),
            // No packet in the present second yet.
            Some(1) => present >> SECOND_BITS,
            _ => 0,
        }
    }

    /// The budget.
    pub fn per_second(&self) -> u32 {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(per_second: u32) -> PacketBudget {
        let denied = IntCounter::new("denied", "denied").unwrap();
        PacketBudget::new(per_second, denied)
    }

    #[test]
    fn no_more_packets_than_the_rate_and_one_burst_leave() {
        let budget = budget(1000);
        let mut taken = 0;
        // Ten queries every millisecond, for two seconds.
        for step in 0..2000 {
            let at = budget.begun + Duration::from_millis(step);
            taken += (0..10).filter(|_| budget.take(at)).count();
        }
        assert!((2000..=2101).contains(&taken), "{taken}");
        assert_eq!(budget.denied.get(), 20_000 - taken as u64);
    }

    #[test]
    fn an_idle_second_saves_one_burst_only() {
        let budget = budget(100);
        let later = budget.begun + Duration::from_secs(10);
        assert_eq!((0..100).filter(|_| budget.take(later)).count(), 10);
        let slow = super::tests::budget(2);
        assert!(slow.take(slow.begun) && !slow.take(slow.begun));
    }

    #[test]
    fn packets_are_counted_by_the_second() {
        let budget = budget(1000);
        for second in [0, 0, 0, 1] {
            assert!(budget.take(budget.begun + Duration::from_secs(second)));
        }
        assert_eq!(budget.last_second.load(Relaxed), 3);
        budget.take(budget.begun + Duration::from_secs(5));
        assert_eq!(budget.last_second.load(Relaxed), 0);
    }
}
