//! Decoding of objects from text to their reduced form, without holding the complete object in
//! memory: fields not named here are skipped while parsing.
//!
//! The same types serve JSON from the API and YAML from manifests.

mod common;
pub(super) mod field;
pub(super) mod wire;

use super::endpoint::Endpoint;
use super::event::{Kind, Object, ObjectKey};
use super::invalid::{InvalidFields, quote};
use super::object::{
    EndpointSlice, ExternalAddresses, ImportOrigin, Namespace, Pod, PodLabels, Service,
    ServiceImport, ServiceKind,
};
pub(super) use common::{address, label, ports};
use common::{addresses, is_host, time};
use field::{ApiField, ApiText};
use serde::Deserialize;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use wire::{Metadata, PartialObjectMetadata};

/// A decoded object.
#[derive(Debug)]
pub(super) struct Decoded {
    /// The key.
    pub key: ObjectKey,
    /// `metadata.resourceVersion`, if numeric; Kubernetes only issues numbers.
    pub version: Option<u64>,
    /// `None` if DNS has no use for the object, such as an EndpointSlice that no Service owns.
    pub object: Option<Object>,
    /// Fields that are invalid and were skipped.
    pub invalid: InvalidFields,
}

/// An object that could not be decoded.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct DecodeError {
    /// The key, if at least the metadata could be decoded.
    pub key: Option<ObjectKey>,
    /// See [`Decoded::version`].
    pub version: Option<u64>,
    why: String,
}

impl DecodeError {
    /// An error without key and version.
    pub(super) fn without_key(why: &dyn Display) -> Self {
        Self {
            key: None,
            version: None,
            why: why.to_string(),
        }
    }
}

/// Why an object without a usable key is not decoded.
pub(super) const MISSING_NAME: &str = "metadata.name or metadata.namespace is missing or no text";

/// Decodes one object of a known kind from JSON; of a Pod's labels, keeps those in `wanted`.
pub(super) fn json(kind: Kind, text: &str, wanted: &[Box<str>]) -> Result<Decoded, DecodeError> {
    let mut decoded = match kind {
        Kind::Namespace => decode::<wire::Namespace<'_>>(text),
        Kind::Service => decode::<wire::Service<'_>>(text),
        Kind::EndpointSlice => decode::<wire::EndpointSlice<'_>>(text),
        Kind::Pod => decode::<wire::Pod<'_>>(text),
        Kind::ServiceImport => decode::<wire::ServiceImport<'_>>(text),
    };
    if let Ok(decoded) = &mut decoded
        && let Some(Object::Pod(pod)) = &mut decoded.object
        && !wanted.is_empty()
    {
        pod.labels = pod_labels(text, wanted);
    }
    decoded.map_err(|why| {
        let metadata = serde_json::from_str::<PartialObjectMetadata>(text)
            .ok()
            .map(|object| object.metadata);
        DecodeError {
            version: metadata.as_ref().and_then(Metadata::version),
            key: metadata.as_ref().and_then(Metadata::key),
            why,
        }
    })
}

/// The wanted labels of a Pod, decoded separately so that a Pod costs nothing more if none are
/// wanted. Invalid labels are treated as absent.
fn pod_labels(text: &str, wanted: &[Box<str>]) -> Option<Arc<PodLabels>> {
    let labelled: wire::LabelsOnly<'_> = serde_json::from_str(text).ok()?;
    let labels = labelled.metadata.labels?;
    PodLabels::pick(wanted, |name| labels.get(name)?.text())
}

/// Decodes only the key and version, for deleted objects.
pub(super) fn json_key(text: &str) -> Result<Decoded, DecodeError> {
    let metadata = match serde_json::from_str::<PartialObjectMetadata>(text) {
        Ok(shell) => shell.metadata,
        Err(error) => return Err(DecodeError::without_key(&syntax(&error))),
    };
    let Some(key) = metadata.key() else {
        return Err(DecodeError::without_key(&MISSING_NAME));
    };
    Ok(Decoded {
        key,
        version: metadata.version(),
        object: None,
        invalid: InvalidFields::default(),
    })
}

/// Conversion of an API type to the reduced object.
pub(super) trait ToObject {
    /// The metadata.
    fn metadata(&self) -> &Metadata<'_>;
    /// The object, without the fields added to `invalid`; `None` if DNS has no use for it.
    fn to_object(&self, invalid: &mut InvalidFields) -> Result<Option<Object>, String>;
}

fn decode<'a, T: ToObject + Deserialize<'a>>(text: &'a str) -> Result<Decoded, String> {
    let wire: T = serde_json::from_str(text).map_err(|error| syntax(&error))?;
    let metadata = wire.metadata();
    let mut invalid = InvalidFields::default();
    Ok(Decoded {
        key: metadata.key().ok_or(MISSING_NAME)?,
        version: metadata.version(),
        object: wire.to_object(&mut invalid)?,
        invalid,
    })
}

