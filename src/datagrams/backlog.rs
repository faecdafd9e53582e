//! Detects datagrams that were queued in a socket's receive buffer for too long to answer.
//!
//! During an overload, a receive buffer of megabytes takes long to drain, and new queries are
//! delayed behind those whose clients have timed out. Old datagrams are therefore dropped. As long
//! as the queue is repeatedly emptied, this costs nothing: a datagram cannot be older than the
//! moment the queue was last empty. Only if the queue stays non-empty are kernel timestamps enabled
//! (`SO_TIMESTAMPNS`).

use std::time::{Duration, Instant, SystemTime};

/// Maximum age of a datagram. Stub resolvers retry or switch servers after 1 to 5 s.
pub const MAX_AGE: Duration = Duration::from_secs(3);

/// State of a socket's receive queue.
pub struct Backlog {
    max_age: Duration,
    /// When the queue was last seen empty: no datagram is older.
    empty: Instant,
    /// When kernel timestamps were enabled.
    stamped: Option<Instant>,
}

/// A point in time before a receive call, on both clocks.
#[derive(Clone, Copy)]
pub struct ReceiveTime {
    steady: Instant,
    wall: SystemTime,
}

impl Backlog {
    /// An empty queue with this maximum age.
    pub fn new(max_age: Duration) -> Self {
        Self {
            max_age,
            empty: Instant::now(),
            stamped: None,
        }
    }

    /// Whether kernel timestamps are enabled. Then the next receive call must not block: a datagram that arrives
    /// during the call would look like one that was queued before.
    pub fn is_stamped(&self) -> bool {
        self.stamped.is_some()
    }

    /// Call before receiving. Returns the reference time if datagrams may be too old.
    pub fn begin(&self) -> Option<ReceiveTime> {
        let moment = self.stamped.map(|_| ReceiveTime {
            steady: Instant::now(),
            wall: SystemTime::now(),
        })?;
        (moment.steady.duration_since(self.empty) > self.max_age).then_some(moment)
    }

    /// Whether a datagram with this arrival time, received right after `moment`, is too old.
    pub fn is_stale(&self, moment: ReceiveTime, arrival: Option<SystemTime>) -> bool {
        let waited = match arrival.map(|arrival| moment.wall.duration_since(arrival)) {
            Some(Ok(waited)) => waited,
            // A datagram queued before timestamps were enabled is stamped when it is received, and
            // is older than that.
            _ => self
                .stamped
                .map_or(Duration::ZERO, |since| moment.steady.duration_since(since)),
        };
        waited > self.max_age
    }

    /// Call after receiving, at `now`, with whether the queue was emptied. Returns whether
    /// timestamps should be switched on or off, if that changes.
    pub fn received(&mut self, now: Instant, emptied: bool) -> Option<bool> {
        if emptied {
            self.empty = now;
            return self.stamped.take().map(|_| false);
        }
        let lasts = now.duration_since(self.empty) > self.max_age / 8;
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

    /// A backlog last empty at `empty`, with timestamps since `stamped`.
    fn backlog(empty: Instant, stamped: Option<Instant>) -> Backlog {
        Backlog {
            max_age: 3 * SECOND,
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
        let moment = ReceiveTime { steady, wall };
        let before = |seconds: u32| steady.checked_sub(seconds * SECOND).unwrap();
        let backlog = |stamped| backlog(before(9), Some(before(stamped)));
        for (stamped, arrival, stale) in [
            (5, Some(wall - 4 * SECOND), true),
            (5, Some(wall - 2 * SECOND), false),
            // No timestamp: queued before timestamps were enabled.
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
