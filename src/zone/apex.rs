//! The zones' own records: SOA, NS, `ns.dns`, `dns-version`.
//!
//! Who the name server is follows from the addresses under which this server is reached. Where
//! one of them is a ready endpoint's, the Services of that endpoint are the name servers: in a
//! cluster, `kube-dns.kube-system.svc`. Otherwise it is `ns.dns` with those addresses.

use std::net::IpAddr;

use super::{
    Answer, View, addresses,
    distinct::Distinct,
    endpoint::{EndpointName, LabelBuffer, Only},
    room::RECORD,
    target::Target,
};
use crate::{
    cluster::{BucketRef, Cluster, ServiceEntry, ServiceKind, Tagged},
    reply::{Data, Owner, Reply, Section, Soa},
    wire::{NameRef, Type},
};

/// The version of the specification that is followed, as `dns-version` tells it.
const VERSION: &[u8] = b"1.1.0";
/// Seconds that it may be kept: it changes with the software alone.
const VERSION_TTL: u32 = 28_800;
/// Seconds that an SOA record may be kept at most: it carries denials (RFC 2308 §5).
const MAX_SOA_TTL: u32 = 300;

impl View {
    /// Adds the zone's SOA record to the authority section, as denials want it (RFC 2308 §3).
    pub(super) fn put_soa(&self, zone: NameRef<'_>, reply: &mut Reply) {
        let serial = self.cluster.serial();
        self.soa(zone, serial, Section::Authority, Owner::Name(zone), reply);
    }

    /// Adds the zone's SOA record with this serial.
    pub(super) fn soa(
        &self,
        zone: NameRef<'_>,
        serial: u32,
        section: Section,
        owner: Owner<'_>,
        reply: &mut Reply,
    ) {
        let (mut primary, mut mailbox) = (name_server(zone), Target::zone(zone));
        // A zone too long for these names has itself in their place.
        let ttl = self.rules.ttl;
        let soa = Soa {
            primary: primary.as_mut().map_or(zone, |it| it.name()),
            mailbox: mailbox.below(b"hostmaster").unwrap_or(zone),
            serial,
            refresh: 7200,
            retry: 1800,
            expire: 86_400,
            minimum: ttl,
        };
        let ttl = ttl.min(MAX_SOA_TTL);
        reply.push(section, owner, Type::SOA, ttl, Data::Soa(soa));
    }

    /// The entries with a ready endpoint at one of this server's addresses, each once. What the
    /// configuration hides counts too: it is what this server is, not what it shows.
    pub(super) fn own_entries(&self) -> impl Iterator<Item = BucketRef<Tagged<ServiceEntry>>> {
        let cluster: &Cluster = &self.cluster;
        let has = |entry: &ServiceEntry, local: &IpAddr| {
            let mut endpoints = entry.endpoints();
            endpoints.any(|endpoint| endpoint.ready && endpoint.address == *local)
        };
        let found = self.local.iter().enumerate().flat_map(move |(at, local)| {
            let earlier = &self.local[..at];
            cluster.entries_at(*local).filter(move |entry| {
                has(entry, local) && !earlier.iter().any(|earlier| has(entry, earlier))
            })
        });
        found.filter(|entry| entry.service.is_some())
    }

    /// Tells each name server with each of its addresses.
    pub(super) fn each_name_server(
        &self,
        zone: NameRef<'_>,
        mut tell: impl FnMut(NameRef<'_>, IpAddr),
    ) {
        let mut found = false;
        // Services have no names in a multicluster zone.
        let hidden = self.zones.is_multicluster(zone);
        let named = hidden.then(|| name_server(zone)).flatten();
        let named = named.as_ref().map(Target::name);
        for entry in self.own_entries() {
            let Some(service) = &entry.service else {
                continue;
            };
            let Some(mut target) = Target::service(&service.name, &service.namespace, zone) else {
                continue;
            };
            match service.kind {
                ServiceKind::ExternalName => {}
                ServiceKind::ClusterIp => {
                    for address in service.cluster_ips.iter().copied() {
                        found = true;
                        tell(named.unwrap_or(target.name()), address);
                    }
                }
                ServiceKind::Headless => {
                    let selection = self.select(&entry, Only::All);
                    for (_, endpoint) in selection.endpoints() {
                        let mut buffer = LabelBuffer::default();
                        let name = EndpointName::of(endpoint, selection.by_pod);
                        if let Some(name) = target.below(name.label(&mut buffer)) {
                            found = true;
                            tell(named.unwrap_or(name), endpoint.address);
                        }
                    }
                }
            }
        }
        if let Some(target) = name_server(zone).filter(|_| !found) {
            for address in self.local.iter().copied() {
                tell(target.name(), address);
            }
        }
    }
}

impl Answer<'_> {
    /// The zone itself.
    pub(super) fn apex(&mut self) {
        match self.rtype {
            Type::SOA => {
                let serial = self.view.cluster.serial();
                self.view
                    .soa(self.zone, serial, Section::Answer, self.owner, self.reply);
            }
            Type::NS => self.name_servers(),
            _ => {}
        }
    }

    fn name_servers(&mut self) {
        let (view, zone) = (self.view, self.zone);
        let mut names = Distinct::new();
        let mut glue = Distinct::new();
        let mut found = false;
        view.each_name_server(zone, |name, address| {
            found = true;
            // Names are compared whole, and kept whole: this is asked once in a while.
            let known = name.to_name();
            if names.insert(known) {
                self.put_name_server(name);
            }
            let length = RECORD + addresses::length(address);
            if glue.insert((known, address)) && self.room.take_beside(length) {
                let (owner, ttl) = (Owner::Name(name), view.rules.ttl);
                addresses::put(self.reply, Section::Additional, owner, ttl, address);
            }
        });
        // A zone has a name server (RFC 1035 §5.2), though where it is may not be known.
        if let Some(target) = name_server(zone).filter(|_| !found) {
            self.put_name_server(target.name());
        }
    }

    fn put_name_server(&mut self, name: NameRef<'_>) {
        // Its name ends where others do, in a pointer of 2 bytes.
        if self.admit(2) {
            let (owner, ttl) = (self.owner, self.view.rules.ttl);
            self.reply
                .push(Section::Answer, owner, Type::NS, ttl, Data::Name(name));
        }
    }

    /// `ns.dns`
    pub(super) fn name_server(&mut self) {
        let (view, zone) = (self.view, self.zone);
        let mut said = Distinct::new();
        view.each_name_server(zone, |_, address| {
            if said.insert(address) {
                self.address(address);
            }
        });
    }

    /// `dns-version`
    pub(super) fn version(&mut self) {
        if self.rtype == Type::TXT {
            let data = Data::Txt(VERSION);
            self.reply
                .push(Section::Answer, self.owner, Type::TXT, VERSION_TTL, data);
        }
    }
}

/// `ns.dns.ZONE`
pub(super) fn name_server(zone: NameRef<'_>) -> Option<Target> {
    let mut target = Target::zone(zone);
    target.put(b"dns")?;
    target.put(b"ns")?;
    Some(target)
}
