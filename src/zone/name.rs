//! The grammar of names (Kubernetes DNS specification 1.1.0, section 2), parsed from the right.
//! Independent of the objects that exist.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::name_kind::{NameKind, NameScope, PIN, PREFER, PortName, TopologyZone, ZONAL, bare};
use crate::wire::{Name, NameRef};

/// Maximum number of labels: 127 of one byte, each with its length byte, and the root.
const MAX_LABELS: usize = 127;

/// A name split into labels in place, once per query.
pub struct SplitName<'q> {
    lower: &'q [u8],
    spelled: NameRef<'q>,
    /// The offset of each label, and after the last one that of the root label.
    starts: [u8; MAX_LABELS + 1],
    count: usize,
}

impl<'q> SplitName<'q> {
    /// Splits a name, given as spelled and in lower case.
    pub fn new(spelled: &'q Name, lower: &'q Name) -> Self {
        let bytes = lower.as_wire();
        let mut starts = [0; MAX_LABELS + 1];
        let mut count = 0;
        let mut at = 0;
        while bytes[usize::from(at)] > 0 {
            at += bytes[usize::from(at)] + 1;
            count += 1;
            starts[count] = at;
        }
        Self {
            lower: bytes,
            spelled: spelled.as_ref(),
            starts,
            count,
        }
    }

    /// The label at `index` from the left, in lower case.
    fn label(&self, index: usize) -> &'q [u8] {
        let (start, end) = (self.starts[index], self.starts[index + 1]);
        &self.lower[usize::from(start) + 1..usize::from(end)]
    }

    /// Number of labels left of `zone`; `None` if the name is not at or under it.
    fn left_of(&self, zone: &ServedZone) -> Option<usize> {
        let left = self.count.checked_sub(zone.label_count)?;
        let cut = usize::from(self.starts[left]);
        (self.lower[cut..] == *zone.name.as_wire()).then_some(left)
    }
}

/// A served zone.
#[derive(Clone, Debug)]
pub struct ServedZone {
    name: Name,
    tail: Tail,
    label_count: usize,
    content: ZoneContent,
    /// Whether it contains ServiceImports instead of Services.
    multicluster: bool,
}

/// Up to 8 bytes at the end of a name, without the root label, for a fast suffix test.
#[derive(Clone, Copy, Debug)]
struct Tail {
    bytes: u64,
    bits: u32,
}

impl Tail {
    /// The tail of a lower-case name.
    fn of(name: &Name) -> Self {
        let bytes = name.as_wire();
        let bytes = &bytes[..bytes.len() - 1];
        match bytes.last_chunk() {
            Some(last) => Self {
                bytes: u64::from_be_bytes(*last),
                bits: 64,
            },
            None => Self {
                bytes: bytes.iter().fold(0, |tail, &it| tail << 8 | u64::from(it)),
                bits: 8 * u32::try_from(bytes.len()).expect("less than eight"),
            },
        }
    }

    /// Whether a name with this tail may be a suffix of one with the tail `other`.
    fn ends(self, other: Self) -> bool {
        let differ = self.bytes ^ other.bytes;
        // Compares only the bytes of the shorter tail: none for the root.
        self.bits <= other.bits && differ.checked_shl(64 - self.bits).unwrap_or(0) == 0
    }
}

/// The names that a zone can contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ZoneContent {
    /// Names of Services and pods.
    Forward,
    /// Reverse names: the zone is at or under `in-addr.arpa` or `ip6.arpa`.
    Reverse,
    /// Both: the zone is above `in-addr.arpa` and `ip6.arpa`.
    Both,
}

impl ServedZone {
    /// The zone of this name.
    pub fn new(name: &Name) -> Self {
        let lower = name.to_lower();
        let content = if is_reverse(lower.as_ref()) {
            ZoneContent::Reverse
        } else if ARPA.as_slice().ends_with(lower.as_wire()) {
            ZoneContent::Both
        } else {
            ZoneContent::Forward
        };
        Self {
            tail: Tail::of(&lower),
            name: lower,
            label_count: lower.as_ref().label_count(),
            content,
            multicluster: false,
        }
    }

    /// The name, in lower case.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether it contains ServiceImports.
    pub fn is_multicluster(&self) -> bool {
        self.multicluster
    }

