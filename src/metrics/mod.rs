//! Metric families, their names and labels.
//!
//! Names, labels and buckets are CoreDNS's, for its dashboards and alerts; additional families
//! begin with `lodestone_`. Per-query counters do not look up series: see [`cells`] and
//! [`ZoneCounters`].

mod cache;
pub mod cells;
mod cluster;
mod dns;
mod family;
mod former;
mod operation;
mod plugins;
mod process;
mod register;
mod upstream;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder};

pub use cache::{CacheMetrics, HostsMetrics};
pub use cells::ShardedCounter;
pub use cluster::{ClusterMetrics, KubernetesMetrics};
pub use dns::{Dns, ZoneCounters, rcode_label};
pub use family::{BucketedHistogramVec, ShardedCounterVec};
pub use operation::{HealthMetrics, OverloadMetrics, ReloadMetrics, UnreadyMetrics};
pub use plugins::PluginMetrics;
pub use upstream::{ForwardMetrics, GrpcMetrics};

use self::register::Register;
use crate::query_feed::QueryFeed;

/// Content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All metrics of the process: created once and shared.
pub struct Metrics {
    registry: Registry,
    before_scrape: Mutex<Vec<Refresh>>,
    /// Held while gauges are updated and read: scrapes are serialized.
    scrape: Mutex<()>,
    /// Caught panics.
    pub panics_total: IntCounter,
    /// Pending queries evicted or refused at a limit: `limit`.
    pub queries_shed_total: IntCounterVec,
    /// Queries that wait for an upstream or a sub-query.
    pub pending_queries: IntGauge,
    /// How many may.
    pub pending_queries_limit: IntGauge,
    /// 1 for each plugin of each zone: `server`, `zone`, `view`, `name`.
    pub plugin_enabled: IntGaugeVec,
    /// Per-query counters.
    pub dns: Dns,
    /// DNS over HTTPS responses: `server`, `status`.
    pub https_responses_total: IntCounterVec,
    /// DNS over HTTP/3 responses: `server`, `status`.
    pub https3_responses_total: IntCounterVec,
    /// DNS over QUIC responses: `server`, `status`.
    pub quic_responses_total: IntCounterVec,
    /// Upstreams of `forward`.
    pub forward: ForwardMetrics,
    /// Upstreams of `grpc`.
    pub grpc: GrpcMetrics,
    /// The plugin `cache`.
    pub cache: CacheMetrics,
    /// The plugin `hosts`.
    pub hosts: HostsMetrics,
    /// Successful server-side searches of `autopath`: `server`.
    pub autopath_success_total: ShardedCounterVec,
    /// The plugins `template`, `acl`, `dns64` and `local`.
    pub plugins: PluginMetrics,
    /// The health page's self-check.
    pub health: HealthMetrics,
    /// Reloads of the configuration.
    pub reload: ReloadMetrics,
    /// The Kubernetes API client, in CoreDNS's families.
    pub kubernetes: KubernetesMetrics,
    /// The cluster state, in families of our own.
    pub cluster: ClusterMetrics,
    /// UDP queries dropped because they were queued for longer than clients wait.
    pub stale_queries_total: IntCounter,
    /// Queries shed by overloaded threads.
    pub overload: OverloadMetrics,
    /// Queries received after SIGTERM.
    pub after_unready: UnreadyMetrics,
    /// Log lines dropped because the output is too slow or fails.
    pub log_lines_dropped_total: IntCounter,
    /// Invalid records of zone files and lines of hosts files, which are skipped: `plugin`.
    pub left_out_total: IntCounterVec,
    /// Answered queries one by one, for live watchers; not exported.
    pub feed: Arc<QueryFeed>,
}

/// Updates gauges; returns false when it is no longer needed.
type Refresh = Box<dyn Fn(&Metrics) -> bool + Send + Sync>;

/// CoreDNS's duration buckets: 16 bounds from 0.25 ms, each twice the previous one.
fn duration_buckets() -> Vec<f64> {
    exponential_buckets(0.000_25, 16)
}

fn exponential_buckets(first: f64, count: u8) -> Vec<f64> {
    (0..count)
        .map(|step| first * f64::from(1 << step.min(30)))
        .collect()
}

/// Number of refresh callbacks from which they are also run outside of scrapes, at each power of
/// two: see [`Metrics::before_scrape`].
const CLEANUP_THRESHOLD: usize = 64;

