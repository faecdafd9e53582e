//! What is counted for each query: cells per thread and zone, indexed by small numbers.

use std::{
    array::from_fn,
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, OnceLock, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus::{
    core::{Collector, Desc},
    proto::{MetricFamily, MetricType},
};

use super::{cells::PerThread, family::Family};
use crate::{
    query::Query,
    reply::Reply,
    wire::{Rcode, Type},
};

/// Bounds of the duration buckets: the first, and how often it is doubled. Microseconds.
const DURATION_FIRST: u64 = 250;
const DURATION_BOUNDS: usize = 16;

/// Bounds of the size buckets, octets.
const SIZE_BOUNDS: [u16; 14] = [
    0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000,
];

/// The types that have a `type` label of their own, as CoreDNS has it; all others are `other`, so
/// that whoever can send a query cannot make series.
const TYPES: [(u16, &str); 18] = [
    (1, "A"),
    (28, "AAAA"),
    (33, "SRV"),
    (12, "PTR"),
    (5, "CNAME"),
    (16, "TXT"),
    (6, "SOA"),
    (2, "NS"),
    (15, "MX"),
    (65, "HTTPS"),
    (48, "DNSKEY"),
    (43, "DS"),
    (47, "NSEC"),
    (50, "NSEC3"),
    (46, "RRSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
];
const OTHER_TYPE: usize = TYPES.len();

/// The label of everything that has none of its own.
const OTHER: &str = "other";

/// Codes that have a `rcode` label of their own: all assigned ones. The rest are `other`.
const RCODES: usize = 24;
/// Itself not assigned.
const OTHER_RCODE: usize = RCODES;

/// Plugins that can have a `plugin` label; one slot more is for replies that none answered.
const PLUGINS: usize = 23;

const PROTOCOLS: [&str; 2] = ["udp", "tcp"];
const FAMILIES: [&str; 2] = ["1", "2"];

/// The counters of one zone of one listener.
pub struct ZoneCounters {
    server: String,
    zone: String,
    view: String,
    /// Slot 0 of the responses is nobody, slot n is the plugin here at n - 1.
    plugins: [OnceLock<&'static str>; PLUGINS],
    cells: PerThread<Cells>,
}

/// Counters that no scrape sees.
impl Default for ZoneCounters {
    fn default() -> Self {
        Self::new("", "", "")
    }
}

/// One thread's cells for a zone.
struct Cells {
    /// By protocol, family and type.
    requests: [[[AtomicU64; OTHER_TYPE + 1]; 2]; 2],
    /// By plugin and code.
    responses: [[AtomicU64; OTHER_RCODE + 1]; PLUGINS + 1],
    duration: [AtomicU64; DURATION_BOUNDS + 1],
    duration_nanoseconds: AtomicU64,
    /// Of requests and of responses, by protocol.
    sizes: [[Sizes; 2]; 2],
    dnssec_ok: AtomicU64,
}

#[derive(Default)]
struct Sizes {
    buckets: [AtomicU64; SIZE_BOUNDS.len() + 1],
    octets: AtomicU64,
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            requests: from_fn(|_| from_fn(|_| from_fn(|_| AtomicU64::default()))),
            responses: from_fn(|_| from_fn(|_| AtomicU64::default())),
            duration: from_fn(|_| AtomicU64::default()),
            duration_nanoseconds: AtomicU64::default(),
            sizes: from_fn(|_| from_fn(|_| Sizes::default())),
            dnssec_ok: AtomicU64::default(),
        }
    }
}

impl ZoneCounters {
    fn new(server: &str, zone: &str, view: &str) -> Self {
        Self {
            server: server.to_owned(),
            zone: zone.to_owned(),
            view: view.to_owned(),
            plugins: [const { OnceLock::new() }; PLUGINS],
            cells: PerThread::new(),
        }
    }

    /// Counts a query and the reply that was sent: `size` octets, `took` since it was read.
    pub fn count(&self, query: &Query, reply: &Reply, size: usize, took: Duration) {
        let mine = self.cells.mine();
        let cells = mine.cells;
        let protocol = usize::from(query.transport.label() != PROTOCOLS[0]);
        let family = match query.client.ip() {
            IpAddr::V4(_) => 0,
            IpAddr::V6(address) => usize::from(address.to_ipv4_mapped().is_none()),
        };
        let rtype = type_slot(query.asked.rtype);
        mine.add(&cells.requests[protocol][family][rtype], 1);
        let plugin = self.plugin_slot(reply.answered_by);
        mine.add(&cells.responses[plugin][rcode_slot(reply.rcode)], 1);
        let nanoseconds = nanoseconds(took);
        mine.add(&cells.duration[duration_slot(nanoseconds)], 1);
        mine.add(&cells.duration_nanoseconds, nanoseconds);
        for (kind, octets) in [query.size, size].into_iter().enumerate() {
            let sizes = &cells.sizes[kind][protocol];
            mine.add(&sizes.buckets[size_slot(octets)], 1);
            mine.add(&sizes.octets, octets as u64);
        }
        if query.dnssec_ok() {
            mine.add(&cells.dnssec_ok, 1);
        }
    }

    /// The slot of a plugin, which it gets when it first answers.
    fn plugin_slot(&self, name: &'static str) -> usize {
        if name.is_empty() {
            return 0;
        }
        for (index, slot) in self.plugins.iter().enumerate() {
            let known = slot.get_or_init(|| name);
            // A plugin's name is nearly always the same constant, at the same place.
            if std::ptr::eq(*known, name) || *known == name {
                return index + 1;
            }
        }
        0
    }
}

fn type_slot(rtype: Type) -> usize {
    TYPES
        .iter()
        .position(|(number, _)| *number == rtype.0)
        .unwrap_or(OTHER_TYPE)
}

fn rcode_slot(rcode: Rcode) -> usize {
    match rcode.0 {
        // Not assigned.
        12..=15 => OTHER_RCODE,
        code => usize::from(code).min(OTHER_RCODE),
    }
}

/// The `rcode` label of a code: one for all that are not assigned, so that an upstream that makes codes
/// up cannot make series.
pub fn rcode_label(rcode: Rcode) -> &'static str {
    rcode.name().unwrap_or(OTHER)
}

