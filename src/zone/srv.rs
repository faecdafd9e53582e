//! SRV records (RFC 2782), their weights, and the addresses of their targets beside them.

use std::net::IpAddr;

use super::{
    Answer, addresses,
    distinct::Distinct,
    endpoint::{EndpointName, LabelBuffer, Selection},
    target::Target,
};
use crate::{
    cluster::Port,
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
            if !addresses.is_empty() && numbers.insert(number) {
                self.srv(weight, number, target);
            }
        }
        if self.reply.section(Section::Answer).is_empty() {
            return;
        }
        let mut glue = Distinct::new();
        for address in addresses.iter().copied() {
            if glue.insert(address) {
                self.glue(target, address);
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
                    self.srv(weight, number, host.as_ref());
                }
            }
        }
    }

    /// The ports of endpoints: each leads to the endpoint's own name, below that of its Service.
    pub(super) fn endpoint_srv(&mut self, mut target: Target, selection: Selection<'_>) {
        let weight = weight(selection.pairs());
        let mut records = Distinct::new();
        let mut glue = Distinct::new();
        let mut buffer = LabelBuffer::default();
        for (slice, endpoint) in selection.endpoints() {
            let name = EndpointName::of(endpoint, selection.by_pod);
            // A name too long to exist cannot be pointed to.
            let Some(name_below) = target.below(name.label(&mut buffer)) else {
                continue;
            };
            let mut is_target = false;
            for number in selection.ports(slice).filter_map(|port| port.number) {
                is_target = true;
                if records.insert((name, number)) {
                    self.srv(weight, number, name_below);
                }
            }
            if is_target && glue.insert((name, endpoint.address)) {
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
