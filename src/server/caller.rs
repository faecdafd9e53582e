//! The client of a connection.

use std::{net::SocketAddr, time::Instant};

use super::handle::{Arrival, MessageHandler};
use crate::query::Transport;

/// A client on a connection, and the handler for its queries.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) handler: MessageHandler,
    /// The address of the client.
    pub(super) client: SocketAddr,
    /// The address of the server on this connection.
    pub(super) local: SocketAddr,
    pub(super) transport: Transport,
}

impl Caller {
    /// A message of this client.
    pub(super) fn arrival<'a>(&self, bytes: &'a [u8], received: Instant) -> Arrival<'a> {
        Arrival {
            bytes,
            client: self.client,
            local: self.local,
            transport: self.transport,
            received,
        }
    }
}
