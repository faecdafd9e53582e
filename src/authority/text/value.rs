//! Single tokens of a zone file: names, numbers, times.

use std::{fmt::Write, str::FromStr};

use super::lexer::{Token, escaped, quote};
use crate::wire::{Name, NameRef, days_since_1970};

/// Parses a name; `@` is the origin, and a name without a trailing dot is relative to it.
pub fn name(token: &Token<'_>, origin: NameRef<'_>) -> Result<Name, String> {
    if token.is("@") {
        return Ok(origin.to_name());
    }
    let failed = |error: &dyn std::fmt::Display| format!("{} is not a name: {error}", quote(token));
    if token.text == b"." {
        return Ok(Name::ROOT);
    }
    let mut labels: Vec<Vec<u8>> = vec![Vec::new()];
    let mut rest = token.text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'.' => labels.push(Vec::new()),
            b'\\' => {
                let (byte, length) = escaped(rest).map_err(|error| failed(&error))?;
                rest = &rest[length..];
                labels.last_mut().expect("never empty").push(byte);
            }
            plain => labels.last_mut().expect("never empty").push(*plain),
        }
    }
    let is_absolute = labels.len() > 1 && labels.last().is_some_and(Vec::is_empty);
    let suffix = if is_absolute {
        labels.pop();
        Name::ROOT
    } else {
        origin.to_name()
    };
    let labels = labels.iter().map(Vec::as_slice);
    Name::from_labels(labels, suffix.as_ref()).map_err(|error| failed(&error))
}

/// Parses an unsigned integer.
pub fn number<T: FromStr>(token: &Token<'_>) -> Result<T, String> {
    let size = size_of::<T>() * 8;
    let text = std::str::from_utf8(token.text).ok();
    let digits = text.filter(|text| text.bytes().all(|it| it.is_ascii_digit()));
    digits
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{} is not a {size}-bit number", quote(token)))
}

/// Parses a type of the standard library.
pub fn parsed<T: FromStr>(token: &Token<'_>, what: &str) -> Result<T, String> {
    let text = std::str::from_utf8(token.text).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{} is not {what}", quote(token)))
}

/// Parses seconds: a number, or numbers with units (`1h30m`; a BIND extension).
pub fn seconds(token: &Token<'_>) -> Result<u32, String> {
    duration(token.text).ok_or_else(|| {
        let token = quote(token);
        format!("{token} is not a duration: expected seconds, or numbers with s, m, h, d or w")
    })
}

