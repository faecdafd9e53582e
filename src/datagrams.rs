//! Datagram I/O, batched where the system supports it.
//!
//! ```text
//! batch    recvmmsg and sendmmsg, with buffers for the replies; all unsafe code
//! backlog  detects datagrams that were queued for too long
//! single   fallback for systems without batch calls
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
pub use self::batch::{
    Connected, Outbox, enable_destination_addresses, report_errors, take_errors,
};
use self::single::Single;
#[cfg(not(target_os = "linux"))]
pub use self::single::{
    Connected, Outbox, enable_destination_addresses, report_errors, take_errors,
};

/// Capacity in bytes that a reply buffer keeps between queries; larger buffers are shrunk.
pub const REPLY_CAPACITY: usize = 2048;

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The payload.
    pub bytes: &'a [u8],
    /// Source address.
    pub client: SocketAddr,
    /// Destination address.
    pub local: SocketAddr,
}

/// A reply that completes after its batch.
#[derive(Debug)]
pub struct DelayedReply {
    /// The message.
    pub bytes: Vec<u8>,
    /// Destination address.
    pub client: SocketAddr,
    /// Source address; `None` for the socket's own.
    pub local: Option<IpAddr>,
}

/// The available implementations.
pub enum Datagrams {
    #[cfg(target_os = "linux")]
    /// Batched.
    Batch(batch::Batch),
    /// One datagram per call.
    Single(Single),
}

impl Datagrams {
    /// Batched I/O for a socket bound to `bound`.
    #[cfg(target_os = "linux")]
    pub fn new(bound: SocketAddr) -> Self {
        Self::Batch(batch::Batch::new(bound))
    }

    /// Single-datagram I/O for a socket bound to `bound`.
    #[cfg(not(target_os = "linux"))]
    pub fn new(bound: SocketAddr) -> Self {
        Self::Single(Single::new(bound))
    }

    /// Receives datagrams; waits for the first one if `waits` (always in the fallback).
    pub fn receive(&mut self, socket: &UdpSocket, waits: bool) -> io::Result<usize> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batch(batch) => batch.receive(socket, waits),
            Self::Single(single) => single.receive(socket),
        }
    }

    /// Number of datagrams dropped as too old since the last call.
    pub fn take_stale(&mut self) -> usize {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batch(batch) => batch.take_stale(),
            Self::Single(_) => 0,
        }
    }

    /// A received datagram and the buffer for its reply; `None` if it was dropped. Oversized
    /// datagrams are cut.
    pub fn datagram(&mut self, index: usize) -> Option<(Datagram<'_>, &mut Vec<u8>)> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batch(batch) => batch.datagram(index),
            Self::Single(single) => single.datagram(index),
        }
    }

    /// Sends the replies.
    pub fn send(&mut self, socket: &UdpSocket) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batch(batch) => batch.send(socket),
            Self::Single(single) => single.send(socket),
        };
    }
}
