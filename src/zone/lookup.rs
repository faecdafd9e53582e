//! What is there: namespaces, Services with their endpoints and ports, pods.

use std::net::IpAddr;

use super::{
    Answer, Known, PodNames, View,
    endpoint::{Only, Selection, Sought, is_protocol_of, parse_dashed},
    form::{Part, TopologyZone, ZONAL},
    room::RECORD,
    target::Target,
};
use crate::{
    cluster::{
        EndpointRef, EndpointSlice, Port, Service, ServiceEntry, ServiceImport, ServiceKind,
    },
    reply::Why,
    wire::Type,
};

/// What a Service and a ServiceImport have in common.
#[derive(Clone, Copy)]
pub struct Front<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// Its own addresses; none where it is reached by its endpoints.
    pub addresses: &'a [IpAddr],
    pub ports: &'a [Port],
}

impl<'a> From<&'a Service> for Front<'a> {
    fn from(service: &'a Service) -> Self {
        Self {
            namespace: &service.namespace,
            name: &service.name,
            addresses: &service.cluster_ips,
            ports: &service.ports,
        }
    }
}

impl<'a> From<&'a ServiceImport> for Front<'a> {
    fn from(import: &'a ServiceImport) -> Self {
        Self {
            namespace: &import.namespace,
            name: &import.name,
            addresses: &import.ips,
            ports: &import.ports,
        }
    }
}

impl View {
    /// Whether a namespace exists and is shown.
    pub(super) fn shows(&self, namespace: &str) -> bool {
        let listed = &self.rules.namespaces;
        (listed.is_empty() || listed.iter().any(|it| **it == *namespace))
            && self.cluster.namespace(namespace)
    }

    /// The endpoints of an entry that are meant.
    pub(super) fn select<'a>(&self, entry: &'a ServiceEntry, only: Only<'a>) -> Selection<'a> {
        Selection {
            slices: &entry.slices,
            only,
            by_pod: self.rules.endpoint_pod_names,
            imported: false,
        }
    }
}

