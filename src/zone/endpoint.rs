//! Endpoint names, and the selection of a Service's endpoints for a query.

use std::{
    hash::{Hash, Hasher},
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::name_kind::{PortName, TopologyZone, bare};
use crate::cluster::{EndpointRef, EndpointSlice, Port};

/// Maximum length in bytes of an address in dashed form, including an appended `0`.
const DASHED: usize = 40;
/// Maximum length of a label in bytes (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// The name of an endpoint below its Service: exactly one (DNS specification section 2.4.1).
#[derive(Clone, Copy, Debug)]
pub enum EndpointName<'a> {
    /// Its hostname, or its pod's name.
    Text(&'a str),
    /// Its address in dashed form.
    Address(IpAddr),
}

impl<'a> EndpointName<'a> {
    /// The hostname; else, if `by_pod`, the pod's name if it is a valid label (pod names may be
    /// longer and contain dots); else the address.
    pub fn of(endpoint: EndpointRef<'a>, by_pod: bool) -> Self {
        let pod = || {
            let pod = endpoint.pod().filter(|_| by_pod);
            pod.filter(|pod| pod.len() <= MAX_LABEL && !pod.contains('.'))
        };
        endpoint
            .hostname()
            .or_else(pod)
            .map_or(Self::Address(endpoint.address), Self::Text)
    }

    /// The name as a label; `buffer` is used for addresses.
    pub fn label<'b>(self, buffer: &'b mut LabelBuffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Address(address) => dashed(address, &mut buffer.0),
        }
    }
}

impl PartialEq for EndpointName<'_> {
    /// Compares as labels: independent of the variant, and of case.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(other)) => one == other,
            (one, other) => {
                let (mut left, mut right) = (LabelBuffer::default(), LabelBuffer::default());
                let other = other.label(&mut right);
                one.label(&mut left).eq_ignore_ascii_case(other)
            }
        }
    }
}

impl Eq for EndpointName<'_> {}

impl Hash for EndpointName<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut buffer = LabelBuffer::default();
        let label = self.label(&mut buffer);
        let mut lower = [0; MAX_LABEL];
        let lower = &mut lower[..label.len().min(MAX_LABEL)];
        lower.copy_from_slice(&label[..lower.len()]);
        lower.make_ascii_lowercase();
        state.write(lower);
    }
}

/// A buffer for an address in dashed form.
pub struct LabelBuffer([u8; DASHED]);

impl Default for LabelBuffer {
    fn default() -> Self {
        Self([0; DASHED])
    }
}

/// Writes an address as a label, with dashes instead of dots or colons. A label must not end with a
/// dash (RFC 1123 section 2.1), so a trailing dash is followed by `0`, which does not change the
/// address.
fn dashed(address: IpAddr, buffer: &mut [u8; DASHED]) -> &[u8] {
    let v6 = match address {
        IpAddr::V4(v4) => return dashed_v4(v4.octets(), buffer),
        IpAddr::V6(v6) => v6,
    };
    let mut rest = buffer.as_mut_slice();
    write!(rest, "{v6}").expect("an address has at most 39 bytes");
    let left = rest.len();
    let mut length = DASHED - left;
    for byte in &mut buffer[..length] {
        if matches!(byte, b':' | b'.') {
            *byte = b'-';
        }
    }
    if buffer[length - 1] == b'-' {
        buffer[length] = b'0';
        length += 1;
    }
    &buffer[..length]
}

/// Four decimal numbers separated by dashes. Written by hand for speed: an answer may have a
/// thousand of them.
fn dashed_v4(octets: [u8; 4], buffer: &mut [u8; DASHED]) -> &[u8] {
    let mut length = 0;
    let mut put = |octet| {
        buffer[length] = octet;
        length += 1;
    };
    for (at, octet) in octets.into_iter().enumerate() {
        if at > 0 {
            put(b'-');
        }
        if octet >= 100 {
            put(b'0' + octet / 100);
        }
        if octet >= 10 {
            put(b'0' + octet / 10 % 10);
        }
        put(b'0' + octet % 10);
    }
    &buffer[..length]
}

/// Parses an address in dashed form: IPv4 if it has four parts, otherwise IPv6.
pub fn parse_dashed(label: &str) -> Option<IpAddr> {
    let mut buffer = [0; DASHED];
    let text = buffer.get_mut(..label.len())?;
    text.copy_from_slice(label.as_bytes());
    let dashes = label.bytes().filter(|octet| *octet == b'-').count();
    let is_v4 = dashes == 3 && !label.contains("--");
    let separator = if is_v4 { b'.' } else { b':' };
    for octet in text.iter_mut() {
        match octet {
            b'-' => *octet = separator,
            b':' | b'.' => return None,
            _ => {}
        }
    }
    let text = std::str::from_utf8(text).ok()?;
    if is_v4 {
        text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    } else {
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    }
}

