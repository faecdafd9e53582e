//! SRV records (RFC 2782), their weights, and the addresses of their targets beside them.

use std::net::IpAddr;

use super::{
    Answer, addresses,
    distinct::Distinct,
    endpoint::{EndpointName, LabelBuffer, Selection, cluster_of},
    lookup::Front,
    target::Target,
};
use crate::{
    cluster::Port,
    reply::{Data, Owner, Section},
    wire::{NameRef, Type},
};

impl Answer<'_> {
    /// The ports of a Service that is reached by its cluster addresses: each leads to the Service
    /// itself.
    pub(super) fn cluster_srv(&mut self, front: Front<'_>, is_meant: impl Fn(&Port) -> bool) {
        let Some(target) = Target::service(front.name, front.namespace, self.zone) else {
            return;
        };
        let ports = || front.ports.iter().filter(|port| is_meant(port));
        let weight = weight(front.addresses.len() * ports().count());
        let mut numbers = Distinct::new();
        for number in ports().filter_map(|port| port.number) {
            // Without an address, nothing is behind the name that the record would lead to.
            if !front.addresses.is_empty() && numbers.insert(number) {
                self.srv(weight, number, target.name());
            }
        }
        if self.reply.section(Section::Answer).is_empty() {
            return;
        }
        let mut glue = Distinct::new();
        for address in front.addresses.iter().copied() {
            if glue.insert(address) {
                self.glue(target.name(), address);
            }
        }
    }

    /// The ports of endpoints: each leads to the endpoint's own name.
    pub(super) fn endpoint_srv(&mut self, front: Front<'_>, selection: Selection<'_>) {
        let service = Target::service(front.name, front.namespace, self.zone);
        let Some(mut target) = service else { return };
        let mut below = "";
        let weight = weight(selection.pairs());
        let mut records = Distinct::new();
        let mut glue = Distinct::new();
        let mut buffer = LabelBuffer::default();
        for (slice, endpoint) in selection.endpoints() {
            let name = EndpointName::of(endpoint, selection.by_pod);
            let cluster = if selection.imported {
                cluster_of(slice)
            } else {
                ""
            };
            if cluster != below {
                let service = Target::service(front.name, front.namespace, self.zone);
                let member = service.and_then(|mut it| it.put(cluster.as_bytes()).map(|()| it));
                let Some(member) = member else { continue };
                (target, below) = (member, cluster);
            }
            // Without its cluster's name an endpoint of a ServiceImport has none.
            if selection.imported && cluster.is_empty() {
                continue;
            }
            // A name too long to exist cannot be pointed to.
            let Some(name_below) = target.below(name.label(&mut buffer)) else {
                continue;
            };
            let mut is_target = false;
            for number in selection.ports(slice).filter_map(|port| port.number) {
                is_target = true;
                if records.insert((cluster, name, number)) {
                    self.srv(weight, number, name_below);
                }
            }
            if is_target && glue.insert((cluster, name, endpoint.address)) {
                self.glue(name_below, endpoint.address);
            }
        }
    }

    fn srv(&mut self, weight: u16, port: u16, target: NameRef<'_>) {
        let data = Data::Srv {
            priority: 0,
            weight,
            port,
            target,
        };
        let ttl = self.view.rules.ttl;
        self.reply
            .push(Section::Answer, self.owner, Type::SRV, ttl, data);
    }

    fn glue(&mut self, target: NameRef<'_>, address: IpAddr) {
        let (owner, ttl) = (Owner::Name(target), self.view.rules.ttl);
        addresses::put(self.reply, Section::Additional, owner, ttl, address);
    }
}

/// A hundred shared among `pairs` of an address and a port, those included that make no record of
/// their own; at least 1.
fn weight(pairs: usize) -> u16 {
    let share = 100_usize.checked_div(pairs).unwrap_or(100).max(1);
    u16::try_from(share).expect("at most 100")
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn a_hundred_is_shared() {
        for (pairs, share) in [
            (0, 100),
            (1, 100),
            (2, 50),
            (3, 33),
            (7, 14),
            (100, 1),
            (101, 1),
        ] {
            assert_eq!(weight(pairs), share);
        }
    }
}
