//! From an object's text to its slim form, without the whole ever being held: fields that are not
//! named here are skipped as they are read.
//!
//! The same shapes serve JSON from the API and YAML from a directory.

pub(super) mod wire;

use super::endpoint::Endpoint;
use super::event::{Key, Kind, Object};
use super::object::{
    External, ImportedFrom, Namespace, Pod, PodLabels, Port, Service, ServiceImport, ServiceKind,
    Slice,
};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use wire::{Metadata, Shell};

/// An object that was read.
#[derive(Debug)]
pub(super) struct Read {
    /// Which one it is.
    pub key: Key,
    /// `metadata.resourceVersion`, where it is a number; all that Kubernetes gives are.
    pub version: Option<u64>,
    /// None where names have no use for it, such as a slice that no Service owns.
    pub object: Option<Object>,
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
    pub(super) fn unnamed(why: &dyn std::fmt::Display) -> Self {
        Self {
            key: None,
            version: None,
            why: why.to_string(),
        }
    }
}

/// Reads one object of a known kind from JSON, and of a Pod those of its labels that are `wanted`.
pub(super) fn json(kind: Kind, text: &str, wanted: &[Box<str>]) -> Result<Read, Unreadable> {
    let mut read = match kind {
        Kind::Namespace => whole::<wire::Namespace>(text),
        Kind::Service => whole::<wire::Service>(text),
        Kind::Slice => whole::<wire::Slice>(text),
        Kind::Pod => whole::<wire::Pod>(text),
        Kind::Import => whole::<wire::Import>(text),
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
            key: metadata
                .map(|it| it.key())
                .filter(|key| !key.name.is_empty()),
            why,
        }
    })
}

/// The labels of a Pod that are wanted. They are read by themselves: so a Pod costs nothing more
/// where none are. Labels that are none are as if they were absent.
fn pod_labels(text: &str, wanted: &[Box<str>]) -> Option<Arc<PodLabels>> {
    let labelled: wire::Labelled<'_> = serde_json::from_str(text).ok()?;
    let labels = labelled.metadata.labels?;
    PodLabels::pick(wanted, |name| labels.get(name).map(|value| &**value))
}

/// Reads which object this is and no more: what is told of one that is deleted.
pub(super) fn json_key(text: &str) -> Result<Read, Unreadable> {
    match serde_json::from_str::<Shell>(text) {
        Ok(Shell { metadata }) if !metadata.name.is_empty() => Ok(Read {
            key: metadata.key(),
            version: metadata.version(),
            object: None,
        }),
        Ok(_) => Err(Unreadable {
            key: None,
            version: None,
            why: "it has no name".into(),
        }),
        Err(error) => Err(Unreadable {
            key: None,
            version: None,
            why: error.to_string(),
        }),
    }
}

/// A wire form that becomes an object, or nothing of use, or an error.
pub(super) trait Slim {
    /// The metadata.
    fn metadata(&self) -> &Metadata<'_>;
    /// The object.
    fn slim(&self) -> Result<Option<Object>, String>;
}

fn whole<'a, T: Slim + Deserialize<'a>>(text: &'a str) -> Result<Read, String> {
    let wire: T = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let metadata = wire.metadata();
    if metadata.name.is_empty() {
        return Err("it has no name".into());
    }
    Ok(Read {
        key: metadata.key(),
        version: metadata.version(),
        object: wire.slim()?,
    })
}

impl Slim for wire::Namespace<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn slim(&self) -> Result<Option<Object>, String> {
        Ok(Some(Object::Namespace(Namespace {
            name: (&*self.metadata.name).into(),
        })))
    }
}

impl Slim for wire::Service<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn slim(&self) -> Result<Option<Object>, String> {
        let spec = self.spec.as_ref().ok_or("it has no spec")?;
        let kind = match spec.r#type.as_deref() {
            Some("ExternalName") => ServiceKind::ExternalName,
            None | Some("" | "ClusterIP" | "NodePort" | "LoadBalancer") => ServiceKind::ClusterIp,
            Some(other) => return Err(format!("spec.type: unknown type {other:?}")),
        };
        // The older field alone is set by old API servers and in manifests.
        let many = spec.cluster_ips.as_deref().unwrap_or_default();
        let one = spec.cluster_ip.as_slice();
        let ips = if many.is_empty() { one } else { many };
        let headless = ips.first().is_some_and(|first| **first == *"None");
        let is_set = |ip: &&wire::Text<'_>| !ip.is_empty() && ***ip != *"None";
        let named = kind == ServiceKind::ExternalName;
        let cluster_ips = match kind {
            ServiceKind::ClusterIp if !headless => addresses(ips.iter().filter(is_set))?,
            _ => Box::default(),
        };
        let external_name = spec
            .external_name
            .as_deref()
            .filter(|name| named && !name.is_empty());
        Ok(Some(Object::Service(Service {
            namespace: (&*self.metadata.namespace).into(),
            name: (&*self.metadata.name).into(),
            kind: if headless && !named {
                ServiceKind::Headless
            } else {
                kind
            },
            cluster_ips,
            external_name: external_name.map(Into::into),
            ports: ports(spec.ports.as_deref()),
            external: external(self)?,
        })))
    }
}

