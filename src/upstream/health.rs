//! Health checks of upstreams.
//!
//! A failed query is weak evidence: its name's authority may be dead behind a healthy upstream. So it only
//! starts health checks, as in CoreDNS. Consecutive failed checks mark the upstream down; a reply to a
//! check or to any query marks it up and ends the checks. A check that was not sent because of a local
//! error is not counted.

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

/// Health check settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Interval between two checks.
    pub interval: Duration,
    /// Whether checks have the RD bit.
    pub recursion_desired: bool,
    /// The name of the NS query that is sent. Any reply passes, whatever its rcode.
    pub domain: Name,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            recursion_desired: true,
            domain: Name::ROOT,
        }
    }
}

impl HealthCheck {
    /// A check without a reply within this time has failed.
    pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
    /// A reply to a check within this time still marks the upstream up: it is slow, not down.
    pub(super) const LATE_TIMEOUT: Duration = Duration::from_secs(4);
    /// Failed checks of an upstream that is down, after which it is not waited for as long as if it were up: 9
    /// seconds of silence with the default interval.
    pub(super) const LONG: u32 = 6;
    /// Lower bound on the interval, also if a shorter one or zero is configured.
    const MIN_INTERVAL: Duration = Duration::from_millis(20);
    /// Pause after a successful check. Without it, one dead authority behind a healthy upstream would cause
    /// a check per query.
    const PAUSE_AFTER_SUCCESS: Duration = Duration::from_millis(100);

    pub(super) fn question(&self) -> Question {
        Question::new(self.domain, Type::NS, Class::IN)
    }

    pub(super) fn pause(&self) -> Duration {
        self.interval.max(Self::MIN_INTERVAL)
    }
}

/// The health of one upstream.
#[derive(Debug)]
pub(super) struct Health {
    /// Consecutive failed checks after which the upstream is down; 0 for never.
    max_fails: u32,
    fails: AtomicU32,
    checking: AtomicBool,
    /// A reply was received since the checks began.
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

    /// Whether it has been down for [`HealthCheck::LONG`] more checks: this is no short outage.
    pub(super) fn is_long_down(&self) -> bool {
        let fails = self.fails.load(Ordering::Relaxed);
        self.max_fails > 0 && fails >= self.max_fails.saturating_add(HealthCheck::LONG)
    }

    /// Whether it failed its last check; other upstreams are then preferred.
    pub(super) fn is_suspect(&self) -> bool {
        self.fails.load(Ordering::Relaxed) > 0
    }

    /// Records a reply to any query.
    pub(super) fn answered(&self) {
        // A load comes first because every thread calls this for every reply.
        if self.checking.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
            self.fails.store(0, Ordering::Relaxed);
        }
    }

    /// Records a failed query. Returns whether the caller is to start the checks.
    pub(super) fn begin(&self) -> bool {
        let begins = self.max_fails > 0
            && !self.checking.load(Ordering::Relaxed)
            && !self.checking.swap(true, Ordering::AcqRel);
        if begins {
            self.answered.store(false, Ordering::Relaxed);
        }
        begins
    }

    /// Records a failed check. `None` if the upstream replied to another query since the checks began,
    /// otherwise whether this check marks it down.
    pub(super) fn failed_check(&self) -> Option<bool> {
        if self.has_answered() {
            return None;
        }
        let fails = self.fails.load(Ordering::Relaxed).saturating_add(1);
        self.fails.store(fails, Ordering::Relaxed);
        Some(fails == self.max_fails)
    }

    /// Whether a reply was received since the checks began.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Records the end of the checks.
    pub(super) fn end(&self) {
        self.fails.store(0, Ordering::Relaxed);
        self.checking.store(false, Ordering::Release);
    }
}

/// Checks `upstream`, for which [`Health::begin`] was true, until it replies. A strong reference is held
/// only during a check, so that the upstream can be dropped between checks.
pub(super) async fn check(upstream: Weak<Upstream>) {
    let _guard = EndGuard(Weak::clone(&upstream));
    loop {
        let Some(checked) = upstream.upgrade() else {
            return;
        };
        let (pause, runtime) = (checked.check.pause(), checked.runtime.clone());
        let was_down = checked.is_down();
        let mut probe = runtime.spawn(async move {
            let question = checked.check.question();
            let probe = checked.probe(&question, checked.check.recursion_desired);
            timeout(HealthCheck::LATE_TIMEOUT, probe).await
        });
        let reply = timeout(HealthCheck::TIMEOUT, &mut probe).await;
        let Some(checked) = upstream.upgrade() else {
            return;
        };
        let is_ours = matches!(&reply, Ok(Ok(Ok(Err(failure)))) if !failure.blames_upstream());
        if !matches!(reply, Ok(Ok(Ok(Ok(_))))) && !is_ours {
            checked.meter.failed_check();
            if checked.health.failed_check() == Some(true) {
                tracing::warn!(
                    target: "plugin/forward",
                    "Upstream {} is down: checking it every {pause:?}",
                    checked.label,
                );
            }
        }
        // The reply to this check has marked it up already.
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
            tokio::time::sleep(HealthCheck::PAUSE_AFTER_SUCCESS.min(pause)).await;
            return;
        }
    }
}

fn has_answered(upstream: &Weak<Upstream>) -> bool {
    let upstream = upstream.upgrade();
    upstream.is_some_and(|upstream| upstream.health.has_answered())
}

/// Records the end of the checks also on a panic: an upstream that is down and not checked would stay down.
struct EndGuard(Weak<Upstream>);

impl Drop for EndGuard {
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
    fn consecutive_failed_checks_mark_down_and_one_reply_marks_up() {
        let health = Health::new(2);
        assert!(health.begin(), "a query failed: checks begin");
        assert!(!health.is_suspect());
        assert!(!health.begin(), "they begin once");
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
            "it replied to another query meanwhile"
        );
        health.end();
        assert!(health.begin() && !health.has_answered());
    }

    #[test]
    fn failed_queries_alone_do_not_mark_an_upstream_down() {
        let health = Health::new(1);
        for _ in 0..10 {
            health.begin();
        }
        assert!(!health.is_down() && !health.is_suspect());
    }

    #[test]
    fn with_max_fails_zero_an_upstream_is_never_down() {
        let health = Health::new(0);
        assert!((0..10).all(|_| !health.begin() && !health.is_down()));
    }
}
