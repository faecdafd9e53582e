//! What a server grants at most, taken before work is begun; and how long it waits for a client.

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
