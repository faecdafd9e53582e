//! The RDATA format of each record type: its fields in presentation and wire format.

use crate::wire::{NameRef, Type};

/// A field of RDATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RdataField {
    /// A domain name.
    Name,
    /// An 8-bit number.
    U8,
    /// A 16-bit number.
    U16,
    /// A 32-bit number.
    U32,
    /// Seconds, optionally with units.
    Seconds,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A character-string (RFC 1035 section 3.3).
    Text,
    /// One or more character-strings; the last field.
    Texts,
    /// Text without a length byte; the last field.
    Rest,
    /// Bytes in hexadecimal; the last field.
    Hex,
    /// Bytes in base64; the last field.
    Base64,
    /// A record type.
    Type,
    /// A DNSSEC algorithm number.
    Algorithm,
    /// A time, in seconds (RFC 4034 section 3.2).
    Time,
    /// A type bit map (RFC 4034 section 4.1.2); the last field.
    Types,
    /// SvcParams of SVCB and HTTPS (RFC 9460 section 2.2); the last field.
    Parameters,
    /// A certificate type (RFC 4398 section 2.1).
    CertType,
    /// Zero or more domain names; the last field.
    Names,
    /// A geographic location (RFC 1876); the last field.
    Location,
    /// Zero or more address prefixes (RFC 3123); the last field.
    Prefixes,
    /// Gateway type, algorithm and gateway (RFC 4025 section 2.1): three tokens.
    Gateway,
    /// Discovery flag, relay type and relay (RFC 8777 section 4.2): three tokens.
    Relay,
    /// Host identity: algorithm, tag and key, with their lengths (RFC 8005 section 5): three
    /// tokens.
    Identity,
    /// A hardware address of this many bytes (RFC 7043).
    Hardware(usize),
    /// A node identifier or locator of eight bytes (RFC 6742).
    Node,
}

impl RdataField {
    /// Number of tokens in presentation format; `None` means all remaining ones.
    pub fn token_count(self) -> Option<usize> {
        match self {
            Texts | Hex | Base64 | Types | Parameters | Names | Location | Prefixes => None,
            Gateway | Relay | Identity => Some(3),
            _ => Some(1),
        }
    }
}

use RdataField::{
    Algorithm, Base64, CertType, Gateway, Hardware, Hex, Identity, Ipv4, Ipv6, Location, Name,
    Names, Node, Parameters, Prefixes, Relay, Rest, Seconds, Text, Texts, Time, Types, U8, U16,
    U32,
};

/// The fields of RRSIG (RFC 4034 section 3.1) and SIG (RFC 2535 section 4.1).
const SIGNATURE: &[RdataField] = &[
    RdataField::Type,
    Algorithm,
    U8,
    Seconds,
    Time,
    Time,
    U16,
    Name,
    Base64,
];

/// Types with mnemonics and fields. All others use the format of RFC 3597.
const FORMATS: &[(&str, u16, &[RdataField])] = &[
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
    ("NSAP-PTR", 23, &[Name]),
    ("SIG", 24, SIGNATURE),
    ("KEY", 25, &[U16, U8, Algorithm, Base64]),
    ("PX", 26, &[U16, Name, Name]),
    ("GPOS", 27, &[Text, Text, Text]),
    ("AAAA", 28, &[Ipv6]),
    ("LOC", 29, &[Location]),
    ("NXT", 30, &[Name, Types]),
    ("EID", 31, &[Hex]),
    ("NIMLOC", 32, &[Hex]),
    ("SRV", 33, &[U16, U16, U16, Name]),
    ("NAPTR", 35, &[U16, U16, Text, Text, Text, Name]),
    ("KX", 36, &[U16, Name]),
    ("CERT", 37, &[CertType, U16, Algorithm, Base64]),
    ("DNAME", 39, &[Name]),
    ("APL", 42, &[Prefixes]),
    ("DS", 43, &[U16, Algorithm, U8, Hex]),
    ("SSHFP", 44, &[U8, U8, Hex]),
    ("IPSECKEY", 45, &[U8, Gateway, Base64]),
    ("RRSIG", 46, SIGNATURE),
    ("NSEC", 47, &[Name, Types]),
    ("DNSKEY", 48, &[U16, U8, Algorithm, Base64]),
    ("DHCID", 49, &[Base64]),
    ("TLSA", 52, &[U8, U8, U8, Hex]),
    ("SMIMEA", 53, &[U8, U8, U8, Hex]),
    ("HIP", 55, &[Identity, Names]),
    ("NINFO", 56, &[Texts]),
    ("RKEY", 57, &[U16, U8, Algorithm, Base64]),
    ("TALINK", 58, &[Name, Name]),
    ("CDS", 59, &[U16, Algorithm, U8, Hex]),
    ("CDNSKEY", 60, &[U16, U8, Algorithm, Base64]),
    ("OPENPGPKEY", 61, &[Base64]),
    ("CSYNC", 62, &[U32, U16, Types]),
    ("ZONEMD", 63, &[U32, U8, U8, Hex]),
    ("SVCB", 64, &[U16, Name, Parameters]),
    ("HTTPS", 65, &[U16, Name, Parameters]),
    ("SPF", 99, &[Texts]),
    ("UINFO", 100, &[Text]),
    ("UID", 101, &[U32]),
    ("GID", 102, &[U32]),
    ("NID", 104, &[U16, Node]),
    ("L32", 105, &[U16, Ipv4]),
    ("L64", 106, &[U16, Node]),
    ("LP", 107, &[U16, Name]),
    ("EUI48", 108, &[Hardware(6)]),
    ("EUI64", 109, &[Hardware(8)]),
    ("URI", 256, &[U16, U16, Rest]),
    ("CAA", 257, &[U8, Text, Rest]),
    ("AVC", 258, &[Texts]),
    ("AMTRELAY", 260, &[U8, Relay]),
    ("RESINFO", 261, &[Texts]),
    ("TA", 32768, &[U16, Algorithm, U8, Hex]),
    ("DLV", 32769, &[U16, Algorithm, U8, Hex]),
];

