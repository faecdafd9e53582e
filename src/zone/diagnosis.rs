//! Texts that say why a name has no answer, with what the context needs to act: the nearest existing name,
//! ready and total endpoints, the ports that exist.
//!
//! A text is made only for a context, after the answer: nothing here is on the path of a successful one. It
//! reads the state anew, so it can be newer than the denial that it describes.

mod aliases;

use std::{net::IpAddr, time::Instant};

use super::{
    ClusterView, PodNames,
    endpoint::{parse_dashed, protocol},
    name::SplitName,
    name_kind::{NameKind, NameScope, PortName},
    nearest::{self, Searches},
};
use crate::{
    cluster::{Port, ServiceEntry, ServiceKind},
    query::Question,
    reply::{ReasonText, Reply, Why},
    wire::{NameRef, Rcode, Type},
};

/// Maximum number of namespaces in which a Service is looked for.
const MAX_NAMESPACES: usize = 1_000;
/// Maximum number of ports in a text.
const MAX_PORTS: usize = 4;

/// What texts may name (`hints`).
///
/// Any pod can send queries, and names of objects in other namespaces are not its business
/// (kubernetes/kubernetes#81137).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hints {
    /// Objects of all namespaces.
    Full,
    /// Objects of the queried namespace, and of the client's own, if that is known.
    #[default]
    Namespace,
    /// No objects: only what the query itself names.
    None,
}

/// For whom a text is, and what it may cost.
pub struct DiagnosisContext<'a> {
    /// The client's address: its pod's namespace is its own.
    pub client: IpAddr,
    /// The present.
    pub now: Instant,
    /// Searches for similar names.
    pub searches: &'a mut Searches,
}

/// A denial under description.
struct Diagnosis<'a, 'r> {
    view: &'a ClusterView,
    context: &'a mut DiagnosisContext<'r>,
    text: &'a mut ReasonText,
}

impl ClusterView {
    /// Describes in `text` why `reply`, a negative or failed one, does not answer `question`. Returns false
    /// if this view has nothing to say: names outside its zones, unless they are names of the cluster
    /// without the zone.
    pub fn diagnose(
        &self,
        question: &Question,
        reply: &Reply,
        context: &mut DiagnosisContext<'_>,
        text: &mut ReasonText,
    ) -> bool {
        let labels = SplitName::new(&question.name, &question.lower);
        let mut diagnosis = Diagnosis {
            view: self,
            context,
            text,
        };
        let Some(matched) = self.zones.find(&labels) else {
            return diagnosis.incomplete(question, reply);
        };
        let is_none = self.rules.hints == Hints::None && reply.why != Why::NotSynced;
        if is_none && reply.authoritative {
            // The same for all names, so that it tells no more than the response code.
            diagnosis.text.push(match reply.rcode {
                Rcode::NXDOMAIN => "no such name",
                _ => Why::ClusterNoData.text(),
            });
            return true;
        }
        match reply.why {
            Why::NotSynced => diagnosis.not_synced(),
            Why::EndlessAlias => diagnosis.endless_alias(question, reply),
            Why::ClusterNoData => diagnosis.no_data(question.rtype, matched.kind()),
            Why::NoSuchForm => {
                let is_named = !matched.zone().is_reverse() && !matched.zone().is_multicluster();
                diagnosis.no_form(question, is_named.then(|| matched.suffix()));
            }
            why => return diagnosis.denial(matched.kind(), why, reply.rcode),
        }
        true
    }
}

impl Diagnosis<'_, '_> {
    /// Whether the text may name objects of the queried namespace.
    fn names_objects(&self) -> bool {
        self.view.rules.hints != Hints::None
    }

    fn not_synced(&mut self) {
        self.text.push("objects of the cluster not listed yet:");
        for (at, kind) in self.view.cluster.unsynced().enumerate() {
            self.text.push(if at == 0 { " " } else { ", " });
            self.text.push(kind.resource());
        }
        let seconds = self.view.cluster.stats().uptime().as_secs();
        self.text.push("; started ");
        self.text.number(seconds);
        self.text.push(" s ago");
    }

