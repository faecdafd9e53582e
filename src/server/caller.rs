//! Queries over transports where each query has a reply channel of its own: a QUIC stream, an HTTP request.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    handle::{Arrival, Entrance, Handled, Scratch},
    transfer::Transfer,
};
use crate::{message::read_query, query::Transport, wire::Header};

/// A client on a connection, and the entrance for its queries.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) entrance: Entrance,
    /// The address of the client.
    pub(super) client: SocketAddr,
    /// The address of the server.
    pub(super) local: SocketAddr,
    pub(super) transport: Transport,
}

/// The reply to a query.
pub(super) enum Replies {
    /// No reply.
    None,
    One(Vec<u8>),
    /// A zone transfer, part by part.
    Several(Box<Transfer>),
}

impl Caller {
    /// A message of this client.
    pub(super) fn arrival<'a>(&self, octets: &'a [u8], received: Instant) -> Arrival<'a> {
        Arrival {
            octets,
            client: self.client,
            local: self.local,
            transport: self.transport,
            received,
        }
    }

    /// The name of the server in metrics and logs.
    pub(super) fn label(&self) -> Arc<str> {
        self.entrance.server().label()
    }

    /// Handles a query, and waits for its reply.
    pub(super) async fn ask(&self, octets: &[u8]) -> Replies {
        let mut out = Vec::with_capacity(512);
        let handled = {
            let routes = self.entrance.server().routes();
            let arrival = self.arrival(octets, Instant::now());
            let mut scratch = Scratch::default();
            self.entrance
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

/// Whether `octets` are a query. A transport that has an error of its own for anything else uses that
/// instead of a FORMERR reply.
pub(super) fn is_query(octets: &[u8]) -> bool {
    Header::read(octets)
        .is_some_and(|header| !header.has(Header::RESPONSE) && read_query(octets, &header).is_ok())
}
