//! Queries: every possible name, neighbouring names, and invalid ones.

use std::sync::LazyLock;

use crate::{
    generate::{
        ADDRESSES, CLUSTER_ADDRESSES, CLUSTERS, HOSTNAMES, NAMESPACES, PODS, SERVICES,
        TOPOLOGY_ZONES,
    },
    naive::{dashed, reversed},
};

pub const TYPES: [&str; 11] = [
    "A", "AAAA", "SRV", "PTR", "CNAME", "TXT", "MX", "NS", "SOA", "ANY", "HTTPS",
];

/// Labels below a Service that are not, or not always, endpoint names.
const LABELS: [&str; 9] = [
    "_tcp",
    "udp",
    "_udp",
    "_sctp",
    "_",
    "none",
    "fd00-0-0-0-0-0-0-1",
    "fd00--",
    "10-1-0-99",
];

const PORTS: [&str; 10] = [
    "_http._tcp",
    "http.tcp",
    "_http.udp",
    "_dns._udp",
    "dns._tcp",
    "__http._tcp",
    "_._tcp",
    "_._",
    "_none._tcp",
    "a._http._tcp",
];

const FIXED: [&str; 21] = [
    "clusterset.local.",
    "svc.clusterset.local.",
    "ns.dns.clusterset.local.",
    "10-1-0-1.a.pod.clusterset.local.",
    "none.clusterset.local.",
    "cluster.local.",
    "svc.cluster.local.",
    "pod.cluster.local.",
    "dns.cluster.local.",
    "ns.dns.cluster.local.",
    "a.ns.dns.cluster.local.",
    "none.dns.cluster.local.",
    "dns-version.cluster.local.",
    "a.dns-version.cluster.local.",
    "none.cluster.local.",
    "a.none.cluster.local.",
    "local.",
    "xcluster.local.",
    "dns-version.10.in-addr.arpa.",
    "ns.dns.ip6.arpa.",
    "www.example.com.a.svc.cluster.local.",
];

/// Every name of interest.
pub static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut names: Vec<String> = FIXED.map(String::from).to_vec();
    for namespace in NAMESPACES.iter().chain(&["none"]) {
        for above in ["svc", "pod"] {
            names.push(format!("{namespace}.{above}.cluster.local."));
        }
        for service in SERVICES.iter().chain(&["none", "*"]) {
            let service = format!("{service}.{namespace}.svc.cluster.local.");
            let fixed = HOSTNAMES.iter().chain(PODS).chain(&LABELS).chain(&PORTS);
            names.extend(fixed.map(|label| format!("{label}.{service}")));
            let addresses = ADDRESSES.iter().map(|it| dashed(it.parse().unwrap()));
            names.extend(addresses.map(|label| format!("{label}.{service}")));
            names.extend(zonal(&service));
            names.push(service);
        }
        names.push(format!("{namespace}.svc.clusterset.local."));
        for import in SERVICES.iter().chain(&["none"]) {
            names.extend(imported(&format!(
                "{import}.{namespace}.svc.clusterset.local."
            )));
        }
        let pods = ADDRESSES.iter().map(|it| dashed(it.parse().unwrap()));
        let wrong = ["10-1-0", "web-0", "10-1-0-256", "a.10-1-0-1", "fd00-0--1"];
        for label in pods.chain(wrong.map(String::from)) {
            names.push(format!("{label}.{namespace}.pod.cluster.local."));
        }
    }
    let addresses = ADDRESSES
        .iter()
        .chain(CLUSTER_ADDRESSES)
        .chain(&["10.9.9.9", "fd77::1"]);
    for address in addresses {
        let mut name = &*reversed(address.parse().unwrap());
        names.push(format!("0.{name}"));
        while !name.starts_with("in-addr") && !name.starts_with("ip6") {
            names.push(name.into());
            name = name.split_once('.').unwrap().1;
        }
        names.push(name.into());
    }
    names.sort();
    names.dedup();
    names
});

/// Names of topology zones below a Service.
fn zonal(service: &str) -> Vec<String> {
    let zones = TOPOLOGY_ZONES.iter().chain(&["z9", "east"]);
    let near = zones.flat_map(|zone| ["pin", "prefer"].map(|it| format!("{zone}.{it}._zone")));
    let others = [
        "_zone",
        "pin._zone",
        "prefer._zone",
        "z1._zone",
        "z1.any._zone",
    ];
    let labels = near.chain(others.map(String::from));
    labels.map(|label| format!("{label}.{service}")).collect()
}

/// A ServiceImport's name and those below it.
fn imported(import: &str) -> Vec<String> {
    let mut names = vec![import.to_owned()];
    let addresses = ADDRESSES.iter().map(|it| dashed(it.parse().unwrap()));
    let named = HOSTNAMES.iter().chain(PODS).map(|it| (*it).to_owned());
    let endpoints: Vec<_> = named.chain(addresses).collect();
    for cluster in CLUSTERS.iter().filter(|it| !it.is_empty()).chain(&["none"]) {
        let cluster = format!("{cluster}.{import}");
        names.extend(endpoints.iter().map(|label| format!("{label}.{cluster}")));
        names.push(cluster);
    }
    let below = LABELS.iter().chain(&PORTS).chain(HOSTNAMES);
    names.extend(below.map(|label| format!("{label}.{import}")));
    names.push(format!("z1.pin._zone.{import}"));
    names.push(format!("pin._zone.{import}"));
    names
}

/// A small deterministic random generator for queries.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides` (SplitMix64).
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    /// Any name, in any spelling.
    pub fn name(&mut self) -> String {
        let name = &NAMES[self.roll(NAMES.len())];
        self.spell(name)
    }

    pub fn rtype(&mut self) -> &'static str {
        TYPES[self.roll(TYPES.len())]
    }

    /// The name, half the time with random upper-case letters.
    pub fn spell(&mut self, name: &str) -> String {
        if self.roll(2) == 0 {
            return name.into();
        }
        let mut letter = |letter: char| match self.roll(3) {
            0 => letter.to_ascii_uppercase(),
            _ => letter,
        };
        name.chars().map(&mut letter).collect()
    }
}
