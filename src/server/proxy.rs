//! PROXY headers, versions 1 and 2: who really asks, as a load balancer in front tells it (HAProxy's
//! "The PROXY protocol"). Here is what octets mean and whom to believe; [`sessions`] keeps what the
//! first datagram of several said, and the transports do the reading.

pub mod sessions;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;

/// Whose headers are believed (`proxyproto`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// From these peers, headers are believed; without any network, [`others`](Self::others) holds
    /// for everybody.
    pub allow: Vec<IpNet>,
    /// What is done with headers of everybody else.
    pub others: Treatment,
    /// How what a header said holds for the datagrams behind it, if it does.
    pub sessions: Option<Sessions>,
}

/// What is done with a peer's headers. Nobody must send one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// They are believed.
    Use,
    /// They are read and not believed.
    Ignore,
    /// Whoever sends one is turned away.
    Reject,
    /// They are not looked for: what looks like one is part of a question.
    Skip,
}

/// How long and of how many peers it is remembered what their headers said, on UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// From the last datagram on.
    pub ttl: Duration,
    /// Peers, over all threads of an address.
    pub most: usize,
}

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its octets.
    pub length: usize,
    /// 1 or 2.
    pub version: u8,
    /// Who asks, and which address was asked; nothing where the proxy asks for itself, or where it
    /// does not tell.
    pub addresses: Option<Addresses>,
}

/// The two ends of the connection that a proxy hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Who asks.
    pub client: SocketAddr,
    /// The address that was asked.
    pub asked: SocketAddr,
    /// Whether it asks with datagrams.
    pub datagrams: bool,
}

/// What the first octets of a connection or a datagram are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// No header.
    Bare,
    /// They may become a header: more must come.
    Unfinished,
    /// A header.
    Header(Header),
}

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum Malformed {
    #[error("a PROXY header of more than {MAX_HEADER} octets")]
    TooLong,
    #[error("a PROXY header of version 1 that is none")]
    Text,
    #[error("a PROXY header of version {0}")]
    Version(u8),
    #[error("a PROXY header with an unknown command")]
    Command,
    #[error("a PROXY header that is shorter than its addresses")]
    Short,
}

/// Octets of a header that are read. The specification's own extensions need far less.
pub const MAX_HEADER: usize = 4096;

/// Version 1 is a line, of so many octets at most with its end (section 2.1).
const MAX_LINE: usize = 107;
const LINE_START: &[u8] = b"PROXY ";

/// What version 2 begins with (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;

impl Trust {
    /// What is done with the headers of `peer`.
    pub fn of(&self, peer: IpAddr) -> Treatment {
        let peer = peer.to_canonical();
        if self.allow.iter().any(|network| network.contains(&peer)) {
            Treatment::Use
        } else {
            self.others
        }
    }
}

impl Start {
    /// Reads what `octets` begin with.
    pub fn read(octets: &[u8]) -> Result<Self, Malformed> {
        if octets.starts_with(SIGNATURE) {
            binary(octets)
        } else if let Some(rest) = octets.strip_prefix(LINE_START) {
            line(rest)
        } else if SIGNATURE.starts_with(octets) || LINE_START.starts_with(octets) {
            Ok(Self::Unfinished)
        } else {
            Ok(Self::Bare)
        }
    }
}

/// Version 1, behind its first word.
fn line(rest: &[u8]) -> Result<Start, Malformed> {
    let most = MAX_LINE - LINE_START.len();
    let Some(end) = rest.iter().take(most).position(|octet| *octet == b'\n') else {
        return if rest.len() < most {
            Ok(Start::Unfinished)
        } else {
            Err(Malformed::Text)
        };
    };
    let text = rest[..end].strip_suffix(b"\r").ok_or(Malformed::Text)?;
    let text = std::str::from_utf8(text).map_err(|_| Malformed::Text)?;
    Ok(Start::Header(Header {
        length: LINE_START.len() + end + 1,
        version: 1,
        // Whatever stands behind this word.
        addresses: match text.strip_prefix("UNKNOWN") {
            Some(rest) if rest.is_empty() || rest.starts_with(' ') => None,
            _ => Some(line_addresses(text).ok_or(Malformed::Text)?),
        },
    }))
}

fn line_addresses(text: &str) -> Option<Addresses> {
    let mut words = text.split(' ');
    let family = words.next()?;
    let (client, asked) = (words.next()?, words.next()?);
    let (client_port, asked_port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let ips: (IpAddr, IpAddr) = match family {
        "TCP4" => (
            client.parse::<Ipv4Addr>().ok()?.into(),
            asked.parse::<Ipv4Addr>().ok()?.into(),
        ),
        "TCP6" => (
            client.parse::<Ipv6Addr>().ok()?.into(),
            asked.parse::<Ipv6Addr>().ok()?.into(),
        ),
        _ => return None,
    };
    words.next().is_none().then_some(Addresses {
        client: SocketAddr::new(ips.0, client_port),
        asked: SocketAddr::new(ips.1, asked_port),
        datagrams: false,
    })
}

/// Version 2, from its first octet.
fn binary(octets: &[u8]) -> Result<Start, Malformed> {
    let Some(fixed) = octets.first_chunk::<FIXED>() else {
        return Ok(Start::Unfinished);
    };
    let (version, command) = (fixed[12] >> 4, fixed[12] & 0x0F);
    if version != 2 {
        return Err(Malformed::Version(version));
    }
    let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MAX_HEADER {
        return Err(Malformed::TooLong);
    }
    let Some(body) = octets.get(FIXED..length) else {
        return Ok(Start::Unfinished);
    };
    let addresses = match command {
        0 => None, // LOCAL: the proxy asks for itself
        1 => binary_addresses(fixed[13], body)?,
        _ => return Err(Malformed::Command),
    };
    Ok(Start::Header(Header {
        length,
        version,
        addresses,
    }))
}

fn binary_addresses(family: u8, body: &[u8]) -> Result<Option<Addresses>, Malformed> {
    fn ends<const N: usize>(body: &[u8]) -> Option<([IpAddr; 2], [u16; 2])>
    where
        IpAddr: From<[u8; N]>,
    {
        let (client, rest) = body.split_first_chunk::<N>()?;
        let (asked, rest) = rest.split_first_chunk::<N>()?;
        let ports = rest.first_chunk::<4>()?;
        let port = |at| u16::from_be_bytes([ports[at], ports[at + 1]]);
        Some((
            [IpAddr::from(*client), IpAddr::from(*asked)],
            [port(0), port(2)],
        ))
    }
    let (ips, ports) = match family >> 4 {
        1 => ends::<4>(body),
        2 => ends::<16>(body),
        // Sockets of one machine, or what nobody knows: the connection's own addresses hold.
        _ => return Ok(None),
    }
    .ok_or(Malformed::Short)?;
    Ok(Some(Addresses {
        client: SocketAddr::new(ips[0], ports[0]),
        asked: SocketAddr::new(ips[1], ports[1]),
        datagrams: family & 0x0F == 2,
    }))
}

#[cfg(test)]
mod tests;
