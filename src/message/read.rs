//! Parses messages: queries of clients and replies of upstreams (RFC 1035 section 4, RFC 6891).

use crate::{
    edns::{self, Options},
    query::{Edns, Question},
    reply::{Reply, Section},
    wire::{Header, MalformedMessage, Name, Opcode, RawRecord, Rcode, Reader, Type},
};

/// A parsed query.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The question.
    pub question: Question,
    /// Contents of the OPT record, if present.
    pub edns: Option<Edns>,
    /// Its options, except hop-by-hop ones.
    pub options: Options,
    /// See [`QueryExtras::held_serial`].
    pub held_serial: Option<u32>,
    /// See [`QueryExtras::tsig_at`].
    pub tsig_at: Option<usize>,
}

/// What a query carries besides its question.
#[derive(Clone, Debug)]
pub struct QueryExtras {
    /// Contents of the OPT record, if present.
    pub edns: Option<Edns>,
    /// Its options, except hop-by-hop ones.
    pub options: Options,
    /// Serial of the SOA record in an IXFR query (RFC 1995 section 3); `None` if it is absent or of
    /// another zone.
    pub held_serial: Option<u32>,
    /// Offset of the TSIG record, the last record of the message (RFC 8945 section 5.1).
    pub tsig_at: Option<usize>,
}

/// Parses a query whose header was checked: exactly one question, and only the additional records
/// that a query can have (SOA for IXFR, OPT, TSIG).
///
/// Wrong counts are a FORMERR. Trailing bytes are tolerated, since some clients add padding.
pub fn read_query(message: &[u8], header: &Header) -> Result<Parsed, MalformedMessage> {
    let mut question = Question::default();
    let QueryExtras {
        edns,
        options,
        held_serial,
        tsig_at,
    } = read_query_into(message, header, &mut question)?;
    Ok(Parsed {
        question,
        edns,
        options,
        held_serial,
        tsig_at,
    })
}

/// Like [`read_query`], but parses the question into `question`, which is unspecified after an
/// error.
pub fn read_query_into(
    message: &[u8],
    header: &Header,
    question: &mut Question,
) -> Result<QueryExtras, MalformedMessage> {
    let [questions, answers, authorities, additionals] = header.counts;
    if questions != 1 {
        return Err(MalformedMessage::QuestionCount);
    }
    // A NOTIFY can carry the zone's new SOA record in the answer section (RFC 1996 section 3.7).
    let notified = u16::from(header.opcode() == Opcode::NOTIFY);
    if answers > notified || authorities > 1 || additionals > 2 {
        return Err(MalformedMessage::RecordCount);
    }
    let mut reader = Reader::new(message);
    (question.rtype, question.class) = reader.question_into(&mut question.name)?;
    question.lower.copy_lower(&question.name);
    for _ in 0..answers {
        reader.record()?;
    }
    let mut held_serial = None;
    for _ in 0..authorities {
        let record = reader.record()?;
        if question.rtype == Type::IXFR && record.owner.to_lower() == question.lower {
            held_serial = serial(message, &record);
        }
    }
    let mut edns = None;
    let mut options = Options::default();
    let mut tsig_at = None;
    for _ in 0..additionals {
        let at = reader.position();
        let record = reader.record()?;
        if tsig_at.is_some() {
            return Err(MalformedMessage::BadTsig);
        }
        if record.rtype == Type::TSIG {
            tsig_at = Some(at);
        }
        if record.rtype == Type::OPT {
            if edns.is_some() || !record.owner.as_ref().is_root() {
                return Err(MalformedMessage::BadOpt);
            }
            edns = Some(read_opt(message, &record, &mut options)?);
        }
    }
    Ok(QueryExtras {
        edns,
        options,
        held_serial,
        tsig_at,
    })
}

