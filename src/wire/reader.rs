//! Iterates over a message: header, questions, records (RFC 1035 section 4).
//!
//! Header counts are untrusted: they bound loops and never size an allocation.

use super::{Class, HEADER_LENGTH, Name, NameError, Opcode, Type};

/// The message header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Message ID.
    pub id: u16,
    /// QR, opcode, AA, TC, RD, RA, Z, AD, CD and the low four bits of the rcode.
    pub flags: u16,
    /// Claimed numbers of questions, answer, authority and additional records.
    pub counts: [u16; 4],
}

impl Header {
    /// The QR bit: this message is a response.
    pub const RESPONSE: u16 = 0x8000;
    /// The AA bit: authoritative answer.
    pub const AUTHORITATIVE: u16 = 0x0400;
    /// The TC bit: truncated.
    pub const TRUNCATED: u16 = 0x0200;
    /// The RD bit: recursion desired.
    pub const RECURSION_DESIRED: u16 = 0x0100;
    /// The RA bit: recursion available.
    pub const RECURSION_AVAILABLE: u16 = 0x0080;
    /// The AD bit: authentic data (RFC 6840 section 5.7).
    pub const AUTHENTIC: u16 = 0x0020;
    /// The CD bit: checking disabled (RFC 4035 section 3.2.2).
    pub const CHECKING_DISABLED: u16 = 0x0010;

    /// Parses the header; `None` if the message is too short.
    pub fn read(message: &[u8]) -> Option<Self> {
        let bytes = message.get(..HEADER_LENGTH)?;
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        Some(Self {
            id: word(0),
            flags: word(2),
            counts: [word(4), word(6), word(8), word(10)],
        })
    }

    /// The operation code.
    pub fn opcode(&self) -> Opcode {
        Opcode(u8::try_from(self.flags >> 11 & 0x0F).expect("four bits"))
    }

    /// Whether `bit`, one of the constants above, is set.
    pub fn has(&self, bit: u16) -> bool {
        self.flags & bit != 0
    }
}

/// Why a message is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each variant's message
pub enum MalformedMessage {
    #[error("shorter than its header")]
    NoHeader,
    #[error("a response where a query was expected, or the reverse")]
    WrongDirection,
    #[error("not exactly one question")]
    QuestionCount,
    #[error("more records than a query can have")]
    RecordCount,
    #[error("ends before the records that its header counts")]
    Truncated,
    #[error("more than one OPT record, or one whose owner is not the root")]
    BadOpt,
    #[error("a TSIG record that is malformed or not the last record")]
    BadTsig,
    #[error("an invalid name: {0}")]
    Name(#[from] NameError),
    #[error("an unsupported opcode")]
    Opcode,
}

/// A record in a message; its data may have compressed names.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord {
    /// Owner name.
    pub owner: Name,
    /// Its type.
    pub rtype: Type,
    /// Class; the payload size of an OPT record.
    pub class: Class,
    /// TTL in seconds; the extended fields of an OPT record.
    pub ttl: u32,
    /// Offset of the data in the message.
    pub data_start: usize,
    /// Offset after the data.
    pub data_end: usize,
}

impl RawRecord {
    /// The data; `message` must be the record's message.
    pub fn data<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        message
            .get(self.data_start..self.data_end)
            .unwrap_or_default()
    }
}

/// A cursor over questions and records.
pub struct Reader<'m> {
    message: &'m [u8],
    position: usize,
}

impl<'m> Reader<'m> {
    /// Starts after the header.
    pub fn new(message: &'m [u8]) -> Self {
        Self {
            message,
            position: HEADER_LENGTH,
        }
    }

    /// Starts at `position`, for example of a record read before.
    pub fn at(message: &'m [u8], position: usize) -> Self {
        Self { message, position }
    }

    /// Offset of the next question or record.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The next question.
    pub fn question(&mut self) -> Result<(Name, Type, Class), MalformedMessage> {
        Ok((self.name()?, Type(self.word()?), Class(self.word()?)))
    }

    /// The next question, with its name read into `name`.
    pub fn question_into(&mut self, name: &mut Name) -> Result<(Type, Class), MalformedMessage> {
        self.position = name.read_from(self.message, self.position)?;
        Ok((Type(self.word()?), Class(self.word()?)))
    }

    /// The next record.
    pub fn record(&mut self) -> Result<RawRecord, MalformedMessage> {
        let owner = self.name()?;
        let rtype = Type(self.word()?);
        let class = Class(self.word()?);
        let ttl = u32::from(self.word()?) << 16 | u32::from(self.word()?);
        let length = usize::from(self.word()?);
        let data_start = self.position;
        let data_end = data_start + length;
        if data_end > self.message.len() {
            return Err(MalformedMessage::Truncated);
        }
        self.position = data_end;
        Ok(RawRecord {
            owner,
            rtype,
            class,
            ttl,
            data_start,
            data_end,
        })
    }

    fn name(&mut self) -> Result<Name, MalformedMessage> {
        let (name, behind) = Name::read(self.message, self.position)?;
        self.position = behind;
        Ok(name)
    }

    fn word(&mut self) -> Result<u16, MalformedMessage> {
        let bytes = self
            .message
            .get(self.position..self.position + 2)
            .ok_or(MalformedMessage::Truncated)?;
        self.position += 2;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}
