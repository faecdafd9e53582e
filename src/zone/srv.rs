//! SRV records (RFC 2782), their weights, and the addresses of their targets.

use std::net::IpAddr;

use super::{
    AnswerBuilder, addresses,
    budget::RECORD,
    distinct::Distinct,
    endpoint::{EndpointName, LabelBuffer, SelectedEndpoints, cluster_of},
    target_name::TargetName,
};
use crate::{
    cluster::{EndpointRef, EndpointSlice, Port},
    reply::{Data, Owner, Section},
    wire::{Name, NameRef, Type},
};

impl AnswerBuilder<'_> {
    /// Adds SRV records of a Service with addresses of its own: the target of each port is the
    /// Service.
    pub(super) fn service_srv<'p>(
        &mut self,
        target: NameRef<'_>,
        addresses: &[IpAddr],
        ports: impl Iterator<Item = &'p Port> + Clone,
    ) {
        let weight = weight(addresses.len() * ports.clone().count());
        let mut numbers = Distinct::new();
        for number in ports.filter_map(|port| port.number) {
            // Without an address, the target would have no records.
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

    /// Adds SRV records of a Service with external host names.
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

    /// Adds SRV records of endpoints: the target of each is the endpoint's name below its Service.
    pub(super) fn endpoint_srv(&mut self, target: TargetName, selection: SelectedEndpoints<'_>) {
        // An endpoint's label takes two bytes at least.
        let least = RECORD + SRV + target.length() + 2;
        let (endpoints, pairs) = selection.count();
        match self
            .budget
            .start_index(endpoints, pairs.saturating_mul(least))
        {
            None => self.srv_of(target, selection, selection.endpoints()),
            Some(at) => self.srv_of(target, selection, selection.endpoints_from(at)),
        }
    }

    /// Adds SRV records of these endpoints, within the budget.
    fn srv_of<'s>(
        &mut self,
        mut target: TargetName,
        selection: SelectedEndpoints<'s>,
        endpoints: impl Iterator<Item = (&'s EndpointSlice, EndpointRef<'s>)>,
    ) {
        let weight = weight(selection.pairs(TOTAL_WEIGHT));
        // The cluster's name comes last in the keys, so that it is compared for equal endpoint names
        // only: comparing empty strings takes glibc's memcmp some 100 ns on processors with AVX-512,
        // where a masked load at a dangling address needs a microcode assist.
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
                    target = TargetName::zone(service.as_ref());
                    below = cluster;
                    if target.put(cluster.as_bytes()).is_none() {
                        below = "";
                    }
                }
                // An endpoint of a ServiceImport has no name without its cluster's name.
                if below.is_empty() {
                    continue;
                }
            }
            let name = EndpointName::of(endpoint, selection.by_pod);
            // A name that would be too long does not exist.
            let Some(name_below) = target.below(name.label(&mut buffer)) else {
                continue;
            };
            let mut is_target = false;
            for number in selection.ports(slice).filter_map(|port| port.number) {
                is_target = true;
                if records.insert((number, name, cluster)) && !self.srv(weight, number, name_below)
                {
                    return;
                }
            }
            if is_target && glue.insert((endpoint.address, name, cluster)) {
                self.glue(name_below, endpoint.address);
            }
        }
    }

    /// Adds an SRV record; returns false if the budget is exhausted.
    fn srv(&mut self, weight: u16, port: u16, target: NameRef<'_>) -> bool {
        // The target is never compressed (RFC 2782).
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

    /// Adds an address of a target to the additional section, if it fits.
    fn glue(&mut self, target: NameRef<'_>, address: IpAddr) -> bool {
        let fits = self
            .budget
            .take_additional(RECORD + addresses::length(address));
        if fits {
            let (owner, ttl) = (Owner::Name(target), self.view.rules.ttl);
            addresses::put(self.reply, Section::Additional, owner, ttl, address);
        }
        fits
    }
}

/// Size in bytes of priority, weight and port.
const SRV: usize = 6;

/// The total weight, divided among the pairs of address and port; each has at least 1.
pub(super) const TOTAL_WEIGHT: usize = 100;

/// The weight of each of `pairs` pairs of address and port, including pairs that produce no record
/// of their own; at least 1.
pub(super) fn weight(pairs: usize) -> u16 {
    let share = TOTAL_WEIGHT
        .checked_div(pairs)
        .unwrap_or(TOTAL_WEIGHT)
        .max(1);
    u16::try_from(share).expect("at most 100")
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn a_weight_of_100_is_divided_among_the_pairs() {
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
