//! The addresses under which this server is reached: those that it is bound to, and where that is
//! all of the machine's, those that the machine has.

use std::net::{IpAddr, SocketAddr};

use crate::interfaces::Interfaces;

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
        let machine = machine().into_iter();
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

/// Every address of the machine.
fn machine() -> Vec<IpAddr> {
    // Where the system does not tell, no address is known: NS questions then have no glue.
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
