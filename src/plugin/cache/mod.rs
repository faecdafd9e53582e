//! cache: remembers what upstreams say.
//!
//! Kept are replies whose reason is an upstream ([`Why::is_upstreams`]), for as long as their
//! shortest TTL says, within limits. What is answered here, from the cluster or a hosts table, is
//! never kept: it changes under a cache's hands, passes with its own TTL and is looked up anew.
//!
//! Its place in the chain is therefore behind everything that answers from data of its own or
//! rewrites questions, and in front of what forwards. There, a name that `kubernetes` or `hosts`
//! let fall through today and knows tomorrow is theirs at once, and the name that is looked up is
//! the one under which the reply is kept.
//!
//! ```text
//! key      what two questions must have in common to share an answer
//! entry    whether and for how long a reply is kept, and how it is given
//! counters the metrics, a set for each server and view
//! near     what a thread has given of late, in front of the store
//! store    the bounded place, the choice between what is held
//! refresh  fetching anew, before or after expiry
//! config   the options; parse.rs reads them from a Corefile
//! ```
//!
//! A query is looked up at the time it was received; a reply is kept from the time it came.

pub mod config;
mod counters;
mod entry;
mod key;
mod near;
mod parse;
mod refresh;
mod store;

use std::{sync::Arc, time::Duration};

pub use parse::parse;

use self::{
    config::{Config, ServeStale, Verify},
    counters::Counters,
    entry::{Entry, Kind, Verdict, finish},
    key::KeyRef,
    refresh::{Refreshes, Rules, now},
    store::{Found, Store},
};
use super::{
    Build, BuildError, Context, Describe, OnQuery, OnResponse, Plugin, Properties, Resolved, Setup,
    Step,
};
use crate::{
    hooks,
    query::Query,
    reply::{Reply, Why},
};

/// The Corefile's word.
const NAME: &str = "cache";

/// The cache of one server block. Clones share everything.
#[derive(Clone)]
pub struct Cache {
    config: Arc<Config>,
    store: Arc<Store>,
    counters: Arc<Counters>,
    refreshes: Refreshes,
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(self.cache(build)?))
    }
}

impl Config {
    fn cache(&self, build: &mut Build<'_>) -> Result<Cache, BuildError> {
        // Never shared between blocks: another block may ask other upstreams. Two blocks for one
        // zone are told apart by their views.
        let key = format!(
            "{} {:?} {:?} {:?} {self:?}",
            build.server, build.addresses, build.zones, build.view
        );
        let make = || Ok::<_, BuildError>(Store::new(self));
        let store = build.parts.keep_own(&key, make)?;
        Ok(Cache {
            config: Arc::new(self.clone()),
            counters: Counters::new(build.metrics, self.zones.label(), &store),
            store,
            refreshes: Refreshes::new(build.runtime),
        })
    }
}

hooks!(Cache, NAME => on_query, on_response; properties);

impl Describe for Cache {
    fn properties(&self) -> Properties {
        Properties {
            caches: true,
            ..Properties::default()
        }
    }
}

impl OnQuery for Cache {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if query.bypass.cache || !self.covers(query) {
            return Step::Pass;
        }
        let counters = self.counters.of(context.block);
        counters.requests.inc();
        let key = KeyRef::of(query);
        let given = near::find(
            self.store.number(),
            key,
            query.received,
            |entry, remaining| {
                counters.hits.of(entry.kind).inc();
                self.hit(context, query, reply, entry, remaining);
            },
        );
        if given.is_some() {
            return Step::Answer;
        }
        let stale = self.config.serve_stale.as_ref();
        match self.store.find(key, query.received, stale) {
            Found::Nothing => {
                counters.misses.inc();
                Step::Pass
            }
            Found::Fresh(entry, remaining) => {
                counters.hits.of(entry.kind).inc();
                self.hit(context, query, reply, &entry, remaining);
                near::keep(key, entry);
                Step::Answer
            }
            Found::Stale { entry, settled } => match stale {
                Some(stale) => {
                    counters.hits.of(entry.kind).inc();
                    self.ask_stale(context, query, reply, entry, settled, *stale)
                }
                None => Step::Pass,
            },
        }
    }
}

impl OnResponse for Cache {
    fn on_response(&self, context: &Context<'_>, query: &Query, reply: &mut Reply) {
        let key = KeyRef::of(query);
        if !reply.why.is_upstreams() {
            if query.bypass.cache {
                // The name has become ours: what an upstream said of it is void.
                self.store.deny(key, None);
            }
            return;
        }
        if !self.covers(query) {
            return;
        }
        let stale = self.config.serve_stale.as_ref();
        let Some(verdict) = Verdict::of(&self.config, query, reply) else {
            return;
        };
        if self.keeps(verdict.kind, query) {
            let now = now(query);
            let entry = Entry::new(verdict, key, reply, now);
            let evicted = self.store.insert(entry, now, stale);
            if evicted > 0 {
                let counters = self.counters.of(context.block);
                counters.evictions.of(verdict.kind).add(evicted);
            }
        } else if verdict.kind == Kind::Denial {
            self.store.deny(key, stale);
        }
        // The limits hold for the first asker already: later ones must not see a longer TTL.
        finish(reply, verdict.ttl);
    }
}

