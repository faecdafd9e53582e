//! What a name asks for: the grammar of the cluster's names (Kubernetes DNS specification 1.1.0,
//! §2), read from the right. Whether anything is there is not known here.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::form::{Form, PIN, PREFER, Part, PortName, TopologyZone, ZONAL, bare};
use crate::wire::{Name, NameRef};

/// Labels of a name at most: 127 of one octet, each with its length, and the root.
const MAX_LABELS: usize = 127;

/// A name cut into labels, in place: made once for a question, cheap to read from the right.
pub struct Labels<'q> {
    lower: &'q [u8],
    spelled: NameRef<'q>,
    /// Where each label starts, and behind the last one where the root label is.
    starts: [u8; MAX_LABELS + 1],
    count: usize,
}

impl<'q> Labels<'q> {
    /// Cuts a name, given as spelled and in lower case.
    pub fn new(spelled: &'q Name, lower: &'q Name) -> Self {
        let octets = lower.as_wire();
        let mut starts = [0; MAX_LABELS + 1];
        let mut count = 0;
        let mut at = 0;
        while octets[usize::from(at)] > 0 {
            at += octets[usize::from(at)] + 1;
            count += 1;
            starts[count] = at;
        }
        Self {
            lower: octets,
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

    /// How many labels stand left of `zone`; nothing where the name is not at or under it.
    fn left_of(&self, zone: &Zone) -> Option<usize> {
        let left = self.count.checked_sub(zone.label_count)?;
        let cut = usize::from(self.starts[left]);
        (self.lower[cut..] == *zone.name.as_wire()).then_some(left)
    }
}

/// A zone that is served.
#[derive(Clone, Debug)]
pub struct Zone {
    name: Name,
    tail: Tail,
    label_count: usize,
    content: Content,
    /// Whether it holds ServiceImports in place of Services.
    multicluster: bool,
}

/// The last octets of a name, the root label left out, and how many they are.
#[derive(Clone, Copy, Debug)]
struct Tail {
    octets: u64,
    bits: u32,
}

impl Tail {
    /// That of a name in lower case.
    fn of(name: &Name) -> Self {
        let octets = name.as_wire();
        let octets = &octets[..octets.len() - 1];
        match octets.last_chunk() {
            Some(last) => Self {
                octets: u64::from_be_bytes(*last),
                bits: 64,
            },
            None => Self {
                octets: octets.iter().fold(0, |tail, &it| tail << 8 | u64::from(it)),
                bits: 8 * u32::try_from(octets.len()).expect("less than eight"),
            },
        }
    }

    /// Whether a name that ends so may end a name with the tail `other`.
    fn ends(self, other: Self) -> bool {
        let differ = self.octets ^ other.octets;
        // Of a short tail only what is there is compared: nothing, for the root.
        self.bits <= other.bits && differ.checked_shl(64 - self.bits).unwrap_or(0) == 0
    }
}

/// What names a zone can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Names of Services and pods.
    Names,
    /// Addresses: the zone is at or under `in-addr.arpa` or `ip6.arpa`.
    Addresses,
    /// Both: the zone is above `in-addr.arpa` and `ip6.arpa`.
    All,
}

impl Zone {
    /// The zone of this name.
    pub fn new(name: &Name) -> Self {
        let lower = name.to_lower();
        let content = if is_reverse(lower.as_ref()) {
            Content::Addresses
        } else if ARPA.as_slice().ends_with(lower.as_wire()) {
            Content::All
        } else {
            Content::Names
        };
        Self {
            tail: Tail::of(&lower),
            name: lower,
            label_count: lower.as_ref().label_count(),
            content,
            multicluster: false,
        }
    }

