//! Fields that never fail the decoding of their object: a value of the wrong type is kept as
//! [`ApiField::Invalid`], and skipped by the conversion.

use crate::cluster::invalid::{InvalidFields, quote};
use crate::cluster::object::Protocol;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::{Borrow, Cow};
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::ops::Deref;

/// A field of an object.
#[derive(Default, Debug)]
pub(in crate::cluster) enum ApiField<T> {
    /// Absent or null.
    #[default]
    Absent,
    /// A value of the expected type.
    Given(T),
    /// A value of another type or out of range, as shown in messages.
    Invalid(Box<str>),
}

/// A list, whose items are fields themselves.
pub(in crate::cluster) type FieldList<T> = ApiField<Vec<ApiField<T>>>;

impl<T> ApiField<T> {
    /// The value, if of the expected type.
    pub(in crate::cluster) fn given(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            _ => None,
        }
    }
}

impl<T: TypeName> ApiField<T> {
    /// The value; an invalid one is added to `invalid` with its path.
    pub(in crate::cluster) fn get(
        &self,
        path: &dyn Display,
        invalid: &mut InvalidFields,
    ) -> Option<&T> {
        if let Self::Invalid(value) = self {
            invalid.add(path, value, T::EXPECTED);
        }
        self.given()
    }
}

impl<T: TypeName> FieldList<T> {
    /// The valid items with their indices; null items are ignored, invalid ones are added to
    /// `invalid`.
    pub(in crate::cluster) fn each<'f>(
        &'f self,
        path: &dyn Display,
        invalid: &mut InvalidFields,
    ) -> impl Iterator<Item = (usize, &'f T)> + use<'f, T> {
        let items = self.get(path, invalid).map_or(&[][..], Vec::as_slice);
        let items = items.iter().enumerate();
        for (number, item) in items.clone() {
            item.get(&format_args!("{path}[{number}]"), invalid);
        }
        items.filter_map(|(number, item)| Some((number, item.given()?)))
    }
}

/// A string, borrowed from the input if it has no escapes.
#[derive(Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub(in crate::cluster) struct ApiText<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Deref for ApiText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ApiText<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ApiText<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl ApiField<ApiText<'_>> {
    /// The text, if of the expected type.
    pub(in crate::cluster) fn text(&self) -> Option<&str> {
        self.given().map(|text| &**text)
    }
}

/// The name of a field's type, for messages.
pub(in crate::cluster) trait TypeName {
    /// Completes "expected ...".
    const EXPECTED: &'static str;
}

/// A type that a field can have. Each method converts one JSON or YAML type; the defaults reject
/// it.
pub(in crate::cluster) trait FieldValue<'de>: TypeName + Sized {
    /// From a string.
    fn from_text(text: Cow<'de, str>) -> ApiField<Self> {
        ApiField::Invalid(quote(&text))
    }

    /// From a number.
    fn from_number(number: u64) -> ApiField<Self> {
        ApiField::Invalid(number.to_string().into())
    }

    /// From a boolean.
    fn from_bool(value: bool) -> ApiField<Self> {
        ApiField::Invalid(value.to_string().into())
    }

    /// From a list.
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<ApiField<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(ApiField::Invalid("a list".into()))
    }

    /// From a map.
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<ApiField<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(ApiField::Invalid("a map".into()))
    }
}

impl<'de, T: FieldValue<'de>> Deserialize<'de> for ApiField<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyType(PhantomData))
    }
}

struct AnyType<T>(PhantomData<T>);

impl<'de, T: FieldValue<'de>> Visitor<'de> for AnyType<T> {
    type Value = ApiField<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(ApiField::Absent)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(ApiField::Absent)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(T::from_text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(T::from_text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(T::from_text(Cow::Owned(text)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(T::from_number(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(match u64::try_from(number) {
            Ok(number) => T::from_number(number),
            Err(_) => ApiField::Invalid(number.to_string().into()),
        })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(ApiField::Invalid(number.to_string().into()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(T::from_bool(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::from_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::from_map(map)
    }
}

impl TypeName for ApiText<'_> {
    const EXPECTED: &'static str = "text";
}

impl<'de: 'a, 'a> FieldValue<'de> for ApiText<'a> {
    fn from_text(text: Cow<'de, str>) -> ApiField<Self> {
        ApiField::Given(Self(text))
    }
}

impl TypeName for bool {
    const EXPECTED: &'static str = "true or false";
}

impl FieldValue<'_> for bool {
    fn from_bool(value: bool) -> ApiField<Self> {
        ApiField::Given(value)
    }
}

impl TypeName for u16 {
    const EXPECTED: &'static str = "a port number, 0 to 65535";
}

impl FieldValue<'_> for u16 {
    fn from_number(number: u64) -> ApiField<Self> {
        match Self::try_from(number) {
            Ok(number) => ApiField::Given(number),
            Err(_) => ApiField::Invalid(number.to_string().into()),
        }
    }
}

impl TypeName for Protocol {
    const EXPECTED: &'static str = "TCP, UDP or SCTP";
}

impl<'de> FieldValue<'de> for Protocol {
    fn from_text(text: Cow<'de, str>) -> ApiField<Self> {
        match &*text {
            "" => ApiField::Absent,
            "TCP" => ApiField::Given(Self::Tcp),
            "UDP" => ApiField::Given(Self::Udp),
            "SCTP" => ApiField::Given(Self::Sctp),
            _ => ApiField::Invalid(quote(&text)),
        }
    }
}

impl<T> TypeName for Vec<ApiField<T>> {
    const EXPECTED: &'static str = "a list";
}

impl<'de, T: FieldValue<'de>> FieldValue<'de> for Vec<ApiField<T>> {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<ApiField<Self>, A::Error> {
        let mut items = Self::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(ApiField::Given(items))
    }
}

/// Implements [`FieldValue`] for structs, which are maps.
macro_rules! map_fields {
    ($($part:ident $(<$a:lifetime>)?),* $(,)?) => { $(
        impl $(<$a>)? $crate::cluster::decode::field::TypeName for $part $(<$a>)? {
            const EXPECTED: &'static str = "a map";
        }

        impl<'de $(: $a, $a)?> $crate::cluster::decode::field::FieldValue<'de> for $part $(<$a>)? {
            fn from_map<A: serde::de::MapAccess<'de>>(
                map: A,
            ) -> Result<$crate::cluster::decode::field::ApiField<Self>, A::Error> {
                $crate::cluster::decode::field::read_map(map)
            }
        }
    )* };
}
pub(in crate::cluster) use map_fields;

/// Decodes a struct from a map.
pub(in crate::cluster) fn read_map<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    map: A,
) -> Result<ApiField<T>, A::Error> {
    T::deserialize(MapAccessDeserializer::new(map)).map(ApiField::Given)
}
