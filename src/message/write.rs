//! Writes replies: with the original question, compressed, truncated to the client's payload size.

use std::ops::Range;

use super::truncation::TruncatedReply;
use crate::{
    edns::Options,
    query::{Edns, OPT_LENGTH, Query},
    reply::{self, Owner, Record, Reply, Section},
    wire::{HEADER_LENGTH, Header, MAX_MESSAGE, NameRef, Rcode, Type},
};

/// Offset of the question's name in every message: after the header.
const QUESTION_NAME: u16 = 12;

/// Maximum number of name offsets kept for compression. The names of a reply share suffixes, mostly
/// those written first; an unlimited list would make large replies quadratic.
const MAX_OFFSETS: usize = 48;

/// Maximum number of offsets of SRV targets among them. Targets share fewer suffixes, so space is
/// left for other names.
const MAX_SRV_OFFSETS: usize = 32;

/// Bytes of SRV data before the target: priority, weight and port (RFC 2782).
const SRV_TARGET: usize = 6;

/// Maximum size of a transfer message, unless a single record is larger: the range of a 14-bit
/// compression pointer, so that all names can be compressed.
const TRANSFER_MESSAGE: usize = 0x4000;

/// Offsets of written names, as targets of compression pointers (RFC 1035 section 4.1.4).
#[derive(Debug)]
struct Compression {
    offsets: [u16; MAX_OFFSETS],
    used: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            offsets: [0; MAX_OFFSETS],
            used: 0,
        }
    }
}

/// Writes replies; one per thread, reused.
#[derive(Debug, Default)]
pub struct Writer {
    compression: Compression,
}

impl Writer {
    /// Writes `reply` to `query` into `out` (cleared first), within the client's size limit.
    ///
    /// If the limit is exceeded, whole records are dropped from the end; the OPT record is kept
    /// (RFC 6891 section 7). TC is set if a required record is missing: see `message/truncation`.
    pub fn write(&mut self, query: &Query, reply: &Reply, out: &mut Vec<u8>) {
        let limit = query.reply_limit() - signature_space(query);
        let next = self.message(query, reply, 0..usize::MAX, limit, out);
        let mut truncated = reply.truncated;
        if next < reply.records().count() {
            let cut = TruncatedReply::at(reply, query.original.name.as_ref(), next);
            truncated |= cut.is_truncation();
            if !truncated {
                let whole = cut.complete_rrsets();
                if whole < next {
                    self.message(query, reply, 0..whole, limit, out);
                }
            }
        }
        if truncated {
            set_truncated(out);
        }
        if let Some(signer) = &query.signer {
            signer.sign(out);
        }
    }

    /// Writes `reply` to `query` into `out` (cleared first) as a sequence of stream messages with
    /// length prefixes (RFC 1035 section 4.2.2), without dropping records. Each repeats the
    /// question (RFC 5936 section 2.2.1 requires it in the first).
    ///
    /// `signature` is the MAC of the previous message of the same reply, and is updated to that of
    /// the last one written.
    pub fn write_stream(
        &mut self,
        query: &Query,
        reply: &Reply,
        signature: &mut Option<Vec<u8>>,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        let count = reply.records().count();
        let mut message = Vec::new();
        let mut from = 0;
        loop {
            let mut next = self.message(query, reply, from..count, TRANSFER_MESSAGE, &mut message);
            if next == from && next < count {
                let limit = MAX_MESSAGE - signature_space(query);
                next = self.message(query, reply, from..count, limit, &mut message);
            }
            // A record that fits into no message ends the transfer with an error.
            let too_large = next == from && next < count;
            if too_large || reply.truncated {
                set_truncated(&mut message);
            }
            if let Some(signer) = &query.signer {
                *signature = Some(signer.next(&mut message, signature.as_deref()));
            }
            let length = u16::try_from(message.len()).expect("a message has at most 65,535 bytes");
            out.extend(length.to_be_bytes());
            out.extend_from_slice(&message);
            if next == count || too_large {
                return;
            }
            from = next;
        }
    }

