//! Walking a message: its header, its questions, its records (RFC 1035 §4).
//!
//! Counts in a header are promises of a stranger: they bound loops and never size an allocation.

use super::{Class, HEADER_LENGTH, Name, NameError, Opcode, Type};

/// The fixed first twelve octets of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Chosen by whoever asks.
    pub id: u16,
    /// QR, opcode, AA, TC, RD, RA, Z, AD, CD and the low four bits of the rcode.
    pub flags: u16,
    /// Promised numbers of questions, answers, authority and additional records.
    pub counts: [u16; 4],
}

impl Header {
    /// The QR bit: this message is a response.
    pub const RESPONSE: u16 = 0x8000;
    /// The AA bit: the answer comes from the zone's own server.
    pub const AUTHORITATIVE: u16 = 0x0400;
    /// The TC bit: records were left out for want of room.
    pub const TRUNCATED: u16 = 0x0200;
    /// The RD bit: the client wants recursion.
    pub const RECURSION_DESIRED: u16 = 0x0100;
    /// The RA bit: the server can recurse.
    pub const RECURSION_AVAILABLE: u16 = 0x0080;
    /// The AD bit: the data are authentic (RFC 6840 §5.7).
    pub const AUTHENTIC: u16 = 0x0020;
    /// The CD bit: the client checks for itself (RFC 4035 §3.2.2).
    pub const CHECKING_DISABLED: u16 = 0x0010;

    /// Reads it from the start of a message, if the message is long enough to have one.
    pub fn read(message: &[u8]) -> Option<Self> {
        let octets = message.get(..HEADER_LENGTH)?;
        let word = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
        Some(Self {
            id: word(0),
            flags: word(2),
            counts: [word(4), word(6), word(8), word(10)],
        })
    }

    /// What the message wants.
    pub fn opcode(&self) -> Opcode {
        Opcode(u8::try_from(self.flags >> 11 & 0x0F).expect("four bits"))
    }

    /// Whether `bit`, one of this type's constants, is set.
    pub fn has(&self, bit: u16) -> bool {
        self.flags & bit != 0
    }
}

/// Why a message cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum MalformedMessage {
    #[error("shorter than its header")]
    NoHeader,
    #[error("a response where a query was expected, or the reverse")]
    WrongDirection,
    #[error("not exactly one question")]
    QuestionCount,
    #[error("more records than a query carries")]
    RecordCount,
    #[error("ends before the records that its counts promise")]
    Truncated,
    #[error("more than one OPT record, or one that is not at the root")]
    BadOpt,
    #[error("a TSIG record that is not the last one, or makes no sense")]
    BadTsig,
    #[error("a name that is none: {0}")]
    Name(#[from] NameError),
    #[error("an opcode that is not served")]
    Opcode,
}

/// One record where it stands in a message: its data may hold compressed names.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord {
    /// Whose record it is.
    pub owner: Name,
    /// Its type.
    pub rtype: Type,
    /// Its class; an OPT's payload size.
    pub class: Class,
    /// Seconds it may be kept; an OPT's extended fields.
    pub ttl: u32,
    /// Where its data begin in the message.
    pub data_start: usize,
    /// Where its data end.
    pub data_end: usize,
}

impl RawRecord {
    /// Its data within `message`, the one it was read from.
    pub fn data<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        message
            .get(self.data_start..self.data_end)
            .unwrap_or_default()
    }
}

/// Walks a message from its first question on.
pub struct Reader<'m> {
    message: &'m [u8],
    position: usize,
}

impl<'m> Reader<'m> {
    /// Begins behind the header.
    pub fn new(message: &'m [u8]) -> Self {
        Self {
            message,
            position: HEADER_LENGTH,
        }
    }

    /// Begins at a record, say, that was read before.
    pub fn at(message: &'m [u8], position: usize) -> Self {
        Self { message, position }
    }

    /// Where the next question or record is.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The next question.
    pub fn question(&mut self) -> Result<(Name, Type, Class), MalformedMessage> {
        Ok((self.name()?, Type(self.word()?), Class(self.word()?)))
    }

    /// The next question, its name put into `name`.
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
        let octets = self
            .message
            .get(self.position..self.position + 2)
            .ok_or(MalformedMessage::Truncated)?;
        self.position += 2;
        Ok(u16::from_be_bytes([octets[0], octets[1]]))
    }
}
