//! The answer: rcode, records, why it is what it is.
//!
//! Records are kept as octets in one arena, uncompressed, so that a reply is a handful of vectors
//! that are cleared and used again: answering from memory allocates nothing. Whoever
//! shuffles or clamps TTLs works on the small [`Record`]s and leaves the arena alone.

mod data;
mod packed;
mod parts;
mod why;

use std::{net::SocketAddr, sync::Arc};

pub use data::{Data, Soa};
pub(crate) use data::{expand, names_in};
pub use packed::Packed;
pub use parts::{RecordSource, Rest};
pub use why::Why;

use crate::{
    edns::{self, Options},
    query::{Question, Transport},
    wire::{Class, MalformedMessage, NameRef, RawRecord, Rcode, Type},
};

/// A reply on its way out through the chain.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // header bits, independent of each other
pub struct Reply {
    /// The response code.
    pub rcode: Rcode,
    /// The data are of a zone of ours (the AA bit).
    pub authoritative: bool,
    /// Recursion is to be had here (the RA bit).
    pub recursion_available: bool,
    /// What the RD bit says, where it is not the query's.
    pub recursion_desired: Option<bool>,
    /// An upstream vouches for the data (the AD bit).
    pub authentic: bool,
    /// Records are missing for want of room (the TC bit): set by an upstream, or by the writer.
    pub truncated: bool,
    /// Why the reply is what it is.
    pub why: Why,
    /// An extended error that an upstream gave (RFC 8914).
    pub extended_error: Option<ExtendedError>,
    /// Other EDNS options, sent to clients that speak EDNS.
    pub options: Options,
    /// What happened, in words for the log, where [`Reply::why`] alone does not tell: set by
    /// whoever failed, never sent.
    pub cause: Option<Box<str>>,
    /// The plugin that answered, set by the chain; empty where none did.
    pub answered_by: &'static str,
    /// Which upstream this came from just now; nothing for what is made or remembered here.
    pub heard: Option<Arc<Heard>>,
    /// Records that are written once those before them are sent: those of a zone transfer.
    pub rest: Option<Rest>,
    sections: [Vec<Record>; 3],
    arena: Vec<u8>,
}

/// Where an upstream's reply came from. One is made for each socket, and its replies share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What metrics and logs call the upstream.
    pub upstream: Arc<str>,
    /// Our end of the socket, where it is known.
    pub local: Option<SocketAddr>,
    /// What it came over.
    pub over: Transport,
}

/// An extended DNS error (RFC 8914).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// The INFO-CODE.
    pub code: u16,
    /// The EXTRA-TEXT.
    pub text: Box<str>,
}

/// Where in a message a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// The zone that says so.
    Authority,
    /// What will be asked for next.
    Additional,
}

impl Section {
    /// All of them, in the order of a message.
    pub const ALL: [Self; 3] = [Self::Answer, Self::Authority, Self::Additional];
}

/// One record; its names and data are in the arena of the reply that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Its type.
    pub rtype: Type,
    /// Its class.
    pub class: Class,
    /// Seconds that it may be kept.
    pub ttl: u32,
    owner: Span,
    data: Span,
}

/// A piece of the arena; an owner of no octets is the question's name, as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    length: u16,
}

/// Whose record it is.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// The name that was asked for, in the spelling of whoever asked: it costs two octets.
    Question,
    /// Some other name.
    Name(NameRef<'a>),
}

impl Reply {
    /// Back to nothing, room kept.
    pub fn clear(&mut self) {
        let Self {
            sections, arena, ..
        } = self;
        sections.iter_mut().for_each(Vec::clear);
        arena.clear();
        self.rcode = Rcode::NOERROR;
        self.authoritative = false;
        self.recursion_available = false;
        self.recursion_desired = None;
        self.authentic = false;
        self.truncated = false;
        self.why = Why::Unanswered;
        self.extended_error = None;
        self.options.clear();
        self.cause = None;
        self.answered_by = "";
        self.heard = None;
        self.rest = None;
    }

