//! What the plugins of one server block offer to each other.

use std::sync::Arc;

use super::{
    dnstap::tap::Tap, loop_guard::LoopGuard, metadata::Published, trace::Tracer,
    transfer::Transferable,
};
use crate::zone::View;

/// What the plugins built so far have put here for the others of their block: see [`Offer`].
#[derive(Default)]
pub struct Offers {
    /// From `metadata`: that labels may be read.
    pub metadata: Option<Arc<Published>>,
    /// From `trace`: where spans go.
    pub tracer: Option<Arc<Tracer>>,
    /// From each `dnstap`: where messages go.
    pub taps: Vec<Arc<Tap>>,
    /// From `loop`: what probes upstreams.
    pub loop_guard: Option<Arc<LoopGuard>>,
    /// From `kubernetes`: the cluster's names.
    pub cluster: Option<Arc<View>>,
    /// From the plugins that have zones: what can be transferred.
    pub zones: Vec<Arc<dyn Transferable>>,
}

/// A field of [`Offers`]: what a plugin offers, or needs for what it offers itself.
///
/// Plugins that offer something are built before all others, each behind those that offer what it
/// needs; among them, the innermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// [`Offers::metadata`]
    Metadata,
    /// [`Offers::tracer`]
    Tracer,
    /// [`Offers::taps`]
    Taps,
    /// [`Offers::loop_guard`]
    LoopGuard,
    /// [`Offers::cluster`]
    Cluster,
    /// [`Offers::zones`]
    Zones,
}