    /// Writes a message of at most `limit` bytes, with as many records as fit. Returns the index of
    /// the next record.
    fn message(
        &mut self,
        query: &Query,
        reply: &Reply,
        range: Range<usize>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        out.clear();
        self.compression.used = 0;
        out.extend([0; HEADER_LENGTH]);
        self.question_name(query.original.name.as_ref(), out);
        out.extend(query.original.rtype.0.to_be_bytes());
        out.extend(query.original.class.0.to_be_bytes());

        let opt = Opt::of(reply, limit);
        let opt_length = if query.edns.is_some() {
            opt.length()
        } else {
            0
        };
        let records = limit.saturating_sub(opt_length);
        let mut counts = [1u16, 0, 0, 0];
        let next = self.sections(reply, range, records, &mut counts, out);
        if let Some(edns) = query.edns {
            let start = out.len();
            opt.write(query, reply, out);
            if edns.is_padded && query.transport.is_encrypted() {
                pad(start, signature_space(query), out);
            }
            counts[3] += 1;
        }
        write_header(query, reply, counts, out);
        next
    }

    /// Writes as many records as fit. Returns the index of the next record.
    fn sections(
        &mut self,
        reply: &Reply,
        range: Range<usize>,
        room: usize,
        counts: &mut [u16; 4],
        out: &mut Vec<u8>,
    ) -> usize {
        let mut next = 0;
        for section in Section::ALL {
            let records = reply.section(section);
            let end = records.len().min(range.end - next);
            let skipped = range.start.saturating_sub(next).min(end);
            let records = &records[skipped..end];
            next += skipped;
            for record in records {
                let start = out.len();
                let remembered = self.compression.used;
                self.record(reply, record, out);
                if out.len() > room {
                    out.truncate(start);
                    self.compression.used = remembered;
                    return next;
                }
                next += 1;
                counts[section as usize + 1] += 1;
            }
        }
        next
    }

    fn record(&mut self, reply: &Reply, record: &Record, out: &mut Vec<u8>) {
        match reply.owner(record) {
            Owner::Question => out.extend((0xC000 | QUESTION_NAME).to_be_bytes()),
            Owner::Name(name) => self.name(name, out),
        }
        // Written at once: one bounds check instead of one per field.
        let mut fixed = [0; 10];
        fixed[..2].copy_from_slice(&record.rtype.0.to_be_bytes());
        fixed[2..4].copy_from_slice(&record.class.0.to_be_bytes());
        fixed[4..8].copy_from_slice(&record.ttl.to_be_bytes());
        out.extend_from_slice(&fixed);
        let length_at = out.len() - 2;
        self.data(record.rtype, reply.data(record), out);
        let length = u16::try_from(out.len() - length_at - 2)
            .expect("data are never longer than in the arena");
        out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }

    /// Writes record data, compressing names only in the types of RFC 1035, not in SRV (RFC 2782)
    /// or later types (RFC 3597 section 4).
    fn data(&mut self, rtype: Type, data: &[u8], out: &mut Vec<u8>) {
        let names = (rtype.0 <= 16).then(|| reply::names_in(rtype)).flatten();
        let Some((before, names)) = names else {
            let has_target = rtype == Type::SRV && data.len() > SRV_TARGET;
            if has_target && self.compression.used < MAX_SRV_OFFSETS {
                // The owners of the address records are this name and can point at it.
                self.compression.record_offset(out.len() + SRV_TARGET);
            }
            return out.extend_from_slice(data);
        };
        let (fixed, mut rest) = data.split_at(before.min(data.len()));
        out.extend_from_slice(fixed);
        for _ in 0..names {
            let Ok(name) = NameRef::from_wire(rest) else {
                break;
            };
            self.name(name, out);
            rest = &rest[name.as_wire().len()..];
        }
        out.extend(rest);
    }

