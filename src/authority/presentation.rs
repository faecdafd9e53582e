//! RDATA in presentation format, from messages: the inverse of [`super::text`].

use std::{
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    format::{RdataField, fields},
    text::{self, quoted},
};
use crate::wire::{Name, Type};

/// The digits of base32hex (RFC 4648 section 7), in which NSEC3 records write hashes.
const BASE32HEX: &[u8; 32] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";

/// CAA, whose tag is written without quotes (RFC 8659 section 4.1.1).
const CAA: Type = Type(257);
const NSEC3: Type = Type(50);
const NSEC3PARAM: Type = Type(51);

/// Formats the data of a record at `range` of a message, whose names may be compressed.
///
/// Hexadecimal and base64 data are divided by spaces into groups of `group` digits; 0: not divided.
/// Data that is not valid for its type, of an unknown type, and of types with a format that is rarely seen
/// (LOC, APL, IPSECKEY, AMTRELAY, HIP) has the form of RFC 3597 section 5, `\# LENGTH HEX`.
pub fn presentation(
    rtype: Type,
    message: &[u8],
    range: std::ops::Range<usize>,
    group: usize,
) -> String {
    well_formed(rtype, message, range.clone(), group)
        .unwrap_or_else(|| unknown(message.get(range).unwrap_or_default(), group))
}

/// Whether the data of a record is valid for its type. Any data is, of a type without known fields.
pub fn is_valid(rtype: Type, message: &[u8], range: std::ops::Range<usize>) -> bool {
    is_opaque(rtype) || well_formed(rtype, message, range, 0).is_some()
}

/// Whether a type's data is always written as in RFC 3597.
fn is_opaque(rtype: Type) -> bool {
    let Some(fields) = fields(rtype) else {
        return rtype != NSEC3 && rtype != NSEC3PARAM;
    };
    fields.iter().any(|field| {
        matches!(
            field,
            RdataField::Location
                | RdataField::Prefixes
                | RdataField::Gateway
                | RdataField::Relay
                | RdataField::Identity
        )
    })
}

/// The form of RFC 3597 section 5.
fn unknown(data: &[u8], group: usize) -> String {
    let mut out = format!("\\# {}", data.len());
    if !data.is_empty() {
        let _ = write!(out, " {}", grouped(&hex(data), group));
    }
    out
}

fn well_formed(
    rtype: Type,
    message: &[u8],
    range: std::ops::Range<usize>,
    group: usize,
) -> Option<String> {
    if is_opaque(rtype) {
        return None;
    }
    // Names may point backwards, but not beyond the end of the data.
    let message = message.get(..range.end)?;
    let mut cursor = Cursor {
        message,
        at: range.start,
    };
    let mut words = Vec::new();
    match rtype {
        NSEC3 => cursor.nsec3(&mut words, true)?,
        NSEC3PARAM => cursor.nsec3(&mut words, false)?,
        _ => {
            for field in fields(rtype)? {
                let is_tag = rtype == CAA && *field == RdataField::Text;
                let word = if is_tag {
                    String::from_utf8(cursor.string()?.to_vec()).ok()?
                } else {
                    cursor.field(*field, group)?
                };
                words.push(word);
            }
        }
    }
    words.retain(|word| !word.is_empty());
    cursor.rest().is_empty().then(|| words.join(" "))
}

