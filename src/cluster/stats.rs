//! Object counts, event counters and ages, written by the fold and the API source, read at scrape
//! time.

use super::event::Kind;
use super::object::ServiceKind;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Per-kind counters, the delay of endpoint changes, and requests to the API server.
pub struct Stats {
    started: Instant,
    kinds: [KindStats; Kind::ALL.len()],
    programming: [Histogram; 2],
    requests: RequestStats,
    snapshot: SnapshotStats,
}

/// Writes of snapshots.
#[derive(Default)]
pub struct SnapshotStats {
    writes: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Default)]
struct KindStats {
    objects: AtomicU64,
    skipped_objects: AtomicU64,
    skipped_fields: AtomicU64,
    events: AtomicU64,
    audits: AtomicU64,
    audit_repairs: AtomicU64,
    /// Milliseconds since `started`, plus one; 0 means never.
    last_contact: AtomicU64,
}

/// Requests to the API server: GET of a list or of a watch. A watch is counted when it starts; its
/// latency ends at the response head.
pub struct RequestStats {
    /// Number of requests by HTTP status; 0 is a request without a response.
    codes: Mutex<BTreeMap<u16, u64>>,
    host: OnceLock<String>,
    latency: Histogram,
    throttled: Histogram,
}

/// Number of buckets of the programming histogram; the upper bound of bucket k is `0.001 * 2^k`
/// seconds.
const PROGRAMMING_BUCKETS: i32 = 20;

/// Upper bounds in seconds of the request histograms: the defaults of Prometheus clients.
const REQUEST_BOUNDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A histogram with non-cumulative counts; the last bucket counts durations above the last bound.
pub struct Histogram {
    bounds: Box<[f64]>,
    counts: Box<[AtomicU64]>,
    sum_micros: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            kinds: Default::default(),
            programming: std::array::from_fn(|_| {
                Histogram::new((0..PROGRAMMING_BUCKETS).map(|k| 0.001 * 2_f64.powi(k)))
            }),
            requests: RequestStats {
                codes: Mutex::default(),
                host: OnceLock::new(),
                latency: Histogram::new(REQUEST_BOUNDS),
                throttled: Histogram::new(REQUEST_BOUNDS),
            },
            snapshot: SnapshotStats::default(),
        }
    }
}

