//! What the plugins of one server block offer to each other.

use std::sync::Arc;

use super::{
    forward::ExchangeObserver, loop_guard::LoopGuard, metadata::Published, transfer::Transferable,
};
use crate::zone::ClusterView;

/// What the plugins built so far have put here for the others of their block: see [`Offer`](super::Offer).
#[derive(Default)]
pub struct Offers {
    /// From `metadata`: that labels may be read.
    pub metadata: Option<Arc<Published>>,
    /// From `trace` and each `dnstap`: what observes exchanges with upstreams.
    pub exchange_observers: Vec<Arc<dyn ExchangeObserver>>,
    /// From `loop`: what probes upstreams.
    pub loop_guard: Option<Arc<LoopGuard>>,
    /// From `kubernetes`: the cluster's names.
    pub cluster: Option<Arc<ClusterView>>,
    /// From the plugins that have zones: what can be transferred.
    pub zones: Vec<Arc<dyn Transferable>>,
}
