//! Zones of `k8s_external`: Services with their external addresses.
//!
//! ```text
//! SVC.NS.ZONE                  external addresses, or a CNAME to the load balancer's host name
//! _PORT._PROTO.SVC.NS.ZONE     SRV records of a port
//! EP.SVC.NS.ZONE               an endpoint of a headless Service, with `headless`
//! ns1.dns.ZONE                 the name server; `apex` sets another label than `dns`
//! ```
//!
//! The serial of these zones is the cluster's: it increases with every change visible here, and
//! with others. A secondary may transfer without need, but never misses a change.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    AnswerBuilder, AnswerRules, ClusterLookup, ClusterView, LookupOutcome, LookupResult, Zones,
    addresses,
    budget::SizeBudget,
    distinct::Distinct,
    endpoint::{EndpointFilter, EndpointName, LabelBuffer, is_protocol_of},
    lookup::has_ready_endpoint,
    name_kind::{NameKind, NameScope},
    reverse::SeenTargets,
    target_name::TargetName,
};
use crate::{
    cluster::{AddressRole, Cluster, ExternalAddresses, Port, Service, ServiceEntry, ServiceKind},
    query::Question,
    reply::{Data, Owner, Reply, Section, Soa, Why},
    wire::{Name, NameRef, Type},
};

/// The zones of a `k8s_external` plugin.
pub struct ExternalView {
    /// The same cluster and rules, with these zones.
    pub(super) view: ClusterView,
    /// The parent label of the name server, in lower case.
    pub(super) apex: Box<[u8]>,
    headless: bool,
}

impl ClusterLookup for ExternalView {
    fn answer_within(
        &self,
        question: &Question,
        budget: impl FnOnce() -> SizeBudget,
        reply: &mut Reply,
    ) -> LookupOutcome {
        self.view.answer_by(
            question,
            budget,
            reply,
            |answer, matched| self.add_records(answer, matched.external_kind(&self.apex)),
            |zone, reply| self.authority(zone, reply),
        )
    }

    fn deny(&self, question: &Question, why: Why, known_absent: bool, reply: &mut Reply) {
        self.view
            .deny_by(question, why, known_absent, reply, |zone, reply| {
                self.authority(zone, reply);
            });
    }

    fn can_deny(&self, why: Why) -> bool {
        self.view.can_deny(why)
    }
}

