//! The decoded fields of the API's objects, with the API's names.
//!
//! No field fails its object: each is an [`ApiField`], which keeps a value of the wrong type as
//! [`ApiField::Invalid`]. Only syntax errors fail. Absent, null and empty lists are equivalent: Go
//! encodes a nil list without `omitempty` as null.

use super::common::time;
use super::field::{ApiField, ApiText, FieldList, FieldValue, TypeName, map_fields};
use crate::cluster::event::ObjectKey;
use crate::cluster::object::{ObjectRevision, Protocol};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};
use std::collections::HashMap;
use std::time::SystemTime;

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
    pub labels: Option<HashMap<ApiText<'a>, ApiField<ApiText<'a>>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct Metadata<'a> {
    #[serde(borrow)]
    pub name: ApiField<ApiText<'a>>,
    pub namespace: ApiField<ApiText<'a>>,
    pub resource_version: ApiField<ApiText<'a>>,
    pub creation_timestamp: ApiField<ApiText<'a>>,
    pub deletion_timestamp: Option<IgnoredAny>,
    pub labels: ApiField<WellKnown<'a>>,
    pub annotations: ApiField<WellKnown<'a>>,
}

/// The labels and annotations that are used.
#[derive(Default)]
pub(in crate::cluster) struct WellKnown<'a> {
    /// `kubernetes.io/service-name`: the Service that owns a slice.
    pub service: ApiField<ApiText<'a>>,
    /// `multicluster.kubernetes.io/service-name`: the ServiceImport that owns a slice.
    pub import: ApiField<ApiText<'a>>,
    /// `multicluster.kubernetes.io/source-cluster`: the exporting cluster of such a slice.
    pub cluster: ApiField<ApiText<'a>>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`.
    pub trigger: ApiField<ApiText<'a>>,
    /// `k8s.io/initial-events-end`: marks the bookmark that ends an initial list.
    pub initial_events_end: ApiField<ApiText<'a>>,
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
    pub spec: ApiField<ServiceSpec<'a>>,
    pub status: ApiField<ServiceStatus<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct ServiceSpec<'a> {
    #[serde(borrow)]
    pub r#type: ApiField<ApiText<'a>>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: ApiField<ApiText<'a>>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: FieldList<ApiText<'a>>,
    pub external_name: ApiField<ApiText<'a>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: FieldList<ApiText<'a>>,
    pub ports: FieldList<Port<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct ServiceStatus<'a> {
    #[serde(borrow)]
    pub load_balancer: ApiField<LoadBalancer<'a>>,
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
    pub ip: ApiField<ApiText<'a>>,
    pub hostname: ApiField<ApiText<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_field_names)] // the API's names
pub(in crate::cluster) struct Port<'a> {
    #[serde(borrow)]
    pub name: ApiField<ApiText<'a>>,
    pub port: ApiField<u16>,
    pub protocol: ApiField<Protocol>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct EndpointSlice<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub address_type: ApiField<ApiText<'a>>,
    pub endpoints: FieldList<Endpoint<'a>>,
    pub ports: FieldList<Port<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct Endpoint<'a> {
    #[serde(borrow)]
    pub addresses: FieldList<ApiText<'a>>,
    pub conditions: ApiField<Conditions>,
    pub hostname: ApiField<ApiText<'a>>,
    pub target_ref: ApiField<TargetRef<'a>>,
    pub zone: ApiField<ApiText<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct Conditions {
    pub ready: ApiField<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct TargetRef<'a> {
    #[serde(borrow)]
    pub kind: ApiField<ApiText<'a>>,
    pub name: ApiField<ApiText<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct Pod<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub spec: ApiField<PodSpec>,
    pub status: ApiField<PodStatus<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct PodSpec {
    pub host_network: ApiField<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct PodStatus<'a> {
    #[serde(borrow)]
    pub phase: ApiField<ApiText<'a>>,
    #[serde(rename = "podIP")]
    pub pod_ip: ApiField<ApiText<'a>>,
    #[serde(rename = "podIPs")]
    pub pod_ips: FieldList<PodIp<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct PodIp<'a> {
    #[serde(borrow)]
    pub ip: ApiField<ApiText<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct ServiceImport<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub spec: ApiField<ServiceImportSpec<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster) struct ServiceImportSpec<'a> {
    #[serde(borrow)]
    pub r#type: ApiField<ApiText<'a>>,
    pub ips: FieldList<ApiText<'a>>,
    pub ports: FieldList<Port<'a>>,
}

map_fields! {
    Conditions, Endpoint<'a>, ServiceImportSpec<'a>, Ingress<'a>, LoadBalancer<'a>, PodIp<'a>, PodSpec, PodStatus<'a>,
    Port<'a>, ServiceSpec<'a>, ServiceStatus<'a>, TargetRef<'a>,
}

impl TypeName for WellKnown<'_> {
    const EXPECTED: &'static str = "a map";
}

impl<'de: 'a, 'a> FieldValue<'de> for WellKnown<'a> {
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<ApiField<Self>, A::Error> {
        Self::decode(map).map(ApiField::Given)
    }
}

impl Metadata<'_> {
    /// The key; `None` if the name or the namespace is invalid.
    pub(in crate::cluster) fn key(&self) -> Option<ObjectKey> {
        let namespace = match &self.namespace {
            ApiField::Absent => "",
            namespace => namespace.text()?,
        };
        let name = self.name.text().filter(|name| !name.is_empty())?;
        Some((namespace, name).into())
    }

    /// The resource version: documented as an increasing number since Kubernetes 1.35.
    pub(in crate::cluster) fn version(&self) -> Option<u64> {
        self.resource_version.text()?.parse().ok()
    }

    /// When it was created, and its version.
    pub(in crate::cluster) fn revision(&self) -> ObjectRevision {
        let created = self.creation_timestamp.text().and_then(time);
        let created = created.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let created = created.and_then(|since| since.as_secs().try_into().ok());
        ObjectRevision::new(created.unwrap_or_default(), self.version())
    }
}

impl<'a> WellKnown<'a> {
    fn decode<'de: 'a, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut found = WellKnown::default();
        while let Some(name) = map.next_key::<ApiText<'de>>()? {
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
