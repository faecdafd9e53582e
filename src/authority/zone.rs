//! A zone: its records by owner, the owners in canonical order.

use super::key::Key;
use crate::wire::{Name, NameRef, Type};

/// A zone of records. It is made once ([`super::Builder`]) and never changes.
///
/// All names and record data lie in one arena, so that a zone is a few allocations whatever its
/// size. Names that exist only because there are names below them have nodes too.
pub struct Zone {
    pub(super) apex: Name,
    pub(super) timers: Timers,
    /// In the order of their keys; the first is the apex.
    pub(super) nodes: Vec<Node>,
    /// Those of each node together, in the order of their types.
    pub(super) sets: Vec<Set>,
    pub(super) arena: Vec<u8>,
    pub(super) records: usize,
}

/// The numbers of a zone's SOA record (RFC 1035 §3.3.13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// Changes with the zone.
    pub serial: u32,
    /// Seconds between a secondary's questions.
    pub refresh: u32,
    /// Seconds until it asks again.
    pub retry: u32,
    /// Seconds after which it gives up.
    pub expire: u32,
    /// Seconds that a denial may be kept.
    pub minimum: u32,
}

/// A name that exists.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) key: Span,
    /// The name as it was written.
    pub(super) owner: Span,
    /// The node of the name above; the apex's own is itself.
    pub(super) parent: u32,
    /// The node at or above it, nearest to the apex, at which the zone ends (NS below the apex) or
    /// goes on elsewhere (DNAME); [`NOWHERE`] for most.
    pub(super) cut: u32,
    pub(super) first_set: u32,
    pub(super) last_set: u32,
}

/// No node.
pub(super) const NOWHERE: u32 = u32::MAX;

/// The records of one type at one name, and the signatures over them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) rtype: Type,
    pub(super) ttl: u32,
    /// Each with its length before it. There may be none: signatures of nothing are kept too.
    pub(super) records: Span,
    pub(super) signatures: Span,
    pub(super) signature_ttl: u32,
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        self.records.start == self.records.end
    }
}

/// A piece of the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// Where a name stands among those that exist.
pub(super) struct Place {
    /// Its node, where it exists.
    pub(super) exact: Option<usize>,
    /// The node of the longest existing name at or above it (RFC 4592 §3.3.1).
    pub(super) encloser: usize,
    /// The last node at or before it.
    pub(super) before: usize,
}

impl Zone {
    /// The zone's name, as written.
    pub fn apex(&self) -> NameRef<'_> {
        self.apex.as_ref()
    }

    /// The numbers of its SOA record.
    pub fn timers(&self) -> Timers {
        self.timers
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Whether both hold the same, record for record.
    pub fn is_same(&self, other: &Self) -> bool {
        self.arena == other.arena && self.sets == other.sets
    }

    /// Looks for a name among those that exist.
    pub(super) fn find(&self, key: &[u8]) -> Place {
        let found = self
            .nodes
            .binary_search_by(|node| self.slice(node.key).cmp(key));
        match found {
            Ok(at) => Place {
                exact: Some(at),
                encloser: at,
                before: at,
            },
            Err(after) => {
                // The apex has the least of all keys, and is there.
                let before = after.saturating_sub(1);
                let mut encloser = before;
                while !key.starts_with(self.slice(self.nodes[encloser].key)) {
                    encloser = self.nodes[encloser].parent as usize;
                }
                Place {
                    exact: None,
                    encloser,
                    before,
                }
            }
        }
    }

    /// The node of `label` under a node.
    pub(super) fn child(&self, node: usize, label: &[u8]) -> Option<Place> {
        let key = Key::under(self.slice(self.nodes[node].key), label)?;
        Some(self.find(key.as_octets()))
    }

    /// The node of a name, where it exists.
    pub(super) fn node(&self, name: NameRef<'_>) -> Option<usize> {
        self.find(Key::new(name, self.apex())?.as_octets()).exact
    }

    /// The node at which the zone ends or goes on elsewhere above `node`, or at it.
    pub(super) fn cut(&self, node: usize) -> Option<usize> {
        let cut = self.nodes[node].cut;
        (cut != NOWHERE).then_some(cut as usize)
    }

    pub(super) fn owner(&self, node: usize) -> NameRef<'_> {
        let owner = self.slice(self.nodes[node].owner);
        NameRef::from_wire(owner).expect("owners enter the arena as names")
    }

    /// The sets of a node.
    pub(super) fn sets(&self, node: usize) -> &[Set] {
        let node = &self.nodes[node];
        &self.sets[node.first_set as usize..node.last_set as usize]
    }

    /// The set of a type at a node, if it has records.
    pub(super) fn set(&self, node: usize, rtype: Type) -> Option<&Set> {
        let sets = self.sets(node);
        let at = sets.binary_search_by_key(&rtype, |set| set.rtype).ok()?;
        Some(&sets[at]).filter(|set| !set.is_empty())
    }

    /// The data of the records in a span.
    pub(super) fn data(&self, span: Span) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.slice(span);
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<2>()?;
            let (data, behind) = behind.split_at(usize::from(u16::from_be_bytes(*length)));
            rest = behind;
            Some(data)
        })
    }

    pub(super) fn slice(&self, span: Span) -> &[u8] {
        &self.arena[span.start as usize..span.end as usize]
    }
}
