//! Numeric registries of DNS: types, classes, opcodes, response codes.
//!
//! Each is an integer with names, not an enum, because unknown values must be preserved.

use std::{fmt, str::FromStr};

use hickory_proto::rr::RecordType;

/// A record type or query type (RFC 1035 section 3.2.2 and the IANA registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Type(pub u16);

#[allow(missing_docs)] // named by their mnemonics
impl Type {
    pub const A: Self = Self(1);
    pub const NS: Self = Self(2);
    pub const CNAME: Self = Self(5);
    pub const SOA: Self = Self(6);
    pub const PTR: Self = Self(12);
    pub const HINFO: Self = Self(13);
    pub const MX: Self = Self(15);
    pub const TXT: Self = Self(16);
    pub const AAAA: Self = Self(28);
    pub const SRV: Self = Self(33);
    pub const DNAME: Self = Self(39);
    pub const OPT: Self = Self(41);
    pub const DS: Self = Self(43);
    pub const RRSIG: Self = Self(46);
    pub const TSIG: Self = Self(250);
    pub const IXFR: Self = Self(251);
    pub const AXFR: Self = Self(252);
    pub const ANY: Self = Self(255);
}

/// Types of the IANA registry that hickory-proto does not name.
const OTHER_TYPES: [(u16, &str); 48] = [
    (3, "MD"),
    (4, "MF"),
    (7, "MB"),
    (8, "MG"),
    (9, "MR"),
    (14, "MINFO"),
    (17, "RP"),
    (18, "AFSDB"),
    (19, "X25"),
    (20, "ISDN"),
    (21, "RT"),
    (23, "NSAP-PTR"),
    (26, "PX"),
    (27, "GPOS"),
    (29, "LOC"),
    (30, "NXT"),
    (31, "EID"),
    (32, "NIMLOC"),
    (34, "ATMA"),
    (36, "KX"),
    (42, "APL"),
    (45, "IPSECKEY"),
    (49, "DHCID"),
    (55, "HIP"),
    (56, "NINFO"),
    (57, "RKEY"),
    (58, "TALINK"),
    (63, "ZONEMD"),
    (99, "SPF"),
    (100, "UINFO"),
    (101, "UID"),
    (102, "GID"),
    (103, "UNSPEC"),
    (104, "NID"),
    (105, "L32"),
    (106, "L64"),
    (107, "LP"),
    (108, "EUI48"),
    (109, "EUI64"),
    (249, "TKEY"),
    (253, "MAILB"),
    (254, "MAILA"),
    (256, "URI"),
    (258, "AVC"),
    (260, "AMTRELAY"),
    (261, "RESINFO"),
    (32768, "TA"),
    (32769, "DLV"),
];

impl fmt::Display for Type {
    /// The mnemonic, or `TYPE` and the number (RFC 3597 section 5).
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RecordType::from(self.0) {
            RecordType::Unknown(number) => {
                let mut others = OTHER_TYPES.iter();
                match others.find(|(known, _)| *known == number) {
                    Some((_, name)) => out.write_str(name),
                    None => write!(out, "TYPE{number}"),
                }
            }
            known => write!(out, "{known}"),
        }
    }
}

/// Not a record type.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is no record type")]
pub struct UnknownType(String);

impl FromStr for Type {
    type Err = UnknownType;

    /// Parses a mnemonic in any case, or `TYPE` and a number.
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let upper = text.to_ascii_uppercase();
        if let Some(number) = upper
            .strip_prefix("TYPE")
            .and_then(|digits| digits.parse().ok())
        {
            return Ok(Self(number));
        }
        // hickory-proto writes this one but does not parse it.
        if upper == "IXFR" {
            return Ok(Self::IXFR);
        }
        let mut others = OTHER_TYPES.iter();
        if let Some((number, _)) = others.find(|(_, name)| *name == upper) {
            return Ok(Self(*number));
        }
        RecordType::from_str(&upper)
            .map(|known| Self(known.into()))
            .map_err(|_| UnknownType(text.to_owned()))
    }
}

/// A class (RFC 1035 section 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Class(pub u16);

