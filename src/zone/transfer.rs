//! Zones as a whole, for those who hold a copy (AXFR, RFC 5936; IXFR, RFC 1995).
//!
//! Told are the zone's own records and those of Services, in the order of their names. Not told
//! are the names of pods and of addresses, `dns-version`, and the names of endpoints below Services
//! that have a cluster address.

use std::{net::IpAddr, sync::Arc};

use super::{
    View, addresses,
    apex::name_server,
    distinct::Distinct,
    endpoint::{EndpointName, LabelBuffer, Only, Selection, cluster_of, protocol},
    form::Form,
    lookup::is_up,
    name::Labels,
    target::Target,
};
use crate::{
    cluster::{Entry, Port, Service, ServiceImport, ServiceKind},
    query::Question,
    reply::{Data, Owner, Reply, Section, Why},
    wire::{Name, NameRef, Rcode, Type},
};

impl View {
    /// Writes the zone whose name is asked for into `reply`, which comes empty; false where that is
    /// the name of no zone, or of a reverse zone: those are not told as a whole.
    ///
    /// Who holds it at this serial already, or at a later one, is told the SOA record alone
    /// (RFC 1995 §2). Until everything is known the answer is SERVFAIL: half a zone would deny the
    /// rest.
    pub fn transfer(&self, question: &Question, held: Option<u32>, reply: &mut Reply) -> bool {
        let labels = Labels::new(&question.name, &question.lower);
        let place = self.zones.find(&labels);
        let Some(place) = place.filter(|it| it.form() == Form::Apex && !it.zone().is_reverse())
        else {
            return false;
        };
        if !self.cluster.synced() {
            reply.fail(Rcode::SERVFAIL, Why::NotSynced);
            return true;
        }
        // Before anything is read: what changes meanwhile has a later serial.
        let serial = self.cluster.serial();
        let zone = place.suffix();
        reply.authoritative = true;
        reply.why = Why::ClusterRecord;
        self.soa(zone, serial, Section::Answer, Owner::Question, reply);
        if held.is_some_and(|held| !is_later(serial, held)) {
            return true;
        }
        let mut teller = Teller {
            view: self,
            zone,
            glue: Vec::new(),
            reply,
        };
        teller.name_servers();
        teller.entries();
        self.soa(zone, serial, Section::Answer, Owner::Question, reply);
        true
    }
}

/// Whether a serial comes after another one (RFC 1982 §3.2).
fn is_later(serial: u32, other: u32) -> bool {
    serial != other && serial.wrapping_sub(other) < 1 << 31
}

/// Tells a zone record by record.
struct Teller<'a> {
    view: &'a View,
    zone: NameRef<'a>,
    /// The addresses of name servers, which may be those of Services told later: a record is told
    /// once (RFC 2181 §5).
    glue: Vec<(Name, IpAddr)>,
    reply: &'a mut Reply,
}

