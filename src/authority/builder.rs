//! Records in, one by one; a zone out.

use super::{
    format::{is_data, is_well_formed},
    key::{Key, parent},
    zone::{NOWHERE, Node, Set, Span, Timers, Zone},
};
use crate::wire::{Name, NameRef, Type};

/// Octets of a zone's names and data at most: a file of the largest size that is read.
const MAX_OCTETS: usize = 256 * 1024 * 1024;

/// NSEC3 and NSEC3PARAM: denials by hashed names.
pub(super) const HASHED: [Type; 2] = [Type(50), Type(51)];

/// Collects the records of a zone.
pub struct Builder {
    apex: Name,
    arena: Vec<u8>,
    records: Vec<Entry>,
    soa: Option<Span>,
}

/// A record before it has its place.
#[derive(Clone, Copy)]
struct Entry {
    key: Span,
    owner: Span,
    data: Span,
    rtype: Type,
    ttl: u32,
}

/// Why a record cannot be part of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum Refusal {
    #[error("the name lies outside of the zone")]
    Outside,
    #[error("an SOA record stands at the top of its zone only")]
    SoaBelow,
    #[error("a zone has one SOA record")]
    SecondSoa,
    #[error("zones signed with NSEC3 are not served: sign with NSEC")]
    Hashed,
    #[error("a type that no zone holds")]
    NoData,
    #[error("the data are not what records of this type hold")]
    Malformed,
    #[error("more than 256 MiB of records")]
    TooMuch,
    #[error("the zone has no SOA record")]
    NoSoa,
}

impl Builder {
    /// A zone without records yet.
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

    /// Takes a record; `data` are in wire form, names in them uncompressed. A record that is there
    /// already is no other one (RFC 2181 §5).
    pub fn add(
        &mut self,
        owner: NameRef<'_>,
        rtype: Type,
        ttl: u32,
        data: &[u8],
    ) -> Result<(), Refusal> {
        let key = Key::new(owner, self.apex.as_ref()).ok_or(Refusal::Outside)?;
        if HASHED.contains(&rtype) {
            return Err(Refusal::Hashed);
        }
        if !is_data(rtype) {
            return Err(Refusal::NoData);
        }
        if data.len() > usize::from(u16::MAX) || !is_well_formed(rtype, data) {
            return Err(Refusal::Malformed);
        }
        if self.arena.len() > MAX_OCTETS {
            return Err(Refusal::TooMuch);
        }
        let is_soa = rtype == Type::SOA;
        if is_soa && !key.as_octets().is_empty() {
            return Err(Refusal::SoaBelow);
        }
        if is_soa && let Some(first) = self.soa {
            let is_same = &self.arena[range(first)] == data;
            return if is_same {
                Ok(())
            } else {
                Err(Refusal::SecondSoa)
            };
        }
        let entry = Entry {
            key: store(&mut self.arena, key.as_octets()),
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

    /// The zone of all these records.
    pub fn finish(mut self) -> Result<Zone, Refusal> {
        let timers = timers(&self.arena[range(self.soa.ok_or(Refusal::NoSoa)?)]);
        let mut records = std::mem::take(&mut self.records);
        let arena = &self.arena;
        let data = |entry: &Entry| &arena[range(entry.data)];
        // By name, then by the type that it is or signs; records and signatures in their order.
        let place = |entry: &Entry| (&arena[range(entry.key)], of(entry, data(entry)));
        records.sort_by(|one, other| place(one).cmp(&place(other)));
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
            // The apex comes first by its key, and is there: it has the SOA record.
            let node = zone.grow(key, owner, apex);
            // Names that exist only for those below them take room as well.
            if zone.arena.len() > 2 * MAX_OCTETS {
                return Err(Refusal::TooMuch);
            }
            for set in name.chunk_by(|one, other| of(one, data(one)).0 == of(other, data(other)).0)
            {
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
    /// The node for a name that comes after all so far, made with those above it.
    fn grow(&mut self, key: &[u8], owner: NameRef<'_>, apex: Name) -> usize {
        let above = match parent(key) {
            None => None,
            Some(above) => {
                let last = self.nodes.len() - 1;
                // What exists of the names above is the last node, or above it.
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
            cut: NOWHERE,
            first_set: sets,
            last_set: sets,
        };
        self.nodes.push(node);
        at
    }

    /// Puts the records of one type, and the signatures over them, to the last node.
    fn put(&mut self, node: usize, entries: &[Entry], arena: &[u8]) {
        let data = |entry: &Entry| &arena[range(entry.data)];
        let (rtype, _) = of(&entries[0], data(&entries[0]));
        let mut set = Set {
            rtype,
            ttl: 0,
            records: Span::default(),
            signatures: Span::default(),
            signature_ttl: 0,
        };
        let signatures = entries.partition_point(|entry| !of(entry, data(entry)).1);
        let (records, signatures) = entries.split_at(signatures);
        (set.records, set.ttl) = self.copy(records, arena);
        (set.signatures, set.signature_ttl) = self.copy(signatures, arena);
        self.sets.push(set);
        self.nodes[node].last_set = number(self.sets.len());
    }

    /// Copies the data of records, each once; and the TTL of all (RFC 2181 §5.2): the least.
    fn copy(&mut self, entries: &[Entry], arena: &[u8]) -> (Span, u32) {
        let start = number(self.arena.len());
        let mut told = std::collections::HashSet::new();
        for entry in entries {
            let data = &arena[range(entry.data)];
            // Most sets have one record.
            if entries.len() > 1 && !told.insert(data) {
                continue;
            }
            let length = u16::try_from(data.len()).expect("checked when it was added");
            self.arena.extend(length.to_be_bytes());
            self.arena.extend(data);
            self.records += 1;
        }
        let end = number(self.arena.len());
        let ttl = entries.iter().map(|entry| entry.ttl).min();
        (Span { start, end }, ttl.unwrap_or_default())
    }

    /// Tells every node where the zone ends above it. Nodes stand behind those above them.
    fn mark_cuts(&mut self) {
        for at in 0..self.nodes.len() {
            let above = self.nodes[self.nodes[at].parent as usize].cut;
            let ends =
                (at > 0 && self.set(at, Type::NS).is_some()) || self.set(at, Type::DNAME).is_some();
            self.nodes[at].cut = match (above, ends) {
                (NOWHERE, true) => number(at),
                (NOWHERE, false) => NOWHERE,
                (above, _) => above,
            };
        }
    }
}

/// The type that a record is of, and whether it is a signature over that type.
fn of(entry: &Entry, data: &[u8]) -> (Type, bool) {
    match (entry.rtype, data) {
        (Type::RRSIG, [high, low, ..]) => (Type(u16::from_be_bytes([*high, *low])), true),
        (rtype, _) => (rtype, false),
    }
}

/// The numbers behind the two names of an SOA record, which was checked when it was added.
fn timers(data: &[u8]) -> Timers {
    let numbers = data.len().saturating_sub(20);
    let mut words = data[numbers..].chunks_exact(4).map(|word| {
        let word: [u8; 4] = word.try_into().expect("four octets");
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

fn store(arena: &mut Vec<u8>, octets: &[u8]) -> Span {
    let start = number(arena.len());
    arena.extend_from_slice(octets);
    Span {
        start,
        end: number(arena.len()),
    }
}

fn range(span: Span) -> std::ops::Range<usize> {
    span.start as usize..span.end as usize
}

fn number(value: usize) -> u32 {
    u32::try_from(value).expect("a zone has at most 256 MiB, and a record more")
}
