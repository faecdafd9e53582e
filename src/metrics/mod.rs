//! Every metric family, its name and its labels.
//!
//! Names, labels and buckets are CoreDNS's, so that its dashboards and alerts go on working; what
//! is ours alone begins with `lodestone_`. What is counted for each query never looks a series up:
//! see [`cells`] and [`ZoneCounters`].

pub mod cells;
mod dns;
mod family;
mod made;
mod process;
mod register;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use cells::Tally;
pub use dns::{Dns, ZoneCounters, rcode_label};
pub use family::{TallyVec, TimesVec};
pub use made::Made;

use self::register::{Register, WELL_FORMED, gauge};

/// The content type of what [`Metrics::encode`] writes.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Every metric of the process: made once, handed to whatever counts.
pub struct Metrics {
    registry: Registry,
    before_scrape: Mutex<Vec<Refresh>>,
    /// Held while gauges are brought up to date and read, which is no time for a second reader.
    scrape: Mutex<()>,
    /// Panics that were caught.
    pub panics_total: IntCounter,
    /// Pending queries that were evicted or turned away at a limit: `limit`.
    pub queries_shed_total: IntCounterVec,
    /// Queries that wait for an upstream or a sub-query.
    pub pending_queries: IntGauge,
    /// How many may.
    pub pending_queries_limit: IntGauge,
    /// 1 for each plugin of each zone: `server`, `zone`, `view`, `name`.
    pub plugin_enabled: IntGaugeVec,
    /// What is counted for each query.
    pub dns: Dns,
    /// Replies over DNS over HTTPS: `server`, `status`.
    pub https_responses_total: IntCounterVec,
    /// Replies over DNS over HTTP/3: `server`, `status`.
    pub https3_responses_total: IntCounterVec,
    /// Replies over DNS over QUIC: `server`, `status`.
    pub quic_responses_total: IntCounterVec,
    /// Asking upstreams.
    pub forward: Forward,
    /// Servers that are asked by gRPC.
    pub grpc: Grpc,
    /// The cache of other servers' answers.
    pub cache: Cache,
    /// The hosts table.
    pub hosts: Hosts,
    /// Names found by walking a client's search list for it: `server`.
    pub autopath_success_total: TallyVec,
    /// Answers made up, changed or refused.
    pub made: Made,
    /// The health listener's check of itself.
    pub health: Health,
    /// Reading the configuration anew.
    pub reload: Reload,
    /// The cluster, in CoreDNS's words.
    pub kubernetes: Kubernetes,
    /// The cluster, as only we tell it.
    pub cluster: Cluster,
    /// Queries that had waited in a socket's queue for longer than clients do, and were dropped.
    pub stale_queries_total: IntCounter,
    /// Log lines that were dropped because whoever reads them is too slow.
    pub log_lines_dropped_total: IntCounter,
    /// Records of zone files and lines of hosts files that were left out: `plugin`.
    pub left_out_total: IntCounterVec,
}

/// Brings gauges up to date; false once there is nothing left to do so for.
type Refresh = Box<dyn Fn(&Metrics) -> bool + Send + Sync>;

/// Families of asking upstreams.
#[derive(Clone)]
pub struct Forward {
    /// Time each exchange took, seconds: `proxy_name`, `to`, `rcode`.
    pub request_duration_seconds: HistogramVec,
    /// Checks of an upstream that failed: `proxy_name`, `to`.
    pub healthcheck_failures_total: IntCounterVec,
    /// Connections that were there already: `proxy_name`, `to`, `proto`.
    pub conn_cache_hits_total: TallyVec,
    /// Connections that had to be made: `proxy_name`, `to`, `proto`.
    pub conn_cache_misses_total: TallyVec,
    /// Replies that were not believed: `to`.
    pub wrong_replies_total: TallyVec,
    /// Questions that found every upstream down.
    pub healthcheck_broken_total: IntCounter,
    /// Questions refused because too many were under way.
    pub max_concurrent_rejects_total: IntCounter,
}

