//! The objects that names stand for, as texts.

use std::fmt::Write;

use super::{
    ClusterView,
    endpoint::{parse_dashed, protocol},
    name::SplitName,
    name_kind::NameKind,
};
use crate::{
    cluster::{ServiceEntry, ServiceKind},
    query::Question,
};

impl ClusterView {
    /// The object that the queried name stands for: kind, namespace, name and what its records are made of; or
    /// which object would have to exist. `None` for names that no object has.
    pub fn describe(&self, question: &Question) -> Option<String> {
        if !self.cluster.is_ready() {
            return None;
        }
        let labels = SplitName::new(&question.name, &question.lower);
        match self.zones.find(&labels)?.kind() {
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
                Some(entry.and_then(service_text).unwrap_or_else(|| {
                    let (namespace, service) =
                        (namespace.escape_default(), service.escape_default());
                    format!("none; there would have to be a Service {namespace}/{service}")
                }))
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
                entries.find_map(|entry| service_text(&entry))
            }
            _ => None,
        }
    }
}

fn service_text(entry: &ServiceEntry) -> Option<String> {
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
    if service.kind == ServiceKind::ExternalName {
        return Some(text);
    }
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
    Some(text)
}
