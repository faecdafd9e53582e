//! A zone as a whole, for those who hold a copy (AXFR, RFC 5936; IXFR, RFC 1995).

use std::sync::Arc;

use super::zone::{Set, Zone};
use crate::{
    reply::{Data, Owner, RecordSource, RemainingRecords, Reply, Section, Why},
    wire::{NameRef, Type, is_later},
};

impl Zone {
    /// Writes the zone into `reply`, which comes empty: all of it is [`Reply::rest`], its SOA record at
    /// either end. Where the secondary holds this serial or a later one, the SOA record alone.
    pub fn transfer(self: &Arc<Self>, held: Option<u32>, reply: &mut Reply) {
        reply.authoritative = true;
        reply.why = Why::ZoneRecord;
        if held.is_some_and(|held| !is_later(self.timers.serial, held)) {
            self.push_start(reply);
        } else {
            reply.remaining = Some(RemainingRecords::new(Arc::clone(self) as _));
        }
    }

    fn push_start(&self, reply: &mut Reply) {
        if let Some(soa) = self.set(0, Type::SOA) {
            self.told(self.apex(), soa, reply);
        }
    }

    fn push_node(&self, node: usize, reply: &mut Reply) {
        let owner = self.owner(node);
        for set in self.sets(node) {
            if set.rtype != Type::SOA {
                self.told(owner, set, reply);
            }
            for data in self.data(set.signatures) {
                let (owner, data) = (Owner::Name(owner), Data::Raw(data));
                let ttl = set.signature_ttl;
                reply.push(Section::Answer, owner, Type::RRSIG, ttl, data);
            }
        }
    }

    fn told(&self, owner: NameRef<'_>, set: &Set, reply: &mut Reply) {
        for data in self.data(set.records) {
            let (owner, data) = (Owner::Name(owner), Data::Raw(data));
            reply.push(Section::Answer, owner, set.rtype, set.ttl, data);
        }
    }
}

/// Node by node.
impl RecordSource for Zone {
    fn write(&self, at: usize, reply: &mut Reply) -> Option<usize> {
        if at == 0 {
            self.push_start(reply);
        }
        for node in at..self.nodes.len() {
            if node > at && reply.is_batch_full() {
                return Some(node);
            }
            self.push_node(node, reply);
        }
        self.push_start(reply);
        None
    }
}
