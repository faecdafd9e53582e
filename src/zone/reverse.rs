//! PTR records (DNS specification sections 2.3.3 and 2.4.3), and the empty non-terminals above
//! them.

use std::{hash::BuildHasher, net::IpAddr};

use ipnet::IpNet;

use super::{
    AnswerBuilder, ClusterView,
    budget::{RECORD, SizeBudget},
    distinct::Distinct,
    endpoint::{EndpointName, LabelBuffer},
    target_name::TargetName,
};
use crate::{
    cluster::{AddressRole, BucketRef, ServiceEntry, ServiceKey, Tagged},
    reply::{Data, Section, Why},
    wire::{NameRef, Type},
};

impl AnswerBuilder<'_> {
    /// A reverse name, of an address or a block. A block has no records, and exists if one of its
    /// addresses has a name (RFC 8020 section 2).
    pub(super) fn reverse(&mut self, network: IpNet) -> Result<(), Why> {
        let found = if network.prefix_len() == network.max_prefix_len() {
            self.pointers(network.addr())
        } else {
            let view = self.view;
            view.any_address_named(network, &[AddressRole::Internal], |it| view.names(it))
        };
        found.then_some(()).ok_or(Why::NoSuchAddress)
    }

    /// Adds a PTR record to the Service with this cluster IP, or else to every ready endpoint with
    /// this address, within the size budget. Returns false if there is none.
    fn pointers(&mut self, address: IpAddr) -> bool {
        let view = self.view;
        let mut services = view.cluster.services_at(address);
        if let Some(entry) = services.find(|entry| {
            view.serves_namespace(&entry.key.namespace) && has_cluster_ip(entry, address)
        }) {
            if let Some(target) = target(view, &entry.key) {
                self.pointer(target.name());
            }
            return true;
        }
        let (mut found, mut seen) = (false, SeenTargets::default());
        for entry in view.entries_at(address, self.budget) {
            let shown = view.serves_namespace(&entry.key.namespace);
            let Some(mut target) = target(view, &entry.key).filter(|_| shown) else {
                continue;
            };
            let endpoints = entry.endpoints();
            for endpoint in endpoints.filter(|it| it.ready && it.address == address) {
                let mut buffer = LabelBuffer::default();
                let name = EndpointName::of(endpoint, view.rules.endpoint_pod_names);
                if let Some(name) = target.below(name.label(&mut buffer)) {
                    found = true;
                    if !self.new_pointer(name, &mut seen) {
                        return true;
                    }
                }
            }
        }
        found
    }

    /// Adds a PTR record unless its target is in `seen`: slices may temporarily overlap. Returns
    /// false if the budget is exhausted.
    pub(super) fn new_pointer(&mut self, target: NameRef<'_>, seen: &mut SeenTargets) -> bool {
        let is_wanted = self.rtype == Type::PTR && seen.insert(target);
        !is_wanted || self.pointer(target)
    }

    /// Adds a PTR record; returns false if the budget is exhausted.
    fn pointer(&mut self, target: NameRef<'_>) -> bool {
        if self.rtype != Type::PTR {
            return true;
        }
        let fits = self.admit(2);
        if fits {
            let (ttl, data) = (self.view.rules.ttl, Data::Name(target));
            self.reply
                .push(Section::Answer, self.owner, Type::PTR, ttl, data);
        }
        fits
    }
}

impl ClusterView {
    /// The entries that may have an address. If they may exceed the budget, starts at a random one.
    pub(super) fn entries_at(
        &self,
        address: IpAddr,
        budget: SizeBudget,
    ) -> impl Iterator<Item = BucketRef<Tagged<ServiceEntry>>> {
        let begin = move |count: usize| budget.start_index(count, count.saturating_mul(MIN_PTR));
        self.cluster.entries_at_from(address, begin)
    }
}

/// Minimum size in bytes of a PTR record: its target is a compression pointer.
const MIN_PTR: usize = RECORD + 2;

/// The targets in an answer so far; an address may have thousands. Stores a 128-bit hash of each,
/// from two random seeds: collisions do not occur in practice.
#[derive(Default)]
pub(super) struct SeenTargets {
    hashes: Distinct<[u64; 2]>,
    hashers: [foldhash::fast::RandomState; 2],
}

impl SeenTargets {
    /// Adds a target; returns false if it is already present.
    fn insert(&mut self, target: NameRef<'_>) -> bool {
        let hashes = self.hashers.each_ref();
        let hashes = hashes.map(|hasher| hasher.hash_one(target.as_wire()));
        self.hashes.insert(hashes)
    }
}

fn has_cluster_ip(entry: &ServiceEntry, address: IpAddr) -> bool {
    let service = entry.service.as_ref();
    service.is_some_and(|service| service.cluster_ips.contains(&address))
}

fn target(view: &ClusterView, key: &ServiceKey) -> Option<TargetName> {
    TargetName::service(&key.name, &key.namespace, view.zones.primary().as_ref())
}