/// A filter on a Service's ready endpoints.
#[derive(Clone, Copy)]
pub enum EndpointFilter<'q> {
    /// All.
    All,
    /// The endpoint with this name.
    Named(EndpointMatcher<'q>),
    /// The endpoints with this port.
    Port(PortName<'q>),
    /// The endpoint with this name, exported by this cluster.
    Cluster(&'q str, EndpointMatcher<'q>),
    /// The endpoints in this topology zone.
    Zone(TopologyZone<'q>),
}

/// Matches endpoints by a queried label.
#[derive(Clone, Copy)]
pub struct EndpointMatcher<'q> {
    label: &'q str,
    /// The address whose dashed form is exactly the label; other spellings do not exist.
    address: Option<IpAddr>,
}

impl<'q> EndpointMatcher<'q> {
    /// A matcher for this label.
    pub fn new(label: &'q str) -> Self {
        let exact = |address: &IpAddr| {
            let mut buffer = LabelBuffer::default();
            EndpointName::Address(*address).label(&mut buffer) == label.as_bytes()
        };
        Self {
            label,
            address: parse_dashed(label).filter(exact),
        }
    }

    /// Whether the endpoint has this name.
    pub fn matches(self, endpoint: EndpointRef<'_>, by_pod: bool) -> bool {
        match EndpointName::of(endpoint, by_pod) {
            EndpointName::Text(text) => text.eq_ignore_ascii_case(self.label),
            EndpointName::Address(address) => self.address == Some(address),
        }
    }
}

/// The ready endpoints that a query refers to.
#[derive(Clone, Copy)]
pub struct SelectedEndpoints<'a> {
    /// The Service's EndpointSlices.
    pub slices: &'a [Arc<EndpointSlice>],
    /// The filter on their endpoints.
    pub filter: EndpointFilter<'a>,
    /// Whether endpoints without a hostname are named by their pod.
    pub by_pod: bool,
    /// Whether endpoint names are below cluster names, as for a ServiceImport.
    pub imported: bool,
}

impl<'a> SelectedEndpoints<'a> {
    /// The endpoints in order, each with its slice.
    pub fn endpoints(self) -> impl Iterator<Item = (&'a EndpointSlice, EndpointRef<'a>)> {
        let slices = self
            .slices
            .iter()
            .filter(move |slice| self.has_slice(slice));
        slices.flat_map(move |slice| {
            let endpoints = slice.ready().filter(move |endpoint| self.has(*endpoint));
            endpoints.map(move |endpoint| (&**slice, endpoint))
        })
    }

    /// The same endpoints, rotated: starting at index `at` among all endpoints of the slices.
    /// Endpoints before it are skipped without inspection.
    pub fn endpoints_from(
        self,
        at: usize,
    ) -> impl Iterator<Item = (&'a EndpointSlice, EndpointRef<'a>)> {
        let (mut first, mut within) = (0, at);
        while let Some(slice) = self.slices.get(first)
            && within >= slice.endpoints.len()
        {
            within -= slice.endpoints.len();
            first += 1;
        }
        let (before, from) = self.slices.split_at(first);
        let (divided, behind) = from.split_at(from.len().min(1));
        let of = move |slices| Self { slices, ..self };
        let part = move |skipped, taken| {
            let slices = divided.iter().filter(move |slice| self.has_slice(slice));
            slices.flat_map(move |slice| {
                let endpoints = slice.endpoints.iter().skip(skipped).take(taken);
                let selected = endpoints.filter(move |it| it.ready && self.has(*it));
                selected.map(move |endpoint| (&**slice, endpoint))
            })
        };
        part(within, usize::MAX)
            .chain(of(behind).endpoints())
            .chain(of(before).endpoints())
            .chain(part(0, within))
    }

    /// Whether the slice may contain selected endpoints.
    fn has_slice(self, slice: &EndpointSlice) -> bool {
        match self.filter {
            EndpointFilter::Port(port) => slice.ports.iter().any(|it| port.is(it)),
            EndpointFilter::Cluster(cluster, _) => cluster_of(slice).eq_ignore_ascii_case(cluster),
            _ => true,
        }
    }

    /// Whether an endpoint of such a slice is selected, if it is ready.
    fn has(self, endpoint: EndpointRef<'_>) -> bool {
        match self.filter {
            EndpointFilter::Named(matcher) | EndpointFilter::Cluster(_, matcher) => {
                matcher.matches(endpoint, self.by_pod)
            }
            EndpointFilter::Zone(zone) => endpoint.zone().is_some_and(|own| zone.is(own)),
            _ => true,
        }
    }