    /// The name exists, without records of the type.
    fn no_data(&mut self, rtype: Type, kind: NameKind<'_>) {
        match kind {
            NameKind::Service {
                namespace,
                service,
                scope,
            } => {
                let entry = self.view.cluster.entry(namespace, service);
                let object = entry.as_ref().and_then(|entry| entry.service.as_deref());
                self.text.push("service ");
                self.text.quoted(service);
                let family = match rtype {
                    Type::A => "IPv4",
                    Type::AAAA => "IPv6",
                    _ => "",
                };
                let is_named = object.is_some_and(|it| it.kind == ServiceKind::ExternalName);
                if is_named {
                    self.text.push(" is an ExternalName");
                } else if family.is_empty() || !matches!(scope, NameScope::All) {
                    self.text.push(" exists, without records of this type");
                } else {
                    self.text.push(" has no ");
                    self.text.push(family);
                    self.text.push(" address");
                }
            }
            NameKind::Namespace(namespace) | NameKind::PodNamespace(namespace) => {
                self.text.quoted(namespace);
                self.text.push(" is a namespace: put a name in front of it");
            }
            _ => self
                .text
                .push("the name exists, without records of this type"),
        }
    }

    fn denial(&mut self, kind: NameKind<'_>, why: Why, rcode: Rcode) -> bool {
        match (why, kind) {
            (Why::NoSuchNamespace, _) => self.no_namespace(kind),
            (
                Why::NoSuchService,
                NameKind::Service {
                    namespace, service, ..
                },
            ) => self.no_service(namespace, service),
            (
                Why::NoSuchService,
                NameKind::ServiceImport {
                    namespace, import, ..
                },
            ) => self.no_import(namespace, import),
            (
                _,
                NameKind::Service {
                    namespace,
                    service,
                    scope,
                },
            ) => return self.within_service(namespace, service, scope, why),
            (Why::NoSuchPod, NameKind::PodNamespace(namespace)) => {
                self.pods_are_disabled(namespace);
            }
            (Why::NoSuchPod, NameKind::Pod { namespace, label }) => self.no_pod(namespace, label),
            (Why::NoSuchAddress, NameKind::Address(network)) => self.no_address(network.addr()),
            // It fell through.
            (Why::Upstream | Why::Cached, NameKind::Address(network))
                if rcode == Rcode::NXDOMAIN =>
            {
                self.no_address(network.addr());
                self.text.push("; no upstream name either");
            }
            _ => return false,
        }
        true
    }

    fn no_address(&mut self, address: IpAddr) {
        let mut entries = self.view.cluster.entries_at(address);
        let has_endpoint = entries.any(|entry| entry.endpoints().any(|it| it.address == address));
        if has_endpoint {
            self.text.push("no ready endpoint has the address ");
        } else {
            self.text.push("no Service or endpoint has the address ");
        }
        self.text.push(&address.to_string());
    }

    fn no_namespace(&mut self, kind: NameKind<'_>) {
        let (namespace, service) = match kind {
            NameKind::Namespace(namespace)
            | NameKind::PodNamespace(namespace)
            | NameKind::Pod { namespace, .. } => (namespace, None),
            NameKind::Service {
                namespace, service, ..
            }
            | NameKind::ServiceImport {
                namespace,
                import: service,
                ..
            } => (namespace, Some(service)),
            _ => return self.text.push("no such namespace"),
        };
        self.text.push("namespace ");
        self.text.quoted(namespace);
        let view = self.view;
        if view.rules.hints == Hints::Full && view.cluster.namespace(namespace) {
            return self.text.push(" is not served (see the option namespaces)");
        }
        self.text.push(" not found");
        if view.rules.hints != Hints::Full {
            return;
        }
        // "payroll.web-service" for "web-service.payroll".
        if let Some(service) = service
            && self.has_service(service, namespace)
        {
            self.text.push("; swapped: ");
            self.text.push(namespace);
            self.text.push(".");
            return self.text.push(service);
        }
        let key = (std::ptr::from_ref(view).addr(), "", namespace);
        let exists = |name: &str| view.serves_namespace(name);
        self.nearest(key, namespace, exists);
    }

    fn no_service(&mut self, namespace: &str, service: &str) {
        self.text.push("service ");
        self.text.quoted(service);
        self.text.push(" not found in namespace ");
        self.text.quoted(namespace);
        let view = self.view;
        if self.names_objects() {
            let key = (std::ptr::from_ref(view).addr(), namespace, service);
            let exists = |name: &str| has_service(view, namespace, name);
            if self.nearest(key, service, exists) {
                return;
            }
        }
        // Where only the client's own namespace may be named, it is the only one that is looked at.
        let own = view.namespace_of(self.context.client);
        let elsewhere = match view.rules.hints {
            Hints::Full => self.elsewhere(service),
            Hints::Namespace => own
                .filter(|own| **own != *namespace && self.has_service(own, service))
                .map(|own| own.to_string()),
            Hints::None => None,
        };
        if let Some(elsewhere) = elsewhere {
            self.text.push("; exists in namespace ");
            self.text.quoted(&elsewhere);
        }
    }