/// Families of the cache. `zones` are the cache's zones, joined by commas.
#[derive(Clone)]
pub struct Cache {
    /// Answers held: `server`, `type` (success, denial), `zones`, `view`.
    pub entries: IntGaugeVec,
    /// Answered from it: `server`, `type`, `zones`, `view`.
    pub hits_total: TallyVec,
    /// Asked of it: `server`, `zones`, `view`.
    pub requests_total: TallyVec,
    /// Not found in it: `server`, `zones`, `view`.
    pub misses_total: TallyVec,
    /// Fetched anew before their time was up: `server`, `zones`, `view`.
    pub prefetch_total: TallyVec,
    /// Replies that did not fit their question and were not kept: `server`, `zones`, `view`.
    pub drops_total: TallyVec,
    /// Answered past their time: `server`, `zones`, `view`.
    pub served_stale_total: TallyVec,
    /// Pushed out for want of room: `server`, `type`, `zones`, `view`.
    pub evictions_total: TallyVec,
}

/// Families of the hosts table.
#[derive(Clone)]
pub struct Hosts {
    /// Entries, those of the file and those of the Corefile: `hostsfile`.
    pub entries: IntGaugeVec,
    /// When a file was last read, seconds since 1970.
    pub reload_timestamp_seconds: Gauge,
}

/// Families of the health listener's check of itself.
#[derive(Clone)]
pub struct Health {
    /// Time each check took, seconds.
    pub request_duration_seconds: Histogram,
    /// Checks that failed.
    pub request_failures_total: IntCounter,
}

/// Families of reading the configuration anew.
#[derive(Clone)]
pub struct Reload {
    /// Files that were refused.
    pub failed_total: IntCounter,
    /// 1 for what is served: `hash` (its algorithm), `value`.
    pub version_info: IntGaugeVec,
    /// Whether the last file read is the one that is served (ours alone).
    pub last_successful: IntGauge,
    /// The first 48 bits of the hash of what is served: equal replicas show equal values (ours).
    pub config_hash: Gauge,
}

impl Reload {
    /// The configuration with this hash is what is served from now on.
    #[allow(clippy::cast_precision_loss)] // 48 bits fit
    pub fn served(&self, hash: u64) {
        self.version_info.reset();
        let value = format!("{hash:016x}");
        self.version_info
            .with_label_values(&["siphash", &value])
            .set(1);
        self.config_hash.set((hash >> 16) as f64);
        self.last_successful.set(1);
    }

    /// A configuration was read and refused; the one before is served on.
    pub fn refused(&self) {
        self.failed_total.inc();
        self.last_successful.set(0);
    }
}

/// Families of the cluster's API in CoreDNS's words.
#[derive(Clone)]
pub struct Kubernetes {
    /// From the change of an endpoint to its being served, seconds: `service_kind`.
    pub dns_programming_duration_seconds: TimesVec,
    /// Time each request to the API took, seconds: `verb`, `host`.
    pub rest_client_request_duration_seconds: TimesVec,
    /// Time each request waited for its turn, seconds: `verb`, `host`.
    pub rest_client_rate_limiter_duration_seconds: TimesVec,
    /// Requests to the API: `code`, `method`, `host`.
    pub rest_client_requests_total: IntCounterVec,
}

/// Families of the cluster's data that CoreDNS does not have.
#[derive(Clone)]
pub struct Cluster {
    /// Objects held, by all sources together: `kind`, as RBAC rules call it. Each refresh adds
    /// what its source holds; it is empty before them.
    pub objects: IntGaugeVec,
    /// Seconds since the source last proved to be alive: `kind`. Each refresh raises it to the age
    /// of its source; it is empty before them.
    pub age_seconds: GaugeVec,
    /// Objects left out because they cannot be understood: `kind`.
    pub skipped_objects_total: IntCounterVec,
    /// Parts of objects left out because they cannot be used, of objects that are served
    /// otherwise: `kind`.
    pub skipped_fields_total: IntCounterVec,
}

/// 0.25 ms doubled fifteen times: what CoreDNS counts the time of queries in.
fn time_buckets() -> Vec<f64> {
    doubled(0.000_25, 16)
}

fn doubled(first: f64, count: u8) -> Vec<f64> {
    (0..count)
        .map(|step| first * f64::from(1 << step.min(30)))
        .collect()
}

