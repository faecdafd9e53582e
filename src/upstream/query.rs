//! A query for upstreams, as a plugin hands it out and an [`Engine`](super::Engine) carries it out.

use std::{fmt, sync::Arc};

use super::{
    Eviction, InFlight, Packet, Permit, UpstreamGroup, exchange::UpstreamRequest,
    transport::TransportPolicy,
};
use crate::reply::Reply;

/// A query and the group of upstreams that it is for.
pub struct UpstreamQuery {
    pub(super) request: UpstreamRequest,
    /// Identical queries are coalesced here; `None` for health checks and the like.
    pub(super) in_flight: Option<Arc<InFlight>>,
    /// The query's slot among the pending ones of the forward.
    pub(super) permit: Option<Permit>,
    /// Show whether the forward or the server has evicted the query.
    evictions: [Eviction; 2],
}

impl UpstreamQuery {
    /// A client's query to `group`, coalesced with identical ones in `in_flight`.
    pub fn new(
        group: Arc<UpstreamGroup>,
        in_flight: Arc<InFlight>,
        packet: Packet,
        transport: TransportPolicy,
        permit: Permit,
    ) -> Self {
        Self {
            request: UpstreamRequest {
                group,
                packet: Arc::new(packet),
                transport,
                counts_failures: true,
            },
            in_flight: Some(in_flight),
            evictions: [permit.eviction(), Eviction::default()],
            permit: Some(permit),
        }
    }

    /// A query of our own: it takes no slot, and its failure is not counted.
    pub(super) fn probe(
        group: Arc<UpstreamGroup>,
        packet: Packet,
        transport: TransportPolicy,
    ) -> Self {
        Self {
            request: UpstreamRequest {
                group,
                packet: Arc::new(packet),
                transport,
                counts_failures: false,
            },
            in_flight: None,
            permit: None,
            evictions: Default::default(),
        }
    }

    /// Ends the query when the server evicts the client's query.
    pub fn ends_with(&mut self, eviction: Eviction) {
        self.evictions[1] = eviction;
    }

    /// The reply to an evicted query; `None` where it is not.
    pub(super) fn evicted(&self) -> Option<Reply> {
        self.evictions.iter().find_map(Eviction::reply)
    }
}

impl fmt::Debug for UpstreamQuery {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "UpstreamQuery({:?})", self.request.packet)
    }
}
