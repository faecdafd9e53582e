//! Datagrams in and out, many a system call where the system has such calls: Linux. Elsewhere those of
//! clients are read and written by hickory-server (`server/hickory`), and those of upstreams one by one.
//!
//! ```text
//! batch    many from their senders, with the replies to them; all the unsafe code that there is
//! backlog  which of them have waited for too long
//! single   one by one, with upstreams, for systems without those calls
//! ```

#[cfg(target_os = "linux")]
mod backlog;
#[cfg(target_os = "linux")]
mod batch;
#[cfg(any(test, not(target_os = "linux")))]
mod single;

#[cfg(target_os = "linux")]
use std::net::{IpAddr, SocketAddr};

#[cfg(target_os = "linux")]
pub use self::batch::{Batch, Connected, Outbox, ask_for_destinations, report_errors, take_errors};
#[cfg(not(target_os = "linux"))]
pub use self::single::{Connected, ask_for_destinations, report_errors, take_errors};

/// Octets that a reply's buffer keeps between queries; a longer reply's is given back.
#[cfg(target_os = "linux")]
pub const REPLY_ROOM: usize = 2048;

/// A datagram as the sockets give it.
#[cfg(target_os = "linux")]
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
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub struct Late {
    /// The reply.
    pub octets: Vec<u8>,
    /// To whom.
    pub client: SocketAddr,
    /// From which address; the socket's own without one.
    pub local: Option<IpAddr>,
}
