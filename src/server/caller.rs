//! Asking the door, for transports where each question has a way back of its own: a stream of QUIC,
//! a request of HTTP.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    handle::{Arrival, Entrance, Handled, Scratch},
    transfer::Transfer,
};
use crate::{message::read_query, query::Transport, wire::Header};

/// One connection's client, as the door needs to know it.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) entrance: Entrance,
    /// Who asks.
    pub(super) client: SocketAddr,
    /// The address that is asked.
    pub(super) local: SocketAddr,
    pub(super) transport: Transport,
}

/// What is to be sent.
pub(super) enum Replies {
    /// Nothing, ever.
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

    /// What metrics and logs call the server.
    pub(super) fn label(&self) -> Arc<str> {
        self.entrance.server().label()
    }

    /// Asks, and waits for what is to be said.
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

/// Whether `octets` are a query at all. Where a transport has an error of its own for what is none,
/// a reply of FORMERR is not sent.
pub(super) fn is_query(octets: &[u8]) -> bool {
    Header::read(octets)
        .is_some_and(|header| !header.has(Header::RESPONSE) && read_query(octets, &header).is_ok())
}