/// The position within the data of a record.
struct Cursor<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Cursor<'m> {
    fn rest(&self) -> &'m [u8] {
        self.message.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let bytes = self.rest().get(..length)?;
        self.at += length;
        Some(bytes)
    }

    fn take_rest(&mut self) -> &'m [u8] {
        let rest = self.rest();
        self.at = self.message.len();
        rest
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn word(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn string(&mut self) -> Option<&'m [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    fn name(&mut self) -> Option<Name> {
        let (name, behind) = Name::read(self.message, self.at).ok()?;
        self.at = behind;
        Some(name)
    }

    fn field(&mut self, field: RdataField, group: usize) -> Option<String> {
        Some(match field {
            RdataField::Name => self.name()?.to_string(),
            RdataField::U8 | RdataField::Algorithm => self.byte()?.to_string(),
            RdataField::U16 => self.word()?.to_string(),
            RdataField::U32 | RdataField::Seconds => u32::from_be_bytes(self.array()?).to_string(),
            RdataField::Ipv4 => Ipv4Addr::from(self.array::<4>()?).to_string(),
            RdataField::Ipv6 => Ipv6Addr::from(self.array::<16>()?).to_string(),
            RdataField::Text => quoted(self.string()?),
            RdataField::Texts => {
                let mut texts = vec![quoted(self.string()?)];
                while !self.rest().is_empty() {
                    texts.push(quoted(self.string()?));
                }
                texts.join(" ")
            }
            RdataField::Rest => quoted(self.take_rest()),
            RdataField::Hex => grouped(&hex(self.take_rest()), group),
            RdataField::Base64 => grouped(&STANDARD.encode(self.take_rest()), group),
            RdataField::Type => Type(self.word()?).to_string(),
            RdataField::Time => {
                let seconds = u32::from_be_bytes(self.array()?);
                let time = jiff::Timestamp::from_second(seconds.into()).ok()?;
                time.strftime("%Y%m%d%H%M%S").to_string()
            }
            RdataField::Types => types(self.take_rest())?,
            RdataField::Parameters => text::parameters_text(self.take_rest())?,
            RdataField::CertType => text::cert_type_name(self.word()?),
            RdataField::Names => {
                let mut names = Vec::new();
                while !self.rest().is_empty() {
                    names.push(self.name()?.to_string());
                }
                names.join(" ")
            }
            RdataField::Hardware(length) => {
                let bytes = self.take(length)?.iter();
                let bytes: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
                bytes.join("-")
            }
            RdataField::Node => {
                let (words, _) = self.take(8)?.as_chunks::<2>();
                let words = words.iter().map(|word| u16::from_be_bytes(*word));
                let words: Vec<String> = words.map(|word| format!("{word:x}")).collect();
                words.join(":")
            }
            RdataField::Location
            | RdataField::Prefixes
            | RdataField::Gateway
            | RdataField::Relay
            | RdataField::Identity => return None,
        })
    }

    /// NSEC3 (RFC 5155 section 3.3), and NSEC3PARAM, which ends after the salt.
    fn nsec3(&mut self, words: &mut Vec<String>, with_next: bool) -> Option<()> {
        words.push(self.byte()?.to_string());
        words.push(self.byte()?.to_string());
        words.push(self.word()?.to_string());
        let salt = self.string()?;
        words.push(if salt.is_empty() {
            "-".to_owned()
        } else {
            hex(salt)
        });
        if with_next {
            words.push(base32hex(self.string()?));
            words.push(types(self.take_rest())?);
        }
        Some(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02X}");
        out
    })
}

/// Base32 with the extended hex alphabet, without padding (RFC 4648 section 7).
fn base32hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut five = [0; 8];
        five[3..3 + chunk.len()].copy_from_slice(chunk);
        let value = u64::from_be_bytes(five);
        for digit in 0..(chunk.len() * 8).div_ceil(5) {
            let index = value >> (35 - 5 * digit) & 0x1F;
            out.push(BASE32HEX[usize::try_from(index).expect("five bits")].into());
        }
    }
    out
}

fn grouped(digits: &str, group: usize) -> String {
    if group == 0 {
        return digits.to_owned();
    }
    // The digits are ASCII.
    let groups = digits.as_bytes().chunks(group);
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(" ")
}

