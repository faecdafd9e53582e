//! The additional API fields that the emulated controllers need.

use crate::cluster::decode::field::{
    ApiField, ApiText, FieldList, FieldValue, TypeName, map_fields,
};
use crate::cluster::decode::wire::{Port, TargetRef};
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
pub(super) struct ObjectHeader<'a> {
    #[serde(borrow)]
    pub api_version: ApiField<ApiText<'a>>,
    pub kind: ApiField<ApiText<'a>>,
    pub metadata: ApiField<ObjectHeaderMetadata<'a>>,
    /// Whether it is present, even if null: then the object is a list.
    #[serde(deserialize_with = "is_present")]
    pub items: bool,
}

fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ObjectHeaderMetadata<'a> {
    #[serde(borrow)]
    pub name: ApiField<ApiText<'a>>,
    pub namespace: ApiField<ApiText<'a>>,
    pub labels: ApiField<LabelMap<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ServiceExtra<'a> {
    #[serde(borrow)]
    pub spec: ApiField<ServiceSpec<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceSpec<'a> {
    #[serde(borrow)]
    pub selector: ApiField<LabelMap<'a>>,
    pub ports: FieldList<ServicePort<'a>>,
    pub ip_families: FieldList<ApiText<'a>>,
    pub ip_family_policy: ApiField<ApiText<'a>>,
    pub publish_not_ready_addresses: ApiField<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServicePort<'a> {
    #[serde(borrow)]
    pub name: ApiField<ApiText<'a>>,
    pub port: ApiField<u16>,
    pub protocol: ApiField<Protocol>,
    pub target_port: ApiField<TargetPort>,
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
    pub spec: ApiField<PodSpec<'a>>,
    pub status: ApiField<PodStatus<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct PodSpec<'a> {
    #[serde(borrow)]
    pub hostname: ApiField<ApiText<'a>>,
    pub subdomain: ApiField<ApiText<'a>>,
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
    pub name: ApiField<ApiText<'a>>,
    pub container_port: ApiField<u16>,
    pub protocol: ApiField<Protocol>,
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
    pub r#type: ApiField<ApiText<'a>>,
    pub status: ApiField<ApiText<'a>>,
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
    pub ip: ApiField<ApiText<'a>>,
    pub hostname: ApiField<ApiText<'a>>,
    pub target_ref: ApiField<TargetRef<'a>>,
}

map_fields! {
    Condition<'a>, Container<'a>, ContainerPort<'a>, EndpointAddress<'a>, Endpoints<'a>, ObjectHeader<'a>,
    ObjectHeaderMetadata<'a>, PodExtra<'a>, ServiceExtra<'a>,
    PodSpec<'a>, PodStatus<'a>, ServicePort<'a>, ServiceSpec<'a>, Subset<'a>,
}

impl TypeName for TargetPort {
    const EXPECTED: &'static str = "a port number or the name of a container's port";
}

impl<'de> FieldValue<'de> for TargetPort {
    fn from_text(text: Cow<'de, str>) -> ApiField<Self> {
        ApiField::Given(Self::Name(text.into_owned()))
    }

    fn from_number(number: u64) -> ApiField<Self> {
        match u16::try_from(number) {
            Ok(number) => ApiField::Given(Self::Number(number)),
            Err(_) => ApiField::Invalid(number.to_string().into()),
        }
    }
}

/// Labels in document order.
#[derive(Default)]
pub(super) struct LabelMap<'a>(Vec<(String, ApiField<LabelText<'a>>)>);

/// The value of a label. An unquoted number or boolean is taken by its text.
pub(super) struct LabelText<'a>(Cow<'a, str>);

impl TypeName for LabelMap<'_> {
    const EXPECTED: &'static str = "a map of names to text";
}

impl<'de: 'a, 'a> FieldValue<'de> for LabelMap<'a> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<ApiField<Self>, A::Error> {
        let mut labels = Vec::new();
        while let Some((name, value)) = map.next_entry::<ApiText<'de>, _>()? {
            labels.push((name.to_string(), value));
        }
        Ok(ApiField::Given(Self(labels)))
    }
}

impl TypeName for LabelText<'_> {
    const EXPECTED: &'static str = "text; put it in quotes";
}

impl<'de: 'a, 'a> FieldValue<'de> for LabelText<'a> {
    fn from_text(text: Cow<'de, str>) -> ApiField<Self> {
        ApiField::Given(Self(text))
    }

    fn from_number(number: u64) -> ApiField<Self> {
        ApiField::Given(Self(number.to_string().into()))
    }

    fn from_bool(value: bool) -> ApiField<Self> {
        ApiField::Given(Self(if value { "true" } else { "false" }.into()))
    }
}

impl ApiField<LabelMap<'_>> {
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