/// What the health listener's check is counted in: 0.25 ms to 2.5 s by tens.
const SLIM_TIME_BUCKETS: [f64; 5] = [0.000_25, 0.002_5, 0.025, 0.25, 2.5];

/// Refreshes before a scrape that are run without one once there are so many, or a multiple of it by a
/// power of two: see [`Metrics::before_scrape`].
const SWEPT_FROM: usize = 64;

const CACHE_LABELS: &[&str] = &["server", "zones", "view"];
const CACHE_TYPE_LABELS: &[&str] = &["server", "type", "zones", "view"];
const CONNECTION_LABELS: &[&str] = &["proxy_name", "to", "proto"];

impl Metrics {
    /// Every family, registered, with nothing counted yet.
    pub fn new() -> Arc<Self> {
        let register = Register(Registry::new());
        register.build_info();
        register.add(process::Process::new());
        let dns = register.add(Dns::new());
        let responses = |name: &str| {
            let help = "Replies by HTTP or QUIC status.";
            register.counters(name, help, &["server", "status"])
        };
        Arc::new(Self {
            before_scrape: Mutex::default(),
            scrape: Mutex::default(),
            panics_total: register.counter("coredns_panics_total", "Panics that were caught."),
            queries_shed_total: register.counters(
                "lodestone_queries_shed_total",
                "Pending queries that were evicted or turned away at a limit.",
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
                "1 for each plugin that a zone of a server has.",
                &["server", "zone", "view", "name"],
            ),
            dns,
            https_responses_total: responses("coredns_dns_https_responses_total"),
            https3_responses_total: responses("coredns_dns_https3_responses_total"),
            quic_responses_total: responses("coredns_dns_quic_responses_total"),
            forward: Forward::new(&register),
            grpc: Grpc::new(&register),
            cache: Cache::new(&register),
            hosts: Hosts::new(&register),
            autopath_success_total: register.add(TallyVec::new(
                "coredns_autopath_success_total",
                "Names found by walking a client's search list for it.",
                &["server"],
            )),
            made: Made::new(&register),
            health: Health::new(&register),
            reload: Reload::new(&register),
            kubernetes: Kubernetes::new(&register),
            cluster: Cluster::new(&register),
            left_out_total: register.counters(
                "lodestone_left_out_total",
                "Records of zone files and lines of hosts files left out because they cannot be read.",
                &["plugin"],
            ),
            stale_queries_total: register.counter(
                "lodestone_stale_queries_total",
                "Queries over UDP dropped because they had been queued for longer than clients wait.",
            ),
            log_lines_dropped_total: register.counter(
                "lodestone_log_lines_dropped_total",
                "Log lines dropped because the reader of the output is too slow.",
            ),
            registry: register.0,
        })
    }

    /// Has `refresh` called before each scrape, to bring gauges up to date, until it says false.
    /// Whatever a refresh looks at, it should hold weakly.
    pub fn before_scrape(&self, refresh: impl Fn(&Self) -> bool + Send + Sync + 'static) {
        let count = {
            let mut list = self.before_scrape.lock();
            list.push(Box::new(refresh));
            list.len()
        };
        // Without scrapes, nothing else drops the refreshes of configurations that are gone. A scrape in
        // progress does, so its lock is not waited for.
        if count.is_power_of_two()
            && count >= SWEPT_FROM
            && let Some(_alone) = self.scrape.try_lock()
        {
            self.run_refreshes();
        }
    }

    /// The counters of a zone of a listener: what [`crate::plugin::Block::counters`] is for.
    pub fn zone(&self, server: &str, zone: &str, view: &str) -> Arc<ZoneCounters> {
        self.dns.zone(server, zone, view)
    }

    /// Sets `coredns_plugin_enabled` to these plugins of a zone.
    pub fn enable_plugins(&self, labels: [&str; 3], names: impl Iterator<Item = &'static str>) {
        let [server, zone, view] = labels;
        for name in names {
            let labels = [server, zone, view, name];
            self.plugin_enabled.with_label_values(&labels).set(1);
        }
    }

