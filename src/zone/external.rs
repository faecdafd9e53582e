//! The view from outside of the cluster: Services by the addresses that lead to them from there.
//!
//! ```text
//! SVC.NS.ZONE                  external addresses, or the load balancer's host name as an alias
//! _PORT._PROTO.SVC.NS.ZONE     the same for a port; SRV
//! EP.SVC.NS.ZONE               an endpoint of a headless Service, where those are shown
//! ns1.dns.ZONE                 the name server; `dns` may be another label
//! ```
//!
//! The serial of these zones is the cluster's: it changes with everything that can change an
//! answer here, and sometimes without need. A secondary then transfers once too often, never once
//! too seldom.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Answer, Answers, Known, Outcome, Rules, View, Zones, addresses,
    distinct::Distinct,
    endpoint::{EndpointName, LabelBuffer, Only, is_protocol_of},
    form::{Form, Part},
    lookup::is_up,
    reverse::Pointers,
    room::Room,
    target::Target,
};
use crate::{
    cluster::{AddressRole, Cluster, ExternalAddresses, Port, Service, ServiceEntry, ServiceKind},
    query::Question,
    reply::{Data, Owner, Reply, Section, Soa, Why},
    wire::{Name, NameRef, Type},
};

/// Zones that show Services to the outside, ready to be asked.
pub struct ExternalView {
    /// The same cluster by the same rules, in other zones.
    pub(super) view: View,
    /// The label that the name server stands below, in lower case.
    pub(super) apex: Box<[u8]>,
    headless: bool,
}

impl Answers for ExternalView {
    fn answer_within(
        &self,
        question: &Question,
        room: impl FnOnce() -> Room,
        reply: &mut Reply,
    ) -> Outcome {
        self.view.answer_by(
            question,
            room,
            reply,
            |answer, place| self.form(answer, place.external_form(&self.apex)),
            |zone, reply| self.authority(zone, reply),
        )
    }

    fn deny(&self, question: &Question, why: Why, reply: &mut Reply) {
        self.view.deny_by(question, why, reply, |zone, reply| {
            self.authority(zone, reply);
        });
    }

    fn knows(&self, why: Why) -> bool {
        self.view.knows(why)
    }
}

impl ExternalView {
    /// The outside of what `inside` shows, in these zones. Records may be kept for `ttl` seconds;
    /// `apex` is the label of the name server's parent; `headless` shows headless Services too.
    pub fn new(inside: &View, zones: Zones, ttl: u32, apex: &str, headless: bool) -> Self {
        let rules = Rules {
            ttl,
            ..inside.rules.clone()
        };
        let cluster = std::sync::Arc::clone(&inside.cluster);
        Self {
            view: View::new(cluster, zones, rules, inside.local.clone()),
            apex: apex.to_ascii_lowercase().into_bytes().into(),
            headless,
        }
    }

    fn authority(&self, zone: NameRef<'_>, reply: &mut Reply) {
        let serial = self.view.cluster.serial();
        self.soa(zone, serial, Section::Authority, Owner::Name(zone), reply);
    }

    pub(super) fn soa(
        &self,
        zone: NameRef<'_>,
        serial: u32,
        section: Section,
        owner: Owner<'_>,
        reply: &mut Reply,
    ) {
        // A zone too long for these names has itself in their place.
        let below = |label| self.below_apex(zone, label).unwrap_or(zone.to_name());
        let (primary, mailbox) = (below(b"ns1".as_slice()), below(b"hostmaster"));
        let ttl = self.view.rules.ttl;
        let soa = Soa {
            primary: primary.as_ref(),
            mailbox: mailbox.as_ref(),
            serial,
            refresh: 7200,
            retry: 1800,
            expire: 86_400,
            minimum: ttl,
        };
        reply.push(section, owner, Type::SOA, ttl, Data::Soa(soa));
    }

    /// Adds the records of a name of this form.
    fn form(&self, answer: &mut Answer<'_>, form: Form<'_>) -> Known {
        match form {
            Form::Apex => self.apex(answer),
            Form::Empty => {}
            Form::NameServer => self.each_own_address(|address| answer.address(address)),
            Form::Namespace(namespace) => answer.namespace(namespace)?,
            Form::Service {
                namespace,
                service,
                part,
            } => return self.service(answer, namespace, service, part),
            Form::Address(network) => self.reverse(answer, network)?,
            _ => return Err(Why::NoSuchForm),
        }
        Ok(None)
    }

