//! Counts and ages of what is known, written by the fold and read at scrape time.

use super::event::Kind;
use super::object::ServiceKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Numbers for each kind of object, and the delay of endpoint changes.
pub struct Stats {
    begun: Instant,
    kinds: [KindStats; Kind::ALL.len()],
    programming: [Histogram; 2],
}

#[derive(Default)]
struct KindStats {
    objects: AtomicU64,
    skipped: AtomicU64,
    events: AtomicU64,
    /// Milliseconds after `begun`, plus one; 0 is never.
    heard: AtomicU64,
}

/// Upper bounds in seconds of the programming histogram's buckets are `0.001 * 2^k`.
pub const PROGRAMMING_BUCKETS: usize = 20;

/// Counts of durations, not cumulative; the last is of those beyond the last bound.
#[derive(Default)]
pub struct Histogram {
    counts: [AtomicU64; PROGRAMMING_BUCKETS + 1],
    sum_micros: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            kinds: Default::default(),
            programming: Default::default(),
        }
    }
}

impl Stats {
    /// How many objects of this kind are known.
    pub fn objects(&self, kind: Kind) -> u64 {
        self.kind(kind).objects.load(Ordering::Relaxed)
    }

    /// How many times an object of this kind could not be read.
    pub fn skipped(&self, kind: Kind) -> u64 {
        self.kind(kind).skipped.load(Ordering::Relaxed)
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

    pub(super) fn set_objects(&self, kind: Kind, count: usize) {
        self.kind(kind)
            .objects
            .store(count as u64, Ordering::Relaxed);
    }

    pub(super) fn skip(&self, kind: Kind) {
        self.kind(kind).skipped.fetch_add(1, Ordering::Relaxed);
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

impl Histogram {
    /// How many fell into each bucket; the last has no bound.
    pub fn counts(&self) -> [u64; PROGRAMMING_BUCKETS + 1] {
        std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed))
    }

    /// The sum of all, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6
    }

    pub(super) fn observe(&self, duration: Duration) {
        let mut bound = Duration::from_millis(1);
        let mut bucket = 0;
        while bucket < PROGRAMMING_BUCKETS && duration > bound {
            bound *= 2;
            bucket += 1;
        }
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }
}