impl Metrics {
    /// All families, registered and zero.
    pub fn new() -> Arc<Self> {
        let register = Register(Registry::new());
        register.build_info();
        register.add(process::ProcessMetrics::new());
        let dns = register.add(Dns::new());
        let forward = ForwardMetrics::new(&register);
        register.add(former::FormerForwardMetrics::new(&forward));
        let responses = |name: &str| {
            let help = "Responses by HTTP or QUIC status.";
            register.counters(name, help, &["server", "status"])
        };
        Arc::new(Self {
            before_scrape: Mutex::default(),
            scrape: Mutex::default(),
            panics_total: register.counter("coredns_panics_total", "Caught panics."),
            queries_shed_total: register.counters(
                "lodestone_queries_shed_total",
                "Pending queries evicted or refused at a limit.",
                &["limit"],
            ),
            pending_queries: register.gauge(
                "lodestone_pending_queries",
                "Queries that wait for an upstream or a sub-query.",
            ),
            pending_queries_limit: register.gauge(
                "lodestone_pending_queries_limit",
                "Queries that may wait at a time, over all listeners.",
            ),
            plugin_enabled: register.gauges(
                "coredns_plugin_enabled",
                "1 for each enabled plugin of a zone of a server.",
                &["server", "zone", "view", "name"],
            ),
            dns,
            https_responses_total: responses("coredns_dns_https_responses_total"),
            https3_responses_total: responses("coredns_dns_https3_responses_total"),
            quic_responses_total: responses("coredns_dns_quic_responses_total"),
            forward,
            grpc: GrpcMetrics::new(&register),
            cache: CacheMetrics::new(&register),
            hosts: HostsMetrics::new(&register),
            autopath_success_total: register.add(ShardedCounterVec::new(
                "coredns_autopath_success_total",
                "Successful server-side searches of a client's search list.",
                &["server"],
            )),
            plugins: PluginMetrics::new(&register),
            health: HealthMetrics::new(&register),
            reload: ReloadMetrics::new(&register),
            kubernetes: KubernetesMetrics::new(&register),
            cluster: ClusterMetrics::new(&register),
            left_out_total: register.counters(
                "lodestone_left_out_total",
                "Invalid records of zone files, lines of hosts files and values in etcd, which are skipped.",
                &["plugin"],
            ),
            stale_queries_total: register.counter(
                "lodestone_stale_queries_total",
                "UDP queries dropped because they were queued for longer than clients wait.",
            ),
            overload: OverloadMetrics::new(&register),
            after_unready: UnreadyMetrics::new(&register),
            log_lines_dropped_total: register.counter(
                "lodestone_log_lines_dropped_total",
                "Log lines dropped because the output is too slow or fails.",
            ),
            feed: Arc::default(),
            registry: register.0,
        })
    }

    /// Registers a callback that updates gauges before each scrape, until it returns false. It
    /// should hold weak references only.
    pub fn before_scrape(&self, refresh: impl Fn(&Self) -> bool + Send + Sync + 'static) {
        let count = {
            let mut list = self.before_scrape.lock();
            list.push(Box::new(refresh));
            list.len()
        };
        // Without scrapes, this is the only cleanup of callbacks of former configurations. A scrape
        // in progress does it, so the lock is only tried.
        if count.is_power_of_two()
            && count >= CLEANUP_THRESHOLD
            && let Some(_guard) = self.scrape.try_lock()
        {
            self.run_refreshes();
        }
    }

    /// The counters of a zone of a listener, for [`crate::plugin::Block::counters`].
    pub fn zone(&self, server: &str, zone: &str, view: &str) -> Arc<ZoneCounters> {
        self.dns.zone(server, zone, view)
    }

    /// Sets `coredns_plugin_enabled` for the plugins of a zone.
    pub fn enable_plugins(&self, labels: [&str; 3], names: impl Iterator<Item = &'static str>) {
        let [server, zone, view] = labels;
        for name in names {
            let labels = [server, zone, view, name];
            self.plugin_enabled.with_label_values(&labels).set(1);
        }
    }

    /// All metrics in Prometheus's text format 0.0.4: see [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let families = {
            let _guard = self.scrape.lock();
            self.refresh();
            self.registry.gather()
        };
        let mut text = String::with_capacity(16 * 1024);
        // Encoding fails for families without series, which the registry omits, and for invalid
        // names, which cannot be registered.
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            tracing::error!("cannot write the metrics: {error}");
        }
        text
    }

    fn refresh(&self) {
        self.cluster.objects.reset();
        self.cluster.age_seconds.reset();
        self.cluster.snapshot_age_seconds.set(0.0);
        self.run_refreshes();
    }

    fn run_refreshes(&self) {
        // Taken out while they run: a callback may register another one.
        let taken = std::mem::take(&mut *self.before_scrape.lock());
        let active: Vec<_> = taken.into_iter().filter(|refresh| refresh(self)).collect();
        self.before_scrape.lock().extend(active);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
