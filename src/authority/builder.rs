//! Builds a zone from records.

use super::{
    format::{is_data, is_well_formed},
    key::{SortKey, parent},
    zone::{ArenaRange, NO_NODE, Node, RecordSet, Timers, Zone},
};
use crate::wire::{Name, NameRef, Type};

/// Maximum size in bytes of a zone's names and data: that of the largest file read.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// NSEC3 and NSEC3PARAM: denial by hashed names, not supported.
pub(super) const NSEC3_TYPES: [Type; 2] = [Type(50), Type(51)];

/// Collects the records of a zone.
pub struct ZoneBuilder {
    apex: Name,
    arena: Vec<u8>,
    records: Vec<PendingRecord>,
    soa: Option<ArenaRange>,
}

/// A record before sorting.
#[derive(Clone, Copy)]
struct PendingRecord {
    key: ArenaRange,
    owner: ArenaRange,
    data: ArenaRange,
    rtype: Type,
    ttl: u32,
}

/// Why a record cannot be part of a zone, or a zone cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // see the messages
pub enum InvalidRecord {
    #[error("the name is outside the zone")]
    Outside,
    #[error("SOA record below the apex of the zone")]
    SoaBelow,
    #[error("second SOA record in the zone")]
    SecondSoa,
    #[error("zones signed with NSEC3 are not supported: sign with NSEC")]
    Hashed,
    #[error("zones cannot contain records of this type")]
    NoData,
    #[error("malformed data for this type")]
    Malformed,
    #[error("more than 256 MiB of records")]
    TooMuch,
    #[error("the zone has no SOA record")]
    NoSoa,
}

impl ZoneBuilder {
    /// A builder without records.
    pub fn new(apex: Name) -> Self {
        Self {
            apex,
            arena: Vec::new(),
            records: Vec::new(),
            soa: None,
        }
    }

    /// The zone's name.
    pub fn apex(&self) -> NameRef<'_> {
        self.apex.as_ref()
    }

    /// Adds a record; `data` is in wire format with uncompressed names. Duplicates are ignored (RFC
    /// 2181 section 5).
    pub fn add(
        &mut self,
        owner: NameRef<'_>,
        rtype: Type,
        ttl: u32,
        data: &[u8],
    ) -> Result<(), InvalidRecord> {
        let key = SortKey::new(owner, self.apex.as_ref()).ok_or(InvalidRecord::Outside)?;
        if NSEC3_TYPES.contains(&rtype) {
            return Err(InvalidRecord::Hashed);
        }
        if !is_data(rtype) {
            return Err(InvalidRecord::NoData);
        }
        if data.len() > usize::from(u16::MAX) || !is_well_formed(rtype, data) {
            return Err(InvalidRecord::Malformed);
        }
        if self.arena.len() > MAX_BYTES {
            return Err(InvalidRecord::TooMuch);
        }
        let is_soa = rtype == Type::SOA;
        if is_soa && !key.as_bytes().is_empty() {
            return Err(InvalidRecord::SoaBelow);
        }
        if is_soa && let Some(first) = self.soa {
            let is_same = &self.arena[range(first)] == data;
            return if is_same {
                Ok(())
            } else {
                Err(InvalidRecord::SecondSoa)
            };
        }
        let entry = PendingRecord {
            key: store(&mut self.arena, key.as_bytes()),
            owner: store(&mut self.arena, owner.as_wire()),
            data: store(&mut self.arena, data),
            rtype,
            ttl,
        };
        if is_soa {
            self.soa = Some(entry.data);
        }
        self.records.push(entry);
        Ok(())
    }

    /// Builds the zone.
    pub fn finish(mut self) -> Result<Zone, InvalidRecord> {
        let timers = timers(&self.arena[range(self.soa.ok_or(InvalidRecord::NoSoa)?)]);
        let mut records = std::mem::take(&mut self.records);
        let arena = &self.arena;
        let data = |entry: &PendingRecord| &arena[range(entry.data)];
        // Sorted by name, then by type (a signature by the covered type); records before
        // signatures, otherwise in order of insertion.
        let order =
            |entry: &PendingRecord| (&arena[range(entry.key)], covered_type(entry, data(entry)));
        records.sort_by(|one, other| order(one).cmp(&order(other)));
        let mut zone = Zone {
            apex: self.apex,
            timers,
            nodes: Vec::new(),
            sets: Vec::new(),
            arena: Vec::with_capacity(arena.len()),
            records: 0,
        };
        let apex = self.apex;
        for name in records.chunk_by(|one, other| arena[range(one.key)] == arena[range(other.key)])
        {
            let key = &arena[range(name[0].key)];
            let owner = &arena[range(name[0].owner)];
            let owner = NameRef::from_wire(owner).expect("owners enter the arena as names");
            // The apex sorts first, and exists: it has the SOA record.
            let node = zone.grow(key, owner, apex);
            // Empty non-terminals take space as well.
            if zone.arena.len() > 2 * MAX_BYTES {
                return Err(InvalidRecord::TooMuch);
            }
            for set in name.chunk_by(|one, other| {
                covered_type(one, data(one)).0 == covered_type(other, data(other)).0
            }) {
                zone.put(node, set, arena);
            }
        }
        zone.mark_cuts();
        zone.arena.shrink_to_fit();
        zone.nodes.shrink_to_fit();
        zone.sets.shrink_to_fit();
        Ok(zone)
    }
}

