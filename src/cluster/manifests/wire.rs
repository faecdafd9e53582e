//! The additional API fields that the emulated controllers need.

use crate::cluster::decode::field::{Field, FieldList, FieldValue, TypeName, map_fields};
use crate::cluster::decode::wire::{Port, TargetRef, Text};
use crate::cluster::invalid::InvalidFields;
use crate::cluster::object::Protocol;
use serde::de::{IgnoredAny, MapAccess};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

/// Labels, sorted by key.
pub(super) type LabelSet = BTreeMap<String, String>;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Header<'a> {
    #[serde(borrow)]
    pub api_version: Field<Text<'a>>,
    pub kind: Field<Text<'a>>,
    pub metadata: Field<HeaderMetadata<'a>>,
    /// Whether it is present, even if null: then the object is a list.
    #[serde(deserialize_with = "is_present")]
    pub items: bool,
}

fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct HeaderMetadata<'a> {
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
    pub ports: FieldList<ServicePort<'a>>,
    pub ip_families: FieldList<Text<'a>>,
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

/// A `targetPort`: a number, or the name of a container port.
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
    pub containers: FieldList<Container<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Container<'a> {
    #[serde(borrow)]
    pub ports: FieldList<ContainerPort<'a>>,
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
    pub conditions: FieldList<Condition<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Condition<'a> {
    #[serde(borrow)]
    pub r#type: Field<Text<'a>>,
    pub status: Field<Text<'a>>,
}

/// `v1` Endpoints, the predecessor of EndpointSlices.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Endpoints<'a> {
    #[serde(borrow)]
    pub subsets: FieldList<Subset<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Subset<'a> {
    #[serde(borrow)]
    pub addresses: FieldList<EndpointAddress<'a>>,
    pub not_ready_addresses: FieldList<EndpointAddress<'a>>,
    pub ports: FieldList<Port<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EndpointAddress<'a> {
    #[serde(borrow)]
    pub ip: Field<Text<'a>>,
    pub hostname: Field<Text<'a>>,
    pub target_ref: Field<TargetRef<'a>>,
}

map_fields! {
    Condition<'a>, Container<'a>, ContainerPort<'a>, EndpointAddress<'a>, Endpoints<'a>, Header<'a>,
    HeaderMetadata<'a>, PodExtra<'a>, ServiceExtra<'a>,
    PodSpec<'a>, PodStatus<'a>, ServicePort<'a>, ServiceSpec<'a>, Subset<'a>,
}

impl TypeName for TargetPort {
    const EXPECTED: &'static str = "a port number or the name of a container's port";
}

impl<'de> FieldValue<'de> for TargetPort {
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

/// Labels in document order.
#[derive(Default)]
pub(super) struct LabelMap<'a>(Vec<(String, Field<LabelText<'a>>)>);

/// The value of a label. An unquoted number or boolean is taken by its text.
pub(super) struct LabelText<'a>(Cow<'a, str>);

impl TypeName for LabelMap<'_> {
    const EXPECTED: &'static str = "a map of names to text";
}

impl<'de: 'a, 'a> FieldValue<'de> for LabelMap<'a> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        let mut labels = Vec::new();
        while let Some((name, value)) = map.next_entry::<Text<'de>, _>()? {
            labels.push((name.to_string(), value));
        }
        Ok(Field::Given(Self(labels)))
    }
}

impl TypeName for LabelText<'_> {
    const EXPECTED: &'static str = "text; put it in quotes";
}

impl<'de: 'a, 'a> FieldValue<'de> for LabelText<'a> {
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
    /// The valid labels.
    pub(super) fn labels(&self, path: &dyn Display, invalid: &mut InvalidFields) -> LabelSet {
        let mut labels = LabelSet::new();
        for (name, value) in self.get(path, invalid).iter().flat_map(|it| &it.0) {
            if let Some(value) = value.get(&format_args!("{path}.{name}"), invalid) {
                labels.insert(name.clone(), value.0.to_string());
            }
        }
        labels
    }

    /// The labels of a selector; empty if one of them is invalid, since a selector without it would
    /// match more than intended.
    pub(super) fn selector(&self, path: &dyn Display, invalid: &mut InvalidFields) -> LabelSet {
        let before = invalid.count();
        let labels = self.labels(path, invalid);
        if invalid.count() > before {
            return LabelSet::new();
        }
        labels
    }
}