    /// Whether it contains only reverse names.
    pub fn is_reverse(&self) -> bool {
        self.content == ZoneContent::Reverse
    }
}

/// `arpa.`
const ARPA: [u8; 6] = *b"\x04arpa\x00";
const IN_ADDR: &[u8] = b"\x07in-addr\x04arpa\x00";
const IP6: &[u8] = b"\x03ip6\x04arpa\x00";

/// Whether a name in lower case is at or under `in-addr.arpa` or `ip6.arpa`.
fn is_reverse(name: NameRef<'_>) -> bool {
    [IN_ADDR, IP6].iter().any(|root| {
        let root = NameRef::from_wire(root).expect("the constants are names");
        name.is_under(root)
    })
}

/// The zones of a plugin.
#[derive(Clone, Debug)]
pub struct Zones {
    /// Sorted by number of labels, descending: the first match is the most specific.
    list: Box<[ServedZone]>,
    primary: Name,
}

impl Zones {
    /// The zones of these names; `None` if all are reverse zones, so that Services could not be
    /// named.
    pub fn new(names: &[Name]) -> Option<Self> {
        Self::with_imports(names, &[])
    }

    /// The zones of `names`, of which those in `imports` contain ServiceImports.
    pub fn with_imports(names: &[Name], imports: &[Name]) -> Option<Self> {
        let mut list: Vec<ServedZone> = names.iter().map(ServedZone::new).collect();
        for zone in &mut list {
            zone.multicluster = imports.iter().any(|name| name.to_lower() == zone.name);
        }
        let mut naming = list.iter().filter(|zone| !zone.is_reverse());
        let first = naming.clone().next()?.name;
        // PTR records must not point into multicluster zones: Services have no names there.
        let primary = naming
            .find(|zone| !zone.multicluster)
            .map_or(first, |zone| zone.name);
        list.sort_by_key(|zone| std::cmp::Reverse(zone.label_count));
        Some(Self {
            list: list.into(),
            primary,
        })
    }

    /// The first configured zone that contains Services: the target of PTR records.
    pub fn primary(&self) -> &Name {
        &self.primary
    }

    /// Whether the zone of this name, in any case, contains ServiceImports.
    pub fn is_multicluster(&self, zone: NameRef<'_>) -> bool {
        let is = |it: &&ServedZone| it.name.as_ref().eq_ignore_case(zone);
        self.list.iter().find(is).is_some_and(|it| it.multicluster)
    }

    /// All zones, most labels first.
    pub fn iter(&self) -> impl Iterator<Item = &ServedZone> {
        self.list.iter()
    }

    /// Whether a lower-case name may be in one of the zones. Rejects most other names without
    /// splitting them.
    pub fn may_hold(&self, lower: &Name) -> bool {
        let tail = Tail::of(lower);
        self.list.iter().any(|zone| zone.tail.ends(tail))
    }

    /// The most specific zone that contains the name.
    pub fn find<'z, 'q>(&'z self, labels: &'z SplitName<'q>) -> Option<ZoneMatch<'z, 'q>> {
        self.list.iter().find_map(|zone| {
            let left = labels.left_of(zone)?;
            Some(ZoneMatch { zone, labels, left })
        })
    }
}

/// A name matched with its zone.
pub struct ZoneMatch<'z, 'q> {
    zone: &'z ServedZone,
    labels: &'z SplitName<'q>,
    /// Number of labels left of the zone.
    left: usize,
}

