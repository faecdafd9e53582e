//! Single words of a zone file: names, numbers, times.

use std::str::FromStr;

use super::{
    data::shown,
    lexer::{Word, escaped},
};
use crate::wire::{Name, NameRef, days_since_1970};

/// A name; `@` is the origin, and a name without a final dot is under it.
pub fn name(word: &Word<'_>, origin: NameRef<'_>) -> Result<Name, String> {
    if word.is("@") {
        return Ok(origin.to_name());
    }
    let failed = |error: &dyn std::fmt::Display| format!("{} is no name: {error}", shown(word));
    if word.text == b"." {
        return Ok(Name::ROOT);
    }
    let mut labels: Vec<Vec<u8>> = vec![Vec::new()];
    let mut rest = word.text;
    while let Some((octet, behind)) = rest.split_first() {
        rest = behind;
        match octet {
            b'.' => labels.push(Vec::new()),
            b'\\' => {
                let (octet, length) = escaped(rest).map_err(|error| failed(&error))?;
                rest = &rest[length..];
                labels.last_mut().expect("one at least").push(octet);
            }
            plain => labels.last_mut().expect("one at least").push(*plain),
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

/// A whole number that fits.
pub fn number<T: FromStr>(word: &Word<'_>) -> Result<T, String> {
    let size = size_of::<T>() * 8;
    let text = std::str::from_utf8(word.text).ok();
    let digits = text.filter(|text| text.bytes().all(|it| it.is_ascii_digit()));
    digits
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{} is no whole number of {size} bits", shown(word)))
}

/// What a type of the standard library reads.
pub fn parsed<T: FromStr>(word: &Word<'_>, what: &str) -> Result<T, String> {
    let text = std::str::from_utf8(word.text).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{} is not {what}", shown(word)))
}

/// Seconds: a number, or numbers with units (`1h30m`; RFC 1035 has none, files do).
pub fn seconds(word: &Word<'_>) -> Result<u32, String> {
    duration(word.text).ok_or_else(|| {
        let word = shown(word);
        format!("{word} is no time: seconds, or a number with s, m, h, d or w")
    })
}

/// The same, or nothing where the word is something else.
pub fn duration(text: &[u8]) -> Option<u32> {
    let (mut total, mut value, mut digits) = (0u32, 0u32, false);
    for octet in text {
        let unit = match octet.to_ascii_lowercase() {
            b'0'..=b'9' => {
                value = value
                    .checked_mul(10)?
                    .checked_add(u32::from(octet - b'0'))?;
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
    // Digits stand in front of every unit, and may stand alone.
    let ends = text.last()?;
    (ends.is_ascii_alphabetic() || digits)
        .then(|| total.checked_add(value))
        .flatten()
}

/// A moment: seconds since 1970, or `YYYYMMDDHHmmSS` in UTC (RFC 4034 §3.2).
pub fn time(word: &Word<'_>) -> Result<u32, String> {
    if word.text.len() != 14 {
        return number(word);
    }
    let wrong = || format!("{} is no moment: YYYYMMDDHHmmSS is expected", shown(word));
    if !word.text.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let part = |range: std::ops::Range<usize>| {
        let digits = &word.text[range];
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
    // Such moments are compared with serial arithmetic: what lies beyond is taken round.
    u32::try_from(seconds.rem_euclid(1 << 32)).map_err(|_| wrong())
}

/// Mnemonics of DNSSEC algorithms that are in use (the IANA registry).
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

/// The number of a DNSSEC algorithm, or its mnemonic.
pub fn algorithm(word: &Word<'_>) -> Result<u8, String> {
    let known = ALGORITHMS.iter().find(|(name, _)| word.is(name));
    known.map_or_else(|| number(word), |(_, number)| Ok(*number))
}

/// Mnemonics of certificate types (RFC 4398 §2.1).
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

/// The number of a certificate type, or its mnemonic.
pub fn cert_type(word: &Word<'_>) -> Result<u16, String> {
    let known = CERT_TYPES.iter().find(|(name, _)| word.is(name));
    known.map_or_else(|| number(word), |(_, number)| Ok(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word<'_> {
        Word {
            text: text.as_bytes(),
            is_quoted: false,
        }
    }

    #[test]
    fn names_are_under_the_origin_unless_they_end_with_a_dot() {
        let origin = Name::parse("example.org").unwrap();
        let read = |text| name(&word(text), origin.as_ref()).map(|name| name.to_string());
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
    fn times_are_seconds() {
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
        let time = |text| time(&word(text)).ok();
        assert_eq!(time("20160401000000"), Some(1_459_468_800));
        assert_eq!(time("20240229235959"), Some(1_709_251_199));
        assert_eq!(time("19700101000000"), Some(0));
        assert_eq!(time("1459468800"), Some(1_459_468_800));
        assert_eq!(time("20161301000000"), None);
        assert_eq!(time("2016040100000x"), None);
    }

    #[test]
    fn numbers_fit() {
        assert_eq!(number::<u8>(&word("255")), Ok(255));
        assert!(number::<u8>(&word("256")).is_err());
        assert!(number::<u16>(&word("+1")).is_err());
        assert!(number::<u16>(&word("")).is_err());
        assert_eq!(algorithm(&word("ed25519")), Ok(15));
        assert_eq!(algorithm(&word("13")), Ok(13));
    }
}
