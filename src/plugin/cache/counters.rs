//! The cache's counters, one set for each server and view that asks it.

use std::sync::{Arc, Weak};

use super::{entry::Kind, store::Store};
use crate::{
    metrics::{Metrics, Tally},
    plugin::{Block, append_list::PerServer},
};

/// The sets of counters of one cache.
pub struct Counters {
    metrics: Arc<Metrics>,
    zones: String,
    store: Arc<Store>,
    myself: Weak<Self>,
    sets: PerServer<Set>,
}

/// The counters for one server and view.
pub struct Set {
    /// Questions that reached the cache.
    pub requests: Arc<Tally>,
    /// Those that it answered.
    pub hits: ByType,
    /// Those that it did not.
    pub misses: Arc<Tally>,
    /// Those answered with what had expired.
    pub stale: Arc<Tally>,
    /// Entries fetched anew before they expired.
    pub prefetches: Arc<Tally>,
    /// Entries that had to make room.
    pub evictions: ByType,
}

/// A counter for each `type` label.
pub struct ByType {
    success: Arc<Tally>,
    denial: Arc<Tally>,
}

const SUCCESS: &str = "success";
const DENIAL: &str = "denial";

impl Counters {
    /// Counters of a cache for `zones`, as the label shows them, over `store`.
    pub fn new(metrics: &Arc<Metrics>, zones: String, store: &Arc<Store>) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            metrics: Arc::clone(metrics),
            zones,
            store: Arc::clone(store),
            myself: Weak::clone(myself),
            sets: PerServer::default(),
        })
    }

    /// The set for queries of this block.
    pub fn of(&self, block: &Block) -> &Set {
        self.sets.of(block, || self.make(block))
    }

    fn make(&self, block: &Block) -> Set {
        let families = &self.metrics.cache;
        let labels = [&*block.server, &*self.zones, &*block.view];
        let typed = |kind| [&*block.server, kind, &*self.zones, &*block.view];
        // Whatever does not answer the question is dropped before it gets here; the series is there
        // for those who watch it.
        families.drops_total.with(&labels);
        self.show_entries(block);
        Set {
            requests: families.requests_total.with(&labels),
            hits: ByType {
                success: families.hits_total.with(&typed(SUCCESS)),
                denial: families.hits_total.with(&typed(DENIAL)),
            },
            misses: families.misses_total.with(&labels),
            stale: families.served_stale_total.with(&labels),
            prefetches: families.prefetch_total.with(&labels),
            evictions: ByType {
                success: families.evictions_total.with(&typed(SUCCESS)),
                denial: families.evictions_total.with(&typed(DENIAL)),
            },
        }
    }

    /// Has the gauges of entries set before each scrape, for as long as the cache is there.
    fn show_entries(&self, block: &Block) {
        let myself = Weak::clone(&self.myself);
        let (server, view) = (Arc::clone(&block.server), Arc::clone(&block.view));
        let zones = self.zones.clone();
        self.metrics.before_scrape(move |metrics| {
            let counters = myself.upgrade();
            let lengths = counters.as_ref().map(|counters| counters.store.lengths());
            for kind in [SUCCESS, DENIAL] {
                let labels = [&*server, kind, &*zones, &*view];
                let entries = &metrics.cache.entries;
                match lengths {
                    Some((success, denial)) => {
                        let length = if kind == SUCCESS { success } else { denial };
                        let length = i64::try_from(length).unwrap_or(i64::MAX);
                        entries.with_label_values(&labels).set(length);
                    }
                    // A cache that took this one's place sets it again in the same scrape; where
                    // there is none, the series is gone already or goes now.
                    None => drop(entries.remove_label_values(&labels)),
                }
            }
            lengths.is_some()
        });
    }
}

impl ByType {
    /// The counter that this kind of reply is counted in.
    pub fn of(&self, kind: Kind) -> &Tally {
        match kind {
            Kind::Success => &self.success,
            Kind::Denial | Kind::Failure => &self.denial,
        }
    }
}
