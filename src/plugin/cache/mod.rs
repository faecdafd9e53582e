//! `cache`: caches the responses of upstreams.
//!
//! Cached are replies from an upstream ([`Why::is_upstreams`]), for their shortest TTL within the
//! configured bounds. Replies from local data, such as the cluster or a hosts table, are never cached:
//! the data change without notice to the cache, and are looked up at no cost.
//!
//! The cache stands in the chain after all plugins that answer from local data or rewrite queries, and
//! before those that forward. So a name that is new to `kubernetes` or `hosts` is answered by them at
//! once, and a reply is cached under the name that was looked up.
//!
//! ```text
//! key      what two questions must have in common to share an answer
//! entry    one cached reply: whether it is cacheable, its TTL, its state of refresh
//! counters the metrics, a set for each server and view
//! near     a per-thread cache in front of the store
//! store    the bounded store, and the choice between its entries
//! refresh  prefetch before expiry, refresh after it
//! config   the options; parse.rs reads them from a Corefile
//! ```
//!
//! Lookups use the time at which the query was received; an entry's lifetime begins when its reply was
//! received.

pub mod config;
mod counters;
mod entry;
mod key;
mod near;
mod parse;
mod refresh;
mod store;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::config::Config;
pub use parse::parse;

use self::{
    config::{KEPT_TTL, KeepLastGood, ServeStale, Verify},
    counters::Counters,
    entry::{Cacheability, Entry, Kind, finish},
    key::KeyRef,
    refresh::{RefreshRules, Refreshes, now},
    store::{CacheLookup, Store},
};
use super::{
    Build, BuildError, Context, Describe, OnQuery, OnResponse, Plugin, Properties, Resolved, Setup,
    Step,
};
use crate::{
    hooks,
    query::Query,
    reply::{ExtendedError, Reply, Section, Why},
    wire::{Rcode, Type},
};

/// The name of the plugin in a Corefile.
const NAME: &str = "cache";

/// The cache of one server block. Clones share everything.
#[derive(Clone)]
pub struct Cache {
    config: Arc<Config>,
    store: Arc<Store>,
    counters: Arc<Counters>,
    refreshes: Refreshes,
}

impl Config {
    /// Bytes of memory that the cache takes at most.
    pub fn max_bytes(&self) -> u64 {
        let entries = config::rounded(self.success.capacity)
            .saturating_add(config::rounded(self.denial.capacity));
        store::SHARE.saturating_mul(entries.try_into().unwrap_or(u64::MAX))
    }

    /// Lowers the capacities in proportion so that the cache takes at most `bytes`, but holds some entries.
    pub fn limit_bytes(&mut self, bytes: u64) {
        let before = self.max_bytes().max(1);
        let least = u64::try_from(config::rounded(0)).unwrap_or(u64::MAX);
        let left = bytes.saturating_sub(2 * least * store::SHARE) / store::SHARE;
        for bounds in [&mut self.success, &mut self.denial] {
            let weight = u128::try_from(config::rounded(bounds.capacity)).unwrap_or(u128::MAX);
            let share = u128::from(left) * weight * u128::from(store::SHARE) / u128::from(before);
            let lowered = usize::try_from(u128::from(least) + share).unwrap_or(usize::MAX);
            bounds.capacity = bounds.capacity.min(lowered);
        }
    }
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(self.cache(build)?))
    }
}

impl Config {
    fn cache(&self, build: &mut Build<'_>) -> Result<Cache, BuildError> {
        // Never shared between blocks: another block may have other upstreams. Two blocks for one
        // zone differ in their views.
        let key = format!(
            "{} {:?} {:?} {:?} {self:?}",
            build.server, build.addresses, build.zones, build.view
        );
        let make = || Ok::<_, BuildError>(Store::new(self));
        let store = build.resources.keep_own(&key, make)?;
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
        let stale = self.stale_rules(query);
        match self.store.find(key, query.received, stale.as_ref()) {
            CacheLookup::Miss => {
                counters.misses.inc();
                Step::Pass
            }
            CacheLookup::Fresh(entry, remaining) => {
                counters.hits.of(entry.kind).inc();
                self.hit(context, query, reply, &entry, remaining);
                near::insert(key, entry);
                Step::Answer
            }
            CacheLookup::Stale { entry, settled } => match stale {
                Some(stale) if self.config.serve_stale.is_some() => {
                    counters.hits.of(entry.kind).inc();
                    self.serve_stale(context, query, reply, entry, settled, stale)
                }
                // The upstream's denial or failure is still fresh.
                Some(_) if settled => {
                    counters.hits.of(entry.kind).inc();
                    counters.stale.inc();
                    keep(&entry, None, reply);
                    Step::Answer
                }
                _ => {
                    counters.misses.inc();
                    Step::Pass
                }
            },
        }
    }
}