/// The first question, if any, of a message of any opcode, and the offset of its TSIG record, if
/// that is the last record (RFC 8945 section 5.1).
pub fn read_signature(
    message: &[u8],
    header: &Header,
) -> Result<(Option<Question>, Option<usize>), MalformedMessage> {
    let [questions, records @ ..] = header.counts;
    let mut reader = Reader::new(message);
    let mut first = None;
    for _ in 0..questions {
        let (name, rtype, class) = reader.question()?;
        first.get_or_insert_with(|| Question::new(name, rtype, class));
    }
    let mut tsig_at = None;
    for _ in 0..records.into_iter().map(u32::from).sum() {
        let at = reader.position();
        tsig_at = (reader.record()?.rtype == Type::TSIG).then_some(at);
    }
    Ok((first, tsig_at))
}

/// Parses a reply into `reply`, which is cleared first, and returns its question. The caller must
/// compare the question with the query's before using the reply.
pub fn read_reply(message: &[u8], reply: &mut Reply) -> Result<Question, MalformedMessage> {
    let header = Header::read(message).ok_or(MalformedMessage::NoHeader)?;
    if !header.has(Header::RESPONSE) {
        return Err(MalformedMessage::WrongDirection);
    }
    if header.counts[0] != 1 {
        return Err(MalformedMessage::QuestionCount);
    }
    reply.clear();
    let mut reader = Reader::new(message);
    let question = question(&mut reader)?;
    let mut rcode = header.flags & 0x0F;
    let sections = [Section::Answer, Section::Authority, Section::Additional];
    for (section, count) in sections.into_iter().zip(&header.counts[1..]) {
        for _ in 0..*count {
            let record = reader.record()?;
            if record.rtype == Type::OPT {
                rcode |= u16::try_from(record.ttl >> 24).expect("eight bits") << 4;
                reply.read_options(record.data(message));
                continue;
            }
            reply.push_raw(section, &question, message, &record)?;
        }
    }
    reply.rcode = Rcode(rcode);
    reply.authoritative = header.has(Header::AUTHORITATIVE);
    reply.recursion_available = header.has(Header::RECURSION_AVAILABLE);
    reply.authentic = header.has(Header::AUTHENTIC);
    reply.truncated = header.has(Header::TRUNCATED);
    Ok(question)
}

/// The serial of an SOA record, which follows two names (RFC 1035 section 3.3.13).
fn serial(message: &[u8], record: &RawRecord) -> Option<u32> {
    if record.rtype != Type::SOA {
        return None;
    }
    let (_, behind) = Name::read(message, record.data_start).ok()?;
    let (_, behind) = Name::read(message, behind).ok()?;
    let (serial, timers) = message
        .get(behind..record.data_end)?
        .split_first_chunk::<4>()?;
    (timers.len() == 16).then(|| u32::from_be_bytes(*serial))
}

fn question(reader: &mut Reader<'_>) -> Result<Question, MalformedMessage> {
    let (name, rtype, class) = reader.question()?;
    Ok(Question::new(name, rtype, class))
}

