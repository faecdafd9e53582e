//! The transport of a query to an upstream.

use std::time::Duration;

/// Timeout of the retry over TCP after a truncated reply over UDP.
pub(super) const STREAM_TIMEOUT: Duration = Duration::from_secs(1);

/// The transport of a query to an upstream of plain DNS. Upstreams over TLS, HTTPS or QUIC have one
/// transport and ignore this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportPolicy {
    /// UDP; a truncated reply is returned as it is.
    Udp,
    /// UDP, then TCP if the reply is truncated.
    UdpThenTcp,
    /// TCP.
    Tcp,
}