/// Number of addresses examined before the index of each namespace is consulted: if all namespaces
/// are served, the first address found has a name.
const SAMPLE: usize = 8;

impl ClusterView {
    /// Whether a block contains an address with a name by one of these roles. Queries for blocks
    /// come from resolvers with QNAME minimisation (RFC 9156). Costs a few binary searches, in one
    /// index if all namespaces are served, otherwise in one per served namespace.
    pub(super) fn any_address_named(
        &self,
        network: IpNet,
        by: &[AddressRole],
        has_name: impl Fn(IpAddr) -> bool,
    ) -> bool {
        let range = || network.network()..=network.broadcast();
        let is_named_in = |namespace: &str| {
            let mut by = by.iter();
            by.any(|by| self.cluster.has_address_in(namespace, *by, range()))
        };
        let listed = &self.rules.namespaces;
        if !listed.is_empty() {
            let mut shown = listed.iter().filter(|it| self.cluster.namespace(it));
            return shown.any(|namespace| is_named_in(namespace));
        }
        let mut examined = 0;
        let named = self.cluster.addresses();
        for address in by
            .iter()
            .flat_map(|by| named.range(*by, range()).take(SAMPLE))
        {
            if has_name(address) {
                return true;
            }
            examined += 1;
        }
        examined >= SAMPLE && self.cluster.namespaces().any(|it| is_named_in(&it.name))
    }

    /// Whether an address has a name.
    fn names(&self, address: IpAddr) -> bool {
        let owners = self.cluster.entries_at(address);
        let mut shown = owners.filter(|entry| self.serves_namespace(&entry.key.namespace));
        shown.any(|entry| {
            let mut endpoints = entry.endpoints();
            has_cluster_ip(&entry, address)
                || endpoints.any(|endpoint| endpoint.ready && endpoint.address == address)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use super::*;
    use crate::{
        cluster::{Cluster, Endpoint, EndpointSlice, Event, Namespace, Object, StateWriter},
        wire::Name,
        zone::{AnswerRules, Zones},
    };

    /// A slice with 1,000 ready endpoints in a /16 block.
    fn slice(namespace: &str, name: &str, block: u8) -> Event {
        let endpoint = |number: u16| {
            let [third, last] = number.to_be_bytes();
            Endpoint::new([10, block, third, last].into(), true, None, None, None)
        };
        let slice = EndpointSlice {
            namespace: namespace.into(),
            name: name.into(),
            service: name.into(),
            import: None,
            ports: [].into(),
            endpoints: (0..1000).map(endpoint).collect(),
        };
        Event::Apply(Object::EndpointSlice(slice, None))
    }

    #[test]
    fn the_cost_of_a_block_query_is_independent_of_addresses_and_changes() {
        let cluster = Arc::new(Cluster::new(&[]));
        let mut writer = StateWriter::new(Arc::clone(&cluster));
        let shown = Namespace { name: "ns".into() };
        writer.fold(Event::Apply(Object::Namespace(shown)));
        for block in 0..40 {
            writer.fold(slice("ns", &format!("s{block}"), block));
            writer.fold(slice("hidden", &format!("s{block}"), 100 + block));
        }
        let zones = Zones::new(&[Name::parse("cluster.local").unwrap()]).unwrap();
        let view = |namespaces: &[&str]| {
            let rules = AnswerRules {
                namespaces: namespaces.iter().map(|it| (*it).into()).collect(),
                ..AnswerRules::default()
            };
            ClusterView::new(Arc::clone(&cluster), zones.clone(), rules, Box::default())
        };
        let (all, one) = (view(&[]), view(&["other", "ns"]));
        let examined = Cell::new(0);
        let holds = |view: &ClusterView, block: &str| {
            examined.set(0);
            view.any_address_named(
                block.parse().unwrap(),
                &[AddressRole::Internal],
                |address| {
                    examined.set(examined.get() + 1);
                    view.names(address)
                },
            )
        };
        let check = |block: &str, expected: bool| {
            assert_eq!(holds(&all, block), expected, "{block}");
            assert!(examined.get() <= SAMPLE, "{block}: {}", examined.get());
            assert_eq!(holds(&one, block), expected, "{block}");
            assert_eq!(examined.get(), 0, "{block}");
        };
        for (block, expected) in [
            ("10.0.0.0/8", true),
            ("10.3.0.0/16", true),
            ("10.3.3.0/24", true),
            ("10.3.4.0/24", false),
            ("10.103.0.0/16", false),
            ("11.0.0.0/8", false),
            ("fd00::/8", false),
        ] {
            check(block, expected);
        }
        // Each change replaces 1,000 addresses.
        for step in 0..20 {
            let (from, to) = (if step == 0 { 3 } else { 199 + step }, 200 + step);
            writer.fold(slice("ns", "s3", to));
            check(&format!("10.{from}.0.0/16"), false);
            check(&format!("10.{to}.0.0/16"), true);
        }
    }
}
