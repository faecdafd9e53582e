//! A single record in presentation format, `OWNER [TTL] [CLASS] TYPE DATA`, without origin and of
//! any class.

use super::{
    data,
    lexer::{self, FileEntry, Lexer},
    value,
};
use crate::{
    authority::format::type_from_text,
    wire::{Class, Name, Type},
};

/// Default TTL in seconds, as in CoreDNS.
const TTL: u32 = 3600;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRecord {
    /// The owner name.
    pub owner: Name,
    /// The type.
    pub rtype: Type,
    /// The class.
    pub class: Class,
    /// The TTL in seconds; 3600 if not given.
    pub ttl: u32,
    /// RDATA in wire format with uncompressed names; at most 65,535 bytes.
    pub data: Vec<u8>,
}

impl TextRecord {
    /// Parses the first record of a text; names are absolute with or without a trailing dot. The
    /// error is a message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lexer = Lexer::new(text.trim_start().as_bytes());
        let mut entry = FileEntry::default();
        if !lexer.next(&mut entry).map_err(|(_, why)| why.to_owned())? {
            return Err("no record found".to_owned());
        }
        let root = Name::ROOT;
        let (owner, tokens) = entry.tokens.split_first().ok_or("no record found")?;
        let owner = value::name(owner, root.as_ref())?;
        let (mut ttl, mut class) = (None, None);
        for (at, token) in tokens.iter().enumerate() {
            let read_class = || std::str::from_utf8(token.text).ok()?.parse().ok();
            if ttl.is_none() && token.text.first().is_some_and(u8::is_ascii_digit) {
                ttl = Some(value::seconds(token)?);
            } else if let (None, Some(known)) = (class, read_class()) {
                class = Some(known);
            } else {
                let rtype = type_from_text(token.text).filter(|_| !token.is_quoted);
                let rtype =
                    rtype.ok_or_else(|| format!("{} is not a record type", lexer::quote(token)))?;
                let data = data::data(rtype, &tokens[at + 1..], root.as_ref());
                return Ok(Self {
                    owner,
                    rtype,
                    class: class.unwrap_or(Class::IN),
                    ttl: ttl.unwrap_or(TTL),
                    data: data.map_err(|why| format!("{rtype}: {why}"))?,
                });
            }
        }
        Err("expected a record type".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Vec<u8> {
        let line = TextRecord::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        line.data
    }

    #[test]
    fn class_and_ttl_are_optional_in_any_order() {
        for (text, ttl, class) in [
            ("a.example. 60 IN A 192.0.2.1", 60, Class::IN),
            ("a.example in 60 a 192.0.2.1", 60, Class::IN),
            ("a.example A 192.0.2.1", 3600, Class::IN),
            ("a.example 1h30m A 192.0.2.1 ; why", 5400, Class::IN),
            (
                "  a.example\t1w CH A 192.0.2.1\nb.example A 192.0.2.2",
                604_800,
                Class::CH,
            ),
        ] {
            let line = TextRecord::parse(text).unwrap();
            assert_eq!((line.ttl, line.class), (ttl, class), "{text}");
            assert_eq!(line.owner.to_string(), "a.example.", "{text}");
            assert_eq!(line.data, [192, 0, 2, 1]);
        }
    }

    #[test]
    fn names_are_absolute_and_data_is_of_any_type() {
        assert_eq!(data(". CNAME b.Example"), b"\x01b\x07Example\0");
        assert_eq!(data(". PTR @"), [0]);
        assert_eq!(data(". SRV 1 2 3 b"), b"\0\x01\0\x02\0\x03\x01b\0");
        assert_eq!(data(r#". TXT "a b" c\"\065 """#), b"\x03a b\x03c\"A\0");
        // Names must not be compressed.
        let soa = data(". SOA ns.example. admin.example. (1 2 3 4 5)");
        assert_eq!(soa.len(), 12 + 15 + 20);
        assert_eq!(data(r". TYPE65280 \# 3 0102 ff"), [1, 2, 255]);
        assert_eq!(data(r". A \# 4 c0000201"), [192, 0, 2, 1]);
    }

    #[test]
    fn malformed_records_are_rejected() {
        for (text, why) in [
            ("", "no record found"),
            ("; nothing", "no record found"),
            ("a", "expected a record type"),
            ("a 60 IN", "expected a record type"),
            ("a NOPE x", "'NOPE' is not a record type"),
            ("<no value> A 192.0.2.1", "'value>' is not a record type"),
            ("a A 192.0.2.256", "A: '192.0.2.256' is not an IPv4 address"),
            ("a A", "A: A has 1 fields, found 0"),
            ("a A 192.0.2.1 2", "A: unexpected '2' after the fields of A"),
            ("a..b A 192.0.2.1", "a..b"),
            ("a TXT \"b", "quote"),
            ("a TYPE65280 x", "LENGTH HEX"),
        ] {
            let error = TextRecord::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
