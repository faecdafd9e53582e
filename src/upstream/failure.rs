//! Why an upstream gave no answer, and what follows from it: the one table of it.
//!
//! | failure | speaks against the upstream | what is done next | a cache may keep it | reason ([`Why`]) |
//! |---|---|---|---|---|
//! | `Silent` | yes | the next is asked beside it after a step | yes | `UpstreamTimeout` |
//! | `Refused` | yes | the next at once | yes | `UpstreamUnreachable` |
//! | `Unreachable` | yes | the next at once | yes | `UpstreamUnreachable` |
//! | `Closed` | yes | the next at once; on a kept connection, first once more on a new one | yes | `UpstreamUnreachable` |
//! | `Tls` | yes | the next at once | yes | `UpstreamTls` |
//! | `Http` | yes | the next at once | yes | `UpstreamMalformed` |
//! | `Malformed` | yes | the next at once | yes | `UpstreamMalformed` |
//! | `Busy` | no: a limit of ours | the next at once | no | `Overload` |
//! | `Local` | no: this machine lacks something | the next at once | no | `LocalFailure` |
//!
//! "Speaks against the upstream" begins a health check ([`super::health`]), and nothing more: only failed
//! checks mark an upstream down, and a check that failed for a reason of ours is none. A reply of the
//! upstream's is no failure, whatever its code; one over UDP that is cut in the middle of a record is a
//! truncated reply (see [`super::packet`]).

use std::{fmt, io, sync::Arc};

use crate::reply::Why;

/// What became of a question that was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing came, or nothing that can be believed.
    Silent,
    /// The host is there and nobody listens on the port.
    Refused,
    /// The host cannot be reached, as reported by the network (ICMP).
    Unreachable(io::ErrorKind),
    /// The stream was closed before the answer.
    Closed,
    /// The TLS handshake failed: why.
    Tls(Arc<str>),
    /// The HTTP request was answered with another status than 200.
    Http(u16),
    /// An answer to the question came that cannot be read; or over a stream of its own, one that does
    /// not fit the question.
    Malformed,
    /// Too many questions to this upstream are under way.
    Busy,
    /// Nothing was sent, because this machine lacks something.
    Local(Lack),
}

/// What this machine lacks to send a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// A file descriptor (EMFILE, ENFILE).
    Descriptors,
    /// Memory or buffers of the kernel (ENOMEM, ENOBUFS).
    Memory,
    /// An address or port to send from (EADDRNOTAVAIL, EADDRINUSE).
    Address,
    /// A route (ENETUNREACH before anything was sent).
    Route,
    /// Permission: a firewall or a security module of this machine forbids it (EPERM, EACCES).
    Permission,
    /// A path that takes datagrams of this length (EMSGSIZE); the kernel knows a shorter one next time.
    Size,
}

impl Failure {
    /// The reason that a reply gives for it.
    pub fn why(&self) -> Why {
        match self {
            Self::Silent => Why::UpstreamTimeout,
            Self::Refused | Self::Unreachable(_) | Self::Closed => Why::UpstreamUnreachable,
            Self::Tls(_) => Why::UpstreamTls,
            Self::Http(_) | Self::Malformed => Why::UpstreamMalformed,
            Self::Busy => Why::Overload,
            Self::Local(_) => Why::LocalFailure,
        }
    }

    /// Whether it says something about the upstream, rather than about us.
    pub fn blames_upstream(&self) -> bool {
        !matches!(self, Self::Busy | Self::Local(_))
    }

    /// What a connected socket of datagrams reports after something was sent: an ICMP message, which may
    /// say that a network is unreachable. The same error before that is [`Lack::Route`].
    pub fn reported(error: &io::Error) -> Self {
        match error.kind() {
            kind @ io::ErrorKind::NetworkUnreachable => Self::Unreachable(kind),
            _ => Self::from(error),
        }
    }
}

impl Lack {
    fn of(error: &io::Error) -> Option<Self> {
        // Not all of them have a stable kind.
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
        if let Some(lack) = Lack::of(error) {
            return Self::Local(lack);
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

/// What makes a host unreachable. The standard library's words are about its own types.
fn words(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::HostUnreachable => "no route to the host",
        io::ErrorKind::NetworkUnreachable => "no route to the network",
        io::ErrorKind::NotFound => "its name has no address",
        io::ErrorKind::InvalidInput => "its address or name cannot be used",
        io::ErrorKind::TimedOut => "the connection timed out",
        _ => "the system does not say why",
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The words that log patterns of CoreDNS's users look for.
            Self::Silent => out.write_str("i/o timeout"),
            Self::Refused => out.write_str("connection refused"),
            Self::Unreachable(kind) => write!(out, "unreachable: {}", words(*kind)),
            Self::Closed => out.write_str("connection closed before the answer"),
            Self::Tls(text) => write!(out, "TLS: {text}"),
            Self::Http(status) => write!(out, "HTTP status {status}"),
            Self::Malformed => out.write_str("an answer that does not fit the question"),
            Self::Busy => out.write_str("too many questions under way"),
            Self::Local(lack) => write!(out, "not sent: {lack}"),
        }
    }
}

impl fmt::Display for Lack {
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
    fn what_this_machine_lacks_does_not_speak_against_an_upstream() {
        for (number, lack) in [
            (libc::EMFILE, Lack::Descriptors),
            (libc::ENFILE, Lack::Descriptors),
            (libc::ENOBUFS, Lack::Memory),
            (libc::ENOMEM, Lack::Memory),
            (libc::EADDRNOTAVAIL, Lack::Address),
            (libc::EADDRINUSE, Lack::Address),
            (libc::ENETUNREACH, Lack::Route),
            (libc::EPERM, Lack::Permission),
            (libc::EACCES, Lack::Permission),
            (libc::EMSGSIZE, Lack::Size),
        ] {
            let error = io::Error::from_raw_os_error(number);
            let failure = Failure::from(&error);
            assert_eq!(failure, Failure::Local(lack), "{error}");
            assert!(
                !failure.blames_upstream() && !failure.why().is_upstreams(),
                "{error}"
            );
        }
    }

    #[test]
    fn what_the_network_reports_does() {
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
