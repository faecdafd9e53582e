//! Lookup of namespaces, Services with their endpoints and ports, and pods.

use std::net::IpAddr;

use super::{
    AnswerBuilder, ClusterView, LookupResult, PodNames,
    budget::RECORD,
    endpoint::{EndpointFilter, EndpointMatcher, SelectedEndpoints, is_protocol_of, parse_dashed},
    name_kind::{NameScope, TopologyZone, ZONAL},
    target_name::TargetName,
};
use crate::{
    cluster::{
        EndpointRef, EndpointSlice, Port, Service, ServiceEntry, ServiceImport, ServiceKind,
    },
    reply::Why,
    wire::Type,
};

/// The fields that a Service and a ServiceImport have in common.
#[derive(Clone, Copy)]
pub struct ServiceFrontend<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// Its cluster IPs; empty if headless.
    pub addresses: &'a [IpAddr],
    pub ports: &'a [Port],
}

impl<'a> From<&'a Service> for ServiceFrontend<'a> {
    fn from(service: &'a Service) -> Self {
        Self {
            namespace: &service.namespace,
            name: &service.name,
            addresses: &service.cluster_ips,
            ports: &service.ports,
        }
    }
}

impl<'a> From<&'a ServiceImport> for ServiceFrontend<'a> {
    fn from(import: &'a ServiceImport) -> Self {
        Self {
            namespace: &import.namespace,
            name: &import.name,
            addresses: &import.ips,
            ports: &import.ports,
        }
    }
}

impl ClusterView {
    /// Whether a namespace exists and is served (`namespaces`).
    pub fn serves_namespace(&self, namespace: &str) -> bool {
        let listed = &self.rules.namespaces;
        (listed.is_empty() || listed.iter().any(|it| **it == *namespace))
            && self.cluster.namespace(namespace)
    }

    /// An entry's endpoints that match the filter.
    pub(super) fn select<'a>(
        &self,
        entry: &'a ServiceEntry,
        filter: EndpointFilter<'a>,
    ) -> SelectedEndpoints<'a> {
        SelectedEndpoints {
            slices: &entry.slices,
            filter,
            by_pod: self.rules.endpoint_pod_names,
            imported: false,
        }
    }
}

