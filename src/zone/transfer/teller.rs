//! Tells records one by one, none of them twice.

use std::{collections::HashSet, net::IpAddr};

use super::weights::Weights;
use crate::{
    cluster::Port,
    reply::{Data, Owner, Reply, Section},
    wire::{Name, NameRef, Type},
    zone::{
        addresses,
        distinct::Distinct,
        endpoint::{EndpointName, LabelBuffer, Selection, cluster_of, protocol},
        srv::weight,
        target::Target,
    },
};

/// The weight of a target that has no others beside it.
const WHOLE: u16 = 100;

/// The addresses of name servers, in their order.
#[derive(Default)]
pub struct Glue {
    all: Vec<(Name, IpAddr)>,
    /// Names in lower case.
    set: HashSet<(Name, IpAddr), foldhash::fast::RandomState>,
    addresses: HashSet<IpAddr, foldhash::fast::RandomState>,
}

impl Glue {
    /// Adds an address, unless it is there.
    pub fn put(&mut self, name: NameRef<'_>, address: IpAddr) {
        let name = name.to_name();
        if self.set.insert((name.to_lower(), address)) {
            self.addresses.insert(address);
            self.all.push((name, address));
        }
    }

    fn has(&self, name: NameRef<'_>, address: IpAddr) -> bool {
        // Few addresses are, and names are long.
        self.addresses.contains(&address) && {
            let name = name.to_name().to_lower();
            self.set.contains(&(name, address))
        }
    }
}

/// Writes the records of a zone.
pub struct Teller<'a> {
    zone: NameRef<'a>,
    ttl: u32,
    /// The addresses of name servers, which may be those of Services told later: a record is told
    /// once (RFC 2181 §5).
    glue: &'a Glue,
    like_answers: bool,
    reply: &'a mut Reply,
}

impl<'a> Teller<'a> {
    /// Of `zone`, whose records may be kept for `ttl` seconds.
    pub fn new(zone: NameRef<'a>, ttl: u32, glue: &'a Glue, reply: &'a mut Reply) -> Self {
        Self {
            zone,
            ttl,
            glue,
            like_answers: false,
            reply,
        }
    }

    /// The same with the SRV records that answers have: at the names of headless Services and of
    /// their endpoints too, and with the weights of answers. Otherwise they are those of CoreDNS's
    /// transfers.
    pub fn like_answers(self) -> Self {
        Self {
            like_answers: true,
            ..self
        }
    }

    /// The zone.
    pub fn zone(&self) -> NameRef<'a> {
        self.zone
    }

    /// The zone's name servers, and the addresses that they have.
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
        self.whole_ports(service.as_ref(), ports, addresses.len());
        self.named_ports(service.as_ref(), ports, &[service], addresses.len());
    }

    /// The ports of a Service with so many addresses, at its own name.
    fn whole_ports(&mut self, service: NameRef<'_>, ports: &[Port], addresses: usize) {
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

    /// The ports of a Service, at the names of those that have one: each leads to every target.
    /// `reached` counts what shares the weight of one port.
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

    /// The weight of one of so many pairs of an address and a port.
    fn share(&self, pairs: usize) -> u16 {
        if self.like_answers {
            weight(pairs)
        } else {
            WHOLE
        }
    }

    /// What is reached by host names of others: the first stands for it, since an alias must stand
    /// alone (RFC 1034 §3.6.2), and so do the names of its ports beside it.
    pub fn hosts(&mut self, hosts: &[Name], ports: &[Port], target: &Target) {
        let service = target.name().to_name();
        if let Some(first) = hosts.first() {
            self.alias(service.as_ref(), first.as_ref());
            self.named_ports(service.as_ref(), ports, hosts, hosts.len());
        }
    }

    /// What is reached by its endpoints.
    pub fn endpoints(&mut self, selection: Selection<'_>, target: &Target) {
        let service = target.name().to_name();
        let mut weights = self.like_answers.then(|| Weights::new(selection));
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

    /// Tells an address, unless it was told as a name server's.
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

/// `_PORT._PROTO` below a Service; nothing for a port without a name.
fn port_name(service: NameRef<'_>, port: &Port) -> Option<Name> {
    if port.name.is_empty() {
        return None;
    }
    let protocol = format!("_{}", protocol(port));
    let labels = [port_label(port).into_bytes(), protocol.into_bytes()];
    Name::from_labels(labels.iter().map(Vec::as_slice), service).ok()
}
