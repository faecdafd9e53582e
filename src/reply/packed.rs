//! A compact representation of a cached reply in one allocation.
//!
//! A cached reply is read from memory outside of the processor's caches, so its cost is the number
//! of dependent memory accesses. A typical packed reply is a single value; a [`Reply`] has five
//! allocations.

use super::{ArenaRange, ExtendedError, Record, Reply, Why};
use crate::{
    edns::Options,
    wire::{Class, Rcode, Type},
};

/// A reply without its TTLs, which are set when it is unpacked, and without per-response data:
/// source, cause and hop-by-hop options.
#[derive(Debug)]
pub struct Packed {
    bytes: Storage,
    opt: Option<Box<Opt>>,
    /// Offset of the records, after the `prefix`.
    records: u32,
    /// Offset of the arena with names and data.
    arena: u32,
    /// Bytes of records per section.
    sections: [u32; 3],
    rcode: Rcode,
    recursion_available: bool,
    recursion_desired: Option<bool>,
    authentic: bool,
    truncated: bool,
}

/// OPT data that are kept: the extended error and the client subnet scope (RFC 7871 section 7.2.2).
#[derive(Debug)]
struct Opt {
    extended_error: Option<ExtendedError>,
    subnet: Options,
}

/// Bytes per packed record.
const RECORD_SIZE: usize = 16;

/// Inline capacity in bytes: for a name and a few records.
const INLINE: usize = 142;

#[derive(Debug)]
enum Storage {
    Inline(u8, [u8; INLINE]),
    Heap(Box<[u8]>),
}

impl Packed {
    /// Packs `reply`, with `prefix` stored in front of it.
    pub fn new(reply: &Reply, prefix: &[u8]) -> Self {
        let short = |length: usize| u32::try_from(length).expect("a reply is far below 4 GiB");
        let arena = prefix.len() + reply.records().count() * RECORD_SIZE;
        let mut bytes = Vec::with_capacity(arena + reply.arena.len());
        bytes.extend_from_slice(prefix);
        for record in reply.records() {
            bytes.extend(record.pack());
        }
        bytes.extend_from_slice(&reply.arena);
        Self {
            bytes: Storage::new(bytes),
            records: short(prefix.len()),
            arena: short(arena),
            opt: Opt::of(reply).map(Box::new),
            sections: [0, 1, 2].map(|section| short(reply.sections[section].len() * RECORD_SIZE)),
            rcode: reply.rcode,
            recursion_available: reply.recursion_available,
            recursion_desired: reply.recursion_desired,
            authentic: reply.authentic,
            truncated: reply.truncated,
        }
    }

    /// Unpacks into `reply`, reusing its allocations, with `ttl` for every record and `why` as
    /// reason. The AA bit is clear.
    pub fn unpack(&self, ttl: u32, why: Why, reply: &mut Reply) {
        reply.clear();
        reply.rcode = self.rcode;
        reply.recursion_available = self.recursion_available;
        reply.recursion_desired = self.recursion_desired;
        reply.authentic = self.authentic;
        reply.truncated = self.truncated;
        reply.why = why;
        if let Some(opt) = &self.opt {
            reply.extended_error.clone_from(&opt.extended_error);
            reply.options.copy_from(&opt.subnet);
        }
        let (records, arena) = self.bytes.all().split_at(self.arena as usize);
        let mut records = &records[self.records as usize..];
        for (section, bytes) in reply.sections.iter_mut().zip(self.sections) {
            let (own, rest) = records.split_at(bytes as usize);
            let (own, _) = own.as_chunks::<RECORD_SIZE>();
            section.extend(own.iter().map(|packed| Record::unpack(packed, ttl)));
            records = rest;
        }
        reply.arena.extend_from_slice(arena);
    }

    /// The prefix passed to [`Self::new`].
    pub fn prefix(&self) -> &[u8] {
        &self.bytes.all()[..self.records as usize]
    }

    /// Whether the answer section has records.
    pub fn has_answers(&self) -> bool {
        self.sections[0] > 0
    }

    /// Heap memory in bytes.
    pub fn weight(&self) -> usize {
        let opt = self.opt.as_ref().map_or(0, |opt| opt.weight());
        let bytes = match &self.bytes {
            Storage::Inline(..) => 0,
            Storage::Heap(bytes) => bytes.len(),
        };
        bytes + opt
    }
}

impl Opt {
    fn of(reply: &Reply) -> Option<Self> {
        let mut subnet = Options::default();
        if let Some(data) = reply.options.get(Options::SUBNET) {
            subnet.push(Options::SUBNET, data);
        }
        (reply.extended_error.is_some() || !subnet.is_empty()).then(|| Self {
            extended_error: reply.extended_error.clone(),
            subnet,
        })
    }

