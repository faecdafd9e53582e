//! What the data of each record type is made of: how it is written, and what it must hold.

use crate::wire::{NameRef, Type};

/// One part of a record's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A domain name.
    Name,
    /// A number of one octet.
    U8,
    /// A number of two octets.
    U16,
    /// A number of four octets.
    U32,
    /// Seconds, which may be written with units.
    Seconds,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A character string: a length of one octet, and so many.
    Text,
    /// One character string at least; the last field.
    Texts,
    /// Text without a length; the last field.
    Rest,
    /// Octets written in hexadecimal; the last field.
    Hex,
    /// Octets written in base 64; the last field.
    Base64,
    /// A record type.
    Type,
    /// The number of a DNSSEC algorithm.
    Algorithm,
    /// A moment, in seconds (RFC 4034 §3.2).
    Time,
    /// A set of record types (RFC 4034 §4.1.2); the last field.
    Types,
    /// Parameters of SVCB and HTTPS (RFC 9460 §2.2); the last field.
    Parameters,
}

use Field::{
    Algorithm, Base64, Hex, Ipv4, Ipv6, Name, Parameters, Rest, Seconds, Text, Texts, Time, Types,
    U8, U16, U32,
};

/// Types by their mnemonics, with what they hold. All others are written as in RFC 3597.
const FORMATS: &[(&str, u16, &[Field])] = &[
    ("A", 1, &[Ipv4]),
    ("NS", 2, &[Name]),
    ("MD", 3, &[Name]),
    ("MF", 4, &[Name]),
    ("CNAME", 5, &[Name]),
    (
        "SOA",
        6,
        &[Name, Name, U32, Seconds, Seconds, Seconds, Seconds],
    ),
    ("MB", 7, &[Name]),
    ("MG", 8, &[Name]),
    ("MR", 9, &[Name]),
    ("PTR", 12, &[Name]),
    ("HINFO", 13, &[Text, Text]),
    ("MINFO", 14, &[Name, Name]),
    ("MX", 15, &[U16, Name]),
    ("TXT", 16, &[Texts]),
    ("RP", 17, &[Name, Name]),
    ("AFSDB", 18, &[U16, Name]),
    ("X25", 19, &[Text]),
    ("ISDN", 20, &[Texts]),
    ("RT", 21, &[U16, Name]),
    ("KEY", 25, &[U16, U8, Algorithm, Base64]),
    ("PX", 26, &[U16, Name, Name]),
    ("AAAA", 28, &[Ipv6]),
    ("SRV", 33, &[U16, U16, U16, Name]),
    ("NAPTR", 35, &[U16, U16, Text, Text, Text, Name]),
    ("KX", 36, &[U16, Name]),
    ("CERT", 37, &[U16, U16, Algorithm, Base64]),
    ("DNAME", 39, &[Name]),
    ("DS", 43, &[U16, Algorithm, U8, Hex]),
    ("SSHFP", 44, &[U8, U8, Hex]),
    (
        "RRSIG",
        46,
        &[
            Field::Type,
            Algorithm,
            U8,
            Seconds,
            Time,
            Time,
            U16,
            Name,
            Base64,
        ],
    ),
    ("NSEC", 47, &[Name, Types]),
    ("DNSKEY", 48, &[U16, U8, Algorithm, Base64]),
    ("DHCID", 49, &[Base64]),
    ("TLSA", 52, &[U8, U8, U8, Hex]),
    ("SMIMEA", 53, &[U8, U8, U8, Hex]),
    ("NINFO", 56, &[Texts]),
    ("CDS", 59, &[U16, Algorithm, U8, Hex]),
    ("CDNSKEY", 60, &[U16, U8, Algorithm, Base64]),
    ("OPENPGPKEY", 61, &[Base64]),
    ("CSYNC", 62, &[U32, U16, Types]),
    ("ZONEMD", 63, &[U32, U8, U8, Hex]),
    ("SVCB", 64, &[U16, Name, Parameters]),
    ("HTTPS", 65, &[U16, Name, Parameters]),
    ("SPF", 99, &[Texts]),
    ("LP", 107, &[U16, Name]),
    ("URI", 256, &[U16, U16, Rest]),
    ("CAA", 257, &[U8, Text, Rest]),
    ("AVC", 258, &[Texts]),
    ("DLV", 32769, &[U16, Algorithm, U8, Hex]),
];

/// What records of a type hold, where that is known.
pub fn fields(rtype: Type) -> Option<&'static [Field]> {
    FORMATS
        .iter()
        .find(|(_, number, _)| *number == rtype.0)
        .map(|(_, _, fields)| *fields)
}