    /// Writes the first name of a message, which is never compressed.
    fn question_name(&mut self, name: NameRef<'_>, out: &mut Vec<u8>) {
        let mut offset = out.len();
        for label in name.labels() {
            self.compression.record_offset(offset);
            offset += label.len() + 1;
        }
        out.extend_from_slice(name.as_wire());
    }

    fn name(&mut self, name: NameRef<'_>, out: &mut Vec<u8>) {
        let mut suffix = name;
        while !suffix.is_root() {
            if let Some(offset) = self.compression.find(suffix, out) {
                return out.extend((0xC000 | offset).to_be_bytes());
            }
            self.compression.record_offset(out.len());
            let label = usize::from(suffix.as_wire()[0]) + 1;
            out.extend(&suffix.as_wire()[..label]);
            match suffix.parent() {
                Some(parent) => suffix = parent,
                None => break,
            }
        }
        out.push(0);
    }
}

impl Compression {
    /// The offset of a name that equals `name` byte for byte, to preserve its spelling.
    fn find(&self, name: NameRef<'_>, out: &[u8]) -> Option<u16> {
        let offsets = &self.offsets[..self.used];
        offsets
            .iter()
            .copied()
            .find(|offset| name_equals_at(name.as_wire(), out, usize::from(*offset)))
    }

    fn record_offset(&mut self, offset: usize) {
        // A compression pointer has 14 bits.
        if offset < 0x4000 && self.used < MAX_OFFSETS {
            self.offsets[self.used] = u16::try_from(offset).expect("below 2^14");
            self.used += 1;
        }
    }
}

/// Whether the name at offset `at` of `out` equals `name`. Follows backward pointers only, as the
/// writer creates them: SRV data may contain anything.
fn name_equals_at(mut name: &[u8], out: &[u8], mut offset: usize) -> bool {
    loop {
        let Some(&size) = out.get(offset) else {
            return false;
        };
        if size >= 0xC0 {
            let Some(&low) = out.get(offset + 1) else {
                return false;
            };
            let earlier = usize::from(size & 0x3F) << 8 | usize::from(low);
            if earlier >= offset {
                return false;
            }
            offset = earlier;
            continue;
        }
        // Most labels differ in length, which is cheaper to see than by a call of memcmp.
        if name.first() != Some(&size) {
            return false;
        }
        if size == 0 {
            return true;
        }
        let length = usize::from(size) + 1;
        if name.len() < length || out.get(offset..offset + length) != Some(&name[..length]) {
            return false;
        }
        name = &name[length..];
        offset += length;
    }
}

/// Bytes reserved for a TSIG record.
fn signature_space(query: &Query) -> usize {
    query
        .signer
        .as_ref()
        .map_or(0, |signer| signer.max_length())
}

/// Padded responses have a multiple of this length (RFC 8467 section 4.1).
const PADDING_BLOCK: usize = 468;

/// Pads a message that ends with the OPT record at `opt`, with `signature` bytes to follow (RFC
/// 7830). A message that would become too long is not padded.
fn pad(opt: usize, signature: usize, out: &mut Vec<u8>) {
    let length_at = opt + OPT_LENGTH - 2;
    let least = out.len() + 4 + signature;
    let whole = least.next_multiple_of(PADDING_BLOCK);
    if whole > MAX_MESSAGE {
        return;
    }
    let padding = whole - least;
    let word = |length: usize| {
        u16::try_from(length)
            .expect("below a message's")
            .to_be_bytes()
    };
    out.extend(Options::PADDING.to_be_bytes());
    out.extend(word(padding));
    out.resize(out.len() + padding, 0);
    let options = out.len() - length_at - 2;
    out[length_at..length_at + 2].copy_from_slice(&word(options));
}

/// Maximum bytes of an extended error's text, so that it does not displace records.
const MAX_EXTRA_TEXT: usize = 200;

/// Options of a reply's OPT record that are sent.
#[derive(Clone, Copy)]
struct Opt<'r> {
    options: &'r [u8],
    extended: Option<(u16, &'r [u8])>,
}