impl ExternalView {
    /// The external zones for the cluster of `inside`, with TTL `ttl` in seconds; `apex` is the
    /// parent label of the name server; `headless` includes headless Services.
    pub fn new(inside: &ClusterView, zones: Zones, ttl: u32, apex: &str, headless: bool) -> Self {
        let rules = AnswerRules {
            ttl,
            ..inside.rules.clone()
        };
        let cluster = std::sync::Arc::clone(&inside.cluster);
        Self {
            view: ClusterView::new(cluster, zones, rules, inside.local_addresses.clone()),
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
        // If these names would be too long, the zone's name replaces them.
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

    /// Adds the records of a name.
    fn add_records(&self, answer: &mut AnswerBuilder<'_>, kind: NameKind<'_>) -> LookupResult {
        match kind {
            NameKind::Apex => self.apex(answer),
            NameKind::Empty => {}
            NameKind::NameServer => self.each_own_address(|address| answer.address(address)),
            NameKind::Namespace(namespace) => answer.namespace(namespace)?,
            NameKind::Service {
                namespace,
                service,
                scope,
            } => return self.service(answer, namespace, service, scope),
            NameKind::Address(network) => self.reverse(answer, network)?,
            _ => return Err(Why::NoSuchForm),
        }
        Ok(None)
    }

    fn apex(&self, answer: &mut AnswerBuilder<'_>) {
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

    /// `ns1.dns.ZONE`; `None` if that is too long for a name.
    pub(super) fn name_server(&self, zone: NameRef<'_>) -> Option<Name> {
        self.below_apex(zone, b"ns1")
    }

    fn below_apex(&self, zone: NameRef<'_>, label: &[u8]) -> Option<Name> {
        let mut target = TargetName::zone(zone);
        target.put(&self.apex)?;
        target.below(label).map(NameRef::to_name)
    }

    /// TTL of records in seconds.
    pub(super) fn ttl(&self) -> u32 {
        self.view.rules.ttl
    }

    /// The cluster.
    pub fn cluster(&self) -> &std::sync::Arc<Cluster> {
        &self.view.cluster
    }

    /// Whether a Service's endpoints are answered.
    pub(super) fn shows_endpoints_of(&self, service: &Service) -> bool {
        self.headless && shows_endpoints(service)
    }

    /// Calls `visit` with each address of this server: the external addresses of the Services it is
    /// an endpoint of, or its own addresses if it is not an endpoint of the cluster.
    pub(super) fn each_own_address(&self, mut visit: impl FnMut(IpAddr)) {
        let mut seen = Distinct::new();
        let mut is_inside = false;
        for entry in self.view.own_entries() {
            is_inside = true;
            let service = entry.service.iter();
            let external = service.filter_map(|service| service.external.as_deref());
            for address in external.flat_map(|external| external.addresses.iter().copied()) {
                if seen.insert(address) {
                    visit(address);
                }
            }
        }
        if !is_inside {
            self.view.local_addresses.iter().copied().for_each(visit);
        }
    }

    /// `SVC.NS` and below.
    fn service(
        &self,
        answer: &mut AnswerBuilder<'_>,
        namespace: &str,
        name: &str,
        scope: NameScope<'_>,
    ) -> LookupResult {
        answer.namespace(namespace)?;
        let entry = self.view.cluster.entry(namespace, name);
        let entry = entry.as_deref().ok_or(Why::NoSuchService)?;
        let service = entry.service.as_deref().ok_or(Why::NoSuchService)?;
        let Some(external) = service.external.as_deref() else {
            self.headless(answer, entry, service, scope)?;
            return Ok(None);
        };
        match scope {
            NameScope::All => Ok(exposed(answer, service, external, |_| true)),
            NameScope::Port(port) if service.ports.iter().any(|it| port.is(it)) => {
                Ok(exposed(answer, service, external, |it| port.is(it)))
            }
            NameScope::Port(_) => Err(Why::NoSuchPort),
            // Port names exist below a protocol label (RFC 8020 section 2).
            NameScope::Endpoint(label) if is_protocol_of(label, &*service.ports) => Ok(None),
            NameScope::Endpoint(_) => Err(Why::NoSuchEndpoint),
            NameScope::ClusterEndpoint { .. }
            | NameScope::ZonalParent
            | NameScope::Zonal { .. } => Err(Why::NoSuchForm),
        }
    }

    /// A Service without an external address: answered only if headless and enabled.
    fn headless(
        &self,
        answer: &mut AnswerBuilder<'_>,
        entry: &ServiceEntry,
        service: &Service,
        scope: NameScope<'_>,
    ) -> Result<(), Why> {
        if !self.headless || service.kind != ServiceKind::Headless {
            return Err(Why::NotExternal);
        }
        let target = TargetName::external(&service.name, &service.namespace, answer.zone);
        match scope {
            NameScope::All => {
                let all = self.view.select(entry, EndpointFilter::All);
                answer.by_endpoints(target, all, Why::NoReadyEndpoint)
            }
            NameScope::Port(port) => {
                let missing = if has_ready_endpoint(entry) {
                    Why::NoSuchPort
                } else {
                    Why::NoReadyEndpoint
                };
                let with_port = self.view.select(entry, EndpointFilter::Port(port));
                answer.by_endpoints(target, with_port, missing)
            }
            NameScope::Endpoint(label) => answer.endpoint(target, service, entry, label),
            NameScope::ClusterEndpoint { .. }
            | NameScope::ZonalParent
            | NameScope::Zonal { .. } => Err(Why::NoSuchForm),
        }
    }

    /// A reverse name, of an address or of a block.
    fn reverse(&self, answer: &mut AnswerBuilder<'_>, network: IpNet) -> Result<(), Why> {
        let found = if network.prefix_len() == network.max_prefix_len() {
            self.pointers(answer, network.addr())
        } else {
            let by = [AddressRole::External, AddressRole::Headless];
            let by = &by[..=usize::from(self.headless)];
            self.view
                .any_address_named(network, by, |it| self.names(it))
        };
        found.then_some(()).ok_or(Why::NoSuchAddress)
    }

    /// Adds PTR records to the Services with this external address, or else to the endpoints with
    /// this address.
    fn pointers(&self, answer: &mut AnswerBuilder<'_>, address: IpAddr) -> bool {
        let view = &self.view;
        let zone = view.zones.primary().as_ref();
        let (mut found, mut seen) = (false, SeenTargets::default());
        for entry in view.cluster.services_at(address) {
            let Some(service) = entry.service.as_deref() else {
                continue;
            };
            let external = service.external.as_deref();
            if external.is_some_and(|external| external.addresses.contains(&address))
                && view.serves_namespace(&entry.key.namespace)
            {
                found = true;
                let target = TargetName::external(&service.name, &service.namespace, zone);
                if target.is_some_and(|target| !answer.new_pointer(target.name(), &mut seen)) {
                    break;
                }
            }
        }
        if found || !self.headless {
            return found;
        }
        for entry in view.entries_at(address, answer.budget) {
            let service = entry.service.as_deref();
            let shown =
                |it: &&Service| shows_endpoints(it) && view.serves_namespace(&entry.key.namespace);
            let target = service
                .filter(shown)
                .and_then(|it| TargetName::external(&it.name, &it.namespace, zone));
            let Some(mut target) = target else { continue };
            let endpoints = entry.endpoints();
            for endpoint in endpoints.filter(|it| it.ready && it.address == address) {
                let mut buffer = LabelBuffer::default();
                let name = EndpointName::of(endpoint, view.rules.endpoint_pod_names);
                if let Some(name) = target.below(name.label(&mut buffer)) {
                    found = true;
                    if !answer.new_pointer(name, &mut seen) {
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
        let mut shown = owners.filter(|entry| self.view.serves_namespace(&entry.key.namespace));
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

/// Adds the records of a Service, or of one of its ports, with external addresses. Host names are
/// used only if there are no addresses, since a CNAME must be the only record of its name (RFC 1034
/// section 3.6.2); of several, the first is used. Returns the name to resolve further.
fn exposed(
    answer: &mut AnswerBuilder<'_>,
    service: &Service,
    external: &ExternalAddresses,
    is_selected: impl Fn(&Port) -> bool,
) -> Option<Box<Name>> {
    let ports = service.ports.iter().filter(|port| is_selected(port));
    if !external.addresses.is_empty() {
        match answer.rtype {
            Type::A | Type::AAAA => answer.addresses(external.addresses.iter().copied()),
            Type::SRV => {
                let zone = answer.zone;
                let target = TargetName::external(&service.name, &service.namespace, zone);
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
            let is_followed =
                answer.rtype != Type::CNAME && !host.as_ref().eq_ignore_case(answer.qname);
            return is_followed.then(|| Box::new(*host));
        }
        _ => {}
    }
    None
}