    /// Becomes a copy of `other`, in the room that is there: once warm, this allocates nothing.
    pub fn copy_from(&mut self, other: &Self) {
        let Self {
            rcode,
            authoritative,
            recursion_available,
            recursion_desired,
            authentic,
            truncated,
            why,
            extended_error,
            options,
            cause,
            answered_by,
            heard,
            rest,
            sections,
            arena,
        } = self;
        *rcode = other.rcode;
        *authoritative = other.authoritative;
        *recursion_available = other.recursion_available;
        *recursion_desired = other.recursion_desired;
        *authentic = other.authentic;
        *truncated = other.truncated;
        *why = other.why;
        *answered_by = other.answered_by;
        heard.clone_from(&other.heard);
        rest.clone_from(&other.rest);
        extended_error.clone_from(&other.extended_error);
        options.copy_from(&other.options);
        cause.clone_from(&other.cause);
        for (section, copied) in sections.iter_mut().zip(&other.sections) {
            section.clone_from(copied);
        }
        arena.clone_from(&other.arena);
    }

    /// Nothing but a code and the reason for it.
    pub fn fail(&mut self, rcode: Rcode, why: Why) {
        self.clear();
        self.rcode = rcode;
        self.why = why;
    }

    /// A reply that is nothing but a code and the reason for it.
    pub fn failure(rcode: Rcode, why: Why) -> Self {
        Self {
            rcode,
            why,
            ..Self::default()
        }
    }

    /// Adds a record of class IN.
    pub fn push(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: Type,
        ttl: u32,
        data: Data<'_>,
    ) {
        let owner = match owner {
            Owner::Question => Span {
                start: 0,
                length: 0,
            },
            Owner::Name(name) => self.store(|arena| arena.extend_from_slice(name.as_wire())),
        };
        let data = self.store(|arena| data.append(arena));
        let record = Record {
            rtype,
            class: Class::IN,
            ttl,
            owner,
            data,
        };
        self.sections[section as usize].push(record);
    }

    /// Adds a record to the answer, owned by the question's name: the usual case.
    pub fn answer(&mut self, rtype: Type, ttl: u32, data: Data<'_>) {
        self.push(Section::Answer, Owner::Question, rtype, ttl, data);
    }

    /// Adds a record as it stands in `message`, its names decompressed. An owner that is the name
    /// of `question` becomes [`Owner::Question`].
    pub fn push_raw(
        &mut self,
        section: Section,
        question: &Question,
        message: &[u8],
        raw: &RawRecord,
    ) -> Result<(), MalformedMessage> {
        let owner = if raw.owner.as_ref().eq_ignore_case(question.lower.as_ref()) {
            Span {
                start: 0,
                length: 0,
            }
        } else {
            self.store(|arena| arena.extend_from_slice(raw.owner.as_wire()))
        };
        let start = self.arena.len();
        expand(message, raw, &mut self.arena)?;
        let data = self.span_from(start);
        let record = Record {
            rtype: raw.rtype,
            class: raw.class,
            ttl: raw.ttl,
            owner,
            data,
        };
        self.sections[section as usize].push(record);
        Ok(())
    }

    /// Copies a record of another reply into this one. Where the other's owner was its question's
    /// name, `owner` takes its place.
    pub fn push_from(&mut self, section: Section, owner: Owner<'_>, other: &Self, record: &Record) {
        let span = match (other.owner(record), owner) {
            (Owner::Name(name), _) | (Owner::Question, Owner::Name(name)) => {
                self.store(|arena| arena.extend_from_slice(name.as_wire()))
            }
            (Owner::Question, Owner::Question) => Span {
                start: 0,
                length: 0,
            },
        };
        let data = self.store(|arena| arena.extend_from_slice(other.data(record)));
        self.sections[section as usize].push(Record {
            owner: span,
            data,
            ..*record
        });
    }

    /// Copies a section of another reply: see [`Self::push_from`].
    pub fn push_all_from(&mut self, section: Section, owner: Owner<'_>, other: &Self) {
        for record in other.section(section) {
            self.push_from(section, owner, other, record);
        }
    }

    /// The same record with another owner, to be put in its place.
    #[must_use]
    pub fn with_owner(&mut self, record: &Record, owner: NameRef<'_>) -> Record {
        let owner = self.store(|arena| arena.extend_from_slice(owner.as_wire()));
        Record { owner, ..*record }
    }

    /// The same record with the owner that is the question's name, to be put in its place.
    #[must_use]
    pub fn owned_by_question(record: &Record) -> Record {
        let owner = Span {
            start: 0,
            length: 0,
        };
        Record { owner, ..*record }
    }