/// In 64 bits, which are five hundred years.
fn nanoseconds(took: Duration) -> u64 {
    let seconds = took.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(took.subsec_nanos().into())
}

/// A value on a bound belongs below it.
fn duration_slot(nanoseconds: u64) -> usize {
    let steps = nanoseconds.saturating_sub(1) / (DURATION_FIRST * 1000);
    let doublings = (u64::BITS - steps.leading_zeros()) as usize;
    doublings.min(DURATION_BOUNDS)
}

fn size_slot(octets: usize) -> usize {
    SIZE_BOUNDS.partition_point(|bound| usize::from(*bound) < octets)
}

fn duration_bounds() -> impl Iterator<Item = f64> {
    (0..DURATION_BOUNDS).map(|step| (DURATION_FIRST << step) as f64 / 1e6)
}

/// The `coredns_dns_*` families of all zones.
#[derive(Clone)]
pub struct Dns {
    inner: Arc<Inner>,
}

struct Inner {
    requests: Family,
    duration: Family,
    sizes: [Family; 2],
    dnssec_ok: Family,
    responses: Family,
    zones: Mutex<BTreeMap<(String, String, String), Arc<ZoneCounters>>>,
}

impl Dns {
    /// The `zone` label of queries that no block is for.
    pub const DROPPED: &str = "dropped";

    pub(super) fn new() -> Self {
        let family = |name, help, labels: &[&'static str], kind| {
            Family::new(&format!("coredns_dns_{name}"), help, labels, kind)
        };
        let (counter, histogram) = (MetricType::COUNTER, MetricType::HISTOGRAM);
        Self {
            inner: Arc::new(Inner {
                requests: family(
                    "requests_total",
                    "Queries by protocol, address family and type.",
                    &["server", "zone", "view", "proto", "family", "type"],
                    counter,
                ),
                duration: family(
                    "request_duration_seconds",
                    "Time from reading a query to sending its reply, in seconds.",
                    &["server", "zone", "view"],
                    histogram,
                ),
                sizes: [
                    ("request_size_bytes", "Sizes of queries."),
                    ("response_size_bytes", "Sizes of replies."),
                ]
                .map(|(name, help)| {
                    family(name, help, &["server", "zone", "view", "proto"], histogram)
                }),
                dnssec_ok: family(
                    "do_requests_total",
                    "Queries that ask for DNSSEC records.",
                    &["server", "zone", "view"],
                    counter,
                ),
                responses: family(
                    "responses_total",
                    "Replies by response code and by the plugin that answered.",
                    &["server", "zone", "view", "rcode", "plugin"],
                    counter,
                ),
                zones: Mutex::default(),
            }),
        }
    }

    /// The counters of a zone. The same labels find the same counters, also after a reload.
    pub fn zone(&self, server: &str, zone: &str, view: &str) -> Arc<ZoneCounters> {
        let key = (server.to_owned(), zone.to_owned(), view.to_owned());
        let mut zones = self.inner.zones.lock();
        let counters = zones
            .entry(key)
            .or_insert_with(|| Arc::new(ZoneCounters::new(server, zone, view)));
        Arc::clone(counters)
    }