    fn weight(&self) -> usize {
        let text = self
            .extended_error
            .as_ref()
            .map_or(0, |error| error.text.len());
        size_of::<Self>() + text + self.subnet.as_wire().len()
    }
}

impl Storage {
    fn new(bytes: Vec<u8>) -> Self {
        let mut short = [0; INLINE];
        match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(&bytes);
                Self::Inline(length, short)
            }
            _ => Self::Heap(bytes.into()),
        }
    }

    fn all(&self) -> &[u8] {
        match self {
            Self::Inline(length, bytes) => &bytes[..usize::from(*length)],
            Self::Heap(bytes) => bytes,
        }
    }
}

impl Record {
    fn pack(&self) -> [u8; RECORD_SIZE] {
        let mut packed = [0; RECORD_SIZE];
        packed[..4].copy_from_slice(&self.owner.start.to_ne_bytes());
        packed[4..8].copy_from_slice(&self.data.start.to_ne_bytes());
        packed[8..10].copy_from_slice(&self.owner.length.to_ne_bytes());
        packed[10..12].copy_from_slice(&self.data.length.to_ne_bytes());
        packed[12..14].copy_from_slice(&self.rtype.0.to_ne_bytes());
        packed[14..].copy_from_slice(&self.class.0.to_ne_bytes());
        packed
    }

    fn unpack(packed: &[u8; RECORD_SIZE], ttl: u32) -> Self {
        let long = |at: usize| {
            u32::from_ne_bytes([packed[at], packed[at + 1], packed[at + 2], packed[at + 3]])
        };
        let short = |at: usize| u16::from_ne_bytes([packed[at], packed[at + 1]]);
        let range = |start, length| ArenaRange {
            start: long(start),
            length: short(length),
        };
        Self {
            rtype: Type(short(12)),
            class: Class(short(14)),
            ttl,
            owner: range(0, 8),
            data: range(4, 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        reply::{Data, Owner, Section},
        wire::Name,
    };

    fn record() -> impl Strategy<Value = (usize, Option<String>, u16, u16, u32, Vec<u8>)> {
        (
            0..3usize,
            proptest::option::of("[a-zA-Z]{1,9}(\\.[a-z]{1,9}){0,3}"),
            any::<u16>(),
            any::<u16>(),
            any::<u32>(),
            proptest::collection::vec(any::<u8>(), 0..300),
        )
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let records = proptest::collection::vec(record(), 0..12);
        let error = proptest::option::of((any::<u16>(), ".{0,20}"));
        let bits = any::<[bool; 6]>();
        let desired = any::<Option<bool>>();
        (records, error, bits, desired, 0..24u16).prop_map(
            |(records, error, bits, desired, rcode)| {
                let mut reply = Reply {
                    rcode: Rcode(rcode),
                    authoritative: bits[0],
                    recursion_available: bits[1],
                    recursion_desired: desired,
                    authentic: bits[2],
                    truncated: bits[3],
                    why: Why::Upstream,
                    cause: bits[4].then(|| "something".into()),
                    extended_error: error.map(|(code, text)| ExtendedError {
                        code,
                        text: text.into(),
                    }),
                    ..Reply::default()
                };
                if bits[5] {
                    reply.options.push(Options::NSID, b"gone");
                    reply
                        .options
                        .push(Options::SUBNET, b"\0\x01\x18\x18\xC0\0\x02");
                }
                for (section, owner, rtype, class, ttl, data) in records {
                    let section = Section::ALL[section];
                    let owner = owner.map(|text| Name::parse(&text).unwrap());
                    let owner = owner.as_ref().map(Name::as_ref);
                    let owner = owner.map_or(Owner::Question, Owner::Name);
                    reply.push(section, owner, Type(rtype), ttl, Data::Raw(&data));
                    reply.section_mut(section).last_mut().unwrap().class = Class(class);
                }
                reply
            },
        )
    }

    proptest! {
        /// Unpacking equals copying with other TTLs, whatever `before` contained.
        #[test]
        fn unpacking_restores_the_reply(reply in reply(), before in reply(), ttl: u32, prefix: Vec<u8>) {
            let mut copy = reply.clone();
            copy.authoritative = false;
            copy.cause = None;
            copy.why = Why::Cached;
            copy.options.remove(Options::NSID);
            copy.records_mut().for_each(|record| record.ttl = ttl);
            let packed = Packed::new(&reply, &prefix);
            let mut out = before;
            packed.unpack(ttl, Why::Cached, &mut out);
            prop_assert_eq!(format!("{out:?}"), format!("{copy:?}"));
            prop_assert_eq!(packed.prefix(), prefix);
            prop_assert_eq!(packed.has_answers(), !reply.section(Section::Answer).is_empty());
        }
    }
}