    /// The same record with other data, to be put in its place.
    #[must_use]
    pub fn with_data(&mut self, record: &Record, data: Data<'_>) -> Record {
        let data = self.store(|arena| data.append(arena));
        Record { data, ..*record }
    }

    /// The records of a section.
    pub fn section(&self, section: Section) -> &[Record] {
        &self.sections[section as usize]
    }

    /// Whether the answer section holds data of the type that was asked for. Aliases that end without
    /// any do not: with an SOA record they are a denial (NODATA, RFC 2308 section 2.2), without one
    /// they are a part of an answer.
    pub fn answers(&self, asked: Type) -> bool {
        // 251 to 255 ask for more than one type (RFC 6895 section 3.1).
        let is_any = (251..=255).contains(&asked.0);
        let mut answer = self.section(Section::Answer).iter();
        self.rcode == Rcode::NOERROR && answer.any(|record| is_any || record.rtype == asked)
    }

    /// Whether the reply denies the name, or data of the type that was asked for (RFC 2308 section 2).
    /// It may begin with aliases.
    pub fn denies(&self, asked: Type) -> bool {
        match self.rcode {
            Rcode::NXDOMAIN => true,
            Rcode::NOERROR => !self.answers(asked) && self.has_authority(Type::SOA),
            _ => false,
        }
    }

    /// Whether the authority section has a record of this type.
    pub fn has_authority(&self, rtype: Type) -> bool {
        let mut authority = self.section(Section::Authority).iter();
        authority.any(|record| record.rtype == rtype)
    }

    /// The records of a section, to be reordered, dropped or given other TTLs.
    pub fn section_mut(&mut self, section: Section) -> &mut Vec<Record> {
        &mut self.sections[section as usize]
    }

    /// Every record of every section.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.sections.iter().flatten()
    }

    /// Every record of every section, to be given other TTLs.
    pub fn records_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.sections.iter_mut().flatten()
    }

    /// Whose record it is.
    pub fn owner(&self, record: &Record) -> Owner<'_> {
        if record.owner.length == 0 {
            return Owner::Question;
        }
        let name = NameRef::from_wire(self.slice(record.owner));
        Owner::Name(name.expect("owners enter the arena as names"))
    }

    /// A record's data in wire form, names in it uncompressed.
    pub fn data(&self, record: &Record) -> &[u8] {
        self.slice(record.data)
    }

    /// The one name of a CNAME, NS, PTR or DNAME record's data.
    pub fn data_name(&self, record: &Record) -> Option<NameRef<'_>> {
        matches!(
            record.rtype,
            Type::CNAME | Type::NS | Type::PTR | Type::DNAME
        )
        .then(|| NameRef::from_wire(self.data(record)).ok())
        .flatten()
    }

    /// Octets held: what a cache counts.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + self.options.as_wire().len()
            + self.arena.len()
            + self.records().count() * size_of::<Record>()
    }

    /// Gives back the room that is not used, before the reply is kept.
    pub fn shrink(&mut self) {
        self.arena.shrink_to_fit();
        self.sections.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// Reads the options of an upstream's OPT record. Kept are an extended error and what is not
    /// between the upstream and us alone.
    pub fn read_options(&mut self, options: &[u8]) {
        for (code, data) in edns::walk(options).map_while(Result::ok) {
            match (code, data.split_first_chunk::<2>()) {
                (Options::EXTENDED_ERROR, Some((code, text))) => {
                    self.extended_error = Some(ExtendedError {
                        code: u16::from_be_bytes(*code),
                        text: String::from_utf8_lossy(text).into(),
                    });
                }
                (
                    Options::EXTENDED_ERROR
                    | Options::COOKIE
                    | Options::KEEPALIVE
                    | Options::PADDING,
                    _,
                ) => {}
                _ => {
                    self.options.push(code, data);
                }
            }
        }
    }

    fn slice(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        &self.arena[start..start + usize::from(span.length)]
    }

    fn store(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.arena.len();
        write(&mut self.arena);
        self.span_from(start)
    }

    fn span_from(&self, start: usize) -> Span {
        Span {
            start: u32::try_from(start).expect("a reply is far below 4 GiB"),
            length: u16::try_from(self.arena.len() - start)
                .expect("names and record data have at most 65,535 octets"),
        }
    }
}

impl Default for Rcode {
    fn default() -> Self {
        Self::NOERROR
    }
}
