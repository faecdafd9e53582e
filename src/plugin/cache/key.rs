//! What two questions must have in common to share an answer.
//!
//! In the key: name whatever its case, type, class, DO, CD, and the EDNS options that go on to
//! upstreams, such as the client's network: an answer that was made for one must not be given to
//! another. Shared on purpose, because the answer
//! does not depend on them: transport, message id, payload size, spelling, the asker's address, the
//! AD bit (it only decides whether AD is shown). RD is shared for reading alone: what came for a
//! question without it is not kept, since an upstream that does not recurse may say anything less.

use std::hash::{Hash, Hasher};

use quick_cache::Equivalent;

use crate::{
    query::Query,
    wire::{Class, Name, Type},
};

/// A key in the store.
#[derive(Clone, Debug)]
pub struct Key {
    name: Box<[u8]>,
    /// Nearly always empty, and then no allocation.
    options: Box<[u8]>,
    rest: Rest,
}

/// A key to look up with, made without allocation.
#[derive(Clone, Copy, Debug)]
pub struct KeyRef<'a> {
    name: &'a [u8],
    options: &'a [u8],
    rest: Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Rest {
    rtype: Type,
    class: Class,
    dnssec_ok: bool,
    checking_disabled: bool,
}

impl<'a> KeyRef<'a> {
    /// The key of what `query` asks at this point of the chain.
    pub fn of(query: &'a Query) -> Self {
        let question = &query.question;
        let lower: &Name = &question.lower;
        Self {
            name: lower.as_wire(),
            options: query.options.as_wire(),
            rest: Rest {
                rtype: question.rtype,
                class: question.class,
                dnssec_ok: query.dnssec_ok(),
                checking_disabled: query.checking_disabled,
            },
        }
    }

    /// The same key, to be kept.
    pub fn to_key(self) -> Key {
        Key {
            name: self.name.into(),
            options: self.options.into(),
            rest: self.rest,
        }
    }
}

impl Key {
    /// The same key, to look up with.
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef {
            name: &self.name,
            options: &self.options,
            rest: self.rest,
        }
    }

    /// Octets held.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.options.len()
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.options.hash(state);
        self.rest.hash(state);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl PartialEq for KeyRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.options == other.options && self.rest == other.rest
    }
}

impl Eq for KeyRef<'_> {}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Key {}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.as_ref()
    }
}
