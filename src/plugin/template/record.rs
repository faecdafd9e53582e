//! One resource record from its text: `NAME [TTL] [CLASS] TYPE DATA`, as in a zone file.
//!
//! Names are absolute with or without their final dot. The types that templates are made of are
//! read here; for the rest there is hickory-proto's reader, and `\# LENGTH HEX` (RFC 3597 §5) for
//! every type, known or not.

use std::str::FromStr;

use hickory_proto::{
    rr::{RData, RecordType},
    serialize::binary::{BinEncodable, BinEncoder, NameEncoding},
};

use crate::wire::{Class, Name, Type};

/// Seconds that a record may be kept that does not say so itself: CoreDNS's.
const TTL: u32 = 3600;
/// Octets of one character string (RFC 1035 §3.3).
const LONGEST_STRING: usize = 255;

/// A record by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub owner: Name,
    /// Its type.
    pub rtype: Type,
    /// Its class.
    pub class: Class,
    /// Seconds that it may be kept.
    pub ttl: u32,
    /// Its data in wire form, names uncompressed; at most 65,535 octets.
    pub data: Vec<u8>,
}

/// A word of a record's text.
struct Token<'a> {
    /// Without quotes; escapes are still in it.
    text: &'a str,
    quoted: bool,
    /// Where it begins in the line.
    start: usize,
}

impl Record {
    /// Reads the first record of a text, or tells what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with(';'))
            .ok_or("there is no record")?;
        let tokens = tokens(line)?;
        let mut rest = tokens.iter();
        let mut next = |what: &str| {
            let token = rest.next();
            token.ok_or_else(|| format!("the {what} is missing"))
        };
        let owner = name(next("owner")?)?;
        let (mut ttl, mut class) = (None, None);
        let rtype = loop {
            let token = next("type")?;
            if let (None, Some(seconds)) = (ttl, seconds(token.text)) {
                ttl = Some(seconds);
            } else if let (None, Some(known)) = (class, read_class(token.text)) {
                class = Some(known);
            } else {
                break Type::from_str(token.text)
                    .map_err(|_| format!("'{}' is no record type", token.text))?;
            }
        };
        let data = rest.as_slice();
        let tail = data.first().map_or("", |first| &line[first.start..]);
        let data = read_data(rtype, data, tail).map_err(|why| format!("{rtype}: {why}"))?;
        if data.len() > usize::from(u16::MAX) {
            return Err(format!("{rtype}: the data are too long"));
        }
        Ok(Self {
            owner,
            rtype,
            class: class.unwrap_or(Class::IN),
            ttl: ttl.unwrap_or(TTL),
            data,
        })
    }
}

/// The words of a line: brackets only join lines, and a semicolon begins a comment.
fn tokens(line: &str) -> Result<Vec<Token<'_>>, String> {
    let octets = line.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&octet) = octets.get(at) {
        match octet {
            b';' => break,
            b' ' | b'\t' | b'(' | b')' => at += 1,
            b'"' => {
                let start = at;
                at += 1;
                loop {
                    match octets.get(at) {
                        None => return Err("a quote is not closed".to_owned()),
                        Some(b'"') => break,
                        Some(b'\\') => at += 2,
                        Some(_) => at += 1,
                    }
                }
                tokens.push(Token {
                    text: &line[start + 1..at],
                    quoted: true,
                    start,
                });
                at += 1;
            }
            _ => {
                let start = at;
                while let Some(&octet) = octets.get(at) {
                    match octet {
                        b' ' | b'\t' | b'(' | b')' | b';' | b'"' => break,
                        b'\\' => at += 2,
                        _ => at += 1,
                    }
                }
                // An escape at the end has nothing behind it, or half of a character.
                while !line.is_char_boundary(at.min(line.len())) {
                    at += 1;
                }
                at = at.min(line.len());
                tokens.push(Token {
                    text: &line[start..at],
                    quoted: false,
                    start,
                });
            }
        }
    }
    Ok(tokens)
}

fn name(token: &Token<'_>) -> Result<Name, String> {
    let text = if token.text == "@" { "." } else { token.text };
    if text.is_empty() {
        return Err("a name is missing".to_owned());
    }
    Name::parse(text).map_err(|error| format!("'{text}' is no name: {error}"))
}