impl OnResponse for Cache {
    fn on_response(&self, context: &Context<'_>, query: &Query, reply: &mut Reply) {
        let key = KeyRef::of(query);
        if !reply.why.is_upstreams() {
            if query.bypass.cache {
                // The name is now answered from local data: a cached response of an upstream is void.
                self.store.deny(key, None);
            }
            return;
        }
        if !self.covers(query) {
            return;
        }
        let stale = self.stale_rules(query);
        let now = now(query);
        let Some(verdict) = Cacheability::of(&self.config, query, reply) else {
            if denies_or_fails(reply) {
                self.keep_last_good(context, query, reply, now, stale.as_ref());
            }
            return;
        };
        if self.is_cached(verdict.kind, query) {
            let entry = Entry::new(verdict, key, reply, now);
            let evicted = self.store.insert(entry, now, stale.as_ref());
            if evicted > 0 {
                let counters = self.counters.of(context.block);
                counters.evictions.of(verdict.kind).add(evicted);
            }
        } else if verdict.kind == Kind::Denial {
            self.store.deny(key, stale.as_ref());
        }
        if verdict.kind != Kind::Success
            && self.keep_last_good(context, query, reply, now, stale.as_ref())
        {
            return;
        }
        // The TTL is bounded in the first reply too: a later one from the cache must not be longer.
        finish(reply, verdict.ttl);
    }
}

/// Whether a reply that is not cached denies the name or fails: a denial without an SOA record, REFUSED, or any
/// where its kind is cached for no time.
fn denies_or_fails(reply: &Reply) -> bool {
    let has_data = !reply.section(Section::Answer).is_empty() || reply.has_authority(Type::NS);
    !reply.truncated && (reply.rcode != Rcode::NOERROR || !has_data)
}

/// Answers from the last good entry, in place of an upstream's denial or failure with this response code.
fn keep(entry: &Entry, instead_of: Option<Rcode>, reply: &mut Reply) {
    entry.write_to(reply, KEPT_TTL, Why::Stale);
    let text = match instead_of {
        Some(rcode) => format!("kept answer: the upstream server now says {rcode}"),
        None => "kept answer: the upstream server denied the name, or failed".to_owned(),
    };
    reply.extended_error = Some(ExtendedError {
        code: Why::Stale.info_code(),
        text: text.into(),
    });
}

impl Cache {
    /// The rule by which positive answers for the query's name outlive a denial.
    fn keeps(&self, query: &Query) -> Option<&KeepLastGood> {
        let keep = self.config.keep_last_good.as_ref();
        keep.filter(|keep| keep.zones.covers(query.question.lower.as_ref()))
    }

    /// Replaces an upstream's denial or failure by the last positive answer, where that is to be kept and is
    /// there. Returns whether it is.
    fn keep_last_good(
        &self,
        context: &Context<'_>,
        query: &Query,
        reply: &mut Reply,
        now: Instant,
        stale: Option<&ServeStale>,
    ) -> bool {
        if self.keeps(query).is_none() {
            return false;
        }
        match self.store.find(KeyRef::of(query), now, stale) {
            CacheLookup::Stale { entry, .. } if entry.has_answer() => {
                self.counters.of(context.block).stale.inc();
                keep(&entry, Some(reply.rcode), reply);
                true
            }
            _ => false,
        }
    }

    /// Which expired entries are of use for a query.
    fn stale_rules(&self, query: &Query) -> Option<ServeStale> {
        let Some(keep) = self.keeps(query) else {
            return self.config.serve_stale;
        };
        let stale = self.config.serve_stale.unwrap_or(ServeStale {
            up_to: Duration::ZERO,
            ..ServeStale::default()
        });
        Some(ServeStale {
            up_to: stale.up_to.max(keep.up_to),
            prefer_positive: true,
            ..stale
        })
    }

    fn covers(&self, query: &Query) -> bool {
        self.config.zones.covers(query.question.lower.as_ref())
    }

