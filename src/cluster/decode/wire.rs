//! The parts of the API's objects that are read at all, in the API's own spelling.
//!
//! Lists may be absent, null or empty, and mean the same: Go writes an empty list as null where
//! the field may not be left out.

use crate::cluster::event::Key;
use crate::cluster::object::Protocol;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::{Borrow, Cow};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;

/// Borrowed from the input where it has no escapes.
#[derive(Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub(in crate::cluster) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

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
    pub labels: Option<HashMap<Text<'a>, Text<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster) struct Metadata<'a> {
    #[serde(borrow)]
    pub name: Text<'a>,
    pub namespace: Text<'a>,
    pub resource_version: Option<Text<'a>>,
    pub deletion_timestamp: Option<IgnoredAny>,
    pub labels: Option<Picked<'a>>,
    pub annotations: Option<Picked<'a>>,
}

/// The few labels and annotations that matter, of however many there are.
#[derive(Default)]
pub(in crate::cluster) struct Picked<'a> {
    /// `kubernetes.io/service-name`: the Service that owns a slice.
    pub service: Option<Text<'a>>,
    /// `multicluster.kubernetes.io/service-name`: the ServiceImport that owns a slice.
    pub import: Option<Text<'a>>,
    /// `multicluster.kubernetes.io/source-cluster`: where such a slice comes from.
    pub cluster: Option<Text<'a>>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`.
    pub trigger: Option<Text<'a>>,
    /// `k8s.io/initial-events-end`: this bookmark ends the list at the head of a stream.
    pub initial_events_end: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct Namespace<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct Service<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub spec: Option<ServiceSpec<'a>>,
    pub status: Option<ServiceStatus<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct ServiceSpec<'a> {
    #[serde(borrow)]
    pub r#type: Option<Text<'a>>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Text<'a>>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<Text<'a>>>,
    pub external_name: Option<Text<'a>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Vec<Text<'a>>>,
    pub ports: Option<Vec<Port<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct ServiceStatus<'a> {
    #[serde(borrow)]
    pub load_balancer: Option<LoadBalancer<'a>>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct LoadBalancer<'a> {
    #[serde(borrow)]
    pub ingress: Option<Vec<Ingress<'a>>>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct Ingress<'a> {
    #[serde(borrow)]
    pub ip: Option<Text<'a>>,
    pub hostname: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[allow(clippy::struct_field_names)] // the API's names
pub(in crate::cluster) struct Port<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    pub port: Option<u16>,
    pub protocol: Option<Protocol>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct Slice<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub address_type: Option<Text<'a>>,
    pub endpoints: Option<Vec<Endpoint<'a>>>,
    pub ports: Option<Vec<Port<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct Endpoint<'a> {
    #[serde(borrow)]
    pub addresses: Option<Vec<Text<'a>>>,
    pub conditions: Option<Conditions>,
    pub hostname: Option<Text<'a>>,
    pub target_ref: Option<TargetRef<'a>>,
    pub zone: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct Conditions {
    pub ready: Option<bool>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct TargetRef<'a> {
    #[serde(borrow)]
    pub kind: Option<Text<'a>>,
    pub name: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct Pod<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub status: Option<PodStatus<'a>>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct PodStatus<'a> {
    #[serde(borrow)]
    pub phase: Option<Text<'a>>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<Text<'a>>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIp<'a>>>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct PodIp<'a> {
    #[serde(borrow)]
    pub ip: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct Import<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub spec: Option<ImportSpec<'a>>,
}

#[derive(Deserialize)]
pub(in crate::cluster) struct ImportSpec<'a> {
    #[serde(borrow)]
    pub r#type: Option<Text<'a>>,
    pub ips: Option<Vec<Text<'a>>>,
    pub ports: Option<Vec<Port<'a>>>,
}

impl Metadata<'_> {
    pub(in crate::cluster) fn key(&self) -> Key {
        (&*self.namespace, &*self.name).into()
    }

    /// The resource version, of which Kubernetes promises since 1.35 that it is a number that
    /// grows.
    pub(in crate::cluster) fn version(&self) -> Option<u64> {
        self.resource_version.as_ref()?.parse().ok()
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

impl<'de: 'a, 'a> Deserialize<'de> for Picked<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pick;

        impl<'de> Visitor<'de> for Pick {
            type Value = Picked<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names to text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Picked<'de>, A::Error> {
                let mut picked = Picked::default();
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    match &*name {
                        "kubernetes.io/service-name" => picked.service = map.next_value()?,
                        "multicluster.kubernetes.io/service-name" => {
                            picked.import = map.next_value()?;
                        }
                        "multicluster.kubernetes.io/source-cluster" => {
                            picked.cluster = map.next_value()?;
                        }
                        "endpoints.kubernetes.io/last-change-trigger-time" => {
                            picked.trigger = map.next_value()?;
                        }
                        "k8s.io/initial-events-end" => {
                            picked.initial_events_end = map.next_value()?;
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(picked)
            }
        }

        deserializer.deserialize_map(Pick)
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match &*Text::deserialize(deserializer)? {
            "" => Ok(Self::Unstated),
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "SCTP" => Ok(Self::Sctp),
            other => Err(serde::de::Error::unknown_variant(
                other,
                &["TCP", "UDP", "SCTP"],
            )),
        }
    }
}
