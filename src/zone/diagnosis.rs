//! Texts that say why a name has no answer, with what the context needs to act: the nearest existing name,
//! ready and total endpoints, the ports that exist.
//!
//! A text is made only for a context, after the answer: nothing here is on the path of a successful one. It
//! reads the state anew, so it can be newer than the denial that it describes.

mod aliases;
mod form;
mod service;

use std::{net::IpAddr, sync::Arc, time::Instant};

use super::{
    ClusterView, PodNames,
    endpoint::parse_dashed,
    name::{SplitName, ZoneMatch},
    name_kind::{NameKind, NameScope},
    nearest::{self, Searches},
};
use crate::{
    cluster::{ServiceEntry, ServiceKind},
    query::Question,
    reply::{ReasonText, Reply, Why},
    wire::{Rcode, Type},
};

/// Maximum number of namespaces in which a Service is looked for.
const MAX_NAMESPACES: usize = 1_000;

/// Positions of labels, counted to the left from the zone.
const NAMESPACE: usize = 1;
/// See [`NAMESPACE`]. Also that of a pod's label.
const SERVICE: usize = 2;
/// See [`NAMESPACE`]. An endpoint, or the protocol of a port.
const BELOW_SERVICE: usize = 3;
/// See [`NAMESPACE`].
const PORT: usize = 4;

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
    /// The queried name, matched with its zone; `None` outside of the zones.
    matched: Option<&'a ZoneMatch<'a, 'a>>,
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
        let matched = self.zones.find(&labels);
        let mut diagnosis = Diagnosis {
            view: self,
            matched: matched.as_ref(),
            context,
            text,
        };
        let Some(matched) = &matched else {
            return diagnosis.outside(question, reply);
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
            Why::NoSuchForm => diagnosis.no_form(matched),
            why => return diagnosis.denial(matched.kind(), why, reply.rcode),
        }
        true
    }
}

impl<'a> Diagnosis<'a, '_> {
    /// `text`, or if that is empty the label at `position`.
    fn bytes<'t>(&self, text: &'t str, position: usize) -> &'t [u8]
    where
        'a: 't,
    {
        let label = self.matched.and_then(|it| it.left_of_zone(position));
        label.filter(|_| text.is_empty()).unwrap_or(text.as_bytes())
    }
}

impl Diagnosis<'_, '_> {
    /// Whether the text may name objects of the queried namespace.
    fn names_objects(&self) -> bool {
        self.view.rules.hints != Hints::None
    }

    /// Appends a label of the queried name in quotes: `text`, or if that is empty the bytes at `position`, which
    /// are not UTF-8.
    fn quoted(&mut self, text: &str, position: usize) {
        self.text.push("\"");
        self.text.name_bytes(self.bytes(text, position));
        self.text.push("\"");
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
                self.quoted(service, SERVICE);
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
                self.quoted(namespace, NAMESPACE);
                self.text.push(" is a namespace: put a name in front of it");
            }
            _ => self
                .text
                .push("the name exists, without records of this type"),
        }
    }

    fn denial(&mut self, kind: NameKind<'_>, why: Why, rcode: Rcode) -> bool {
        match (why, kind) {
            (Why::NoSuchNamespace, _) => {
                if !self.doubled_svc(kind) && !self.missing_namespace(kind) {
                    self.no_namespace(kind);
                }
            }
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
        self.quoted(namespace, NAMESPACE);
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
        self.quoted(service, SERVICE);
        self.text.push(" not found in namespace ");
        self.quoted(namespace, NAMESPACE);
        let view = self.view;
        if self.names_objects() {
            let key = (std::ptr::from_ref(view).addr(), namespace, service);
            let exists = |name: &str| has_service(view, namespace, name);
            if self.nearest(key, service, exists) {
                return;
            }
        }
        // Where only the client's own namespace may be named, it is the only one that is looked at.
        let own = self.own_namespace();
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
        self.quoted(import, SERVICE);
        self.text.push(" not found in namespace ");
        self.quoted(namespace, NAMESPACE);
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

    /// The namespace of the client's pod, if its address is not that of a node.
    fn own_namespace(&self) -> Option<Arc<str>> {
        self.view.namespace_of_pod(self.context.client)
    }

    fn has_service(&self, namespace: &str, service: &str) -> bool {
        has_service(self.view, namespace, service)
    }

    fn pods_are_disabled(&mut self, namespace: &str) {
        if self.view.rules.pods == PodNames::Disabled {
            self.text
                .push("names of pods are disabled (option pods: insecure or verified)");
        } else {
            self.text.push("namespace ");
            self.quoted(namespace, NAMESPACE);
            self.text.push(" not found");
        }
    }

    fn no_pod(&mut self, namespace: &str, label: &str) {
        if self.view.rules.pods == PodNames::Disabled {
            return self.pods_are_disabled(namespace);
        }
        match parse_dashed(label) {
            None => {
                self.quoted(label, SERVICE);
                self.text
                    .push(" is no address with dashes, as in 10-244-1-7");
            }
            Some(address) => {
                self.text.push("no running pod of namespace ");
                self.quoted(namespace, NAMESPACE);
                self.text.push(" has the address ");
                self.text.push(&address.to_string());
            }
        }
    }
}

fn has_service(view: &ClusterView, namespace: &str, service: &str) -> bool {
    let has_object = |entry: &ServiceEntry| entry.service.is_some();
    view.serves_namespace(namespace)
        && view
            .cluster
            .entry(namespace, service)
            .is_some_and(|entry| has_object(&entry))
}
