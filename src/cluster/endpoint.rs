//! Endpoints: as they are told, as a slice keeps them, and as they are read.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// One address of one endpoint, as it is told: 40 bytes, 24 where the address is of IPv4, and its
/// names, where it has any, once on the heap.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint<A = IpAddr> {
    /// Where it is. Slices of address type FQDN are not kept: they are deprecated, and a name is
    /// no address.
    address: A,
    /// `conditions.ready`, absent meaning true. Those that are not ready stay, to explain answers
    /// that lack them.
    ready: bool,
    /// How many octets of `names` are the hostname; the rest is the pod's name.
    hostname_length: u8,
    /// A thin pointer: few endpoints have any.
    names: Option<Box<Box<str>>>,
    /// A thin pointer, 8 bytes and not 16; a cluster has a handful of zones.
    zone: Option<Arc<Box<str>>>,
}

impl Endpoint {
    /// An endpoint; empty names count as none.
    pub fn new(
        address: IpAddr,
        ready: bool,
        hostname: Option<&str>,
        pod: Option<&str>,
        zone: Option<&str>,
    ) -> Self {
        // A hostname is a label. One that is longer names nothing, and cannot be asked for.
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
    /// To be read.
    #[inline]
    pub fn seen(&self) -> SeenEndpoint<'_> {
        SeenEndpoint {
            address: self.address.into(),
            ready: self.ready,
            hostname_length: self.hostname_length,
            names: self.names.as_deref(),
            zone: self.zone.as_ref(),
        }
    }

    /// Gives the room of the pod's name back.
    fn forget_pod(&mut self) {
        let seen = self.seen();
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

/// The text behind one pointer; nothing where it is empty.
fn thin(text: &str) -> Option<Box<Box<str>>> {
    (!text.is_empty()).then(|| Box::new(text.into()))
}

impl<A: Copy + Into<IpAddr>> std::fmt::Debug for Endpoint<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.seen().fmt(f)
    }
}

/// An endpoint, to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SeenEndpoint<'a> {
    /// Where it is.
    pub address: IpAddr,
    /// Whether it is served.
    pub ready: bool,
    hostname_length: u8,
    // Looked into by those who ask for them.
    #[allow(clippy::borrowed_box)] // it would be looked into here
    names: Option<&'a Box<str>>,
    zone: Option<&'a Arc<Box<str>>>,
}

impl<'a> SeenEndpoint<'a> {
    /// `hostname`, which names it below its Service.
    #[inline]
    pub fn hostname(&self) -> Option<&'a str> {
        let hostname = self.names?.get(..self.hostname_length.into())?;
        (!hostname.is_empty()).then_some(hostname)
    }

    /// The name of the Pod behind it (`targetRef` of kind Pod), for `endpoint_pod_names`.
    #[inline]
    pub fn pod(&self) -> Option<&'a str> {
        let pod = self.names?.get(self.hostname_length.into()..)?;
        (!pod.is_empty()).then_some(pod)
    }

    /// The topology zone it runs in, for `zonal`.
    #[inline]
    pub fn zone(&self) -> Option<&'a str> {
        self.zone.map(|zone| &***zone)
    }
}

impl std::fmt::Debug for SeenEndpoint<'_> {
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

/// The endpoints of a slice, which has them of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Family);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Family {
    V4(Box<[Endpoint<Ipv4Addr>]>),
    /// Behind one more pointer, so that this is no larger than the other.
    Any(Box<Box<[Endpoint]>>),
}

impl Endpoints {
    /// All of them, in their order.
    #[inline]
    pub fn iter(&self) -> EndpointsIter<'_> {
        match &self.0 {
            Family::V4(all) => EndpointsIter::V4(all.iter()),
            Family::Any(all) => EndpointsIter::Any(all.iter()),
        }
    }

    /// How many there are, ready or not.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Family::V4(all) => all.len(),
            Family::Any(all) => all.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the room of the pods' names back.
    pub(super) fn forget_pods(&mut self) {
        match &mut self.0 {
            Family::V4(all) => all.iter_mut().for_each(Endpoint::forget_pod),
            Family::Any(all) => all.iter_mut().for_each(Endpoint::forget_pod),
        }
    }

    /// The zones' names, to put shared copies in their place.
    pub(super) fn each_zone(&mut self, each: impl FnMut(&mut Arc<Box<str>>)) {
        match &mut self.0 {
            Family::V4(all) => all
                .iter_mut()
                .filter_map(|it| it.zone.as_mut())
                .for_each(each),
            Family::Any(all) => all
                .iter_mut()
                .filter_map(|it| it.zone.as_mut())
                .for_each(each),
        }
    }
}

impl From<Vec<Endpoint>> for Endpoints {
    fn from(all: Vec<Endpoint>) -> Self {
        if all.iter().any(|it| it.address.is_ipv6()) {
            return Self(Family::Any(Box::new(all.into())));
        }
        let narrow = all.into_iter().filter_map(|it| match it.address {
            IpAddr::V4(address) => Some(it.with_address(address)),
            IpAddr::V6(_) => None,
        });
        Self(Family::V4(narrow.collect()))
    }
}

impl FromIterator<Endpoint> for Endpoints {
    fn from_iter<I: IntoIterator<Item = Endpoint>>(all: I) -> Self {
        all.into_iter().collect::<Vec<_>>().into()
    }
}

impl<'a> IntoIterator for &'a Endpoints {
    type Item = SeenEndpoint<'a>;
    type IntoIter = EndpointsIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Goes through [`Endpoints`].
#[derive(Clone, Debug)]
pub enum EndpointsIter<'a> {
    /// Of IPv4.
    V4(std::slice::Iter<'a, Endpoint<Ipv4Addr>>),
    /// Of either family.
    Any(std::slice::Iter<'a, Endpoint>),
}

impl<'a> Iterator for EndpointsIter<'a> {
    type Item = SeenEndpoint<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::V4(all) => all.next().map(Endpoint::seen),
            Self::Any(all) => all.next().map(Endpoint::seen),
        }
    }

    /// Without a look at those before it.
    #[inline]
    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        match self {
            Self::V4(all) => all.nth(n).map(Endpoint::seen),
            Self::Any(all) => all.nth(n).map(Endpoint::seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_small_and_keeps_its_names() {
        let narrow = size_of::<Endpoint<Ipv4Addr>>();
        assert!(narrow <= 24, "{narrow}");
        assert!(size_of::<Endpoints>() <= 16, "{}", size_of::<Endpoints>());
        let address = IpAddr::from([10, 0, 0, 1]);
        let full = Endpoint::new(address, true, Some("web-0"), Some("pod-a"), Some("zone-b"));
        let bare = Endpoint::new(address, true, None, Some("pod-a"), Some(""));
        let names = |it: SeenEndpoint<'_>| {
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
                .seen()
                .hostname(),
            None
        );
    }
}
