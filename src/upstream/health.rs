//! Whether an upstream is worth asking.
//!
//! A failed query is weak evidence: its name's authority may be dead behind a healthy upstream. So it
//! only begins health checks, as in CoreDNS. Failed checks in a row mark the upstream down; a check that
//! is answered, or any answer meanwhile, marks it up and ends the checks. A check that could not be sent
//! for a reason of ours counts for nothing.

use std::{
    sync::{
        Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use super::Upstream;
use crate::{
    query::Question,
    wire::{Class, Name, Type},
};

/// How an upstream is checked.
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
    /// A check that is not answered within this has failed.
    pub(super) const PATIENCE: Duration = Duration::from_secs(1);
    /// An answer to a check still counts as one for so long: the upstream is slow, and no more.
    pub(super) const LATE: Duration = Duration::from_secs(4);
    /// Checks come no closer than this, also where none is asked for between them.
    const FLOOR: Duration = Duration::from_millis(20);
    /// After a check that was answered, no other begins for so long: with one dead authority behind a
    /// healthy upstream, every question to it would cause one.
    const REST: Duration = Duration::from_millis(100);

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
    /// Failed checks in a row after which it is down; 0 for never.
    max_fails: u32,
    fails: AtomicU32,
    checking: AtomicBool,
    /// An answer came since the checks began.
    answered: AtomicBool,
}

impl Health {
    pub(super) fn new(max_fails: u32) -> Self {
        Self {
            max_fails,
            fails: AtomicU32::new(0),
            checking: AtomicBool::new(false),
            answered: AtomicBool::new(false),
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.max_fails > 0 && self.fails.load(Ordering::Relaxed) >= self.max_fails
    }

    /// Whether it failed its last check: others are preferred already.
    pub(super) fn is_suspect(&self) -> bool {
        self.fails.load(Ordering::Relaxed) > 0
    }

    /// It answered, whatever it was asked.
    pub(super) fn answered(&self) {
        // Read first: this is called for every answer, by every thread.
        if self.checking.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
            self.fails.store(0, Ordering::Relaxed);
        }
    }

    /// A question to it failed. True where the caller is to begin with checks.
    pub(super) fn begin(&self) -> bool {
        let begins = self.max_fails > 0
            && !self.checking.load(Ordering::Relaxed)
            && !self.checking.swap(true, Ordering::AcqRel);
        if begins {
            self.answered.store(false, Ordering::Relaxed);
        }
        begins
    }

    /// A check was not answered. Nothing where the upstream answered something else since the checks
    /// began; else whether that check marks it down.
    pub(super) fn failed_check(&self) -> Option<bool> {
        if self.has_answered() {
            return None;
        }
        let fails = self.fails.load(Ordering::Relaxed).saturating_add(1);
        self.fails.store(fails, Ordering::Relaxed);
        Some(fails == self.max_fails)
    }

    /// Whether an answer came since the checks began.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// The checks have come to their end.
    pub(super) fn end(&self) {
        self.fails.store(0, Ordering::Relaxed);
        self.checking.store(false, Ordering::Release);
    }
}

/// Checks `upstream`, for which [`Health::begin`] was true, until it answers. It is held only while it is
/// being asked, so that it can go meanwhile.
pub(super) async fn check(upstream: Weak<Upstream>) {
    let _ending = Ending(Weak::clone(&upstream));
    loop {
        let Some(checked) = upstream.upgrade() else {
            return;
        };
        let (pause, runtime) = (checked.check.pause(), checked.runtime.clone());
        let was_down = checked.is_down();
        let mut asking = runtime.spawn(async move {
            let question = checked.check.question();
            let asking = checked.probe(&question, checked.check.recursion_desired);
            timeout(Check::LATE, asking).await
        });
        let answer = timeout(Check::PATIENCE, &mut asking).await;
        let Some(checked) = upstream.upgrade() else {
            return;
        };
        let is_ours = matches!(&answer, Ok(Ok(Ok(Err(failure)))) if !failure.blames_upstream());
        if !matches!(answer, Ok(Ok(Ok(Ok(_))))) && !is_ours {
            checked.meter.failed_check();
            if checked.health.failed_check() == Some(true) {
                tracing::warn!(
                    target: "plugin/forward",
                    "Upstream {} is down: asking it every {pause:?} whether it is up again",
                    checked.label,
                );
            }
        }
        // The answer to this check has marked it up already.
        let was_down = was_down || checked.is_down();
        drop(checked);
        if !has_answered(&upstream) {
            tokio::time::sleep(pause).await;
        }
        if has_answered(&upstream) {
            if was_down && let Some(checked) = upstream.upgrade() {
                tracing::info!(
                    target: "plugin/forward",
                    "Upstream {} is up again", checked.label
                );
            }
            tokio::time::sleep(Check::REST.min(pause)).await;
            return;
        }
    }
}

fn has_answered(upstream: &Weak<Upstream>) -> bool {
    let upstream = upstream.upgrade();
    upstream.is_some_and(|upstream| upstream.health.has_answered())
}

/// Ends the checks however they end: an upstream that is down and not checked would stay so.
struct Ending(Weak<Upstream>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(upstream) = self.0.upgrade() {
            upstream.health.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_checks_in_a_row_count_and_one_answer_forgives() {
        let health = Health::new(2);
        assert!(health.begin(), "a question failed: begin to check");
        assert!(!health.is_suspect());
        assert!(!health.begin(), "one begins");
        assert_eq!(health.failed_check(), Some(false));
        assert!(health.is_suspect() && !health.is_down());
        assert_eq!(health.failed_check(), Some(true));
        assert!(health.is_down());
        assert_eq!(health.failed_check(), Some(false), "it was down before");
        health.answered();
        assert!(!health.is_down() && !health.is_suspect());
        assert_eq!(
            health.failed_check(),
            None,
            "it answered something else meanwhile"
        );
        health.end();
        assert!(health.begin() && !health.has_answered());
    }

    #[test]
    fn questions_alone_mark_nothing_down() {
        let health = Health::new(1);
        for _ in 0..10 {
            health.begin();
        }
        assert!(!health.is_down() && !health.is_suspect());
    }

    #[test]
    fn zero_means_never() {
        let health = Health::new(0);
        assert!((0..10).all(|_| !health.begin() && !health.is_down()));
    }
}
