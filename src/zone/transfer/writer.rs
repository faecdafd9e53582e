//! Writes the records of a zone, without duplicates.

use std::{collections::HashSet, net::IpAddr};

use super::weights::SrvWeights;
use crate::{
    cluster::Port,
    reply::{Data, Owner, Reply, Section},
    wire::{Name, NameRef, Type},
    zone::{
        addresses,
        distinct::Distinct,
        endpoint::{EndpointName, LabelBuffer, SelectedEndpoints, cluster_of, protocol},
        srv::weight,
        target_name::TargetName,
    },
};

/// The weight of the only target of a name.
const SINGLE_WEIGHT: u16 = 100;

/// The addresses of the name servers.
#[derive(Default)]
pub struct Glue {
    all: Vec<(Name, IpAddr)>,
    /// Names in lower case.
    set: HashSet<(Name, IpAddr), foldhash::fast::RandomState>,
    addresses: HashSet<IpAddr, foldhash::fast::RandomState>,
}

impl Glue {
    /// Adds an address, unless it is already present.
    pub fn put(&mut self, name: NameRef<'_>, address: IpAddr) {
        let name = name.to_name();
        if self.set.insert((name.to_lower(), address)) {
            self.addresses.insert(address);
            self.all.push((name, address));
        }
    }

    fn has(&self, name: NameRef<'_>, address: IpAddr) -> bool {
        // Checks the address first: most differ, and comparing names is more expensive.
        self.addresses.contains(&address) && {
            let name = name.to_name().to_lower();
            self.set.contains(&(name, address))
        }
    }
}

/// Writes the records of a zone.
pub struct RecordWriter<'a> {
    zone: NameRef<'a>,
    ttl: u32,
    /// The addresses of the name servers, written at the start; they may also belong to Services,
    /// and a record must not be repeated (RFC 2181 section 5).
    glue: &'a Glue,
    answer_weights: bool,
    reply: &'a mut Reply,
}

impl<'a> RecordWriter<'a> {
    /// A writer for `zone`, with a TTL of `ttl` seconds.
    pub fn new(zone: NameRef<'a>, ttl: u32, glue: &'a Glue, reply: &'a mut Reply) -> Self {
        Self {
            zone,
            ttl,
            glue,
            answer_weights: false,
            reply,
        }
    }

    /// With the SRV records of answers: also at the names of headless Services and of their
    /// endpoints, and with the weights of answers. Otherwise they are those of CoreDNS's transfers.
    pub fn answer_weights(self) -> Self {
        Self {
            answer_weights: true,
            ..self
        }
    }

