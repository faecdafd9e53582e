//! A message as far as it can be parsed.

use crate::wire::{Class, Header, Name, RawRecord, Reader, Type};

/// The parts of a message.
pub struct Parsed<'m> {
    /// The message.
    pub bytes: &'m [u8],
    /// The header.
    pub header: Header,
    /// Questions.
    pub questions: Vec<(Name, Type, Class)>,
    /// Answer, authority and additional records, without OPT.
    pub sections: [Vec<RawRecord>; 3],
    /// The OPT record.
    pub opt: Option<RawRecord>,
    /// Whether the message ends early or has an invalid name.
    pub is_malformed: bool,
    /// Bytes after the last record.
    pub extra: usize,
}

impl<'m> Parsed<'m> {
    /// Parses up to the first error; `None` without a header.
    pub fn new(bytes: &'m [u8]) -> Option<Self> {
        let mut parsed = Self {
            bytes,
            header: Header::read(bytes)?,
            questions: Vec::new(),
            sections: Default::default(),
            opt: None,
            is_malformed: false,
            extra: 0,
        };
        let mut reader = Reader::new(bytes);
        parsed.is_malformed = parsed.read(&mut reader).is_none();
        parsed.extra = bytes.len().saturating_sub(reader.position());
        Some(parsed)
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let [questions, counts @ ..] = self.header.counts;
        for _ in 0..questions {
            self.questions.push(reader.question().ok()?);
        }
        for (section, count) in self.sections.iter_mut().zip(counts) {
            for _ in 0..count {
                let record = reader.record().ok()?;
                if record.rtype == Type::OPT && self.opt.is_none() {
                    self.opt = Some(record);
                } else {
                    section.push(record);
                }
            }
        }
        Some(())
    }

    /// The response code, with the part of the OPT record (RFC 6891 section 6.1.3).
    pub fn rcode(&self) -> u16 {
        let extended = self.opt.map_or(0, |opt| opt.ttl >> 24);
        let extended = u16::try_from(extended).expect("eight bits");
        extended << 4 | self.header.flags & 0x0F
    }
}
