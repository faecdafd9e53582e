//! One record by itself, `OWNER [TTL] [CLASS] TYPE DATA`: no file, no origin, any class.

use super::{
    data,
    lexer::{Entry, Lexer},
    value,
};
use crate::{
    authority::format::named,
    wire::{Class, Name, Type},
};

/// Seconds that a record may be kept that does not say so itself: CoreDNS's choice for such lines.
const TTL: u32 = 3600;

/// A record by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose it is.
    pub owner: Name,
    /// Its type.
    pub rtype: Type,
    /// Its class.
    pub class: Class,
    /// Seconds that it may be kept; 3600 where none are said.
    pub ttl: u32,
    /// Its data in wire form, names uncompressed; at most 65,535 octets.
    pub data: Vec<u8>,
}

impl Line {
    /// Reads the first record of a text, whose names are absolute with or without their last dot; or
    /// tells what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lexer = Lexer::new(text.trim_start().as_bytes());
        let mut entry = Entry::default();
        if !lexer.next(&mut entry).map_err(|(_, why)| why.to_owned())? {
            return Err("there is no record".to_owned());
        }
        let root = Name::ROOT;
        let (owner, words) = entry.words.split_first().ok_or("there is no record")?;
        let owner = value::name(owner, root.as_ref())?;
        let (mut ttl, mut class) = (None, None);
        for (at, word) in words.iter().enumerate() {
            let read_class = || std::str::from_utf8(word.text).ok()?.parse().ok();
            if ttl.is_none() && word.text.first().is_some_and(u8::is_ascii_digit) {
                ttl = Some(value::seconds(word)?);
            } else if let (None, Some(known)) = (class, read_class()) {
                class = Some(known);
            } else {
                let rtype = named(word.text).filter(|_| !word.is_quoted);
                let rtype =
                    rtype.ok_or_else(|| format!("{} is no record type", data::shown(word)))?;
                let data = data::data(rtype, &words[at + 1..], root.as_ref());
                return Ok(Self {
                    owner,
                    rtype,
                    class: class.unwrap_or(Class::IN),
                    ttl: ttl.unwrap_or(TTL),
                    data: data.map_err(|why| format!("{rtype}: {why}"))?,
                });
            }
        }
        Err("a record type is expected".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Vec<u8> {
        let line = Line::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        line.data
    }

    #[test]
    fn class_and_ttl_come_in_any_order_and_may_be_missing() {
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
            let line = Line::parse(text).unwrap();
            assert_eq!((line.ttl, line.class), (ttl, class), "{text}");
            assert_eq!(line.owner.to_string(), "a.example.", "{text}");
            assert_eq!(line.data, [192, 0, 2, 1]);
        }
    }

    #[test]
    fn names_are_absolute_and_data_of_any_type() {
        assert_eq!(data(". CNAME b.Example"), b"\x01b\x07Example\0");
        assert_eq!(data(". PTR @"), [0]);
        assert_eq!(data(". SRV 1 2 3 b"), b"\0\x01\0\x02\0\x03\x01b\0");
        assert_eq!(data(r#". TXT "a b" c\"\065 """#), b"\x03a b\x03c\"A\0");
        // Two names of one suffix: the second must not point at the first.
        let soa = data(". SOA ns.example. admin.example. (1 2 3 4 5)");
        assert_eq!(soa.len(), 12 + 15 + 20);
        assert_eq!(data(r". TYPE65280 \# 3 0102 ff"), [1, 2, 255]);
        assert_eq!(data(r". A \# 4 c0000201"), [192, 0, 2, 1]);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for (text, why) in [
            ("", "there is no record"),
            ("; nothing", "there is no record"),
            ("a", "a record type is expected"),
            ("a 60 IN", "a record type is expected"),
            ("a NOPE x", "'NOPE' is no record type"),
            ("<no value> A 192.0.2.1", "'value>' is no record type"),
            ("a A 192.0.2.256", "A: '192.0.2.256' is not an IPv4 address"),
            ("a A", "A: A has 1 fields, not 0"),
            ("a A 192.0.2.1 2", "A: A ends before '2'"),
            ("a..b A 192.0.2.1", "a..b"),
            ("a TXT \"b", "quote"),
            ("a TYPE65280 x", "LENGTH HEX"),
        ] {
            let error = Line::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