/// A JSON error. Fields accept any type, so only syntax errors occur.
fn syntax(error: &serde_json::Error) -> String {
    let what = if error.is_eof() {
        "truncated JSON"
    } else {
        "not a JSON object"
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

impl ToObject for wire::Namespace<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn to_object(&self, _flaws: &mut InvalidFields) -> Result<Option<Object>, String> {
        let ObjectKey { name, .. } = self.metadata.key().ok_or(MISSING_NAME)?;
        let name = name.into();
        Ok(Some(Object::Namespace(Namespace { name })))
    }
}

impl ToObject for wire::Service<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn to_object(&self, invalid: &mut InvalidFields) -> Result<Option<Object>, String> {
        let key = self.metadata.key().ok_or(MISSING_NAME)?;
        let spec = self.spec.get(&"spec", invalid).ok_or("it has no spec")?;
        let r#type = spec.r#type.get(&"spec.type", invalid);
        let kind = match r#type.map_or("", |it| it) {
            "ExternalName" => ServiceKind::ExternalName,
            "" | "ClusterIP" | "NodePort" | "LoadBalancer" => ServiceKind::ClusterIp,
            // A type of a later Kubernetes version; the other fields may be usable.
            other => {
                let expected =
                    "ClusterIP, NodePort, LoadBalancer or ExternalName; served as ClusterIP";
                invalid.add(&"spec.type", &quote(other), expected);
                ServiceKind::ClusterIp
            }
        };
        let is_external_name = kind == ServiceKind::ExternalName;
        // Old API servers and manifests set only the older field.
        let many = spec.cluster_ips.each(&"spec.clusterIPs", invalid);
        let mut ips: Vec<_> = many.map(|(number, ip)| (Some(number), ip)).collect();
        if ips.is_empty() {
            let one = spec.cluster_ip.get(&"spec.clusterIP", invalid);
            ips.extend(one.map(|ip| (None, ip)));
        }
        let headless = ips.first().is_some_and(|(_, first)| ***first == *"None");
        let mut cluster_ips = Vec::new();
        if kind == ServiceKind::ClusterIp && !headless {
            for (number, ip) in ips.into_iter().filter(|(_, ip)| ***ip != *"None") {
                cluster_ips.extend(match number {
                    Some(number) => {
                        address(ip, &format_args!("spec.clusterIPs[{number}]"), invalid)
                    }
                    None => address(ip, &"spec.clusterIP", invalid),
                });
            }
        }
        let external_name = spec.external_name.get(&"spec.externalName", invalid);
        let external_name = external_name
            .filter(|name| is_external_name && is_host(name, &"spec.externalName", invalid));
        Ok(Some(Object::Service(Service {
            namespace: key.namespace.into(),
            name: key.name.into(),
            kind: if headless && !is_external_name {
                ServiceKind::Headless
            } else {
                kind
            },
            cluster_ips: cluster_ips.into(),
            external_name: external_name.map(|name| (**name).into()),
            ports: ports(&spec.ports, "spec.ports", invalid),
            external: external(self, spec, invalid),
            revision: self.metadata.revision(),
        })))
    }
}

impl ToObject for wire::EndpointSlice<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn to_object(&self, invalid: &mut InvalidFields) -> Result<Option<Object>, String> {
        let metadata = &self.metadata;
        let key = metadata.key().ok_or(MISSING_NAME)?;
        let labels = metadata.labels.get(&"metadata.labels", invalid);
        let mut label =
            |pick: for<'p> fn(&'p wire::WellKnown<'_>) -> (&'p ApiField<ApiText<'p>>, &'p str)| {
                let (value, name) = labels.map(pick)?;
                value.get(&format_args!("metadata.labels.{name}"), invalid)
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
        for (number, endpoint) in self.endpoints.each(&"endpoints", invalid) {
            self::endpoints(number, endpoint, &mut endpoints, invalid);
        }
        let slice = EndpointSlice {
            namespace: key.namespace.into(),
            name: key.name,
            service: service.into(),
            import: (!import.is_empty()).then(|| {
                Box::new(ImportOrigin {
                    service: import.into(),
                    cluster: cluster.into(),
                })
            }),
            ports: ports(&self.ports, "ports", invalid),
            endpoints: endpoints.into(),
        };
        let annotations = metadata.annotations.given();
        let trigger = annotations.and_then(|it| it.trigger.text()).and_then(time);
        Ok(Some(Object::EndpointSlice(slice, trigger)))
    }
}