/// The fields of a type, if known.
pub fn fields(rtype: Type) -> Option<&'static [RdataField]> {
    FORMATS
        .iter()
        .find(|(_, number, _)| *number == rtype.0)
        .map(|(_, _, fields)| *fields)
}

/// The type of a mnemonic, case-insensitive, or of `TYPE` and a number (RFC 3597 section 5).
pub fn type_from_text(word: &[u8]) -> Option<Type> {
    let known = FORMATS
        .iter()
        .find(|(name, _, _)| name.as_bytes().eq_ignore_ascii_case(word));
    if let Some((_, number, _)) = known {
        return Some(Type(*number));
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Whether a zone can contain records of a type: not QTYPEs and meta-types (RFC 6895 section 3.1).
pub fn is_data(rtype: Type) -> bool {
    !matches!(rtype.0, 0 | 41 | 128..=255)
}

/// Whether `data`, in wire format with uncompressed names, is valid for the type. Any data is valid
/// for unknown types.
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

/// The length in bytes of a field at the start of `data`, if it is well-formed.
fn length(field: RdataField, data: &[u8]) -> Option<usize> {
    let fixed = match field {
        U8 | Algorithm => 1,
        U16 | CertType | RdataField::Type => 2,
        U32 | Seconds | Time | Ipv4 => 4,
        Ipv6 => 16,
        Name => NameRef::from_wire(data).ok()?.as_wire().len(),
        Text => usize::from(*data.first()?) + 1,
        Texts => {
            let mut at = 0;
            while at < data.len() {
                at += usize::from(data[at]) + 1;
            }
            // At least one string, and none truncated.
            return (at == data.len() && at > 0).then_some(at);
        }
        Rest | Hex | Base64 => data.len(),
        Names => {
            let mut at = 0;
            while at < data.len() {
                at += length(Name, &data[at..])?;
            }
            at
        }
        // The layout of other versions is undefined (RFC 1876 section 2).
        Location if data.first() == Some(&0) => 16,
        Location => data.len().max(1),
        Prefixes => return are_prefixes(data).then_some(data.len()),
        Gateway => 2 + reached(*data.first()?, data.get(2..)?)?,
        Relay => 1 + reached(*data.first()? & 0x7F, &data[1..])?,
        Identity => {
            let [tag, _, k1, k2, ..] = data else {
                return None;
            };
            4 + usize::from(*tag) + usize::from(u16::from_be_bytes([*k1, *k2]))
        }
        Hardware(length) => length,
        Node => 8,
        Types => return is_type_set(data).then_some(data.len()),
        Parameters => return are_parameters(data).then_some(data.len()),
    };
    (fixed <= data.len()).then_some(fixed)
}

/// The length in bytes of a gateway or relay of this type.
fn reached(kind: u8, data: &[u8]) -> Option<usize> {
    match kind {
        0 => Some(0),
        1 => Some(4),
        2 => Some(16),
        3 => length(Name, data),
        _ => None,
    }
}

/// Whether data is a valid APL: per item the address family, the prefix length, the data length
/// with a negation flag, and that many bytes (RFC 3123 section 4).
fn are_prefixes(mut data: &[u8]) -> bool {
    while let [f1, f2, bits, length, rest @ ..] = data {
        let length = usize::from(*length & 0x7F);
        let most = match u16::from_be_bytes([*f1, *f2]) {
            1 => 4,
            2 => 16,
            _ => 127,
        };
        if length > most || rest.len() < length || (most <= 16 && usize::from(*bits) > most * 8) {
            return false;
        }
        data = &rest[length..];
    }
    data.is_empty()
}

/// Whether data is a valid type bit map: windows in ascending order, each of 1 to 32 bytes (RFC
/// 4034 section 4.1.2).
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

/// Whether data is valid SvcParams: keys in ascending order, each with a value of the stated length
/// (RFC 9460 section 2.2).
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
    fn malformed_data_is_detected() {
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
    fn types_are_parsed_by_mnemonic_or_number() {
        assert_eq!(type_from_text(b"mx"), Some(Type::MX));
        assert_eq!(type_from_text(b"RP"), Some(Type(17)));
        assert_eq!(type_from_text(b"TYPE65280"), Some(Type(65280)));
        assert_eq!(type_from_text(b"NSEC3"), Some(Type(50)));
        assert_eq!(type_from_text(b"\xFF"), None);
        assert!(is_data(Type::TXT) && !is_data(Type::AXFR) && !is_data(Type::ANY));
    }
}
