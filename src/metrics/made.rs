//! Families of plugins that make answers up, change them or refuse them.

use super::{Register, TallyVec};

/// Their families.
#[derive(Clone)]
pub struct Made {
    /// Questions that a template answered: `server`, `zone`, `view`, `class`, `type`.
    pub template_matches_total: TallyVec,
    /// Templates that could not be executed: `server`, `zone`, `view`, `class`, `type`, `section`,
    /// `template`.
    pub template_template_failures_total: TallyVec,
    /// Templates that made no record, by the same labels.
    pub template_rr_failures_total: TallyVec,
    /// Questions that `acl` refused: `server`, `zone`, `view`.
    pub acl_blocked_requests_total: TallyVec,
    /// Questions that `acl` answered with nothing, by the same labels.
    pub acl_filtered_requests_total: TallyVec,
    /// Questions that `acl` left without an answer, by the same labels.
    pub acl_dropped_requests_total: TallyVec,
    /// Questions that `acl` let pass: `server`, `view`.
    pub acl_allowed_requests_total: TallyVec,
    /// Questions whose IPv6 addresses were made of IPv4 ones: `server`.
    pub dns64_requests_translated_total: TallyVec,
    /// Questions for names under `localhost`.
    pub local_localhost_requests_total: TallyVec,
}

const FAILURE: &[&str] = &[
    "server", "zone", "view", "class", "type", "section", "template",
];
const PLACE: &[&str] = &["server", "zone", "view"];

impl Made {
    pub(super) fn new(register: &Register) -> Self {
        let tallies = |name: &str, help: &str, labels: &[&'static str]| {
            register.add(TallyVec::new(name, help, labels))
        };
        Self {
            template_matches_total: tallies(
                "coredns_template_matches_total",
                "Questions that a template answered.",
                &["server", "zone", "view", "class", "type"],
            ),
            template_template_failures_total: tallies(
                "coredns_template_template_failures_total",
                "Templates that could not be executed.",
                FAILURE,
            ),
            template_rr_failures_total: tallies(
                "coredns_template_rr_failures_total",
                "Templates that made no record.",
                FAILURE,
            ),
            acl_blocked_requests_total: tallies(
                "coredns_acl_blocked_requests_total",
                "Questions that were refused by rule.",
                PLACE,
            ),
            acl_filtered_requests_total: tallies(
                "coredns_acl_filtered_requests_total",
                "Questions that were answered with nothing by rule.",
                PLACE,
            ),
            acl_dropped_requests_total: tallies(
                "coredns_acl_dropped_requests_total",
                "Questions that were left without an answer by rule.",
                PLACE,
            ),
            acl_allowed_requests_total: tallies(
                "coredns_acl_allowed_requests_total",
                "Questions that the rules let pass.",
                &["server", "view"],
            ),
            dns64_requests_translated_total: tallies(
                "coredns_dns64_requests_translated_total",
                "Questions whose IPv6 addresses were made of IPv4 ones.",
                &["server"],
            ),
            local_localhost_requests_total: tallies(
                "coredns_local_localhost_requests_total",
                "Questions for names under localhost.",
                &[],
            ),
        }
    }
}
