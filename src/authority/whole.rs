//! A zone as a whole, for those who hold a copy (AXFR, RFC 5936; IXFR, RFC 1995).

use super::zone::{Set, Zone};
use crate::{
    reply::{Data, Owner, Reply, Section, Why},
    wire::{NameRef, Type, is_later},
};

impl Zone {
    /// Writes the zone into `reply`, which comes empty: all of it, its SOA record at either end. Who
    /// holds it at this serial already, or at a later one, is told the SOA record alone.
    pub fn tell(&self, held: Option<u32>, reply: &mut Reply) {
        reply.authoritative = true;
        reply.why = Why::ZoneRecord;
        let Some(soa) = self.set(0, Type::SOA) else {
            return;
        };
        self.told(self.apex(), soa, reply);
        if held.is_some_and(|held| !is_later(self.timers.serial, held)) {
            return;
        }
        for node in 0..self.nodes.len() {
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
        self.told(self.apex(), soa, reply);
    }

    fn told(&self, owner: NameRef<'_>, set: &Set, reply: &mut Reply) {
        for data in self.data(set.records) {
            let (owner, data) = (Owner::Name(owner), Data::Raw(data));
            reply.push(Section::Answer, owner, set.rtype, set.ttl, data);
        }
    }
}