/// Seconds, as a number or with units: `1h30m`.
fn seconds(text: &str) -> Option<u32> {
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let (mut total, mut part) = (0u32, 0u32);
    for octet in text.bytes() {
        let unit = match octet.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                part = part.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(part.checked_mul(unit)?)?;
        part = 0;
    }
    total.checked_add(part)
}

/// The class of this name.
pub fn read_class(text: &str) -> Option<Class> {
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "IN" => Some(Class::IN),
        "CS" => Some(Class(2)),
        "CH" => Some(Class::CH),
        "HS" => Some(Class(4)),
        "NONE" => Some(Class(254)),
        "ANY" => Some(Class::ANY),
        other => other.strip_prefix("CLASS")?.parse().ok().map(Class),
    }
}

fn read_data(rtype: Type, tokens: &[Token<'_>], tail: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    match (rtype.0, tokens) {
        (_, [first, rest @ ..]) if first.text == "\\#" && !first.quoted => generic(rest, &mut out)?,
        (1, [address]) => {
            out.extend(read::<std::net::Ipv4Addr>(address, "an IPv4 address")?.octets())
        }
        (28, [address]) => {
            out.extend(read::<std::net::Ipv6Addr>(address, "an IPv6 address")?.octets());
        }
        // NS, CNAME, PTR, DNAME
        (2 | 5 | 12 | 39, [target]) => out.extend(name(target)?.as_wire()),
        (15, [preference, target]) => {
            out.extend(read::<u16>(preference, "a preference")?.to_be_bytes());
            out.extend(name(target)?.as_wire());
        }
        // TXT, SPF
        (16 | 99, [_, ..]) => {
            for token in tokens {
                for part in unescaped(token.text)?.chunks(LONGEST_STRING) {
                    push_string(part, &mut out);
                }
                if token.text.is_empty() {
                    out.push(0);
                }
            }
        }
        (33, [priority, weight, port, target]) => {
            for number in [priority, weight, port] {
                out.extend(read::<u16>(number, "a number up to 65535")?.to_be_bytes());
            }
            out.extend(name(target)?.as_wire());
        }
        (1 | 28 | 2 | 5 | 12 | 39 | 15 | 16 | 99 | 33, []) => return Err("no data".to_owned()),
        (1 | 28 | 2 | 5 | 12 | 39 | 15 | 33, _) => {
            return Err(format!("'{tail}' has too few or too many words"));
        }
        _ => return foreign(rtype, tail),
    }
    Ok(out)
}

/// A type that only the library reads.
fn foreign(rtype: Type, tail: &str) -> Result<Vec<u8>, String> {
    let data = RData::try_from_str(RecordType::from(rtype.0), tail)
        .map_err(|error| format!("{error}; data of any type can be written as \\# LENGTH HEX"))?;
    let mut out = Vec::new();
    let mut encoder = BinEncoder::new(&mut out);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    let emitted = data.emit(&mut encoder);
    emitted.map_err(|error| error.to_string())?;
    Ok(out)
}

/// What stands behind `\#`: octets, and these octets in hexadecimal digits.
fn generic(tokens: &[Token<'_>], out: &mut Vec<u8>) -> Result<(), String> {
    let [length, digits @ ..] = tokens else {
        return Err("\\# needs a length".to_owned());
    };
    let length = read::<u16>(length, "a length")?;
    let digits: String = digits.iter().map(|token| token.text).collect();
    for pair in digits.as_bytes().chunks(2) {
        let octet = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.len() == 2)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or_else(|| format!("'{digits}' are no pairs of hexadecimal digits"))?;
        out.push(octet);
    }
    if out.len() != usize::from(length) {
        return Err(format!("{length} octets are said and {} given", out.len()));
    }
    Ok(())
}

fn read<T: FromStr>(token: &Token<'_>, what: &str) -> Result<T, String> {
    let read = token.text.parse();
    read.map_err(|_| format!("'{}' is not {what}", token.text))
}

fn push_string(octets: &[u8], out: &mut Vec<u8>) {
    out.push(u8::try_from(octets.len()).unwrap_or(u8::MAX));
    out.extend(octets);
}