impl Cache {
    fn covers(&self, query: &Query) -> bool {
        self.config.zones.covers(query.question.lower.as_ref())
    }

    /// Whether replies of this kind to this question are to be kept.
    fn keeps(&self, kind: Kind, query: &Query) -> bool {
        let disabled = match kind {
            Kind::Success => &self.config.no_success,
            Kind::Denial | Kind::Failure => &self.config.no_denial,
        };
        // An upstream that was asked not to recurse may know less than it would tell others.
        query.recursion_desired && !disabled.covers(query.question.lower.as_ref())
    }

    /// Gives what is fresh.
    fn hit(
        &self,
        context: &Context<'_>,
        query: &Query,
        reply: &mut Reply,
        entry: &Arc<Entry>,
        remaining: u32,
    ) {
        self.prefetch(context, query, entry, remaining);
        self.give(reply, entry, remaining);
    }

    fn give(&self, reply: &mut Reply, entry: &Entry, remaining: u32) {
        let ttl = if self.config.keep_ttl {
            entry.ttl()
        } else {
            remaining
        };
        entry.give(reply, ttl, Why::Cached);
    }

    fn prefetch(&self, context: &Context<'_>, query: &Query, entry: &Arc<Entry>, remaining: u32) {
        let Some(prefetch) = &self.config.prefetch else {
            return;
        };
        if entry.kind != Kind::Failure && entry.is_due(prefetch, query.received, remaining) {
            self.fetch_ahead(context, query, entry);
        }
    }

    #[cold]
    fn fetch_ahead(&self, context: &Context<'_>, query: &Query, entry: &Arc<Entry>) {
        let rules = Rules {
            recheck: Duration::ZERO,
            needs_data: None,
        };
        if self.refreshes.begin(context, query, entry, rules).is_some() {
            self.counters.of(context.block).prefetches.inc();
        }
    }

    /// Gives an expired answer at once and fetches it anew, or the other way round. In a place of its
    /// own: it takes some room to put a query away.
    #[cold]
    fn ask_stale(
        &self,
        context: &Context<'_>,
        query: &Query,
        reply: &mut Reply,
        entry: Arc<Entry>,
        settled: bool,
        stale: ServeStale,
    ) -> Step {
        let rules = Rules {
            recheck: stale.recheck,
            needs_data: (stale.prefer_positive && entry.has_answer())
                .then_some(query.question.rtype),
        };
        // One refresh of an entry is in flight at a time, and only the query that started it waits:
        // for all others a slow upstream costs nothing.
        let outcome = (!settled)
            .then(|| self.refreshes.begin(context, query, &entry, rules))
            .flatten();
        let (Some(verify), Some(outcome)) = (stale.verify, outcome) else {
            self.counters.of(context.block).stale.inc();
            entry.give(reply, stale.ttl, Why::Stale);
            return Step::Answer;
        };
        let cache = self.clone();
        let query = query.clone();
        let block = Arc::clone(context.block);
        Step::Wait(Box::pin(async move {
            let came = wait(verify, outcome).await;
            let reply = cache.verified(&query, &entry, came, rules, stale);
            if reply.why == Why::Stale {
                cache.counters.of(&block).stale.inc();
            }
            Resolved::Answer(reply)
        }))
    }

    /// The answer after a refresh was waited for: what the store has now, what came and was not to
    /// be kept, or what has expired.
    fn verified(
        &self,
        query: &Query,
        expired: &Entry,
        came: Option<Reply>,
        rules: Rules,
        stale: ServeStale,
    ) -> Reply {
        if let Some(came) = came.filter(|came| rules.are_met_by(came)) {
            let mut reply = Reply::default();
            let found = self.store.find(KeyRef::of(query), now(query), Some(&stale));
            return match found {
                Found::Fresh(entry, remaining) => {
                    self.give(&mut reply, &entry, remaining);
                    reply
                }
                _ => came,
            };
        }
        let mut reply = Reply::default();
        expired.give(&mut reply, stale.ttl, Why::Stale);
        reply
    }
}

async fn wait(verify: Verify, outcome: tokio::sync::oneshot::Receiver<Reply>) -> Option<Reply> {
    match verify.timeout {
        Some(timeout) => tokio::time::timeout(timeout, outcome).await.ok()?.ok(),
        None => outcome.await.ok(),
    }
}

#[cfg(test)]
mod tests;