impl<'z, 'q> ZoneMatch<'z, 'q> {
    /// The zone.
    pub fn zone(&self) -> &'z ServedZone {
        self.zone
    }

    /// The zone, in the name's spelling.
    pub fn suffix(&self) -> NameRef<'q> {
        let cut = usize::from(self.labels.starts[self.left]);
        NameRef::from_wire(&self.labels.spelled.as_wire()[cut..])
            .expect("a name cut between labels is a name")
    }

    /// Parses the name.
    pub fn kind(&self) -> NameKind<'q> {
        let Some(adjacent) = self.left_of_zone(0) else {
            return NameKind::Apex;
        };
        match (adjacent, self.left) {
            (b"dns", 1) => return NameKind::Empty,
            (b"dns", 2) if self.left_of_zone(1) == Some(b"ns") => return NameKind::NameServer,
            (b"dns-version", 1) => return NameKind::Version,
            _ => {}
        }
        self.by_content(|| self.named(adjacent))
    }

    /// Parses a name of a `k8s_external` zone: namespaces are directly below it, and the fixed
    /// names below `apex`.
    pub fn external_kind(&self, apex: &[u8]) -> NameKind<'q> {
        match (self.left_of_zone(0), self.left_of_zone(1)) {
            (None, _) => NameKind::Apex,
            (Some(adjacent), None) if adjacent == apex => NameKind::Empty,
            (Some(adjacent), Some(b"ns1")) if adjacent == apex && self.left == 2 => {
                NameKind::NameServer
            }
            (Some(adjacent), _) if adjacent == apex => NameKind::Unknown,
            _ => self.by_content(|| self.in_namespaces(0)),
        }
    }

    /// Parses the name by the zone's content; `named` parses names of Services and pods.
    fn by_content(&self, named: impl Fn() -> NameKind<'q>) -> NameKind<'q> {
        match self.zone.content {
            ZoneContent::Forward => named(),
            ZoneContent::Reverse => self.reverse(),
            ZoneContent::Both => match self.reverse() {
                NameKind::Unknown => named(),
                reverse => reverse,
            },
        }
    }

    fn named(&self, adjacent: &[u8]) -> NameKind<'q> {
        match (adjacent, self.left) {
            (b"svc" | b"pod" | b"why", 1) => NameKind::Empty,
            (b"svc", _) => self.in_namespaces(1),
            (b"pod", 2) => NameKind::PodNamespace(self.text(1)),
            (b"pod", 3) => NameKind::Pod {
                namespace: self.text(1),
                label: self.text(2),
            },
            (b"why", _) => NameKind::Explained,
            _ => NameKind::Unknown,
        }
    }

    /// The name left of `why.ZONE`, as spelled, for [`NameKind::Explained`].
    pub fn explained(&self) -> Option<Name> {
        let end = usize::from(self.labels.starts[self.left.checked_sub(1)?]);
        let mut wire = self.labels.spelled.as_wire()[..end].to_vec();
        wire.push(0);
        Some(NameRef::from_wire(&wire).ok()?.to_name())
    }

    /// Parses a namespace, whose label is `index` labels left of the zone, or a Service in it.
    fn in_namespaces(&self, index: usize) -> NameKind<'q> {
        let text = |further| self.text(index + further);
        let zonal = self.left_of_zone(index + 2) == Some(ZONAL);
        let scope = match (self.left - index, text(3)) {
            (1, _) => return NameKind::Namespace(text(0)),
            _ if self.zone.multicluster => return self.import(index),
            (2, _) => NameScope::All,
            (3, _) => NameScope::Endpoint(text(2)),
            (4, PIN | PREFER) if zonal => NameScope::ZonalParent,
            (4, port) => NameScope::Port(PortName {
                protocol: bare(text(2)),
                port: bare(port),
            }),
            (_, word @ (PIN | PREFER)) if zonal => {
                let end = self.labels.starts[self.left - index - 4];
                NameScope::Zonal {
                    zone: TopologyZone::new(&self.labels.lower[..usize::from(end)]),
                    fallback: word == PREFER,
                }
            }
            _ => return NameKind::Unknown,
        };
        NameKind::Service {
            namespace: text(0),
            service: text(1),
            scope,
        }
    }

    /// Parses a name of a ServiceImport: endpoint names are below cluster names.
    fn import(&self, index: usize) -> NameKind<'q> {
        let text = |further| self.text(index + further);
        let scope = match (self.left - index, text(2), text(3)) {
            (2, ..) => NameScope::All,
            (3, label, _) => NameScope::Endpoint(label),
            (4, protocol, port) if protocol.starts_with('_') || port.starts_with('_') => {
                NameScope::Port(PortName {
                    protocol: bare(protocol),
                    port: bare(port),
                })
            }
            (4, cluster, endpoint) => NameScope::ClusterEndpoint { cluster, endpoint },
            _ => return NameKind::Unknown,
        };
        NameKind::ServiceImport {
            namespace: text(0),
            import: text(1),
            scope,
        }
    }

    fn text(&self, index: usize) -> &'q str {
        self.left_of_zone(index).map(text).unwrap_or_default()
    }

    /// Parses the full name, including the zone, as a reverse name of an address or a block.
    fn reverse(&self) -> NameKind<'q> {
        let labels = self.labels;
        let Some(left) = labels.count.checked_sub(2) else {
            return NameKind::Unknown;
        };
        let digits = (0..left).rev().map(|index| labels.label(index));
        let cut = usize::from(labels.starts[left]);
        let network = match &labels.lower[cut..] {
            IN_ADDR => v4_network(digits),
            IP6 => v6_network(digits),
            _ => None,
        };
        network.map_or(NameKind::Unknown, NameKind::Address)
    }

    /// The label `index` labels left of the zone.
    pub fn left_of_zone(&self, index: usize) -> Option<&'q [u8]> {
        let index = self.left.checked_sub(index + 1)?;
        Some(self.labels.label(index))
    }
}

