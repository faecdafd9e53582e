//! The reduced object types: the fields of Kubernetes objects that are kept.
//!
//! Each field costs memory per Service, endpoint or pod of the whole cluster. Add one only when an
//! answer, a metric or a metadata value needs it, and document which. Strings that repeat across
//! objects are interned (`Arc<str>`, see `intern`); others are boxed without spare capacity.
//! Measured (`watch-cost`, see `tests/apiserver`): 10,000 Services with 50,000 endpoints take 17
//! MB, 150,000 Pods 25 MB more, and a relist of everything 1 MB for its duration.

use super::endpoint::{EndpointRef, Endpoints};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A Namespace. Its existence decides between NODATA and NXDOMAIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The name; Kubernetes requires lower case (RFC 1123 label).
    pub name: Arc<str>,
}

/// A Service of any type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The namespace it lives in.
    pub namespace: Arc<str>,
    /// Its name within the namespace.
    pub name: Arc<str>,
    /// The record types that answer for its name.
    pub kind: ServiceKind,
    /// `spec.clusterIPs`, or `spec.clusterIP` where that list is empty; none when headless.
    pub cluster_ips: Box<[IpAddr]>,
    /// `spec.externalName` as written; only of an ExternalName Service.
    pub external_name: Option<Box<str>>,
    /// `spec.ports` in their order.
    pub ports: Arc<[Port]>,
    /// Where it is reached from outside, for `k8s_external`; boxed as few Services have it.
    pub external: Option<Box<ExternalAddresses>>,
    /// For `lodestone explain`.
    pub revision: ObjectRevision,
}

/// When an object was created, and which of its versions was last seen.
#[derive(Debug, Default)]
pub struct ObjectRevision {
    /// `metadata.creationTimestamp`, in seconds of Unix time; 0 if unknown.
    pub created: u32,
    /// `metadata.resourceVersion`; 0 if unknown or not a number: etcd's revisions begin with 1. Updated in place by
    /// versions that change nothing else, so that they cause no change of the published state.
    version: AtomicU64,
}

impl ObjectRevision {
    /// From the object's metadata.
    pub fn new(created: u32, version: Option<u64>) -> Self {
        Self {
            created,
            version: version.unwrap_or_default().into(),
        }
    }

    /// The version that was last seen.
    pub fn version(&self) -> Option<u64> {
        // Read by itself, so no ordering is needed.
        let version = self.version.load(Ordering::Relaxed);
        (version > 0).then_some(version)
    }

    /// Takes the version of `later`.
    pub(super) fn follow(&self, later: &Self) {
        let version = later.version.load(Ordering::Relaxed);
        self.version.store(version, Ordering::Relaxed);
    }
}

impl Clone for ObjectRevision {
    fn clone(&self) -> Self {
        Self::new(self.created, self.version())
    }
}

/// Without the version: each write of an object has a new one, also where DNS has no use for what changed.
impl PartialEq for ObjectRevision {
    fn eq(&self, other: &Self) -> bool {
        self.created == other.created
    }
}

impl Eq for ObjectRevision {}

/// How a Service's name is answered. For DNS, NodePort and LoadBalancer are the same as ClusterIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    /// With its cluster IPs: ClusterIP, NodePort and LoadBalancer.
    ClusterIp,
    /// With the addresses of its ready endpoints: the first cluster IP is `None`.
    Headless,
    /// With a CNAME record (DNS specification section 2.5).
    ExternalName,
}

/// A Service's addresses outside the cluster: `spec.externalIPs` and the load balancer's ingress
/// points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalAddresses {
    /// Addresses, `externalIPs` first.
    pub addresses: Box<[IpAddr]>,
    /// Host names of ingress points that have no address.
    pub hostnames: Box<[Box<str>]>,
}

/// A port of a Service or of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The port's name; empty where it has none.
    pub name: Box<str>,
    /// The number. Absent in an EndpointSlice means all ports.
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
    /// The lower-case name, as in `_tcp` labels; empty for [`Self::Unstated`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unstated => "",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// An EndpointSlice: some of the endpoints of one Service. The Service need not exist: slices may
/// precede it or outlive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The namespace of the slice and of its Service.
    pub namespace: Arc<str>,
    /// The slice's own name.
    pub name: Box<str>,
    /// The owning Service: the label `kubernetes.io/service-name`. Empty if only a ServiceImport
    /// owns it.
    pub service: Arc<str>,
    /// The owning ServiceImport, for `multicluster` zones; boxed because few slices have one.
    pub import: Option<Box<ImportOrigin>>,
    /// Ports, common to all endpoints of the slice.
    pub ports: Arc<[Port]>,
    /// Endpoints, one per address, in the order of the object.
    pub endpoints: Endpoints,
}

impl EndpointSlice {
    /// The ready endpoints: only these appear in answers.
    pub fn ready(&self) -> impl Iterator<Item = EndpointRef<'_>> {
        self.endpoints.iter().filter(|endpoint| endpoint.ready)
    }

    /// Whether `self` and `other` produce the same answers. Endpoints that are not ready are kept
    /// but never answered.
    pub fn answers_like(&self, other: &Self) -> bool {
        self.service == other.service
            && self.import == other.import
            && self.ports == other.ports
            && self.ready().eq(other.ready())
    }
}

/// The origin of an EndpointSlice of the Multi-Cluster Services API (KEP-1645).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportOrigin {
    /// The ServiceImport: the label `multicluster.kubernetes.io/service-name`.
    pub service: Arc<str>,
    /// The exporting cluster: the label `multicluster.kubernetes.io/source-cluster`. Empty if the
    /// label is missing; its endpoints then have no names.
    pub cluster: Arc<str>,
}

/// A running Pod with an address; kept only with `pods verified`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The namespace it runs in.
    pub namespace: Arc<str>,
    /// The name, for metadata.
    pub name: Box<str>,
    /// From `status.podIPs` (or `podIP`), which has at most one address per family.
    pub v4: Option<Ipv4Addr>,
    /// See `v4`.
    pub v6: Option<Ipv6Addr>,
    /// Whether it has the addresses of its node, which pods of other namespaces may have too.
    pub host_network: bool,
    /// The labels that the configuration refers to, for metadata; shared by pods with equal ones.
    pub labels: Option<Arc<PodLabels>>,
}

/// Labels of a Pod: key and value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodLabels(Box<[(Box<str>, Box<str>)]>);

impl PodLabels {
    /// These labels; `None` if there are none.
    pub fn new(labels: impl Iterator<Item = (Box<str>, Box<str>)>) -> Option<Arc<Self>> {
        let labels: Box<[_]> = labels.collect();
        (!labels.is_empty()).then(|| Arc::new(Self(labels)))
    }

    /// Key and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The labels in `wanted` that `value` returns a value for; `None` if there are none.
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
    /// The addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = self.v4.map(IpAddr::V4);
        v4.into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// Whether the pod has this address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses().any(|own| own == address)
    }

    /// The value of a kept label.
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
    /// Whether `spec.type` is `Headless`; otherwise it is `ClusterSetIP`.
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
    fn a_service_takes_at_most_112_bytes() {
        // With the two counts of an Arc, the size class of 128 bytes.
        assert!(size_of::<Service>() <= 112, "{}", size_of::<Service>());
    }

    #[test]
    fn a_pod_takes_at_most_64_bytes() {
        // jemalloc's size classes above 64 bytes are 80 and 96: with the two counts of an Arc, 64
        // bytes take 80.
        assert!(size_of::<Pod>() <= 64, "{}", size_of::<Pod>());
    }
}