/// Adds an endpoint of a slice, once per address.
fn endpoints(
    number: usize,
    it: &wire::Endpoint<'_>,
    all: &mut Vec<Endpoint>,
    invalid: &mut InvalidFields,
) {
    let at = format_args!("endpoints[{number}]");
    // EndpointConditions: an absent `ready` means unknown, which consumers treat as ready.
    let ready = it.conditions.get(&format_args!("{at}.conditions"), invalid);
    let ready = ready.and_then(|it| {
        it.ready
            .get(&format_args!("{at}.conditions.ready"), invalid)
    });
    let target = it.target_ref.get(&format_args!("{at}.targetRef"), invalid);
    let target = target.filter(|target| target.kind.text() == Some("Pod"));
    let hostname = label(&it.hostname, &format_args!("{at}.hostname"), invalid);
    let zone = it.zone.get(&format_args!("{at}.zone"), invalid);
    let path = format_args!("{at}.addresses");
    for (number, text) in it.addresses.each(&path, invalid) {
        if let Some(address) = address(text, &format_args!("{path}[{number}]"), invalid) {
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

impl ToObject for wire::Pod<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn to_object(&self, invalid: &mut InvalidFields) -> Result<Option<Object>, String> {
        let key = self.metadata.key().ok_or(MISSING_NAME)?;
        let Some(status) = self.status.get(&"status", invalid) else {
            return Ok(None);
        };
        let has_ended = matches!(
            status.phase.text(),
            Some("Succeeded" | "Failed" | "Unknown")
        );
        if has_ended || self.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let spec = self.spec.get(&"spec", invalid);
        let host_network = spec.and_then(|it| it.host_network.get(&"spec.hostNetwork", invalid));
        let mut pod = Pod {
            namespace: key.namespace.into(),
            name: key.name,
            v4: None,
            v6: None,
            host_network: host_network.is_some_and(|it| *it),
            labels: None,
        };
        let mut add = |address| match address {
            Some(IpAddr::V4(v4)) => pod.v4 = pod.v4.or(Some(v4)),
            Some(IpAddr::V6(v6)) => pod.v6 = pod.v6.or(Some(v6)),
            None => {}
        };
        for (number, it) in status.pod_ips.each(&"status.podIPs", invalid) {
            let path = format_args!("status.podIPs[{number}].ip");
            let ip = it.ip.get(&path, invalid);
            add(ip.and_then(|ip| address(ip, &path, invalid)));
        }
        let ip = status.pod_ip.get(&"status.podIP", invalid);
        add(ip.and_then(|ip| address(ip, &"status.podIP", invalid)));
        let reachable = pod.v4.is_some() || pod.v6.is_some();
        Ok(reachable.then_some(Object::Pod(pod)))
    }
}

impl ToObject for wire::ServiceImport<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn to_object(&self, invalid: &mut InvalidFields) -> Result<Option<Object>, String> {
        let key = self.metadata.key().ok_or(MISSING_NAME)?;
        let spec = self.spec.get(&"spec", invalid).ok_or("it has no spec")?;
        let r#type = spec.r#type.get(&"spec.type", invalid);
        Ok(Some(Object::ServiceImport(ServiceImport {
            namespace: key.namespace.into(),
            name: key.name.into(),
            headless: r#type.is_some_and(|it| **it == *"Headless"),
            ips: addresses(&spec.ips, "spec.ips", invalid).into(),
            ports: ports(&spec.ports, "spec.ports", invalid),
        })))
    }
}

fn external(
    service: &wire::Service<'_>,
    spec: &wire::ServiceSpec<'_>,
    invalid: &mut InvalidFields,
) -> Option<Box<ExternalAddresses>> {
    let mut addresses = addresses(&spec.external_ips, "spec.externalIPs", invalid);
    let mut hostnames = Vec::new();
    let status = service.status.get(&"status", invalid);
    let balancer = status.and_then(|it| it.load_balancer.get(&"status.loadBalancer", invalid));
    let path = "status.loadBalancer.ingress";
    let ingress = balancer.map(|it| it.ingress.each(&path, invalid));
    for (number, point) in ingress.into_iter().flatten() {
        let (ip_path, name_path) = (
            format_args!("{path}[{number}].ip"),
            format_args!("{path}[{number}].hostname"),
        );
        let ip = point.ip.get(&ip_path, invalid);
        if let Some(ip) = ip.filter(|ip| !ip.is_empty()) {
            addresses.extend(address(ip, &ip_path, invalid));
            continue;
        }
        let name = point.hostname.get(&name_path, invalid);
        let name = name.filter(|name| is_host(name, &name_path, invalid));
        hostnames.extend(name.map(|name| (**name).into()));
    }
    let external = ExternalAddresses {
        addresses: addresses.into(),
        hostnames: hostnames.into(),
    };
    (external != ExternalAddresses::default()).then(|| Box::new(external))
}

#[cfg(test)]
mod tests;