/// The mnemonics of a type bit map (RFC 4034 section 4.1.2).
fn types(mut data: &[u8]) -> Option<String> {
    let mut names = Vec::new();
    while let [window, length, rest @ ..] = data {
        let (bits, rest) = rest.split_at_checked(usize::from(*length))?;
        for (index, byte) in bits.iter().enumerate() {
            for bit in (0..8).filter(|bit| byte & 0x80 >> bit != 0) {
                let low = u8::try_from(index * 8 + bit).ok()?;
                names.push(Type(u16::from_be_bytes([*window, low])).to_string());
            }
        }
        data = rest;
    }
    data.is_empty().then(|| names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_in_presentation_format_is_read_back_as_the_same_bytes() {
        for (rtype, text) in [
            ("A", "192.0.2.1"),
            ("AAAA", "2001:db8::1"),
            ("SOA", "ns.example. host.example. 7 7200 1800 86400 5"),
            ("MX", "10 mail.example."),
            ("TXT", r#""a\"b\\c" "\255\000; x""#),
            ("SRV", "0 100 80 web.example."),
            ("NAPTR", r#"100 10 "u" "sip" "!^.*$!sip:a@b!" ."#),
            ("CAA", r#"0 issue "ca.example; x=1""#),
            ("URI", r#"10 1 "https://example/""#),
            ("DS", "60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118"),
            ("TLSA", "3 1 1 ABCD"),
            ("CERT", "PKIX 1 8 AQID"),
            ("DNSKEY", "257 3 8 AwEAAQ=="),
            (
                "RRSIG",
                "A 5 3 86400 20300101000000 20260101000000 2642 example. AQID",
            ),
            ("NSEC", "b.example. A MX TYPE1234"),
            (
                "SVCB",
                r#"1 svc.example. mandatory=alpn,port alpn="h2,h3" port=443 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1 key667="x y""#,
            ),
            ("HTTPS", "0 other.example."),
            (
                "HTTPS",
                r#"1 . no-default-alpn ech="AQID" dohpath="/q{?dns}""#,
            ),
            ("EUI48", "00-00-5e-00-53-2a"),
            ("NID", "10 14:4fff:ff20:ee64"),
            ("TYPE65280", r"\# 3 ABCDEF"),
            ("TYPE65280", r"\# 0"),
        ] {
            let (number, data) = parsed(rtype, text);
            let shown = presentation(number, &data, 0..data.len(), 0);
            assert_eq!(parsed(rtype, &shown).1, data, "{rtype} {text}: {shown}");
            if rtype != "HTTPS" {
                assert_eq!(shown, text, "{rtype}");
            }
        }
    }

    /// The type's number and the data of a record.
    fn parsed(rtype: &str, data: &str) -> (Type, Vec<u8>) {
        let record = text::TextRecord::parse(&format!("x. {rtype} {data}")).unwrap();
        (record.rtype, record.data)
    }

    #[test]
    fn hashed_denial_and_groups_of_digits_are_written() {
        let nsec3 = b"\x01\x00\x00\x0A\x02\xAB\xCD\x05\x00\x44\x32\x14\xC7\x00\x01\x40";
        assert_eq!(
            presentation(NSEC3, nsec3, 0..nsec3.len(), 56),
            "1 0 10 ABCD 01234567 A"
        );
        assert_eq!(
            presentation(NSEC3PARAM, b"\x01\0\0\0\0", 0..5, 56),
            "1 0 0 -"
        );
        assert_eq!(
            presentation(Type(65280), b"abcde", 0..5, 4),
            r"\# 5 6162 6364 65"
        );
    }

    #[test]
    fn malformed_data_has_the_form_of_unknown_types() {
        for (rtype, data) in [
            (Type::A, &b"abc"[..]),
            (Type::SRV, b"\0\0\0\0\0\x05\xC0"),
            (NSEC3, b"\x01"),
        ] {
            let shown = presentation(rtype, data, 0..data.len(), 0);
            assert!(
                shown.starts_with(&format!("\\# {} ", data.len())),
                "{shown}"
            );
            assert!(!is_valid(rtype, data, 0..data.len()));
        }
        assert!(is_valid(Type(65280), b"", 0..0) && is_valid(Type::A, b"abcd", 0..4));
    }
}