impl Teller<'_> {
    fn name_servers(&mut self) {
        let (view, zone) = (self.view, self.zone);
        let mut names: Vec<Name> = Vec::new();
        let mut glue = Vec::new();
        view.each_name_server(zone, |name, address| {
            let name = name.to_name();
            if !names.contains(&name) {
                names.push(name);
            }
            if !glue.contains(&(name, address)) {
                glue.push((name, address));
            }
        });
        // A zone has a name server, though where it is may not be known.
        if names.is_empty() {
            names.extend(name_server(zone).map(|it| it.name().to_name()));
        }
        for name in &names {
            let data = Data::Name(name.as_ref());
            let ttl = view.rules.ttl;
            self.reply
                .push(Section::Answer, Owner::Question, Type::NS, ttl, data);
        }
        for (name, address) in &glue {
            self.address(name.as_ref(), *address);
        }
        self.glue = glue;
    }

    fn entries(&mut self) {
        let view = self.view;
        let entries = view.cluster.entries();
        let mut entries: Vec<Arc<Entry>> = entries
            .filter(|entry| view.shows(&entry.key.namespace))
            .collect();
        entries.sort_unstable_by(|one, other| {
            let (one, other) = (&one.key, &other.key);
            (&one.name, &one.namespace).cmp(&(&other.name, &other.namespace))
        });
        let imports = view.zones.is_multicluster(self.zone);
        for entry in entries {
            match (&entry.service, &entry.import) {
                (_, Some(import)) if imports => self.import(&entry, import),
                (Some(service), _) if !imports => self.service(&entry, service),
                _ => {}
            }
        }
    }

    fn service(&mut self, entry: &Entry, service: &Service) {
        let Some(target) = Target::service(&service.name, &service.namespace, self.zone) else {
            return;
        };
        match service.kind {
            ServiceKind::ExternalName => self.alias(service, target.name()),
            ServiceKind::ClusterIp => {
                if !self.view.rules.ignore_empty_service || is_up(entry) {
                    self.front(&service.cluster_ips, &service.ports, &target);
                }
            }
            ServiceKind::Headless => {
                self.endpoints(self.view.select(entry, Only::All), &target);
            }
        }
    }

    fn import(&mut self, entry: &Entry, import: &ServiceImport) {
        let Some(target) = Target::service(&import.name, &import.namespace, self.zone) else {
            return;
        };
        if import.headless {
            let selection = self.view.select_imported(entry, Only::All);
            self.endpoints(selection, &target);
        } else {
            self.front(&import.ips, &import.ports, &target);
        }
    }

    fn alias(&mut self, service: &Service, owner: NameRef<'_>) {
        let text = service.external_name.as_deref().unwrap_or_default();
        if let Ok(address) = text.parse::<IpAddr>() {
            self.address(owner, address);
        } else if let Ok(target) = Name::parse(text)
            && !target.as_ref().is_root()
        {
            self.push(owner, Type::CNAME, Data::Name(target.as_ref()));
        }
    }

    /// What is reached by addresses of its own.
    fn front(&mut self, addresses: &[IpAddr], ports: &[Port], target: &Target) {
        let service = target.name().to_name();
        let mut said = Distinct::new();
        for address in addresses.iter().filter(|it| said.insert(**it)) {
            self.address(service.as_ref(), *address);
        }
        if addresses.is_empty() {
            return;
        }
        let mut numbers = Vec::new();
        for port in ports {
            let Some(number) = port.number else { continue };
            if !numbers.contains(&number) {
                numbers.push(number);
                self.srv(service.as_ref(), 100, number, service.as_ref());
            }
        }
        for (at, port) in ports.iter().enumerate() {
            let is_same = |other: &Port| {
                port_label(other) == port_label(port)
                    && protocol(other) == protocol(port)
                    && other.number == port.number
            };
            if let Some(number) = port.number
                && !ports[..at].iter().any(is_same)
                && let Some(owner) = port_name(service.as_ref(), port)
            {
                self.srv(owner.as_ref(), 100, number, service.as_ref());
            }
        }
    }

    /// What is reached by its endpoints.
    fn endpoints(&mut self, selection: Selection<'_>, target: &Target) {
        let service = target.name().to_name();
        let mut addresses = Distinct::new();
        let mut named = Distinct::new();
        let mut ports = Distinct::new();
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
    fn address(&mut self, owner: NameRef<'_>, address: IpAddr) {
        let is_told =
            |(name, of): &(Name, IpAddr)| *of == address && name.as_ref().eq_ignore_case(owner);
        if !self.glue.iter().any(is_told) {
            let (owner, ttl) = (Owner::Name(owner), self.view.rules.ttl);
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
        let (owner, ttl) = (Owner::Name(owner), self.view.rules.ttl);
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

#[cfg(test)]
mod tests {
    use super::is_later;

    #[test]
    fn serials_wrap() {
        for (serial, other, later) in [
            (2, 1, true),
            (1, 1, false),
            (1, 2, false),
            (0, u32::MAX, true),
            (u32::MAX, 0, false),
        ] {
            assert_eq!(is_later(serial, other), later, "{serial} after {other}");
        }
    }
}
