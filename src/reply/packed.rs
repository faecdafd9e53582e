//! A reply put away: what is kept of it, in one piece of memory.
//!
//! A reply that is given to many is read from memory that a processor has seldom at hand. What
//! counts is how many places must be visited, one after the other, before the last octet is there:
//! this value alone, where the reply is no longer than most, and a [`Reply`] has five.

use super::{ExtendedError, Record, Reply, Span, Why};
use crate::{
    edns::Options,
    wire::{Class, Rcode, Type},
};

/// A reply without its TTLs, which are one when it is given, and without what is told when it happens:
/// where it came from, what went wrong, options between neighbours.
#[derive(Debug)]
pub struct Packed {
    octets: Octets,
    opt: Option<Box<Opt>>,
    /// Where in the octets the records begin, behind what was put beside the reply.
    records: u32,
    /// Where the names and data of the records begin.
    arena: u32,
    /// Octets of records in each section.
    sections: [u32; 3],
    rcode: Rcode,
    recursion_available: bool,
    recursion_desired: Option<bool>,
    authentic: bool,
    truncated: bool,
}

/// What is kept of an OPT record: an extended error, and for which networks the answer is (RFC 7871
/// section 7.2.2).
#[derive(Debug)]
struct Opt {
    extended_error: Option<ExtendedError>,
    subnet: Options,
}

/// Octets of a packed record.
const RECORD: usize = 16;

/// Octets that have room in the value itself: those of a name, and of some records.
const SHORT: usize = 142;

#[derive(Debug)]
enum Octets {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Packed {
    /// Puts `reply` away, and `beside` in front of it.
    pub fn new(reply: &Reply, beside: &[u8]) -> Self {
        let short = |length: usize| u32::try_from(length).expect("a reply is far below 4 GiB");
        let arena = beside.len() + reply.records().count() * RECORD;
        let mut octets = Vec::with_capacity(arena + reply.arena.len());
        octets.extend_from_slice(beside);
        for record in reply.records() {
            octets.extend(record.pack());
        }
        octets.extend_from_slice(&reply.arena);
        Self {
            octets: Octets::new(octets),
            records: short(beside.len()),
            arena: short(arena),
            opt: Opt::of(reply).map(Box::new),
            sections: [0, 1, 2].map(|section| short(reply.sections[section].len() * RECORD)),
            rcode: reply.rcode,
            recursion_available: reply.recursion_available,
            recursion_desired: reply.recursion_desired,
            authentic: reply.authentic,
            truncated: reply.truncated,
        }
    }

    /// Makes of `reply` what was put away, in the room that is there: every TTL is `ttl`, `why` is the
    /// reason, and it is nobody's authority.
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
        let (records, arena) = self.octets.all().split_at(self.arena as usize);
        let mut records = &records[self.records as usize..];
        for (section, octets) in reply.sections.iter_mut().zip(self.sections) {
            let (mine, rest) = records.split_at(octets as usize);
            let (mine, _) = mine.as_chunks::<RECORD>();
            section.extend(mine.iter().map(|packed| Record::unpack(packed, ttl)));
            records = rest;
        }
        reply.arena.extend_from_slice(arena);
    }

    /// What was put beside the reply.
    pub fn beside(&self) -> &[u8] {
        &self.octets.all()[..self.records as usize]
    }

    /// Whether there are records in the answer.
    pub fn has_answers(&self) -> bool {
        self.sections[0] > 0
    }

    /// Octets held beside this value's own.
    pub fn weight(&self) -> usize {
        let opt = self.opt.as_ref().map_or(0, |opt| opt.weight());
        let octets = match &self.octets {
            Octets::Short(..) => 0,
            Octets::Long(octets) => octets.len(),
        };
        octets + opt
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

impl Octets {
    fn new(octets: Vec<u8>) -> Self {
        let mut short = [0; SHORT];
        match (short.get_mut(..octets.len()), u8::try_from(octets.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(&octets);
                Self::Short(length, short)
            }
            _ => Self::Long(octets.into()),
        }
    }

    fn all(&self) -> &[u8] {
        match self {
            Self::Short(length, octets) => &octets[..usize::from(*length)],
            Self::Long(octets) => octets,
        }
    }
}

impl Record {
    fn pack(&self) -> [u8; RECORD] {
        let mut packed = [0; RECORD];
        packed[..4].copy_from_slice(&self.owner.start.to_ne_bytes());
        packed[4..8].copy_from_slice(&self.data.start.to_ne_bytes());
        packed[8..10].copy_from_slice(&self.owner.length.to_ne_bytes());
        packed[10..12].copy_from_slice(&self.data.length.to_ne_bytes());
        packed[12..14].copy_from_slice(&self.rtype.0.to_ne_bytes());
        packed[14..].copy_from_slice(&self.class.0.to_ne_bytes());
        packed
    }

    fn unpack(packed: &[u8; RECORD], ttl: u32) -> Self {
        let long = |at: usize| {
            u32::from_ne_bytes([packed[at], packed[at + 1], packed[at + 2], packed[at + 3]])
        };
        let short = |at: usize| u16::from_ne_bytes([packed[at], packed[at + 1]]);
        let span = |start, length| Span {
            start: long(start),
            length: short(length),
        };
        Self {
            rtype: Type(short(12)),
            class: Class(short(14)),
            ttl,
            owner: span(0, 8),
            data: span(4, 10),
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
        /// What is unpacked is what a copy with other TTLs would be, whatever was there before.
        #[test]
        fn a_reply_comes_out_as_it_went_in(reply in reply(), before in reply(), ttl: u32, beside: Vec<u8>) {
            let mut copy = reply.clone();
            copy.authoritative = false;
            copy.cause = None;
            copy.why = Why::Cached;
            copy.options.remove(Options::NSID);
            copy.records_mut().for_each(|record| record.ttl = ttl);
            let packed = Packed::new(&reply, &beside);
            let mut out = before;
            packed.unpack(ttl, Why::Cached, &mut out);
            prop_assert_eq!(format!("{out:?}"), format!("{copy:?}"));
            prop_assert_eq!(packed.beside(), beside);
            prop_assert_eq!(packed.has_answers(), !reply.section(Section::Answer).is_empty());
        }
    }
}