    /// The counters of a listener's queries that no block is for.
    pub fn dropped(&self, server: &str) -> Arc<ZoneCounters> {
        self.zone(server, Self::DROPPED, "")
    }
}

impl Collector for Dns {
    fn desc(&self) -> Vec<&Desc> {
        let inner = &self.inner;
        [
            &inner.requests,
            &inner.duration,
            &inner.sizes[0],
            &inner.sizes[1],
            &inner.dnssec_ok,
            &inner.responses,
        ]
        .map(Family::desc)
        .into()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let inner = &self.inner;
        let zones: Vec<_> = inner.zones.lock().values().cloned().collect();
        let each = |family: &Family, series: &dyn Fn(&ZoneCounters, &mut Vec<_>)| {
            let mut all = Vec::new();
            for zone in &zones {
                series(zone, &mut all);
            }
            family.with(all)
        };
        let [request_size, response_size] = &inner.sizes;
        vec![
            each(&inner.requests, &|zone, out| {
                zone.requests(&inner.requests, out);
            }),
            each(&inner.duration, &|zone, out| {
                let counts = zone.sums(|cells| &cells.duration);
                let sum = zone.sum(|cells| &cells.duration_nanoseconds) as f64 / 1e9;
                if counts.iter().any(|&count| count > 0) {
                    let series =
                        inner
                            .duration
                            .histogram(&zone.labels(), duration_bounds(), &counts, sum);
                    out.push(series);
                }
            }),
            each(request_size, &|zone, out| zone.sizes(request_size, 0, out)),
            each(response_size, &|zone, out| {
                zone.sizes(response_size, 1, out);
            }),
            each(&inner.dnssec_ok, &|zone, out| {
                let sum = zone.sum(|cells| &cells.dnssec_ok);
                if sum > 0 {
                    out.push(inner.dnssec_ok.counter(&zone.labels(), sum as f64));
                }
            }),
            each(&inner.responses, &|zone, out| {
                zone.responses(&inner.responses, out);
            }),
        ]
    }
}

/// At scrape time: the sums over all threads.
impl ZoneCounters {
    fn labels(&self) -> [&str; 3] {
        [&self.server, &self.zone, &self.view]
    }

    fn sum(&self, cell: impl Fn(&Cells) -> &AtomicU64) -> u64 {
        let cells = self.cells.all();
        cells.map(|cells| cell(cells).load(Relaxed)).sum()
    }

    fn sums<const N: usize>(&self, row: impl Fn(&Cells) -> &[AtomicU64; N]) -> [u64; N] {
        let mut sums = [0; N];
        for cells in self.cells.all() {
            for (sum, cell) in sums.iter_mut().zip(row(cells)) {
                *sum += cell.load(Relaxed);
            }
        }
        sums
    }

    fn requests(&self, family: &Family, out: &mut Vec<prometheus::proto::Metric>) {
        let [server, zone, view] = self.labels();
        for (protocol, protocol_label) in PROTOCOLS.iter().enumerate() {
            for (address, address_label) in FAMILIES.iter().enumerate() {
                let sums = self.sums(|cells| &cells.requests[protocol][address]);
                for (slot, &sum) in sums.iter().enumerate().filter(|(_, sum)| **sum > 0) {
                    let rtype = TYPES.get(slot).map_or("other", |(_, label)| label);
                    let labels = [server, zone, view, protocol_label, address_label, rtype];
                    out.push(family.counter(&labels, sum as f64));
                }
            }
        }
    }

    fn responses(&self, family: &Family, out: &mut Vec<prometheus::proto::Metric>) {
        let [server, zone, view] = self.labels();
        let known = self.plugins.iter().map_while(OnceLock::get).copied();
        for (plugin, name) in std::iter::once("").chain(known).enumerate() {
            let sums = self.sums(|cells| &cells.responses[plugin]);
            for (code, &sum) in (0u16..).zip(&sums).filter(|(_, sum)| **sum > 0) {
                let rcode = rcode_label(Rcode(code));
                out.push(family.counter(&[server, zone, view, rcode, name], sum as f64));
            }
        }
    }

    fn sizes(&self, family: &Family, kind: usize, out: &mut Vec<prometheus::proto::Metric>) {
        let [server, zone, view] = self.labels();
        for (protocol, label) in PROTOCOLS.iter().enumerate() {
            let counts = self.sums(|cells| &cells.sizes[kind][protocol].buckets);
            if counts.iter().any(|&count| count > 0) {
                let octets = self.sum(|cells| &cells.sizes[kind][protocol].octets);
                let bounds = SIZE_BOUNDS.iter().map(|&bound| f64::from(bound));
                let labels = [server, zone, view, label];
                out.push(family.histogram(&labels, bounds, &counts, octets as f64));
            }
        }
    }
}
