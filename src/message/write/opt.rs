//! The OPT record of replies (RFC 6891 section 6.1.2): options, extended errors (RFC 8914) and padding (RFC 7830).

use crate::{
    edns::Options,
    query::{Edns, OPT_LENGTH, Query},
    reply::Reply,
    wire::{MAX_MESSAGE, Type},
};

/// Maximum bytes of an extended error's text, so that it does not displace records.
pub(super) const MAX_EXTRA_TEXT: usize = 200;

/// Options of a reply's OPT record that are sent.
#[derive(Clone, Copy)]
pub(super) struct SentOptions<'r> {
    options: &'r [u8],
    extended: Option<(u16, &'r [u8])>,
}

impl<'r> SentOptions<'r> {
    /// The options sent in a message of at most `limit` bytes: none if they would take half of it.
    pub(super) fn of(reply: &'r Reply, limit: usize) -> Self {
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

    /// Leaves the extended error out; false if there is none.
    pub(super) fn drop_extended_error(&mut self) -> bool {
        self.extended.take().is_some()
    }

    /// Length of the record in bytes.
    pub(super) fn length(self) -> usize {
        OPT_LENGTH + self.data_length()
    }

    fn data_length(self) -> usize {
        self.options.len() + self.extended.map_or(0, |(_, text)| 6 + text.len())
    }

    /// Writes the record, for a query with EDNS.
    pub(super) fn write(self, query: &Query, reply: &Reply, out: &mut Vec<u8>) {
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

/// Padded responses have a multiple of this length (RFC 8467 section 4.1).
pub(super) const PADDING_BLOCK: usize = 468;

/// Pads a message that ends with the OPT record at `opt`, with `signature` bytes to follow (RFC
/// 7830). A message that would become too long is not padded.
pub(super) fn pad(opt: usize, signature: usize, out: &mut Vec<u8>) {
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