fn read_opt(
    message: &[u8],
    record: &RawRecord,
    options: &mut Options,
) -> Result<Edns, MalformedMessage> {
    // The TTL of an OPT record holds extended rcode, version and flags (RFC 6891 section 6.1.3).
    let [_, version, flags, _] = record.ttl.to_be_bytes();
    let mut edns = Edns {
        udp_payload: record.class.0,
        version,
        dnssec_ok: flags & 0x80 != 0,
        wants_nsid: false,
        is_padded: false,
    };
    for option in edns::walk(record.data(message)) {
        match option? {
            (Options::NSID, _) => edns.wants_nsid = true,
            (Options::PADDING, _) => edns.is_padded = true,
            (Options::COOKIE | Options::KEEPALIVE, _) => {}
            (code, data) => {
                // Options beyond the size limit are dropped: options are optional.
                options.push(code, data);
            }
        }
    }
    Ok(edns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{HEADER_LENGTH, NameError};

    /// A query for `a.` A with an OPT record: payload 1232, DO set.
    fn sample() -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1];
        message.extend(b"\x01a\x00\x00\x01\x00\x01");
        message.extend(b"\x00\x00\x29\x04\xD0\x00\x00\x80\x00\x00\x00");
        message
    }

    fn read(message: &[u8]) -> Result<Parsed, MalformedMessage> {
        read_query(message, &Header::read(message).unwrap())
    }

    #[test]
    fn a_query_with_edns_is_parsed() {
        let parsed = read(&sample()).unwrap();
        assert_eq!(parsed.question.name.to_string(), "a.");
        let edns = parsed.edns.unwrap();
        assert_eq!(
            (edns.udp_payload, edns.version, edns.dnssec_ok),
            (1232, 0, true)
        );
    }

    /// The sample with these options.
    fn with_options(options: &[u8]) -> Vec<u8> {
        let mut message = sample();
        let at = message.len() - 1;
        message[at] = u8::try_from(options.len()).unwrap();
        message.extend(options);
        message
    }

    #[test]
    fn options_are_kept_except_hop_by_hop_ones() {
        let message =
            with_options(b"\0\x0A\0\x08cookie!!\0\x08\0\x04\0\x01\0\0\0\x03\0\0\0\x0C\0\0");
        let parsed = read(&message).unwrap();
        assert_eq!(parsed.options.as_wire(), b"\0\x08\0\x04\0\x01\0\0");
        assert!(parsed.edns.unwrap().wants_nsid);
        for end in sample().len()..message.len() {
            assert!(read(&message[..end]).is_err(), "{end}");
        }
        let lying = read(&with_options(b"\0\x08\0\x09x"));
        assert_eq!(lying.unwrap_err(), MalformedMessage::Truncated);
    }

    /// An IXFR query for `a.` with these bytes as authority section.
    fn incremental(authority: &[u8]) -> Vec<u8> {
        let mut message = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0];
        message.extend(b"\x01a\x00\x00\xFB\x00\x01");
        message.extend(authority);
        message
    }

    #[test]
    fn the_serial_of_an_ixfr_query_is_parsed() {
        let record = |owner: &[u8], length: u8, timers: usize| {
            let mut record = owner.to_vec();
            record.extend(b"\x00\x06\x00\x01\x00\x00\x00\x05\x00");
            record.extend([length, 0xC0, 0x0C, 0xC0, 0x0C, 0, 0, 1, 2]);
            record.extend(vec![0; timers]);
            record
        };
        let serial = |authority: &[u8]| read(&incremental(authority)).unwrap().held_serial;
        assert_eq!(serial(&record(b"\x01A\x00", 24, 16)), Some(258));
        assert_eq!(serial(&record(b"\x01b\x00", 24, 16)), None, "another zone");
        assert_eq!(serial(&record(b"\x01a\x00", 20, 12)), None, "cut");
        let mut other = record(b"\x01a\x00", 24, 16);
        other[4] = 16;
        assert_eq!(serial(&other), None, "no SOA");
        let whole = incremental(&record(b"\x01a\x00", 24, 16));
        for end in HEADER_LENGTH..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn wrong_counts_are_errors() {
        let mut message = sample();
        message[11] = 2;
        let truncated = MalformedMessage::Name(NameError::Truncated);
        assert_eq!(read(&message).unwrap_err(), truncated);
        message[11] = 3;
        assert_eq!(read(&message).unwrap_err(), MalformedMessage::RecordCount);
        message[5] = 0;
        assert_eq!(read(&message).unwrap_err(), MalformedMessage::QuestionCount);
    }

    #[test]
    fn every_prefix_of_a_query_is_an_error() {
        let message = sample();
        for end in HEADER_LENGTH..message.len() {
            assert!(read(&message[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn two_opt_records_are_refused() {
        let mut message = sample();
        let opt = message[message.len() - 11..].to_vec();
        message.extend(opt);
        message[11] = 2;
        assert_eq!(read(&message).unwrap_err(), MalformedMessage::BadOpt);
    }
}
