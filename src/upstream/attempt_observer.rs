//! Observers of the attempts to exchange a query with an upstream, such as dnstap and trace.

use std::{
    fmt::Debug,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{query::Transport, reply::Reply};

/// Observes every attempt to have one query answered. Called on the thread that received the reply, so it
/// must not block.
pub trait AttemptObserver: Debug + Send + Sync {
    /// An upstream replied or failed. Attempts abandoned because another one was answered are not reported.
    fn on_attempt(&self, attempt: &AttemptReport<'_>);
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub struct AttemptReport<'a> {
    /// The address of the upstream.
    pub upstream: SocketAddr,
    /// The transport.
    pub transport: Transport,
    /// The start of the attempt.
    pub started: Instant,
    /// Its duration.
    pub duration: Duration,
    /// The reply, if there is one; [`Reply::source`] has the local address.
    pub reply: Option<&'a Reply>,
}