/// A character string without its escapes, `\X` and `\DDD` (RFC 1035 §5.1).
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [octet, behind @ ..] = rest {
        rest = behind;
        match (octet, behind) {
            (b'\\', [first, ..]) if first.is_ascii_digit() => {
                let digits = behind
                    .get(..3)
                    .and_then(|digits| std::str::from_utf8(digits).ok());
                let number = digits.and_then(|digits| digits.parse::<u8>().ok());
                out.push(number.ok_or("\\DDD are three digits, up to 255")?);
                rest = &behind[3..];
            }
            (b'\\', [first, behind @ ..]) => {
                out.push(*first);
                rest = behind;
            }
            (b'\\', []) => return Err("nothing stands behind the last \\".to_owned()),
            _ => out.push(*octet),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Vec<u8> {
        Record::parse(text)
            .unwrap_or_else(|why| panic!("{text}: {why}"))
            .data
    }

    #[test]
    fn class_and_ttl_come_in_any_order_and_may_be_missing() {
        let plain = Record::parse("a.example. 60 IN A 192.0.2.1").unwrap();
        assert_eq!(
            (plain.ttl, plain.class, plain.rtype),
            (60, Class::IN, Type::A)
        );
        assert_eq!(plain.owner.to_string(), "a.example.");
        assert_eq!(plain.data, [192, 0, 2, 1]);
        for (text, ttl, class) in [
            ("a.example in 60 a 192.0.2.1", 60, Class::IN),
            ("a.example A 192.0.2.1", 3600, Class::IN),
            ("a.example 1h30m A 192.0.2.1 ; why", 5400, Class::IN),
            (
                "  a.example\t1w CH A 192.0.2.1\nb.example A 192.0.2.2",
                604_800,
                Class::CH,
            ),
        ] {
            let record = Record::parse(text).unwrap();
            assert_eq!((record.ttl, record.class), (ttl, class), "{text}");
            assert_eq!(record.owner.to_string(), "a.example.", "{text}");
        }
    }

    #[test]
    fn every_kind_of_data_is_read() {
        assert_eq!(data(". AAAA 2001:db8::1")[..4], [0x20, 1, 0xd, 0xb8]);
        assert_eq!(data(". CNAME b.Example"), b"\x01b\x07Example\0");
        assert_eq!(data(". PTR @"), [0]);
        assert_eq!(data(". MX 10 b"), b"\0\x0a\x01b\0");
        assert_eq!(data(". SRV 1 2 3 b"), b"\0\x01\0\x02\0\x03\x01b\0");
        assert_eq!(data(r#". TXT "a b" c\"\065 """#), b"\x03a b\x03c\"A\0");
        assert_eq!(data(&format!(". TXT {}", "a".repeat(300)))[256], 45);
        // Two names of one suffix: the second must not point at the first.
        let soa = data(". SOA ns.example. admin.example. (1 2 3 4 5)");
        assert_eq!(soa.len(), 12 + 15 + 20);
        assert_eq!(data(r#". CAA 0 issue "ca.example""#)[..7], *b"\0\x05issue");
        assert_eq!(data(r". TYPE65280 \# 3 0102 ff"), [1, 2, 255]);
        assert_eq!(data(r". A \# 4 c0000201"), [192, 0, 2, 1]);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for (text, why) in [
            ("", "there is no record"),
            ("a", "the type is missing"),
            ("a 60 IN", "the type is missing"),
            ("a NOPE x", "'NOPE' is no record type"),
            ("<no value> A 192.0.2.1", "'value>' is no record type"),
            ("a A 192.0.2.256", "A: '192.0.2.256' is not an IPv4 address"),
            ("a A", "A: no data"),
            (
                "a A 192.0.2.1 2",
                "A: '192.0.2.1 2' has too few or too many words",
            ),
            ("a..b A 192.0.2.1", "is no name"),
            ("a TXT \"b", "a quote is not closed"),
            ("a TXT b\\", "nothing stands behind the last"),
            ("a TXT \\999", "up to 255"),
            (r"a TYPE65280 \# 3 0102", "3 octets are said and 2 given"),
            (r"a TYPE65280 \# 1 0g", "no pairs"),
            ("a TYPE65280 x", "LENGTH HEX"),
            ("a CAA x", "CAA: "),
            ("a MX b", "too few"),
        ] {
            let error = Record::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
