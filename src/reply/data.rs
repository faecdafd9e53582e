//! Record data: as typed fields for adding to a reply, and in wire format.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::{MalformedMessage, Name, NameRef, RawRecord, Type};

/// Record data to be added to a reply.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// The name of CNAME, NS, PTR or DNAME data.
    Name(NameRef<'a>),
    /// SRV data (RFC 2782).
    Srv {
        /// Lower values are preferred.
        priority: u16,
        /// Relative weight among equal priorities.
        weight: u16,
        /// The port.
        port: u16,
        /// The target host.
        target: NameRef<'a>,
    },
    /// SOA data (RFC 1035 section 3.3.13).
    Soa(Soa<'a>),
    /// One character string, truncated to 255 bytes.
    Txt(&'a [u8]),
    /// Data in wire format with uncompressed names.
    Raw(&'a [u8]),
}

/// Fields of SOA data.
#[derive(Clone, Copy, Debug)]
pub struct Soa<'a> {
    /// The primary server.
    pub primary: NameRef<'a>,
    /// Mailbox of the responsible person.
    pub mailbox: NameRef<'a>,
    /// Serial number of the zone's version.
    pub serial: u32,
    /// Refresh interval of secondaries in seconds.
    pub refresh: u32,
    /// Retry interval in seconds.
    pub retry: u32,
    /// Expiry of a secondary's copy in seconds.
    pub expire: u32,
    /// TTL of negative answers in seconds (RFC 2308 section 4).
    pub minimum: u32,
}

impl Data<'_> {
    /// Appends the wire format to `arena`.
    pub(super) fn append(&self, arena: &mut Vec<u8>) {
        match self {
            Self::A(address) => arena.extend(address.octets()),
            Self::Aaaa(address) => arena.extend(address.octets()),
            Self::Name(name) => arena.extend(name.as_wire()),
            Self::Srv {
                priority,
                weight,
                port,
                target,
            } => {
                for word in [priority, weight, port] {
                    arena.extend(word.to_be_bytes());
                }
                arena.extend(target.as_wire());
            }
            Self::Soa(soa) => {
                arena.extend(soa.primary.as_wire());
                arena.extend(soa.mailbox.as_wire());
                for word in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
                    arena.extend(word.to_be_bytes());
                }
            }
            Self::Txt(text) => {
                let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
                arena.push(length);
                arena.extend(&text[..usize::from(length)]);
            }
            Self::Raw(bytes) => arena.extend(*bytes),
        }
    }
}

/// Layout of data whose names may be compressed (RFC 3597 section 4): number of bytes before the
/// first name, and number of names. Bytes after them are copied.
pub(crate) fn names_in(rtype: Type) -> Option<(usize, usize)> {
    match rtype.0 {
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 39 => Some((0, 1)), // NS MD MF CNAME MB MG MR PTR DNAME
        6 | 14 | 17 => Some((0, 2)),                         // SOA MINFO RP
        15 | 18 | 21 | 36 => Some((2, 1)),                   // MX AFSDB RT KX
        26 => Some((2, 2)),                                  // PX
        33 => Some((6, 1)),                                  // SRV
        _ => None,
    }
}

/// Appends the data of a record of `message` to `arena`, with names decompressed.
pub(crate) fn expand(
    message: &[u8],
    raw: &RawRecord,
    arena: &mut Vec<u8>,
) -> Result<(), MalformedMessage> {
    let start = arena.len();
    let mut position = raw.data_start;
    if let Some((before, names)) = names_in(raw.rtype) {
        let fixed = message
            .get(position..position + before)
            .ok_or(MalformedMessage::Truncated)?;
        arena.extend(fixed);
        position += before;
        for _ in 0..names {
            let (name, behind) = Name::read(message, position)?;
            arena.extend(name.as_wire());
            position = behind;
        }
    }
    let rest = message
        .get(position..raw.data_end)
        .ok_or(MalformedMessage::Truncated)?;
    arena.extend(rest);
    if arena.len() - start > usize::from(u16::MAX) {
        return Err(MalformedMessage::Truncated);
    }
    Ok(())
}
