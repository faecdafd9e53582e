//! The response: rcode, records, and the reason for it.
//!
//! Records are kept uncompressed in one arena, so a reply is a few vectors that are reused: answers
//! from memory allocate nothing. Plugins that reorder records or change TTLs only touch the small
//! [`Record`]s, not the arena.

mod batches;
mod data;
mod packed;
mod reason_text;
mod why;

use std::{net::SocketAddr, sync::Arc};

pub use batches::{RecordSource, RemainingRecords};
pub use data::{Data, Soa};
pub(crate) use data::{expand, names_in};
pub use packed::Packed;
pub use reason_text::ReasonText;
pub use why::Why;

use crate::{
    edns::{self, Options},
    query::{Question, Transport},
    wire::{Class, MalformedMessage, NameRef, RawRecord, Rcode, Type},
};

/// A response on its way through the chain.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // independent header bits
pub struct Reply {
    /// Response code.
    pub rcode: Rcode,
    /// The AA bit: the data are from a zone served here.
    pub authoritative: bool,
    /// The RA bit: recursion is available.
    pub recursion_available: bool,
    /// The RD bit, if it differs from the query's.
    pub recursion_desired: Option<bool>,
    /// The AD bit: an upstream validated the data.
    pub authentic: bool,
    /// The TC bit: records are missing. Set by an upstream, or by the writer.
    pub truncated: bool,
    /// Reason for the response.
    pub why: Why,
    /// Extended DNS error (RFC 8914): of an upstream, or [`Reply::why`] with its particulars.
    pub extended_error: Option<ExtendedError>,
    /// Other EDNS options, sent to clients that use EDNS.
    pub options: Options,
    /// Details for the log beyond [`Reply::why`], set by the failing component. Not sent to
    /// clients.
    pub cause: Option<Box<str>>,
    /// The plugin that answered, set by the chain; empty if none did.
    pub answered_by: &'static str,
    /// The upstream that sent this response; `None` for local and cached data.
    pub source: Option<Arc<UpstreamSource>>,
    /// Records of a zone transfer that are still to be written.
    pub remaining: Option<RemainingRecords>,
    sections: [Vec<Record>; 3],
    arena: Vec<u8>,
}

/// Source of an upstream's response, shared by all responses of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSource {
    /// The upstream's name in metrics and logs.
    pub upstream: Arc<str>,
    /// Local address of the socket, if known.
    pub local: Option<SocketAddr>,
    /// Transport of the response.
    pub over: Transport,
}

/// An extended DNS error (RFC 8914).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// The INFO-CODE.
    pub code: u16,
    /// The EXTRA-TEXT; shared, since the same names are denied again and again.
    pub text: Arc<str>,
}

/// Section of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Answers the question.
    Answer,
    /// The zone's SOA or NS records.
    Authority,
    /// Related records, such as addresses of targets.
    Additional,
}

impl Section {
    /// All sections in message order.
    pub const ALL: [Self; 3] = [Self::Answer, Self::Authority, Self::Additional];
}

/// A record; its names and data are in its reply's arena.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Its type.
    pub rtype: Type,
    /// Its class.
    pub class: Class,
    /// TTL in seconds.
    pub ttl: u32,
    owner: ArenaRange,
    data: ArenaRange,
}

/// A range of the arena. An empty owner means the question's name in its original spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ArenaRange {
    start: u32,
    length: u16,
}

/// Owner name of a record.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// The question's name in the client's spelling; compressed to two bytes.
    Question,
    /// Another name.
    Name(NameRef<'a>),
}