    /// Upper bounds of the number of endpoints, and of pairs of endpoint and port.
    pub fn count(self) -> (usize, usize) {
        let slices = self.slices.iter();
        slices.fold((0, 0), |(endpoints, pairs), slice| {
            let length = slice.endpoints.len();
            (endpoints + length, pairs + length * slice.ports.len())
        })
    }

    /// The ports of a slice that the query refers to.
    pub fn ports(self, slice: &'a EndpointSlice) -> impl Iterator<Item = &'a Port> {
        slice.ports.iter().filter(move |port| match self.filter {
            EndpointFilter::Port(name) => name.is(port),
            _ => true,
        })
    }

    /// Number of pairs of endpoint and port, counting an endpoint without ports as one; stops at
    /// `limit`.
    pub fn pairs(self, limit: usize) -> usize {
        let mut pairs = 0;
        for (slice, _) in self.endpoints() {
            pairs += self.ports(slice).count().max(1);
            if pairs >= limit {
                break;
            }
        }
        pairs
    }
}

/// The exporting cluster of a ServiceImport's slice; empty if unknown.
pub fn cluster_of(slice: &EndpointSlice) -> &str {
    slice.import.as_ref().map_or("", |import| &import.cluster)
}

impl PortName<'_> {
    /// Whether it matches this port. Ports without a name have no port names; an unstated protocol
    /// is TCP, the Kubernetes default.
    pub fn is(self, port: &Port) -> bool {
        !port.name.is_empty()
            && port.name.eq_ignore_ascii_case(self.port)
            && protocol(port).eq_ignore_ascii_case(self.protocol)
    }
}

/// Whether the label is the protocol of a named port, so that port names exist below it.
pub fn is_protocol_of<'a>(label: &str, ports: impl IntoIterator<Item = &'a Port>) -> bool {
    let label = bare(label);
    ports
        .into_iter()
        .any(|port| !port.name.is_empty() && protocol(port).eq_ignore_ascii_case(label))
}

/// The lower-case protocol of a port; TCP if unstated.
pub fn protocol(port: &Port) -> &'static str {
    match port.protocol.as_str() {
        "" => "tcp",
        stated => stated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Endpoint;

    #[test]
    fn dashed_addresses_round_trip() {
        for (address, label) in [
            ("10.0.0.1", "10-0-0-1"),
            ("255.255.255.255", "255-255-255-255"),
            ("fd00::1", "fd00--1"),
            ("fd00::", "fd00--0"),
            ("::1", "--1"),
            (
                "1111:2222:3333:4444:5555:6666:7777:8888",
                "1111-2222-3333-4444-5555-6666-7777-8888",
            ),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let mut buffer = LabelBuffer::default();
            let written = EndpointName::Address(address).label(&mut buffer).to_vec();
            assert_eq!(written, label.as_bytes());
            assert_eq!(parse_dashed(label), Some(address));
        }
    }

    #[test]
    fn malformed_dashed_addresses_are_rejected() {
        for label in [
            "",
            "a",
            "10-0-0",
            "10-0-0-256",
            "10.0.0.1",
            "1-2-3-4-5",
            "fd00:--1",
            "010-0-0-1",
            "10-0--1",
            "fd00---1",
        ] {
            // `10-0--1` is the IPv6 address 10:0::1.
            let expected = (label == "10-0--1").then(|| "10:0::1".parse().unwrap());
            assert_eq!(parse_dashed(label), expected, "{label}");
        }
        assert_eq!(parse_dashed(&"1".repeat(63)), None);
    }

    #[test]
    fn an_endpoint_has_exactly_one_name() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let dotted = "web.0";
        let long = "x".repeat(64);
        for (hostname, pod, by_pod, name) in [
            (Some("web-0"), Some("pod"), true, "web-0"),
            (None, Some("pod"), true, "pod"),
            (None, Some("pod"), false, "10-0-0-1"),
            (None, Some(dotted), true, "10-0-0-1"),
            (None, Some(long.as_str()), true, "10-0-0-1"),
            (None, None, true, "10-0-0-1"),
        ] {
            let endpoint = Endpoint::new(address, true, hostname, pod, None);
            for label in ["web-0", "pod", "10-0-0-1", dotted] {
                let found = EndpointMatcher::new(label).matches(endpoint.to_ref(), by_pod);
                assert_eq!(found, label == name, "{label} for {name}");
            }
        }
    }

    #[test]
    fn endpoint_names_compare_as_labels() {
        let address = EndpointName::Address(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(address, EndpointName::Text("10-0-0-1"));
        assert_eq!(EndpointName::Text("Web"), EndpointName::Text("web"));
        assert_ne!(address, EndpointName::Text("web"));
    }
}