    fn apex(&self, answer: &mut Answer<'_>) {
        let zone = answer.zone;
        let ttl = self.view.rules.ttl;
        match answer.rtype {
            Type::SOA => {
                let serial = self.view.cluster.serial();
                self.soa(zone, serial, Section::Answer, answer.owner, answer.reply);
            }
            Type::NS => {
                let Some(server) = self.name_server(zone) else {
                    return;
                };
                let (reply, name) = (&mut *answer.reply, server.as_ref());
                let data = Data::Name(name);
                reply.push(Section::Answer, answer.owner, Type::NS, ttl, data);
                self.each_own_address(|address| {
                    let owner = Owner::Name(name);
                    addresses::put(reply, Section::Additional, owner, ttl, address);
                });
            }
            _ => {}
        }
    }

    /// `ns1.dns.ZONE`; nothing where that is too long for a name.
    pub(super) fn name_server(&self, zone: NameRef<'_>) -> Option<Name> {
        self.below_apex(zone, b"ns1")
    }

    fn below_apex(&self, zone: NameRef<'_>, label: &[u8]) -> Option<Name> {
        let mut target = Target::zone(zone);
        target.put(&self.apex)?;
        target.below(label).map(NameRef::to_name)
    }

    /// Seconds that a record may be kept.
    pub(super) fn ttl(&self) -> u32 {
        self.view.rules.ttl
    }

    /// The cluster.
    pub fn cluster(&self) -> &std::sync::Arc<Cluster> {
        &self.view.cluster
    }

    /// Whether the endpoints of a Service are shown.
    pub(super) fn shows_endpoints_of(&self, service: &Service) -> bool {
        self.headless && shows_endpoints(service)
    }

    /// Tells where this server is reached from outside: at the external addresses of the Services
    /// that lead to it; or at its own, where it is no endpoint of the cluster.
    pub(super) fn each_own_address(&self, mut tell: impl FnMut(IpAddr)) {
        let mut said = Distinct::new();
        let mut is_inside = false;
        for entry in self.view.own_entries() {
            is_inside = true;
            let service = entry.service.iter();
            let external = service.filter_map(|service| service.external.as_deref());
            for address in external.flat_map(|external| external.addresses.iter().copied()) {
                if said.insert(address) {
                    tell(address);
                }
            }
        }
        if !is_inside {
            self.view.local.iter().copied().for_each(tell);
        }
    }

    /// `SVC.NS` and below.
    fn service(
        &self,
        answer: &mut Answer<'_>,
        namespace: &str,
        name: &str,
        part: Part<'_>,
    ) -> Known {
        answer.namespace(namespace)?;
        let entry = self.view.cluster.entry(namespace, name);
        let entry = entry.as_deref().ok_or(Why::NoSuchService)?;
        let service = entry.service.as_deref().ok_or(Why::NoSuchService)?;
        let Some(external) = service.external.as_deref() else {
            self.headless(answer, entry, service, part)?;
            return Ok(None);
        };
        match part {
            Part::Whole => Ok(exposed(answer, service, external, |_| true)),
            Part::Port(port) if service.ports.iter().any(|it| port.is(it)) => {
                Ok(exposed(answer, service, external, |it| port.is(it)))
            }
            Part::Port(_) => Err(Why::NoSuchPort),
            // Names of ports stand below it.
            Part::Endpoint(label) if is_protocol_of(label, &*service.ports) => Ok(None),
            Part::Endpoint(_) => Err(Why::NoSuchEndpoint),
            Part::Member { .. } | Part::Zonal | Part::Near { .. } => Err(Why::NoSuchForm),
        }
    }

    /// A Service without an external address: shown where it is headless and such are.
    fn headless(
        &self,
        answer: &mut Answer<'_>,
        entry: &ServiceEntry,
        service: &Service,
        part: Part<'_>,
    ) -> Result<(), Why> {
        if !self.headless || service.kind != ServiceKind::Headless {
            return Err(Why::NotExternal);
        }
        let target = Target::external(&service.name, &service.namespace, answer.zone);
        match part {
            Part::Whole => {
                let all = self.view.select(entry, Only::All);
                answer.by_endpoints(target, all, Why::NoReadyEndpoint)
            }
            Part::Port(port) => {
                let missing = if is_up(entry) {
                    Why::NoSuchPort
                } else {
                    Why::NoReadyEndpoint
                };
                let with_port = self.view.select(entry, Only::Port(port));
                answer.by_endpoints(target, with_port, missing)
            }
            Part::Endpoint(label) => answer.endpoint(target, service, entry, label),
            Part::Member { .. } | Part::Zonal | Part::Near { .. } => Err(Why::NoSuchForm),
        }
    }