/// The type of a mnemonic, in whatever case, or of `TYPE` and a number (RFC 3597 §5).
pub fn named(word: &[u8]) -> Option<Type> {
    let known = FORMATS
        .iter()
        .find(|(name, _, _)| name.as_bytes().eq_ignore_ascii_case(word));
    if let Some((_, number, _)) = known {
        return Some(Type(*number));
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Whether a zone can hold records of a type: not those of questions and of messages (RFC 6895
/// §3.1).
pub fn is_data(rtype: Type) -> bool {
    !matches!(rtype.0, 0 | 41 | 128..=255)
}

/// Whether `data`, in wire form with its names uncompressed, is what records of the type hold.
/// Types that nothing is known of hold whatever they like.
pub fn is_well_formed(rtype: Type, data: &[u8]) -> bool {
    let Some(fields) = fields(rtype) else {
        return true;
    };
    let mut rest = data;
    for field in fields {
        let Some(length) = length(*field, rest) else {
            return false;
        };
        rest = &rest[length..];
    }
    rest.is_empty()
}

/// The octets that a field at the start of `data` takes, if it is well-formed.
fn length(field: Field, data: &[u8]) -> Option<usize> {
    let fixed = match field {
        U8 | Algorithm => 1,
        U16 | Field::Type => 2,
        U32 | Seconds | Time | Ipv4 => 4,
        Ipv6 => 16,
        Name => NameRef::from_wire(data).ok()?.as_wire().len(),
        Text => usize::from(*data.first()?) + 1,
        Texts => {
            let mut at = 0;
            while at < data.len() {
                at += usize::from(data[at]) + 1;
            }
            // One string at least, and none cut short.
            return (at == data.len() && at > 0).then_some(at);
        }
        Rest | Hex | Base64 => data.len(),
        Types => return is_type_set(data).then_some(data.len()),
        Parameters => return are_parameters(data).then_some(data.len()),
    };
    (fixed <= data.len()).then_some(fixed)
}

/// Windows in rising order, each with 1 to 32 octets (RFC 4034 §4.1.2).
fn is_type_set(mut data: &[u8]) -> bool {
    let mut last = None;
    while let [window, length, rest @ ..] = data {
        let length = usize::from(*length);
        if last >= Some(*window) || !(1..=32).contains(&length) || rest.len() < length {
            return false;
        }
        last = Some(*window);
        data = &rest[length..];
    }
    data.is_empty()
}

/// Keys in rising order, each with a value as long as it says (RFC 9460 §2.2).
fn are_parameters(mut data: &[u8]) -> bool {
    let mut last = None;
    while let [k1, k2, l1, l2, rest @ ..] = data {
        let key = u16::from_be_bytes([*k1, *k2]);
        let length = usize::from(u16::from_be_bytes([*l1, *l2]));
        if last >= Some(key) || rest.len() < length {
            return false;
        }
        last = Some(key);
        data = &rest[length..];
    }
    data.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_are_not_what_their_type_holds_are_told() {
        for (rtype, data, good) in [
            (Type::A, &b"\x01\x02\x03\x04"[..], true),
            (Type::A, b"\x01\x02\x03", false),
            (Type::A, b"\x01\x02\x03\x04\x05", false),
            (Type::NS, b"\x01a\x00", true),
            (Type::NS, b"\x01a", false),
            (Type::NS, b"\x01a\x00\x00", false),
            (Type::TXT, b"\x01a\x00", true),
            (Type::TXT, b"", false),
            (Type::TXT, b"\x02a", false),
            (Type::SRV, b"\0\0\0\0\0\x05\0", true),
            (Type::SRV, b"\0\0\0\0\x05\0", false),
            (Type(47), b"\x01a\x00\x00\x01\x40", true),
            (Type(47), b"\x01a\x00\x00\x01\x40\x00\x01\x40", false),
            (Type(47), b"\x01a\x00\x00\x02\x40", false),
            (Type(65), b"\0\x01\0\0\x03\0\x02\x01\xBB", true),
            (Type(65), b"\0\x01\0\0\x03\0\x03\x01\xBB", false),
            (Type(65280), b"whatever", true),
        ] {
            assert_eq!(is_well_formed(rtype, data), good, "{rtype} {data:?}");
        }
    }

    #[test]
    fn types_have_names_and_numbers() {
        assert_eq!(named(b"mx"), Some(Type::MX));
        assert_eq!(named(b"RP"), Some(Type(17)));
        assert_eq!(named(b"TYPE65280"), Some(Type(65280)));
        assert_eq!(named(b"NSEC3"), Some(Type(50)));
        assert_eq!(named(b"\xFF"), None);
        assert!(is_data(Type::TXT) && !is_data(Type::AXFR) && !is_data(Type::ANY));
    }
}
