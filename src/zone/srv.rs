//! SRV records (RFC 2782), their weights, and the addresses of their targets beside them.

use std::net::IpAddr;

use super::{
    Answer, addresses,
    distinct::Distinct,
    endpoint::{EndpointName, LabelBuffer, Selection, cluster_of},
    room::RECORD,
    target::Target,
};
use crate::{
    cluster::{EndpointRef, EndpointSlice, Port},
    reply::{Data, Owner, Section},
    wire::{Name, NameRef, Type},
};

impl Answer<'_> {
    /// The ports of a Service that is reached by addresses of its own: each leads to the Service
    /// itself, which is `target`.
    pub(super) fn service_srv<'p>(
        &mut self,
        target: NameRef<'_>,
        addresses: &[IpAddr],
        ports: impl Iterator<Item = &'p Port> + Clone,
    ) {
        let weight = weight(addresses.len() * ports.clone().count());
        let mut numbers = Distinct::new();
        for number in ports.filter_map(|port| port.number) {
            // Without an address, nothing is behind the name that the record would lead to.
            if !addresses.is_empty() && numbers.insert(number) && !self.srv(weight, number, target)
            {
                return;
            }
        }
        if self.reply.section(Section::Answer).is_empty() {
            return;
        }
        let mut glue = Distinct::new();
        for address in addresses.iter().copied() {
            if glue.insert(address) && !self.glue(target, address) {
                break;
            }
        }
    }

    /// The ports of a Service that is reached by host names of others.
    pub(super) fn host_srv<'p>(
        &mut self,
        hosts: &[Name],
        ports: impl Iterator<Item = &'p Port> + Clone,
    ) {
        let weight = weight(hosts.len() * ports.clone().count());
        let mut numbers = Distinct::new();
        for number in ports.filter_map(|port| port.number) {
            if numbers.insert(number) {
                for host in hosts {
                    if !self.srv(weight, number, host.as_ref()) {
                        return;
                    }
                }
            }
        }
    }

    /// The ports of endpoints: each leads to the endpoint's own name, below that of its Service.
    pub(super) fn endpoint_srv(&mut self, target: Target, selection: Selection<'_>) {
        // The label of an endpoint takes two bytes at least.
        let least = RECORD + SRV + target.length() + 2;
        let (endpoints, pairs) = selection.count();
        match self.room.begin(endpoints, pairs.saturating_mul(least)) {
            None => self.srv_of(target, selection, selection.endpoints()),
            Some(at) => self.srv_of(target, selection, selection.endpoints_from(at)),
        }
    }

    /// The ports of these endpoints of a selection, as many as there is room for.
    fn srv_of<'s>(
        &mut self,
        mut target: Target,
        selection: Selection<'s>,
        endpoints: impl Iterator<Item = (&'s EndpointSlice, EndpointRef<'s>)>,
    ) {
        let weight = weight(selection.pairs(SHARED));
        let mut records = Distinct::new();
        let mut glue = Distinct::new();
        let mut buffer = LabelBuffer::default();
        let service = selection.imported.then(|| target.name().to_name());
        let mut below = "";
        for (slice, endpoint) in endpoints {
            let mut cluster = "";
            if let Some(service) = &service {
                cluster = cluster_of(slice);
                if cluster != below {
                    target = Target::zone(service.as_ref());
                    below = cluster;
                    if target.put(cluster.as_bytes()).is_none() {
                        below = "";
                    }
                }
                // Without its cluster's name an endpoint of a ServiceImport has none.
                if below.is_empty() {
                    continue;
                }
            }
            let name = EndpointName::of(endpoint, selection.by_pod);
            // A name too long to exist cannot be pointed to.
            let Some(name_below) = target.below(name.label(&mut buffer)) else {
                continue;
            };
            let mut is_target = false;
            for number in selection.ports(slice).filter_map(|port| port.number) {
                is_target = true;
                if records.insert((cluster, name, number)) && !self.srv(weight, number, name_below)
                {
                    return;
                }
            }
            if is_target && glue.insert((cluster, name, endpoint.address)) {
                self.glue(name_below, endpoint.address);
            }
        }
    }

    /// Adds an SRV record; false where there is no room for it.
    fn srv(&mut self, weight: u16, port: u16, target: NameRef<'_>) -> bool {
        // Its target is never compressed (RFC 2782).
        let fits = self.admit(SRV + target.as_wire().len());
        if fits {
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
        fits
    }

    /// Adds an address of a target, where there is room for it.
    fn glue(&mut self, target: NameRef<'_>, address: IpAddr) -> bool {
        let fits = self.room.take_beside(RECORD + addresses::length(address));
        if fits {
            let (owner, ttl) = (Owner::Name(target), self.view.rules.ttl);
            addresses::put(self.reply, Section::Additional, owner, ttl, address);
        }
        fits
    }
}

/// Bytes of an SRV record's numbers.
const SRV: usize = 6;

/// Pairs of an address and a port that share the weight; with more of them it is 1 for each.
pub(super) const SHARED: usize = 100;

/// A hundred shared among `pairs` of an address and a port, those included that make no record of
/// their own; at least 1.
pub(super) fn weight(pairs: usize) -> u16 {
    let share = SHARED.checked_div(pairs).unwrap_or(SHARED).max(1);
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
