//! Fetching answers anew: before they expire, or once they have.
//!
//! A refresh asks the server itself, as the client that caused it did, with caches told to pass
//! ([`Context::refresh`]); what comes is kept on its way out through the cache. Whoever waits looks
//! into the store afterwards.

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

/// Refreshes under way at once. Each holds a query and a future, a few KiB; beyond that expired
/// answers are given without asking, and others expire.
const AT_ONCE: usize = 256;

/// How long a refresh may take, should whoever is asked have no limit of its own.
const LONGEST: Duration = Duration::from_secs(30);

/// What refreshes are begun with.
#[derive(Clone)]
pub struct Refreshes {
    runtime: Handle,
    permits: Arc<Semaphore>,
}

/// What a refresh is to mind.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How long a failed one keeps others of the same entry away.
    pub recheck: Duration,
    /// The type that was asked for, where only data of it count as a success, and a denial does not.
    pub needs_data: Option<Type>,
}

impl Refreshes {
    /// Refreshes that run on `runtime`.
    pub fn new(runtime: &Handle) -> Self {
        Self {
            runtime: runtime.clone(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Whether none is under way.
    #[cfg(test)]
    pub fn are_idle(&self) -> bool {
        self.permits.available_permits() == AT_ONCE
    }

    /// Begins to fetch `entry` anew, in the background, and gives what will come of it. Nothing
    /// begins where enough are under way, or one for this entry, or one has failed of late; or for
    /// a client that does not want recursion, whose reply would not be kept.
    pub fn begin(
        &self,
        context: &Context<'_>,
        query: &Query,
        entry: &Arc<Entry>,
        rules: Rules,
    ) -> Option<oneshot::Receiver<Reply>> {
        if !query.recursion_desired {
            return None;
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        if !entry.begin_refresh(query.received) {
            return None;
        }
        let mut underway = Underway {
            entry: Arc::clone(entry),
            rules,
            received: query.received,
            failed: true,
        };
        let answer = context.refresh(query);
        let (told, outcome) = oneshot::channel();
        self.runtime.spawn(async move {
            if let Ok(reply) = tokio::time::timeout(LONGEST, answer).await {
                underway.failed = !rules.are_met_by(&reply);
                // Ended before it is told, so that whoever waits finds the entry at rest.
                drop(underway);
                // Nobody may be waiting.
                told.send(reply).ok();
            }
            drop(permit);
        });
        Some(outcome)
    }
}

impl Rules {
    /// Whether a reply is what the refresh was for.
    pub fn are_met_by(&self, reply: &Reply) -> bool {
        match self.needs_data {
            Some(asked) => reply.answers(asked),
            None => matches!(reply.rcode, Rcode::NOERROR | Rcode::NXDOMAIN),
        }
    }
}

/// The time that it is, for a query: the clock's, or the query's where that is ahead.
pub fn now(query: &Query) -> Instant {
    query.received.max(Instant::now())
}

/// A refresh; however it ends, its entry learns of it.
struct Underway {
    entry: Arc<Entry>,
    rules: Rules,
    received: Instant,
    failed: bool,
}

impl Drop for Underway {
    fn drop(&mut self) {
        let now = self.received.max(Instant::now());
        self.entry.end_refresh(self.failed, self.rules.recheck, now);
    }
}
