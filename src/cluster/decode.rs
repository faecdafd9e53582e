//! From an object's text to its slim form, without the whole ever being held: fields that are not
//! named here are skipped as they are read.
//!
//! The same shapes serve JSON from the API and YAML from a directory.

pub(super) mod field;
mod parts;
pub(super) mod wire;

use super::endpoint::Endpoint;
use super::event::{Key, Kind, Object};
use super::flaw::{Flaws, quote};
use super::object::{
    External, ImportedFrom, Namespace, Pod, PodLabels, Service, ServiceImport, ServiceKind, Slice,
};
use field::Field;
pub(super) use parts::{address, label, ports};
use parts::{addresses, is_host, time};
use serde::Deserialize;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use wire::{Metadata, Shell, Text};

/// An object that was read.
#[derive(Debug)]
pub(super) struct Read {
    /// Which one it is.
    pub key: Key,
    /// `metadata.resourceVersion`, where it is a number; all that Kubernetes gives are.
    pub version: Option<u64>,
    /// None where names have no use for it, such as a slice that no Service owns.
    pub object: Option<Object>,
    /// Parts of the object that cannot be used and were left out.
    pub flaws: Flaws,
}

/// An object that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct Unreadable {
    /// Which one it is, where at least that could be read.
    pub key: Option<Key>,
    /// See [`Read`].
    pub version: Option<u64>,
    why: String,
}

impl Unreadable {
    /// Of which nothing could be read.
    pub(super) fn unnamed(why: &dyn Display) -> Self {
        Self {
            key: None,
            version: None,
            why: why.to_string(),
        }
    }
}

/// Why an object without a usable name is not read.
pub(super) const NAMELESS: &str = "metadata.name or metadata.namespace is missing or no text";

/// Reads one object of a known kind from JSON, and of a Pod those of its labels that are `wanted`.
pub(super) fn json(kind: Kind, text: &str, wanted: &[Box<str>]) -> Result<Read, Unreadable> {
    let mut read = match kind {
        Kind::Namespace => whole::<wire::Namespace<'_>>(text),
        Kind::Service => whole::<wire::Service<'_>>(text),
        Kind::Slice => whole::<wire::Slice<'_>>(text),
        Kind::Pod => whole::<wire::Pod<'_>>(text),
        Kind::Import => whole::<wire::Import<'_>>(text),
    };
    if let Ok(read) = &mut read
        && let Some(Object::Pod(pod)) = &mut read.object
        && !wanted.is_empty()
    {
        pod.labels = pod_labels(text, wanted);
    }
    read.map_err(|why| {
        let metadata = serde_json::from_str::<Shell>(text)
            .ok()
            .map(|shell| shell.metadata);
        Unreadable {
            version: metadata.as_ref().and_then(Metadata::version),
            key: metadata.as_ref().and_then(Metadata::key),
            why,
        }
    })
}

/// The labels of a Pod that are wanted. They are read by themselves: so a Pod costs nothing more
/// where none are. Labels that are none are as if they were absent.
fn pod_labels(text: &str, wanted: &[Box<str>]) -> Option<Arc<PodLabels>> {
    let labelled: wire::Labelled<'_> = serde_json::from_str(text).ok()?;
    let labels = labelled.metadata.labels?;
    PodLabels::pick(wanted, |name| labels.get(name)?.text())
}

/// Reads which object this is and no more: what is told of one that is deleted.
pub(super) fn json_key(text: &str) -> Result<Read, Unreadable> {
    let metadata = match serde_json::from_str::<Shell>(text) {
        Ok(shell) => shell.metadata,
        Err(error) => return Err(Unreadable::unnamed(&syntax(&error))),
    };
    let Some(key) = metadata.key() else {
        return Err(Unreadable::unnamed(&NAMELESS));
    };
    Ok(Read {
        key,
        version: metadata.version(),
        object: None,
        flaws: Flaws::default(),
    })
}

/// A wire form that becomes an object, or nothing of use, or an error.
pub(super) trait Slim {
    /// The metadata.
    fn metadata(&self) -> &Metadata<'_>;
    /// The object, without what is added to the flaws.
    fn slim(&self, flaws: &mut Flaws) -> Result<Option<Object>, String>;
}

fn whole<'a, T: Slim + Deserialize<'a>>(text: &'a str) -> Result<Read, String> {
    let wire: T = serde_json::from_str(text).map_err(|error| syntax(&error))?;
    let metadata = wire.metadata();
    let mut flaws = Flaws::default();
    Ok(Read {
        key: metadata.key().ok_or(NAMELESS)?,
        version: metadata.version(),
        object: wire.slim(&mut flaws)?,
        flaws,
    })
}