impl Zone {
    /// Adds the node of a name that sorts after all existing ones, with missing ancestors.
    fn grow(&mut self, key: &[u8], owner: NameRef<'_>, apex: Name) -> usize {
        let above = match parent(key) {
            None => None,
            Some(above) => {
                let last = self.nodes.len() - 1;
                // The closest existing ancestor is the last node or one of its ancestors.
                let mut at = last;
                while !above.starts_with(self.slice(self.nodes[at].key)) {
                    at = self.nodes[at].parent as usize;
                }
                if self.slice(self.nodes[at].key) != above {
                    let name = owner.parent().unwrap_or_else(|| apex.as_ref());
                    at = self.grow(above, name, apex);
                }
                Some(at)
            }
        };
        let at = self.nodes.len();
        let sets = number(self.sets.len());
        let node = Node {
            key: store(&mut self.arena, key),
            owner: store(&mut self.arena, owner.as_wire()),
            parent: number(above.unwrap_or(at)),
            cut: NO_NODE,
            first_set: sets,
            last_set: sets,
        };
        self.nodes.push(node);
        at
    }

    /// Adds the records of one type and their signatures to the last node.
    fn put(&mut self, node: usize, entries: &[PendingRecord], arena: &[u8]) {
        let data = |entry: &PendingRecord| &arena[range(entry.data)];
        let (rtype, _) = covered_type(&entries[0], data(&entries[0]));
        let mut set = RecordSet {
            rtype,
            ttl: 0,
            records: ArenaRange::default(),
            signatures: ArenaRange::default(),
            signature_ttl: 0,
        };
        let signatures = entries.partition_point(|entry| !covered_type(entry, data(entry)).1);
        let (records, signatures) = entries.split_at(signatures);
        (set.records, set.ttl) = self.copy(records, arena);
        (set.signatures, set.signature_ttl) = self.copy(signatures, arena);
        self.sets.push(set);
        self.nodes[node].last_set = number(self.sets.len());
    }

    /// Copies the data of records without duplicates; returns their TTL, the minimum (RFC 2181
    /// section 5.2).
    fn copy(&mut self, entries: &[PendingRecord], arena: &[u8]) -> (ArenaRange, u32) {
        let start = number(self.arena.len());
        let mut seen = std::collections::HashSet::new();
        for entry in entries {
            let data = &arena[range(entry.data)];
            // Most sets have one record.
            if entries.len() > 1 && !seen.insert(data) {
                continue;
            }
            let length = u16::try_from(data.len()).expect("checked when it was added");
            self.arena.extend(length.to_be_bytes());
            self.arena.extend(data);
            self.records += 1;
        }
        let end = number(self.arena.len());
        let ttl = entries.iter().map(|entry| entry.ttl).min();
        (ArenaRange { start, end }, ttl.unwrap_or_default())
    }

    /// Sets the zone cut above each node. Nodes are sorted after their ancestors.
    fn mark_cuts(&mut self) {
        for at in 0..self.nodes.len() {
            let above = self.nodes[self.nodes[at].parent as usize].cut;
            let ends =
                (at > 0 && self.set(at, Type::NS).is_some()) || self.set(at, Type::DNAME).is_some();
            self.nodes[at].cut = match (above, ends) {
                (NO_NODE, true) => number(at),
                (NO_NODE, false) => NO_NODE,
                (above, _) => above,
            };
        }
    }
}

/// The type of a record, or the type covered by a signature, and whether it is a signature.
fn covered_type(entry: &PendingRecord, data: &[u8]) -> (Type, bool) {
    match (entry.rtype, data) {
        (Type::RRSIG, [high, low, ..]) => (Type(u16::from_be_bytes([*high, *low])), true),
        (rtype, _) => (rtype, false),
    }
}

/// The numeric fields of an SOA record, validated when it was added.
fn timers(data: &[u8]) -> Timers {
    let numbers = data.len().saturating_sub(20);
    let mut words = data[numbers..].chunks_exact(4).map(|word| {
        let word: [u8; 4] = word.try_into().expect("four bytes");
        u32::from_be_bytes(word)
    });
    let mut next = || words.next().unwrap_or_default();
    Timers {
        serial: next(),
        refresh: next(),
        retry: next(),
        expire: next(),
        minimum: next(),
    }
}

fn store(arena: &mut Vec<u8>, bytes: &[u8]) -> ArenaRange {
    let start = number(arena.len());
    arena.extend_from_slice(bytes);
    ArenaRange {
        start,
        end: number(arena.len()),
    }
}

fn range(span: ArenaRange) -> std::ops::Range<usize> {
    span.start as usize..span.end as usize
}

fn number(value: usize) -> u32 {
    u32::try_from(value).expect("a zone has at most 256 MiB, and a record more")
}
