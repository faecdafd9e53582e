//! Why an upstream gave no reply, and what follows from it.
//!
//! | failure | blames the upstream | next step | may be cached | reason ([`Why`]) |
//! |---|---|---|---|---|
//! | `Silent` | yes | next attempt after the attempt's timeout, in parallel | yes | `UpstreamTimeout` |
//! | `Refused` | yes | next attempt at once | yes | `UpstreamUnreachable` |
//! | `Unreachable` | yes | next attempt at once | yes | `UpstreamUnreachable` |
//! | `Closed` | yes | on a pooled connection one retry over a new one, then the next attempt at once | yes | `UpstreamUnreachable` |
//! | `Tls` | yes | next attempt at once | yes | `UpstreamTls` |
//! | `Http` | yes | next attempt at once | yes | `UpstreamMalformed` |
//! | `Malformed` | yes | next attempt at once | yes | `UpstreamMalformed` |
//! | `Busy` | no: a limit of this process | next attempt at once | no | `Overload` |
//! | `Budget` | no: a limit of the configuration | next attempt at once | no | `Overload` |
//! | `Local` | no: an error of this machine | next attempt at once | no | `LocalFailure` |
//!
//! A failure that blames the upstream starts health checks ([`super::health`]); only failed checks mark an
//! upstream down, and a check with a local failure is not counted. A reply is not a failure, whatever its
//! rcode; one over UDP that ends within a record is a truncated reply (see [`super::packet`]).

use std::{fmt, io, sync::Arc};

use crate::reply::Why;

/// Why a query got no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No acceptable reply within the timeout.
    Silent,
    /// The port is closed.
    Refused,
    /// The host cannot be reached, as reported by the network (ICMP).
    Unreachable(io::ErrorKind),
    /// The stream was closed before the reply.
    Closed,
    /// The TLS handshake failed: why.
    Tls(Arc<str>),
    /// The HTTP response had a status other than 200.
    Http(u16),
    /// The reply cannot be parsed; or, on a stream of its own, it does not match the query.
    Malformed,
    /// Too many queries to this upstream are in flight.
    Busy,
    /// Not sent: the packet budget is used up.
    Budget,
    /// Not sent, because of an error of this machine.
    Local(LocalError),
}

/// Why this machine cannot send a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalError {
    /// No free file descriptor (EMFILE, ENFILE).
    Descriptors,
    /// No kernel memory or buffers (ENOMEM, ENOBUFS).
    Memory,
    /// No source address or port (EADDRNOTAVAIL, EADDRINUSE).
    Address,
    /// No route (ENETUNREACH before anything was sent).
    Route,
    /// No permission: a firewall or a security module of this machine forbids it (EPERM, EACCES).
    Permission,
    /// The datagram exceeds the path MTU (EMSGSIZE); the kernel has lowered its estimate for the next one.
    Size,
}

impl Failure {
    /// The reason that the reply to the client carries.
    pub fn why(&self) -> Why {
        match self {
            Self::Silent => Why::UpstreamTimeout,
            Self::Refused | Self::Unreachable(_) | Self::Closed => Why::UpstreamUnreachable,
            Self::Tls(_) => Why::UpstreamTls,
            Self::Http(_) | Self::Malformed => Why::UpstreamMalformed,
            Self::Busy | Self::Budget => Why::Overload,
            Self::Local(_) => Why::LocalFailure,
        }
    }

    /// Whether the upstream is the cause, not this process or machine.
    pub fn blames_upstream(&self) -> bool {
        !matches!(self, Self::Busy | Self::Budget | Self::Local(_))
    }

    /// The failure for an error that a connected UDP socket reports after sending: an ICMP message,
    /// possibly that the network is unreachable. Before sending, the same error is [`LocalError::Route`].
    pub fn reported(error: &io::Error) -> Self {
        match error.kind() {
            kind @ io::ErrorKind::NetworkUnreachable => Self::Unreachable(kind),
            _ => Self::from(error),
        }
    }
}