impl Class {
    /// The Internet.
    pub const IN: Self = Self(1);
    /// Chaosnet, used for queries about the server itself.
    pub const CH: Self = Self(3);
    /// Any class, in queries.
    pub const ANY: Self = Self(255);
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => out.write_str("IN"),
            3 => out.write_str("CH"),
            4 => out.write_str("HS"),
            254 => out.write_str("NONE"),
            255 => out.write_str("ANY"),
            other => write!(out, "CLASS{other}"),
        }
    }
}

/// Not a class.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is no class")]
pub struct UnknownClass(String);

impl FromStr for Class {
    type Err = UnknownClass;

    /// Parses a mnemonic in any case, or `CLASS` and a number (RFC 3597 section 5).
    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        let upper = text.to_ascii_uppercase();
        let number = match upper.as_str() {
            "IN" => Some(1),
            "CS" => Some(2),
            "CH" => Some(3),
            "HS" => Some(4),
            "NONE" => Some(254),
            "ANY" => Some(255),
            other => other
                .strip_prefix("CLASS")
                .and_then(|digits| digits.parse().ok()),
        };
        number
            .map(Self)
            .ok_or_else(|| UnknownClass(text.to_owned()))
    }
}

/// Operation code of a message (RFC 1035 section 4.1.1), four bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Opcode(pub u8);

impl Opcode {
    /// A standard query.
    pub const QUERY: Self = Self(0);
    /// Notification of a zone change (RFC 1996).
    pub const NOTIFY: Self = Self(4);
    /// Dynamic update (RFC 2136).
    pub const UPDATE: Self = Self(5);
}

/// A response code, extended to twelve bits by EDNS (RFC 6891 section 6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rcode(pub u16);

#[allow(missing_docs)] // named by their mnemonics
impl Rcode {
    pub const NOERROR: Self = Self(0);
    pub const FORMERR: Self = Self(1);
    pub const SERVFAIL: Self = Self(2);
    pub const NXDOMAIN: Self = Self(3);
    pub const NOTIMP: Self = Self(4);
    pub const REFUSED: Self = Self(5);
    pub const YXDOMAIN: Self = Self(6);
    pub const NOTAUTH: Self = Self(9);
    pub const BADVERS: Self = Self(16);
}

/// The first name of a code is written; all are accepted.
const RCODE_NAMES: [(u16, &str); 22] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (11, "DSOTYPENI"),
    (16, "BADVERS"),
    (17, "BADKEY"),
    (18, "BADTIME"),
    (19, "BADMODE"),
    (20, "BADNAME"),
    (21, "BADALG"),
    (22, "BADTRUNC"),
    (23, "BADCOOKIE"),
    (4, "NOTIMPL"),
    (16, "BADSIG"),
];

impl Rcode {
    /// All mnemonics.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RCODE_NAMES.iter().map(|(_, name)| *name)
    }

    /// The mnemonic of an assigned code.
    pub fn name(self) -> Option<&'static str> {
        let mut names = RCODE_NAMES.iter();
        let (_, name) = names.find(|(number, _)| *number == self.0)?;
        Some(name)
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => out.write_str(name),
            None => write!(out, "RCODE{}", self.0),
        }
    }
}

/// Not a response code.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is no response code")]
pub struct UnknownRcode(String);

impl FromStr for Rcode {
    type Err = UnknownRcode;

    /// Parses a mnemonic in any case.
    fn from_str(text: &str) -> Result<Self, UnknownRcode> {
        RCODE_NAMES
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(text))
            .map(|(number, _)| Self(*number))
            .ok_or_else(|| UnknownRcode(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for (text, number) in [
            ("A", 1),
            ("aaaa", 28),
            ("HTTPS", 65),
            ("ixfr", 251),
            ("loc", 29),
            ("TYPE65280", 65280),
        ] {
            assert_eq!(text.parse::<Type>().unwrap(), Type(number));
        }
        assert_eq!(Type(65280).to_string(), "TYPE65280");
        assert_eq!(Type::SRV.to_string(), "SRV");
        for (number, name) in OTHER_TYPES {
            let known = RecordType::from(number);
            assert!(matches!(known, RecordType::Unknown(_)), "{known} is known");
            assert_eq!(name.parse::<Type>().unwrap(), Type(number));
            assert_eq!(Type(number).to_string(), name);
        }
        assert!("NOPE".parse::<Type>().is_err());
        assert_eq!("nxdomain".parse::<Rcode>().unwrap(), Rcode::NXDOMAIN);
        assert_eq!(Rcode(42).to_string(), "RCODE42");
    }
}