    /// Whether replies of this kind to this query are cached.
    fn is_cached(&self, kind: Kind, query: &Query) -> bool {
        let disabled = match kind {
            Kind::Success => &self.config.no_success,
            Kind::Denial | Kind::Failure => &self.config.no_denial,
        };
        // Without RD, an upstream may answer with less data than a recursive query would yield.
        query.recursion_desired && !disabled.covers(query.question.lower.as_ref())
    }

    /// Answers from a fresh entry, and prefetches it if that is due.
    fn hit(
        &self,
        context: &Context<'_>,
        query: &Query,
        reply: &mut Reply,
        entry: &Arc<Entry>,
        remaining: u32,
    ) {
        self.prefetch(context, query, entry, remaining);
        self.answer(reply, entry, remaining);
    }

    fn answer(&self, reply: &mut Reply, entry: &Entry, remaining: u32) {
        let ttl = if self.config.keep_ttl {
            entry.ttl()
        } else {
            remaining
        };
        entry.write_to(reply, ttl, Why::Cached);
    }

    fn prefetch(&self, context: &Context<'_>, query: &Query, entry: &Arc<Entry>, remaining: u32) {
        let Some(prefetch) = &self.config.prefetch else {
            return;
        };
        if entry.kind != Kind::Failure && entry.is_due(prefetch, query.received, remaining) {
            self.start_prefetch(context, query, entry);
        }
    }

    #[cold]
    fn start_prefetch(&self, context: &Context<'_>, query: &Query, entry: &Arc<Entry>) {
        let rules = RefreshRules {
            recheck: Duration::ZERO,
            needs_data: None,
        };
        if self.refreshes.begin(context, query, entry, rules).is_some() {
            self.counters.of(context.block).prefetches.inc();
        }
    }

    /// Answers from an expired entry and refreshes it, in the order that the configuration gives (RFC
    /// 8767 section 5). Not inlined: cloning a query needs stack space.
    #[cold]
    fn serve_stale(
        &self,
        context: &Context<'_>,
        query: &Query,
        reply: &mut Reply,
        entry: Arc<Entry>,
        settled: bool,
        stale: ServeStale,
    ) -> Step {
        let rules = RefreshRules {
            recheck: stale.recheck,
            needs_data: (stale.prefer_positive && entry.has_answer())
                .then_some(query.question.rtype),
        };
        // One refresh of an entry is in flight at a time, and only the query that started it is
        // pending on it: all others are answered at once.
        let outcome = (!settled)
            .then(|| self.refreshes.begin(context, query, &entry, rules))
            .flatten();
        let (Some(verify), Some(outcome)) = (stale.verify, outcome) else {
            self.counters.of(context.block).stale.inc();
            entry.write_to(reply, stale.ttl, Why::Stale);
            return Step::Answer;
        };
        let cache = self.clone();
        let query = query.clone();
        let block = Arc::clone(context.block);
        Step::Wait(Box::pin(async move {
            let refreshed = refreshed(verify, outcome).await;
            let reply = cache.verified(&query, &entry, refreshed, rules, stale);
            if reply.why == Why::Stale {
                cache.counters.of(&block).stale.inc();
            }
            Resolved::Answer(reply)
        }))
    }

    /// The answer after a refresh: the store's new entry, the refreshed reply if it was not cacheable,
    /// or the expired entry if the refresh failed.
    fn verified(
        &self,
        query: &Query,
        expired: &Entry,
        refreshed: Option<Reply>,
        rules: RefreshRules,
        stale: ServeStale,
    ) -> Reply {
        if let Some(refreshed) = refreshed.filter(|reply| rules.are_met_by(reply)) {
            let mut reply = Reply::default();
            let found = self.store.find(KeyRef::of(query), now(query), Some(&stale));
            return match found {
                CacheLookup::Fresh(entry, remaining) => {
                    self.answer(&mut reply, &entry, remaining);
                    reply
                }
                _ => refreshed,
            };
        }
        let mut reply = Reply::default();
        expired.write_to(&mut reply, stale.ttl, Why::Stale);
        reply
    }
}

/// The reply of a refresh, or `None` after the timeout of `verify`.
async fn refreshed(
    verify: Verify,
    outcome: tokio::sync::oneshot::Receiver<Reply>,
) -> Option<Reply> {
    match verify.timeout {
        Some(timeout) => tokio::time::timeout(timeout, outcome).await.ok()?.ok(),
        None => outcome.await.ok(),
    }
}

#[cfg(test)]
mod tests;