/// What is wrong with JSON: in a field of the wrong type nothing is, so the rest is syntax.
fn syntax(error: &serde_json::Error) -> String {
    let what = if error.is_eof() {
        "it ends in the middle"
    } else {
        "it is not the JSON of an object"
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

impl Slim for wire::Namespace<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn slim(&self, _flaws: &mut Flaws) -> Result<Option<Object>, String> {
        let Key { name, .. } = self.metadata.key().ok_or(NAMELESS)?;
        let name = name.into();
        Ok(Some(Object::Namespace(Namespace { name })))
    }
}

impl Slim for wire::Service<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn slim(&self, flaws: &mut Flaws) -> Result<Option<Object>, String> {
        let key = self.metadata.key().ok_or(NAMELESS)?;
        let spec = self.spec.get(&"spec", flaws).ok_or("it has no spec")?;
        let r#type = spec.r#type.get(&"spec.type", flaws);
        let kind = match r#type.map_or("", |it| it) {
            "ExternalName" => ServiceKind::ExternalName,
            "" | "ClusterIP" | "NodePort" | "LoadBalancer" => ServiceKind::ClusterIp,
            // One of a later Kubernetes; the other fields may still be usable.
            other => {
                let known =
                    "ClusterIP, NodePort, LoadBalancer or ExternalName; served as ClusterIP";
                flaws.add(&"spec.type", &quote(other), known);
                ServiceKind::ClusterIp
            }
        };
        let named = kind == ServiceKind::ExternalName;
        // The older field alone is set by old API servers and in manifests.
        let many = spec.cluster_ips.each(&"spec.clusterIPs", flaws);
        let mut ips: Vec<_> = many.map(|(number, ip)| (Some(number), ip)).collect();
        if ips.is_empty() {
            let one = spec.cluster_ip.get(&"spec.clusterIP", flaws);
            ips.extend(one.map(|ip| (None, ip)));
        }
        let headless = ips.first().is_some_and(|(_, first)| ***first == *"None");
        let mut cluster_ips = Vec::new();
        if kind == ServiceKind::ClusterIp && !headless {
            for (number, ip) in ips.into_iter().filter(|(_, ip)| ***ip != *"None") {
                cluster_ips.extend(match number {
                    Some(number) => address(ip, &format_args!("spec.clusterIPs[{number}]"), flaws),
                    None => address(ip, &"spec.clusterIP", flaws),
                });
            }
        }
        let external_name = spec.external_name.get(&"spec.externalName", flaws);
        let external_name =
            external_name.filter(|name| named && is_host(name, &"spec.externalName", flaws));
        Ok(Some(Object::Service(Service {
            namespace: key.namespace.into(),
            name: key.name.into(),
            kind: if headless && !named {
                ServiceKind::Headless
            } else {
                kind
            },
            cluster_ips: cluster_ips.into(),
            external_name: external_name.map(|name| (**name).into()),
            ports: ports(&spec.ports, "spec.ports", flaws),
            external: external(self, spec, flaws),
        })))
    }
}

impl Slim for wire::Slice<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn slim(&self, flaws: &mut Flaws) -> Result<Option<Object>, String> {
        let metadata = &self.metadata;
        let key = metadata.key().ok_or(NAMELESS)?;
        let labels = metadata.labels.get(&"metadata.labels", flaws);
        let mut label =
            |pick: for<'p> fn(&'p wire::Picked<'_>) -> (&'p Field<Text<'p>>, &'p str)| {
                let (value, name) = labels.map(pick)?;
                value.get(&format_args!("metadata.labels.{name}"), flaws)
            };
        let service = label(|it| (&it.service, "kubernetes.io/service-name"));
        let import = label(|it| (&it.import, "multicluster.kubernetes.io/service-name"));
        let cluster = label(|it| (&it.cluster, "multicluster.kubernetes.io/source-cluster"));
        let [service, import, cluster] =
            [service, import, cluster].map(|it| it.map_or("", |it| it));
        if service.is_empty() && import.is_empty() {
            return Ok(None);
        }
        if self.address_type.text() == Some("FQDN") {
            return Ok(None);
        }
        let mut endpoints = Vec::new();
        for (number, endpoint) in self.endpoints.each(&"endpoints", flaws) {
            self::endpoints(number, endpoint, &mut endpoints, flaws);
        }
        let slice = Slice {
            namespace: key.namespace.into(),
            name: key.name,
            service: service.into(),
            import: (!import.is_empty()).then(|| {
                Box::new(ImportedFrom {
                    service: import.into(),
                    cluster: cluster.into(),
                })
            }),
            ports: ports(&self.ports, "ports", flaws),
            endpoints: endpoints.into(),
        };
        let annotations = metadata.annotations.given();
        let trigger = annotations.and_then(|it| it.trigger.text()).and_then(time);
        Ok(Some(Object::Slice(slice, trigger)))
    }
}