impl Answer<'_> {
    /// `NS.svc`
    pub(super) fn namespace(&self, namespace: &str) -> Result<(), Why> {
        let shown = self.view.shows(namespace);
        shown.then_some(()).ok_or(Why::NoSuchNamespace)
    }

    /// `NS.pod`
    pub(super) fn pod_namespace(&self, namespace: &str) -> Result<(), Why> {
        if self.view.rules.pods == PodNames::Disabled {
            return Err(Why::NoSuchPod);
        }
        self.namespace(namespace)
    }

    /// `IP.NS.pod`
    pub(super) fn pod(&mut self, namespace: &str, label: &str) -> Result<(), Why> {
        self.pod_namespace(namespace)?;
        let address = parse_dashed(label).ok_or(Why::NoSuchPod)?;
        let verified = self.view.rules.pods == PodNames::Verified;
        if verified && self.view.cluster.pod(namespace, address).is_none() {
            return Err(Why::NoSuchPod);
        }
        self.address(address);
        Ok(())
    }

    /// `SVC.NS.svc` and below.
    pub(super) fn service(&mut self, namespace: &str, name: &str, part: Part<'_>) -> Known {
        self.namespace(namespace)?;
        let entry = self.view.cluster.entry(namespace, name);
        let entry = entry.as_deref().ok_or(Why::NoSuchService)?;
        let service = entry.service.as_deref().ok_or(Why::NoSuchService)?;
        let front = Front::from(service);
        match (service.kind, part) {
            (ServiceKind::ExternalName, Part::Whole) => return self.alias(service),
            (ServiceKind::ExternalName, Part::Endpoint(_)) => return Err(Why::NoSuchEndpoint),
            (ServiceKind::ExternalName, Part::Port(_)) => return Err(Why::NoSuchPort),
            (ServiceKind::Headless, Part::Near { zone, elsewhere }) if self.view.rules.zonal => {
                self.near(front, entry, zone, elsewhere);
            }
            // Every topology zone's name exists below, so these do (RFC 8020 §2).
            (ServiceKind::Headless, Part::Zonal) if self.view.rules.zonal => {}
            (ServiceKind::Headless, Part::Endpoint(label))
                if self.view.rules.zonal && label.as_bytes() == ZONAL => {}
            (_, Part::Near { .. } | Part::Zonal | Part::Member { .. }) => {
                return Err(Why::NoSuchForm);
            }
            (ServiceKind::ClusterIp, _) if self.is_hidden(entry) => return Err(Why::EmptyService),
            (ServiceKind::ClusterIp, Part::Whole) => self.by_own_addresses(front, |_| true),
            (ServiceKind::ClusterIp, Part::Port(port)) => {
                if !service.ports.iter().any(|it| port.is(it)) {
                    return Err(Why::NoSuchPort);
                }
                self.by_own_addresses(front, |it| port.is(it));
            }
            (ServiceKind::Headless, Part::Whole) => {
                let all = self.view.select(entry, Only::All);
                self.by_endpoints(self.target(front), all, Why::NoReadyEndpoint)?;
            }
            (ServiceKind::Headless, Part::Port(port)) => {
                let missing = if is_up(entry) {
                    Why::NoSuchPort
                } else {
                    Why::NoReadyEndpoint
                };
                let with_port = self.view.select(entry, Only::Port(port));
                self.by_endpoints(self.target(front), with_port, missing)?;
            }
            (_, Part::Endpoint(label)) => {
                self.endpoint(self.target(front), service, entry, label)?;
            }
        }
        Ok(None)
    }

    /// Whether `ignore empty_service` hides a Service.
    fn is_hidden(&self, entry: &ServiceEntry) -> bool {
        self.view.rules.ignore_empty_service && !is_up(entry)
    }

    /// A Service, or one of its ports, that is reached by its cluster addresses. It exists though
    /// nothing may listen.
    pub(super) fn by_own_addresses(&mut self, front: Front<'_>, is_meant: impl Fn(&Port) -> bool) {
        match self.rtype {
            Type::A | Type::AAAA => self.addresses(front.addresses.iter().copied()),
            Type::SRV => {
                let ports = front.ports.iter().filter(|port| is_meant(port));
                if let Some(target) = self.target(front) {
                    self.service_srv(target.name(), front.addresses, ports);
                }
            }
            _ => {}
        }
    }

    /// The name in the cluster.
    pub(super) fn target(&self, front: Front<'_>) -> Option<Target> {
        Target::service(front.name, front.namespace, self.zone)
    }

    /// Ready endpoints, below the name of their Service. Without any, their common name does not
    /// exist (specification, §2.4).
    pub(super) fn by_endpoints(
        &mut self,
        target: Option<Target>,
        selection: Selection<'_>,
        missing: Why,
    ) -> Result<(), Why> {
        if selection.endpoints().next().is_none() {
            return Err(missing);
        }
        self.of_endpoints(target, selection);
        Ok(())
    }

    fn of_endpoints(&mut self, target: Option<Target>, selection: Selection<'_>) {
        match self.rtype {
            Type::A => self.endpoint_addresses(selection, RECORD + 4),
            Type::AAAA => self.endpoint_addresses(selection, RECORD + 16),
            Type::SRV => {
                if let Some(target) = target {
                    self.endpoint_srv(target, selection);
                }
            }
            _ => {}
        }
    }

    /// Addresses of endpoints, of which each takes so many bytes.
    fn endpoint_addresses(&mut self, selection: Selection<'_>, each: usize) {
        let (endpoints, _) = selection.count();
        let of = |(_, endpoint): (&EndpointSlice, EndpointRef<'_>)| endpoint.address;
        match self.room.begin(endpoints, endpoints.saturating_mul(each)) {
            None => self.addresses(selection.endpoints().map(of)),
            Some(at) => self.addresses(selection.endpoints_from(at).map(of)),
        }
    }

    /// `TZ.pin._zone.SVC.NS.svc`, or with `prefer`: the name exists, whatever the topology zone.
    fn near(
        &mut self,
        front: Front<'_>,
        entry: &ServiceEntry,
        zone: TopologyZone<'_>,
        elsewhere: bool,
    ) {
        let near = self.view.select(entry, Only::Near(zone));
        let selection = if elsewhere && near.endpoints().next().is_none() {
            self.view.select(entry, Only::All)
        } else {
            near
        };
        self.of_endpoints(self.target(front), selection);
    }

    /// `EP.SVC.NS.svc`, or the protocol alone above names of ports, which exists for their sake
    /// (RFC 8020 §2).
    pub(super) fn endpoint(
        &mut self,
        target: Option<Target>,
        service: &Service,
        entry: &ServiceEntry,
        label: &str,
    ) -> Result<(), Why> {
        let sought = Sought::new(label);
        let named = self.view.select(entry, Only::Named(sought));
        let missing = self.by_endpoints(target, named, Why::NoSuchEndpoint);
        let Err(why) = missing else { return Ok(()) };
        let is_protocol = match service.kind {
            ServiceKind::ClusterIp => is_protocol_of(label, &*service.ports),
            _ => entry.slices.iter().any(|slice| {
                is_protocol_of(label, &*slice.ports) && slice.ready().next().is_some()
            }),
        };
        if is_protocol {
            return Ok(());
        }
        let by_pod = self.view.rules.endpoint_pod_names;
        if entry.endpoints().any(|it| sought.names(it, by_pod)) {
            return Err(Why::EndpointNotReady);
        }
        Err(why)
    }
}

/// Whether any endpoint is ready.
pub(super) fn is_up(entry: &ServiceEntry) -> bool {
    entry.endpoints().any(|endpoint| endpoint.ready)
}