    /// Its name, in lower case.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether it holds addresses alone.
    pub fn is_reverse(&self) -> bool {
        self.content == Content::Addresses
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

/// The zones that are served.
#[derive(Clone, Debug)]
pub struct Zones {
    /// Longest first, so that the first match is the one.
    list: Box<[Zone]>,
    primary: Name,
}

impl Zones {
    /// These zones; nothing where all of them are reverse zones, so that no name of a Service
    /// could be told.
    pub fn new(names: &[Name]) -> Option<Self> {
        Self::with_imports(names, &[])
    }

    /// The same, where some of the zones hold ServiceImports in place of Services.
    pub fn with_imports(names: &[Name], imports: &[Name]) -> Option<Self> {
        let mut list: Vec<Zone> = names.iter().map(Zone::new).collect();
        for zone in &mut list {
            zone.multicluster = imports.iter().any(|name| name.to_lower() == zone.name);
        }
        let mut naming = list.iter().filter(|zone| !zone.is_reverse());
        let first = naming.clone().next()?.name;
        // Services have no names in the others, so nothing may point there.
        let primary = naming
            .find(|zone| !zone.multicluster)
            .map_or(first, |zone| zone.name);
        list.sort_by_key(|zone| std::cmp::Reverse(zone.label_count));
        Some(Self {
            list: list.into(),
            primary,
        })
    }

    /// The first zone, as configured, that names Services: the one that PTR records point into.
    pub fn primary(&self) -> &Name {
        &self.primary
    }

    /// Whether the zone of this name, in whatever spelling, holds ServiceImports.
    pub fn is_multicluster(&self, zone: NameRef<'_>) -> bool {
        let is = |it: &&Zone| it.name.as_ref().eq_ignore_case(zone);
        self.list.iter().find(is).is_some_and(|it| it.multicluster)
    }

    /// All of them, the longest first.
    pub fn iter(&self) -> impl Iterator<Item = &Zone> {
        self.list.iter()
    }

    /// Whether a name in lower case may lie in one of them: most names that do not are told from
    /// those that do without being cut into labels.
    pub fn may_hold(&self, lower: &Name) -> bool {
        let tail = Tail::of(lower);
        self.list.iter().any(|zone| zone.tail.ends(tail))
    }

    /// Where a name lies: in the longest zone that holds it.
    pub fn find<'z, 'q>(&'z self, labels: &'z Labels<'q>) -> Option<Place<'z, 'q>> {
        self.list.iter().find_map(|zone| {
            let left = labels.left_of(zone)?;
            Some(Place { zone, labels, left })
        })
    }
}

/// A name within a zone.
pub struct Place<'z, 'q> {
    zone: &'z Zone,
    labels: &'z Labels<'q>,
    /// How many labels are left of the zone.
    left: usize,
}

impl<'z, 'q> Place<'z, 'q> {
    /// The zone.
    pub fn zone(&self) -> &'z Zone {
        self.zone
    }

    /// The zone in the spelling of the name.
    pub fn suffix(&self) -> NameRef<'q> {
        let cut = usize::from(self.labels.starts[self.left]);
        NameRef::from_wire(&self.labels.spelled.as_wire()[cut..])
            .expect("a name cut between labels is a name")
    }

    /// What the name asks for.
    pub fn form(&self) -> Form<'q> {
        let Some(adjacent) = self.left_of_zone(0) else {
            return Form::Apex;
        };
        match (adjacent, self.left) {
            (b"dns", 1) => return Form::Empty,
            (b"dns", 2) if self.left_of_zone(1) == Some(b"ns") => return Form::NameServer,
            (b"dns-version", 1) => return Form::Version,
            _ => {}
        }
        self.by_content(|| self.named(adjacent))
    }