    /// Everything in Prometheus's text format, version 0.0.4: see [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let families = {
            let _alone = self.scrape.lock();
            self.refresh();
            self.registry.gather()
        };
        let mut text = String::with_capacity(16 * 1024);
        // It fails for families without series and names that are none; the first are left out by
        // the registry, the second cannot be registered.
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            tracing::error!("cannot write the metrics: {error}");
        }
        text
    }

    fn refresh(&self) {
        self.cluster.objects.reset();
        self.cluster.age_seconds.reset();
        self.run_refreshes();
    }

    fn run_refreshes(&self) {
        // Taken out while they run, so that one may call back without a deadlock.
        let taken = std::mem::take(&mut *self.before_scrape.lock());
        let kept: Vec<_> = taken.into_iter().filter(|refresh| refresh(self)).collect();
        self.before_scrape.lock().extend(kept);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Forward {
    fn new(register: &Register) -> Self {
        Self {
            request_duration_seconds: register.histograms(
                "coredns_proxy_request_duration_seconds",
                "Time that an upstream took to answer, in seconds.",
                &["proxy_name", "to", "rcode"],
                time_buckets(),
            ),
            healthcheck_failures_total: register.counters(
                "coredns_proxy_healthcheck_failures_total",
                "Health checks that an upstream failed.",
                &["proxy_name", "to"],
            ),
            conn_cache_hits_total: register.add(TallyVec::new(
                "coredns_proxy_conn_cache_hits_total",
                "Questions that found an open connection to the upstream.",
                CONNECTION_LABELS,
            )),
            conn_cache_misses_total: register.add(TallyVec::new(
                "coredns_proxy_conn_cache_misses_total",
                "Questions that had to open a connection to the upstream.",
                CONNECTION_LABELS,
            )),
            wrong_replies_total: register.add(TallyVec::new(
                "lodestone_forward_wrong_replies_total",
                "Replies that fit no question to the upstream, or cannot be read.",
                &["to"],
            )),
            healthcheck_broken_total: register.counter(
                "coredns_forward_healthcheck_broken_total",
                "Questions for which every upstream was down.",
            ),
            max_concurrent_rejects_total: register.counter(
                "coredns_forward_max_concurrent_rejects_total",
                "Questions refused because as many as allowed were under way.",
            ),
        }
    }
}

/// Servers that are asked by gRPC; `to` is host and port.
pub struct Grpc {
    /// Time that they took to answer.
    pub request_duration_seconds: HistogramVec,
    /// Questions that they answered.
    pub requests_total: IntCounterVec,
    /// The same by code.
    pub responses_total: IntCounterVec,
}

impl Grpc {
    fn new(register: &Register) -> Self {
        Self {
            request_duration_seconds: register.histograms(
                "coredns_grpc_request_duration_seconds",
                "Time that a server took to answer by gRPC, in seconds.",
                &["to"],
                time_buckets(),
            ),
            requests_total: register.counters(
                "coredns_grpc_requests_total",
                "Questions that a server answered by gRPC.",
                &["to"],
            ),
            responses_total: register.counters(
                "coredns_grpc_responses_total",
                "Replies of a server by gRPC, by code.",
                &["rcode", "to"],
            ),
        }
    }
}

impl Cache {
    fn new(register: &Register) -> Self {
        let counted = |name: &str, help: &str, labels: &[&'static str]| {
            register.add(TallyVec::new(
                &format!("coredns_cache_{name}"),
                help,
                labels,
            ))
        };
        Self {
            entries: register.gauges(
                "coredns_cache_entries",
                "Answers in the cache.",
                CACHE_TYPE_LABELS,
            ),
            hits_total: counted(
                "hits_total",
                "Questions answered from the cache.",
                CACHE_TYPE_LABELS,
            ),
            requests_total: counted(
                "requests_total",
                "Questions that reached the cache.",
                CACHE_LABELS,
            ),
            misses_total: counted(
                "misses_total",
                "Questions that the cache could not answer.",
                CACHE_LABELS,
            ),
            prefetch_total: counted(
                "prefetch_total",
                "Answers fetched anew before their time was up.",
                CACHE_LABELS,
            ),
            drops_total: counted(
                "drops_total",
                "Replies not kept because they do not fit their question.",
                CACHE_LABELS,
            ),
            served_stale_total: counted(
                "served_stale_total",
                "Questions answered past the answer's time.",
                CACHE_LABELS,
            ),
            evictions_total: counted(
                "evictions_total",
                "Answers pushed out for want of room.",
                CACHE_TYPE_LABELS,
            ),
        }
    }
}

impl Hosts {
    fn new(register: &Register) -> Self {
        Self {
            entries: register.gauges(
                "coredns_hosts_entries",
                "Entries of the hosts table, from the file and the Corefile.",
                &["hostsfile"],
            ),
            reload_timestamp_seconds: register.add(gauge(
                "coredns_hosts_reload_timestamp_seconds",
                "When the hosts file was last read, in seconds since 1970.",
            )),
        }
    }
}

impl Health {
    fn new(register: &Register) -> Self {
        let options = HistogramOpts::new(
            "coredns_health_request_duration_seconds",
            "Time of each request to our own health listener, in seconds.",
        )
        .buckets(SLIM_TIME_BUCKETS.into());
        Self {
            request_duration_seconds: register
                .add(Histogram::with_opts(options).expect(WELL_FORMED)),
            request_failures_total: register.counter(
                "coredns_health_request_failures_total",
                "Requests to our own health listener that failed.",
            ),
        }
    }
}

impl Reload {
    fn new(register: &Register) -> Self {
        Self {
            failed_total: register.counter(
                "coredns_reload_failed_total",
                "Configurations that were read and refused.",
            ),
            version_info: register.gauges(
                "coredns_reload_version_info",
                "1 for the configuration that is served: the kind of hash and its value.",
                &["hash", "value"],
            ),
            last_successful: register.gauge(
                "lodestone_config_last_reload_successful",
                "Whether the last configuration read is the one that is served.",
            ),
            config_hash: register.add(gauge(
                "lodestone_config_hash",
                "Hash of the configuration that is served, its first 48 bits.",
            )),
        }
    }
}

impl Kubernetes {
    fn new(register: &Register) -> Self {
        Self {
            dns_programming_duration_seconds: register.times(
                "coredns_kubernetes_dns_programming_duration_seconds",
                "Time from an endpoint's change to its being served, in seconds.",
                &["service_kind"],
                doubled(0.001, 20),
            ),
            rest_client_request_duration_seconds: register.times(
                "coredns_kubernetes_rest_client_request_duration_seconds",
                "Time of each request to the API server, in seconds.",
                &["verb", "host"],
                prometheus::DEFAULT_BUCKETS.into(),
            ),
            rest_client_rate_limiter_duration_seconds: register.times(
                "coredns_kubernetes_rest_client_rate_limiter_duration_seconds",
                "Time that each request to the API server waited for its turn here, in seconds.",
                &["verb", "host"],
                prometheus::DEFAULT_BUCKETS.into(),
            ),
            rest_client_requests_total: register.counters(
                "coredns_kubernetes_rest_client_requests_total",
                "Requests to the API server.",
                &["code", "method", "host"],
            ),
        }
    }
}

impl Cluster {
    fn new(register: &Register) -> Self {
        Self {
            objects: register.gauges(
                "lodestone_cluster_objects",
                "Objects of the cluster that are held, by kind.",
                &["kind"],
            ),
            age_seconds: register.add(
                GaugeVec::new(
                    Opts::new(
                        "lodestone_cluster_age_seconds",
                        "Seconds since the source of the cluster's objects last proved to be alive, by kind.",
                    ),
                    &["kind"],
                )
                .expect(WELL_FORMED),
            ),
            skipped_objects_total: register.counters(
                "lodestone_cluster_skipped_objects_total",
                "Objects of the cluster left out because they cannot be understood, by kind.",
                &["kind"],
            ),
            skipped_fields_total: register.counters(
                "lodestone_cluster_skipped_fields_total",
                "Fields left out of objects of the cluster because they cannot be used, by kind.",
                &["kind"],
            ),
        }
    }
}

#[cfg(test)]
mod tests;
