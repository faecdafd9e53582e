//! Limits of the process and of connections, and tracking of the tasks that a shutdown waits for.

use std::{sync::Arc, time::Duration};

use prometheus::IntGauge;
use tokio::sync::mpsc;

use crate::{
    memory::Memory,
    metrics::Metrics,
    upstream::{MAX_QUERY_BYTES, PendingLimit, limit_within, process_limit},
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
    /// The limits within this memory: see [`limit_within`] for pending queries; connections take at most an eighth.
    pub fn within(memory: Memory) -> Self {
        let connections = match memory {
            Memory::Limited(bytes) => {
                let room = bytes / CONNECTIONS_PART / CONNECTION_BYTES as u64;
                usize::try_from(room).unwrap_or(MAX_CONNECTIONS)
            }
            Memory::Machine(_) | Memory::Unknown => MAX_CONNECTIONS,
        };
        Self {
            pending: limit_within(memory),
            connections: connections.clamp(MIN_CONNECTIONS, MAX_CONNECTIONS),
        }
    }

    /// Bound on the bytes of all pending queries.
    pub fn pending_bytes(&self) -> usize {
        self.pending.saturating_mul(MAX_QUERY_BYTES)
    }

    /// A limit on pending queries, reported in `metrics`.
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
    /// The limits within the memory of the process.
    fn default() -> Self {
        Self {
            pending: process_limit(),
            ..Self::within(Memory::of_process())
        }
    }
}

/// Connections of a process at most.
const MAX_CONNECTIONS: usize = 4_096;
/// Connections of a process at least.
const MIN_CONNECTIONS: usize = 64;
/// The part of a memory limit that connections may take.
const CONNECTIONS_PART: u64 = 8;

/// Bytes of an idle connection over TCP, without its pending queries. Measured: 6 KiB.
pub const CONNECTION_BYTES: usize = 8 << 10;

/// Bound on the bytes of a request's headers. The longest is the URI of a GET request: 16 KiB hold every
/// query that fits into a datagram, and some that do not.
#[cfg(any(feature = "https", feature = "grpc", feature = "quic"))]
pub(super) const HEADERS: u32 = 16 * 1024;

/// Timeouts and limits of one connection (`timeouts`, and the properties of `https`, `quic` and others).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// From the connection to its first query, the TLS handshake included.
    pub first_query: Duration,
    /// From the last query or reply to the next query.
    pub idle: Duration,
    /// For the client to read what is written.
    pub write: Duration,
    /// Maximum pending queries of one connection; at the limit none is read. If each query has a stream of
    /// its own, the number of open streams (`max_streams`).
    pub in_flight: usize,
    /// Maximum queries per connection (`maxtcpqueries`); `None` for no limit.
    pub queries: Option<u64>,
    /// Maximum connections of this listener, within the process's limit (`max_connections`).
    pub connections: Option<usize>,
    /// Maximum QUIC streams of this listener that are read and answered concurrently (`worker_pool_size`).
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
pub(crate) struct TaskTracker {
    handle: TaskToken,
    ended: mpsc::Receiver<()>,
}

/// Held by a task until it ends.
#[derive(Clone, Debug)]
pub(crate) struct TaskToken(#[allow(dead_code)] mpsc::Sender<()>); // held, never used

impl TaskTracker {
    pub(crate) fn new() -> Self {
        let (sender, ended) = mpsc::channel(1);
        Self {
            handle: TaskToken(sender),
            ended,
        }
    }

    /// A token for one more task.
    pub(crate) fn token(&self) -> TaskToken {
        self.handle.clone()
    }

    /// Waits until all tokens are dropped, at most until `deadline`. Returns whether they were.
    pub(crate) async fn wait(self, deadline: tokio::time::Instant) -> bool {
        let Self { handle, mut ended } = self;
        drop(handle);
        tokio::time::timeout_at(deadline, ended.recv())
            .await
            .is_ok()
    }
}