    /// What the name asks for in a zone that shows Services to the outside: they stand right below
    /// it, and its fixed names below `apex`.
    pub fn external_form(&self, apex: &[u8]) -> Form<'q> {
        match (self.left_of_zone(0), self.left_of_zone(1)) {
            (None, _) => Form::Apex,
            (Some(adjacent), None) if adjacent == apex => Form::Empty,
            (Some(adjacent), Some(b"ns1")) if adjacent == apex && self.left == 2 => {
                Form::NameServer
            }
            (Some(adjacent), _) if adjacent == apex => Form::Unknown,
            _ => self.by_content(|| self.in_namespaces(0)),
        }
    }

    /// Reads the name by what the zone can hold; `named` reads those of Services and pods.
    fn by_content(&self, named: impl Fn() -> Form<'q>) -> Form<'q> {
        match self.zone.content {
            Content::Names => named(),
            Content::Addresses => self.reverse(),
            Content::All => match self.reverse() {
                Form::Unknown => named(),
                reverse => reverse,
            },
        }
    }

    fn named(&self, adjacent: &[u8]) -> Form<'q> {
        match (adjacent, self.left) {
            (b"svc" | b"pod", 1) => Form::Empty,
            (b"svc", _) => self.in_namespaces(1),
            (b"pod", 2) => Form::PodNamespace(self.text(1)),
            (b"pod", 3) => Form::Pod {
                namespace: self.text(1),
                label: self.text(2),
            },
            _ => Form::Unknown,
        }
    }

    /// A namespace, whose label is at `index` left of the zone, or a Service in it.
    fn in_namespaces(&self, index: usize) -> Form<'q> {
        let text = |further| self.text(index + further);
        let zonal = self.left_of_zone(index + 2) == Some(ZONAL);
        let part = match (self.left - index, text(3)) {
            (1, _) => return Form::Namespace(text(0)),
            _ if self.zone.multicluster => return self.import(index),
            (2, _) => Part::Whole,
            (3, _) => Part::Endpoint(text(2)),
            (4, PIN | PREFER) if zonal => Part::Zonal,
            (4, port) => Part::Port(PortName {
                protocol: bare(text(2)),
                port: bare(port),
            }),
            (_, word @ (PIN | PREFER)) if zonal => {
                let end = self.labels.starts[self.left - index - 4];
                Part::Near {
                    zone: TopologyZone::new(&self.labels.lower[..usize::from(end)]),
                    elsewhere: word == PREFER,
                }
            }
            _ => return Form::Unknown,
        };
        Form::Service {
            namespace: text(0),
            service: text(1),
            part,
        }
    }

    /// A ServiceImport, where an endpoint's name stands below its cluster's.
    fn import(&self, index: usize) -> Form<'q> {
        let text = |further| self.text(index + further);
        let part = match (self.left - index, text(2), text(3)) {
            (2, ..) => Part::Whole,
            (3, label, _) => Part::Endpoint(label),
            (4, protocol, port) if protocol.starts_with('_') || port.starts_with('_') => {
                Part::Port(PortName {
                    protocol: bare(protocol),
                    port: bare(port),
                })
            }
            (4, cluster, endpoint) => Part::Member { cluster, endpoint },
            _ => return Form::Unknown,
        };
        Form::Import {
            namespace: text(0),
            import: text(1),
            part,
        }
    }

    fn text(&self, index: usize) -> &'q str {
        self.left_of_zone(index).map(text).unwrap_or_default()
    }

    /// Reads the whole name, the zone's labels too, as that of an address or of a block of them.
    fn reverse(&self) -> Form<'q> {
        let labels = self.labels;
        let Some(left) = labels.count.checked_sub(2) else {
            return Form::Unknown;
        };
        let digits = (0..left).rev().map(|index| labels.label(index));
        let cut = usize::from(labels.starts[left]);
        let network = match &labels.lower[cut..] {
            IN_ADDR => v4_network(digits),
            IP6 => v6_network(digits),
            _ => None,
        };
        network.map_or(Form::Unknown, Form::Address)
    }

    /// The label at `index` left of the zone, counted from the zone.
    fn left_of_zone(&self, index: usize) -> Option<&'q [u8]> {
        let index = self.left.checked_sub(index + 1)?;
        Some(self.labels.label(index))
    }
}

/// A label as text. One that is no UTF-8 becomes empty, which is the name of nothing.
fn text(label: &[u8]) -> &str {
    std::str::from_utf8(label).unwrap_or_default()
}

/// The addresses that begin with these octets (RFC 1035 §3.5).
fn v4_network<'l>(labels: impl Iterator<Item = &'l [u8]>) -> Option<IpNet> {
    let mut octets = [0; 4];
    let mut count = 0;
    for label in labels {
        let plain = label.iter().all(u8::is_ascii_digit) && (label.len() == 1 || label[0] != b'0');
        *octets.get_mut(count)? = plain.then(|| text(label).parse().ok()).flatten()?;
        count += 1;
    }
    let prefix = u8::try_from(count * 8).ok()?;
    Some(Ipv4Net::new(Ipv4Addr::from(octets), prefix).ok()?.into())
}

