//! PTR records, and the names between them and the zone.

use std::{hash::BuildHasher, net::IpAddr};

use arc_swap::ArcSwapOption;
use ipnet::IpNet;

use super::{
    Answer, View,
    distinct::Distinct,
    endpoint::{EndpointName, LabelBuffer},
    room::{RECORD, Room},
    target::Target,
};
use crate::{
    cluster::{Cluster, Entry, EntryKey, Found, Tagged},
    reply::{Data, Reply, Section, Why},
    wire::{NameRef, Type},
};

impl Answer<'_> {
    /// The name of an address, or of all addresses that begin alike: the latter have no records,
    /// and exist where one of those addresses has.
    pub(super) fn reverse(&mut self, network: IpNet) -> Result<(), Why> {
        let found = if network.prefix_len() == network.max_prefix_len() {
            self.pointers(network.addr())
        } else {
            self.view.blocks.contain(network, self.view)
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
        for entry in view.owners(address, self.room) {
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
        let is_wanted = self.rtype == Type::PTR && said.insert(target, self.reply);
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
    pub(super) fn owners(
        &self,
        address: IpAddr,
        room: Room,
    ) -> impl Iterator<Item = Found<Tagged<Entry>>> {
        let begin = move |count: usize| room.begin(count, count.saturating_mul(LEAST));
        self.cluster.owners_from(address, begin)
    }
}

/// Bytes of a PTR record at least: its name ends where others do, in a pointer.
const LEAST: usize = RECORD + 2;

/// The pointers of an answer so far, by their hashes: an address may have thousands.
#[derive(Default)]
pub(super) struct Pointers {
    hashes: Distinct<u64>,
    hasher: foldhash::fast::RandomState,
}

impl Pointers {
    /// Adds a target; false where `reply` has it.
    fn insert(&mut self, target: NameRef<'_>, reply: &Reply) -> bool {
        let is_said = |reply: &Reply| {
            let mut records = reply.section(Section::Answer).iter();
            records.any(|record| reply.data(record) == target.as_wire())
        };
        // Two names with one hash are told apart by looking.
        self.hashes.insert(self.hasher.hash_one(target.as_wire())) || !is_said(reply)
    }
}

fn has_cluster_ip(entry: &Entry, address: IpAddr) -> bool {
    let service = entry.service.as_ref();
    service.is_some_and(|service| service.cluster_ips.contains(&address))
}

fn target(view: &View, key: &EntryKey) -> Option<Target> {
    Target::service(&key.name, &key.namespace, view.zones.primary().as_ref())
}

/// Who knows which addresses have names.
pub(super) trait Addresses {
    /// Of this cluster.
    fn cluster(&self) -> &Cluster;
    /// Whether this one has a name.
    fn has(&self, address: IpAddr) -> bool;
    /// All that have one, in any order, some perhaps several times.
    fn all(&self) -> Vec<IpAddr>;
}

impl Addresses for View {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn has(&self, address: IpAddr) -> bool {
        let owners = self.cluster.owners(address);
        let mut shown = owners.filter(|entry| self.shows(&entry.key.namespace));
        shown.any(|entry| {
            let mut endpoints = entry.endpoints();
            has_cluster_ip(&entry, address)
                || endpoints.any(|endpoint| endpoint.ready && endpoint.address == address)
        })
    }

    fn all(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for entry in self.cluster.entries() {
            if !self.shows(&entry.key.namespace) {
                continue;
            }
            let ready = entry.endpoints().filter(|endpoint| endpoint.ready);
            addresses.extend(ready.map(|endpoint| endpoint.address));
            let services = entry.service.iter();
            addresses.extend(services.flat_map(|service| &service.cluster_ips));
        }
        addresses
    }
}

/// Which blocks of addresses hold one that has a name: all such addresses in order, gathered when
/// a block is first asked for, and what has moved since. Names of blocks are asked for by people,
/// and by resolvers that tell a server no more of a name than it needs (RFC 9156); an ordered
/// index kept up to date at every change would cost more than they do.
///
/// Who asks pays, and a flood of questions during changes costs not much more than one without:
/// up to [`FEW`] moves are looked at one by one, microseconds; more are merged into a new list,
/// which takes a copy of it, a millisecond or so for 100,000 addresses, once in so many moves. All
/// is gathered anew, some milliseconds in such a cluster, after a namespace has come or gone, or
/// when more has moved since the last question than the cluster remembers: as often as the API
/// server says so and no more often, however many ask.
#[derive(Default)]
pub(super) struct Blocks(ArcSwapOption<Gathered>);

struct Gathered {
    /// The cluster's moves before it was gathered.
    moves: u64,
    /// Sorted, each once.
    addresses: Box<[IpAddr]>,
}

/// Moves that are not worth a new list.
const FEW: usize = 256;

impl Blocks {
    /// Whether the block holds one.
    pub(super) fn contain(&self, network: IpNet, all: &impl Addresses) -> bool {
        // Before anything is read: what moves meanwhile is looked at again.
        let moves = all.cluster().moves();
        let known = self.0.load();
        let addresses = match &*known {
            None => all.all(),
            Some(known) => match all.cluster().moved_since(known.moves) {
                None => all.all(),
                Some(moved) if moved.len() <= FEW => {
                    return known.contain(network, &moved, |it| all.has(it));
                }
                Some(moved) => known.moved(moved, |it| all.has(it)),
            },
        };
        let gathered = Gathered::new(moves, addresses);
        let contain = gathered.contain(network, &[], |_| false);
        self.0.store(Some(gathered.into()));
        contain
    }
}

impl Gathered {
    fn new(moves: u64, mut addresses: Vec<IpAddr>) -> Self {
        // The stable sort sees where the list was sorted already.
        addresses.sort();
        addresses.dedup();
        Self {
            moves,
            addresses: addresses.into(),
        }
    }

    /// Whether the block holds one that is here and has not `moved`, or that has and `is` there.
    fn contain(&self, network: IpNet, moved: &[IpAddr], is: impl Fn(IpAddr) -> bool) -> bool {
        let first = network.network();
        let at = self.addresses.partition_point(|address| *address < first);
        let here = self.addresses[at..].iter();
        let mut here = here.take_while(|address| network.contains(*address));
        here.any(|address| !moved.contains(address))
            || moved.iter().any(|it| network.contains(it) && is(*it))
    }

    /// What is here and has not `moved`, and of that what `is` there.
    fn moved(&self, mut moved: Vec<IpAddr>, is: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
        moved.sort_unstable();
        moved.dedup();
        let stay = self.addresses.iter().copied();
        let mut all: Vec<_> = stay.filter(|it| moved.binary_search(it).is_err()).collect();
        all.extend(moved.into_iter().filter(|it| is(*it)));
        all
    }
}
