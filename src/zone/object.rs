//! The objects that names stand for, as texts.

use std::{fmt::Write, time::SystemTime};

use super::{
    ClusterView,
    endpoint::{parse_dashed, protocol},
    name::SplitName,
    name_kind::NameKind,
};
use crate::{
    cluster::{BucketRef, Kind, Service, ServiceEntry, ServiceKind, Tagged},
    query::Question,
    wire::Name,
};

impl ClusterView {
    /// The object that the queried name stands for: kind, namespace, name and what its records are made of; or
    /// which object would have to exist. `None` for names that no object has. `now` is for ages.
    pub fn describe(&self, question: &Question, now: SystemTime) -> Option<String> {
        if !self.cluster.is_ready() {
            return None;
        }
        let labels = SplitName::new(&question.name, &question.lower);
        match self.zones.find(&labels)?.kind() {
            // Labels that are not UTF-8, which no object is named.
            NameKind::Namespace("")
            | NameKind::Service { namespace: "", .. }
            | NameKind::Service { service: "", .. } => None,
            NameKind::Namespace(namespace) => Some(if self.serves_namespace(namespace) {
                format!("Namespace {namespace}")
            } else {
                format!(
                    "none; there would have to be a Namespace {}",
                    namespace.escape_default()
                )
            }),
            NameKind::Service {
                namespace, service, ..
            } => {
                let entry = self.cluster.entry(namespace, service);
                let entry = entry
                    .as_deref()
                    .filter(|_| self.serves_namespace(namespace));
                Some(
                    entry
                        .and_then(|entry| service_text(entry, now))
                        .unwrap_or_else(|| {
                            let (namespace, service) =
                                (namespace.escape_default(), service.escape_default());
                            format!("none; there would have to be a Service {namespace}/{service}")
                        }),
                )
            }
            NameKind::Pod { namespace, label } => {
                let address = parse_dashed(label)?;
                Some(match self.cluster.pod(namespace, address) {
                    Some(pod) => format!("Pod {}/{}", pod.namespace, pod.name),
                    None => format!(
                        "none known; there would have to be a Pod in {} with the address {address}",
                        namespace.escape_default()
                    ),
                })
            }
            NameKind::Address(network) => {
                let address = network.addr();
                let mut entries = self.cluster.entries_at(address);
                entries.find_map(|entry| service_text(&entry, now))
            }
            _ => None,
        }
    }
}

impl ClusterView {
    /// Why the address of the Service that the name stands for is of no use: no endpoint is ready. Also of the
    /// Service that an ExternalName leads to.
    pub fn caution(&self, question: &Question) -> Option<String> {
        let entry = self.entry_of(question)?;
        let service = entry.service.as_deref()?;
        if service.kind != ServiceKind::ExternalName {
            return self.without_endpoints(&entry);
        }
        let target = Name::parse(service.external_name.as_deref()?).ok()?;
        // An alias of an alias is not followed here.
        let target = Question::new(target, question.rtype, question.class);
        self.without_endpoints(&*self.entry_of(&target)?)
    }

    /// The Service that the name stands for, or what is known of it.
    fn entry_of(&self, question: &Question) -> Option<BucketRef<Tagged<ServiceEntry>>> {
        let labels = SplitName::new(&question.name, &question.lower);
        let NameKind::Service {
            namespace, service, ..
        } = self.zones.find(&labels)?.kind()
        else {
            return None;
        };
        self.cluster.entry(namespace, service)
    }

    fn without_endpoints(&self, entry: &ServiceEntry) -> Option<String> {
        let service = entry.service.as_deref()?;
        let mut endpoints = entry.endpoints();
        // Without EndpointSlices nothing is known.
        if service.kind != ServiceKind::ClusterIp
            || !self.cluster.is_watched(Kind::EndpointSlice)
            || endpoints.any(|endpoint| endpoint.ready)
        {
            return None;
        }
        let (namespace, name) = (&service.namespace, &service.name);
        let why = match entry.endpoints().count() {
            0 => "it has no endpoint: no pod matches its selector, or its workload is scaled to 0"
                .to_owned(),
            count => {
                format!("none of its {count} endpoints is ready: see the readiness of its pods")
            }
        };
        Some(format!(
            "connections to Service {namespace}/{name} fail: {why}"
        ))
    }
}

