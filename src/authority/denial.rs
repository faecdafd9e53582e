//! Negative answers: the SOA record, and NSEC records that prove the denial to DNSSEC clients (RFC
//! 4035 section 3.1.3).

use super::{
    answer::{NSEC, ZoneAnswer},
    zone::{NodeMatch, Zone},
};
use crate::{
    reply::{Owner, Section, Why},
    wire::{Rcode, Type},
};

/// Maximum number of nodes without NSEC records skipped in search of one: glue below a zone cut,
/// and empty non-terminals. A correctly signed zone has fewer in a row.
const MAX_STEPS: usize = 4096;

impl ZoneAnswer<'_> {
    /// Denies a name (NXDOMAIN) that no wildcard matches.
    pub(super) fn deny(&mut self, matched: &NodeMatch) {
        self.reply.rcode = Rcode::NXDOMAIN;
        self.reply.why = Why::NoSuchName;
        self.soa();
        if !self.options.dnssec {
            return;
        }
        self.nsec_over(matched);
        // Denies the wildcard at the closest encloser too.
        if let Some(wildcard) = self.zone.child(matched.encloser, b"*") {
            self.nsec_over(&wildcard);
        }
    }

    /// Denies a type (NODATA) at an existing name or a matching wildcard.
    pub(super) fn no_data(&mut self, node: usize, missing: Option<&NodeMatch>) {
        if self.reply.section(Section::Answer).is_empty() {
            self.reply.why = Why::ZoneNoData;
        }
        self.soa();
        if !self.options.dnssec {
            return;
        }
        if self.zone.set(node, NSEC).is_some() {
            self.nsec(node);
        } else if let Some(before) = self.zone.nsec_before(node) {
            // An empty non-terminal has no NSEC record.
            self.nsec(before);
        }
        self.prove_missing(missing);
    }

    /// Proves that the name matched by a wildcard does not exist (RFC 4035 section 3.1.3.3).
    pub(super) fn prove_missing(&mut self, missing: Option<&NodeMatch>) {
        if let Some(matched) = missing
            && self.options.dnssec
        {
            self.nsec_over(matched);
        }
    }

    /// Adds the NSEC record of a node, once.
    pub(super) fn nsec(&mut self, node: usize) {
        let zone = self.zone;
        let owner = zone.owner(node);
        let present = self.reply.section(Section::Authority).iter();
        let is_present = present.clone().any(|record| {
            record.rtype == NSEC
                && matches!(self.reply.owner(record), Owner::Name(name) if name.eq_ignore_case(owner))
        });
        if !is_present && let Some(set) = zone.set(node, NSEC) {
            self.put(Section::Authority, Owner::Name(owner), set);
        }
    }

    /// Adds the NSEC record that covers a name.
    fn nsec_over(&mut self, matched: &NodeMatch) {
        if let Some(node) = self.zone.nsec_before(matched.predecessor) {
            self.nsec(node);
        }
    }

    /// Adds the SOA record, with the negative caching TTL (RFC 2308 section 3).
    fn soa(&mut self) {
        let zone = self.zone;
        let Some(set) = zone.set(0, Type::SOA) else {
            return;
        };
        let limit = zone.timers().minimum;
        let mut brief = *set;
        brief.ttl = set.ttl.min(limit);
        brief.signature_ttl = set.signature_ttl.min(limit);
        self.put(Section::Authority, Owner::Name(zone.apex()), &brief);
    }
}

impl Zone {
    /// The last node at or before this one with an NSEC record; `None` in an unsigned zone.
    fn nsec_before(&self, node: usize) -> Option<usize> {
        // Avoids searching an unsigned zone for every denial.
        self.set(0, NSEC)?;
        let mut before = (0..=node).rev().take(MAX_STEPS);
        before.find(|at| self.set(*at, NSEC).is_some())
    }
}
