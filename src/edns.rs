//! The options of an OPT record (RFC 6891 §6.1.2), as octets.
//!
//! A message's options are kept as they stand in its OPT record: code, length and data, one behind
//! the other. They are read where somebody asks for one. Those that concern two neighbours alone
//! (cookies, padding, keepalive) are left out when a message is read: nobody here needs them, so
//! that the usual query has none and costs no allocation.

use crate::wire::MalformedMessage;

/// Options of a query or a reply. Where there are none it is a null pointer: every question that
/// waits holds some of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::box_collection)] // see above
pub struct Options(Option<Box<Vec<u8>>>);

impl Options {
    /// The server's identity (RFC 5001).
    pub const NSID: u16 = 3;
    /// The client's network (RFC 7871).
    pub const SUBNET: u16 = 8;
    /// A cookie (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// How long a connection may idle (RFC 7828).
    pub const KEEPALIVE: u16 = 11;
    /// Nothing, to hide a message's length (RFC 7830).
    pub const PADDING: u16 = 12;
    /// An extended error (RFC 8914).
    pub const EXTENDED_ERROR: u16 = 15;

    /// Octets that are kept of one message's options. Each question that waits holds them, so that
    /// a stranger must not decide how many there are.
    pub const MAX: usize = 512;

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// As in an OPT record.
    pub fn as_wire(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Back to none.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Becomes a copy of `other`.
    pub fn copy_from(&mut self, other: &Self) {
        self.0.clone_from(&other.0);
    }

    /// Codes and data, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        walk(self.as_wire()).map_while(Result::ok)
    }

    /// The data of the first option with this code.
    pub fn get(&self, code: u16) -> Option<&[u8]> {
        self.iter()
            .find_map(|(known, data)| (known == code).then_some(data))
    }

    /// Adds an option behind the others; false where there is no room for it.
    pub fn push(&mut self, code: u16, data: &[u8]) -> bool {
        if self.as_wire().len() + 4 + data.len() > Self::MAX {
            return false;
        }
        let length = u16::try_from(data.len()).expect("far below the limit of all");
        let octets = self.0.get_or_insert_default();
        octets.extend(code.to_be_bytes());
        octets.extend(length.to_be_bytes());
        octets.extend(data);
        true
    }

    /// Gives the first option with this code other data; false where there is none or no room.
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

    /// Takes every option with this code away.
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

/// The options of an OPT record's data; an error, once, where a length leads out of them.
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
    fn options_are_added_changed_and_taken_away() {
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
    fn there_is_a_limit() {
        let mut some = options(&[(1, &[0; Options::MAX - 8])]);
        assert!(!some.push(2, b"x"));
        assert!(some.push(2, b""));
        let full = some.clone();
        assert!(!some.replace(2, b"x"));
        assert_eq!(some, full);
    }

    #[test]
    fn a_lying_length_is_an_error() {
        for data in [&b"\0"[..], b"\0\x08\0", b"\0\x08\0\x02x"] {
            assert_eq!(
                walk(data).collect::<Vec<_>>(),
                [Err(MalformedMessage::Truncated)]
            );
        }
        assert_eq!(walk(b"\0\x08\0\0\0").count(), 2);
    }
}
