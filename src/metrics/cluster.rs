//! Metrics of the Kubernetes API client and the cluster state.

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::{
    BucketedHistogramVec, exponential_buckets,
    register::{Register, WELL_FORMED, gauge},
};

/// Metrics of the Kubernetes API client, as in CoreDNS.
#[derive(Clone)]
pub struct KubernetesMetrics {
    /// Latency from an endpoint's change to its publication in seconds: `service_kind`.
    pub dns_programming_duration_seconds: BucketedHistogramVec,
    /// Duration of API requests in seconds: `verb`, `host`.
    pub rest_client_request_duration_seconds: BucketedHistogramVec,
    /// Time API requests waited for the client's rate limiter in seconds: `verb`, `host`.
    pub rest_client_rate_limiter_duration_seconds: BucketedHistogramVec,
    /// API requests: `code`, `method`, `host`.
    pub rest_client_requests_total: IntCounterVec,
}

impl KubernetesMetrics {
    pub(super) fn new(register: &Register) -> Self {
        Self {
            dns_programming_duration_seconds: register.bucketed_histograms(
                "coredns_kubernetes_dns_programming_duration_seconds",
                "Latency from the change of an endpoint to its publication, in seconds.",
                &["service_kind"],
                exponential_buckets(0.001, 20),
            ),
            rest_client_request_duration_seconds: register.bucketed_histograms(
                "coredns_kubernetes_rest_client_request_duration_seconds",
                "Duration of API server requests in seconds.",
                &["verb", "host"],
                prometheus::DEFAULT_BUCKETS.into(),
            ),
            rest_client_rate_limiter_duration_seconds: register.bucketed_histograms(
                "coredns_kubernetes_rest_client_rate_limiter_duration_seconds",
                "Time API server requests waited for the client rate limiter, in seconds.",
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

/// Metrics of the cluster state, not in CoreDNS.
#[derive(Clone)]
pub struct ClusterMetrics {
    /// Objects held by all sources: `kind`, named as in RBAC rules. Reset before each scrape; each
    /// source adds its objects.
    pub objects: IntGaugeVec,
    /// Seconds since the last sign of life of a source: `kind`. Reset before each scrape; each
    /// source raises it to its own age.
    pub age_seconds: GaugeVec,
    /// Invalid objects, which are skipped: `kind`.
    pub skipped_objects_total: IntCounterVec,
    /// Invalid fields, skipped in otherwise valid objects: `kind`.
    pub skipped_fields_total: IntCounterVec,
    /// Complete audits: `resource`.
    pub audits_total: IntCounterVec,
    /// Objects whose lost events an audit has found: `resource`.
    pub audit_repairs_total: IntCounterVec,
    /// Age in seconds of the snapshot that is served; 0 if none is.
    pub snapshot_age_seconds: Gauge,
    /// Size of the last snapshot in bytes.
    pub snapshot_bytes: IntGauge,
    /// Written snapshots.
    pub snapshot_writes_total: IntCounter,
    /// Snapshots that could not be written.
    pub snapshot_failures_total: IntCounter,
}

impl ClusterMetrics {
    pub(super) fn new(register: &Register) -> Self {
        Self {
            objects: register.gauges(
                "lodestone_cluster_objects",
                "Objects in the cluster state by kind.",
                &["kind"],
            ),
            age_seconds: register.add(
                GaugeVec::new(
                    Opts::new(
                        "lodestone_cluster_age_seconds",
                        "Seconds since the last sign of life of the source of cluster objects, by kind.",
                    ),
                    &["kind"],
                )
                .expect(WELL_FORMED),
            ),
            skipped_objects_total: register.counters(
                "lodestone_cluster_skipped_objects_total",
                "Invalid cluster objects, which are skipped, by kind.",
                &["kind"],
            ),
            skipped_fields_total: register.counters(
                "lodestone_cluster_skipped_fields_total",
                "Invalid fields of cluster objects, which are skipped, by kind.",
                &["kind"],
            ),
            audits_total: register.counters(
                "lodestone_audits_total",
                "Complete audits of the watched objects, by resource.",
                &["resource"],
            ),
            audit_repairs_total: register.counters(
                "lodestone_audit_repairs_total",
                "Objects whose lost watch events an audit has found, by resource.",
                &["resource"],
            ),
            snapshot_age_seconds: register.add(gauge(
                "lodestone_snapshot_age_seconds",
                "Age of the snapshot that is served in seconds; 0 if none is.",
            )),
            snapshot_bytes: register.gauge(
                "lodestone_snapshot_bytes",
                "Size of the last snapshot of the cluster state in bytes.",
            ),
            snapshot_writes_total: register.counter(
                "lodestone_snapshot_writes_total",
                "Written snapshots of the cluster state.",
            ),
            snapshot_failures_total: register.counter(
                "lodestone_snapshot_failures_total",
                "Snapshots of the cluster state that could not be written.",
            ),
        }
    }
}
