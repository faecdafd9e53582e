//! The slim types: what is kept of a cluster's objects.
//!
//! Memory follows these types: a field here is paid for once per Service, endpoint or pod of the
//! whole cluster. Add one only where an answer, a metric or an explanation cannot be given
//! without it, and write down next to it which. Strings that repeat across objects are shared
//! (`Arc<str>`, see `intern`), others are boxed without spare capacity. Measured (`watch-cost`, see
//! `tests/apiserver`): 10,000 Services with 50,000 endpoints take 17 MB, 150,000 Pods 25 MB more,
//! and a list of all of it again 1 MB for as long as it lasts.

use super::endpoint::{Endpoints, SeenEndpoint};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A Namespace: it exists, which is the difference between NODATA and NXDOMAIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The name, lower case as Kubernetes demands.
    pub name: Arc<str>,
}

/// A Service of any type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The namespace it lives in.
    pub namespace: Arc<str>,
    /// Its name within the namespace.
    pub name: Arc<str>,
    /// How its name is answered.
    pub kind: ServiceKind,
    /// `spec.clusterIPs`, or `spec.clusterIP` where that list is empty; none when headless.
    pub cluster_ips: Box<[IpAddr]>,
    /// `spec.externalName` as written; only of an ExternalName Service.
    pub external_name: Option<Box<str>>,
    /// `spec.ports` in their order.
    pub ports: Arc<[Port]>,
    /// Where it is reached from outside, for `k8s_external`; boxed as few Services have it.
    pub external: Option<Box<External>>,
}

/// How a Service's name is answered. NodePort and LoadBalancer differ from ClusterIP outside of
/// DNS only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    /// By its cluster addresses: ClusterIP, NodePort and LoadBalancer.
    ClusterIp,
    /// By the addresses of its endpoints: the first cluster address is `None`.
    Headless,
    /// By a CNAME.
    ExternalName,
}

/// A Service's addresses outside of the cluster: `spec.externalIPs` and the load balancer's
/// ingress points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct External {
    /// Addresses, `externalIPs` first.
    pub addresses: Box<[IpAddr]>,
    /// Host names of ingress points that have no address.
    pub hostnames: Box<[Box<str>]>,
}

/// One port of a Service or of a slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The port's name; empty where it has none.
    pub name: Box<str>,
    /// The number; a slice may leave it open ("all ports").
    pub number: Option<u16>,
    /// The transport.
    pub protocol: Protocol,
}

/// A port's transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Not stated.
    #[default]
    Unstated,
    /// `TCP`
    Tcp,
    /// `UDP`
    Udp,
    /// `SCTP`
    Sctp,
}

impl Protocol {
    /// In lower case, as names spell it; empty where it is not stated.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unstated => "",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// An EndpointSlice: a part of the endpoints of one Service, which need not exist (yet, or any
/// more).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The namespace of the slice and of its Service.
    pub namespace: Arc<str>,
    /// The slice's own name.
    pub name: Box<str>,
    /// The owning Service: the label `kubernetes.io/service-name`. Empty where only a ServiceImport
    /// owns it.
    pub service: Arc<str>,
    /// The ServiceImport that it belongs to, for `multicluster` zones; boxed as few have one.
    pub import: Option<Box<ImportedFrom>>,
    /// Ports that every endpoint of the slice has.
    pub ports: Arc<[Port]>,
    /// Endpoints, one for each address, in their order.
    pub endpoints: Endpoints,
}

impl Slice {
    /// Those that are served.
    pub fn ready(&self) -> impl Iterator<Item = SeenEndpoint<'_>> {
        self.endpoints.iter().filter(|endpoint| endpoint.ready)
    }

    /// Whether every answer made from `self` would also be made from `other`. Endpoints that are
    /// not ready are kept but answer nothing.
    pub fn answers_like(&self, other: &Self) -> bool {
        self.service == other.service
            && self.import == other.import
            && self.ports == other.ports
            && self.ready().eq(other.ready())
    }
}

/// Where a slice of the multi-cluster services API comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedFrom {
    /// The ServiceImport: the label `multicluster.kubernetes.io/service-name`.
    pub service: Arc<str>,
    /// The cluster: the label `multicluster.kubernetes.io/source-cluster`. Empty where that is
    /// missing; then its endpoints have no names.
    pub cluster: Arc<str>,
}

/// A Pod that runs and has an address; kept only where `pods verified` asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The namespace it runs in.
    pub namespace: Arc<str>,
    /// Its name, for explanations and metadata.
    pub name: Box<str>,
    /// Of `status.podIPs` (or `podIP`); Kubernetes allows one of each family.
    pub v4: Option<Ipv4Addr>,
    /// See `v4`.
    pub v6: Option<Ipv6Addr>,
    /// Those of its labels that somebody reads, for metadata; shared by pods that have the same.
    pub labels: Option<Arc<PodLabels>>,
}

/// Labels of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodLabels(Box<[(Box<str>, Box<str>)]>);

impl PodLabels {
    /// Those of `wanted` for which `value` gives one; nothing where it gives none.
    pub fn pick<'v>(
        wanted: &[Box<str>],
        value: impl Fn(&str) -> Option<&'v str>,
    ) -> Option<Arc<Self>> {
        let picked = wanted.iter();
        let picked = picked.filter_map(|name| Some((name.clone(), value(name)?.into())));
        let picked: Box<[_]> = picked.collect();
        (!picked.is_empty()).then(|| Arc::new(Self(picked)))
    }
}

impl Pod {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = self.v4.map(IpAddr::V4);
        v4.into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// Whether it has this address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses().any(|own| own == address)
    }

    /// The value of a label, of those that are kept.
    pub fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.as_ref()?.0.iter();
        labels
            .find(|(known, _)| **known == *name)
            .map(|(_, value)| &**value)
    }
}

/// A ServiceImport of the multi-cluster services API, for `multicluster` zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceImport {
    /// The namespace it lives in.
    pub namespace: Arc<str>,
    /// Its name within the namespace.
    pub name: Arc<str>,
    /// `spec.type` is Headless; otherwise ClusterSetIP.
    pub headless: bool,
    /// `spec.ips`.
    pub ips: Box<[IpAddr]>,
    /// `spec.ports`.
    pub ports: Arc<[Port]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_small() {
        // With an Arc's counts 80 octets, which is what jemalloc gives for anything above 64.
        assert!(size_of::<Pod>() <= 64, "{}", size_of::<Pod>());
    }
}
