//! Timeouts and number of the attempts of one query to upstreams.

use std::time::Duration;

use super::plan::Plan;

/// The timeouts of one query, and the number of its attempts.
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
    /// Maximum number of attempts. By default two for each upstream, and three for a lone one unless
    /// `read_timeout` sets the time of one.
    pub(super) max_attempts: usize,
    /// Number of attempts after which the query fails if all of them have: the third of a lone upstream is for one
    /// that is silent.
    pub(super) max_failures: usize,
}

impl QueryTimeouts {
    /// Below the 5 s of the stub resolvers of glibc and musl, with a margin for the network.
    const TOTAL: Duration = Duration::from_millis(3800);
    /// With every upstream down for long a reply is unlikely: as long as a health check.
    const TOTAL_DOWN: Duration = Duration::from_secs(1);
    /// The bound on `total` when a `read_timeout` is configured, as in CoreDNS.
    const LONGEST: Duration = Duration::from_secs(5);

    /// The timeouts of a query that can be sent to this number of upstreams.
    pub(super) fn new(upstreams: usize, plan: &Plan, long_down: bool) -> Self {
        let total = if long_down {
            Self::TOTAL_DOWN
        } else {
            Self::TOTAL
        };
        let rounds = 2 * upstreams;
        let usual = match plan.read_timeout {
            Some(_) => rounds,
            None => rounds.max(3),
        };
        let (max_attempts, max_failures) = match plan.max_attempts {
            None => (usual, rounds),
            Some(0) => (usize::MAX, usize::MAX),
            Some(limit) => (limit, limit),
        };
        if let Some(limit) = plan.read_timeout {
            return Self {
                total: total.max(limit.min(Self::LONGEST)),
                attempt: limit,
                retry: limit,
                last_attempt: limit,
                max_attempts,
                max_failures,
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
        let is_third_later = upstreams <= 1 && plan.max_attempts.is_none();
        Self {
            total,
            attempt,
            retry: if is_third_later { attempt * 2 } else { attempt },
            last_attempt: total,
            max_attempts,
            max_failures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::MAX_UPSTREAMS;

    fn timeouts(upstreams: usize, long_down: bool) -> QueryTimeouts {
        QueryTimeouts::new(upstreams, &Plan::default(), long_down)
    }

    fn with_read_timeout(upstreams: usize, limit: Duration) -> QueryTimeouts {
        let plan = Plan {
            read_timeout: Some(limit),
            ..Plan::default()
        };
        QueryTimeouts::new(upstreams, &plan, false)
    }

    #[test]
    fn every_upstream_gets_an_attempt_before_a_stub_resolver_times_out() {
        for upstreams in 1..=MAX_UPSTREAMS {
            let timeouts = timeouts(upstreams, false);
            assert!(timeouts.total < Duration::from_secs(4));
            let others = u32::try_from(upstreams - 1).unwrap();
            assert!(timeouts.attempt * others < timeouts.total, "{upstreams}");
            assert!(timeouts.attempt >= Duration::from_millis(200));
        }
        assert_eq!(
            timeouts(2, false).attempt,
            Duration::from_secs(1),
            "the first attempt leaves time for a second"
        );
    }

    #[test]
    fn a_lone_upstream_gets_three_attempts() {
        let timeouts = timeouts(1, false);
        let third = timeouts.attempt + timeouts.retry;
        assert_eq!(third, Duration::from_millis(2400));
        assert!(third + timeouts.retry > timeouts.total);
        assert_eq!((timeouts.max_attempts, timeouts.max_failures), (3, 2));
    }

    #[test]
    fn max_attempts_is_the_number_of_attempts_and_zero_is_no_limit() {
        for (wanted, limit) in [(0, usize::MAX), (1, 1), (7, 7)] {
            let plan = Plan {
                max_attempts: Some(wanted),
                ..Plan::default()
            };
            let timeouts = QueryTimeouts::new(1, &plan, false);
            assert_eq!(
                (timeouts.max_attempts, timeouts.max_failures),
                (limit, limit)
            );
            assert_eq!(timeouts.retry, timeouts.attempt);
        }
        let one = with_read_timeout(1, Duration::from_secs(1));
        assert_eq!((one.max_attempts, one.max_failures), (2, 2));
        let three = timeouts(3, false);
        assert_eq!((three.max_attempts, three.max_failures), (6, 6));
    }

    #[test]
    fn with_all_upstreams_down_the_total_is_that_of_a_health_check() {
        for upstreams in 1..=MAX_UPSTREAMS {
            let timeouts = timeouts(upstreams, true);
            assert!(timeouts.total <= Duration::from_secs(1));
            assert!(
                timeouts.attempt * 2 < timeouts.total,
                "more than one attempt"
            );
        }
    }

    #[test]
    fn a_read_timeout_applies_to_each_attempt_and_extends_the_total_to_five_seconds() {
        let short = with_read_timeout(2, Duration::from_millis(100));
        assert_eq!(short.last_attempt, short.attempt);
        let long = with_read_timeout(1, Duration::from_mins(1));
        assert_eq!(long.total, Duration::from_secs(5));
    }
}
