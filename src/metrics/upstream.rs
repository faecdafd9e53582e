//! Metrics of upstream exchanges (`forward`, `grpc`).

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::{ShardedCounterVec, duration_buckets, register::Register};

const CONNECTION_LABELS: &[&str] = &["proxy_name", "to", "proto"];

/// Metrics of `forward` upstreams.
#[derive(Clone)]
pub struct ForwardMetrics {
    /// Duration of an exchange in seconds: `proxy_name`, `to`, `rcode`.
    pub request_duration_seconds: HistogramVec,
    /// Failed health checks: `proxy_name`, `to`.
    pub healthcheck_failures_total: IntCounterVec,
    /// Queries sent on a pooled connection: `proxy_name`, `to`, `proto`.
    pub conn_cache_hits_total: ShardedCounterVec,
    /// Queries for which a connection was opened: `proxy_name`, `to`, `proto`.
    pub conn_cache_misses_total: ShardedCounterVec,
    /// Responses that match no query: `to`.
    pub wrong_replies_total: ShardedCounterVec,
    /// Queries for which every upstream was down.
    pub healthcheck_broken_total: IntCounter,
    /// Queries refused at `max_concurrent`.
    pub max_concurrent_rejects_total: IntCounter,
    /// Packet budget: `from`.
    pub max_pps: IntGaugeVec,
    /// Packets of the last full second within a budget: `from`.
    pub packets_per_second: IntGaugeVec,
    /// Packets that a budget denied: `from`.
    pub packets_denied_total: IntCounterVec,
}

impl ForwardMetrics {
    pub(super) fn new(register: &Register) -> Self {
        Self {
            request_duration_seconds: register.histograms(
                "coredns_proxy_request_duration_seconds",
                "Response time of upstreams in seconds.",
                &["proxy_name", "to", "rcode"],
                duration_buckets(),
            ),
            healthcheck_failures_total: register.counters(
                "coredns_proxy_healthcheck_failures_total",
                "Failed health checks of upstreams.",
                &["proxy_name", "to"],
            ),
            conn_cache_hits_total: register.add(ShardedCounterVec::new(
                "coredns_proxy_conn_cache_hits_total",
                "Queries sent on a pooled connection to the upstream.",
                CONNECTION_LABELS,
            )),
            conn_cache_misses_total: register.add(ShardedCounterVec::new(
                "coredns_proxy_conn_cache_misses_total",
                "Queries for which a connection to the upstream was opened.",
                CONNECTION_LABELS,
            )),
            wrong_replies_total: register.add(ShardedCounterVec::new(
                "lodestone_forward_wrong_replies_total",
                "Responses of upstreams that match no query or are malformed.",
                &["to"],
            )),
            healthcheck_broken_total: register.counter(
                "coredns_forward_healthcheck_broken_total",
                "Queries for which every upstream was down.",
            ),
            max_concurrent_rejects_total: register.counter(
                "coredns_forward_max_concurrent_rejects_total",
                "Queries refused at max_concurrent.",
            ),
            max_pps: register.gauges(
                "lodestone_forward_max_pps",
                "Packet budget of the upstreams per second.",
                &["from"],
            ),
            packets_per_second: register.gauges(
                "lodestone_forward_packets_per_second",
                "Packets to the upstreams in the last full second, where there is a budget.",
                &["from"],
            ),
            packets_denied_total: register.counters(
                "lodestone_forward_packets_denied_total",
                "Packets to the upstreams that the budget denied.",
                &["from"],
            ),
        }
    }
}

/// Metrics of `grpc` upstreams; `to` is host and port.
pub struct GrpcMetrics {
    /// Duration of an exchange in seconds.
    pub request_duration_seconds: HistogramVec,
    /// Answered queries.
    pub requests_total: IntCounterVec,
    /// Answered queries by response code.
    pub responses_total: IntCounterVec,
}

impl GrpcMetrics {
    pub(super) fn new(register: &Register) -> Self {
        Self {
            request_duration_seconds: register.histograms(
                "coredns_grpc_request_duration_seconds",
                "Response time of gRPC upstreams in seconds.",
                &["to"],
                duration_buckets(),
            ),
            requests_total: register.counters(
                "coredns_grpc_requests_total",
                "Queries answered by gRPC upstreams.",
                &["to"],
            ),
            responses_total: register.counters(
                "coredns_grpc_responses_total",
                "Responses of gRPC upstreams by response code.",
                &["rcode", "to"],
            ),
        }
    }
}
