//! PTR records, and the names between them and the zone.

use std::{hash::BuildHasher, net::IpAddr};

use ipnet::IpNet;

use super::{
    Answer, View,
    distinct::Distinct,
    endpoint::{EndpointName, LabelBuffer},
    room::{RECORD, Room},
    target::Target,
};
use crate::{
    cluster::{AddressRole, BucketRef, ServiceEntry, ServiceKey, Tagged},
    reply::{Data, Section, Why},
    wire::{NameRef, Type},
};

impl Answer<'_> {
    /// The name of an address, or of all addresses that begin alike: the latter have no records,
    /// and exist where one of those addresses has.
    pub(super) fn reverse(&mut self, network: IpNet) -> Result<(), Why> {
        let found = if network.prefix_len() == network.max_prefix_len() {
            self.pointers(network.addr())
        } else {
            let view = self.view;
            view.names_any(network, &[AddressRole::Internal], |it| view.names(it))
        };
        found.then_some(()).ok_or(Why::NoSuchAddress)
    }

    /// Points to the Service that has the address; or else to every ready endpoint that has it,
    /// whatever its Service, as many as there is room for. False where there is none.
    fn pointers(&mut self, address: IpAddr) -> bool {
        let view = self.view;
        let mut services = view.cluster.services_at(address);
        if let Some(entry) = services
            .find(|entry| view.shows(&entry.key.namespace) && has_cluster_ip(entry, address))
        {
            if let Some(target) = target(view, &entry.key) {
                self.pointer(target.name());
            }
            return true;
        }
        let (mut found, mut said) = (false, Pointers::default());
        for entry in view.entries_at(address, self.room) {
            let shown = view.shows(&entry.key.namespace);
            let Some(mut target) = target(view, &entry.key).filter(|_| shown) else {
                continue;
            };
            let endpoints = entry.endpoints();
            for endpoint in endpoints.filter(|it| it.ready && it.address == address) {
                let mut buffer = LabelBuffer::default();
                let name = EndpointName::of(endpoint, view.rules.endpoint_pod_names);
                if let Some(name) = target.below(name.label(&mut buffer)) {
                    found = true;
                    if !self.new_pointer(name, &mut said) {
                        return true;
                    }
                }
            }
        }
        found
    }

    /// Adds a pointer, unless it is among those `said`: slices may repeat each other while they
    /// change. False where there is no room for it.
    pub(super) fn new_pointer(&mut self, target: NameRef<'_>, said: &mut Pointers) -> bool {
        let is_wanted = self.rtype == Type::PTR && said.insert(target);
        !is_wanted || self.pointer(target)
    }

    /// Adds a pointer; false where there is no room for it.
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

impl View {
    /// The entries that may have an address, from any one of them on where they are more than there
    /// is room for.
    pub(super) fn entries_at(
        &self,
        address: IpAddr,
        room: Room,
    ) -> impl Iterator<Item = BucketRef<Tagged<ServiceEntry>>> {
        let begin = move |count: usize| room.begin(count, count.saturating_mul(LEAST));
        self.cluster.entries_at_from(address, begin)
    }
}

/// Bytes of a PTR record at least: its name ends where others do, in a pointer.
const LEAST: usize = RECORD + 2;

/// The targets of an answer so far: an address may have thousands. Of each, two hashes with seeds of
/// their own are kept, which for two different names are never both equal in practice (128 bits).
#[derive(Default)]
pub(super) struct Pointers {
    hashes: Distinct<[u64; 2]>,
    hashers: [foldhash::fast::RandomState; 2],
}

impl Pointers {
    /// Adds a target; false where it is there.
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

fn target(view: &View, key: &ServiceKey) -> Option<Target> {
    Target::service(&key.name, &key.namespace, view.zones.primary().as_ref())
}

/// What is looked at before it is asked of each namespace by itself: with all namespaces shown, the
/// first address that is found has a name.
const FEW: usize = 8;

impl View {
    /// Whether a block holds an address that has a name by one of these: queries for names of blocks
    /// come from resolvers that minimise the names they send (RFC 9156). It costs some binary searches, in
    /// one set where all namespaces are shown, and otherwise in one for each namespace that is.
    pub(super) fn names_any(
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
        let mut looked_at = 0;
        let named = self.cluster.addresses();
        for address in by.iter().flat_map(|by| named.range(*by, range()).take(FEW)) {
            if has_name(address) {
                return true;
            }
            looked_at += 1;
        }
        looked_at >= FEW && self.cluster.namespaces().any(|it| is_named_in(&it.name))
    }

    /// Whether an address has a name.
    fn names(&self, address: IpAddr) -> bool {
        let owners = self.cluster.entries_at(address);
        let mut shown = owners.filter(|entry| self.shows(&entry.key.namespace));
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
        cluster::{Cluster, Endpoint, EndpointSlice, Event, Namespace, Object, Writer},
        wire::Name,
        zone::{Rules, Zones},
    };

    /// A thousand ready endpoints of a Service, in a block of 16 bits.
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
    fn what_a_block_costs_follows_neither_the_addresses_nor_their_changes() {
        let cluster = Arc::new(Cluster::new(&[]));
        let mut writer = Writer::new(Arc::clone(&cluster));
        let shown = Namespace { name: "ns".into() };
        writer.fold(Event::Apply(Object::Namespace(shown)));
        for block in 0..40 {
            writer.fold(slice("ns", &format!("s{block}"), block));
            writer.fold(slice("hidden", &format!("s{block}"), 100 + block));
        }
        let zones = Zones::new(&[Name::parse("cluster.local").unwrap()]).unwrap();
        let view = |namespaces: &[&str]| {
            let rules = Rules {
                namespaces: namespaces.iter().map(|it| (*it).into()).collect(),
                ..Rules::default()
            };
            View::new(Arc::clone(&cluster), zones.clone(), rules, Box::default())
        };
        let (all, one) = (view(&[]), view(&["other", "ns"]));
        let looked_at = Cell::new(0);
        let holds = |view: &View, block: &str| {
            looked_at.set(0);
            view.names_any(
                block.parse().unwrap(),
                &[AddressRole::Internal],
                |address| {
                    looked_at.set(looked_at.get() + 1);
                    view.names(address)
                },
            )
        };
        let check = |block: &str, expected: bool| {
            assert_eq!(holds(&all, block), expected, "{block}");
            assert!(looked_at.get() <= FEW, "{block}: {}", looked_at.get());
            assert_eq!(holds(&one, block), expected, "{block}");
            assert_eq!(looked_at.get(), 0, "{block}");
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
        // Each change moves a thousand addresses at once.
        for step in 0..20 {
            let (from, to) = (if step == 0 { 3 } else { 199 + step }, 200 + step);
            writer.fold(slice("ns", "s3", to));
            check(&format!("10.{from}.0.0/16"), false);
            check(&format!("10.{to}.0.0/16"), true);
        }
    }
}
