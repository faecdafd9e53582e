//! Somebody who wants to hear of what is asked of upstreams, and what comes of it.

use std::{
    fmt::Debug,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{query::Transport, reply::Reply};

/// Hears of every try to have one question answered. It runs where the answer came in, so it must
/// neither block nor take long.
pub trait Witness: Debug + Send + Sync {
    /// An upstream answered, or failed to. Tries that were given up because another one was answered
    /// are not told.
    fn tried(&self, tried: &Tried<'_>);
}

/// One try.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'a> {
    /// Whom.
    pub upstream: SocketAddr,
    /// Over what.
    pub over: Transport,
    /// When it began.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
    /// The answer, if there is one; where it came to is [`Reply::source`].
    pub reply: Option<&'a Reply>,
}
