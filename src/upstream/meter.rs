//! What is counted about one upstream: the only place of `upstream` that knows metrics.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus::{Histogram, IntCounter};

use super::{failure::Failure, packet::Packet};
use crate::{
    metrics::{Metrics, Tally, rcode_label},
    query::Transport,
    reply::{Heard, Reply},
    wire::{Header, Rcode},
};

/// What a connection is made of, as metrics call it.
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
    /// What it is called where clients use it.
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

/// What is counted where one kept connection leads to an upstream, and where its replies are heard.
#[cfg_attr(not(any(feature = "https", feature = "quic")), allow(dead_code))] // calls of gRPC are not counted
#[derive(Debug)]
pub(super) struct Account {
    meter: Arc<Meter>,
    proto: Proto,
    heard: OnceLock<Arc<Heard>>,
}

/// The codes of RFC 1035; those beyond are rare enough to be looked up.
const COMMON: usize = 6;

/// The series of one upstream, looked up once each and only when first used: a scrape shows what
/// has happened and nothing else.
pub struct Meter {
    metrics: Arc<Metrics>,
    to: Arc<str>,
    hits: [OnceLock<Arc<Tally>>; 5],
    misses: [OnceLock<Arc<Tally>>; 5],
    durations: [OnceLock<Histogram>; COMMON],
    failed_checks: OnceLock<IntCounter>,
    wrong_replies: OnceLock<Arc<Tally>>,
}

/// What CoreDNS calls the user of a proxy; its other ones are none of ours.
const PROXY: &str = "forward";

impl Meter {
    /// A meter for the upstream at `to`.
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

    /// Where what is heard from it over a socket comes from.
    pub fn heard(&self, local: Option<SocketAddr>, proto: Proto) -> Heard {
        Heard {
            upstream: Arc::clone(&self.to),
            local,
            over: proto.transport(),
        }
    }

    /// A question went over a socket that was open already.
    pub fn hit(&self, proto: Proto) {
        let family = &self.metrics.forward.conn_cache_hits_total;
        let series = || family.with(&[PROXY, &self.to, proto.label()]);
        self.hits[proto as usize].get_or_init(series).inc();
    }

    /// A socket had to be opened for a question.
    pub fn miss(&self, proto: Proto) {
        let family = &self.metrics.forward.conn_cache_misses_total;
        let series = || family.with(&[PROXY, &self.to, proto.label()]);
        self.misses[proto as usize].get_or_init(series).inc();
    }

    /// A reply came that nobody asked for or that cannot be believed.
    pub fn wrong_reply(&self) {
        let family = &self.metrics.forward.wrong_replies_total;
        let series = || family.with(&[&self.to]);
        self.wrong_replies.get_or_init(series).inc();
    }

    /// A health check failed.
    pub fn failed_check(&self) {
        let family = &self.metrics.forward.healthcheck_failures_total;
        let series = || family.with_label_values(&[PROXY, &*self.to]);
        self.failed_checks.get_or_init(series).inc();
    }

    /// An answer came after `took`.
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
impl Account {
    /// Of a connection that is not there yet.
    pub(super) fn new(meter: Arc<Meter>, proto: Proto) -> Arc<Self> {
        Arc::new(Self {
            meter,
            proto,
            heard: OnceLock::new(),
        })
    }

    /// It is there: from now on replies are heard at this address of ours.
    pub(super) fn connected(&self, local: Option<SocketAddr>) {
        let _ = self
            .heard
            .set(Arc::new(self.meter.heard(local, self.proto)));
    }

    /// A question goes over it.
    pub(super) fn hit(&self) {
        self.meter.hit(self.proto);
    }

    /// It is opened for a question.
    pub(super) fn miss(&self) {
        self.meter.miss(self.proto);
    }

    /// Reads what came in answer to `packet`.
    pub(super) fn read(&self, packet: &Packet, message: &[u8]) -> Result<Reply, Failure> {
        let header = Header::read(message);
        let reply = header.and_then(|header| packet.read(message, &header));
        let mut reply = reply.ok_or_else(|| self.wrong())?;
        reply.heard = self.heard.get().cloned();
        Ok(reply)
    }

    /// What came cannot be believed.
    pub(super) fn wrong(&self) -> Failure {
        self.meter.wrong_reply();
        Failure::Malformed
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Meter({})", self.to)
    }
}
