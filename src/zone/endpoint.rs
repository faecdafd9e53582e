//! Endpoints and their names: which of a Service's endpoints a question is about, and what each
//! is called.

use std::{
    hash::{Hash, Hasher},
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::form::{PortName, TopologyZone, bare};
use crate::cluster::{EndpointRef, EndpointSlice, Port};

/// Octets of the longest address in dashes, with the `0` behind it.
const DASHED: usize = 40;
/// Octets of a label at most.
const MAX_LABEL: usize = 63;

/// What an endpoint is called below its Service; exactly one name each.
#[derive(Clone, Copy, Debug)]
pub enum EndpointName<'a> {
    /// Its hostname, or its pod's name.
    Text(&'a str),
    /// Its address, in dashes.
    Address(IpAddr),
}

impl<'a> EndpointName<'a> {
    /// The hostname; else, where `by_pod`, the pod's name if that is one label (names of pods may
    /// be longer, and may have dots); else the address.
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

    /// The name as a label, written into `buffer` where it is not at hand.
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
    /// Names are equal as labels are: whatever they were made from, whatever the case.
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

/// Room for an address in dashes.
pub struct LabelBuffer([u8; DASHED]);

impl Default for LabelBuffer {
    fn default() -> Self {
        Self([0; DASHED])
    }
}

/// An address as a label: dots or colons become dashes. A label does not end in a dash, so one
/// that would gets a `0` behind it, which leaves the address what it is.
fn dashed(address: IpAddr, buffer: &mut [u8; DASHED]) -> &[u8] {
    let v6 = match address {
        IpAddr::V4(v4) => return dashed_v4(v4.octets(), buffer),
        IpAddr::V6(v6) => v6,
    };
    let mut room = buffer.as_mut_slice();
    write!(room, "{v6}").expect("an address has at most 39 octets");
    let left = room.len();
    let mut length = DASHED - left;
    for octet in &mut buffer[..length] {
        if matches!(octet, b':' | b'.') {
            *octet = b'-';
        }
    }
    if buffer[length - 1] == b'-' {
        buffer[length] = b'0';
        length += 1;
    }
    &buffer[..length]
}

/// Four numbers with dashes between them. Written by hand: a reply may have a thousand of them.
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

/// The address that a label spells in dashes: of four numbers, or else an IPv6 address.
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

/// Which ready endpoints of a Service are meant.
#[derive(Clone, Copy)]
pub enum Only<'q> {
    /// All.
    All,
    /// Those of this name.
    Named(Sought<'q>),
    /// Those that have this port.
    Port(PortName<'q>),
    /// Those of this cluster that have this name.
    Member(&'q str, Sought<'q>),
    /// Those in this topology zone.
    Near(TopologyZone<'q>),
}

/// A name that an endpoint is sought by.
#[derive(Clone, Copy)]
pub struct Sought<'q> {
    label: &'q str,
    /// The address that has exactly this name; other spellings of it name nothing.
    address: Option<IpAddr>,
}

impl<'q> Sought<'q> {
    /// By this label.
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

    /// Whether this endpoint has the name.
    pub fn names(self, endpoint: EndpointRef<'_>, by_pod: bool) -> bool {
        match EndpointName::of(endpoint, by_pod) {
            EndpointName::Text(text) => text.eq_ignore_ascii_case(self.label),
            EndpointName::Address(address) => self.address == Some(address),
        }
    }
}

/// The ready endpoints that a question is about.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    /// The Service's slices.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Which of their endpoints.
    pub only: Only<'a>,
    /// Whether pods' names are endpoints' names.
    pub by_pod: bool,
    /// Whether their names stand below those of their clusters, as a ServiceImport's do.
    pub imported: bool,
}

impl<'a> Selection<'a> {
    /// The endpoints, slice by slice, each with its slice.
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

    /// The same endpoints, from number `at` of all that the slices hold to the last, and from the
    /// first to there. What stands before it is not looked at.
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
                let meant = endpoints.filter(move |it| it.ready && self.has(*it));
                meant.map(move |endpoint| (&**slice, endpoint))
            })
        };
        part(within, usize::MAX)
            .chain(of(behind).endpoints())
            .chain(of(before).endpoints())
            .chain(part(0, within))
    }

    /// Whether a slice may hold endpoints that are meant.
    fn has_slice(self, slice: &EndpointSlice) -> bool {
        match self.only {
            Only::Port(port) => slice.ports.iter().any(|it| port.is(it)),
            Only::Member(cluster, _) => cluster_of(slice).eq_ignore_ascii_case(cluster),
            _ => true,
        }
    }

    /// Whether an endpoint of such a slice is meant, if it is ready.
    fn has(self, endpoint: EndpointRef<'_>) -> bool {
        match self.only {
            Only::Named(sought) | Only::Member(_, sought) => sought.names(endpoint, self.by_pod),
            Only::Near(zone) => endpoint.zone().is_some_and(|own| zone.is(own)),
            _ => true,
        }
    }

    /// How many endpoints there are at most, and how many pairs of an endpoint and a port.
    pub fn count(self) -> (usize, usize) {
        let slices = self.slices.iter();
        slices.fold((0, 0), |(endpoints, pairs), slice| {
            let length = slice.endpoints.len();
            (endpoints + length, pairs + length * slice.ports.len())
        })
    }

    /// The ports of a slice that the question is about.
    pub fn ports(self, slice: &'a EndpointSlice) -> impl Iterator<Item = &'a Port> {
        slice.ports.iter().filter(move |port| match self.only {
            Only::Port(name) => name.is(port),
            _ => true,
        })
    }

    /// How many pairs of an endpoint and a port there are, where an endpoint without ports counts
    /// as one pair; counted up to `limit`, or a little more.
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

/// The cluster that a slice of a ServiceImport comes from; empty where that is not said.
pub fn cluster_of(slice: &EndpointSlice) -> &str {
    slice.import.as_ref().map_or("", |import| &import.cluster)
}

impl PortName<'_> {
    /// Whether it names this port. A port without a name has none that could be asked for, and a
    /// protocol that is not stated is TCP, as Kubernetes has it.
    pub fn is(self, port: &Port) -> bool {
        !port.name.is_empty()
            && port.name.eq_ignore_ascii_case(self.port)
            && protocol(port).eq_ignore_ascii_case(self.protocol)
    }
}

/// Whether names of ports stand below this label: it is the protocol of one that has a name.
pub fn is_protocol_of<'a>(label: &str, ports: impl IntoIterator<Item = &'a Port>) -> bool {
    let label = bare(label);
    ports
        .into_iter()
        .any(|port| !port.name.is_empty() && protocol(port).eq_ignore_ascii_case(label))
}

/// The protocol of a port, in lower case: one that is not stated is TCP.
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
    fn addresses_are_labels_and_back() {
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
    fn other_labels_are_no_addresses() {
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
    fn an_endpoint_has_one_name() {
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
                let found = Sought::new(label).names(endpoint.to_ref(), by_pod);
                assert_eq!(found, label == name, "{label} for {name}");
            }
        }
    }

    #[test]
    fn equal_labels_are_equal_names() {
        let address = EndpointName::Address(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(address, EndpointName::Text("10-0-0-1"));
        assert_eq!(EndpointName::Text("Web"), EndpointName::Text("web"));
        assert_ne!(address, EndpointName::Text("web"));
    }
}
