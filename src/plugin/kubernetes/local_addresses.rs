//! The addresses at which this server is reached: those of its listeners, or of the host's
//! interfaces for wildcard listeners.

use std::net::{IpAddr, SocketAddr};

use crate::interfaces::Interfaces;

/// The addresses of these listeners, sorted, without duplicates. Link-local addresses are excluded,
/// and loopback addresses unless there are no others: they cannot be reached from other hosts.
pub(super) fn of_listeners(listeners: &[SocketAddr]) -> Box<[IpAddr]> {
    let mut found = Vec::new();
    for listener in listeners {
        let address = listener.ip();
        if !address.is_unspecified() {
            found.push(address);
            continue;
        }
        let interface_addresses = interface_addresses().into_iter();
        // A listener on [::] also accepts IPv4.
        found.extend(interface_addresses.filter(|own| address.is_ipv6() || own.is_ipv4()));
    }
    found.retain(|address| !is_link_local(*address));
    if found.iter().any(|address| !address.is_loopback()) {
        found.retain(|address| !address.is_loopback());
    }
    found.sort_unstable();
    found.dedup();
    found.into()
}

/// All addresses of the host's interfaces.
fn interface_addresses() -> Vec<IpAddr> {
    // If they cannot be read, NS answers have no glue.
    let interfaces = Interfaces::here().unwrap_or_default();
    let addresses = interfaces.addresses.into_iter();
    addresses.map(|(_, address)| address.ip).collect()
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
    fn specific_listeners_give_their_addresses_and_wildcard_ones_those_of_interfaces() {
        let bound = |texts: &[&str]| {
            let listeners: Vec<SocketAddr> = texts.iter().map(|it| it.parse().unwrap()).collect();
            let found = of_listeners(&listeners);
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
        assert!(
            !bound(&["[::]:53"]).is_empty(),
            "a interface_addresses has a loopback"
        );
    }
}
