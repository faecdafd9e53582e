//! What the address of an upstream shows before any query is sent to it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use crate::{interfaces::Interfaces, zone::ClusterView};

/// Address of the cache on each node, in the manifests of NodeLocal DNSCache.
const NODE_LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10));

/// Port of plain DNS.
const DNS: u16 = 53;

/// What an address shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AddressEvidence {
    /// Nothing.
    None,
    /// It is an address of this server: queries return.
    Own,
    /// It is the cluster's DNS, or usually leads there: queries may return. They need not, so it is proven by
    /// probes: a node-local cache may have its own upstreams, and another server may be the cluster's DNS.
    ClusterDns(String),
}

/// The addresses of this server, and the cluster whose names it serves.
pub(super) struct OwnAddresses {
    listeners: Box<[SocketAddr]>,
    cluster: Option<Arc<ClusterView>>,
}

impl OwnAddresses {
    pub(super) fn new(listeners: &[SocketAddr], cluster: Option<Arc<ClusterView>>) -> Self {
        Self {
            listeners: listeners.into(),
            cluster,
        }
    }

    /// What the address shows now: interfaces and the cluster's state change.
    pub(super) fn evidence(&self, upstream: SocketAddr) -> AddressEvidence {
        let interfaces = Interfaces::here().unwrap_or_default();
        if self.is_own(upstream, &interfaces) {
            return AddressEvidence::Own;
        }
        match &self.cluster {
            Some(cluster) if upstream.port() == DNS => dns_of(cluster, upstream.ip(), &interfaces),
            _ => AddressEvidence::None,
        }
    }

    /// Whether this server listens on the address.
    fn is_own(&self, upstream: SocketAddr, interfaces: &Interfaces) -> bool {
        let ip = upstream.ip();
        let is_here = || ip.is_loopback() || has(interfaces, ip);
        self.listeners.iter().any(|own| {
            let is_any = own.ip().is_unspecified() && own.is_ipv4() == upstream.is_ipv4();
            own.port() == upstream.port() && (own.ip() == ip || is_any && is_here())
        })
    }
}

/// Whether the address is the cluster's DNS: the Service that installers create for it, another Service with this
/// pod behind it, or the cache of the node.
fn dns_of(view: &ClusterView, address: IpAddr, interfaces: &Interfaces) -> AddressEvidence {
    if address == NODE_LOCAL {
        return AddressEvidence::ClusterDns(
            "is the usual address of NodeLocal DNSCache".to_owned(),
        );
    }
    for entry in view.cluster().services_at(address) {
        let Some(service) = &entry.service else {
            continue;
        };
        if !service.cluster_ips.contains(&address) {
            continue;
        }
        let (namespace, name) = (&*service.namespace, &*service.name);
        let is_usual = namespace == "kube-system" && name == "kube-dns";
        let mut endpoints = entry.endpoints();
        if is_usual || endpoints.any(|endpoint| has(interfaces, endpoint.address)) {
            let text = format!("is the Service {namespace}/{name}, the DNS of this cluster");
            return AddressEvidence::ClusterDns(text);
        }
    }
    AddressEvidence::None
}

fn has(interfaces: &Interfaces, address: IpAddr) -> bool {
    let mut addresses = interfaces.addresses.iter();
    addresses.any(|(_, own)| own.ip == address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{Object, ObjectRevision, Service, ServiceKind, load},
        wire::Name,
        zone::{AnswerRules, Zones},
    };

    fn own(listeners: &[&str]) -> OwnAddresses {
        let listeners: Vec<_> = listeners.iter().map(|text| text.parse().unwrap()).collect();
        OwnAddresses::new(&listeners, None)
    }

    #[test]
    fn only_own_addresses_are_recognized() {
        let wildcard = own(&["0.0.0.0:53", "[::]:53"]);
        let bound = own(&["10.0.0.1:53"]);
        let interfaces = Interfaces {
            addresses: vec![("eth0".to_owned(), IpAddr::from([10, 0, 0, 3]).into())],
            elsewhere: false,
        };
        for (upstream, by_wildcard, by_bound) in [
            ("127.0.0.53:53", true, false),
            ("[::1]:53", true, false),
            ("127.0.0.1:5353", false, false),
            ("10.0.0.1:53", false, true),
            ("10.0.0.2:53", false, false),
            ("10.0.0.3:53", true, false),
            ("10.0.0.3:54", false, false),
        ] {
            let upstream = upstream.parse().unwrap();
            assert_eq!(
                wildcard.is_own(upstream, &interfaces),
                by_wildcard,
                "{upstream}"
            );
            assert_eq!(bound.is_own(upstream, &interfaces), by_bound, "{upstream}");
        }
        assert!(!own(&["0.0.0.0:53"]).is_own("[::1]:53".parse().unwrap(), &interfaces));
    }

    #[test]
    fn services_of_the_clusters_dns_are_recognized() {
        let service = |namespace: &str, name: &str, address: [u8; 4]| {
            Object::Service(Service {
                namespace: namespace.into(),
                name: name.into(),
                kind: ServiceKind::ClusterIp,
                cluster_ips: [IpAddr::from(address)].into(),
                external_name: None,
                ports: [].into(),
                external: None,
                revision: ObjectRevision::default(),
            })
        };
        let cluster = load([
            service("kube-system", "kube-dns", [10, 96, 0, 10]),
            service("default", "kube-dns", [10, 96, 0, 11]),
        ]);
        let zones = Zones::new(&[Name::parse("cluster.local").unwrap()]).unwrap();
        let view = ClusterView::new(cluster, zones, AnswerRules::default(), [].into());
        let own = OwnAddresses::new(&[], Some(Arc::new(view)));
        for (upstream, text) in [
            (
                "10.96.0.10:53",
                Some("is the Service kube-system/kube-dns, the DNS of this cluster"),
            ),
            ("10.96.0.10:54", None),
            // No pod of it is here: it may be a server of its own.
            ("10.96.0.11:53", None),
            ("10.96.0.12:53", None),
            (
                "169.254.20.10:53",
                Some("is the usual address of NodeLocal DNSCache"),
            ),
        ] {
            let wanted = text.map_or(AddressEvidence::None, |text| {
                AddressEvidence::ClusterDns(text.to_owned())
            });
            assert_eq!(
                own.evidence(upstream.parse().unwrap()),
                wanted,
                "{upstream}"
            );
        }
        let elsewhere = OwnAddresses::new(&[], None);
        let evidence = elsewhere.evidence("169.254.20.10:53".parse().unwrap());
        assert_eq!(evidence, AddressEvidence::None, "serves no cluster");
    }
}
