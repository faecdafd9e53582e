//! Per-query counters: cells per thread and zone, indexed by small integers.

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
    reply::{Reply, Why},
    wire::{Rcode, Type},
};

/// Duration buckets: the first bound in microseconds and the number of bounds, each twice the
/// previous one.
const DURATION_FIRST: u64 = 250;
const DURATION_BOUNDS: usize = 16;

/// Bounds of the size buckets in bytes.
const SIZE_BOUNDS: [u16; 14] = [
    0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000,
];

/// Types with their own `type` label, as in CoreDNS; all others are `other`, so that clients cannot
/// create series.
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

/// Label of everything without its own label.
const OTHER: &str = "other";

/// Response codes with their own `rcode` label: all assigned ones. Others are `other`.
const RCODES: usize = 24;
/// An unassigned code, used as index of `other`.
const OTHER_RCODE: usize = RCODES;

/// Maximum number of plugins with a `plugin` label; one more slot is for replies without a plugin.
const PLUGINS: usize = 23;

const PROTOCOLS: [&str; 2] = ["udp", "tcp"];
const FAMILIES: [&str; 2] = ["1", "2"];

/// Counters of one zone of one listener.
pub struct ZoneCounters {
    server: String,
    zone: String,
    view: String,
    /// Slot 0 of the responses is for replies without a plugin, slot n for the plugin at n - 1.
    plugins: [OnceLock<&'static str>; PLUGINS],
    cells: PerThread<Cells>,
}

/// Counters that are not exported.
impl Default for ZoneCounters {
    fn default() -> Self {
        Self::new("", "", "")
    }
}

/// One thread's cells for a zone.
struct Cells {
    /// By protocol, address family and type.
    requests: [[[AtomicU64; OTHER_TYPE + 1]; 2]; 2],
    /// By plugin and response code.
    responses: [[AtomicU64; OTHER_RCODE + 1]; PLUGINS + 1],
    /// Of responses without an answer, by reason.
    reasons: [AtomicU64; Why::ALL.len()],
    duration: [AtomicU64; DURATION_BOUNDS + 1],
    duration_nanoseconds: AtomicU64,
    /// Of requests and responses, by protocol.
    sizes: [[Sizes; 2]; 2],
    dnssec_ok: AtomicU64,
}

#[derive(Default)]
struct Sizes {
    buckets: [AtomicU64; SIZE_BOUNDS.len() + 1],
    bytes: AtomicU64,
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            requests: from_fn(|_| from_fn(|_| from_fn(|_| AtomicU64::default()))),
            responses: from_fn(|_| from_fn(|_| AtomicU64::default())),
            reasons: from_fn(|_| AtomicU64::default()),
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

    /// Counts a query and its response: `size` in bytes, `took` since the query was read.
    pub fn count(&self, query: &Query, reply: &Reply, size: usize, took: Duration) {
        let local = self.cells.local();
        let cells = local.cells;
        let protocol = usize::from(query.transport.label() != PROTOCOLS[0]);
        let family = match query.client.ip() {
            IpAddr::V4(_) => 0,
            IpAddr::V6(address) => usize::from(address.to_ipv4_mapped().is_none()),
        };
        let rtype = type_slot(query.original.rtype);
        local.add(&cells.requests[protocol][family][rtype], 1);
        let plugin = self.plugin_slot(reply.answered_by);
        local.add(&cells.responses[plugin][rcode_slot(reply.rcode)], 1);
        if reply.lacks_answer() {
            local.add(&cells.reasons[reply.why as usize], 1);
        }
        let nanoseconds = nanoseconds(took);
        local.add(&cells.duration[duration_slot(nanoseconds)], 1);
        local.add(&cells.duration_nanoseconds, nanoseconds);
        for (kind, bytes) in [query.size, size].into_iter().enumerate() {
            let sizes = &cells.sizes[kind][protocol];
            local.add(&sizes.buckets[size_slot(bytes)], 1);
            local.add(&sizes.bytes, bytes as u64);
        }
        if query.dnssec_ok() {
            local.add(&cells.dnssec_ok, 1);
        }
    }

