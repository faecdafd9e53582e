//! A query for upstreams, as a plugin hands it out and an [`Engine`](super::Engine) carries it out.

use std::{fmt, sync::Arc};

use super::{
    Eviction, Group, InFlight, Packet, Permit, engine::SharedEngine, exchange::Request,
    group::servfail, pending, transport::TransportPolicy,
};
use crate::reply::{Reply, Why};

/// A query and the group of upstreams that it is for.
pub struct UpstreamQuery {
    pub(super) request: Request,
    /// Identical queries are coalesced here; `None` for health checks and the like.
    pub(super) in_flight: Option<Arc<InFlight>>,
    /// The query's slot among the pending ones of the forward.
    permit: Option<Permit>,
    /// Show whether the forward or the server has evicted the query.
    evictions: [Eviction; 2],
}

impl UpstreamQuery {
    /// A client's query to `group`, coalesced with identical ones in `in_flight`.
    pub fn new(
        group: Arc<Group>,
        in_flight: Arc<InFlight>,
        packet: Packet,
        transport: TransportPolicy,
        permit: Permit,
    ) -> Self {
        Self {
            request: Request {
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

    /// A query of our own, which nobody's slot is taken for and whose failure is not counted.
    pub(super) fn probe(group: Arc<Group>, packet: Packet, transport: TransportPolicy) -> Self {
        Self {
            request: Request {
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

    /// Carries the query out in the process's shared engine: for callers that are futures. Where no upstream
    /// answers, the reply is SERVFAIL with the reason.
    pub async fn reply(mut self: Box<Self>) -> Reply {
        let in_flight = self.in_flight.clone();
        // Given back with this future, which may be dropped before the engine is through with the query.
        let _permit = self.permit.take();
        let cancelled = Cancelled;
        let submitted = match SharedEngine::get() {
            Ok(engine) => engine.submit(self),
            Err(error) => {
                let failure = super::Failure::from(&error);
                return servfail(failure.why(), &failure.to_string());
            }
        };
        let reply = submitted.await;
        std::mem::forget(cancelled);
        reply.unwrap_or_else(|_| {
            // A panic in the engine's thread lost the query.
            if let Some(in_flight) = in_flight {
                in_flight.count_panic();
            }
            servfail(Why::Internal, "a query to upstreams made the server panic")
        })
    }
}

/// Has the engines look for cancelled queries when it is dropped.
struct Cancelled;

impl Drop for Cancelled {
    fn drop(&mut self) {
        pending::count_eviction();
    }
}

impl fmt::Debug for UpstreamQuery {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "UpstreamQuery({:?})", self.request.packet)
    }
}
