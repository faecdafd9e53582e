//! Refreshes of entries: prefetches before they expire, and refreshes of stale ones.
//!
//! A refresh repeats the query through the server, bypassing caches ([`Context::refresh`]); the reply is
//! cached by the response hook as any other. A query that is pending on the refresh looks into the store
//! afterwards.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
};

use super::entry::Entry;
use crate::{
    plugin::Context,
    query::Query,
    reply::Reply,
    wire::{Rcode, Type},
};

/// Refreshes in flight at most. Each holds a query and a future, a few KiB. At the limit, stale
/// entries are served without a refresh, and fresh ones are not prefetched.
const MAX_IN_FLIGHT: usize = 256;

/// Timeout of a refresh, for plugins without a timeout of their own.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Starts refreshes, up to the limit.
#[derive(Clone)]
pub struct Refreshes {
    runtime: Handle,
    permits: Arc<Semaphore>,
}

/// What counts as success of a refresh, and the delay after a failure.
#[derive(Clone, Copy, Debug)]
pub struct RefreshRules {
    /// How long no other refresh of the entry is started after a failed one.
    pub recheck: Duration,
    /// The queried type, if only data of it count as a success and a denial does not.
    pub needs_data: Option<Type>,
}

impl Refreshes {
    /// Refreshes that run on `runtime`.
    pub fn new(runtime: &Handle) -> Self {
        Self {
            runtime: runtime.clone(),
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
        }
    }

    /// Whether none is in flight.
    #[cfg(test)]
    pub fn are_idle(&self) -> bool {
        self.permits.available_permits() == MAX_IN_FLIGHT
    }

    /// Starts a refresh of `entry` in the background, and returns the receiver of its reply. `None` at
    /// the limit, if a refresh of the entry is in flight or has failed less than `recheck` ago, and for
    /// queries without RD, whose replies are not cached.
    pub fn begin(
        &self,
        context: &Context<'_>,
        query: &Query,
        entry: &Arc<Entry>,
        rules: RefreshRules,
    ) -> Option<oneshot::Receiver<Reply>> {
        if !query.recursion_desired {
            return None;
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        if !entry.begin_refresh(query.received) {
            return None;
        }
        let mut guard = RefreshGuard {
            entry: Arc::clone(entry),
            rules,
            received: query.received,
            failed: true,
        };
        let answer = context.refresh(query);
        let (sender, outcome) = oneshot::channel();
        self.runtime.spawn(async move {
            if let Ok(reply) = tokio::time::timeout(TIMEOUT, answer).await {
                guard.failed = !rules.are_met_by(&reply);
                // Ended before the reply is sent, so that the receiver can start another one.
                drop(guard);
                // The receiver may be dropped: a prefetch has none.
                sender.send(reply).ok();
            }
            drop(permit);
        });
        Some(outcome)
    }
}

impl RefreshRules {
    /// Whether a reply counts as success.
    pub fn are_met_by(&self, reply: &Reply) -> bool {
        match self.needs_data {
            Some(rtype) => reply.answers(rtype),
            None => matches!(reply.rcode, Rcode::NOERROR | Rcode::NXDOMAIN),
        }
    }
}

/// The current time, but never before the time at which the query was received.
pub fn now(query: &Query) -> Instant {
    query.received.max(Instant::now())
}

/// A refresh in flight. Dropping it ends the refresh of its entry, also on cancellation.
struct RefreshGuard {
    entry: Arc<Entry>,
    rules: RefreshRules,
    received: Instant,
    failed: bool,
}

impl Drop for RefreshGuard {
    fn drop(&mut self) {
        let now = self.received.max(Instant::now());
        self.entry.end_refresh(self.failed, self.rules.recheck, now);
    }
}
