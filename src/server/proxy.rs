//! PROXY headers, versions 1 and 2: the client's address as forwarded by a load balancer (HAProxy, "The
//! PROXY protocol"). This file parses headers and has the policy for peers; [`sessions`] tracks UDP
//! sessions, and the transports read the headers.

pub mod sessions;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;

/// Which peers' headers are used (`proxyproto`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyPolicy {
    /// Headers of peers in these networks are used. Without any network, [`others`](Self::others) applies
    /// to every peer.
    pub allow: Vec<IpNet>,
    /// How headers of other peers are treated.
    pub others: Treatment,
    /// UDP session tracking; `None` if every datagram needs a header of its own.
    pub sessions: Option<Sessions>,
}

/// How a peer's headers are treated. Peers are not required to send one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// They are used.
    Use,
    /// They are read and not used.
    Ignore,
    /// A connection or datagram with one is refused.
    Reject,
    /// They are not looked for: what looks like one is part of a query.
    Skip,
}

/// UDP session tracking: for how long and for how many peers headers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Lifetime since the last datagram.
    pub ttl: Duration,
    /// Maximum number of peers, over all threads of an address.
    pub max_peers: usize,
}

/// A parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its length in bytes.
    pub length: usize,
    /// 1 or 2.
    pub version: u8,
    /// The addresses of client and server; `None` if the proxy connects for itself (LOCAL) or does not know
    /// (UNKNOWN).
    pub addresses: Option<ProxiedAddresses>,
}

/// The addresses of a proxied connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxiedAddresses {
    /// The client.
    pub client: SocketAddr,
    /// The address that the client sent to.
    pub server: SocketAddr,
    /// Whether the client uses datagrams (UDP).
    pub datagrams: bool,
}

/// The result of parsing the first bytes of a connection or a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// No header.
    Bare,
    /// Possibly a header, which is incomplete.
    Unfinished,
    /// A header.
    Header(ProxyHeader),
}

/// Why a header is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages describe them
pub enum Malformed {
    #[error("a PROXY header of more than {MAX_HEADER} bytes")]
    TooLong,
    #[error("a malformed PROXY header of version 1")]
    Text,
    #[error("a PROXY header of version {0}")]
    Version(u8),
    #[error("a PROXY header with an unknown command")]
    Command,
    #[error("a PROXY header that is shorter than its addresses")]
    Short,
}

/// Bound on the bytes of a header. The specification's own extensions need far less.
pub const MAX_HEADER: usize = 4096;

/// Bound on the bytes of a version 1 header, with CRLF (section 2.1).
const MAX_LINE: usize = 107;
const LINE_START: &[u8] = b"PROXY ";

/// The signature of version 2 (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;

impl ProxyPolicy {
    /// How the headers of `peer` are treated.
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
    /// Parses the start of `bytes`.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.starts_with(SIGNATURE) {
            binary(bytes)
        } else if let Some(rest) = bytes.strip_prefix(LINE_START) {
            line(rest)
        } else if SIGNATURE.starts_with(bytes) || LINE_START.starts_with(bytes) {
            Ok(Self::Unfinished)
        } else {
            Ok(Self::Bare)
        }
    }
}

/// Parses version 1 after its first word.
fn line(rest: &[u8]) -> Result<Start, Malformed> {
    let most = MAX_LINE - LINE_START.len();
    let Some(end) = rest.iter().take(most).position(|byte| *byte == b'\n') else {
        return if rest.len() < most {
            Ok(Start::Unfinished)
        } else {
            Err(Malformed::Text)
        };
    };
    let text = rest[..end].strip_suffix(b"\r").ok_or(Malformed::Text)?;
    let text = std::str::from_utf8(text).map_err(|_| Malformed::Text)?;
    Ok(Start::Header(ProxyHeader {
        length: LINE_START.len() + end + 1,
        version: 1,
        // Anything may follow this word (section 2.1).
        addresses: match text.strip_prefix("UNKNOWN") {
            Some(rest) if rest.is_empty() || rest.starts_with(' ') => None,
            _ => Some(line_addresses(text).ok_or(Malformed::Text)?),
        },
    }))
}

fn line_addresses(text: &str) -> Option<ProxiedAddresses> {
    let mut words = text.split(' ');
    let family = words.next()?;
    let (client, server) = (words.next()?, words.next()?);
    let (client_port, server_port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let ips: (IpAddr, IpAddr) = match family {
        "TCP4" => (
            client.parse::<Ipv4Addr>().ok()?.into(),
            server.parse::<Ipv4Addr>().ok()?.into(),
        ),
        "TCP6" => (
            client.parse::<Ipv6Addr>().ok()?.into(),
            server.parse::<Ipv6Addr>().ok()?.into(),
        ),
        _ => return None,
    };
    words.next().is_none().then_some(ProxiedAddresses {
        client: SocketAddr::new(ips.0, client_port),
        server: SocketAddr::new(ips.1, server_port),
        datagrams: false,
    })
}

/// Parses version 2, from its first byte.
fn binary(bytes: &[u8]) -> Result<Start, Malformed> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
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
    let Some(body) = bytes.get(FIXED..length) else {
        return Ok(Start::Unfinished);
    };
    let addresses = match command {
        0 => None, // LOCAL: the proxy connects for itself
        1 => binary_addresses(fixed[13], body)?,
        _ => return Err(Malformed::Command),
    };
    Ok(Start::Header(ProxyHeader {
        length,
        version,
        addresses,
    }))
}

fn binary_addresses(family: u8, body: &[u8]) -> Result<Option<ProxiedAddresses>, Malformed> {
    fn ends<const N: usize>(body: &[u8]) -> Option<([IpAddr; 2], [u16; 2])>
    where
        IpAddr: From<[u8; N]>,
    {
        let (client, rest) = body.split_first_chunk::<N>()?;
        let (server, rest) = rest.split_first_chunk::<N>()?;
        let ports = rest.first_chunk::<4>()?;
        let port = |at| u16::from_be_bytes([ports[at], ports[at + 1]]);
        Some((
            [IpAddr::from(*client), IpAddr::from(*server)],
            [port(0), port(2)],
        ))
    }
    let (ips, ports) = match family >> 4 {
        1 => ends::<4>(body),
        2 => ends::<16>(body),
        // AF_UNIX or AF_UNSPEC: the connection's own addresses apply (section 2.2).
        _ => return Ok(None),
    }
    .ok_or(Malformed::Short)?;
    Ok(Some(ProxiedAddresses {
        client: SocketAddr::new(ips[0], ports[0]),
        server: SocketAddr::new(ips[1], ports[1]),
        datagrams: family & 0x0F == 2,
    }))
}

#[cfg(test)]
mod tests;
