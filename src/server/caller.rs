//! The client of a connection.

use std::{net::SocketAddr, time::Instant};

use super::handle::{Arrival, Entrance};
use crate::query::Transport;

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
}
