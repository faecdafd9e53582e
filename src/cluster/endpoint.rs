//! Endpoints: the owned form, the packed form in a slice, and the borrowed view.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// One address of one endpoint: 40 bytes, or 24 with an IPv4 address, plus one heap allocation for
/// its names if it has any.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint<A = IpAddr> {
    /// The address. Slices with `addressType: FQDN` are not kept: the type is deprecated.
    address: A,
    /// `conditions.ready`; absent means true. Endpoints that are not ready are kept so that a
    /// denial can name the reason.
    ready: bool,
    /// Length in bytes of the hostname in `names`; the rest is the pod's name.
    hostname_length: u8,
    /// A thin pointer (8 bytes): few endpoints have names.
    names: Option<Box<Box<str>>>,
    /// A thin pointer (8 bytes instead of 16); a cluster has a handful of zones.
    zone: Option<Arc<Box<str>>>,
}

impl Endpoint {
    /// An endpoint; empty names are treated as absent.
    pub fn new(
        address: IpAddr,
        ready: bool,
        hostname: Option<&str>,
        pod: Option<&str>,
        zone: Option<&str>,
    ) -> Self {
        // A hostname is one label, at most 63 bytes (RFC 1035 section 2.3.4). A longer one cannot
        // be queried.
        let hostname = hostname.filter(|name| name.len() <= 63).unwrap_or_default();
        Self {
            address,
            ready,
            hostname_length: u8::try_from(hostname.len()).unwrap_or_default(),
            names: thin(&[hostname, pod.unwrap_or_default()].concat()),
            zone: zone
                .filter(|zone| !zone.is_empty())
                .map(|zone| Arc::new(zone.into())),
        }
    }
}

impl<A: Copy + Into<IpAddr>> Endpoint<A> {
    /// A borrowed view.
    #[inline]
    pub fn to_ref(&self) -> EndpointRef<'_> {
        EndpointRef {
            address: self.address.into(),
            ready: self.ready,
            hostname_length: self.hostname_length,
            names: self.names.as_deref(),
            zone: self.zone.as_ref(),
        }
    }

    /// Drops the pod's name and frees its memory.
    fn forget_pod(&mut self) {
        let seen = self.to_ref();
        if seen.pod().is_some() {
            self.names = thin(seen.hostname().unwrap_or_default());
        }
    }

    fn with_address<B>(self, address: B) -> Endpoint<B> {
        Endpoint {
            address,
            ready: self.ready,
            hostname_length: self.hostname_length,
            names: self.names,
            zone: self.zone,
        }
    }
}

/// The text behind a thin pointer; `None` if it is empty.
fn thin(text: &str) -> Option<Box<Box<str>>> {
    (!text.is_empty()).then(|| Box::new(text.into()))
}

impl<A: Copy + Into<IpAddr>> std::fmt::Debug for Endpoint<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_ref().fmt(f)
    }
}

/// A borrowed view of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EndpointRef<'a> {
    /// The address.
    pub address: IpAddr,
    /// Whether it is ready, and so part of answers.
    pub ready: bool,
    hostname_length: u8,
    // Dereferenced by the accessors only.
    #[allow(clippy::borrowed_box)] // a plain &str would dereference it here
    names: Option<&'a Box<str>>,
    zone: Option<&'a Arc<Box<str>>>,
}

impl<'a> EndpointRef<'a> {
    /// `hostname`: the endpoint's label below its Service (DNS specification section 2.4.1).
    #[inline]
    pub fn hostname(&self) -> Option<&'a str> {
        let hostname = self.names?.get(..self.hostname_length.into())?;
        (!hostname.is_empty()).then_some(hostname)
    }

    /// The name of its Pod (`targetRef` of kind Pod), for `endpoint_pod_names`.
    #[inline]
    pub fn pod(&self) -> Option<&'a str> {
        let pod = self.names?.get(self.hostname_length.into()..)?;
        (!pod.is_empty()).then_some(pod)
    }

    /// The topology zone, for `zonal`.
    #[inline]
    pub fn zone(&self) -> Option<&'a str> {
        self.zone.map(|zone| &***zone)
    }
}

impl std::fmt::Debug for EndpointRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.address)
            .field("ready", &self.ready)
            .field("hostname", &self.hostname())
            .field("pod", &self.pod())
            .field("zone", &self.zone())
            .finish()
    }
}

/// The endpoints of an EndpointSlice, which has one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Storage);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Storage {
    V4(Box<[Endpoint<Ipv4Addr>]>),
    /// Doubly boxed, so that this variant is no larger than the other.
    Any(Box<Box<[Endpoint]>>),
}