impl AnswerBuilder<'_> {
    /// `NS.svc`
    pub(super) fn namespace(&self, namespace: &str) -> Result<(), Why> {
        let shown = self.view.serves_namespace(namespace);
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
    pub(super) fn service(
        &mut self,
        namespace: &str,
        name: &str,
        scope: NameScope<'_>,
    ) -> LookupResult {
        self.namespace(namespace)?;
        let entry = self.view.cluster.entry(namespace, name);
        let entry = entry.as_deref().ok_or(Why::NoSuchService)?;
        let service = entry.service.as_deref().ok_or(Why::NoSuchService)?;
        let front = ServiceFrontend::from(service);
        match (service.kind, scope) {
            (ServiceKind::ExternalName, NameScope::All) => return self.alias(service),
            (ServiceKind::ExternalName, NameScope::Endpoint(_)) => return Err(Why::NoSuchEndpoint),
            (ServiceKind::ExternalName, NameScope::Port(_)) => return Err(Why::NoSuchPort),
            (ServiceKind::Headless, NameScope::Zonal { zone, fallback })
                if self.view.rules.zonal =>
            {
                self.zonal(front, entry, zone, fallback);
            }
            // Empty non-terminals above the names of topology zones (RFC 8020 section 2).
            (ServiceKind::Headless, NameScope::ZonalParent) if self.view.rules.zonal => {}
            (ServiceKind::Headless, NameScope::Endpoint(label))
                if self.view.rules.zonal && label.as_bytes() == ZONAL => {}
            (
                _,
                NameScope::Zonal { .. }
                | NameScope::ZonalParent
                | NameScope::ClusterEndpoint { .. },
            ) => {
                return Err(Why::NoSuchForm);
            }
            (ServiceKind::ClusterIp, _) if self.is_hidden(entry) => return Err(Why::EmptyService),
            (ServiceKind::ClusterIp, NameScope::All) => self.by_frontend(front, |_| true),
            (ServiceKind::ClusterIp, NameScope::Port(port)) => {
                if !service.ports.iter().any(|it| port.is(it)) {
                    return Err(Why::NoSuchPort);
                }
                self.by_frontend(front, |it| port.is(it));
            }
            (ServiceKind::Headless, NameScope::All) => {
                let all = self.view.select(entry, EndpointFilter::All);
                self.by_endpoints(self.target(front), all, Why::NoReadyEndpoint)?;
            }
            (ServiceKind::Headless, NameScope::Port(port)) => {
                let missing = if has_ready_endpoint(entry) {
                    Why::NoSuchPort
                } else {
                    Why::NoReadyEndpoint
                };
                let with_port = self.view.select(entry, EndpointFilter::Port(port));
                self.by_endpoints(self.target(front), with_port, missing)?;
            }
            (_, NameScope::Endpoint(label)) => {
                self.endpoint(self.target(front), service, entry, label)?;
            }
        }
        Ok(None)
    }

    /// Whether `ignore empty_service` hides a Service.
    fn is_hidden(&self, entry: &ServiceEntry) -> bool {
        self.view.rules.ignore_empty_service && !has_ready_endpoint(entry)
    }

    /// Adds the records of a Service with cluster IPs, or of one of its ports (DNS specification
    /// sections 2.3.1 and 2.3.2). The name exists even without ready endpoints.
    pub(super) fn by_frontend(
        &mut self,
        front: ServiceFrontend<'_>,
        is_selected: impl Fn(&Port) -> bool,
    ) {
        match self.rtype {
            Type::A | Type::AAAA => self.addresses(front.addresses.iter().copied()),
            Type::SRV => {
                let ports = front.ports.iter().filter(|port| is_selected(port));
                if let Some(target) = self.target(front) {
                    self.service_srv(target.name(), front.addresses, ports);
                }
            }
            _ => {}
        }
    }

    /// The Service's name.
    pub(super) fn target(&self, front: ServiceFrontend<'_>) -> Option<TargetName> {
        TargetName::service(front.name, front.namespace, self.zone)
    }

    /// Adds the records of ready endpoints. Without a ready endpoint the name does not exist (DNS
    /// specification section 2.4.1).
    pub(super) fn by_endpoints(
        &mut self,
        target: Option<TargetName>,
        selection: SelectedEndpoints<'_>,
        missing: Why,
    ) -> Result<(), Why> {
        if selection.endpoints().next().is_none() {
            return Err(missing);
        }
        self.endpoint_records(target, selection);
        Ok(())
    }

    fn endpoint_records(&mut self, target: Option<TargetName>, selection: SelectedEndpoints<'_>) {
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

    /// Adds the addresses of endpoints, each taking `each` bytes.
    fn endpoint_addresses(&mut self, selection: SelectedEndpoints<'_>, each: usize) {
        let (endpoints, _) = selection.count();
        let of = |(_, endpoint): (&EndpointSlice, EndpointRef<'_>)| endpoint.address;
        match self
            .budget
            .start_index(endpoints, endpoints.saturating_mul(each))
        {
            None => self.addresses(selection.endpoints().map(of)),
            Some(at) => self.addresses(selection.endpoints_from(at).map(of)),
        }
    }

    /// `TZ.pin._zone.SVC.NS.svc` or `TZ.prefer._zone.SVC.NS.svc`: the name exists for every
    /// topology zone.
    fn zonal(
        &mut self,
        front: ServiceFrontend<'_>,
        entry: &ServiceEntry,
        zone: TopologyZone<'_>,
        fallback: bool,
    ) {
        let near = self.view.select(entry, EndpointFilter::Zone(zone));
        let selection = if fallback && near.endpoints().next().is_none() {
            self.view.select(entry, EndpointFilter::All)
        } else {
            near
        };
        self.endpoint_records(self.target(front), selection);
    }

    /// `EP.SVC.NS.svc`, or a protocol label, which is an empty non-terminal above port names (RFC
    /// 8020 section 2).
    pub(super) fn endpoint(
        &mut self,
        target: Option<TargetName>,
        service: &Service,
        entry: &ServiceEntry,
        label: &str,
    ) -> Result<(), Why> {
        let matcher = EndpointMatcher::new(label);
        let named = self.view.select(entry, EndpointFilter::Named(matcher));
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
        if entry.endpoints().any(|it| matcher.matches(it, by_pod)) {
            return Err(Why::EndpointNotReady);
        }
        Err(why)
    }
}

/// Whether any endpoint is ready.
pub(super) fn has_ready_endpoint(entry: &ServiceEntry) -> bool {
    entry.endpoints().any(|endpoint| endpoint.ready)
}
