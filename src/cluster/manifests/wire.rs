//! What the controllers need of the documents, beyond what names need: fields that never void their
//! document.

use super::document::Labels;
use crate::cluster::decode::field::{Expected, Field, Many, Part, parts};
use crate::cluster::decode::wire::{Port, TargetRef, Text};
use crate::cluster::flaw::Flaws;
use crate::cluster::object::Protocol;
use serde::de::{IgnoredAny, MapAccess};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt::Display;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Head<'a> {
    #[serde(borrow)]
    pub api_version: Field<Text<'a>>,
    pub kind: Field<Text<'a>>,
    pub metadata: Field<HeadMetadata<'a>>,
    /// Whether it is there, null or not: then it is a list.
    #[serde(deserialize_with = "is_there")]
    pub items: bool,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct HeadMetadata<'a> {
    #[serde(borrow)]
    pub name: Field<Text<'a>>,
    pub namespace: Field<Text<'a>>,
    pub labels: Field<LabelMap<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ServiceExtra<'a> {
    #[serde(borrow)]
    pub spec: Field<ServiceSpec<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceSpec<'a> {
    #[serde(borrow)]
    pub selector: Field<LabelMap<'a>>,
    pub ports: Many<ServicePort<'a>>,
    pub ip_families: Many<Text<'a>>,
    pub ip_family_policy: Field<Text<'a>>,
    pub publish_not_ready_addresses: Field<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServicePort<'a> {
    #[serde(borrow)]
    pub name: Field<Text<'a>>,
    pub port: Field<u16>,
    pub protocol: Field<Protocol>,
    pub target_port: Field<TargetPort>,
}

/// A port of a pod: by number, or by the name that a container gives it.
#[derive(Clone)]
pub(super) enum TargetPort {
    Number(u16),
    Name(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct PodExtra<'a> {
    #[serde(borrow)]
    pub spec: Field<PodSpec<'a>>,
    pub status: Field<PodStatus<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct PodSpec<'a> {
    #[serde(borrow)]
    pub hostname: Field<Text<'a>>,
    pub subdomain: Field<Text<'a>>,
    pub containers: Many<Container<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Container<'a> {
    #[serde(borrow)]
    pub ports: Many<ContainerPort<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(clippy::struct_field_names)] // the API's names
pub(super) struct ContainerPort<'a> {
    #[serde(borrow)]
    pub name: Field<Text<'a>>,
    pub container_port: Field<u16>,
    pub protocol: Field<Protocol>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct PodStatus<'a> {
    #[serde(borrow)]
    pub conditions: Many<Condition<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Condition<'a> {
    #[serde(borrow)]
    pub r#type: Field<Text<'a>>,
    pub status: Field<Text<'a>>,
}

/// `v1` Endpoints, which came before EndpointSlices.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Endpoints<'a> {
    #[serde(borrow)]
    pub subsets: Many<Subset<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Subset<'a> {
    #[serde(borrow)]
    pub addresses: Many<EndpointAddress<'a>>,
    pub not_ready_addresses: Many<EndpointAddress<'a>>,
    pub ports: Many<Port<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EndpointAddress<'a> {
    #[serde(borrow)]
    pub ip: Field<Text<'a>>,
    pub hostname: Field<Text<'a>>,
    pub target_ref: Field<TargetRef<'a>>,
}

parts! {
    Condition<'a>, Container<'a>, ContainerPort<'a>, EndpointAddress<'a>, Endpoints<'a>, Head<'a>,
    HeadMetadata<'a>, PodExtra<'a>, ServiceExtra<'a>,
    PodSpec<'a>, PodStatus<'a>, ServicePort<'a>, ServiceSpec<'a>, Subset<'a>,
}

impl Expected for TargetPort {
    const EXPECTED: &'static str = "a port number or the name of a container's port";
}

impl<'de> Part<'de> for TargetPort {
    fn from_text(text: Cow<'de, str>) -> Field<Self> {
        Field::Given(Self::Name(text.into_owned()))
    }

    fn from_number(number: u64) -> Field<Self> {
        match u16::try_from(number) {
            Ok(number) => Field::Given(Self::Number(number)),
            Err(_) => Field::Invalid(number.to_string().into()),
        }
    }
}

/// Labels as they are written.
#[derive(Default)]
pub(super) struct LabelMap<'a>(Vec<(String, Field<LabelText<'a>>)>);

/// The value of a label. A number or a truth value without quotes is taken by its text.
pub(super) struct LabelText<'a>(Cow<'a, str>);

impl Expected for LabelMap<'_> {
    const EXPECTED: &'static str = "a map of names to text";
}

impl<'de: 'a, 'a> Part<'de> for LabelMap<'a> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        let mut labels = Vec::new();
        while let Some((name, value)) = map.next_entry::<Text<'de>, _>()? {
            labels.push((name.to_string(), value));
        }
        Ok(Field::Given(Self(labels)))
    }
}

impl Expected for LabelText<'_> {
    const EXPECTED: &'static str = "text; put it in quotes";
}

impl<'de: 'a, 'a> Part<'de> for LabelText<'a> {
    fn from_text(text: Cow<'de, str>) -> Field<Self> {
        Field::Given(Self(text))
    }

    fn from_number(number: u64) -> Field<Self> {
        Field::Given(Self(number.to_string().into()))
    }

    fn from_bool(value: bool) -> Field<Self> {
        Field::Given(Self(if value { "true" } else { "false" }.into()))
    }
}

impl Field<LabelMap<'_>> {
    /// The labels, without those that are null or no text.
    pub(super) fn labels(&self, path: &dyn Display, flaws: &mut Flaws) -> Labels {
        let mut labels = Labels::new();
        for (name, value) in self.get(path, flaws).iter().flat_map(|it| &it.0) {
            if let Some(value) = value.get(&format_args!("{path}.{name}"), flaws) {
                labels.insert(name.clone(), value.0.to_string());
            }
        }
        labels
    }

    /// The labels of a selector. One without some of them would select more than is meant, so
    /// where one of them is no text there is none.
    pub(super) fn selector(&self, path: &dyn Display, flaws: &mut Flaws) -> Labels {
        let before = flaws.count();
        let labels = self.labels(path, flaws);
        if flaws.count() > before {
            return Labels::new();
        }
        labels
    }
}
