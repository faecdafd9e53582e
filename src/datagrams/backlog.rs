//! Which datagrams have waited in a socket's receive queue for so long that an answer is of no use.
//!
//! A queue of megabytes that fills during an overload takes long to work off, and all that time new
//! queries wait behind old ones whose clients have given up. So the old ones are dropped. While the
//! queue is emptied again and again this costs nothing: what is in a queue that was empty a moment ago
//! has not waited longer than that moment. Only once it has not been empty for a while the kernel is
//! asked for the time at which each datagram arrived (`SO_TIMESTAMPNS`).

use std::time::{Duration, Instant, SystemTime};

/// How long a datagram may wait. Stub resolvers ask again, or ask another server, after 1 to 5 s.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The state of one socket's queue.
pub struct Backlog {
    patience: Duration,
    /// When the queue was last seen empty: nothing in it is older.
    empty: Instant,
    /// Since when the kernel has been asked for times of arrival.
    stamped: Option<Instant>,
}

/// A moment before datagrams are received, by both clocks.
#[derive(Clone, Copy)]
pub struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Backlog {
    /// Of an empty queue whose datagrams may wait so long.
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            empty: Instant::now(),
            stamped: None,
        }
    }

    /// To be called before datagrams are received: the moment from which to judge them, where some
    /// may be too old.
    pub fn begin(&self) -> Option<Moment> {
        let moment = self.stamped.map(|_| Moment {
            steady: Instant::now(),
            wall: SystemTime::now(),
        })?;
        (moment.steady.duration_since(self.empty) > self.patience).then_some(moment)
    }

    /// Whether a datagram with this time of arrival, received right after `moment`, is too old.
    pub fn is_stale(&self, moment: Moment, arrival: Option<SystemTime>) -> bool {
        let waited = match arrival.map(|arrival| moment.wall.duration_since(arrival)) {
            Some(Ok(waited)) => waited,
            // One that was queued before the kernel was asked gets the time at which it is received.
            // It has waited longer than this.
            _ => self
                .stamped
                .map_or(Duration::ZERO, |since| moment.steady.duration_since(since)),
        };
        waited > self.patience
    }

    /// To be called when datagrams have been received, at `now`: whether the queue was emptied.
    /// Gives what is to be asked of the kernel from now on, where that changes.
    pub fn received(&mut self, now: Instant, emptied: bool) -> Option<bool> {
        if emptied {
            self.empty = now;
            return self.stamped.take().map(|_| false);
        }
        let lasts = now.duration_since(self.empty) > self.patience / 8;
        if !lasts || self.stamped.is_some() {
            return None;
        }
        self.stamped = Some(now);
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A backlog that began at `empty`, and whose datagrams have times since `stamped`.
    fn backlog(empty: Instant, stamped: Option<Instant>) -> Backlog {
        Backlog {
            patience: 3 * SECOND,
            empty,
            stamped,
        }
    }

    #[test]
    fn the_kernel_is_asked_while_the_queue_is_never_empty() {
        let start = Instant::now();
        let mut backlog = backlog(start, None);
        assert_eq!(backlog.received(start + SECOND / 4, false), None);
        assert_eq!(backlog.received(start + SECOND, false), Some(true));
        assert_eq!(backlog.received(start + 2 * SECOND, false), None);
        assert_eq!(backlog.received(start + 3 * SECOND, true), Some(false));
        assert_eq!(backlog.received(start + 4 * SECOND, true), None);
        assert_eq!(backlog.received(start + 4 * SECOND, false), None);
    }

    #[test]
    fn nothing_is_judged_in_a_queue_that_was_empty_lately() {
        let now = Instant::now();
        let long_ago = now.checked_sub(5 * SECOND).unwrap();
        assert!(backlog(long_ago, None).begin().is_none());
        assert!(backlog(now, Some(long_ago)).begin().is_none());
        assert!(backlog(long_ago, Some(now)).begin().is_some());
    }

    #[test]
    fn what_has_waited_too_long_is_stale() {
        let (steady, wall) = (Instant::now(), SystemTime::now());
        let moment = Moment { steady, wall };
        let before = |seconds: u32| steady.checked_sub(seconds * SECOND).unwrap();
        let backlog = |stamped| backlog(before(9), Some(before(stamped)));
        for (stamped, arrival, stale) in [
            (5, Some(wall - 4 * SECOND), true),
            (5, Some(wall - 2 * SECOND), false),
            // Without a time of its own: it was there before the kernel was asked.
            (5, Some(wall + SECOND / 1000), true),
            (5, None, true),
            (2, Some(wall + SECOND / 1000), false),
            (2, None, false),
        ] {
            let backlog = backlog(stamped);
            assert_eq!(
                backlog.is_stale(moment, arrival),
                stale,
                "{stamped} {arrival:?}"
            );
        }
    }
}
