//! Writes replies: with the original question, compressed, truncated to the client's payload size.

mod compression;
mod opt;

use std::ops::Range;

use self::{
    compression::Compression,
    opt::{SentOptions, pad},
};
use super::truncation::TruncatedReply;
use crate::{
    query::Query,
    reply::{self, Owner, Record, Reply, Section},
    wire::{HEADER_LENGTH, Header, MAX_MESSAGE, NameRef, Rcode, Type},
};

/// Offset of the question's name in every message: after the header.
const QUESTION_NAME: u16 = 12;

/// Maximum number of offsets of SRV targets among them. Targets share fewer suffixes, so space is
/// left for other names.
const MAX_SRV_OFFSETS: usize = 32;

/// Bytes of SRV data before the target: priority, weight and port (RFC 2782).
const SRV_TARGET: usize = 6;

/// Maximum size of a transfer message, unless a single record is larger: the range of a 14-bit
/// compression pointer, so that all names can be compressed.
const TRANSFER_MESSAGE: usize = 0x4000;

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
        let mut opt = SentOptions::of(reply, limit);
        let mut next = self.message(query, reply, 0..usize::MAX, limit, opt, out);
        // Records come before the explanation.
        if next < reply.records().count() && opt.drop_extended_error() {
            next = self.message(query, reply, 0..usize::MAX, limit, opt, out);
        }
        let mut truncated = reply.truncated;
        if next < reply.records().count() {
            let cut = TruncatedReply::at(reply, query.original.name.as_ref(), next);
            truncated |= cut.is_truncation();
            if !truncated {
                let whole = cut.complete_rrsets();
                if whole < next {
                    self.message(query, reply, 0..whole, limit, opt, out);
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
            let (range, limit) = (from..count, TRANSFER_MESSAGE);
            let opt = SentOptions::of(reply, limit);
            let mut next = self.message(query, reply, range.clone(), limit, opt, &mut message);
            if next == from && next < count {
                let limit = MAX_MESSAGE - signature_space(query);
                next = self.message(query, reply, range, limit, opt, &mut message);
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
        opt: SentOptions<'_>,
        out: &mut Vec<u8>,
    ) -> usize {
        out.clear();
        self.compression.used = 0;
        out.extend([0; HEADER_LENGTH]);
        self.question_name(query.original.name.as_ref(), out);
        out.extend(query.original.rtype.0.to_be_bytes());
        out.extend(query.original.class.0.to_be_bytes());

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

/// Bytes reserved for a TSIG record.
fn signature_space(query: &Query) -> usize {
    query
        .signer
        .as_ref()
        .map_or(0, |signer| signer.max_length())
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
mod tests;
