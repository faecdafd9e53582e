//! What a query to an upstream goes over.

use std::time::Duration;

/// How long the complete reply over TCP is waited for after a truncated one over UDP.
pub(super) const STREAM_TIMEOUT: Duration = Duration::from_secs(1);

/// What a query to an upstream of plain DNS goes over. Upstreams over TLS, HTTPS or QUIC have one transport
/// and ignore it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportPolicy {
    /// UDP; a truncated reply is handed on as it is.
    Udp,
    /// UDP, and TCP where the reply is truncated.
    UdpThenTcp,
    /// TCP.
    Tcp,
}
