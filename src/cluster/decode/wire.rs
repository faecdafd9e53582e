//! The parts of the API's objects that are read at all, in the API's own spelling.
//!
//! No field voids its object: each is a [`Field`], which keeps a value of the wrong type as
//! [`Field::Invalid`]. Only broken syntax is an error. Lists may be absent, null or empty, and mean the
//! same: Go writes an empty list as null where the field may not be left out.

use super::field::{Expected, Field, Many, Part, parts};
use crate::cluster::event::Key;
use crate::cluster::object::Protocol;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};
use std::borrow::{Borrow, Cow};
use std::collections::HashMap;
use std::ops::Deref;

/// Borrowed from the input where it has no escapes.
#[derive(Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub(in crate::cluster) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// Any object, seen from outside.
#[derive(Deserialize)]
pub(in crate::cluster) struct Shell<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
}

/// Any object, for its labels alone.
#[derive(Deserialize)]
pub(in crate::cluster) struct Labelled<'a> {
    #[serde(borrow)]
    pub metadata: LabelledMetadata<'a>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct LabelledMetadata<'a> {
    #[serde(borrow)]
    pub labels: Option<HashMap<Text<'a>, Field<Text<'a>>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct Metadata<'a> {
    #[serde(borrow)]
    pub name: Field<Text<'a>>,
    pub namespace: Field<Text<'a>>,
    pub resource_version: Field<Text<'a>>,
    pub deletion_timestamp: Option<IgnoredAny>,
    pub labels: Field<Picked<'a>>,
    pub annotations: Field<Picked<'a>>,
}

/// The few labels and annotations that matter, of however many there are.
#[derive(Default)]
pub(in crate::cluster) struct Picked<'a> {
    /// `kubernetes.io/service-name`: the Service that owns a slice.
    pub service: Field<Text<'a>>,
    /// `multicluster.kubernetes.io/service-name`: the ServiceImport that owns a slice.
    pub import: Field<Text<'a>>,
    /// `multicluster.kubernetes.io/source-cluster`: where such a slice comes from.
    pub cluster: Field<Text<'a>>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`.
    pub trigger: Field<Text<'a>>,
    /// `k8s.io/initial-events-end`: this bookmark ends the list at the head of a stream.
    pub initial_events_end: Field<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct Namespace<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct Service<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub spec: Field<ServiceSpec<'a>>,
    pub status: Field<ServiceStatus<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct ServiceSpec<'a> {
    #[serde(borrow)]
    pub r#type: Field<Text<'a>>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Field<Text<'a>>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Many<Text<'a>>,
    pub external_name: Field<Text<'a>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Many<Text<'a>>,
    pub ports: Many<Port<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct ServiceStatus<'a> {
    #[serde(borrow)]
    pub load_balancer: Field<LoadBalancer<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct LoadBalancer<'a> {
    #[serde(borrow)]
    pub ingress: Many<Ingress<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct Ingress<'a> {
    #[serde(borrow)]
    pub ip: Field<Text<'a>>,
    pub hostname: Field<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_field_names)] // the API's names
pub(in crate::cluster) struct Port<'a> {
    #[serde(borrow)]
    pub name: Field<Text<'a>>,
    pub port: Field<u16>,
    pub protocol: Field<Protocol>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct Slice<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub address_type: Field<Text<'a>>,
    pub endpoints: Many<Endpoint<'a>>,
    pub ports: Many<Port<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct Endpoint<'a> {
    #[serde(borrow)]
    pub addresses: Many<Text<'a>>,
    pub conditions: Field<Conditions>,
    pub hostname: Field<Text<'a>>,
    pub target_ref: Field<TargetRef<'a>>,
    pub zone: Field<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct Conditions {
    pub ready: Field<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct TargetRef<'a> {
    #[serde(borrow)]
    pub kind: Field<Text<'a>>,
    pub name: Field<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct Pod<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub status: Field<PodStatus<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct PodStatus<'a> {
    #[serde(borrow)]
    pub phase: Field<Text<'a>>,
    #[serde(rename = "podIP")]
    pub pod_ip: Field<Text<'a>>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Many<PodIp<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct PodIp<'a> {
    #[serde(borrow)]
    pub ip: Field<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct Import<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub spec: Field<ImportSpec<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct ImportSpec<'a> {
    #[serde(borrow)]
    pub r#type: Field<Text<'a>>,
    pub ips: Many<Text<'a>>,
    pub ports: Many<Port<'a>>,
}

parts! {
    Conditions, Endpoint<'a>, ImportSpec<'a>, Ingress<'a>, LoadBalancer<'a>, PodIp<'a>, PodStatus<'a>,
    Port<'a>, ServiceSpec<'a>, ServiceStatus<'a>, TargetRef<'a>,
}

impl Expected for Picked<'_> {
    const EXPECTED: &'static str = "a map";
}

impl<'de: 'a, 'a> Part<'de> for Picked<'a> {
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Field<Self>, A::Error> {
        Self::pick(map).map(Field::Given)
    }
}

impl Metadata<'_> {
    /// Which object it is; None where its name or its namespace is not readable.
    pub(in crate::cluster) fn key(&self) -> Option<Key> {
        let namespace = match &self.namespace {
            Field::Absent => "",
            namespace => namespace.text()?,
        };
        let name = self.name.text().filter(|name| !name.is_empty())?;
        Some((namespace, name).into())
    }

    /// The resource version, of which Kubernetes promises since 1.35 that it is a number that
    /// grows.
    pub(in crate::cluster) fn version(&self) -> Option<u64> {
        self.resource_version.text()?.parse().ok()
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'a> Picked<'a> {
    fn pick<'de: 'a, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut picked = Picked::default();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            match &*name {
                "kubernetes.io/service-name" => picked.service = map.next_value()?,
                "multicluster.kubernetes.io/service-name" => picked.import = map.next_value()?,
                "multicluster.kubernetes.io/source-cluster" => picked.cluster = map.next_value()?,
                "endpoints.kubernetes.io/last-change-trigger-time" => {
                    picked.trigger = map.next_value()?;
                }
                "k8s.io/initial-events-end" => picked.initial_events_end = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(picked)
    }
}