    /// The name of an address, or of a block of them.
    fn reverse(&self, answer: &mut Answer<'_>, network: IpNet) -> Result<(), Why> {
        let found = if network.prefix_len() == network.max_prefix_len() {
            self.pointers(answer, network.addr())
        } else {
            let by = [AddressRole::External, AddressRole::Headless];
            let by = &by[..=usize::from(self.headless)];
            self.view.names_any(network, by, |it| self.names(it))
        };
        found.then_some(()).ok_or(Why::NoSuchAddress)
    }

    /// Points to every Service that is reached at the address; or else to the endpoints that are.
    fn pointers(&self, answer: &mut Answer<'_>, address: IpAddr) -> bool {
        let view = &self.view;
        let zone = view.zones.primary().as_ref();
        let (mut found, mut said) = (false, Pointers::default());
        for entry in view.cluster.services_at(address) {
            let Some(service) = entry.service.as_deref() else {
                continue;
            };
            let external = service.external.as_deref();
            if external.is_some_and(|external| external.addresses.contains(&address))
                && view.shows(&entry.key.namespace)
            {
                found = true;
                let target = Target::external(&service.name, &service.namespace, zone);
                if target.is_some_and(|target| !answer.new_pointer(target.name(), &mut said)) {
                    break;
                }
            }
        }
        if found || !self.headless {
            return found;
        }
        for entry in view.entries_at(address, answer.room) {
            let service = entry.service.as_deref();
            let shown = |it: &&Service| shows_endpoints(it) && view.shows(&entry.key.namespace);
            let target = service
                .filter(shown)
                .and_then(|it| Target::external(&it.name, &it.namespace, zone));
            let Some(mut target) = target else { continue };
            let endpoints = entry.endpoints();
            for endpoint in endpoints.filter(|it| it.ready && it.address == address) {
                let mut buffer = LabelBuffer::default();
                let name = EndpointName::of(endpoint, view.rules.endpoint_pod_names);
                if let Some(name) = target.below(name.label(&mut buffer)) {
                    found = true;
                    if !answer.new_pointer(name, &mut said) {
                        return true;
                    }
                }
            }
        }
        found
    }
}

impl ExternalView {
    /// Whether an address has a name.
    fn names(&self, address: IpAddr) -> bool {
        let owners = self.view.cluster.entries_at(address);
        let mut shown = owners.filter(|entry| self.view.shows(&entry.key.namespace));
        shown.any(|entry| {
            let Some(service) = entry.service.as_deref() else {
                return false;
            };
            let mut endpoints = entry.endpoints();
            let external = service.external.as_deref();
            external.is_some_and(|external| external.addresses.contains(&address))
                || self.shows_endpoints_of(service)
                    && endpoints.any(|endpoint| endpoint.ready && endpoint.address == address)
        })
    }
}

fn shows_endpoints(service: &Service) -> bool {
    service.kind == ServiceKind::Headless && service.external.is_none()
}

/// A Service that is reached from outside, or one of its ports. Where it has addresses, they are
/// the answer; a host name stands for it only where it has none, since an alias must stand alone
/// (RFC 1034 §3.6.2), and so one of several names has to do.
fn exposed(
    answer: &mut Answer<'_>,
    service: &Service,
    external: &ExternalAddresses,
    is_meant: impl Fn(&Port) -> bool,
) -> Option<Box<Name>> {
    let ports = service.ports.iter().filter(|port| is_meant(port));
    if !external.addresses.is_empty() {
        match answer.rtype {
            Type::A | Type::AAAA => answer.addresses(external.addresses.iter().copied()),
            Type::SRV => {
                let zone = answer.zone;
                let target = Target::external(&service.name, &service.namespace, zone);
                if let Some(target) = target {
                    answer.service_srv(target.name(), &external.addresses, ports);
                }
            }
            _ => {}
        }
        return None;
    }
    let names = external.hostnames.iter();
    let hosts: Vec<Name> = names.filter_map(|name| Name::parse(name).ok()).collect();
    match answer.rtype {
        Type::SRV => answer.host_srv(&hosts, ports),
        Type::A | Type::AAAA | Type::CNAME => {
            let host = hosts.first()?;
            let (ttl, data) = (answer.view.rules.ttl, Data::Name(host.as_ref()));
            let (reply, owner) = (&mut *answer.reply, answer.owner);
            reply.push(Section::Answer, owner, Type::CNAME, ttl, data);
            let goes_on =
                answer.rtype != Type::CNAME && !host.as_ref().eq_ignore_case(answer.asked);
            return goes_on.then(|| Box::new(*host));
        }
        _ => {}
    }
    None
}
