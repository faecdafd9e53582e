//! Datagram I/O, batched on Linux. On other systems clients' datagrams are read and written by
//! hickory-server (`server/hickory`), and upstreams' datagrams are sent and received one per call.
//!
//! ```text
//! batch     recvmmsg and sendmmsg, with buffers for the replies; all unsafe code
//! backlog   detects datagrams that were queued for too long
//! segments  which datagrams are sent as one message
//! single    upstreams' datagrams on systems without batch calls
//! ```

#[cfg(target_os = "linux")]
mod backlog;
#[cfg(target_os = "linux")]
mod batch;
#[cfg(target_os = "linux")]
mod segments;
#[cfg(any(test, not(target_os = "linux")))]
mod single;

#[cfg(target_os = "linux")]
use std::net::{IpAddr, SocketAddr};

#[cfg(target_os = "linux")]
pub use self::batch::{
    Batch, Connected, Outbox, enable_destination_addresses, report_errors, take_errors,
};
#[cfg(not(target_os = "linux"))]
pub use self::single::{Connected, enable_destination_addresses, report_errors, take_errors};

/// Capacity in bytes that a reply buffer keeps between queries; larger buffers are shrunk.
#[cfg(target_os = "linux")]
pub const REPLY_CAPACITY: usize = 2048;

/// A received datagram.
#[cfg(target_os = "linux")]
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
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub struct DelayedReply {
    /// The message.
    pub bytes: Vec<u8>,
    /// Destination address.
    pub client: SocketAddr,
    /// Source address; `None` for the socket's own.
    pub local: Option<IpAddr>,
}
