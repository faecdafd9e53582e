//! Plugins that observe every exchange with an upstream, such as `dnstap` and `trace`.

use std::sync::Arc;

use crate::{
    plugin::{Block, Context},
    query::Query,
    upstream::{AttemptObserver, AttemptReport},
};

/// Observes the exchanges with upstreams of its block's queries.
pub trait ExchangeObserver: Send + Sync {
    /// Whether it observes the exchanges of this query.
    fn observes(&self, query: &Query) -> bool;

    /// An exchange with an upstream has ended, with or without a response.
    fn exchanged(&self, block: &Block, query: &Query, attempt: &AttemptReport<'_>);
}

/// The observers of one block.
pub(super) struct Observers(Box<[Arc<dyn ExchangeObserver>]>);

impl Observers {
    /// The observers that the plugins of the block offer.
    pub(super) fn of_block(offered: &[Arc<dyn ExchangeObserver>]) -> Self {
        Self(offered.into())
    }

    /// The observers of the exchanges of `query`; usually none.
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
        Some(Arc::new(ObservedQuery {
            observers,
            block: Arc::clone(context.block),
            query: query.clone(),
        }))
    }
}

/// A query whose exchanges are observed.
struct ObservedQuery {
    observers: Vec<Arc<dyn ExchangeObserver>>,
    block: Arc<Block>,
    query: Query,
}

impl AttemptObserver for ObservedQuery {
    fn on_attempt(&self, attempt: &AttemptReport<'_>) {
        for observer in &self.observers {
            observer.exchanged(&self.block, &self.query, attempt);
        }
    }
}

impl std::fmt::Debug for ObservedQuery {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "ObservedQuery({})", self.query.question.name)
    }
}
