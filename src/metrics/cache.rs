//! Metrics of the plugins `cache` and `hosts`.

use prometheus::{Gauge, IntGaugeVec};

use super::{
    ShardedCounterVec,
    register::{Register, gauge},
};

const CACHE_LABELS: &[&str] = &["server", "zones", "view"];
const CACHE_TYPE_LABELS: &[&str] = &["server", "type", "zones", "view"];

/// Metrics of `cache`. The label `zones` has the cache's zones, separated by commas.
#[derive(Clone)]
pub struct CacheMetrics {
    /// Entries: `server`, `type` (success, denial), `zones`, `view`.
    pub entries: IntGaugeVec,
    /// Cache hits: `server`, `type`, `zones`, `view`.
    pub hits_total: ShardedCounterVec,
    /// Cache lookups: `server`, `zones`, `view`.
    pub requests_total: ShardedCounterVec,
    /// Cache misses: `server`, `zones`, `view`.
    pub misses_total: ShardedCounterVec,
    /// Prefetches: `server`, `zones`, `view`.
    pub prefetch_total: ShardedCounterVec,
    /// Responses not cached because they do not match their query: `server`, `zones`, `view`.
    pub drops_total: ShardedCounterVec,
    /// Stale entries served: `server`, `zones`, `view`.
    pub served_stale_total: ShardedCounterVec,
    /// Evictions: `server`, `type`, `zones`, `view`.
    pub evictions_total: ShardedCounterVec,
}

impl CacheMetrics {
    pub(super) fn new(register: &Register) -> Self {
        let counters = |name: &str, help: &str, labels: &[&'static str]| {
            register.add(ShardedCounterVec::new(
                &format!("coredns_cache_{name}"),
                help,
                labels,
            ))
        };
        Self {
            entries: register.gauges(
                "coredns_cache_entries",
                "Entries in the cache.",
                CACHE_TYPE_LABELS,
            ),
            hits_total: counters("hits_total", "Cache hits.", CACHE_TYPE_LABELS),
            requests_total: counters("requests_total", "Cache lookups.", CACHE_LABELS),
            misses_total: counters("misses_total", "Cache misses.", CACHE_LABELS),
            prefetch_total: counters(
                "prefetch_total",
                "Prefetches of entries before their expiry.",
                CACHE_LABELS,
            ),
            drops_total: counters(
                "drops_total",
                "Responses not cached because they do not match their query.",
                CACHE_LABELS,
            ),
            served_stale_total: counters(
                "served_stale_total",
                "Queries answered with expired entries.",
                CACHE_LABELS,
            ),
            evictions_total: counters("evictions_total", "Cache evictions.", CACHE_TYPE_LABELS),
        }
    }
}

/// Metrics of `hosts`.
#[derive(Clone)]
pub struct HostsMetrics {
    /// Entries of the file and the Corefile: `hostsfile`.
    pub entries: IntGaugeVec,
    /// When the file was last read, as a Unix timestamp in seconds.
    pub reload_timestamp_seconds: Gauge,
}

impl HostsMetrics {
    pub(super) fn new(register: &Register) -> Self {
        Self {
            entries: register.gauges(
                "coredns_hosts_entries",
                "Entries of the hosts table, from the file and the Corefile.",
                &["hostsfile"],
            ),
            reload_timestamp_seconds: register.add(gauge(
                "coredns_hosts_reload_timestamp_seconds",
                "Unix timestamp of the last read of the hosts file, in seconds.",
            )),
        }
    }
}
