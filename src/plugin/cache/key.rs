//! The cache key: what two queries must have in common to share a response.
//!
//! The key holds the name in lower case, type, class, DO, CD, and the EDNS options that are forwarded
//! to upstreams, such as the client subnet (RFC 7871 section 7.3.1). Not in the key, because the
//! response does not depend on them: transport, message id, payload size, the name's letter case, the
//! client's address, and the AD bit (which only decides whether AD is set in the reply). RD is not in
//! the key either, but responses to queries without it are not cached: an upstream that does not
//! recurse may return less.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
};

use quick_cache::Equivalent;

use super::entry::Entry;
use crate::{
    query::Query,
    wire::{Class, Name, Type},
};

/// Has a random key, so that clients cannot choose names that collide.
static HASHER: LazyLock<foldhash::fast::RandomState> = LazyLock::new(Default::default);

/// A key in the store: stored in the entry itself.
#[derive(Clone, Debug)]
pub struct Key(pub Arc<Entry>);

/// A borrowed key for lookups, made without allocation.
#[derive(Clone, Copy, Debug, Eq)]
pub struct KeyRef<'a> {
    /// In lower case.
    pub(super) name: &'a [u8],
    /// Nearly always empty.
    pub(super) options: &'a [u8],
    pub(super) flags: Flags,
    /// The hash of all these, for every table: a query is looked up in three.
    pub(super) hash: u32,
}

/// The fields of a key that have a fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    rtype: Type,
    class: Class,
    dnssec_ok: bool,
    checking_disabled: bool,
}

impl<'a> KeyRef<'a> {
    /// The key of `query` as it is at this point of the chain.
    pub fn of(query: &'a Query) -> Self {
        let question = &query.question;
        let lower: &Name = &question.lower;
        let (name, options) = (lower.as_wire(), query.options.as_wire());
        let flags = Flags {
            rtype: question.rtype,
            class: question.class,
            dnssec_ok: query.dnssec_ok(),
            checking_disabled: query.checking_disabled,
        };
        Self {
            name,
            options,
            flags,
            hash: hash(name, options, flags),
        }
    }
}

/// In as few writes as possible. A name in wire form ends with the root label, so that no separator is needed.
fn hash(name: &[u8], options: &[u8], flags: Flags) -> u32 {
    let Flags {
        rtype,
        class,
        dnssec_ok,
        checking_disabled,
    } = flags;
    let numbers = u64::from(rtype.0) << 16 | u64::from(class.0);
    let bits = u64::from(dnssec_ok) << 1 | u64::from(checking_disabled);
    let mut hasher = HASHER.build_hasher();
    hasher.write(name);
    hasher.write_u64(numbers << 2 | bits);
    if !options.is_empty() {
        hasher.write(options);
    }
    // Half of it is enough for a table's index and to tell keys apart before they are compared.
    (hasher.finish() >> 32) as u32
}

impl PartialEq for KeyRef<'_> {
    /// Options are compared only if there are any: even of nothing, a call of memcmp costs as much as the
    /// other fields.
    fn eq(&self, other: &Self) -> bool {
        self.flags == other.flags
            && self.options.len() == other.options.len()
            && self.name == other.name
            && (self.options.is_empty() || self.options == other.options)
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.hash);
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