impl Slim for wire::Slice<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn slim(&self) -> Result<Option<Object>, String> {
        let metadata = &self.metadata;
        let label = |pick: for<'p> fn(&'p wire::Picked<'_>) -> Option<&'p str>| {
            let value = metadata.labels.as_ref().and_then(pick);
            value.unwrap_or_default()
        };
        let service = label(|labels| labels.service.as_deref());
        let import = label(|labels| labels.import.as_deref());
        if service.is_empty() && import.is_empty() {
            return Ok(None);
        }
        if self.address_type.as_deref() == Some("FQDN") {
            return Ok(None);
        }
        let mut endpoints = Vec::new();
        for endpoint in self.endpoints.as_deref().unwrap_or_default() {
            let target = endpoint
                .target_ref
                .as_ref()
                .filter(|target| target.kind.as_deref() == Some("Pod"));
            let conditions = endpoint.conditions.as_ref();
            for address in addresses(endpoint.addresses.iter().flatten())? {
                endpoints.push(Endpoint::new(
                    address,
                    // Absent means unknown, and unknown means ready (EndpointConditions).
                    conditions
                        .and_then(|conditions| conditions.ready)
                        .unwrap_or(true),
                    endpoint.hostname.as_deref(),
                    target.and_then(|target| target.name.as_deref()),
                    endpoint.zone.as_deref(),
                ));
            }
        }
        let slice = Slice {
            namespace: (&*metadata.namespace).into(),
            name: (&*metadata.name).into(),
            service: service.into(),
            import: (!import.is_empty()).then(|| {
                Box::new(ImportedFrom {
                    service: import.into(),
                    cluster: label(|labels| labels.cluster.as_deref()).into(),
                })
            }),
            ports: ports(self.ports.as_deref()),
            endpoints: endpoints.into(),
        };
        let annotations = metadata.annotations.as_ref();
        let trigger = annotations
            .and_then(|it| it.trigger.as_deref())
            .and_then(time);
        Ok(Some(Object::Slice(slice, trigger)))
    }
}

impl Slim for wire::Pod<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn slim(&self) -> Result<Option<Object>, String> {
        let Some(status) = &self.status else {
            return Ok(None);
        };
        let over = matches!(
            status.phase.as_deref(),
            Some("Succeeded" | "Failed" | "Unknown")
        );
        if over || self.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let mut pod = Pod {
            namespace: (&*self.metadata.namespace).into(),
            name: (&*self.metadata.name).into(),
            v4: None,
            v6: None,
            labels: None,
        };
        let listed = status
            .pod_ips
            .iter()
            .flatten()
            .filter_map(|it| it.ip.as_ref());
        for address in addresses(listed.chain(&status.pod_ip))? {
            match address {
                IpAddr::V4(v4) => pod.v4 = pod.v4.or(Some(v4)),
                IpAddr::V6(v6) => pod.v6 = pod.v6.or(Some(v6)),
            }
        }
        let reachable = pod.v4.is_some() || pod.v6.is_some();
        Ok(reachable.then_some(Object::Pod(pod)))
    }
}

impl Slim for wire::Import<'_> {
    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }

    fn slim(&self) -> Result<Option<Object>, String> {
        let spec = self.spec.as_ref().ok_or("it has no spec")?;
        Ok(Some(Object::Import(ServiceImport {
            namespace: (&*self.metadata.namespace).into(),
            name: (&*self.metadata.name).into(),
            headless: spec.r#type.as_deref() == Some("Headless"),
            ips: addresses(spec.ips.iter().flatten())?,
            ports: ports(spec.ports.as_deref()),
        })))
    }
}

fn external(service: &wire::Service<'_>) -> Result<Option<Box<External>>, String> {
    let listed = service
        .spec
        .iter()
        .flat_map(|spec| &spec.external_ips)
        .flatten();
    let ingress = service
        .status
        .iter()
        .flat_map(|status| &status.load_balancer);
    let ingress = || {
        ingress
            .clone()
            .flat_map(|balancer| &balancer.ingress)
            .flatten()
    };
    let with_address = ingress().filter_map(|point| point.ip.as_ref().filter(|ip| !ip.is_empty()));
    let hostnames = ingress()
        .filter(|point| point.ip.as_ref().is_none_or(|ip| ip.is_empty()))
        .filter_map(|point| point.hostname.as_deref().filter(|name| !name.is_empty()));
    let external = External {
        addresses: addresses(listed.chain(with_address))?,
        hostnames: hostnames.map(Into::into).collect(),
    };
    Ok((external != External::default()).then(|| Box::new(external)))
}

fn addresses<'a, S: AsRef<str> + 'a>(
    texts: impl Iterator<Item = &'a S>,
) -> Result<Box<[IpAddr]>, String> {
    let read = |text: &'a S| {
        let text = text.as_ref();
        text.parse()
            .map_err(|_| format!("{text:?} is not an IP address"))
    };
    texts.map(read).collect()
}

fn ports(ports: Option<&[wire::Port<'_>]>) -> std::sync::Arc<[Port]> {
    let port = |port: &wire::Port<'_>| Port {
        name: port.name.as_deref().unwrap_or_default().into(),
        number: port.port,
        protocol: port.protocol.unwrap_or_default(),
    };
    ports.unwrap_or_default().iter().map(port).collect()
}

/// An RFC 3339 time. One that is none is as if it were absent: it serves a metric only.
fn time(text: &str) -> Option<SystemTime> {
    let nanoseconds = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
}

#[cfg(test)]
mod tests;