fn service_text(entry: &ServiceEntry, now: SystemTime) -> Option<String> {
    let service = entry.service.as_deref()?;
    let mut text = format!("Service {}/{}", service.namespace, service.name);
    // Writing to a string cannot fail.
    let _ = match service.kind {
        ServiceKind::ExternalName => {
            let target = service.external_name.as_deref().unwrap_or_default();
            write!(text, ", ExternalName {target}")
        }
        ServiceKind::Headless => write!(text, ", headless"),
        ServiceKind::ClusterIp => {
            let addresses = service.cluster_ips.iter().map(ToString::to_string);
            let addresses: Vec<_> = addresses.collect();
            write!(text, ", cluster address {}", addresses.join(" "))
        }
    };
    if service.kind != ServiceKind::ExternalName {
        write_endpoints(&mut text, service, entry);
    }
    let revision = &service.revision;
    if revision.created > 0 {
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let age = now.saturating_sub(revision.created.into());
        let _ = write!(text, ", created {} ago", span(age));
    }
    if let Some(version) = revision.version() {
        let _ = write!(text, ", resource version {version}");
    }
    Some(text)
}

/// `, ports http 80/tcp, 2 of 2 endpoints ready`
fn write_endpoints(text: &mut String, service: &Service, entry: &ServiceEntry) {
    let ports = service.ports.iter().map(|port| {
        let number = port.number.map(|number| number.to_string());
        let name = if port.name.is_empty() { "" } else { &port.name };
        format!("{name} {}/{}", number.unwrap_or_default(), protocol(port))
    });
    let ports: Vec<_> = ports.map(|port| port.trim().to_owned()).collect();
    if !ports.is_empty() {
        let _ = write!(text, ", ports {}", ports.join(", "));
    }
    let ready = entry.endpoints().filter(|endpoint| endpoint.ready).count();
    let all = entry.endpoints().count();
    let _ = write!(text, ", {ready} of {all} endpoints ready");
}

/// A number of seconds in its largest unit of which there are two at least: `90 s`, `3 h`.
fn span(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("min", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= 2 * length);
    let (unit, length) = unit.unwrap_or(("s", 1));
    format!("{} {unit}", seconds / length)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        cluster::{Namespace, Object, ObjectRevision, load},
        wire::{Class, Name, Type},
        zone::{AnswerRules, Zones},
    };

    #[test]
    fn a_service_has_its_age_and_version_where_they_are_known() {
        let shown = |revision| {
            let service = Service {
                namespace: "shop".into(),
                name: "web".into(),
                kind: ServiceKind::ExternalName,
                cluster_ips: Box::default(),
                external_name: Some("example.com".into()),
                ports: [].into(),
                external: None,
                revision,
            };
            let namespace = Namespace {
                name: "shop".into(),
            };
            let cluster = load([Object::Namespace(namespace), Object::Service(service)]);
            let zones = Zones::new(&[Name::parse("cluster.local").unwrap()]).unwrap();
            let view = ClusterView::new(cluster, zones, AnswerRules::default(), Box::default());
            let name = Name::parse("web.shop.svc.cluster.local").unwrap();
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(20_000);
            let question = Question::new(name, Type::A, Class::IN);
            view.describe(&question, now).unwrap()
        };
        let before = "Service shop/web, ExternalName example.com";
        assert_eq!(shown(ObjectRevision::default()), before);
        assert_eq!(
            shown(ObjectRevision::new(9_200, Some(12_345))),
            format!("{before}, created 3 h ago, resource version 12345")
        );
    }

    #[test]
    fn spans_have_one_unit() {
        let spans = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(span);
        assert_eq!(
            spans,
            ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]
        );
    }
}
