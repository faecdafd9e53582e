//! Counts and ages of what is known, written by the fold and the API source, read at scrape time.

use super::event::Kind;
use super::object::ServiceKind;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Numbers for each kind of object, the delay of endpoint changes, and what the API was asked.
pub struct Stats {
    begun: Instant,
    kinds: [KindStats; Kind::ALL.len()],
    programming: [Histogram; 2],
    requests: Requests,
}

#[derive(Default)]
struct KindStats {
    objects: AtomicU64,
    skipped: AtomicU64,
    left_out: AtomicU64,
    events: AtomicU64,
    /// Milliseconds after `begun`, plus one; 0 is never.
    heard: AtomicU64,
}

/// Requests to the API server. All are GET: of a list, or of a watch, which counts from its
/// beginning and takes until the head of its response.
pub struct Requests {
    /// By status; 0 is no response at all.
    codes: Mutex<BTreeMap<u16, u64>>,
    host: OnceLock<String>,
    took: Histogram,
    waited: Histogram,
}

/// Upper bounds in seconds of the programming histogram's buckets are `0.001 * 2^k`, k below this.
const PROGRAMMING_BUCKETS: i32 = 20;

/// Upper bounds in seconds of the requests' histograms: those that Prometheus' clients have.
const REQUEST_BOUNDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Counts of durations, not cumulative; the last is of those beyond the last bound.
pub struct Histogram {
    bounds: Box<[f64]>,
    counts: Box<[AtomicU64]>,
    sum_micros: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            kinds: Default::default(),
            programming: std::array::from_fn(|_| {
                Histogram::new((0..PROGRAMMING_BUCKETS).map(|k| 0.001 * 2_f64.powi(k)))
            }),
            requests: Requests {
                codes: Mutex::default(),
                host: OnceLock::new(),
                took: Histogram::new(REQUEST_BOUNDS),
                waited: Histogram::new(REQUEST_BOUNDS),
            },
        }
    }
}

impl Stats {
    /// The numbers of objects that are taken over, and the time of the last event of each kind. Counters
    /// begin at 0.
    pub(super) fn inherit(&self, wanted: &[Kind]) -> Self {
        let stats = Self {
            begun: self.begun,
            ..Self::default()
        };
        for kind in wanted {
            let (from, to) = (self.kind(*kind), stats.kind(*kind));
            to.heard
                .store(from.heard.load(Ordering::Relaxed), Ordering::Relaxed);
            to.objects
                .store(from.objects.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        stats
    }

    /// How many objects of this kind are known.
    pub fn objects(&self, kind: Kind) -> u64 {
        self.kind(kind).objects.load(Ordering::Relaxed)
    }

    /// How many times an object of this kind could not be read.
    pub fn skipped(&self, kind: Kind) -> u64 {
        self.kind(kind).skipped.load(Ordering::Relaxed)
    }

    /// How many parts of objects of this kind could not be used and were left out.
    pub fn left_out(&self, kind: Kind) -> u64 {
        self.kind(kind).left_out.load(Ordering::Relaxed)
    }

    /// How many changes of this kind have been told, those of lists included.
    pub fn events(&self, kind: Kind) -> u64 {
        self.kind(kind).events.load(Ordering::Relaxed)
    }

    /// How long ago the source last proved to be in touch with this kind: an event, the end of a
    /// list, or a bookmark. None before the first.
    pub fn age(&self, kind: Kind) -> Option<Duration> {
        let heard = self
            .kind(kind)
            .heard
            .load(Ordering::Relaxed)
            .checked_sub(1)?;
        Some(
            self.begun
                .elapsed()
                .saturating_sub(Duration::from_millis(heard)),
        )
    }

    /// How long endpoint changes took from their cause to here, of headless Services or of the
    /// others (`coredns_kubernetes_dns_programming_duration_seconds`).
    pub fn programming(&self, kind: ServiceKind) -> &Histogram {
        &self.programming[usize::from(kind == ServiceKind::Headless)]
    }

    /// What the API server was asked; nothing where the source is another.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    pub(super) fn set_objects(&self, kind: Kind, count: usize) {
        self.kind(kind)
            .objects
            .store(count as u64, Ordering::Relaxed);
    }

    pub(super) fn skip(&self, kind: Kind) {
        self.kind(kind).skipped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave_out(&self, kind: Kind, parts: u32) {
        let left_out = &self.kind(kind).left_out;
        left_out.fetch_add(parts.into(), Ordering::Relaxed);
    }

    pub(super) fn event(&self, kind: Kind) {
        self.kind(kind).events.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn hear(&self, kind: Kind) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.kind(kind).heard.store(now + 1, Ordering::Relaxed);
    }

    fn kind(&self, kind: Kind) -> &KindStats {
        &self.kinds[kind as usize]
    }
}

impl Requests {
    /// How many requests came to each status; 0 is those without a response.
    pub fn codes(&self) -> BTreeMap<u16, u64> {
        self.codes.lock().clone()
    }

    /// How long the head of the response took, or the failure to get one.
    pub fn took(&self) -> &Histogram {
        &self.took
    }

    /// How long requests waited for their turn here before they were sent.
    pub fn waited(&self) -> &Histogram {
        &self.waited
    }

    /// Whom they went to, `HOST:PORT`; empty where nobody is asked.
    pub fn host(&self) -> &str {
        self.host.get().map_or("", String::as_str)
    }

    pub(super) fn set_host(&self, host: &str) {
        // One source feeds one cluster; there is no second host to tell.
        let _ = self.host.set(host.to_owned());
    }

    pub(super) fn wait(&self, waited: Duration) {
        self.waited.observe(waited);
    }

    pub(super) fn end(&self, code: u16, took: Duration) {
        *self.codes.lock().entry(code).or_default() += 1;
        self.took.observe(took);
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

    /// How many fell into each bucket; one more than there are bounds.
    pub fn counts(&self) -> Vec<u64> {
        let counts = self.counts.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// The sum of all, in seconds.
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