    /// The slot of a plugin, assigned at its first response.
    fn plugin_slot(&self, name: &'static str) -> usize {
        if name.is_empty() {
            return 0;
        }
        for (index, slot) in self.plugins.iter().enumerate() {
            let known = slot.get_or_init(|| name);
            // Almost always the same constant at the same address.
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
        // Unassigned.
        12..=15 => OTHER_RCODE,
        code => usize::from(code).min(OTHER_RCODE),
    }
}

/// The `rcode` label of a code. Unassigned codes share one label, so that upstreams cannot create
/// series.
pub fn rcode_label(rcode: Rcode) -> &'static str {
    rcode.name().unwrap_or(OTHER)
}

/// 64 bits hold 584 years.
fn nanoseconds(took: Duration) -> u64 {
    let seconds = took.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(took.subsec_nanos().into())
}

/// A value equal to a bound belongs to the bucket below it.
fn duration_slot(nanoseconds: u64) -> usize {
    let steps = nanoseconds.saturating_sub(1) / (DURATION_FIRST * 1000);
    let doublings = (u64::BITS - steps.leading_zeros()) as usize;
    doublings.min(DURATION_BOUNDS)
}

fn size_slot(bytes: usize) -> usize {
    SIZE_BOUNDS.partition_point(|bound| usize::from(*bound) < bytes)
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
    reasons: Family,
    zones: Mutex<BTreeMap<(String, String, String), Arc<ZoneCounters>>>,
}

impl Dns {
    /// The `zone` label of queries that match no server block.
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
                    "Time from receiving a query to sending its response, in seconds.",
                    &["server", "zone", "view"],
                    histogram,
                ),
                sizes: [
                    ("request_size_bytes", "Sizes of queries in bytes."),
                    ("response_size_bytes", "Sizes of responses in bytes."),
                ]
                .map(|(name, help)| {
                    family(name, help, &["server", "zone", "view", "proto"], histogram)
                }),
                dnssec_ok: family(
                    "do_requests_total",
                    "Queries with the DO bit.",
                    &["server", "zone", "view"],
                    counter,
                ),
                responses: family(
                    "responses_total",
                    "Responses by response code and answering plugin.",
                    &["server", "zone", "view", "rcode", "plugin"],
                    counter,
                ),
                reasons: Family::new(
                    "lodestone_dns_unanswered_total",
                    "Responses without an answer (denials, failures, referrals) by reason.",
                    &["server", "zone", "view", "reason"],
                    counter,
                ),
                zones: Mutex::default(),
            }),
        }
    }

    /// The counters of a zone. Equal labels yield the same counters, also across reloads.
    pub fn zone(&self, server: &str, zone: &str, view: &str) -> Arc<ZoneCounters> {
        let key = (server.to_owned(), zone.to_owned(), view.to_owned());
        let mut zones = self.inner.zones.lock();
        let counters = zones
            .entry(key)
            .or_insert_with(|| Arc::new(ZoneCounters::new(server, zone, view)));
        Arc::clone(counters)
    }

    /// The counters of a listener's queries that match no server block.
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
            &inner.reasons,
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
            each(&inner.reasons, &|zone, out| {
                zone.reasons(&inner.reasons, out);
            }),
        ]
    }
}

/// Sums over all threads, at scrape time.
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

    fn reasons(&self, family: &Family, out: &mut Vec<prometheus::proto::Metric>) {
        let [server, zone, view] = self.labels();
        let sums = self.sums(|cells| &cells.reasons);
        for (why, &sum) in Why::ALL.iter().zip(&sums).filter(|(_, sum)| **sum > 0) {
            out.push(family.counter(&[server, zone, view, why.name()], sum as f64));
        }
    }

    fn sizes(&self, family: &Family, kind: usize, out: &mut Vec<prometheus::proto::Metric>) {
        let [server, zone, view] = self.labels();
        for (protocol, label) in PROTOCOLS.iter().enumerate() {
            let counts = self.sums(|cells| &cells.sizes[kind][protocol].buckets);
            if counts.iter().any(|&count| count > 0) {
                let bytes = self.sum(|cells| &cells.sizes[kind][protocol].bytes);
                let bounds = SIZE_BOUNDS.iter().map(|&bound| f64::from(bound));
                let labels = [server, zone, view, label];
                out.push(family.histogram(&labels, bounds, &counts, bytes as f64));
            }
        }
    }
}
