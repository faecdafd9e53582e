//! Metrics of the process's operation: health self-check, shutdown and reloads.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec};

use super::register::{Register, WELL_FORMED, gauge};

/// Buckets of the health self-check: five bounds from 0.25 ms, each ten times the previous one.
const HEALTH_BUCKETS: [f64; 5] = [0.000_25, 0.002_5, 0.025, 0.25, 2.5];

/// Metrics of the health page's self-check.
#[derive(Clone)]
pub struct HealthMetrics {
    /// Duration of a check in seconds.
    pub request_duration_seconds: Histogram,
    /// Failed checks.
    pub request_failures_total: IntCounter,
}

impl HealthMetrics {
    pub(super) fn new(register: &Register) -> Self {
        let options = HistogramOpts::new(
            "coredns_health_request_duration_seconds",
            "Duration of health self-checks in seconds.",
        )
        .buckets(HEALTH_BUCKETS.into());
        Self {
            request_duration_seconds: register
                .add(Histogram::with_opts(options).expect(WELL_FORMED)),
            request_failures_total: register.counter(
                "coredns_health_request_failures_total",
                "Failed health self-checks.",
            ),
        }
    }
}

/// Counts the queries received after SIGTERM, when the process reports not ready. Until then a query costs one
/// load of a flag that nothing writes, and those of a batch of datagrams one load together.
pub struct UnreadyMetrics {
    is_unready: AtomicBool,
    queries_total: IntCounter,
}

impl UnreadyMetrics {
    pub(super) fn new(register: &Register) -> Self {
        Self {
            is_unready: AtomicBool::new(false),
            queries_total: register.counter(
                "lodestone_queries_after_unready_total",
                "Queries received after SIGTERM, when the process reports not ready.",
            ),
        }
    }

    /// Counts from now on.
    pub fn begin(&self) {
        self.is_unready.store(true, Relaxed);
    }

    /// Counts received messages, if the process reports not ready.
    pub fn received(&self, count: usize) {
        if self.is_unready.load(Relaxed) {
            self.queries_total.inc_by(count as u64);
        }
    }

    /// How many have been received.
    pub fn count(&self) -> u64 {
        self.queries_total.get()
    }
}

/// Queries that an overloaded thread of a UDP socket sheds.
pub struct OverloadMetrics {
    /// Answered with SERVFAIL instead of being forwarded.
    pub upstream: IntCounter,
    /// Dropped unread.
    pub unread: IntCounter,
}

impl OverloadMetrics {
    pub(super) fn new(register: &Register) -> Self {
        let shed = register.counters(
            "lodestone_overload_shed_total",
            "UDP queries shed by a thread that cannot keep up: answered with SERVFAIL instead of being forwarded \
             (upstream), or dropped unread (unread).",
            &["class"],
        );
        Self {
            upstream: shed.with_label_values(&["upstream"]),
            unread: shed.with_label_values(&["unread"]),
        }
    }
}

/// Metrics of configuration reloads.
#[derive(Clone)]
pub struct ReloadMetrics {
    /// Rejected configurations.
    pub failed_total: IntCounter,
    /// 1 for the active configuration: `hash` (the algorithm), `value`.
    pub version_info: IntGaugeVec,
    /// Whether the last reload succeeded (not in CoreDNS).
    pub last_successful: IntGauge,
    /// First 48 bits of the active configuration's hash, equal for equal configurations (not in
    /// CoreDNS).
    pub config_hash: Gauge,
}

impl ReloadMetrics {
    /// Records the activation of a configuration.
    #[allow(clippy::cast_precision_loss)] // 48 bits are exact in an f64
    pub fn served(&self, hash: u64) {
        self.version_info.reset();
        let value = format!("{hash:016x}");
        self.version_info
            .with_label_values(&["siphash", &value])
            .set(1);
        self.config_hash.set((hash >> 16) as f64);
        self.last_successful.set(1);
    }

    /// Records a rejected configuration; the active one is unchanged.
    pub fn refused(&self) {
        self.failed_total.inc();
        self.last_successful.set(0);
    }
}

impl ReloadMetrics {
    pub(super) fn new(register: &Register) -> Self {
        Self {
            failed_total: register
                .counter("coredns_reload_failed_total", "Rejected configurations."),
            version_info: register.gauges(
                "coredns_reload_version_info",
                "1 for the active configuration: hash algorithm and value.",
                &["hash", "value"],
            ),
            last_successful: register.gauge(
                "lodestone_config_last_reload_successful",
                "Whether the last reload succeeded.",
            ),
            config_hash: register.add(gauge(
                "lodestone_config_hash",
                "First 48 bits of the hash of the active configuration.",
            )),
        }
    }
}