/// Parses seconds as [`seconds`] does; `None` if the text is not a duration.
pub fn duration(text: &[u8]) -> Option<u32> {
    let (mut total, mut value, mut digits) = (0u32, 0u32, false);
    for byte in text {
        let unit = match byte.to_ascii_lowercase() {
            b'0'..=b'9' => {
                value = value.checked_mul(10)?.checked_add(u32::from(byte - b'0'))?;
                digits = true;
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        if !digits {
            return None;
        }
        total = total.checked_add(value.checked_mul(unit)?)?;
        (value, digits) = (0, false);
    }
    // Each unit needs digits; the last digits may have no unit.
    let ends = text.last()?;
    (ends.is_ascii_alphabetic() || digits)
        .then(|| total.checked_add(value))
        .flatten()
}

/// Parses a time: seconds since 1970, or `YYYYMMDDHHmmSS` in UTC (RFC 4034 section 3.2).
pub fn time(token: &Token<'_>) -> Result<u32, String> {
    if token.text.len() != 14 {
        return number(token);
    }
    let wrong = || format!("{} is not a time: expected YYYYMMDDHHmmSS", quote(token));
    if !token.text.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let part = |range: std::ops::Range<usize>| {
        let digits = &token.text[range];
        digits
            .iter()
            .fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'))
    };
    let (year, month, day) = (part(0..4), part(4..6), part(6..8));
    let (hour, minute, second) = (part(8..10), part(10..12), part(12..14));
    let is_real = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_real || hour > 23 || minute > 59 || second > 60 {
        return Err(wrong());
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    // Times use serial arithmetic (RFC 1982), so later ones wrap.
    u32::try_from(seconds.rem_euclid(1 << 32)).map_err(|_| wrong())
}

/// Parses hexadecimal bytes, in one token or several.
pub fn hex(tokens: &[Token<'_>]) -> Result<Vec<u8>, String> {
    let digits = tokens.iter().flat_map(|token| token.text);
    let digits = digits.map(|digit| {
        let value = char::from(*digit).to_digit(16);
        value.and_then(|value| u8::try_from(value).ok())
    });
    let digits: Option<Vec<u8>> = digits.collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0);
    let digits = digits.ok_or("expected hexadecimal digits, two per byte")?;
    Ok(digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect())
}

/// Mnemonics of DNSSEC algorithms (IANA registry).
const ALGORITHMS: [(&str, u8); 16] = [
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];

/// Parses a DNSSEC algorithm, by number or mnemonic.
pub fn algorithm(token: &Token<'_>) -> Result<u8, String> {
    let known = ALGORITHMS.iter().find(|(name, _)| token.is(name));
    known.map_or_else(|| number(token), |(_, number)| Ok(*number))
}

/// Mnemonics of certificate types (RFC 4398 section 2.1).
const CERT_TYPES: [(&str, u16); 10] = [
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

/// Parses a certificate type, by number or mnemonic.
pub fn cert_type(token: &Token<'_>) -> Result<u16, String> {
    let known = CERT_TYPES.iter().find(|(name, _)| token.is(name));
    known.map_or_else(|| number(token), |(_, number)| Ok(*number))
}

/// The mnemonic or number of a certificate type.
pub fn cert_type_name(number: u16) -> String {
    let known = CERT_TYPES.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// A character-string in quotes, with `\"`, `\\` and `\DDD` (RFC 1035 section 5.1).
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(byte.into());
            }
            0x20..=0x7E => out.push(byte.into()),
            _ => {
                let _ = write!(out, "\\{byte:03}");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token<'_> {
        Token {
            text: text.as_bytes(),
            is_quoted: false,
        }
    }

    #[test]
    fn names_without_a_trailing_dot_are_relative_to_the_origin() {
        let origin = Name::parse("example.org").unwrap();
        let read = |text| name(&token(text), origin.as_ref()).map(|name| name.to_string());
        for (text, wanted) in [
            ("@", "example.org."),
            ("a", "a.example.org."),
            ("a.b", "a.b.example.org."),
            ("a.", "a."),
            (".", "."),
            (r"a\.b\032", r"a\.b\032.example.org."),
            (r"a\.", r"a\..example.org."),
            (r"\255.", r"\255."),
        ] {
            assert_eq!(read(text).unwrap(), wanted);
        }
        for text in [
            "",
            "a..b",
            ".a",
            "..",
            r"a\2",
            &"a".repeat(64),
            &"a.".repeat(128),
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_and_times_are_parsed_to_seconds() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("3600", Some(3600)),
            ("1h30m", Some(5400)),
            ("1W2d", Some(777_600)),
            ("1h5", Some(3605)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("9999999w", None),
            ("", None),
            ("m", None),
            ("h1", None),
            ("1x", None),
        ] {
            assert_eq!(duration(text.as_bytes()), wanted, "{text}");
        }
        let time = |text| time(&token(text)).ok();
        assert_eq!(time("20160401000000"), Some(1_459_468_800));
        assert_eq!(time("20240229235959"), Some(1_709_251_199));
        assert_eq!(time("19700101000000"), Some(0));
        assert_eq!(time("1459468800"), Some(1_459_468_800));
        assert_eq!(time("20161301000000"), None);
        assert_eq!(time("2016040100000x"), None);
    }

    #[test]
    fn numbers_out_of_range_are_rejected() {
        assert_eq!(number::<u8>(&token("255")), Ok(255));
        assert!(number::<u8>(&token("256")).is_err());
        assert!(number::<u16>(&token("+1")).is_err());
        assert!(number::<u16>(&token("")).is_err());
        assert_eq!(algorithm(&token("ed25519")), Ok(15));
        assert_eq!(algorithm(&token("13")), Ok(13));
    }
}
