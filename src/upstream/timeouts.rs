//! Timeouts of one query to upstreams: between two attempts, after the last one, and in total.

use std::time::Duration;

/// The timeouts of one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueryTimeouts {
    /// From the first attempt to the SERVFAIL.
    pub(super) total: Duration,
    /// From one attempt to the next while no reply has come. An upstream without a reply for this long gets
    /// a health check.
    pub(super) attempt: Duration,
    /// The same from the second attempt on.
    pub(super) retry: Duration,
    /// From the last attempt to the SERVFAIL.
    pub(super) last_attempt: Duration,
}

impl QueryTimeouts {
    /// Below the 5 s of the stub resolvers of glibc and musl, with a margin for the network.
    const TOTAL: Duration = Duration::from_millis(3800);
    /// With every upstream down for long a reply is unlikely: as long as a health check.
    const TOTAL_DOWN: Duration = Duration::from_secs(1);
    /// The bound on `total` when a `read_timeout` is configured, as in CoreDNS.
    const LONGEST: Duration = Duration::from_secs(5);

    /// The timeouts of a query that can be sent to this number of upstreams.
    pub(super) fn new(upstreams: usize, read_timeout: Option<Duration>, long_down: bool) -> Self {
        let total = if long_down {
            Self::TOTAL_DOWN
        } else {
            Self::TOTAL
        };
        if let Some(limit) = read_timeout {
            let total = total.max(limit.min(Self::LONGEST));
            return Self {
                total,
                attempt: limit,
                retry: limit,
                last_attempt: limit,
            };
        }
        // Every upstream gets an attempt within the total: a second each for three, less for more.
        let (shared, longest) = match (upstreams, long_down) {
            (0 | 1, false) => (3200, 800),
            (_, false) => (3200, 1000),
            (_, true) => (800, 400),
        };
        let many = u32::try_from(upstreams).unwrap_or(u32::MAX).max(1);
        let share = Duration::from_millis(shared) / many;
        let attempt = share.clamp(Duration::from_millis(200), Duration::from_millis(longest));
        // A lone upstream is tried a third time after a longer pause: in an outage of some seconds, that may be the
        // attempt that is answered.
        let retry = if upstreams > 1 { attempt } else { attempt * 2 };
        Self {
            total,
            attempt,
            retry,
            last_attempt: total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::MAX_UPSTREAMS;

    #[test]
    fn every_upstream_gets_an_attempt_before_a_stub_resolver_times_out() {
        for upstreams in 1..=MAX_UPSTREAMS {
            let timeouts = QueryTimeouts::new(upstreams, None, false);
            assert!(timeouts.total < Duration::from_secs(4));
            let others = u32::try_from(upstreams - 1).unwrap();
            assert!(timeouts.attempt * others < timeouts.total, "{upstreams}");
            assert!(timeouts.attempt >= Duration::from_millis(200));
        }
        assert_eq!(
            QueryTimeouts::new(2, None, false).attempt,
            Duration::from_secs(1),
            "the first attempt leaves time for a second"
        );
    }

    #[test]
    fn a_lone_upstream_gets_three_attempts() {
        let timeouts = QueryTimeouts::new(1, None, false);
        let third = timeouts.attempt + timeouts.retry;
        assert_eq!(third, Duration::from_millis(2400));
        assert!(third + timeouts.retry > timeouts.total);
    }

    #[test]
    fn with_all_upstreams_down_the_total_is_that_of_a_health_check() {
        for upstreams in 1..=MAX_UPSTREAMS {
            let timeouts = QueryTimeouts::new(upstreams, None, true);
            assert!(timeouts.total <= Duration::from_secs(1));
            assert!(
                timeouts.attempt * 2 < timeouts.total,
                "more than one attempt"
            );
        }
    }

    #[test]
    fn a_read_timeout_applies_to_each_attempt_and_extends_the_total_to_five_seconds() {
        let short = QueryTimeouts::new(2, Some(Duration::from_millis(100)), false);
        assert_eq!(short.last_attempt, short.attempt);
        let long = QueryTimeouts::new(1, Some(Duration::from_mins(1)), false);
        assert_eq!(long.total, Duration::from_secs(5));
    }
}