/// Adds an endpoint of a slice, once for each of its addresses.
fn endpoints(number: usize, it: &wire::Endpoint<'_>, all: &mut Vec<Endpoint>, flaws: &mut Flaws) {
    let at = format_args!("endpoints[{number}]");
    // Absent means unknown, and unknown means ready (EndpointConditions).
    let ready = it.conditions.get(&format_args!("{at}.conditions"), flaws);
    let ready = ready.and_then(|it| it.ready.get(&format_args!("{at}.conditions.ready"), flaws));
    let target = it.target_ref.get(&format_args!("{at}.targetRef"), flaws);
    let target = target.filter(|target| target.kind.text() == Some("Pod"));
    let hostname = label(&it.hostname, &format_args!("{at}.hostname"), flaws);
    let zone = it.zone.get(&format_args!("{at}.zone"), flaws);
    let path = format_args!("{at}.addresses");
    for (number, text) in it.addresses.each(&path, flaws) {
        if let Some(address) = address(text, &format_args!("{path}[{number}]"), flaws) {
            all.push(Endpoint::new(
                address,
                ready.copied().unwrap_or(true),
                hostname,
                target.and_then(|target| target.name.text()),
                zone.map(|zone| &**zone),
            ));
        }
    }
}

impl Slim for wire::Pod<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn slim(&self, flaws: &mut Flaws) -> Result<Option<Object>, String> {
        let key = self.metadata.key().ok_or(NAMELESS)?;
        let Some(status) = self.status.get(&"status", flaws) else {
            return Ok(None);
        };
        let over = matches!(
            status.phase.text(),
            Some("Succeeded" | "Failed" | "Unknown")
        );
        if over || self.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let mut pod = Pod {
            namespace: key.namespace.into(),
            name: key.name,
            v4: None,
            v6: None,
            labels: None,
        };
        let mut add = |address| match address {
            Some(IpAddr::V4(v4)) => pod.v4 = pod.v4.or(Some(v4)),
            Some(IpAddr::V6(v6)) => pod.v6 = pod.v6.or(Some(v6)),
            None => {}
        };
        for (number, it) in status.pod_ips.each(&"status.podIPs", flaws) {
            let path = format_args!("status.podIPs[{number}].ip");
            let ip = it.ip.get(&path, flaws);
            add(ip.and_then(|ip| address(ip, &path, flaws)));
        }
        let ip = status.pod_ip.get(&"status.podIP", flaws);
        add(ip.and_then(|ip| address(ip, &"status.podIP", flaws)));
        let reachable = pod.v4.is_some() || pod.v6.is_some();
        Ok(reachable.then_some(Object::Pod(pod)))
    }
}

impl Slim for wire::Import<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn slim(&self, flaws: &mut Flaws) -> Result<Option<Object>, String> {
        let key = self.metadata.key().ok_or(NAMELESS)?;
        let spec = self.spec.get(&"spec", flaws).ok_or("it has no spec")?;
        let r#type = spec.r#type.get(&"spec.type", flaws);
        Ok(Some(Object::Import(ServiceImport {
            namespace: key.namespace.into(),
            name: key.name.into(),
            headless: r#type.is_some_and(|it| **it == *"Headless"),
            ips: addresses(&spec.ips, "spec.ips", flaws).into(),
            ports: ports(&spec.ports, "spec.ports", flaws),
        })))
    }
}

fn external(
    service: &wire::Service<'_>,
    spec: &wire::ServiceSpec<'_>,
    flaws: &mut Flaws,
) -> Option<Box<External>> {
    let mut addresses = addresses(&spec.external_ips, "spec.externalIPs", flaws);
    let mut hostnames = Vec::new();
    let status = service.status.get(&"status", flaws);
    let balancer = status.and_then(|it| it.load_balancer.get(&"status.loadBalancer", flaws));
    let path = "status.loadBalancer.ingress";
    let ingress = balancer.map(|it| it.ingress.each(&path, flaws));
    for (number, point) in ingress.into_iter().flatten() {
        let (ip_path, name_path) = (
            format_args!("{path}[{number}].ip"),
            format_args!("{path}[{number}].hostname"),
        );
        let ip = point.ip.get(&ip_path, flaws);
        if let Some(ip) = ip.filter(|ip| !ip.is_empty()) {
            addresses.extend(address(ip, &ip_path, flaws));
            continue;
        }
        let name = point.hostname.get(&name_path, flaws);
        let name = name.filter(|name| is_host(name, &name_path, flaws));
        hostnames.extend(name.map(|name| (**name).into()));
    }
    let external = External {
        addresses: addresses.into(),
        hostnames: hostnames.into(),
    };
    (external != External::default()).then(|| Box::new(external))
}

#[cfg(test)]
mod tests;
