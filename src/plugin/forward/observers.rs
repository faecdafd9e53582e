//! Plugins that observe every exchange with an upstream, such as `dnstap` and `trace`.

use std::sync::Arc;

use crate::{
    plugin::{Block, Context, Offers},
    query::Query,
    upstream::{AttemptObserver, AttemptReport},
};

/// Observes the exchanges with upstreams of its block's queries.
pub trait ExchangeObserver: Send + Sync {
    /// Whether it observes those of this query.
    fn observes(&self, query: &Query) -> bool;

    /// An upstream was asked, and has answered or not.
    fn exchanged(&self, block: &Block, query: &Query, tried: &AttemptReport<'_>);
}

/// Those of one block.
pub(super) struct Observers(Box<[Arc<dyn ExchangeObserver>]>);

impl Observers {
    /// Those that the plugins of the block offer.
    pub(super) fn of_block(offers: &Offers) -> Self {
        Self(offers.exchange_observers.as_slice().into())
    }

    /// What observes the exchanges of `query`; usually nothing does.
    pub(super) fn of(
        &self,
        context: &Context<'_>,
        query: &Query,
    ) -> Option<Arc<dyn AttemptObserver>> {
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

impl AttemptObserver for Observed {
    fn on_attempt(&self, attempt: &AttemptReport<'_>) {
        for observer in &self.observers {
            observer.exchanged(&self.block, &self.query, attempt);
        }
    }
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Observed({})", self.query.question.name)
    }
}
