//! The addresses under which this server is reached: those that it is bound to, and where that is
//! all of the machine's, those that the machine has.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
};

/// The addresses of these listeners, each once. Loopback and link-local addresses lead nowhere
/// from another machine; only where there are no others, those of the loopback are kept.
pub(super) fn addresses(listeners: &[SocketAddr]) -> Box<[IpAddr]> {
    let mut found = Vec::new();
    for listener in listeners {
        let address = listener.ip();
        if !address.is_unspecified() {
            found.push(address);
            continue;
        }
        let machine = machine();
        // A listener on [::] takes IPv4 as well.
        found.extend(machine.filter(|own| address.is_ipv6() || own.is_ipv4()));
    }
    found.retain(|address| !is_link_local(*address));
    if found.iter().any(|address| !address.is_loopback()) {
        found.retain(|address| !address.is_loopback());
    }
    found.sort_unstable();
    found.dedup();
    found.into()
}

/// Every address of the machine, as Linux tells it; elsewhere, the one of each family that leads
/// out.
fn machine() -> impl Iterator<Item = IpAddr> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let mut addresses = v4_addresses(&read("/proc/net/fib_trie"));
    addresses.extend(v6_addresses(&read("/proc/net/if_inet6")));
    if addresses.is_empty() {
        let any: [(IpAddr, IpAddr); 2] = [
            (Ipv4Addr::UNSPECIFIED.into(), DOCUMENTATION_V4.into()),
            (Ipv6Addr::UNSPECIFIED.into(), DOCUMENTATION_V6.into()),
        ];
        addresses.extend(
            any.into_iter()
                .filter_map(|(from, to)| leading_to(from, to)),
        );
    }
    addresses.into_iter()
}

const DOCUMENTATION_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DOCUMENTATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The own address from which that one is reached. Connecting a datagram socket sends nothing.
fn leading_to(any: IpAddr, there: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((there, 53)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The local addresses in the routing table: lines `|-- ADDRESS`, each with a line
/// `/32 host LOCAL` behind it.
fn v4_addresses(fib_trie: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut address = None;
    for line in fib_trie.lines() {
        let line = line.trim_start();
        if let Some(leaf) = line.strip_prefix("|-- ") {
            address = leaf.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(address.map(IpAddr::V4));
        }
    }
    found
}

/// The addresses of the interfaces: the first word of each line, 32 hexadecimal digits.
fn v6_addresses(if_inet6: &str) -> impl Iterator<Item = IpAddr> {
    if_inet6.lines().filter_map(|line| {
        let digits = line.split_whitespace().next().filter(|it| it.len() == 32)?;
        let bits = u128::from_str_radix(digits, 16).ok()?;
        Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
    })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     \
                    |-- 10.0.0.7\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     \
                    |-- 10.0.0.255\n        /32 link BROADCAST\n";
        let expected = [[10, 0, 0, 7], [127, 0, 0, 1]].map(IpAddr::from);
        assert_eq!(v4_addresses(trie), expected);
        let inet6 = "fd000000000000000000000000000007 02 40 00 80     eth0\nbad\n";
        let expected: IpAddr = "fd00::7".parse().unwrap();
        assert_eq!(v6_addresses(inet6).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn where_a_server_is_bound_there_it_is_reached() {
        let bound = |texts: &[&str]| {
            let listeners: Vec<SocketAddr> = texts.iter().map(|it| it.parse().unwrap()).collect();
            let found = addresses(&listeners);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            bound(&["10.0.0.7:53", "10.0.0.7:54", "127.0.0.1:53"]),
            ["10.0.0.7"]
        );
        assert_eq!(bound(&["127.0.0.1:53"]), ["127.0.0.1"]);
        assert_eq!(bound(&["[fe80::1]:53", "10.0.0.7:53"]), ["10.0.0.7"]);
        assert_eq!(bound(&[]), [""; 0]);
        assert!(bound(&["0.0.0.0:53"]).iter().all(|it| !it.contains(':')));
        assert!(!bound(&["[::]:53"]).is_empty(), "a machine has a loopback");
    }
}
