//! The authority and additional sections of an answer: the zone's NS records, and addresses of
//! names in it (RFC 1034 section 4.3.2 step 6).

use super::{
    answer::{AnswerOptions, ZoneAnswer},
    zone::{RecordSet, Zone},
};
use crate::{
    reply::{Owner, Reply, Section},
    wire::{NameRef, Type},
};

const SVCB: Type = Type(64);
const HTTPS: Type = Type(65);

impl Zone {
    /// Adds the zone's NS records to the authority section of a reply that was completed elsewhere.
    pub fn authority(&self, options: AnswerOptions, reply: &mut Reply) {
        let mut answer = ZoneAnswer {
            zone: self,
            rtype: Type::NS,
            options,
            reply,
        };
        answer.authority();
    }
}

impl ZoneAnswer<'_> {
    /// Completes an answer found at `node` with its authority and additional sections.
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

    /// Adds the zone's NS records to the authority section.
    pub(super) fn authority(&mut self) {
        let zone = self.zone;
        if let Some(set) = zone.set(0, Type::NS) {
            self.put(Section::Authority, Owner::Name(zone.apex()), set);
        }
    }

    /// Adds the addresses of the names in the data of `set`, if they are in this zone; including
    /// glue below a zone cut, without which the servers there could not be reached.
    pub(super) fn addresses_of(&mut self, set: &RecordSet) {
        let zone = self.zone;
        let name_offset = match set.rtype {
            Type::MX | SVCB | HTTPS => 2,
            Type::SRV => 6,
            _ => 0,
        };
        let mut seen = Vec::new();
        for data in zone.data(set.records) {
            let target = data.get(name_offset..).map(NameRef::from_wire);
            let Some(node) = target.and_then(Result::ok).and_then(|name| zone.node(name)) else {
                continue;
            };
            if seen.contains(&node) {
                continue;
            }
            seen.push(node);
            for rtype in [Type::A, Type::AAAA] {
                if let Some(set) = zone.set(node, rtype) {
                    self.put(Section::Additional, Owner::Name(zone.owner(node)), set);
                }
            }
        }
    }
}
