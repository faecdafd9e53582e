//! A zone: its records by owner name, in canonical order.

use super::key::SortKey;
use crate::wire::{Name, NameRef, Type};

/// An immutable zone, built by [`super::ZoneBuilder`].
///
/// All names and record data are in one arena, so that a zone takes a few allocations regardless of
/// its size. Empty non-terminals have nodes too.
pub struct Zone {
    pub(super) apex: Name,
    pub(super) timers: Timers,
    /// Sorted by key; the first is the apex.
    pub(super) nodes: Vec<Node>,
    /// Grouped by node, sorted by type.
    pub(super) sets: Vec<RecordSet>,
    pub(super) arena: Vec<u8>,
    pub(super) records: usize,
}

/// The numeric fields of a zone's SOA record (RFC 1035 section 3.3.13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// The version of the zone.
    pub serial: u32,
    /// Seconds between refreshes by a secondary.
    pub refresh: u32,
    /// Seconds before a failed refresh is retried.
    pub retry: u32,
    /// Seconds after which a secondary without refresh stops serving.
    pub expire: u32,
    /// Maximum TTL of negative answers, in seconds (RFC 2308 section 4).
    pub minimum: u32,
}

/// An existing name.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) key: ArenaRange,
    /// The name, as spelled in the source.
    pub(super) owner: ArenaRange,
    /// The parent node; the apex is its own parent.
    pub(super) parent: u32,
    /// The node of the zone cut (NS below the apex) or DNAME record at or above it, nearest to the
    /// apex; usually [`NO_NODE`].
    pub(super) cut: u32,
    pub(super) first_set: u32,
    pub(super) last_set: u32,
}

/// No node.
pub(super) const NO_NODE: u32 = u32::MAX;

/// A record set: the records of one type at one name, and their signatures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordSet {
    pub(super) rtype: Type,
    pub(super) ttl: u32,
    /// Each with a 2-byte length prefix. May be empty: signatures without records are kept.
    pub(super) records: ArenaRange,
    pub(super) signatures: ArenaRange,
    pub(super) signature_ttl: u32,
}

impl RecordSet {
    pub(super) fn is_empty(&self) -> bool {
        self.records.start == self.records.end
    }
}

/// A range of the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ArenaRange {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// The result of searching a name.
pub(super) struct NodeMatch {
    /// Its node, if it exists.
    pub(super) exact: Option<usize>,
    /// The closest encloser: the longest existing ancestor, or the name itself (RFC 4592 section
    /// 3.3.1).
    pub(super) encloser: usize,
    /// The last node at or before it in canonical order.
    pub(super) predecessor: usize,
}

impl Zone {
    /// The zone's name, as configured.
    pub fn apex(&self) -> NameRef<'_> {
        self.apex.as_ref()
    }

    /// The numeric fields of its SOA record.
    pub fn timers(&self) -> Timers {
        self.timers
    }

    /// Number of records.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Whether both zones have identical records.
    pub fn is_same(&self, other: &Self) -> bool {
        self.arena == other.arena && self.sets == other.sets
    }

    /// Searches a name by key.
    pub(super) fn find(&self, key: &[u8]) -> NodeMatch {
        let found = self
            .nodes
            .binary_search_by(|node| self.slice(node.key).cmp(key));
        match found {
            Ok(at) => NodeMatch {
                exact: Some(at),
                encloser: at,
                predecessor: at,
            },
            Err(after) => {
                // The apex exists and has the smallest key.
                let predecessor = after.saturating_sub(1);
                let mut encloser = predecessor;
                while !key.starts_with(self.slice(self.nodes[encloser].key)) {
                    encloser = self.nodes[encloser].parent as usize;
                }
                NodeMatch {
                    exact: None,
                    encloser,
                    predecessor,
                }
            }
        }
    }

    /// The result of searching `label` below a node.
    pub(super) fn child(&self, node: usize, label: &[u8]) -> Option<NodeMatch> {
        let key = SortKey::under(self.slice(self.nodes[node].key), label)?;
        Some(self.find(key.as_bytes()))
    }

    /// The node of a name, if it exists.
    pub(super) fn node(&self, name: NameRef<'_>) -> Option<usize> {
        self.find(SortKey::new(name, self.apex())?.as_bytes()).exact
    }

    /// The node of the zone cut or DNAME record at or above `node`.
    pub(super) fn cut(&self, node: usize) -> Option<usize> {
        let cut = self.nodes[node].cut;
        (cut != NO_NODE).then_some(cut as usize)
    }

    pub(super) fn owner(&self, node: usize) -> NameRef<'_> {
        let owner = self.slice(self.nodes[node].owner);
        NameRef::from_wire(owner).expect("owners enter the arena as names")
    }

    /// The record sets of a node.
    pub(super) fn sets(&self, node: usize) -> &[RecordSet] {
        let node = &self.nodes[node];
        &self.sets[node.first_set as usize..node.last_set as usize]
    }

    /// The record set of a type at a node, if it has records.
    pub(super) fn set(&self, node: usize, rtype: Type) -> Option<&RecordSet> {
        let sets = self.sets(node);
        let at = sets.binary_search_by_key(&rtype, |set| set.rtype).ok()?;
        Some(&sets[at]).filter(|set| !set.is_empty())
    }

    /// The data of the records in a range.
    pub(super) fn data(&self, span: ArenaRange) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.slice(span);
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<2>()?;
            let (data, behind) = behind.split_at(usize::from(u16::from_be_bytes(*length)));
            rest = behind;
            Some(data)
        })
    }

    pub(super) fn slice(&self, span: ArenaRange) -> &[u8] {
        &self.arena[span.start as usize..span.end as usize]
    }
}
