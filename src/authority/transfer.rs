//! Outgoing zone transfers (AXFR, RFC 5936; IXFR, RFC 1995, always a full zone).

use std::sync::Arc;

use super::zone::{RecordSet, Zone};
use crate::{
    reply::{Data, Owner, RecordSource, Reply, Rest, Section, Why},
    wire::{NameRef, Type, is_later},
};

impl Zone {
    /// Prepares a transfer in the empty `reply`: all records are [`Reply::rest`], between two
    /// copies of the SOA record (RFC 5936 section 2.2). If the secondary has this serial or a later
    /// one, only the SOA record is sent (RFC 1995 section 2).
    pub fn transfer(self: &Arc<Self>, held: Option<u32>, reply: &mut Reply) {
        reply.authoritative = true;
        reply.why = Why::ZoneRecord;
        if held.is_some_and(|held| !is_later(self.timers.serial, held)) {
            self.push_soa(reply);
        } else {
            reply.rest = Some(Rest::new(Arc::clone(self) as _));
        }
    }

    fn push_soa(&self, reply: &mut Reply) {
        if let Some(soa) = self.set(0, Type::SOA) {
            self.push_set(self.apex(), soa, reply);
        }
    }

    fn push_node(&self, node: usize, reply: &mut Reply) {
        let owner = self.owner(node);
        for set in self.sets(node) {
            if set.rtype != Type::SOA {
                self.push_set(owner, set, reply);
            }
            for data in self.data(set.signatures) {
                let (owner, data) = (Owner::Name(owner), Data::Raw(data));
                let ttl = set.signature_ttl;
                reply.push(Section::Answer, owner, Type::RRSIG, ttl, data);
            }
        }
    }

    fn push_set(&self, owner: NameRef<'_>, set: &RecordSet, reply: &mut Reply) {
        for data in self.data(set.records) {
            let (owner, data) = (Owner::Name(owner), Data::Raw(data));
            reply.push(Section::Answer, owner, set.rtype, set.ttl, data);
        }
    }
}

/// Writes node by node.
impl RecordSource for Zone {
    fn write(&self, at: usize, reply: &mut Reply) -> Option<usize> {
        if at == 0 {
            self.push_soa(reply);
        }
        for node in at..self.nodes.len() {
            if node > at && reply.is_part() {
                return Some(node);
            }
            self.push_node(node, reply);
        }
        self.push_soa(reply);
        None
    }
}
