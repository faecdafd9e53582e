//! What a server grants at most, taken before work is begun; and how long it waits for a client.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    metrics::Metrics,
    reply::Reply,
    upstream::{PendingLimit, Permit},
    wire::Rcode,
};

/// How much may be under way at once, over all listeners of the process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pending queries: those that wait for an upstream or a sub-query; each takes
    /// [`Limits::WAITING_OCTETS`].
    pub waiting: usize,
    /// Stream connections.
    pub connections: usize,
}

impl Limits {
    /// Bytes that a pending query takes at most. Measured with an upstream that is silent and 3,000 to
    /// 15,000 different names a second: at the limit of 10,000 the process had grown by 84 to 110 MB,
    /// with replies that fail, evicted queries on their way out and what the allocator holds back.
    pub const WAITING_OCTETS: usize = 12 << 10;

    /// Bytes that all pending queries take at most.
    pub fn waiting_octets(&self) -> usize {
        self.waiting.saturating_mul(Self::WAITING_OCTETS)
    }
}

impl Default for Limits {
    /// Enough for a large cluster's worst second, and 118 MiB at the most.
    fn default() -> Self {
        Self {
            waiting: 10_000,
            connections: 4_096,
        }
    }
}

/// Bytes of an HTTP request's headers, of which a question in the address is the longest: 16 KiB hold
/// every one that fits into a datagram, and some that do not.
#[cfg(any(feature = "https", feature = "grpc", feature = "quic"))]
pub(super) const HEADERS: u32 = 16 * 1024;

/// How a stream's client is treated (the `timeouts` words of a server block).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// From the connection to its first question; for TLS also the handshake.
    pub first_query: Duration,
    /// From the last question or reply to the next question.
    pub idle: Duration,
    /// For the client to take what is written.
    pub write: Duration,
    /// Questions of one connection that may wait at once; while so many do, none is read. Where each
    /// has a stream of its own, so many streams may be open (`max_streams`).
    pub in_flight: usize,
    /// Questions of one connection, if they are numbered at all.
    pub queries: Option<u64>,
    /// Connections of this listener alone, within what holds for the process (`max_connections`).
    pub connections: Option<usize>,
    /// Questions of this listener that are read and answered at once, where each has a stream of
    /// QUIC (`worker_pool_size`).
    pub workers: Option<usize>,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            first_query: Duration::from_secs(3),
            idle: Duration::from_secs(10),
            write: Duration::from_secs(5),
            in_flight: 128,
            queries: None,
            connections: None,
            workers: None,
        }
    }
}

/// The slots of pending queries, over all listeners.
#[derive(Clone, Debug)]
pub struct Grants(Arc<PendingLimit>);

impl Grants {
    /// Everything that `limits` allows, nothing of it taken.
    pub fn new(limits: Limits, metrics: &Metrics) -> Self {
        let shed = metrics.queries_shed_total.with_label_values(&["server"]);
        Self(PendingLimit::new(limits.waiting, Rcode::SERVFAIL, [shed]))
    }

    /// Has so many queries wait at most, from now on.
    pub(super) fn allow(&self, limits: Limits) {
        self.0.set_limit(limits.waiting);
    }

    /// A slot for a query of `client` that waits for `group`.
    pub(super) fn enter(&self, group: usize, client: IpAddr) -> Option<Permit> {
        self.0.enter(group, client)
    }

    /// The reply to a query that has no slot.
    pub(super) fn overload(&self, reply: &mut Reply) {
        self.0.overload(reply);
    }
}

/// Counts work under way, to be waited for: whoever works holds a [`Working`].
#[derive(Debug)]
pub(super) struct Work {
    handle: Working,
    ended: mpsc::Receiver<()>,
}

/// Work under way; it ends when this is dropped.
#[derive(Clone, Debug)]
pub(super) struct Working(#[allow(dead_code)] mpsc::Sender<()>); // held, never used

impl Work {
    pub(super) fn new() -> Self {
        let (sender, ended) = mpsc::channel(1);
        Self {
            handle: Working(sender),
            ended,
        }
    }

    /// Begins a piece of work.
    pub(super) fn begin(&self) -> Working {
        self.handle.clone()
    }

    /// Waits for all work to end, at most until `deadline`; whether it did.
    pub(super) async fn end(self, deadline: tokio::time::Instant) -> bool {
        let Self { handle, mut ended } = self;
        drop(handle);
        tokio::time::timeout_at(deadline, ended.recv())
            .await
            .is_ok()
    }
}
