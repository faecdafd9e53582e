//! Metrics of one upstream. The rest of `upstream` does not depend on metric families.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus::{Histogram, IntCounter};

use super::{failure::Failure, packet::Packet};
use crate::{
    metrics::{Metrics, ShardedCounter, rcode_label},
    query::Transport,
    reply::{Reply, UpstreamSource},
    wire::{Header, Rcode},
};

/// The protocol of a connection, as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// `udp`
    Udp,
    /// `tcp`
    Tcp,
    /// `tcp-tls`
    Tls,
    /// `https`
    Https,
    /// `quic`
    Quic,
}

impl Proto {
    /// The same as a transport of queries.
    pub fn transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Tcp => Transport::Tcp,
            Self::Tls => Transport::Tls,
            Self::Https => Transport::Https,
            Self::Quic => Transport::Quic,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tcp-tls",
            Self::Https => "https",
            Self::Quic => "quic",
        }
    }
}

/// The metrics of one pooled connection, and the source that its replies are labelled with.
#[cfg_attr(not(any(feature = "https", feature = "quic")), allow(dead_code))] // calls of gRPC are not counted
#[derive(Debug)]
pub(super) struct ConnectionMetrics {
    meter: Arc<UpstreamMetrics>,
    proto: Proto,
    source: OnceLock<Arc<UpstreamSource>>,
}

/// The rcodes of RFC 1035. Series of other rcodes are rare, so they are looked up each time.
const COMMON: usize = 6;

/// The series of one upstream. Each is created on first use, so a scrape has no series without events.
pub struct UpstreamMetrics {
    metrics: Arc<Metrics>,
    to: Arc<str>,
    hits: [OnceLock<Arc<ShardedCounter>>; 5],
    misses: [OnceLock<Arc<ShardedCounter>>; 5],
    durations: [OnceLock<Histogram>; COMMON],
    failed_checks: OnceLock<IntCounter>,
    wrong_replies: OnceLock<Arc<ShardedCounter>>,
}

/// CoreDNS's label value for proxies of the plugin `forward`.
const PROXY: &str = "forward";

impl UpstreamMetrics {
    /// Metrics of the upstream at `to`.
    pub fn new(metrics: &Arc<Metrics>, to: &str) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            to: to.into(),
            hits: Default::default(),
            misses: Default::default(),
            durations: Default::default(),
            failed_checks: OnceLock::new(),
            wrong_replies: OnceLock::new(),
        }
    }

    /// The source of replies received on a socket.
    pub fn source(&self, local: Option<SocketAddr>, proto: Proto) -> UpstreamSource {
        UpstreamSource {
            upstream: Arc::clone(&self.to),
            local,
            over: proto.transport(),
        }
    }

    /// Counts a query over an open connection.
    pub fn hit(&self, proto: Proto) {
        let family = &self.metrics.forward.conn_cache_hits_total;
        let series = || family.with(&[PROXY, &self.to, proto.label()]);
        self.hits[proto as usize].get_or_init(series).inc();
    }

    /// Counts a connection opened for a query.
    pub fn miss(&self, proto: Proto) {
        let family = &self.metrics.forward.conn_cache_misses_total;
        let series = || family.with(&[PROXY, &self.to, proto.label()]);
        self.misses[proto as usize].get_or_init(series).inc();
    }

    /// Counts a message that matches no query in flight or cannot be parsed.
    pub fn wrong_reply(&self) {
        let family = &self.metrics.forward.wrong_replies_total;
        let series = || family.with(&[&self.to]);
        self.wrong_replies.get_or_init(series).inc();
    }

    /// Counts a failed health check.
    pub fn failed_check(&self) {
        let family = &self.metrics.forward.healthcheck_failures_total;
        let series = || family.with_label_values(&[PROXY, &*self.to]);
        self.failed_checks.get_or_init(series).inc();
    }

    /// Observes a reply received after `took`.
    pub fn answered(&self, rcode: Rcode, took: Duration) {
        let family = &self.metrics.forward.request_duration_seconds;
        let series = || family.with_label_values(&[PROXY, &*self.to, rcode_label(rcode)]);
        let took = took.as_secs_f64();
        match self.durations.get(usize::from(rcode.0)) {
            Some(known) => known.get_or_init(series).observe(took),
            None => series().observe(took),
        }
    }
}

#[cfg_attr(not(any(feature = "https", feature = "quic")), allow(dead_code))] // calls of gRPC are not counted
impl ConnectionMetrics {
    /// For a connection that is not open yet.
    pub(super) fn new(meter: Arc<UpstreamMetrics>, proto: Proto) -> Arc<Self> {
        Arc::new(Self {
            meter,
            proto,
            source: OnceLock::new(),
        })
    }

    /// Sets the local address of the open connection.
    pub(super) fn connected(&self, local: Option<SocketAddr>) {
        let _ = self
            .source
            .set(Arc::new(self.meter.source(local, self.proto)));
    }

    /// Counts a query over the open connection.
    pub(super) fn hit(&self) {
        self.meter.hit(self.proto);
    }

    /// Counts an opening of the connection.
    pub(super) fn miss(&self) {
        self.meter.miss(self.proto);
    }

    /// Parses the reply to `packet`.
    pub(super) fn read(&self, packet: &Packet, message: &[u8]) -> Result<Reply, Failure> {
        let header = Header::read(message);
        let reply = header.and_then(|header| packet.read(message, &header));
        let mut reply = reply.ok_or_else(|| self.wrong())?;
        reply.source = self.source.get().cloned();
        Ok(reply)
    }

    /// Counts a reply that is not acceptable.
    pub(super) fn wrong(&self) -> Failure {
        self.meter.wrong_reply();
        Failure::Malformed
    }
}

impl fmt::Debug for UpstreamMetrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "UpstreamMetrics({})", self.to)
    }
}
