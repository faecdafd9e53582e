//! Why an upstream gave no answer.

use std::{fmt, io, sync::Arc};

use crate::reply::Why;

/// What became of a question that was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing came, or nothing that can be believed.
    Silent,
    /// The host is there and nobody listens on the port.
    Refused,
    /// The host cannot be reached, or no socket could be had to reach it with.
    Unreachable(io::ErrorKind),
    /// The stream was closed before the answer.
    Closed,
    /// The TLS handshake failed: the library's words for it.
    Tls(Arc<str>),
    /// The HTTP request was answered with another status than 200.
    Http(u16),
    /// An answer came, over a stream of its own, that does not fit the question or is none.
    Malformed,
    /// Too many questions to this upstream are under way.
    Busy,
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
        }
    }

    /// Whether it says something about the upstream, rather than about us.
    pub fn blames_upstream(&self) -> bool {
        *self != Self::Busy
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
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

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The words that log patterns of CoreDNS's users look for.
            Self::Silent => out.write_str("i/o timeout"),
            Self::Refused => out.write_str("connection refused"),
            Self::Unreachable(kind) => write!(out, "unreachable: {kind}"),
            Self::Closed => out.write_str("connection closed before the answer"),
            Self::Tls(text) => write!(out, "TLS: {text}"),
            Self::Http(status) => write!(out, "HTTP status {status}"),
            Self::Malformed => out.write_str("an answer that does not fit the question"),
            Self::Busy => out.write_str("too many questions under way"),
        }
    }
}
