//! EDNS options of the OPT record (RFC 6891 section 6.1.2), in wire format.
//!
//! Options are stored as in the OPT record: code, length and data, one after the other, and parsed
//! on access. Hop-by-hop options (cookie, padding, keepalive) are dropped when a message is read:
//! they are not used here, and so a typical query has no options and needs no allocation.

use crate::wire::MalformedMessage;

/// Options of a query or a reply. A null pointer if there are none, because each pending query
/// holds several of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::box_collection)] // see above
pub struct Options(Option<Box<Vec<u8>>>);

impl Options {
    /// Name server identifier (RFC 5001).
    pub const NSID: u16 = 3;
    /// Client subnet (RFC 7871).
    pub const SUBNET: u16 = 8;
    /// Cookie (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// TCP keepalive timeout (RFC 7828).
    pub const KEEPALIVE: u16 = 11;
    /// Padding (RFC 7830).
    pub const PADDING: u16 = 12;
    /// Extended DNS error (RFC 8914).
    pub const EXTENDED_ERROR: u16 = 15;

    /// Maximum total length in bytes. Each pending query holds its options, so clients must not
    /// determine their size.
    pub const MAX: usize = 512;

    /// Whether there are no options.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The options in wire format.
    pub fn as_wire(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Removes all options.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Copies `other` into this value.
    pub fn copy_from(&mut self, other: &Self) {
        self.0.clone_from(&other.0);
    }

    /// Codes and data in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        walk(self.as_wire()).map_while(Result::ok)
    }

    /// The data of the first option with this code.
    pub fn get(&self, code: u16) -> Option<&[u8]> {
        self.iter()
            .find_map(|(known, data)| (known == code).then_some(data))
    }

    /// Appends an option; false if it exceeds [`Self::MAX`].
    pub fn push(&mut self, code: u16, data: &[u8]) -> bool {
        if self.as_wire().len() + 4 + data.len() > Self::MAX {
            return false;
        }
        let length = u16::try_from(data.len()).expect("far below the limit of all");
        let bytes = self.0.get_or_insert_default();
        bytes.extend(code.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(data);
        true
    }

    /// Replaces the data of the first option with this code; false if there is none or the size
    /// exceeds [`Self::MAX`].
    pub fn replace(&mut self, code: u16, data: &[u8]) -> bool {
        let mut others = Self::default();
        let mut found = false;
        let mut fits = true;
        for (known, kept) in self.iter() {
            let is_it = !found && known == code;
            found |= is_it;
            fits &= others.push(known, if is_it { data } else { kept });
        }
        if found && fits {
            *self = others;
        }
        found && fits
    }

    /// Removes all options with this code.
    pub fn remove(&mut self, code: u16) {
        if self.get(code).is_none() {
            return;
        }
        let mut others = Self::default();
        for (known, data) in self.iter().filter(|(known, _)| *known != code) {
            others.push(known, data);
        }
        *self = others;
    }
}

/// Parses the data of an OPT record. A length beyond the end yields one error.
pub fn walk(data: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), MalformedMessage>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let option = rest.split_first_chunk::<4>().and_then(|(head, behind)| {
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let (value, behind) = behind.split_at_checked(length)?;
            Some((u16::from_be_bytes([head[0], head[1]]), value, behind))
        });
        let Some((code, value, behind)) = option else {
            rest = &[];
            return Some(Err(MalformedMessage::Truncated));
        };
        rest = behind;
        Some(Ok((code, value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[(u16, &[u8])]) -> Options {
        let mut options = Options::default();
        for (code, data) in list {
            assert!(options.push(*code, data));
        }
        options
    }

    #[test]
    fn options_are_added_replaced_and_removed() {
        let mut some = options(&[(8, b"net"), (65001, b""), (8, b"again")]);
        assert_eq!(
            some.as_wire(),
            b"\0\x08\0\x03net\xFD\xE9\0\0\0\x08\0\x05again"
        );
        assert_eq!((some.get(8), some.get(9)), (Some(&b"net"[..]), None));
        assert!(some.replace(8, b"other"));
        assert_eq!(
            some,
            options(&[(8, b"other"), (65001, b""), (8, b"again")]),
            "the first one alone"
        );
        assert!(!some.replace(9, b""));
        some.remove(8);
        assert_eq!(some, options(&[(65001, b"")]));
    }

    #[test]
    fn the_total_length_is_limited() {
        let mut some = options(&[(1, &[0; Options::MAX - 8])]);
        assert!(!some.push(2, b"x"));
        assert!(some.push(2, b""));
        let full = some.clone();
        assert!(!some.replace(2, b"x"));
        assert_eq!(some, full);
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error() {
        for data in [&b"\0"[..], b"\0\x08\0", b"\0\x08\0\x02x"] {
            assert_eq!(
                walk(data).collect::<Vec<_>>(),
                [Err(MalformedMessage::Truncated)]
            );
        }
        assert_eq!(walk(b"\0\x08\0\0\0").count(), 2);
    }
}
