//! What two questions must have in common to share an answer.
//!
//! In the key: name whatever its case, type, class, DO, CD, and the EDNS options that go on to
//! upstreams, such as the client's network: an answer that was made for one must not be given to
//! another. Shared on purpose, because the answer
//! does not depend on them: transport, message id, payload size, spelling, the asker's address, the
//! AD bit (it only decides whether AD is shown). RD is shared for reading alone: what came for a
//! question without it is not kept, since an upstream that does not recurse may say anything less.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use quick_cache::Equivalent;

use super::entry::Entry;
use crate::{
    query::Query,
    wire::{Class, Name, Type},
};

/// A key in the store: that of an entry, which holds it.
#[derive(Clone, Debug)]
pub struct Key(pub Arc<Entry>);

/// A key to look up with, made without allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// In lower case.
    pub(super) name: &'a [u8],
    /// Nearly always empty.
    pub(super) options: &'a [u8],
    pub(super) rest: Rest,
}

/// What a key is made of besides octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
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
}

impl Hash for KeyRef<'_> {
    /// In as few steps as there can be. A name ends itself, so that what follows needs no mark.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.name);
        let Rest {
            rtype,
            class,
            dnssec_ok,
            checking_disabled,
        } = self.rest;
        let numbers = u64::from(rtype.0) << 16 | u64::from(class.0);
        let bits = u64::from(dnssec_ok) << 1 | u64::from(checking_disabled);
        state.write_u64(numbers << 2 | bits);
        if !self.options.is_empty() {
            state.write(self.options);
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for Key {}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.0.key()
    }
}
