//! What goes with an answer: the zone's name servers, and the addresses of names in it (RFC 1034
//! §4.3.2 step 6).

use super::{
    answer::{Answering, Want},
    zone::{Set, Zone},
};
use crate::{
    reply::{Owner, Reply, Section},
    wire::{NameRef, Type},
};

const SVCB: Type = Type(64);
const HTTPS: Type = Type(65);

impl Zone {
    /// Puts the zone's name servers beside an answer that was completed elsewhere.
    pub fn authority(&self, want: Want, reply: &mut Reply) {
        let mut answering = Answering {
            zone: self,
            rtype: Type::NS,
            want,
            reply,
        };
        answering.authority();
    }
}

impl Answering<'_> {
    /// Puts beside the records that were found at `node` what belongs to them.
    pub(super) fn complete(&mut self, node: usize) {
        let zone = self.zone;
        let answers = self.reply.section(Section::Answer);
        let names_servers = node == 0 && answers.iter().any(|record| record.rtype == Type::NS);
        if !names_servers {
            self.authority();
        }
        if matches!(self.rtype, Type::MX | Type::SRV | SVCB | HTTPS | Type::NS)
            && let Some(set) = zone.set(node, self.rtype)
        {
            self.addresses_of(set);
        }
    }

    /// The zone's name servers, which go with every answer of its own.
    pub(super) fn authority(&mut self) {
        let zone = self.zone;
        if let Some(set) = zone.set(0, Type::NS) {
            self.put(Section::Authority, Owner::Name(zone.apex()), set);
        }
    }

    /// The addresses of the names that records lead to, as far as this zone has them; glue below a
    /// cut too, for nobody could find the servers there without it.
    pub(super) fn addresses_of(&mut self, set: &Set) {
        let zone = self.zone;
        let before = match set.rtype {
            Type::MX | SVCB | HTTPS => 2,
            Type::SRV => 6,
            _ => 0,
        };
        let mut told = Vec::new();
        for data in zone.data(set.records) {
            let target = data.get(before..).map(NameRef::from_wire);
            let Some(node) = target.and_then(Result::ok).and_then(|name| zone.node(name)) else {
                continue;
            };
            if told.contains(&node) {
                continue;
            }
            told.push(node);
            for rtype in [Type::A, Type::AAAA] {
                if let Some(set) = zone.set(node, rtype) {
                    self.put(Section::Additional, Owner::Name(zone.owner(node)), set);
                }
            }
        }
    }
}