/// A label as a string. Invalid UTF-8 becomes empty, which no object is named.
fn text(label: &[u8]) -> &str {
    std::str::from_utf8(label).unwrap_or_default()
}

/// The IPv4 block with these bytes as prefix (RFC 1035 section 3.5).
fn v4_network<'l>(labels: impl Iterator<Item = &'l [u8]>) -> Option<IpNet> {
    let mut bytes = [0; 4];
    let mut count = 0;
    for label in labels {
        let plain = label.iter().all(u8::is_ascii_digit) && (label.len() == 1 || label[0] != b'0');
        *bytes.get_mut(count)? = plain.then(|| text(label).parse().ok()).flatten()?;
        count += 1;
    }
    let prefix = u8::try_from(count * 8).ok()?;
    Some(Ipv4Net::new(Ipv4Addr::from(bytes), prefix).ok()?.into())
}

/// The IPv6 block with these nibbles as prefix (RFC 3596 section 2.5).
fn v6_network<'l>(labels: impl Iterator<Item = &'l [u8]>) -> Option<IpNet> {
    let mut bits = 0_u128;
    let mut prefix = 0_u8;
    for label in labels {
        let &[digit] = label else { return None };
        let nibble = char::from(digit).to_digit(16)?;
        prefix += 4;
        bits |= u128::from(nibble) << 128_u8.checked_sub(prefix)?;
    }
    Some(Ipv6Net::new(Ipv6Addr::from(bits), prefix).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones {
        let names = [
            "10.in-addr.arpa",
            "Cluster.local",
            "ip6.arpa",
            "b.cluster.local",
        ];
        Zones::new(&names.map(|name| Name::parse(name).unwrap())).unwrap()
    }

    fn check(zones: &Zones, name: &str, expected: Option<(&str, NameKind<'_>)>) {
        let spelled = Name::parse(name).unwrap();
        let lower = spelled.to_lower();
        let labels = SplitName::new(&spelled, &lower);
        let matched = zones.find(&labels);
        let found = matched.map(|matched| (matched.suffix().to_string(), matched.kind()));
        let found = found.as_ref().map(|(zone, kind)| (zone.as_str(), *kind));
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn the_suffix_test_never_rejects_a_name_in_a_zone() {
        let labels = [
            "a",
            "b",
            "local",
            "cluster",
            "arpa",
            "10",
            "in-addr",
            "a-long-label",
        ];
        let mut names = vec![Name::ROOT];
        for depth in 0..4 {
            let parents = names.clone();
            for parent in parents
                .iter()
                .filter(|it| it.as_ref().label_count() == depth)
            {
                let more =
                    labels.map(|label| Name::from_labels([label.as_bytes()], parent.as_ref()));
                names.extend(more.map(Result::unwrap));
            }
        }
        let mut rejected = 0;
        for zone in names.iter().step_by(7).take(300) {
            let Some(zones) = Zones::new(&[*zone]) else {
                continue;
            };
            for name in &names {
                let is_under = name.as_ref().is_under(zone.as_ref());
                assert!(zones.may_hold(name) || !is_under, "{name} in {zone}");
                rejected += usize::from(!is_under && !zones.may_hold(name));
            }
        }
        assert!(rejected > 0);
    }

    fn service(scope: NameScope<'_>) -> NameKind<'_> {
        NameKind::Service {
            namespace: "shop",
            service: "web",
            scope,
        }
    }

    #[test]
    fn names_are_parsed_by_the_grammar() {
        let port = |port, protocol| service(NameScope::Port(PortName { port, protocol }));
        let pod = NameKind::Pod {
            namespace: "shop",
            label: "10-0-0-1",
        };
        for (left, kind) in [
            ("", NameKind::Apex),
            ("svc.", NameKind::Empty),
            ("pod.", NameKind::Empty),
            ("dns.", NameKind::Empty),
            ("ns.dns.", NameKind::NameServer),
            ("a.ns.dns.", NameKind::Unknown),
            ("b.dns.", NameKind::Unknown),
            ("dns-version.", NameKind::Version),
            ("a.dns-version.", NameKind::Unknown),
            ("shop.svc.", NameKind::Namespace("shop")),
            ("shop.pod.", NameKind::PodNamespace("shop")),
            ("web.shop.", NameKind::Unknown),
            ("web.shop.svc.", service(NameScope::All)),
            ("a.web.shop.svc.", service(NameScope::Endpoint("a"))),
            ("_tcp.web.shop.svc.", service(NameScope::Endpoint("_tcp"))),
            ("_http._tcp.web.shop.svc.", port("http", "tcp")),
            ("http.tcp.web.shop.svc.", port("http", "tcp")),
            ("__http._.web.shop.svc.", port("_http", "")),
            ("a._http._tcp.web.shop.svc.", NameKind::Unknown),
            ("10-0-0-1.shop.pod.", pod),
            ("a.10-0-0-1.shop.pod.", NameKind::Unknown),
            (r"\255.svc.", NameKind::Namespace("")),
        ] {
            for (left, zone) in [
                (left.to_owned(), "cluster.local."),
                (left.to_uppercase(), "CLUSTER.local."),
            ] {
                check(&zones(), &format!("{left}{zone}"), Some((zone, kind)));
            }
        }
    }

    #[test]
    fn the_most_specific_zone_matches() {
        check(
            &zones(),
            "a.svc.B.cluster.local",
            Some(("B.cluster.local.", NameKind::Namespace("a"))),
        );
        check(&zones(), "xcluster.local", None);
        check(&zones(), "local", None);
        check(&zones(), ".", None);
    }

    #[test]
    fn reverse_names_are_parsed_as_addresses_or_blocks() {
        let network = |text: &str| NameKind::Address(text.parse().unwrap());
        for (left, kind) in [
            ("", NameKind::Apex),
            ("1.0.96.", network("10.96.0.1/32")),
            ("0.96.", network("10.96.0.0/24")),
            ("96.", network("10.96.0.0/16")),
            ("9.1.0.96.", NameKind::Unknown),
            ("256.0.96.", NameKind::Unknown),
            ("01.0.96.", NameKind::Unknown),
            ("svc.", NameKind::Unknown),
            ("ns.dns.", NameKind::NameServer),
        ] {
            let name = format!("{left}10.in-addr.arpa");
            check(&zones(), &name, Some(("10.in-addr.arpa.", kind)));
        }
        let full = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.";
        for (left, kind) in [
            (full.to_owned(), network("fd00::1/128")),
            ("d.f.".to_owned(), network("fd00::/8")),
            (format!("0.{full}"), NameKind::Unknown),
            ("g.".to_owned(), NameKind::Unknown),
            ("ff.".to_owned(), NameKind::Unknown),
        ] {
            check(
                &zones(),
                &format!("{left}ip6.arpa"),
                Some(("ip6.arpa.", kind)),
            );
        }
    }

    #[test]
    fn a_zone_above_arpa_contains_both() {
        let zones = Zones::new(&[Name::ROOT]).unwrap();
        check(&zones, "a.svc", Some((".", NameKind::Namespace("a"))));
        let address = NameKind::Address("10.0.0.1/32".parse().unwrap());
        check(&zones, "1.0.0.10.in-addr.arpa", Some((".", address)));
        check(&zones, ".", Some((".", NameKind::Apex)));
    }

    #[test]
    fn only_reverse_zones_are_rejected() {
        assert!(Zones::new(&[Name::parse("in-addr.arpa").unwrap()]).is_none());
    }

    #[test]
    fn names_with_the_maximum_number_of_labels_are_parsed() {
        let name = format!("{}cluster.local", "a.".repeat(119));
        check(&zones(), &name, Some(("cluster.local.", NameKind::Unknown)));
        let root = Zones::new(&[Name::ROOT]).unwrap();
        check(&root, &"a.".repeat(127), Some((".", NameKind::Unknown)));
    }
}
