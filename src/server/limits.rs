//! Limits of the process and of connections, and the tracking of tasks that a shutdown waits for.

use std::{sync::Arc, time::Duration};

use prometheus::IntGauge;
use tokio::sync::mpsc;

use crate::{
    metrics::Metrics,
    upstream::{MAX_QUERY_BYTES, PendingLimit, process_limit},
    wire::Rcode,
};

/// Limits of the process, over all listeners.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pending queries: those that wait for an upstream or a sub-query. Each takes at most
    /// [`MAX_QUERY_BYTES`].
    pub pending: usize,
    /// Connections: TCP, TLS, HTTPS, gRPC, QUIC and HTTP/3.
    pub connections: usize,
}

impl Limits {
    /// Bytes that all pending queries take at most.
    pub fn pending_bytes(&self) -> usize {
        self.pending.saturating_mul(MAX_QUERY_BYTES)
    }

    /// The limit on pending queries, with nothing pending. `metrics` shows it.
    pub fn pending_limit(&self, metrics: &Metrics) -> Arc<PendingLimit> {
        let shed = metrics.queries_shed_total.with_label_values(&["server"]);
        let limit = PendingLimit::new(self.pending, Rcode::SERVFAIL, [shed]);
        let pending = Arc::downgrade(&limit);
        metrics.before_scrape(move |metrics| {
            let Some(limit) = pending.upgrade() else {
                return false;
            };
            let set = |gauge: &IntGauge, value| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            set(&metrics.pending_queries, limit.pending());
            set(&metrics.pending_queries_limit, limit.limit());
            true
        });
        limit
    }
}

impl Default for Limits {
    /// Pending queries as the memory of the process allows, and 4,096 connections.
    fn default() -> Self {
        Self {
            pending: process_limit(),
            connections: 4_096,
        }
    }
}

/// Bytes of a request's headers. The longest is the URI of a GET request: 16 KiB hold every query that fits
/// into a datagram, and some that do not.
#[cfg(any(feature = "https", feature = "grpc", feature = "quic"))]
pub(super) const HEADERS: u32 = 16 * 1024;

/// Timeouts and limits of one connection (`timeouts`, and the words of `https`, `quic` and the like).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// From the connection to its first query, the TLS handshake included.
    pub first_query: Duration,
    /// From the last query or reply to the next query.
    pub idle: Duration,
    /// For the client to read what is written.
    pub write: Duration,
    /// Pending queries of one connection; while there are so many, none is read. If each query has a
    /// stream of its own, the number of open streams (`max_streams`).
    pub in_flight: usize,
    /// Queries that one connection may send in all (`maxtcpqueries`); `None` for any number.
    pub queries: Option<u64>,
    /// Connections of this listener, within the process's limit (`max_connections`).
    pub connections: Option<usize>,
    /// Queries of this listener that are read and answered at once, if each has a QUIC stream
    /// (`worker_pool_size`).
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

/// Tracks tasks in order to wait for their end: each holds a [`TaskToken`].
#[derive(Debug)]
pub(super) struct TaskTracker {
    handle: TaskToken,
    ended: mpsc::Receiver<()>,
}

/// Held by a task until it ends.
#[derive(Clone, Debug)]
pub(super) struct TaskToken(#[allow(dead_code)] mpsc::Sender<()>); // held, never used

impl TaskTracker {
    pub(super) fn new() -> Self {
        let (sender, ended) = mpsc::channel(1);
        Self {
            handle: TaskToken(sender),
            ended,
        }
    }

    /// A token for one more task.
    pub(super) fn token(&self) -> TaskToken {
        self.handle.clone()
    }

    /// Waits until all tokens are dropped, at most until `deadline`. Returns whether they were.
    pub(super) async fn wait(self, deadline: tokio::time::Instant) -> bool {
        let Self { handle, mut ended } = self;
        drop(handle);
        tokio::time::timeout_at(deadline, ended.recv())
            .await
            .is_ok()
    }
}
