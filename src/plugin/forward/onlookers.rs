//! Plugins that are told of every try at an upstream: `dnstap` and `trace`.

use std::sync::Arc;

use crate::{
    plugin::{
        Block, Context, Offers,
        dnstap::tap::Tap,
        trace::{Traced, Tracer},
    },
    query::Query,
    upstream::{Tried, Witness},
};

/// Those of one block.
pub(super) struct Onlookers {
    taps: Arc<[Arc<Tap>]>,
    tracer: Option<Arc<Tracer>>,
}

impl Onlookers {
    /// Those of the plugins of the block.
    pub(super) fn of_block(offers: &Offers) -> Self {
        Self {
            taps: offers.taps.as_slice().into(),
            tracer: offers.tracer.clone(),
        }
    }

    /// Whoever is to hear of what becomes of `query`; usually nobody.
    pub(super) fn of(&self, context: &Context<'_>, query: &Query) -> Option<Arc<dyn Witness>> {
        let tracer = self.tracer.as_ref().filter(|_| Traced::of(query).is_some());
        if self.taps.is_empty() && tracer.is_none() {
            return None;
        }
        Some(Arc::new(Onlooker {
            taps: Arc::clone(&self.taps),
            tracer: tracer.cloned(),
            block: Arc::clone(context.block),
            query: query.clone(),
        }))
    }
}

struct Onlooker {
    taps: Arc<[Arc<Tap>]>,
    tracer: Option<Arc<Tracer>>,
    block: Arc<Block>,
    query: Query,
}

impl Witness for Onlooker {
    fn tried(&self, tried: &Tried<'_>) {
        for tap in &*self.taps {
            tap.forwarded(&self.block, &self.query, tried);
        }
        if let (Some(tracer), Some(traced)) = (&self.tracer, Traced::of(&self.query)) {
            tracer.connected(traced, tried);
        }
    }
}

impl std::fmt::Debug for Onlooker {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Onlooker({})", self.query.question.name)
    }
}