    fn no_import(&mut self, namespace: &str, import: &str) {
        self.text.push("ServiceImport ");
        self.text.quoted(import);
        self.text.push(" not found in namespace ");
        self.text.quoted(namespace);
        let view = self.view;
        let key = (std::ptr::from_ref(view).addr(), namespace, import);
        self.nearest(key, import, |name| {
            let entry = view.cluster.entry(namespace, name);
            view.serves_namespace(namespace) && entry.is_some_and(|entry| entry.import.is_some())
        });
    }

    /// A namespace with a Service of this name.
    fn elsewhere(&mut self, service: &str) -> Option<String> {
        let view = self.view;
        let key = (std::ptr::from_ref(view).addr(), "*", service);
        let search = || {
            let mut namespaces = view.cluster.namespaces().take(MAX_NAMESPACES);
            let found = namespaces.find(|it| has_service(view, &it.name, service))?;
            Some(Box::from(&*found.name))
        };
        let (now, searches) = (self.context.now, &mut self.context.searches);
        let found = searches.find(now, key, MAX_NAMESPACES, search);
        found.map(str::to_owned)
    }

    /// Appends the nearest existing name; false if there is none.
    fn nearest(
        &mut self,
        key: (usize, &str, &str),
        name: &str,
        exists: impl Fn(&str) -> bool,
    ) -> bool {
        let (now, searches) = (self.context.now, &mut self.context.searches);
        let search = || nearest::nearest(name, exists);
        let Some(found) = searches.find(now, key, nearest::cost(name), search) else {
            return false;
        };
        self.text.push("; nearest: ");
        self.text.quoted(found);
        true
    }

    fn has_service(&self, namespace: &str, service: &str) -> bool {
        has_service(self.view, namespace, service)
    }

    /// The Service exists, and what is asked for below it does not.
    fn within_service(
        &mut self,
        namespace: &str,
        service: &str,
        scope: NameScope<'_>,
        why: Why,
    ) -> bool {
        let entry = self.view.cluster.entry(namespace, service);
        let Some(entry) = entry.as_deref() else {
            return false;
        };
        let may_name = self.names_objects();
        match (why, scope) {
            (Why::NoReadyEndpoint | Why::EmptyService, _) => {
                self.text.push(match why {
                    Why::EmptyService => "hidden (ignore empty_service): service ",
                    _ => "headless service ",
                });
                self.text.quoted(service);
                self.endpoints(entry);
            }
            (Why::EndpointNotReady, NameScope::Endpoint(label)) => {
                self.text.push("endpoint ");
                self.text.quoted(label);
                self.text.push(" of service ");
                self.text.quoted(service);
                self.text.push(" is not ready");
            }
            (Why::NoSuchEndpoint, NameScope::Endpoint(label)) => {
                self.text.push("service ");
                self.text.quoted(service);
                self.text.push(" has no endpoint ");
                self.text.quoted(label);
                if may_name {
                    self.endpoints(entry);
                }
            }
            (Why::NoSuchPort, NameScope::Port(PortName { port, protocol })) => {
                self.text.push("service ");
                self.text.quoted(service);
                self.text.push(" has no port _");
                self.text.name(port);
                self.text.push("._");
                self.text.name(protocol);
                if may_name {
                    self.ports(entry);
                }
            }
            _ => return false,
        }
        true
    }

    /// `: 1 of 3 endpoints ready`
    fn endpoints(&mut self, entry: &ServiceEntry) {
        let (mut ready, mut all) = (0, 0);
        for endpoint in entry.endpoints() {
            all += 1;
            ready += u64::from(endpoint.ready);
        }
        self.text.push(": ");
        self.text.number(ready);
        self.text.push(" of ");
        self.text.number(all);
        self.text.push(" endpoints ready");
    }

