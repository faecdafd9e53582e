//! Queries over transports where each query has a reply channel of its own: a QUIC stream, an HTTP request.

#[cfg(any(feature = "https", feature = "quic"))]
use std::sync::Arc;
use std::time::Instant;

use super::{
    caller::Caller,
    handle::{Handled, Scratch},
    transfer::Transfer,
};
#[cfg(any(feature = "https", feature = "grpc", feature = "quic"))]
use crate::{message::read_query, wire::Header};

/// The reply to a query.
pub(super) enum Replies {
    /// No reply.
    None,
    One(Vec<u8>),
    /// A zone transfer, part by part.
    #[cfg_attr(
        not(any(feature = "quic", feature = "hickory")),
        expect(dead_code, reason = "HTTP and gRPC carry no transfers")
    )]
    Several(Box<Transfer>),
}

impl Caller {
    /// The name of the server in metrics and logs.
    #[cfg(any(feature = "https", feature = "quic"))]
    pub(super) fn label(&self) -> Arc<str> {
        self.handler.server().label()
    }

    /// Handles a query and waits for its reply.
    pub(super) async fn answer(&self, bytes: &[u8]) -> Replies {
        let mut out = Vec::with_capacity(512);
        let handled = {
            let server = self.handler.server();
            server.metrics().after_unready.received(1);
            let routes = server.routes();
            let arrival = self.arrival(bytes, Instant::now());
            let mut scratch = Scratch::default();
            self.handler
                .handle(&routes, &mut scratch, &arrival, &mut out)
        };
        match handled {
            Handled::Reply => Replies::One(out),
            Handled::Transfer(transfer) => Replies::Several(transfer),
            Handled::Nothing => Replies::None,
            Handled::Pending(query) => {
                if query.finish(&mut out).await {
                    Replies::One(out)
                } else {
                    Replies::None
                }
            }
        }
    }
}

/// Whether `bytes` are a well-formed query. Transports with errors of their own use those instead of
/// FORMERR.
#[cfg(any(feature = "https", feature = "grpc", feature = "quic"))]
pub(super) fn is_query(bytes: &[u8]) -> bool {
    Header::read(bytes)
        .is_some_and(|header| !header.has(Header::RESPONSE) && read_query(bytes, &header).is_ok())
}
