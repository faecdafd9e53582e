//! A and AAAA records.

use std::net::IpAddr;

use super::{AnswerBuilder, distinct::Distinct};
use crate::{
    reply::{Data, Owner, Reply, Section},
    wire::Type,
};

impl AnswerBuilder<'_> {
    /// Adds each address of the queried family once, within the size budget.
    pub(super) fn addresses(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        let mut seen = Distinct::new();
        for address in addresses {
            if self.wants(address) && seen.insert(address) && !self.put_address(address) {
                break;
            }
        }
    }

    /// Adds an address, if it is of the queried family.
    pub(super) fn address(&mut self, address: IpAddr) {
        if self.wants(address) {
            self.put_address(address);
        }
    }

    /// Adds an address; returns false if the budget is exhausted.
    fn put_address(&mut self, address: IpAddr) -> bool {
        let fits = self.admit(length(address));
        if fits {
            let ttl = self.view.rules.ttl;
            put(self.reply, Section::Answer, self.owner, ttl, address);
        }
        fits
    }

    fn wants(&self, address: IpAddr) -> bool {
        self.rtype
            == if address.is_ipv4() {
                Type::A
            } else {
                Type::AAAA
            }
    }
}

/// Length of an address in bytes.
pub(super) fn length(address: IpAddr) -> usize {
    if address.is_ipv4() { 4 } else { 16 }
}

/// Adds an A or AAAA record.
pub(super) fn put(
    reply: &mut Reply,
    section: Section,
    owner: Owner<'_>,
    ttl: u32,
    address: IpAddr,
) {
    match address {
        IpAddr::V4(v4) => reply.push(section, owner, Type::A, ttl, Data::A(v4)),
        IpAddr::V6(v6) => reply.push(section, owner, Type::AAAA, ttl, Data::Aaaa(v6)),
    }
}