impl<'r> Opt<'r> {
    /// The options sent in a message of at most `limit` bytes: none if they would take half of it.
    fn of(reply: &'r Reply, limit: usize) -> Self {
        let extended = reply.extended_error.as_ref().map(|error| {
            let length = error.text.floor_char_boundary(MAX_EXTRA_TEXT);
            (error.code, &error.text.as_bytes()[..length])
        });
        let options = reply.options.as_wire();
        let options = if options.len() < limit / 2 {
            options
        } else {
            &[]
        };
        Self { options, extended }
    }

    /// Length of the record in bytes.
    fn length(self) -> usize {
        OPT_LENGTH + self.data_length()
    }

    fn data_length(self) -> usize {
        self.options.len() + self.extended.map_or(0, |(_, text)| 6 + text.len())
    }

    fn write(self, query: &Query, reply: &Reply, out: &mut Vec<u8>) {
        let word = |length: usize| {
            u16::try_from(length)
                .expect("far below 65,536")
                .to_be_bytes()
        };
        out.push(0);
        out.extend(Type::OPT.0.to_be_bytes());
        out.extend(Edns::OUR_UDP_PAYLOAD.to_be_bytes());
        let extended_rcode = (reply.rcode.0 >> 4).to_be_bytes()[1];
        let flags = if query.dnssec_ok() { 0x80 } else { 0 };
        out.extend([extended_rcode, 0, flags, 0]);
        out.extend(word(self.data_length()));
        out.extend_from_slice(self.options);
        if let Some((code, text)) = self.extended {
            out.extend(Options::EXTENDED_ERROR.to_be_bytes());
            out.extend(word(text.len() + 2));
            out.extend(code.to_be_bytes());
            out.extend_from_slice(text);
        }
    }
}

fn set_truncated(out: &mut [u8]) {
    out[2] |= Header::TRUNCATED.to_be_bytes()[0];
}

fn write_header(query: &Query, reply: &Reply, counts: [u16; 4], out: &mut [u8]) {
    let mut flags = Header::RESPONSE | u16::from(query.opcode.0) << 11 | (reply.rcode.0 & 0x0F);
    for (set, bit) in [
        (reply.authoritative, Header::AUTHORITATIVE),
        (
            reply.recursion_desired.unwrap_or(query.recursion_desired),
            Header::RECURSION_DESIRED,
        ),
        (reply.recursion_available, Header::RECURSION_AVAILABLE),
        (
            reply.authentic && query.takes_authentic(),
            Header::AUTHENTIC,
        ),
        (query.checking_disabled, Header::CHECKING_DISABLED),
    ] {
        if set {
            flags |= bit;
        }
    }
    let words = [query.id, flags, counts[0], counts[1], counts[2], counts[3]];
    for (at, word) in words.into_iter().enumerate() {
        out[at * 2..at * 2 + 2].copy_from_slice(&word.to_be_bytes());
    }
}

