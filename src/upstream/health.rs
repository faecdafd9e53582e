//! Whether an upstream is worth asking: counted failures, and checks while it is down.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::{
    query::Question,
    wire::{Class, Name, Type},
};

/// How an upstream that is down is asked whether it is up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Time between two checks.
    pub interval: Duration,
    /// Whether recursion is asked for.
    pub recursion_desired: bool,
    /// The name whose NS records are asked for. Any reply will do, whatever its rcode.
    pub domain: Name,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            recursion_desired: true,
            domain: Name::ROOT,
        }
    }
}

impl Check {
    /// How long one check waits for its reply.
    pub(super) const PATIENCE: Duration = Duration::from_secs(1);
    /// Checks come no closer than this, also where none is asked for between them.
    const FLOOR: Duration = Duration::from_millis(20);

    pub(super) fn question(&self) -> Question {
        Question::new(self.domain, Type::NS, Class::IN)
    }

    pub(super) fn pause(&self) -> Duration {
        self.interval.max(Self::FLOOR)
    }
}

/// The health of one upstream.
#[derive(Debug)]
pub(super) struct Health {
    /// Failures in a row after which it is down; 0 for never.
    max_fails: u32,
    fails: AtomicU32,
    checking: AtomicBool,
}

impl Health {
    pub(super) fn new(max_fails: u32) -> Self {
        Self {
            max_fails,
            fails: AtomicU32::new(0),
            checking: AtomicBool::new(false),
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.max_fails > 0 && self.fails.load(Ordering::Relaxed) >= self.max_fails
    }

    /// It answered: all is forgiven.
    pub(super) fn answered(&self) {
        if self.fails.load(Ordering::Relaxed) > 0 {
            self.fails.store(0, Ordering::Relaxed);
        }
    }

    /// It did not. True where the caller is to begin with the checks: it is down, and nobody
    /// checks yet.
    pub(super) fn failed(&self) -> bool {
        let _ = self
            .fails
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |fails| {
                Some(fails.saturating_add(1))
            });
        self.is_down() && !self.checking.swap(true, Ordering::AcqRel)
    }

    /// True where the caller is to go on with the checks, since nobody else has begun them.
    pub(super) fn resume(&self) -> bool {
        !self.checking.swap(true, Ordering::AcqRel)
    }

    /// The checks have come to their end.
    pub(super) fn checked(&self) {
        self.checking.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_count_and_one_answer_forgives() {
        let health = Health::new(2);
        assert!(!health.failed());
        health.answered();
        assert!(!health.failed());
        assert!(!health.is_down());
        assert!(health.failed(), "down now: begin to check");
        assert!(health.is_down());
        assert!(!health.failed(), "one begins");
        health.answered();
        health.checked();
        assert!(!health.is_down());
    }

    #[test]
    fn zero_means_never() {
        let health = Health::new(0);
        assert!((0..10).all(|_| !health.failed() && !health.is_down()));
    }
}
