//! UDP sockets to an upstream.
//!
//! An off-path attacker must guess the id (16 bits) and the source port (some 28,000 ephemeral ports by
//! default), so about 31 bits, within the round-trip time (RFC 5452 section 9.2). Sockets are connected:
//! the kernel drops datagrams from any other address and port, also those of port scanners. A socket takes
//! queries for 30 seconds or about a thousand of them, and is then replaced by one on another random port.
//! Identical queries are coalesced (see [`super::in_flight`]). Random case in names (0x20) would add bits;
//! it is not used, so that upstreams receive the client's spelling.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use super::meter::{Proto, UpstreamMetrics};
use crate::{datagrams::report_errors, interfaces::local_end, reply::UpstreamSource};

/// Number of sockets to one upstream that take queries at a time, per engine.
pub(super) const SOCKETS: usize = 4;
/// The time for which a socket takes queries.
pub(super) const LIFETIME: Duration = Duration::from_secs(30);
/// Queries that a socket takes: between one and two times this, so that the change cannot be predicted.
pub(super) const QUERIES: u32 = 768;

/// The addresses of the sockets to one upstream.
#[derive(Debug)]
pub(super) struct Udp {
    server: SocketAddr,
    source: Option<IpAddr>,
    meter: Arc<UpstreamMetrics>,
}

impl Udp {
    pub(super) fn new(
        server: SocketAddr,
        source: Option<IpAddr>,
        meter: Arc<UpstreamMetrics>,
    ) -> Self {
        Self {
            server,
            source,
            meter,
        }
    }

    /// A connected socket on a random port, and the source that replies over it are labelled with.
    pub(super) fn open(&self) -> io::Result<(UdpSocket, UpstreamSource)> {
        let socket = UdpSocket::bind(local_end(self.source, self.server))?;
        socket.connect(self.server)?;
        socket.set_nonblocking(true)?;
        report_errors(&socket, self.server)?;
        let received_at = self.meter.source(socket.local_addr().ok(), Proto::Udp);
        Ok((socket, received_at))
    }
}
