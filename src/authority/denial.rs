//! That there is no such name, or no such record: the SOA record, and for those who check
//! signatures the NSEC records that prove it (RFC 4035 §3.1.3).

use super::{
    answer::{Answering, NSEC},
    zone::{Place, Zone},
};
use crate::{
    reply::{Owner, Section, Why},
    wire::{Rcode, Type},
};

/// Names without NSEC records that are passed over in search of one: those of glue below one cut, and
/// those that exist only for others below them. A zone that has more between two is not signed well.
const MAX_STEPS: usize = 4096;

impl Answering<'_> {
    /// The name does not exist, and no wildcard stands for it.
    pub(super) fn deny(&mut self, place: &Place) {
        self.reply.rcode = Rcode::NXDOMAIN;
        self.reply.why = Why::NoSuchName;
        self.soa();
        if !self.want.dnssec {
            return;
        }
        self.nsec_over(place);
        // Nor does the wildcard that could have stood for it.
        if let Some(wildcard) = self.zone.child(place.encloser, b"*") {
            self.nsec_over(&wildcard);
        }
    }

    /// The name exists, or a wildcard stands for it, without a record of the type.
    pub(super) fn no_data(&mut self, node: usize, missing: Option<&Place>) {
        if self.reply.section(Section::Answer).is_empty() {
            self.reply.why = Why::ZoneNoData;
        }
        self.soa();
        if !self.want.dnssec {
            return;
        }
        if self.zone.set(node, NSEC).is_some() {
            self.nsec(node);
        } else if let Some(before) = self.zone.nsec_before(node) {
            // A name without records of its own has no NSEC record either.
            self.nsec(before);
        }
        self.prove_missing(missing);
    }

    /// That the name for which a wildcard stands does not exist (RFC 4035 §3.1.3.3).
    pub(super) fn prove_missing(&mut self, missing: Option<&Place>) {
        if let Some(place) = missing
            && self.want.dnssec
        {
            self.nsec_over(place);
        }
    }

    /// The NSEC record at a node.
    pub(super) fn nsec(&mut self, node: usize) {
        let zone = self.zone;
        let owner = zone.owner(node);
        let told = self.reply.section(Section::Authority).iter();
        let is_told = told.clone().any(|record| {
            record.rtype == NSEC
                && matches!(self.reply.owner(record), Owner::Name(name) if name.eq_ignore_case(owner))
        });
        if !is_told && let Some(set) = zone.set(node, NSEC) {
            self.put(Section::Authority, Owner::Name(owner), set);
        }
    }

    /// The NSEC record that covers a name.
    fn nsec_over(&mut self, place: &Place) {
        if let Some(node) = self.zone.nsec_before(place.before) {
            self.nsec(node);
        }
    }

    /// The SOA record of a denial, with the time that a denial may be kept (RFC 2308 §3).
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
    /// The last node at or before this one that has an NSEC record; nothing in a zone without.
    fn nsec_before(&self, node: usize) -> Option<usize> {
        // An unsigned zone is not searched to its start for every denial.
        self.set(0, NSEC)?;
        let mut before = (0..=node).rev().take(MAX_STEPS);
        before.find(|at| self.set(*at, NSEC).is_some())
    }
}
