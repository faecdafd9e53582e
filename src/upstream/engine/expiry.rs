//! What happens to an engine's queries as time passes: timeouts, evictions, owners that go.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use super::{Engine, Finished, QueryOwner, SubmittedQuery, TICK};
use crate::{
    reply::Reply,
    upstream::{exchange::Action, in_flight::Lead, pending},
};

impl<T: QueryOwner> SubmittedQuery<T> {
    /// Whether nothing waits for the reply, neither the owner nor a follower.
    fn is_cancelled(&self) -> bool {
        self.owner.is_gone() && !self.lead.as_ref().is_some_and(Lead::has_followers)
    }
}

impl<T: QueryOwner> Engine<T> {
    /// Follows up on timeouts and evictions.
    pub(super) fn expire(&mut self, now: Instant) {
        if now.saturating_duration_since(self.expired) < TICK {
            return;
        }
        self.expired = now;
        let evictions = pending::evictions();
        if self.evictions != evictions {
            self.evictions = evictions;
            self.evict();
        }
        let mut due = Vec::new();
        self.timers.expire(now, &mut due);
        let mut reply = Reply::default();
        for key in due {
            let Some(slot) = self.slot(key) else {
                continue;
            };
            let query = &mut self.queries[slot];
            query.timer = None;
            let Some(exchange) = &mut query.exchange else {
                continue;
            };
            let request = &query.query.request;
            let action = if exchange.next_timeout(request) <= now {
                exchange.on_timeout(request, &mut reply, now)
            } else {
                Action::Wait
            };
            if self.act(slot, action, &mut reply, now) {
                self.finish(slot, &mut reply);
            }
        }
    }

    /// Ends the queries that have been evicted, and those whose owner has gone.
    fn evict(&mut self) {
        let over: Vec<_> = self
            .queries
            .iter()
            .filter(|(_, query)| query.is_cancelled() || query.query.evicted().is_some())
            .map(|(slot, _)| slot)
            .collect();
        for slot in over {
            let mut query = self.remove(slot);
            let Some(reply) = query.query.evicted() else {
                continue;
            };
            if let Some(exchange) = &mut query.exchange {
                exchange.count_open(&query.query.request);
            }
            // Its lead goes with it: the followers are submitted again.
            self.finished.push(Finished {
                owner: query.owner,
                reply: Box::new(reply),
                failure: None,
            });
        }
    }

    /// Looks at every query again after a panic, which may have lost events and timers. A query whose timer was
    /// being processed is dropped, and so is one that cannot be started: it would panic again.
    pub fn recover(&mut self, now: Instant) {
        let slots: Vec<_> = self.queries.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let query = &mut self.queries[slot];
            match (&query.exchange, query.timer.take()) {
                (Some(_), Some(_)) => self.arm(slot),
                (Some(_), None) => drop(self.remove(slot)),
                (None, _) => {
                    // A lead without an exchange would make the query follow itself.
                    query.lead = None;
                    let start = AssertUnwindSafe(|| self.start(slot, now));
                    if catch_unwind(start).is_err() && self.queries.contains(slot) {
                        drop(self.remove(slot));
                    }
                }
            }
        }
    }
}
