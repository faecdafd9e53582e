//! Tells records one by one, none of them twice.

use std::net::IpAddr;

use crate::{
    cluster::Port,
    reply::{Data, Owner, Reply, Section},
    wire::{Name, NameRef, Type},
    zone::{
        addresses,
        distinct::Distinct,
        endpoint::{EndpointName, LabelBuffer, Selection, cluster_of, protocol},
        target::Target,
    },
};

/// The weight of a target that has no others beside it.
const WHOLE: u16 = 100;

/// Writes the records of a zone.
pub struct Teller<'a> {
    zone: NameRef<'a>,
    ttl: u32,
    /// The addresses of name servers, which may be those of Services told later: a record is told
    /// once (RFC 2181 §5).
    glue: Vec<(Name, IpAddr)>,
    reply: &'a mut Reply,
}

impl<'a> Teller<'a> {
    /// Of `zone`, whose records may be kept for `ttl` seconds.
    pub fn new(zone: NameRef<'a>, ttl: u32, reply: &'a mut Reply) -> Self {
        Self {
            zone,
            ttl,
            glue: Vec::new(),
            reply,
        }
    }

    /// The zone.
    pub fn zone(&self) -> NameRef<'a> {
        self.zone
    }

    /// The zone's name servers, and the addresses that they have.
    pub fn name_servers(&mut self, names: &[Name], glue: Vec<(Name, IpAddr)>) {
        for name in names {
            let data = Data::Name(name.as_ref());
            self.reply
                .push(Section::Answer, Owner::Question, Type::NS, self.ttl, data);
        }
        for (name, address) in &glue {
            self.address(name.as_ref(), *address);
        }
        self.glue = glue;
    }

    /// An alias.
    pub fn alias(&mut self, owner: NameRef<'_>, target: NameRef<'_>) {
        self.push(owner, Type::CNAME, Data::Name(target));
    }

    /// What is reached by addresses of its own.
    pub fn front(&mut self, addresses: &[IpAddr], ports: &[Port], target: &Target) {
        let service = target.name().to_name();
        let mut said = Distinct::new();
        for address in addresses.iter().filter(|it| said.insert(**it)) {
            self.address(service.as_ref(), *address);
        }
        if addresses.is_empty() {
            return;
        }
        self.ports(service.as_ref(), ports, &[service]);
    }

    /// The ports of a Service, each of which leads to every target: at the Service's own name, and
    /// at that of the port, if it has one.
    fn ports(&mut self, service: NameRef<'_>, ports: &[Port], targets: &[Name]) {
        self.whole_ports(service, ports, targets);
        self.named_ports(service, ports, targets);
    }

    fn whole_ports(&mut self, service: NameRef<'_>, ports: &[Port], targets: &[Name]) {
        let mut numbers = Vec::new();
        for port in ports {
            let Some(number) = port.number else { continue };
            if !numbers.contains(&number) {
                numbers.push(number);
                for target in targets {
                    self.srv(service, WHOLE, number, target.as_ref());
                }
            }
        }
    }

    fn named_ports(&mut self, service: NameRef<'_>, ports: &[Port], targets: &[Name]) {
        for (at, port) in ports.iter().enumerate() {
            let is_same = |other: &Port| {
                port_label(other) == port_label(port)
                    && protocol(other) == protocol(port)
                    && other.number == port.number
            };
            if let Some(number) = port.number
                && !ports[..at].iter().any(is_same)
                && let Some(owner) = port_name(service, port)
            {
                for target in targets {
                    self.srv(owner.as_ref(), WHOLE, number, target.as_ref());
                }
            }
        }
    }

    /// What is reached by host names of others: the first stands for it, since an alias must stand
    /// alone (RFC 1034 §3.6.2), and so do the names of its ports beside it.
    pub fn hosts(&mut self, hosts: &[Name], ports: &[Port], target: &Target) {
        let service = target.name().to_name();
        if let Some(first) = hosts.first() {
            self.alias(service.as_ref(), first.as_ref());
            self.named_ports(service.as_ref(), ports, hosts);
        }
    }

    /// What is reached by its endpoints. With `whole`, SRV records are told at the names of the
    /// Service and of its endpoints too, besides those of ports.
    pub fn endpoints(&mut self, selection: Selection<'_>, target: &Target, whole: bool) {
        let service = target.name().to_name();
        let mut addresses = Distinct::new();
        let mut named = Distinct::new();
        let mut ports = Distinct::new();
        let mut numbers = Distinct::new();
        for slice in selection.slices {
            let weight = u16::try_from(100 / slice.ready().count().clamp(1, 100));
            let weight = weight.expect("at most 100");
            let cluster = if selection.imported {
                cluster_of(slice)
            } else {
                ""
            };
            let mut target = Target::zone(service.as_ref());
            // Without its cluster's name an endpoint of a ServiceImport has none.
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
                    if let Some(number) = port.number.filter(|_| whole)
                        && numbers.insert((cluster, name, number))
                    {
                        self.srv(service.as_ref(), weight, number, below.as_ref());
                        self.srv(below.as_ref(), weight, number, below.as_ref());
                    }
                    if let Some(number) = port.number
                        && ports.insert((cluster, name, port))
                        && let Some(owner) = port_name(service.as_ref(), port)
                    {
                        self.srv(owner.as_ref(), weight, number, below.as_ref());
                    }
                }
            }
        }
    }

    /// Tells an address, unless it was told as a name server's.
    pub fn address(&mut self, owner: NameRef<'_>, address: IpAddr) {
        let is_told =
            |(name, of): &(Name, IpAddr)| *of == address && name.as_ref().eq_ignore_case(owner);
        if !self.glue.iter().any(is_told) {
            let (owner, ttl) = (Owner::Name(owner), self.ttl);
            addresses::put(self.reply, Section::Answer, owner, ttl, address);
        }
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

/// `_PORT._PROTO` below a Service; nothing for a port without a name.
fn port_name(service: NameRef<'_>, port: &Port) -> Option<Name> {
    if port.name.is_empty() {
        return None;
    }
    let protocol = format!("_{}", protocol(port));
    let labels = [port_label(port).into_bytes(), protocol.into_bytes()];
    Name::from_labels(labels.iter().map(Vec::as_slice), service).ok()
}
