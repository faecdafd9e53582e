//! Families of the plugins `template`, `acl`, `dns64` and `local`.

use super::{Register, ShardedCounterVec};

/// Metrics of these plugins.
#[derive(Clone)]
pub struct PluginMetrics {
    /// Queries answered by a template: `server`, `zone`, `view`, `class`, `type`.
    pub template_matches_total: ShardedCounterVec,
    /// Failed template executions: `server`, `zone`, `view`, `class`, `type`, `section`,
    /// `template`.
    pub template_template_failures_total: ShardedCounterVec,
    /// Template outputs that are not a record, with the same labels.
    pub template_rr_failures_total: ShardedCounterVec,
    /// Queries refused by `acl`: `server`, `zone`, `view`.
    pub acl_blocked_requests_total: ShardedCounterVec,
    /// Queries answered with no data by `acl`, with the same labels.
    pub acl_filtered_requests_total: ShardedCounterVec,
    /// Queries dropped by `acl`, with the same labels.
    pub acl_dropped_requests_total: ShardedCounterVec,
    /// Queries allowed by `acl`: `server`, `view`.
    pub acl_allowed_requests_total: ShardedCounterVec,
    /// Queries answered with IPv6 addresses synthesized from IPv4 ones: `server`.
    pub dns64_requests_translated_total: ShardedCounterVec,
    /// Queries for names below `localhost`.
    pub local_localhost_requests_total: ShardedCounterVec,
}

const TEMPLATE_FAILURE_LABELS: &[&str] = &[
    "server", "zone", "view", "class", "type", "section", "template",
];
const ZONE_LABELS: &[&str] = &["server", "zone", "view"];

impl PluginMetrics {
    pub(super) fn new(register: &Register) -> Self {
        let counters = |name: &str, help: &str, labels: &[&'static str]| {
            register.add(ShardedCounterVec::new(name, help, labels))
        };
        Self {
            template_matches_total: counters(
                "coredns_template_matches_total",
                "Queries answered by a template.",
                &["server", "zone", "view", "class", "type"],
            ),
            template_template_failures_total: counters(
                "coredns_template_template_failures_total",
                "Failed template executions.",
                TEMPLATE_FAILURE_LABELS,
            ),
            template_rr_failures_total: counters(
                "coredns_template_rr_failures_total",
                "Templates that plugins no record.",
                TEMPLATE_FAILURE_LABELS,
            ),
            acl_blocked_requests_total: counters(
                "coredns_acl_blocked_requests_total",
                "Queries refused by an acl rule.",
                ZONE_LABELS,
            ),
            acl_filtered_requests_total: counters(
                "coredns_acl_filtered_requests_total",
                "Queries answered with no data by an acl rule.",
                ZONE_LABELS,
            ),
            acl_dropped_requests_total: counters(
                "coredns_acl_dropped_requests_total",
                "Queries dropped by an acl rule.",
                ZONE_LABELS,
            ),
            acl_allowed_requests_total: counters(
                "coredns_acl_allowed_requests_total",
                "Queries allowed by acl rules.",
                &["server", "view"],
            ),
            dns64_requests_translated_total: counters(
                "coredns_dns64_requests_translated_total",
                "Queries answered with IPv6 addresses synthesized from IPv4 ones.",
                &["server"],
            ),
            local_localhost_requests_total: counters(
                "coredns_local_localhost_requests_total",
                "Queries for names below localhost.",
                &[],
            ),
        }
    }
}
