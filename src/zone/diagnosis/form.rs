//! Names of a wrong form: labels that are missing, doubled or misspelt.

use super::{BELOW_SERVICE, Diagnosis, Hints, NAMESPACE, SERVICE};
use crate::{
    cluster::ServiceEntry,
    query::Question,
    reply::{Reply, Why},
    wire::{NameRef, Rcode},
    zone::{
        endpoint::EndpointMatcher,
        name::ZoneMatch,
        name_kind::{NameKind, NameScope},
    },
};

/// Edits by which a zone may be misspelt.
const MAX_EDITS: usize = 2;
/// Minimum length of a zone that may be misspelt, in bytes: shorter ones resemble everything.
const MIN_ZONE: usize = 5;

impl Diagnosis<'_, '_> {
    /// A name that no object can have.
    pub(super) fn no_form(&mut self, matched: &ZoneMatch<'_, '_>) {
        let zone = matched.zone();
        let label = |position| matched.left_of_zone(position).map(text);
        if zone.is_reverse() || zone.is_multicluster() {
            return self.no_such_form();
        }
        if let (Some(service), None) = (label(0), label(1))
            && let Some(namespace) = self.namespace_with(service)
        {
            self.text.push("namespace and svc are missing; ");
            return self.complete_name(&[service, &namespace], matched.suffix());
        }
        if let (Some(namespace), Some(service), None) = (label(0), label(1), label(2))
            && self.has_service(namespace, service)
        {
            self.text.push("svc is missing; ");
            return self.complete_name(&[service, namespace], matched.suffix());
        }
        if let (Some("svc"), Some(namespace), Some(service)) =
            (label(0), label(NAMESPACE), label(SERVICE))
            && self.has_service(namespace, service)
        {
            return self.names_below(service);
        }
        self.no_such_form();
    }

    fn no_such_form(&mut self) {
        self.text
            .push("no Service, endpoint, port or pod has a name of this form; see the search list");
    }

    /// `complete: LABELS.svc.ZONE`
    pub(super) fn complete_name(&mut self, labels: &[&str], zone: NameRef<'_>) {
        self.text.push("complete: ");
        for label in labels {
            self.text.name(label);
            self.text.push(".");
        }
        self.text.push("svc.");
        self.text.push(&zone.to_string());
    }

    /// `NAME.svc.svc.ZONE`, which is a name in the namespace `svc`.
    pub(super) fn doubled_svc(&mut self, kind: NameKind<'_>) -> bool {
        let NameKind::Service {
            namespace: "svc",
            service: namespace,
            scope,
        } = kind
        else {
            return false;
        };
        self.text.push("svc is doubled");
        if let (NameScope::Endpoint(service), Some(matched)) = (scope, self.matched)
            && self.names_objects()
            && self.has_service(namespace, service)
        {
            self.text.push("; ");
            self.complete_name(&[service, namespace], matched.suffix());
        }
        true
    }

    /// `SERVICE.svc.ZONE`, which is the name of a namespace.
    pub(super) fn missing_namespace(&mut self, kind: NameKind<'_>) -> bool {
        let (NameKind::Namespace(service), Some(matched)) = (kind, self.matched) else {
            return false;
        };
        if matched.zone().is_multicluster() {
            return false;
        }
        let Some(namespace) = self.namespace_with(service) else {
            return false;
        };
        self.text.push("namespace is missing; ");
        self.complete_name(&[service, &namespace], matched.suffix());
        true
    }

    /// A namespace that has a Service of this name: the client's own, or if it may be named any other.
    fn namespace_with(&mut self, service: &str) -> Option<String> {
        let own = self.own_namespace();
        let own = own.filter(|own| self.names_objects() && self.has_service(own, service));
        match own {
            Some(own) => Some(own.to_string()),
            None if self.view.rules.hints == Hints::Full => self.elsewhere(service),
            None => None,
        }
    }

    /// A name outside the zones: one that would be of the cluster's with other labels.
    pub(super) fn outside(&mut self, question: &Question, reply: &Reply) -> bool {
        let is_denial = matches!(reply.rcode, Rcode::NXDOMAIN | Rcode::NOERROR);
        let is_upstreams = matches!(reply.why, Why::Upstream | Why::Cached | Why::Stale);
        // The failure of an upstream is a cause of its own.
        let has_no_zone = matches!(reply.why, Why::NoPluginAnswered | Why::NoZone);
        let is_denied = has_no_zone || is_denial && is_upstreams;
        if !self.names_objects() || !is_denied {
            return false;
        }
        !has_no_zone && self.incomplete(question) || self.misspelt_zone(question)
    }

    /// A name that was sent without the search list, or with a part of the zone.
    fn incomplete(&mut self, question: &Question) -> bool {
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
        let own = self.own_namespace();
        let namespace = match namespace {
            Some(namespace) => namespace,
            None if self.view.rules.hints == Hints::Full => own.as_deref().unwrap_or("default"),
            None => own.as_deref().unwrap_or_default(),
        };
        if !self.has_service(namespace, service) {
            return false;
        }
        self.text.push("name without the search list; ");
        self.complete_name(&[service, namespace], zone.as_ref());
        true
    }

    /// `NAME.svc.ZONE` or `NAME.pod.ZONE` with a zone that nearly is a served one.
    fn misspelt_zone(&mut self, question: &Question) -> bool {
        let mut suffix = question.lower.as_ref().parent();
        while let Some(name) = suffix {
            suffix = name.parent();
            if !matches!(name.labels().next(), Some(b"svc" | b"pod")) {
                continue;
            }
            let Some(given) = suffix.map(|given| given.to_string()) else {
                return false;
            };
            let mut zones = self.view.zones.iter().filter(|zone| !zone.is_reverse());
            let near = zones.find_map(|zone| {
                let zone = zone.name().to_string();
                let is_near = zone.len() >= MIN_ZONE
                    && zone.len().abs_diff(given.len()) <= MAX_EDITS
                    && strsim::osa_distance(&zone, &given) <= MAX_EDITS;
                is_near.then_some(zone)
            });
            let Some(near) = near else {
                continue;
            };
            for part in ["zone ", &given, " is not served; nearest: ", &near] {
                self.text.push(part);
            }
            return true;
        }
        false
    }

    /// `LABEL.ENDPOINT.SERVICE`, which has the form of a port's name without its underscores. False for other names.
    pub(super) fn below_endpoint(&mut self, entry: &ServiceEntry, service: &str) -> bool {
        let label = self.matched.and_then(|it| it.left_of_zone(BELOW_SERVICE));
        let Some(label) = label.map(text) else {
            return false;
        };
        if label.starts_with('_') || matches!(label, "tcp" | "udp" | "sctp") {
            return false;
        }
        let (by_pod, matcher) = (
            self.view.rules.endpoint_pod_names,
            EndpointMatcher::new(label),
        );
        let mut endpoints = entry.endpoints();
        if !endpoints.any(|endpoint| matcher.matches(endpoint, by_pod)) {
            self.names_below(service);
            return true;
        }
        self.text.push("no name is below the endpoint ");
        self.quoted(label, BELOW_SERVICE);
        self.text.push(" of service ");
        self.quoted(service, SERVICE);
        true
    }

    fn names_below(&mut self, service: &str) {
        self.text.push("names below service ");
        self.quoted(service, SERVICE);
        self.text.push(" are ENDPOINT or _PORT._PROTOCOL");
    }
}

/// A label as a string. Invalid UTF-8 becomes empty, which no object is named.
fn text(label: &[u8]) -> &str {
    std::str::from_utf8(label).unwrap_or_default()
}
