//! The decoded fields of the API's objects, with the API's names.
//!
//! No field fails its object: each is a [`Field`], which keeps a value of the wrong type as
//! [`Field::Invalid`]. Only syntax errors fail. Absent, null and empty lists are equivalent: Go
//! encodes a nil list without `omitempty` as null.

use super::field::{Field, FieldList, FieldValue, TypeName, map_fields};
use crate::cluster::event::ObjectKey;
use crate::cluster::object::Protocol;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};
use std::borrow::{Borrow, Cow};
use std::collections::HashMap;
use std::ops::Deref;

/// A string, borrowed from the input if it has no escapes.
#[derive(Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub(in crate::cluster) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The metadata of any object.
#[derive(Deserialize)]
pub(in crate::cluster) struct PartialObjectMetadata<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
}

/// The labels of any object.
#[derive(Deserialize)]
pub(in crate::cluster) struct LabelsOnly<'a> {
    #[serde(borrow)]
    pub metadata: LabelsMetadata<'a>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct LabelsMetadata<'a> {
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
    pub labels: Field<WellKnown<'a>>,
    pub annotations: Field<WellKnown<'a>>,
}

/// The labels and annotations that are used.
#[derive(Default)]
pub(in crate::cluster) struct WellKnown<'a> {
    /// `kubernetes.io/service-name`: the Service that owns a slice.
    pub service: Field<Text<'a>>,
    /// `multicluster.kubernetes.io/service-name`: the ServiceImport that owns a slice.
    pub import: Field<Text<'a>>,
    /// `multicluster.kubernetes.io/source-cluster`: the exporting cluster of such a slice.
    pub cluster: Field<Text<'a>>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`.
    pub trigger: Field<Text<'a>>,
    /// `k8s.io/initial-events-end`: marks the bookmark that ends an initial list.
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
    pub cluster_ips: FieldList<Text<'a>>,
    pub external_name: Field<Text<'a>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: FieldList<Text<'a>>,
    pub ports: FieldList<Port<'a>>,
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
    pub ingress: FieldList<Ingress<'a>>,
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
pub(in crate::cluster) struct EndpointSlice<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub address_type: Field<Text<'a>>,
    pub endpoints: FieldList<Endpoint<'a>>,
    pub ports: FieldList<Port<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct Endpoint<'a> {
    #[serde(borrow)]
    pub addresses: FieldList<Text<'a>>,
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
    pub pod_ips: FieldList<PodIp<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct PodIp<'a> {
    #[serde(borrow)]
    pub ip: Field<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct ServiceImport<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub spec: Field<ServiceImportSpec<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct ServiceImportSpec<'a> {
    #[serde(borrow)]
    pub r#type: Field<Text<'a>>,
    pub ips: FieldList<Text<'a>>,
    pub ports: FieldList<Port<'a>>,
}

map_fields! {
    Conditions, Endpoint<'a>, ServiceImportSpec<'a>, Ingress<'a>, LoadBalancer<'a>, PodIp<'a>, PodStatus<'a>,
    Port<'a>, ServiceSpec<'a>, ServiceStatus<'a>, TargetRef<'a>,
}

impl TypeName for WellKnown<'_> {
    const EXPECTED: &'static str = "a map";
}

impl<'de: 'a, 'a> FieldValue<'de> for WellKnown<'a> {
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Field<Self>, A::Error> {
        Self::decode(map).map(Field::Given)
    }
}

impl Metadata<'_> {
    /// The key; `None` if the name or the namespace is invalid.
    pub(in crate::cluster) fn key(&self) -> Option<ObjectKey> {
        let namespace = match &self.namespace {
            Field::Absent => "",
            namespace => namespace.text()?,
        };
        let name = self.name.text().filter(|name| !name.is_empty())?;
        Some((namespace, name).into())
    }

    /// The resource version: documented as an increasing number since Kubernetes 1.35.
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

impl<'a> WellKnown<'a> {
    fn decode<'de: 'a, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut found = WellKnown::default();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            match &*name {
                "kubernetes.io/service-name" => found.service = map.next_value()?,
                "multicluster.kubernetes.io/service-name" => found.import = map.next_value()?,
                "multicluster.kubernetes.io/source-cluster" => found.cluster = map.next_value()?,
                "endpoints.kubernetes.io/last-change-trigger-time" => {
                    found.trigger = map.next_value()?;
                }
                "k8s.io/initial-events-end" => found.initial_events_end = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}