impl Endpoints {
    /// All endpoints, in the order of the object.
    #[inline]
    pub fn iter(&self) -> EndpointsIter<'_> {
        match &self.0 {
            Storage::V4(all) => EndpointsIter::V4(all.iter()),
            Storage::Any(all) => EndpointsIter::Any(all.iter()),
        }
    }

    /// Number of endpoints, ready or not.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Storage::V4(all) => all.len(),
            Storage::Any(all) => all.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the pods' names and frees their memory.
    pub(super) fn forget_pods(&mut self) {
        match &mut self.0 {
            Storage::V4(all) => all.iter_mut().for_each(Endpoint::forget_pod),
            Storage::Any(all) => all.iter_mut().for_each(Endpoint::forget_pod),
        }
    }

    /// Visits the zone names, to replace them with interned ones.
    pub(super) fn each_zone(&mut self, each: impl FnMut(&mut Arc<Box<str>>)) {
        match &mut self.0 {
            Storage::V4(all) => all
                .iter_mut()
                .filter_map(|it| it.zone.as_mut())
                .for_each(each),
            Storage::Any(all) => all
                .iter_mut()
                .filter_map(|it| it.zone.as_mut())
                .for_each(each),
        }
    }
}

impl From<Vec<Endpoint>> for Endpoints {
    fn from(all: Vec<Endpoint>) -> Self {
        if all.iter().any(|it| it.address.is_ipv6()) {
            return Self(Storage::Any(Box::new(all.into())));
        }
        let narrow = all.into_iter().filter_map(|it| match it.address {
            IpAddr::V4(address) => Some(it.with_address(address)),
            IpAddr::V6(_) => None,
        });
        Self(Storage::V4(narrow.collect()))
    }
}

impl FromIterator<Endpoint> for Endpoints {
    fn from_iter<I: IntoIterator<Item = Endpoint>>(all: I) -> Self {
        all.into_iter().collect::<Vec<_>>().into()
    }
}

impl<'a> IntoIterator for &'a Endpoints {
    type Item = EndpointRef<'a>;
    type IntoIter = EndpointsIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterator over [`Endpoints`].
#[derive(Clone, Debug)]
pub enum EndpointsIter<'a> {
    /// IPv4 only.
    V4(std::slice::Iter<'a, Endpoint<Ipv4Addr>>),
    /// Of either family.
    Any(std::slice::Iter<'a, Endpoint>),
}

impl<'a> Iterator for EndpointsIter<'a> {
    type Item = EndpointRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::V4(all) => all.next().map(Endpoint::to_ref),
            Self::Any(all) => all.next().map(Endpoint::to_ref),
        }
    }

    /// Does not visit the endpoints before it.
    #[inline]
    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        match self {
            Self::V4(all) => all.nth(n).map(Endpoint::to_ref),
            Self::Any(all) => all.nth(n).map(Endpoint::to_ref),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_endpoint_takes_24_bytes_and_keeps_its_names() {
        let narrow = size_of::<Endpoint<Ipv4Addr>>();
        assert!(narrow <= 24, "{narrow}");
        assert!(size_of::<Endpoints>() <= 16, "{}", size_of::<Endpoints>());
        let address = IpAddr::from([10, 0, 0, 1]);
        let full = Endpoint::new(address, true, Some("web-0"), Some("pod-a"), Some("zone-b"));
        let bare = Endpoint::new(address, true, None, Some("pod-a"), Some(""));
        let names = |it: EndpointRef<'_>| {
            [it.hostname(), it.pod(), it.zone()].map(|name| name.map(str::to_owned))
        };
        let text = |name: &str| Some(name.to_owned());
        let expected = [
            [text("web-0"), text("pod-a"), text("zone-b")],
            [None, text("pod-a"), None],
        ];
        let v6 = Endpoint::new(IpAddr::from([0; 16]), false, None, None, None);
        for others in [vec![], vec![v6]] {
            let all = [full.clone(), bare.clone()]
                .into_iter()
                .chain(others.clone());
            let mut all: Endpoints = all.collect();
            assert_eq!(all.iter().count(), 2 + others.len());
            assert!(all.iter().take(2).map(names).eq(expected.clone()));
            all.forget_pods();
            let forgotten = expected
                .clone()
                .map(|[hostname, _, zone]| [hostname, None, zone]);
            assert!(all.iter().take(2).map(names).eq(forgotten));
        }
        let long = "x".repeat(64);
        assert_eq!(
            Endpoint::new(address, true, Some(&long), None, None)
                .to_ref()
                .hostname(),
            None
        );
    }
}