impl LocalError {
    fn of(error: &io::Error) -> Option<Self> {
        // Not all of them have a stable `ErrorKind`.
        let by_number = match error.raw_os_error()? {
            libc::EMFILE | libc::ENFILE => Some(Self::Descriptors),
            libc::ENOMEM | libc::ENOBUFS => Some(Self::Memory),
            libc::EMSGSIZE => Some(Self::Size),
            _ => None,
        };
        by_number.or_else(|| match error.kind() {
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Some(Self::Address),
            io::ErrorKind::NetworkUnreachable => Some(Self::Route),
            io::ErrorKind::PermissionDenied => Some(Self::Permission),
            _ => None,
        })
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        if let Some(error) = LocalError::of(error) {
            return Self::Local(error);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Self::Closed,
            other => Self::Unreachable(other),
        }
    }
}

/// Describes why a host is unreachable, instead of the standard library's descriptions of its error kinds.
fn words(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::HostUnreachable => "no route to the host",
        io::ErrorKind::NetworkUnreachable => "no route to the network",
        io::ErrorKind::NotFound => "its name has no address",
        io::ErrorKind::InvalidInput => "its address or name cannot be used",
        io::ErrorKind::TimedOut => "the connection timed out",
        _ => "unknown reason",
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The text of Go's network errors, which log patterns of CoreDNS's users match.
            Self::Silent => out.write_str("i/o timeout"),
            Self::Refused => out.write_str("connection refused"),
            Self::Unreachable(kind) => write!(out, "unreachable: {}", words(*kind)),
            Self::Closed => out.write_str("connection closed before the reply"),
            Self::Tls(text) => write!(out, "TLS: {text}"),
            Self::Http(status) => write!(out, "HTTP status {status}"),
            Self::Malformed => out.write_str("a reply that does not fit the question"),
            Self::Busy => out.write_str("too many queries in flight"),
            Self::Budget => out.write_str("not sent: the packet budget (max_pps) is used up"),
            Self::Local(error) => write!(out, "not sent: {error}"),
        }
    }
}

impl fmt::Display for LocalError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Descriptors => "too many open files (raise the limit of open files)",
            Self::Memory => "the kernel has no memory for it",
            Self::Address => "no address or port to send from (see source_address)",
            Self::Route => "this machine has no route to it",
            Self::Permission => "this machine does not permit it (see its firewall)",
            Self::Size => "too long for the path",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_errors_do_not_blame_the_upstream() {
        for (number, local) in [
            (libc::EMFILE, LocalError::Descriptors),
            (libc::ENFILE, LocalError::Descriptors),
            (libc::ENOBUFS, LocalError::Memory),
            (libc::ENOMEM, LocalError::Memory),
            (libc::EADDRNOTAVAIL, LocalError::Address),
            (libc::EADDRINUSE, LocalError::Address),
            (libc::ENETUNREACH, LocalError::Route),
            (libc::EPERM, LocalError::Permission),
            (libc::EACCES, LocalError::Permission),
            (libc::EMSGSIZE, LocalError::Size),
        ] {
            let error = io::Error::from_raw_os_error(number);
            let failure = Failure::from(&error);
            assert_eq!(failure, Failure::Local(local), "{error}");
            assert!(
                !failure.blames_upstream() && !failure.why().is_upstreams(),
                "{error}"
            );
        }
    }

    #[test]
    fn errors_reported_by_the_network_blame_the_upstream() {
        for number in [
            libc::ECONNREFUSED,
            libc::EHOSTUNREACH,
            libc::ENETUNREACH,
            libc::ECONNRESET,
            libc::ETIMEDOUT,
        ] {
            let error = io::Error::from_raw_os_error(number);
            let failure = Failure::reported(&error);
            assert!(
                failure.blames_upstream() && failure.why().is_upstreams(),
                "{error}"
            );
        }
    }
}
