//! How long upstreams are given, and a question in all.

use std::time::Duration;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// From the first try to giving up.
    pub(super) total: Duration,
    /// From one try to the next, where no answer has come. An upstream that has been silent for so long
    /// is checked.
    pub(super) step: Duration,
    /// From the last try to giving up.
    pub(super) last: Duration,
}

impl Patience {
    /// Below what glibc and musl wait, with a margin for the way.
    const TOTAL: Duration = Duration::from_millis(3800);
    /// Where all upstreams are down, most likely none answers: as long as a check.
    const TOTAL_DOWN: Duration = Duration::from_secs(1);
    /// The most that an own `read_timeout` stretches it to: what CoreDNS allows.
    const LONGEST: Duration = Duration::from_secs(5);

    /// For a question that `upstreams` may answer.
    pub(super) fn new(upstreams: usize, read_timeout: Option<Duration>, all_down: bool) -> Self {
        let total = if all_down {
            Self::TOTAL_DOWN
        } else {
            Self::TOTAL
        };
        if let Some(limit) = read_timeout {
            let total = total.max(limit.min(Self::LONGEST));
            return Self {
                total,
                step: limit,
                last: limit,
            };
        }
        // All of them get their chance: a second each for three, less for more.
        let (shared, longest) = match (upstreams, all_down) {
            (0 | 1, false) => (3200, 800),
            (_, false) => (3200, 1000),
            (_, true) => (800, 400),
        };
        let many = u32::try_from(upstreams).unwrap_or(u32::MAX).max(1);
        let share = Duration::from_millis(shared) / many;
        let step = share.clamp(Duration::from_millis(200), Duration::from_millis(longest));
        Self {
            total,
            step,
            last: total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::MAX_UPSTREAMS;

    #[test]
    fn all_upstreams_get_their_chance_before_the_client_gives_up() {
        for upstreams in 1..=MAX_UPSTREAMS {
            let patience = Patience::new(upstreams, None, false);
            assert!(patience.total < Duration::from_secs(4));
            let others = u32::try_from(upstreams - 1).unwrap();
            assert!(patience.step * others < patience.total, "{upstreams}");
            assert!(patience.step >= Duration::from_millis(200));
        }
        assert_eq!(
            Patience::new(2, None, false).step,
            Duration::from_secs(1),
            "the first try does not eat it all"
        );
    }

    #[test]
    fn upstreams_that_are_down_hold_a_question_no_longer_than_a_check() {
        for upstreams in 1..=MAX_UPSTREAMS {
            let patience = Patience::new(upstreams, None, true);
            assert!(patience.total <= Duration::from_secs(1));
            assert!(patience.step * 2 < patience.total, "more than one try");
        }
    }

    #[test]
    fn an_own_limit_holds_and_may_stretch_the_whole_a_little() {
        let short = Patience::new(2, Some(Duration::from_millis(100)), false);
        assert_eq!(short.last, short.step);
        let long = Patience::new(1, Some(Duration::from_mins(1)), false);
        assert_eq!(long.total, Duration::from_secs(5));
    }
}
