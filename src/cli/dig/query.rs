//! The query message.

use super::lookup::{Cookie, Lookup, QueryEdns};
use crate::{
    edns::Options,
    wire::{Header, Name, Type},
};

/// A query in wire format.
#[derive(Clone, Debug)]
pub struct QueryMessage {
    /// The message.
    pub bytes: Vec<u8>,
    /// Its ID.
    pub id: u16,
    /// The cookie in it, to be compared with the reply's.
    pub cookie: Option<Vec<u8>>,
}

impl QueryMessage {
    /// The query of a lookup for `name`, with a random ID.
    pub fn new(lookup: &Lookup, name: &Name) -> Self {
        let id = lookup.id.unwrap_or_else(rand::random);
        let flags = &lookup.flags;
        let bits = [
            (flags.authoritative, Header::AUTHORITATIVE),
            (flags.recursion, Header::RECURSION_DESIRED),
            (flags.zero, 0x0040),
            (flags.authentic, Header::AUTHENTIC),
            (flags.checking_disabled, Header::CHECKING_DISABLED),
        ];
        let bits = bits.iter().filter(|(is_set, _)| *is_set);
        let bits = bits.fold(0, |all, (_, bit)| all | bit);
        let is_ixfr = lookup.rtype() == Type::IXFR;
        let counts = [1, 0, u16::from(is_ixfr), u16::from(lookup.edns.is_some())];
        let mut bytes = Vec::with_capacity(64);
        for word in [&[id, bits][..], &counts].concat() {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(name.as_wire());
        bytes.extend(lookup.rtype().0.to_be_bytes());
        bytes.extend(lookup.class().0.to_be_bytes());
        if is_ixfr {
            soa(lookup, name, &mut bytes);
        }
        let cookie = lookup.edns.as_ref().and_then(|edns| opt(edns, &mut bytes));
        Self { bytes, id, cookie }
    }
}

/// The SOA record with the serial that the client has (RFC 1995 section 3).
fn soa(lookup: &Lookup, name: &Name, bytes: &mut Vec<u8>) {
    bytes.extend(name.as_wire());
    bytes.extend(Type::SOA.0.to_be_bytes());
    bytes.extend(lookup.class().0.to_be_bytes());
    // TTL 0; data: two names of one byte, the serial, and four timers of zero.
    bytes.extend([0, 0, 0, 0, 0, 22, 0, 0]);
    bytes.extend(lookup.serial.to_be_bytes());
    bytes.extend([0; 16]);
}

/// Appends the OPT record, in BIND's order of options; returns the cookie in it.
fn opt(edns: &QueryEdns, bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut options: Vec<(u16, Vec<u8>)> = Vec::new();
    if edns.nsid {
        options.push((Options::NSID, Vec::new()));
    }
    if let Some((address, length)) = edns.subnet {
        let (family, octets) = match address {
            std::net::IpAddr::V4(ip) => (1u16, ip.octets().to_vec()),
            std::net::IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        // As many bytes as the prefix has, and no bit beyond it (RFC 7871 section 6).
        let mut data = [&family.to_be_bytes()[..], &[length, 0]].concat();
        data.extend(&octets[..usize::from(length).div_ceil(8)]);
        if length % 8 != 0
            && let Some(last) = data.last_mut()
        {
            *last &= 0xFF << (8 - length % 8);
        }
        options.push((Options::SUBNET, data));
    }
    let cookie = edns.cookie.as_ref().map(|cookie| match cookie {
        Cookie::Random => rand::random::<[u8; 8]>().to_vec(),
        Cookie::Given(bytes) => bytes.clone(),
    });
    options.extend(cookie.clone().map(|cookie| (Options::COOKIE, cookie)));
    options.extend(edns.others.iter().cloned());
    let mut data = Vec::new();
    for (code, value) in options {
        // Together they cannot exceed a message: the words of a command line are shorter.
        let Ok(length) = u16::try_from(value.len()) else {
            continue;
        };
        data.extend(code.to_be_bytes());
        data.extend(length.to_be_bytes());
        data.extend(value);
    }
    let flags = if edns.dnssec { 0x80 } else { 0 };
    bytes.push(0);
    bytes.extend(Type::OPT.0.to_be_bytes());
    bytes.extend(edns.payload.to_be_bytes());
    bytes.extend([0, edns.version, flags, 0]);
    bytes.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend(data);
    cookie
}
