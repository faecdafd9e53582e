//! The UDP end of an upstream: how its sockets are opened.
//!
//! A blind forger must guess the id (16 bits) and the port of the one socket that the query went over (some
//! 28,000 ephemeral ports by default), so about 31 bits, for each datagram and within the time that the
//! reply takes. Sockets are connected: the kernel drops what does not come from the upstream's own address
//! and port, and does not show scanners that the port is open. A socket takes queries for half a minute or
//! about a thousand of them and is then replaced by one on another port of the kernel's random choice.
//! Identical queries are coalesced (see [`super::in_flight`]). Mixed case in names (0x20) would add bits and
//! is left out: the client's own spelling is handed on.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use super::meter::{Meter, Proto};
use crate::{datagrams::report_errors, interfaces::local_end, reply::Heard};

/// Sockets to one upstream that take queries at a time, for each engine.
pub(super) const SOCKETS: usize = 4;
/// How long a socket takes queries.
pub(super) const LIFETIME: Duration = Duration::from_secs(30);
/// Queries that a socket takes: between one and two times this, so that the change cannot be predicted.
pub(super) const QUERIES: u32 = 768;

/// Where the sockets to one upstream lead.
#[derive(Debug)]
pub(super) struct Udp {
    server: SocketAddr,
    source: Option<IpAddr>,
    meter: Arc<Meter>,
}

impl Udp {
    pub(super) fn new(server: SocketAddr, source: Option<IpAddr>, meter: Arc<Meter>) -> Self {
        Self {
            server,
            source,
            meter,
        }
    }

    /// A connected socket on a port of the kernel's choice, and what replies over it are labelled with.
    pub(super) fn open(&self) -> io::Result<(UdpSocket, Heard)> {
        let socket = UdpSocket::bind(local_end(self.source, self.server))?;
        socket.connect(self.server)?;
        socket.set_nonblocking(true)?;
        report_errors(&socket, self.server)?;
        let received_at = self.meter.heard(socket.local_addr().ok(), Proto::Udp);
        Ok((socket, received_at))
    }
}