    /// The zone.
    pub fn zone(&self) -> NameRef<'a> {
        self.zone
    }

    /// The NS records and the addresses of the name servers.
    pub fn name_servers(&mut self, names: &[Name]) {
        for name in names {
            let data = Data::Name(name.as_ref());
            self.reply
                .push(Section::Answer, Owner::Question, Type::NS, self.ttl, data);
        }
        for (name, address) in &self.glue.all {
            self.put_address(name.as_ref(), *address);
        }
    }

    /// A CNAME record.
    pub fn alias(&mut self, owner: NameRef<'_>, target: NameRef<'_>) {
        self.push(owner, Type::CNAME, Data::Name(target));
    }

    /// The records of a Service with addresses of its own.
    pub fn frontend(&mut self, addresses: &[IpAddr], ports: &[Port], target: &TargetName) {
        let service = target.name().to_name();
        let mut seen = Distinct::new();
        for address in addresses.iter().filter(|it| seen.insert(**it)) {
            self.address(service.as_ref(), *address);
        }
        if addresses.is_empty() {
            return;
        }
        self.service_ports(service.as_ref(), ports, addresses.len());
        self.named_ports(service.as_ref(), ports, &[service], addresses.len());
    }

    /// SRV records of all ports at the Service's name.
    fn service_ports(&mut self, service: NameRef<'_>, ports: &[Port], addresses: usize) {
        let weight = self.share(addresses * ports.len());
        let mut numbers = Vec::new();
        for port in ports {
            let Some(number) = port.number else { continue };
            if !numbers.contains(&number) {
                numbers.push(number);
                self.srv(service, weight, number, service);
            }
        }
    }

    /// SRV records at the port names of a Service, for every target. `reached` is the number of
    /// targets or addresses that share the weight of a port.
    fn named_ports(
        &mut self,
        service: NameRef<'_>,
        ports: &[Port],
        targets: &[Name],
        reached: usize,
    ) {
        for (at, port) in ports.iter().enumerate() {
            let has_name = |other: &&Port| {
                port_label(other) == port_label(port) && protocol(other) == protocol(port)
            };
            let is_same = |other: &Port| has_name(&other) && other.number == port.number;
            if let Some(number) = port.number
                && !ports[..at].iter().any(is_same)
                && let Some(owner) = port_name(service, port)
            {
                let weight = self.share(reached * ports.iter().filter(has_name).count());
                for target in targets {
                    self.srv(owner.as_ref(), weight, number, target.as_ref());
                }
            }
        }
    }

    /// The weight of one of `pairs` pairs of address and port.
    fn share(&self, pairs: usize) -> u16 {
        if self.answer_weights {
            weight(pairs)
        } else {
            SINGLE_WEIGHT
        }
    }

    /// The records of a Service with external host names: a CNAME record to the first one, since a
    /// CNAME must be the only record of its name (RFC 1034 section 3.6.2), and SRV records at its
    /// port names.
    pub fn hosts(&mut self, hosts: &[Name], ports: &[Port], target: &TargetName) {
        let service = target.name().to_name();
        if let Some(first) = hosts.first() {
            self.alias(service.as_ref(), first.as_ref());
            self.named_ports(service.as_ref(), ports, hosts, hosts.len());
        }
    }

    /// The records of a headless Service.
    pub fn endpoints(&mut self, selection: SelectedEndpoints<'_>, target: &TargetName) {
        let service = target.name().to_name();
        let mut weights = self.answer_weights.then(|| SrvWeights::new(selection));
        let mut addresses = Distinct::new();
        let mut named = Distinct::new();
        let mut ports = Distinct::new();
        let mut numbers = Distinct::new();
        for slice in selection.slices {
            let by_slice = weight(slice.ready().count());
            let cluster = if selection.imported {
                cluster_of(slice)
            } else {
                ""
            };
            let mut target = TargetName::zone(service.as_ref());
            // An endpoint of a ServiceImport has no name without its cluster's name.
            let has_names = !selection.imported || target.put(cluster.as_bytes()).is_some();
            for endpoint in slice.ready() {
                if addresses.insert(endpoint.address) {
                    self.address(service.as_ref(), endpoint.address);
                }
                let mut buffer = LabelBuffer::default();
                let name = EndpointName::of(endpoint, selection.by_pod);
                let below = target.below(name.label(&mut buffer));
                let Some(below) = below.filter(|_| has_names) else {
                    continue;
                };
                if named.insert((cluster, name, endpoint.address)) {
                    self.address(below, endpoint.address);
                }
                let below = below.to_name();
                for port in &*slice.ports {
                    let Some(number) = port.number else { continue };
                    if let Some(weights) = &weights
                        && numbers.insert((cluster, name, number))
                    {
                        let (all, own) = (weights.service(), weights.endpoint(name));
                        self.srv(service.as_ref(), all, number, below.as_ref());
                        self.srv(below.as_ref(), own, number, below.as_ref());
                    }
                    if ports.insert((cluster, name, port))
                        && let Some(owner) = port_name(service.as_ref(), port)
                    {
                        let weight = weights.as_mut().map_or(by_slice, |it| it.port(port));
                        self.srv(owner.as_ref(), weight, number, below.as_ref());
                    }
                }
            }
        }
    }

    /// Writes an address record, unless it was written for a name server.
    pub fn address(&mut self, owner: NameRef<'_>, address: IpAddr) {
        if !self.glue.has(owner, address) {
            self.put_address(owner, address);
        }
    }

    fn put_address(&mut self, owner: NameRef<'_>, address: IpAddr) {
        let (owner, ttl) = (Owner::Name(owner), self.ttl);
        addresses::put(self.reply, Section::Answer, owner, ttl, address);
    }

    fn srv(&mut self, owner: NameRef<'_>, weight: u16, port: u16, target: NameRef<'_>) {
        let data = Data::Srv {
            priority: 0,
            weight,
            port,
            target,
        };
        self.push(owner, Type::SRV, data);
    }

    fn push(&mut self, owner: NameRef<'_>, rtype: Type, data: Data<'_>) {
        let (owner, ttl) = (Owner::Name(owner), self.ttl);
        self.reply.push(Section::Answer, owner, rtype, ttl, data);
    }
}

fn port_label(port: &Port) -> String {
    format!("_{}", port.name.to_ascii_lowercase())
}

/// `_PORT._PROTO` below a Service; `None` for a port without a name.
fn port_name(service: NameRef<'_>, port: &Port) -> Option<Name> {
    if port.name.is_empty() {
        return None;
    }
    let protocol = format!("_{}", protocol(port));
    let labels = [port_label(port).into_bytes(), protocol.into_bytes()];
    Name::from_labels(labels.iter().map(Vec::as_slice), service).ok()
}
