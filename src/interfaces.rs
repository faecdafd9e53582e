//! Network interfaces of the machine and their current addresses.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    str::FromStr,
};

/// An address of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostAddress {
    /// The address.
    pub ip: IpAddr,
    /// Interface index of an IPv6 link-local address, which is ambiguous without it (RFC 4007
    /// section 6). 0 for all other addresses.
    pub scope: u32,
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The part before `%` is not an IP address.
    #[error("{0:?} is no IP address")]
    Address(String),
    /// Only IPv6 addresses have a zone (RFC 4007 section 11): an interface name or index.
    #[error("no network interface is called {0:?}")]
    Interface(String),
}

/// The interfaces of a machine.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    /// Interface name and address.
    pub addresses: Vec<(String, HostAddress)>,
    /// Whether the configuration may be for another machine (`check`), so that unknown interface
    /// names are not an error.
    pub elsewhere: bool,
}

impl Interfaces {
    /// The interfaces of this machine.
    pub fn here() -> io::Result<Self> {
        let found = if_addrs::get_if_addrs()?.into_iter().map(|interface| {
            let ip = interface.ip();
            let linked = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
            let scope = interface.index.filter(|_| linked).unwrap_or_default();
            (interface.name, HostAddress { ip, scope })
        });
        Ok(Self {
            addresses: found.collect(),
            elsewhere: false,
        })
    }

    /// Addresses of the named interface.
    pub fn named(&self, name: &str) -> impl Iterator<Item = HostAddress> {
        let mine = self.addresses.iter().filter(move |(own, _)| own == name);
        mine.map(|(_, address)| *address)
    }

    /// All names, sorted, without duplicates.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.addresses.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl HostAddress {
    /// The address with a port, for binding.
    pub fn with_port(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope).into(),
            IpAddr::V4(ip) => (ip, port).into(),
        }
    }
}

impl FromStr for HostAddress {
    type Err = AddressError;

    /// Parses an IP address; IPv6 addresses may have a zone: `10.0.0.1`, `fd00::1`, `fe80::1%eth0`,
    /// `fe80::1%3`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (address, zone) = match text.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (text, None),
        };
        let ip: IpAddr = address
            .parse()
            .map_err(|_| AddressError::Address(address.to_owned()))?;
        let scope = match zone {
            None => 0,
            Some(zone) => ip
                .is_ipv6()
                .then(|| zone.parse().ok().or_else(|| index(zone)))
                .flatten()
                .ok_or_else(|| AddressError::Interface(zone.to_owned()))?,
        };
        Ok(Self { ip, scope })
    }
}

/// Index of the named interface.
fn index(name: &str) -> Option<u32> {
    if name.contains('/') || name.starts_with('.') {
        return None;
    }
    let path = format!("/sys/class/net/{name}/ifindex");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Local address of a socket towards `peer`, with an ephemeral port: `source`, or the unspecified
/// address of the peer's family. A link-local source gets the peer's scope, without which the
/// kernel refuses to bind it.
pub fn local_end(source: Option<IpAddr>, peer: SocketAddr) -> SocketAddr {
    match (source, peer) {
        (Some(IpAddr::V6(source)), SocketAddr::V6(peer)) if source.is_unicast_link_local() => {
            SocketAddrV6::new(source, 0, 0, peer.scope_id()).into()
        }
        (Some(source), _) => (source, 0).into(),
        (None, SocketAddr::V4(_)) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        (None, SocketAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Whether it is a link-local address without an interface: the kernel refuses to send to it.
pub fn lacks_interface(address: SocketAddr) -> bool {
    match address {
        SocketAddr::V6(v6) => v6.ip().is_unicast_link_local() && v6.scope_id() == 0,
        SocketAddr::V4(_) => false,
    }
}

impl From<IpAddr> for HostAddress {
    fn from(ip: IpAddr) -> Self {
        Self { ip, scope: 0 }
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            0 => self.ip.fmt(out),
            scope => write!(out, "{}%{scope}", self.ip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_loopback() {
        let here = Interfaces::here().unwrap();
        let loopback = IpAddr::from([127, 0, 0, 1]).into();
        let (name, _) = here
            .addresses
            .iter()
            .find(|(_, address)| *address == loopback)
            .unwrap();
        assert!(here.named(name).any(|address| address == loopback));
        assert!(here.names().contains(&&**name));
        assert_eq!(here.named("no-such-thing").count(), 0);
    }

    #[test]
    fn a_link_local_address_keeps_its_scope() {
        let address = HostAddress {
            ip: "fe80::1".parse().unwrap(),
            scope: 3,
        };
        assert_eq!(address.with_port(53).to_string(), "[fe80::1%3]:53");
        assert_eq!(address.to_string(), "fe80::1%3");
        assert_eq!("fe80::1%3".parse(), Ok(address));
        let looped: HostAddress = "fe80::1%lo".parse().unwrap();
        assert!(looped.scope > 0, "loopback has an index");
        for bad in [
            "10.0.0.1%3",
            "fe80::1%no-such-thing",
            "fe80::1%",
            "fe80::1%../lo",
        ] {
            let error = bad.parse::<HostAddress>().unwrap_err();
            assert!(matches!(error, AddressError::Interface(_)), "{bad}");
        }
        for (text, lacking) in [
            ("[fe80::1]:53", true),
            ("[fe80::1%3]:53", false),
            ("[fd00::1]:53", false),
            ("169.254.0.1:53", false),
        ] {
            assert_eq!(lacks_interface(text.parse().unwrap()), lacking, "{text}");
        }
        assert!("ten%3".parse::<HostAddress>().is_err());
        let peer = address.with_port(53);
        assert_eq!(
            local_end(Some("fe80::2".parse().unwrap()), peer).to_string(),
            "[fe80::2%3]:0"
        );
        assert_eq!(local_end(None, peer).to_string(), "[::]:0");
        let plain = HostAddress::from(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(plain.with_port(53).to_string(), "10.0.0.1:53");
    }
}
