//! Fields that never void their object: a value of the wrong type is kept as such, and what reads
//! the object leaves it out.

use super::wire::Text;
use crate::cluster::flaw::{Flaws, quote};
use crate::cluster::object::Protocol;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;

/// A field of an object.
#[derive(Default, Debug)]
pub(in crate::cluster) enum Field<T> {
    /// Not there, or null.
    #[default]
    Absent,
    /// Of the right type.
    Given(T),
    /// Of another type, or outside of its range: the value as a message shows it.
    Invalid(Box<str>),
}

/// A list, whose items are fields of their own.
pub(in crate::cluster) type Many<T> = Field<Vec<Field<T>>>;

impl<T> Field<T> {
    /// The value, where it is of the right type.
    pub(in crate::cluster) fn given(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            _ => None,
        }
    }
}

impl<T: Expected> Field<T> {
    /// The value; one of the wrong type is a flaw at this path.
    pub(in crate::cluster) fn get(&self, path: &dyn Display, flaws: &mut Flaws) -> Option<&T> {
        if let Self::Invalid(value) = self {
            flaws.add(path, value, T::EXPECTED);
        }
        self.given()
    }
}

impl<T: Expected> Many<T> {
    /// The items with their numbers, without those that are null or of the wrong type.
    pub(in crate::cluster) fn each<'f>(
        &'f self,
        path: &dyn Display,
        flaws: &mut Flaws,
    ) -> impl Iterator<Item = (usize, &'f T)> + use<'f, T> {
        let items = self.get(path, flaws).map_or(&[][..], Vec::as_slice);
        let items = items.iter().enumerate();
        for (number, item) in items.clone() {
            item.get(&format_args!("{path}[{number}]"), flaws);
        }
        items.filter_map(|(number, item)| Some((number, item.given()?)))
    }
}

impl Field<Text<'_>> {
    /// The text, where it is of the right type.
    pub(in crate::cluster) fn text(&self) -> Option<&str> {
        self.given().map(|text| &**text)
    }
}

/// What a field is to hold, for messages.
pub(in crate::cluster) trait Expected {
    /// Completes "expected ...".
    const EXPECTED: &'static str;
}

/// What a field can hold. Each method takes a value of one type; those that are not implemented
/// refuse it.
pub(in crate::cluster) trait Part<'de>: Expected + Sized {
    /// From text.
    fn from_text(text: Cow<'de, str>) -> Field<Self> {
        Field::Invalid(quote(&text))
    }

    /// From a number.
    fn from_number(number: u64) -> Field<Self> {
        Field::Invalid(number.to_string().into())
    }

    /// From a truth value.
    fn from_bool(value: bool) -> Field<Self> {
        Field::Invalid(value.to_string().into())
    }

    /// From a list.
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Field<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Invalid("a list".into()))
    }

    /// From a map.
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Field<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Invalid("a map".into()))
    }
}

impl<'de, T: Part<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyType(PhantomData))
    }
}

struct AnyType<T>(PhantomData<T>);

impl<'de, T: Part<'de>> Visitor<'de> for AnyType<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Field::Absent)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Field::Absent)
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
            Err(_) => Field::Invalid(number.to_string().into()),
        })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Field::Invalid(number.to_string().into()))
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

impl Expected for Text<'_> {
    const EXPECTED: &'static str = "text";
}

impl<'de: 'a, 'a> Part<'de> for Text<'a> {
    fn from_text(text: Cow<'de, str>) -> Field<Self> {
        Field::Given(Self(text))
    }
}

impl Expected for bool {
    const EXPECTED: &'static str = "true or false";
}

impl Part<'_> for bool {
    fn from_bool(value: bool) -> Field<Self> {
        Field::Given(value)
    }
}

impl Expected for u16 {
    const EXPECTED: &'static str = "a port number, 0 to 65535";
}

impl Part<'_> for u16 {
    fn from_number(number: u64) -> Field<Self> {
        match Self::try_from(number) {
            Ok(number) => Field::Given(number),
            Err(_) => Field::Invalid(number.to_string().into()),
        }
    }
}

impl Expected for Protocol {
    const EXPECTED: &'static str = "TCP, UDP or SCTP";
}

impl<'de> Part<'de> for Protocol {
    fn from_text(text: Cow<'de, str>) -> Field<Self> {
        match &*text {
            "" => Field::Absent,
            "TCP" => Field::Given(Self::Tcp),
            "UDP" => Field::Given(Self::Udp),
            "SCTP" => Field::Given(Self::Sctp),
            _ => Field::Invalid(quote(&text)),
        }
    }
}

impl<T> Expected for Vec<Field<T>> {
    const EXPECTED: &'static str = "a list";
}

impl<'de, T: Part<'de>> Part<'de> for Vec<Field<T>> {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Field<Self>, A::Error> {
        let mut items = Self::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Field::Given(items))
    }
}

/// Lets fields hold structs, which are maps.
macro_rules! parts {
    ($($part:ident $(<$a:lifetime>)?),* $(,)?) => { $(
        impl $(<$a>)? $crate::cluster::decode::field::Expected for $part $(<$a>)? {
            const EXPECTED: &'static str = "a map";
        }

        impl<'de $(: $a, $a)?> $crate::cluster::decode::field::Part<'de> for $part $(<$a>)? {
            fn from_map<A: serde::de::MapAccess<'de>>(
                map: A,
            ) -> Result<$crate::cluster::decode::field::Field<Self>, A::Error> {
                $crate::cluster::decode::field::read_map(map)
            }
        }
    )* };
}
pub(in crate::cluster) use parts;

/// A struct from a map.
pub(in crate::cluster) fn read_map<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    map: A,
) -> Result<Field<T>, A::Error> {
    T::deserialize(MapAccessDeserializer::new(map)).map(Field::Given)
}
