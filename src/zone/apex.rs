//! The zones' apex records: SOA, NS, `ns.dns`, `dns-version`.
//!
//! The name servers are derived from the addresses at which this server is reached. If one of them
//! is the address of a ready endpoint, the Services of that endpoint are the name servers: in a
//! cluster, `kube-dns.kube-system.svc`. Otherwise the name server is `ns.dns` with those addresses.

use std::net::IpAddr;

use super::{
    AnswerBuilder, ClusterView, addresses,
    budget::RECORD,
    distinct::Distinct,
    endpoint::{EndpointFilter, EndpointName, LabelBuffer},
    target_name::TargetName,
};
use crate::{
    cluster::{BucketRef, Cluster, ServiceEntry, ServiceKind, Tagged},
    reply::{Data, Owner, Reply, Section, Soa},
    wire::{NameRef, Type},
};

/// The version of the DNS specification, as in `dns-version` (section 2.2).
const VERSION: &[u8] = b"1.1.0";
/// TTL in seconds of `dns-version`: it changes only with the software.
const VERSION_TTL: u32 = 28_800;
/// Maximum TTL in seconds of an SOA record: it bounds negative caching (RFC 2308 section 5).
const MAX_SOA_TTL: u32 = 300;

impl ClusterView {
    /// Adds the zone's SOA record to the authority section of a negative answer (RFC 2308 section
    /// 3).
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
        let (mut primary, mut mailbox) = (name_server(zone), TargetName::zone(zone));
        // If these names would be too long, the zone's name replaces them.
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

    /// The entries with a ready endpoint at one of this server's addresses, without duplicates.
    /// Includes namespaces hidden by the configuration: the name server does not depend on them.
    pub(super) fn own_entries(&self) -> impl Iterator<Item = BucketRef<Tagged<ServiceEntry>>> {
        let cluster: &Cluster = &self.cluster;
        let has = |entry: &ServiceEntry, local: &IpAddr| {
            let mut endpoints = entry.endpoints();
            endpoints.any(|endpoint| endpoint.ready && endpoint.address == *local)
        };
        let found = self
            .local_addresses
            .iter()
            .enumerate()
            .flat_map(move |(at, local)| {
                let earlier = &self.local_addresses[..at];
                cluster.entries_at(*local).filter(move |entry| {
                    has(entry, local) && !earlier.iter().any(|earlier| has(entry, earlier))
                })
            });
        found.filter(|entry| entry.service.is_some())
    }

    /// Calls `visit` with the name and each address of each name server.
    pub(super) fn each_name_server(
        &self,
        zone: NameRef<'_>,
        mut visit: impl FnMut(NameRef<'_>, IpAddr),
    ) {
        let mut found = false;
        // Services have no names in a multicluster zone.
        let hidden = self.zones.is_multicluster(zone);
        let named = hidden.then(|| name_server(zone)).flatten();
        let named = named.as_ref().map(TargetName::name);
        for entry in self.own_entries() {
            let Some(service) = &entry.service else {
                continue;
            };
            let Some(mut target) = TargetName::service(&service.name, &service.namespace, zone)
            else {
                continue;
            };
            match service.kind {
                ServiceKind::ExternalName => {}
                ServiceKind::ClusterIp => {
                    for address in service.cluster_ips.iter().copied() {
                        found = true;
                        visit(named.unwrap_or(target.name()), address);
                    }
                }
                ServiceKind::Headless => {
                    let selection = self.select(&entry, EndpointFilter::All);
                    for (_, endpoint) in selection.endpoints() {
                        let mut buffer = LabelBuffer::default();
                        let name = EndpointName::of(endpoint, selection.by_pod);
                        if let Some(name) = target.below(name.label(&mut buffer)) {
                            found = true;
                            visit(named.unwrap_or(name), endpoint.address);
                        }
                    }
                }
            }
        }
        if let Some(target) = name_server(zone).filter(|_| !found) {
            for address in self.local_addresses.iter().copied() {
                visit(target.name(), address);
            }
        }
    }
}

impl AnswerBuilder<'_> {
    /// The records of the apex.
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
            // Owned names: NS queries are rare.
            let known = name.to_name();
            if names.insert(known) {
                self.put_name_server(name);
            }
            let length = RECORD + addresses::length(address);
            if glue.insert((known, address)) && self.budget.take_additional(length) {
                let (owner, ttl) = (Owner::Name(name), view.rules.ttl);
                addresses::put(self.reply, Section::Additional, owner, ttl, address);
            }
        });
        // A zone has at least one NS record (RFC 2181 section 6.1), even if the server's address is
        // unknown.
        if let Some(target) = name_server(zone).filter(|_| !found) {
            self.put_name_server(target.name());
        }
    }

    fn put_name_server(&mut self, name: NameRef<'_>) {
        // With compression, the name takes a pointer of 2 bytes at least.
        if self.admit(2) {
            let (owner, ttl) = (self.owner, self.view.rules.ttl);
            self.reply
                .push(Section::Answer, owner, Type::NS, ttl, Data::Name(name));
        }
    }

    /// `ns.dns`
    pub(super) fn name_server(&mut self) {
        let (view, zone) = (self.view, self.zone);
        let mut seen = Distinct::new();
        view.each_name_server(zone, |_, address| {
            if seen.insert(address) {
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
pub(super) fn name_server(zone: NameRef<'_>) -> Option<TargetName> {
    let mut target = TargetName::zone(zone);
    target.put(b"dns")?;
    target.put(b"ns")?;
    Some(target)
}