/// The addresses that begin with these nibbles (RFC 3596 §2.5).
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

    fn check(zones: &Zones, name: &str, expected: Option<(&str, Form<'_>)>) {
        let spelled = Name::parse(name).unwrap();
        let lower = spelled.to_lower();
        let labels = Labels::new(&spelled, &lower);
        let place = zones.find(&labels);
        let found = place.map(|place| (place.suffix().to_string(), place.form()));
        let found = found.as_ref().map(|(zone, form)| (zone.as_str(), *form));
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn no_name_of_a_zone_is_taken_for_another() {
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
        let mut told = 0;
        for zone in names.iter().step_by(7).take(300) {
            let Some(zones) = Zones::new(&[*zone]) else {
                continue;
            };
            for name in &names {
                let is_under = name.as_ref().is_under(zone.as_ref());
                assert!(zones.may_hold(name) || !is_under, "{name} in {zone}");
                told += usize::from(!is_under && !zones.may_hold(name));
            }
        }
        assert!(told > 0);
    }

    fn service(part: Part<'_>) -> Form<'_> {
        Form::Service {
            namespace: "shop",
            service: "web",
            part,
        }
    }

    #[test]
    fn names_have_forms() {
        let port = |port, protocol| service(Part::Port(PortName { port, protocol }));
        let pod = Form::Pod {
            namespace: "shop",
            label: "10-0-0-1",
        };
        for (left, form) in [
            ("", Form::Apex),
            ("svc.", Form::Empty),
            ("pod.", Form::Empty),
            ("dns.", Form::Empty),
            ("ns.dns.", Form::NameServer),
            ("a.ns.dns.", Form::Unknown),
            ("b.dns.", Form::Unknown),
            ("dns-version.", Form::Version),
            ("a.dns-version.", Form::Unknown),
            ("shop.svc.", Form::Namespace("shop")),
            ("shop.pod.", Form::PodNamespace("shop")),
            ("web.shop.", Form::Unknown),
            ("web.shop.svc.", service(Part::Whole)),
            ("a.web.shop.svc.", service(Part::Endpoint("a"))),
            ("_tcp.web.shop.svc.", service(Part::Endpoint("_tcp"))),
            ("_http._tcp.web.shop.svc.", port("http", "tcp")),
            ("http.tcp.web.shop.svc.", port("http", "tcp")),
            ("__http._.web.shop.svc.", port("_http", "")),
            ("a._http._tcp.web.shop.svc.", Form::Unknown),
            ("10-0-0-1.shop.pod.", pod),
            ("a.10-0-0-1.shop.pod.", Form::Unknown),
            (r"\255.svc.", Form::Namespace("")),
        ] {
            for (left, zone) in [
                (left.to_owned(), "cluster.local."),
                (left.to_uppercase(), "CLUSTER.local."),
            ] {
                check(&zones(), &format!("{left}{zone}"), Some((zone, form)));
            }
        }
    }

    #[test]
    fn the_longest_zone_has_the_name() {
        check(
            &zones(),
            "a.svc.B.cluster.local",
            Some(("B.cluster.local.", Form::Namespace("a"))),
        );
        check(&zones(), "xcluster.local", None);
        check(&zones(), "local", None);
        check(&zones(), ".", None);
    }

    #[test]
    fn reverse_names_are_addresses_or_blocks_of_them() {
        let network = |text: &str| Form::Address(text.parse().unwrap());
        for (left, form) in [
            ("", Form::Apex),
            ("1.0.96.", network("10.96.0.1/32")),
            ("0.96.", network("10.96.0.0/24")),
            ("96.", network("10.96.0.0/16")),
            ("9.1.0.96.", Form::Unknown),
            ("256.0.96.", Form::Unknown),
            ("01.0.96.", Form::Unknown),
            ("svc.", Form::Unknown),
            ("ns.dns.", Form::NameServer),
        ] {
            let name = format!("{left}10.in-addr.arpa");
            check(&zones(), &name, Some(("10.in-addr.arpa.", form)));
        }
        let full = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.";
        for (left, form) in [
            (full.to_owned(), network("fd00::1/128")),
            ("d.f.".to_owned(), network("fd00::/8")),
            (format!("0.{full}"), Form::Unknown),
            ("g.".to_owned(), Form::Unknown),
            ("ff.".to_owned(), Form::Unknown),
        ] {
            check(
                &zones(),
                &format!("{left}ip6.arpa"),
                Some(("ip6.arpa.", form)),
            );
        }
    }

    #[test]
    fn a_zone_above_arpa_holds_both() {
        let zones = Zones::new(&[Name::ROOT]).unwrap();
        check(&zones, "a.svc", Some((".", Form::Namespace("a"))));
        let address = Form::Address("10.0.0.1/32".parse().unwrap());
        check(&zones, "1.0.0.10.in-addr.arpa", Some((".", address)));
        check(&zones, ".", Some((".", Form::Apex)));
    }

    #[test]
    fn reverse_zones_alone_name_nothing() {
        assert!(Zones::new(&[Name::parse("in-addr.arpa").unwrap()]).is_none());
    }

    #[test]
    fn the_most_labels_fit() {
        let name = format!("{}cluster.local", "a.".repeat(119));
        check(&zones(), &name, Some(("cluster.local.", Form::Unknown)));
        let root = Zones::new(&[Name::ROOT]).unwrap();
        check(&root, &"a.".repeat(127), Some((".", Form::Unknown)));
    }
}