    /// `; has _http._tcp, _metrics._tcp`
    fn ports(&mut self, entry: &ServiceEntry) {
        let service = entry.service.as_deref();
        let of_service = service.into_iter().flat_map(|service| service.ports.iter());
        let of_slices = entry.slices.iter().flat_map(|slice| slice.ports.iter());
        let mut listed: Vec<&Port> = Vec::new();
        for port in of_service.chain(of_slices) {
            let is_listed =
                |other: &&Port| other.name == port.name && protocol(other) == protocol(port);
            if port.name.is_empty() || listed.iter().any(is_listed) {
                continue;
            }
            if listed.len() == MAX_PORTS {
                return self.text.push(", ...");
            }
            self.text
                .push(if listed.is_empty() { "; has _" } else { ", _" });
            self.text.push(&port.name);
            self.text.push("._");
            self.text.push(protocol(port));
            listed.push(port);
        }
        if listed.is_empty() {
            self.text.push("; none of its ports has a name");
        }
    }

    fn pods_are_disabled(&mut self, namespace: &str) {
        if self.view.rules.pods == PodNames::Disabled {
            self.text
                .push("names of pods are disabled (option pods: insecure or verified)");
        } else {
            self.text.push("namespace ");
            self.text.quoted(namespace);
            self.text.push(" not found");
        }
    }

    fn no_pod(&mut self, namespace: &str, label: &str) {
        if self.view.rules.pods == PodNames::Disabled {
            return self.pods_are_disabled(namespace);
        }
        match parse_dashed(label) {
            None => {
                self.text.quoted(label);
                self.text
                    .push(" is no address with dashes, as in 10-244-1-7");
            }
            Some(address) => {
                self.text.push("no running pod of namespace ");
                self.text.quoted(namespace);
                self.text.push(" has the address ");
                self.text.push(&address.to_string());
            }
        }
    }

    /// A name that no object can have, under `zone` if that names Services.
    fn no_form(&mut self, question: &Question, zone: Option<NameRef<'_>>) {
        let name = question.lower.as_ref();
        let mut labels = name.labels().map(text);
        if let (Some(zone), Some(service), Some(namespace)) = (zone, labels.next(), labels.next())
            && name.label_count() == zone.label_count() + 2
            && self.has_service(namespace, service)
        {
            self.text.push("svc is missing; ");
            return self.complete_name(service, namespace, zone);
        }
        self.text
            .push("no Service, endpoint, port or pod has a name of this form; see the search list");
    }

    fn complete_name(&mut self, service: &str, namespace: &str, zone: NameRef<'_>) {
        for part in ["complete: ", service, ".", namespace, ".svc."] {
            self.text.push(part);
        }
        self.text.push(&zone.to_string());
    }

    /// A name outside the zones that would be one of the cluster's with more labels: sent without the search
    /// list, or with a part of the zone.
    fn incomplete(&mut self, question: &Question, reply: &Reply) -> bool {
        // A failure is a cause of its own.
        let is_denial = matches!(reply.rcode, Rcode::NXDOMAIN | Rcode::NOERROR);
        let is_elsewhere = matches!(reply.why, Why::Upstream | Why::Cached | Why::Stale);
        if !is_denial || !is_elsewhere || !self.names_objects() {
            return false;
        }
        let mut labels = question.lower.as_ref().labels();
        let zone = *self.view.zones.primary();
        let Some(service) = labels.next().map(text) else {
            return false;
        };
        let namespace = labels.next().map(text);
        // What follows must be the beginning of `svc.ZONE`.
        let mut rest = std::iter::once(&b"svc"[..]).chain(zone.as_ref().labels());
        if !labels.all(|label| rest.next() == Some(label)) {
            return false;
        }
        let own = self.view.namespace_of(self.context.client);
        let namespace = match namespace {
            Some(namespace) => namespace,
            None if self.view.rules.hints == Hints::Full => own.as_deref().unwrap_or("default"),
            None => own.as_deref().unwrap_or_default(),
        };
        if !self.has_service(namespace, service) {
            return false;
        }
        self.text.push("name without the search list; ");
        self.complete_name(service, namespace, zone.as_ref());
        true
    }
}

/// A label as a string. Invalid UTF-8 becomes empty, which no object is named.
fn text(label: &[u8]) -> &str {
    std::str::from_utf8(label).unwrap_or_default()
}

fn has_service(view: &ClusterView, namespace: &str, service: &str) -> bool {
    let has_object = |entry: &ServiceEntry| entry.service.is_some();
    view.serves_namespace(namespace)
        && view
            .cluster
            .entry(namespace, service)
            .is_some_and(|entry| has_object(&entry))
}