impl Stats {
    /// Statistics of a replacement cluster: inherits object counts and contact times, and starts
    /// counters at 0.
    pub(super) fn inherit(&self, wanted: &[Kind]) -> Self {
        let stats = Self {
            started: self.started,
            ..Self::default()
        };
        for kind in wanted {
            let (from, to) = (self.kind(*kind), stats.kind(*kind));
            to.last_contact
                .store(from.last_contact.load(Ordering::Relaxed), Ordering::Relaxed);
            to.objects
                .store(from.objects.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        stats
    }

    /// Time since the source, or the one that it replaced, was created.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Number of objects of this kind.
    pub fn objects(&self, kind: Kind) -> u64 {
        self.kind(kind).objects.load(Ordering::Relaxed)
    }

    /// Number of times an object of this kind could not be decoded.
    pub fn skipped_objects(&self, kind: Kind) -> u64 {
        self.kind(kind).skipped_objects.load(Ordering::Relaxed)
    }

    /// Number of invalid fields that were skipped in objects of this kind.
    pub fn skipped_fields(&self, kind: Kind) -> u64 {
        self.kind(kind).skipped_fields.load(Ordering::Relaxed)
    }

    /// Number of events of this kind, including the items of lists.
    pub fn events(&self, kind: Kind) -> u64 {
        self.kind(kind).events.load(Ordering::Relaxed)
    }

    /// Number of complete audits of this kind.
    pub fn audits(&self, kind: Kind) -> u64 {
        self.kind(kind).audits.load(Ordering::Relaxed)
    }

    /// Number of objects of this kind whose lost events an audit has found and repaired.
    pub fn audit_repairs(&self, kind: Kind) -> u64 {
        self.kind(kind).audit_repairs.load(Ordering::Relaxed)
    }

    /// Time since the source last had contact for this kind: an event, the end of a list, or a
    /// bookmark. `None` before the first.
    pub fn age(&self, kind: Kind) -> Option<Duration> {
        let last_contact = self
            .kind(kind)
            .last_contact
            .load(Ordering::Relaxed)
            .checked_sub(1)?;
        Some(
            self.started
                .elapsed()
                .saturating_sub(Duration::from_millis(last_contact)),
        )
    }

    /// Delay of endpoint changes, from the cause to this process, by kind of Service
    /// (`coredns_kubernetes_dns_programming_duration_seconds`).
    pub fn programming(&self, kind: ServiceKind) -> &Histogram {
        &self.programming[usize::from(kind == ServiceKind::Headless)]
    }

    /// Requests to the API server; all zero for other sources.
    pub fn requests(&self) -> &RequestStats {
        &self.requests
    }

    /// Writes of snapshots.
    pub fn snapshot(&self) -> &SnapshotStats {
        &self.snapshot
    }

    pub(super) fn set_objects(&self, kind: Kind, count: usize) {
        self.kind(kind)
            .objects
            .store(count as u64, Ordering::Relaxed);
    }

    pub(super) fn skip_object(&self, kind: Kind) {
        self.kind(kind)
            .skipped_objects
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn skip_fields(&self, kind: Kind, parts: u32) {
        let skipped_fields = &self.kind(kind).skipped_fields;
        skipped_fields.fetch_add(parts.into(), Ordering::Relaxed);
    }

    pub(super) fn audited(&self, kind: Kind) {
        self.kind(kind).audits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn repaired(&self, kind: Kind, objects: usize) {
        let repairs = &self.kind(kind).audit_repairs;
        repairs.fetch_add(objects as u64, Ordering::Relaxed);
    }

    pub(super) fn event(&self, kind: Kind) {
        self.kind(kind).events.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn touch(&self, kind: Kind) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.kind(kind)
            .last_contact
            .store(now + 1, Ordering::Relaxed);
    }

    fn kind(&self, kind: Kind) -> &KindStats {
        &self.kinds[kind as usize]
    }
}

impl SnapshotStats {
    /// Number of files written.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Number of failed attempts.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Size of the last file in bytes; 0 before the first.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn written(&self, bytes: u64) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

impl RequestStats {
    /// Number of requests by status; 0 is those without a response.
    pub fn codes(&self) -> BTreeMap<u16, u64> {
        self.codes.lock().clone()
    }

    /// Time to the response head, or to the failure.
    pub fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// Time that requests waited in the client-side rate limiter.
    pub fn throttled(&self) -> &Histogram {
        &self.throttled
    }

    /// The API server, `HOST:PORT`; empty for other sources.
    pub fn host(&self) -> &str {
        self.host.get().map_or("", String::as_str)
    }

    pub(super) fn set_host(&self, host: &str) {
        // Set once: one source feeds one cluster.
        let _ = self.host.set(host.to_owned());
    }

    pub(super) fn queued(&self, throttled: Duration) {
        self.throttled.observe(throttled);
    }

    pub(super) fn finished(&self, code: u16, latency: Duration) {
        *self.codes.lock().entry(code).or_default() += 1;
        self.latency.observe(latency);
    }
}

impl Histogram {
    fn new(bounds: impl IntoIterator<Item = f64>) -> Self {
        let bounds: Box<[f64]> = bounds.into_iter().collect();
        Self {
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            bounds,
            sum_micros: AtomicU64::new(0),
        }
    }

    /// The upper bounds of the buckets, in seconds.
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// The counts of the buckets; one more than there are bounds.
    pub fn counts(&self) -> Vec<u64> {
        let counts = self.counts.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// The sum of all observed durations, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6
    }

    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }
}
