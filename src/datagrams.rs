//! Datagrams in and out, many a system call where the system has such calls.
//!
//! ```text
//! batch    many from whoever sends them, with their replies; all the unsafe code that there is
//! backlog  which of them have waited for too long
//! single   one by one, for systems without those calls
//! ```

#[cfg(target_os = "linux")]
mod backlog;
#[cfg(target_os = "linux")]
mod batch;
mod single;

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

#[cfg(target_os = "linux")]
pub use self::batch::{Connected, Outbox, ask_for_destinations, report_errors, take_errors};
use self::single::Single;
#[cfg(not(target_os = "linux"))]
pub use self::single::{Outbox, ask_for_destinations, report_errors, take_errors};

/// Octets that a reply's buffer keeps between queries; a longer reply's is given back.
pub const REPLY_ROOM: usize = 2048;

/// A datagram as the sockets give it.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its octets.
    pub octets: &'a [u8],
    /// Who sent it.
    pub client: SocketAddr,
    /// Where it was sent to.
    pub local: SocketAddr,
}

/// A reply that comes after its batch, and the way it is to go.
#[derive(Debug)]
pub struct Late {
    /// The reply.
    pub octets: Vec<u8>,
    /// To whom.
    pub client: SocketAddr,
    /// From which address; the socket's own without one.
    pub local: Option<IpAddr>,
}

/// One of the two ways to take datagrams.
pub enum Datagrams {
    #[cfg(target_os = "linux")]
    /// Many at a time.
    Batch(batch::Batch),
    /// One by one.
    Single(Single),
}

impl Datagrams {
    /// Many at a time, for a socket bound to `bound`.
    #[cfg(target_os = "linux")]
    pub fn new(bound: SocketAddr) -> Self {
        Self::Batch(batch::Batch::new(bound))
    }

    /// One by one, for a socket bound to `bound`.
    #[cfg(not(target_os = "linux"))]
    pub fn new(bound: SocketAddr) -> Self {
        Self::Single(Single::new(bound))
    }

    /// Takes datagrams, and waits for the first where it `waits`; one by one it always does.
    pub fn receive(&mut self, socket: &UdpSocket, waits: bool) -> io::Result<usize> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batch(batch) => batch.receive(socket, waits),
            Self::Single(single) => single.receive(socket),
        }
    }

    /// How many were dropped since this was last called, because they had waited for longer than
    /// clients do.
    pub fn take_stale(&mut self) -> usize {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batch(batch) => batch.take_stale(),
            Self::Single(_) => 0,
        }
    }

    /// One of those received last, and where its reply is to be written; nothing in the place of one
    /// that was dropped. One that was longer than any query is its beginning alone.
    pub fn datagram(&mut self, index: usize) -> Option<(Datagram<'_>, &mut Vec<u8>)> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batch(batch) => batch.datagram(index),
            Self::Single(single) => single.datagram(index),
        }
    }

    /// Sends the replies that were written.
    pub fn send(&mut self, socket: &UdpSocket) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batch(batch) => batch.send(socket),
            Self::Single(single) => single.send(socket),
        };
    }
}
