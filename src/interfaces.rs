//! The network interfaces of the machine, and the addresses that they have now.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
};

/// An address that a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostAddress {
    /// The address.
    pub ip: IpAddr,
    /// The index of its interface, for an IPv6 link-local address: without it there may be several
    /// of the same (RFC 4007 §6). 0 for all others.
    pub scope: u32,
}

/// The interfaces of a machine.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    /// Each address with the name of its interface.
    pub addresses: Vec<(String, HostAddress)>,
    /// Whether it is the machine that the configuration is for. A check may run on another one,
    /// where a name that is missing means little.
    pub elsewhere: bool,
}

impl Interfaces {
    /// Those of this machine.
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

    /// The addresses of the interface of that name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = HostAddress> {
        let mine = self.addresses.iter().filter(move |(own, _)| own == name);
        mine.map(|(_, address)| *address)
    }

    /// Every name once, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.addresses.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl HostAddress {
    /// The address with a port, to be bound.
    pub fn with_port(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope).into(),
            IpAddr::V4(ip) => (ip, port).into(),
        }
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
    fn a_link_local_address_keeps_its_link() {
        let address = HostAddress {
            ip: "fe80::1".parse().unwrap(),
            scope: 3,
        };
        assert_eq!(address.with_port(53).to_string(), "[fe80::1%3]:53");
        assert_eq!(address.to_string(), "fe80::1%3");
        let plain = HostAddress::from(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(plain.with_port(53).to_string(), "10.0.0.1:53");
    }
}
