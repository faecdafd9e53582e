//! PTR records, and the names between them and the zone.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use ipnet::IpNet;

use super::{
    Answer, View,
    endpoint::{EndpointName, LabelBuffer},
    target::Target,
};
use crate::{
    cluster::{Entry, EntryKey},
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
            let synced = view.cluster.synced();
            view.blocks.contain(network, synced, || Gathered::of(view))
        };
        found.then_some(()).ok_or(Why::NoSuchAddress)
    }

    /// Points to the Service that has the address; or else to every ready endpoint that has it,
    /// whatever its Service. False where there is none.
    fn pointers(&mut self, address: IpAddr) -> bool {
        let view = self.view;
        let owners = || {
            let owners = view.cluster.owners(address);
            owners.filter(|entry| view.shows(&entry.key.namespace))
        };
        if let Some(entry) = owners().find(|entry| has_cluster_ip(entry, address)) {
            if let Some(target) = target(view, &entry.key) {
                self.pointer(target.name());
            }
            return true;
        }
        let mut found = false;
        for entry in owners() {
            let Some(mut target) = target(view, &entry.key) else {
                continue;
            };
            let endpoints = entry.endpoints();
            for endpoint in endpoints.filter(|it| it.ready && it.address == address) {
                let mut buffer = LabelBuffer::default();
                let name = EndpointName::of(endpoint, view.rules.endpoint_pod_names);
                if let Some(name) = target.below(name.label(&mut buffer)) {
                    found = true;
                    self.pointer(name);
                }
            }
        }
        found
    }

    /// Adds a pointer, unless it is there: slices may repeat each other while they change.
    pub(super) fn pointer(&mut self, target: NameRef<'_>) {
        if self.rtype != Type::PTR {
            return;
        }
        let mut records = self.reply.section(Section::Answer).iter();
        if records.any(|record| self.reply.data(record) == target.as_wire()) {
            return;
        }
        let (ttl, data) = (self.view.rules.ttl, Data::Name(target));
        self.reply
            .push(Section::Answer, self.owner, Type::PTR, ttl, data);
    }
}

fn has_cluster_ip(entry: &Entry, address: IpAddr) -> bool {
    let service = entry.service.as_ref();
    service.is_some_and(|service| service.cluster_ips.contains(&address))
}

fn target(view: &View, key: &EntryKey) -> Option<Target> {
    Target::service(&key.name, &key.namespace, view.zones.primary().as_ref())
}

/// Which blocks of addresses hold one that has a name: all such addresses in order, gathered when
/// a block is asked for, and used for a second. Names of blocks are asked for by people, and by
/// resolvers that tell a server no more of a name than it needs (RFC 9156); an index kept up to
/// date at every change would cost more than they do.
#[derive(Default)]
pub(super) struct Blocks(ArcSwapOption<Gathered>);

pub(super) struct Gathered {
    at: Instant,
    /// Sorted.
    addresses: Box<[IpAddr]>,
}

/// How long what was gathered is used: a gathering takes milliseconds in the largest clusters.
const FRESH: Duration = Duration::from_secs(1);

impl Blocks {
    /// Whether the block holds one. What `gather` gives is used again, unless not everything is
    /// known yet (`synced`).
    pub(super) fn contain(
        &self,
        network: IpNet,
        synced: bool,
        gather: impl FnOnce() -> Gathered,
    ) -> bool {
        if let Some(known) = &*self.0.load()
            && known.at.elapsed() < FRESH
        {
            return known.contain(network);
        }
        // What is gathered before everything is known must not be used after.
        let gathered = gather();
        let contain = gathered.contain(network);
        if synced {
            self.0.store(Some(gathered.into()));
        }
        contain
    }
}

impl Gathered {
    fn of(view: &View) -> Self {
        let mut addresses = Vec::new();
        for entry in view.cluster.entries() {
            if !view.shows(&entry.key.namespace) {
                continue;
            }
            let ready = entry.endpoints().filter(|endpoint| endpoint.ready);
            addresses.extend(ready.map(|endpoint| endpoint.address));
            let services = entry.service.iter();
            addresses.extend(services.flat_map(|service| &service.cluster_ips));
        }
        Self::new(addresses)
    }

    /// Of these addresses.
    pub(super) fn new(mut addresses: Vec<IpAddr>) -> Self {
        addresses.sort_unstable();
        addresses.dedup();
        Self {
            at: Instant::now(),
            addresses: addresses.into(),
        }
    }

    fn contain(&self, network: IpNet) -> bool {
        let first = network.network();
        let at = self.addresses.partition_point(|address| *address < first);
        let next = self.addresses.get(at);
        next.is_some_and(|address| network.contains(address))
    }
}
