//! Plugins that observe every exchange with an upstream, such as `dnstap` and `trace`.

use std::sync::Arc;

use crate::{
    plugin::{Block, Build, Context},
    query::Query,
    upstream::{Tried, Witness},
};

/// Observes the exchanges with upstreams of its block's queries.
pub trait ExchangeObserver: Send + Sync {
    /// Whether it observes those of this query.
    fn observes(&self, query: &Query) -> bool;

    /// An upstream was asked, and has answered or not.
    fn exchanged(&self, block: &Block, query: &Query, tried: &Tried<'_>);
}

/// What a plugin that observes puts into [`Build::offered`].
pub struct OfferedObserver(pub Arc<dyn ExchangeObserver>);

/// Those of one block.
pub(super) struct Observers(Box<[Arc<dyn ExchangeObserver>]>);

impl Observers {
    /// Those among what plugins of the block offer.
    pub(super) fn offered(build: &Build<'_>) -> Self {
        let offers = build.offered.iter();
        let offers = offers.filter_map(|offer| offer.downcast_ref::<OfferedObserver>());
        Self(offers.map(|offer| Arc::clone(&offer.0)).collect())
    }

    /// What observes the exchanges of `query`; usually nothing does.
    pub(super) fn of(&self, context: &Context<'_>, query: &Query) -> Option<Arc<dyn Witness>> {
        let observers = self.0.iter().filter(|one| one.observes(query));
        let observers: Vec<_> = observers.map(Arc::clone).collect();
        if observers.is_empty() {
            return None;
        }
        Some(Arc::new(Observed {
            observers,
            block: Arc::clone(context.block),
            query: query.clone(),
        }))
    }
}

/// A query whose exchanges are observed.
struct Observed {
    observers: Vec<Arc<dyn ExchangeObserver>>,
    block: Arc<Block>,
    query: Query,
}

impl Witness for Observed {
    fn tried(&self, tried: &Tried<'_>) {
        for observer in &self.observers {
            observer.exchanged(&self.block, &self.query, tried);
        }
    }
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Observed({})", self.query.question.name)
    }
}