impl Reply {
    /// Resets the reply; keeps its allocations.
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
        self.source = None;
        self.remaining = None;
    }

    /// Copies `other` into this reply, reusing its allocations.
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
            source,
            remaining,
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
        source.clone_from(&other.source);
        remaining.clone_from(&other.remaining);
        extended_error.clone_from(&other.extended_error);
        options.copy_from(&other.options);
        cause.clone_from(&other.cause);
        for (section, copied) in sections.iter_mut().zip(&other.sections) {
            section.clone_from(copied);
        }
        arena.clone_from(&other.arena);
    }

    /// Resets the reply to a response code and its reason, without records.
    pub fn fail(&mut self, rcode: Rcode, why: Why) {
        self.clear();
        self.rcode = rcode;
        self.why = why;
    }

    /// A reply with only a response code and its reason.
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
            Owner::Question => ArenaRange {
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

    /// Adds a record to the answer section, owned by the question's name.
    pub fn answer(&mut self, rtype: Type, ttl: u32, data: Data<'_>) {
        self.push(Section::Answer, Owner::Question, rtype, ttl, data);
    }

    /// Adds a record of `message` with its names decompressed. An owner equal to the name of
    /// `question` becomes [`Owner::Question`].
    pub fn push_raw(
        &mut self,
        section: Section,
        question: &Question,
        message: &[u8],
        raw: &RawRecord,
    ) -> Result<(), MalformedMessage> {
        let owner = if raw.owner.as_ref().eq_ignore_case(question.lower.as_ref()) {
            ArenaRange {
                start: 0,
                length: 0,
            }
        } else {
            self.store(|arena| arena.extend_from_slice(raw.owner.as_wire()))
        };
        let start = self.arena.len();
        expand(message, raw, &mut self.arena)?;
        let data = self.range_from(start);
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

    /// Copies a record of another reply. `owner` replaces an owner that is the other reply's
    /// question name.
    pub fn push_from(&mut self, section: Section, owner: Owner<'_>, other: &Self, record: &Record) {
        let range = match (other.owner(record), owner) {
            (Owner::Name(name), _) | (Owner::Question, Owner::Name(name)) => {
                self.store(|arena| arena.extend_from_slice(name.as_wire()))
            }
            (Owner::Question, Owner::Question) => ArenaRange {
                start: 0,
                length: 0,
            },
        };
        let data = self.store(|arena| arena.extend_from_slice(other.data(record)));
        self.sections[section as usize].push(Record {
            owner: range,
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

    /// A copy of a record of this reply with another owner.
    #[must_use]
    pub fn with_owner(&mut self, record: &Record, owner: NameRef<'_>) -> Record {
        let owner = self.store(|arena| arena.extend_from_slice(owner.as_wire()));
        Record { owner, ..*record }
    }

    /// A copy of a record with the question's name as owner.
    #[must_use]
    pub fn owned_by_question(record: &Record) -> Record {
        let owner = ArenaRange {
            start: 0,
            length: 0,
        };
        Record { owner, ..*record }
    }

    /// A copy of a record of this reply with other data.
    #[must_use]
    pub fn with_data(&mut self, record: &Record, data: Data<'_>) -> Record {
        let data = self.store(|arena| data.append(arena));
        Record { data, ..*record }
    }

    /// The records of a section.
    pub fn section(&self, section: Section) -> &[Record] {
        &self.sections[section as usize]
    }

    /// Whether the answer section has data of the queried type. A CNAME chain without any does not
    /// answer: with an SOA record it is a denial (NODATA, RFC 2308 section 2.2), without one an
    /// incomplete answer.
    pub fn answers(&self, qtype: Type) -> bool {
        // QTYPEs 251 to 255 match several types (RFC 6895 section 3.1).
        let is_any = (251..=255).contains(&qtype.0);
        let mut answer = self.section(Section::Answer).iter();
        self.rcode == Rcode::NOERROR && answer.any(|record| is_any || record.rtype == qtype)
    }

    /// Whether the reply denies the name or the queried type (RFC 2308 section 2), possibly after a
    /// CNAME chain.
    pub fn denies(&self, qtype: Type) -> bool {
        match self.rcode {
            Rcode::NXDOMAIN => true,
            Rcode::NOERROR => !self.answers(qtype) && self.has_authority(Type::SOA),
            _ => false,
        }
    }

    /// Whether there is nothing in the answer section: a denial, a failure or a referral, not an answer whose
    /// records did not fit.
    pub fn lacks_answer(&self) -> bool {
        let is_empty = self.section(Section::Answer).is_empty();
        self.rcode != Rcode::NOERROR || is_empty && !self.truncated
    }

    /// The text of its reason: that of the extended error, else the one of [`Reply::why`].
    pub fn reason(&self) -> &str {
        match &self.extended_error {
            Some(error) if !error.text.is_empty() => &error.text,
            _ => self.why.text(),
        }
    }

    /// Whether the authority section has a record of this type.
    pub fn has_authority(&self, rtype: Type) -> bool {
        let mut authority = self.section(Section::Authority).iter();
        authority.any(|record| record.rtype == rtype)
    }

    /// The records of a section, for reordering, removal or TTL changes.
    pub fn section_mut(&mut self, section: Section) -> &mut Vec<Record> {
        &mut self.sections[section as usize]
    }

    /// All records of all sections.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.sections.iter().flatten()
    }

    /// All records of all sections, for TTL changes.
    pub fn records_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.sections.iter_mut().flatten()
    }

    /// The owner of a record.
    pub fn owner(&self, record: &Record) -> Owner<'_> {
        if record.owner.length == 0 {
            return Owner::Question;
        }
        let name = NameRef::from_wire(self.slice(record.owner));
        Owner::Name(name.expect("owners enter the arena as names"))
    }

    /// A record's data in uncompressed wire format.
    pub fn data(&self, record: &Record) -> &[u8] {
        self.slice(record.data)
    }

    /// The name in the data of a CNAME, NS, PTR or DNAME record.
    pub fn data_name(&self, record: &Record) -> Option<NameRef<'_>> {
        matches!(
            record.rtype,
            Type::CNAME | Type::NS | Type::PTR | Type::DNAME
        )
        .then(|| NameRef::from_wire(self.data(record)).ok())
        .flatten()
    }

    /// Memory use in bytes, for the cache's accounting.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + self.options.as_wire().len()
            + self.arena.len()
            + self.records().count() * size_of::<Record>()
    }

    /// Releases unused capacity, before the reply is stored.
    pub fn shrink(&mut self) {
        self.arena.shrink_to_fit();
        self.sections.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// Reads the options of an upstream's OPT record: keeps the extended error and options that are
    /// not hop-by-hop.
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

    fn slice(&self, range: ArenaRange) -> &[u8] {
        let start = range.start as usize;
        &self.arena[start..start + usize::from(range.length)]
    }

    fn store(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> ArenaRange {
        let start = self.arena.len();
        write(&mut self.arena);
        self.range_from(start)
    }

    fn range_from(&self, start: usize) -> ArenaRange {
        ArenaRange {
            start: u32::try_from(start).expect("a reply is far below 4 GiB"),
            length: u16::try_from(self.arena.len() - start)
                .expect("names and record data have at most 65,535 bytes"),
        }
    }
}

impl Default for Rcode {
    fn default() -> Self {
        Self::NOERROR
    }
}
