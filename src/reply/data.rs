//! The data of records: in their fields, to be put into a reply, and as octets of a message.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::{MalformedMessage, Name, NameRef, RawRecord, Type};

/// Record data to be put into a reply.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// The one name of CNAME, NS, PTR or DNAME.
    Name(NameRef<'a>),
    /// A service's place (RFC 2782).
    Srv {
        /// Lower is tried first.
        priority: u16,
        /// Share among equals.
        weight: u16,
        /// The port.
        port: u16,
        /// The host.
        target: NameRef<'a>,
    },
    /// The start of a zone (RFC 1035 §3.3.13).
    Soa(Soa<'a>),
    /// One character string; at most 255 octets of it are kept.
    Txt(&'a [u8]),
    /// Data in wire form, names in it uncompressed.
    Raw(&'a [u8]),
}

/// The fields of an SOA record.
#[derive(Clone, Copy, Debug)]
pub struct Soa<'a> {
    /// The primary server.
    pub primary: NameRef<'a>,
    /// The mailbox of who is responsible.
    pub mailbox: NameRef<'a>,
    /// Changes with the zone.
    pub serial: u32,
    /// Seconds between a secondary's questions.
    pub refresh: u32,
    /// Seconds until it asks again.
    pub retry: u32,
    /// Seconds after which it gives up.
    pub expire: u32,
    /// Seconds that a negative answer may be kept (RFC 2308 §4).
    pub minimum: u32,
}

impl Data<'_> {
    /// Puts the octets behind what is in `arena`.
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
            Self::Raw(octets) => arena.extend(*octets),
        }
    }
}

/// How the data of the types that may be compressed are made up (RFC 3597 §4): octets before the
/// first name, and how many names follow. What is behind them is copied.
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

/// Puts the data of a record of `message` behind what is in `arena`, the names in them decompressed.
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