/// Writes a response without a question, to a message that could not be parsed.
pub fn write_header_only(header: &Header, rcode: Rcode, out: &mut Vec<u8>) {
    out.clear();
    let kept = header.flags & (0x7800 | Header::RECURSION_DESIRED | Header::CHECKING_DISABLED);
    let flags = Header::RESPONSE | kept | rcode.0 & 0x0F;
    out.extend(header.id.to_be_bytes());
    out.extend(flags.to_be_bytes());
    out.extend([0; 8]);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        message::read_reply,
        query::Question,
        reply::{Data, Soa, Why},
        wire::{Class, Name},
    };

    fn query(name: &str, rtype: Type) -> Query {
        Query::internal(Question::new(Name::parse(name).unwrap(), rtype, Class::IN))
    }

    fn written(query: &Query, reply: &Reply) -> Vec<u8> {
        let mut out = Vec::new();
        Writer::default().write(query, reply, &mut out);
        out
    }

    #[test]
    fn owners_of_answers_are_compressed_to_two_bytes() {
        let query = query("Web.shop.svc.cluster.local", Type::A);
        let mut reply = Reply::default();
        reply.answer(Type::A, 5, Data::A(Ipv4Addr::new(10, 96, 0, 7)));
        let out = written(&query, &reply);
        let question = 12 + query.original.name.as_wire().len() + 4;
        assert_eq!(out.len(), question + 16);
        assert_eq!(&out[question..question + 2], [0xC0, 0x0C]);
    }

    #[test]
    fn messages_round_trip() {
        let query = query("x.cluster.local", Type::A);
        let zone = Name::parse("cluster.local").unwrap();
        let primary = Name::parse("ns.dns.cluster.local").unwrap();
        let mut reply = Reply::failure(Rcode::NXDOMAIN, Why::NoSuchForm);
        reply.authoritative = true;
        let soa = Soa {
            primary: primary.as_ref(),
            mailbox: zone.as_ref(),
            serial: 1,
            refresh: 2,
            retry: 3,
            expire: 4,
            minimum: 5,
        };
        let owner = Owner::Name(zone.as_ref());
        reply.push(Section::Authority, owner, Type::SOA, 5, Data::Soa(soa));
        let out = written(&query, &reply);
        let mut read = Reply::default();
        assert!(
            read_reply(&out, &mut read)
                .unwrap()
                .same_as(&query.original)
        );
        assert_eq!((read.rcode, read.authoritative), (Rcode::NXDOMAIN, true));
        let (ours, theirs) = (
            &reply.section(Section::Authority)[0],
            &read.section(Section::Authority)[0],
        );
        assert_eq!(reply.data(ours), read.data(theirs));
        assert!(
            out.len() < 12 + 21 + 2 + 10 + 7 + 2 + 2 + 20 + 1,
            "{}",
            out.len()
        );
    }

    /// A reply with SRV records for `targets` and their addresses.
    fn services(targets: &[Name]) -> Reply {
        let mut reply = Reply::default();
        for target in targets {
            let data = Data::Srv {
                priority: 0,
                weight: 16,
                port: 80,
                target: target.as_ref(),
            };
            reply.answer(Type::SRV, 5, data);
            let (owner, address) = (Owner::Name(target.as_ref()), Ipv4Addr::new(10, 0, 0, 1));
            reply.push(Section::Additional, owner, Type::A, 5, Data::A(address));
        }
        reply
    }

    #[test]
    fn owners_of_addresses_point_at_srv_targets() {
        let query = query("_http._tcp.db.shop.svc.cluster.local", Type::SRV);
        for (text, targets) in [
            ("db.shop.svc.cluster.local", 3),
            ("Db.shop.svc.cluster.local", 3),
            ("example.net", 3),
            ("example.net", 60),
        ] {
            let target = |number| Name::parse(&format!("db-{number}.{text}")).unwrap();
            let targets: Vec<Name> = (0..targets).map(target).collect();
            let mut query = query.clone();
            query.receive(|it| it.transport = crate::query::Transport::Tcp);
            let out = written(&query, &services(&targets));
            let mut read = Reply::default();
            read_reply(&out, &mut read).unwrap();
            let owners = read.section(Section::Additional).iter();
            let owners = owners.map(|record| match read.owner(record) {
                Owner::Name(name) => name.to_name(),
                Owner::Question => query.original.name,
            });
            assert_eq!(owners.collect::<Vec<_>>(), targets);
            let question = 12 + query.original.name.as_wire().len() + 4;
            let records = targets
                .iter()
                .map(|it| 12 + 6 + it.as_wire().len() + 12 + 4);
            let least = question + records.sum::<usize>();
            if targets.len() < MAX_SRV_OFFSETS {
                assert_eq!(out.len(), least, "{text}");
            } else {
                assert!(out.len() < least + 5 * targets.len(), "{text}");
            }
        }
    }

    #[test]
    fn invalid_srv_data_is_no_compression_target() {
        let query = query("x.cluster.local", Type::SRV);
        let target = Name::parse("db-0.example.net").unwrap();
        // Before the data: the header, the question, and twelve bytes of the record.
        let own = u16::try_from(12 + query.original.name.as_wire().len() + 4 + 12 + 6).unwrap();
        let to_itself = (0xC000 | own).to_be_bytes();
        let to_the_next = (0xC000 | (own + 2)).to_be_bytes();
        let cases = [
            vec![],
            vec![0; 6],
            [&[0; 6], &to_itself[..]].concat(),
            [&[0; 6], &to_the_next[..]].concat(),
            [&[0; 6], &b"\x04db-0\x07example\x03"[..]].concat(),
        ];
        for data in cases {
            let mut reply = services(&[target]);
            reply.section_mut(Section::Answer).clear();
            reply.answer(Type::SRV, 5, Data::Raw(&data));
            let out = written(&query, &reply);
            let whole = usize::from(own) - 6 + data.len() + target.as_wire().len() + 10 + 4;
            assert_eq!(out.len(), whole, "{data:?}");
        }
    }

    #[test]
    fn ad_is_sent_to_clients_that_set_ad_or_do() {
        let plain = query("x.example", Type::A);
        let mut knows = plain.clone();
        knows.receive(|it| it.authentic_data = true);
        let mut wants = plain.clone();
        wants.edns = Some(Edns {
            udp_payload: 1232,
            version: 0,
            dnssec_ok: true,
            wants_nsid: false,
            is_padded: false,
        });
        let mut reply = Reply::default();
        reply.authentic = true;
        for (query, shown) in [(&plain, false), (&knows, true), (&wants, true)] {
            let header = Header::read(&written(query, &reply)).unwrap();
            assert_eq!(header.has(Header::AUTHENTIC), shown);
        }
        reply.authentic = false;
        let header = Header::read(&written(&wants, &reply)).unwrap();
        assert!(!header.has(Header::AUTHENTIC));
    }

    #[test]
    fn replies_to_padded_queries_are_padded_over_encrypted_transports() {
        use crate::query::Transport;

        let mut query = query("cluster.local", Type::A);
        let edns = Edns {
            udp_payload: 1232,
            version: 0,
            dnssec_ok: false,
            wants_nsid: false,
            is_padded: true,
        };
        let mut reply = Reply::default();
        let mut out = Vec::new();
        for count in [0, 1, 27, 28, 60, 4093] {
            reply.clear();
            (0..count).for_each(|_| reply.answer(Type::A, 5, Data::A([10, 0, 0, 1].into())));
            for transport in [
                Transport::Tls,
                Transport::Https,
                Transport::Https3,
                Transport::Quic,
            ] {
                query.receive(|it| it.transport = transport);
                query.receive(|it| it.edns = Some(edns));
                Writer::default().write(&query, &reply, &mut out);
                let header = Header::read(&out).unwrap();
                // With padding, the longest would exceed a message.
                if count < 4093 {
                    assert_eq!(out.len() % PADDING_BLOCK, 0, "{count} {transport:?}");
                }
                assert!(out.len() <= MAX_MESSAGE);
                assert_eq!(
                    crate::message::has_option(&out, &header, Options::PADDING),
                    count < 4093
                );
                let padded = out.len();
                query.receive(|it| {
                    it.edns = Some(Edns {
                        is_padded: false,
                        ..edns
                    });
                });
                Writer::default().write(&query, &reply, &mut out);
                assert!(out.len() < padded || count == 4093);
                assert!(!crate::message::has_option(&out, &header, Options::PADDING));
            }
            for transport in [Transport::Udp, Transport::Tcp] {
                query.receive(|it| it.transport = transport);
                query.receive(|it| it.edns = Some(edns));
                Writer::default().write(&query, &reply, &mut out);
                let header = Header::read(&out).unwrap();
                assert!(!crate::message::has_option(&out, &header, Options::PADDING));
            }
        }
    }

    #[test]
    fn options_are_sent_to_edns_clients_and_displace_no_records() {
        let mut query = query("x.cluster.local", Type::A);
        let mut reply = Reply::default();
        reply.options.push(Options::NSID, b"ns1");
        reply.extended_error = Some(reply::ExtendedError {
            code: 22,
            text: "why".into(),
        });
        let read = |query: &Query, reply: &Reply| {
            let mut read = Reply::default();
            read_reply(&written(query, reply), &mut read).unwrap();
            read
        };
        assert!(read(&query, &reply).options.is_empty());
        query.receive(|it| {
            it.edns = Some(Edns {
                udp_payload: 512,
                version: 0,
                dnssec_ok: false,
                wants_nsid: true,
                is_padded: false,
            });
        });
        let seen = read(&query, &reply);
        assert_eq!(seen.options, reply.options);
        assert_eq!(seen.extended_error, reply.extended_error);
        reply.options.push(65001, &[0; 300]);
        let seen = read(&query, &reply);
        assert!(seen.options.is_empty() && seen.extended_error.is_some());
    }

    #[test]
    fn a_text_is_truncated_between_characters() {
        let mut query = query("x.cluster.local", Type::A);
        query.receive(|it| {
            it.edns = Some(Edns {
                udp_payload: 1232,
                version: 0,
                dnssec_ok: false,
                wants_nsid: false,
                is_padded: false,
            });
        });
        let mut reply = Reply::default();
        reply.extended_error = Some(reply::ExtendedError {
            code: 22,
            text: "ä".repeat(MAX_EXTRA_TEXT).replacen('ä', "a", 1).into(),
        });
        let mut read = Reply::default();
        read_reply(&written(&query, &reply), &mut read).unwrap();
        let text = read.extended_error.unwrap().text;
        assert_eq!(text.len(), MAX_EXTRA_TEXT - 1);
        assert!(!text.contains(char::REPLACEMENT_CHARACTER));
    }

    #[test]
    fn a_transfer_is_split_into_messages() {
        let mut query = query("cluster.local", Type::AXFR);
        query.receive(|it| it.transport = crate::query::Transport::Tcp);
        let mut reply = Reply::default();
        for number in 0..5000_u16 {
            let [high, low] = number.to_be_bytes();
            reply.answer(Type::A, 5, Data::A(Ipv4Addr::new(10, 0, high, low)));
        }
        let mut out = Vec::new();
        Writer::default().write_stream(&query, &reply, &mut None, &mut out);
        let mut rest = out.as_slice();
        let mut told = Vec::new();
        let mut messages = 0;
        while let Some((length, behind)) = rest.split_first_chunk::<2>() {
            let (message, behind) = behind.split_at(u16::from_be_bytes(*length).into());
            let mut read = Reply::default();
            assert!(
                read_reply(message, &mut read)
                    .unwrap()
                    .same_as(&query.original)
            );
            assert!(!read.truncated);
            let records = read.section(Section::Answer).iter();
            told.extend(records.map(|record| read.data(record).to_vec()));
            rest = behind;
            messages += 1;
        }
        assert_eq!((messages, told.len()), (5, 5000));
        assert!(told.is_sorted());
    }

    #[test]
    fn an_oversized_reply_is_truncated_at_a_record_with_tc() {
        let mut query = query("big.shop.svc.cluster.local", Type::A);
        query.receive(|it| {
            it.edns = Some(Edns {
                udp_payload: 512,
                version: 0,
                dnssec_ok: true,
                wants_nsid: false,
                is_padded: false,
            });
        });
        let mut reply = Reply::default();
        for last in 0..100 {
            reply.answer(Type::A, 5, Data::A(Ipv4Addr::new(10, 0, 0, last)));
        }
        let out = written(&query, &reply);
        assert!(out.len() <= 512 && out.len() > 512 - 16);
        let header = Header::read(&out).unwrap();
        assert!(header.has(Header::TRUNCATED));
        assert_eq!(header.counts[3], 1, "OPT stays");
        let mut read = Reply::default();
        read_reply(&out, &mut read).unwrap();
        assert_eq!(
            read.section(Section::Answer).len(),
            usize::from(header.counts[1])
        );
    }
}
