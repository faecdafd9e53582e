//! What is there: namespaces, Services with their endpoints and ports, pods.

use super::{
    Answer, Known, PodNames, View,
    endpoint::{Only, Selection, Sought, is_protocol_of, parse_dashed},
    name::Part,
    target::Target,
};
use crate::{
    cluster::{Entry, Port, Service, ServiceKind},
    reply::Why,
    wire::Type,
};

impl View {
    /// Whether a namespace exists and is shown.
    pub(super) fn shows(&self, namespace: &str) -> bool {
        let listed = &self.rules.namespaces;
        (listed.is_empty() || listed.iter().any(|it| **it == *namespace))
            && self.cluster.namespace(namespace)
    }

    /// The endpoints of an entry that are meant.
    pub(super) fn select<'a>(&self, entry: &'a Entry, only: Only<'a>) -> Selection<'a> {
        Selection {
            slices: &entry.slices,
            only,
            by_pod: self.rules.endpoint_pod_names,
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
        match (service.kind, part) {
            (ServiceKind::ExternalName, Part::Whole) => return self.alias(service),
            (ServiceKind::ExternalName, Part::Endpoint(_)) => return Err(Why::NoSuchEndpoint),
            (ServiceKind::ExternalName, Part::Port(_)) => return Err(Why::NoSuchPort),
            (ServiceKind::ClusterIp, _) if self.is_hidden(entry) => return Err(Why::EmptyService),
            (ServiceKind::ClusterIp, Part::Whole) => self.by_cluster_ip(service, |_| true),
            (ServiceKind::ClusterIp, Part::Port(port)) => {
                if !service.ports.iter().any(|it| port.is(it)) {
                    return Err(Why::NoSuchPort);
                }
                self.by_cluster_ip(service, |it| port.is(it));
            }
            (ServiceKind::Headless, Part::Whole) => {
                let target = self.target(service);
                self.by_endpoints(target, entry, Only::All, Why::NoReadyEndpoint)?;
            }
            (ServiceKind::Headless, Part::Port(port)) => {
                let missing = if is_up(entry) {
                    Why::NoSuchPort
                } else {
                    Why::NoReadyEndpoint
                };
                let target = self.target(service);
                self.by_endpoints(target, entry, Only::Port(port), missing)?;
            }
            (_, Part::Endpoint(label)) => {
                self.endpoint(self.target(service), service, entry, label)?;
            }
        }
        Ok(None)
    }

    /// Whether `ignore empty_service` hides a Service.
    fn is_hidden(&self, entry: &Entry) -> bool {
        self.view.rules.ignore_empty_service && !is_up(entry)
    }

    /// A Service, or one of its ports, that is reached by its cluster addresses. It exists though
    /// nothing may listen.
    fn by_cluster_ip(&mut self, service: &Service, is_meant: impl Fn(&Port) -> bool) {
        match self.rtype {
            Type::A | Type::AAAA => self.addresses(service.cluster_ips.iter().copied()),
            Type::SRV => {
                let ports = service.ports.iter().filter(|port| is_meant(port));
                if let Some(target) = self.target(service) {
                    self.service_srv(target.name(), &service.cluster_ips, ports);
                }
            }
            _ => {}
        }
    }

    /// The Service's name in the cluster.
    fn target(&self, service: &Service) -> Option<Target> {
        Target::service(&service.name, &service.namespace, self.zone)
    }

    /// Ready endpoints, below the name of their Service. Without any, their common name does not exist (specification, §2.4).
    pub(super) fn by_endpoints(
        &mut self,
        target: Option<Target>,
        entry: &Entry,
        only: Only<'_>,
        missing: Why,
    ) -> Result<(), Why> {
        let selection = self.view.select(entry, only);
        if selection.endpoints().next().is_none() {
            return Err(missing);
        }
        match self.rtype {
            Type::A | Type::AAAA => {
                self.addresses(selection.endpoints().map(|(_, endpoint)| endpoint.address));
            }
            Type::SRV => {
                if let Some(target) = target {
                    self.endpoint_srv(target, selection);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// `EP.SVC.NS.svc`, or the protocol alone above names of ports, which exists for their sake
    /// (RFC 8020 §2).
    pub(super) fn endpoint(
        &mut self,
        target: Option<Target>,
        service: &Service,
        entry: &Entry,
        label: &str,
    ) -> Result<(), Why> {
        let sought = Sought::new(label);
        let named = Only::Named(sought);
        let missing = self.by_endpoints(target, entry, named, Why::NoSuchEndpoint);
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
pub(super) fn is_up(entry: &Entry) -> bool {
    entry.endpoints().any(|endpoint| endpoint.ready)
}
