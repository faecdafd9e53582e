//! Exports the statistics of a source as metrics: objects and their age, requests to the API
//! server.

use std::{collections::BTreeMap, sync::Weak};

use parking_lot::Mutex;
use prometheus::IntCounterVec;

use crate::{
    cluster::{Cluster, Histogram, Kind, ServiceKind, SnapshotStats, Stats},
    metrics::{BucketedHistogramVec, Metrics},
};

/// Values exported so far. Counters continue when a source is replaced, and are summed over
/// sources.
#[derive(Default)]
struct Exported {
    skipped: [u64; Kind::ALL.len()],
    skipped_fields: [u64; Kind::ALL.len()],
    audits: [u64; Kind::ALL.len()],
    audit_repairs: [u64; Kind::ALL.len()],
    programming: [ExportedHistogram; 2],
    latency: ExportedHistogram,
    throttled: ExportedHistogram,
    codes: BTreeMap<u16, u64>,
    snapshot_writes: u64,
    snapshot_failures: u64,
}

#[derive(Default)]
struct ExportedHistogram {
    counts: Vec<u64>,
    sum: f64,
}

/// Exports the statistics of a cluster at each scrape, until it is dropped.
pub(super) fn export(cluster: Weak<Cluster>, metrics: &Metrics) {
    let exported = Mutex::new(Exported::default());
    metrics.before_scrape(move |metrics| {
        let Some(cluster) = cluster.upgrade() else {
            return false;
        };
        exported.lock().export(cluster.stats(), metrics);
        if let Some(snapshot) = cluster.snapshot() {
            // The oldest of several clusters.
            let age = &metrics.cluster.snapshot_age_seconds;
            age.set(age.get().max(snapshot.age().as_secs_f64()));
        }
        true
    });
}

impl Exported {
    fn export(&mut self, stats: &Stats, metrics: &Metrics) {
        let families = &metrics.cluster;
        for kind in Kind::ALL {
            objects(kind, stats, metrics);
            let at = kind as usize;
            let audits = stats.audits(kind);
            count(kind, audits, &mut self.audits[at], &families.audits_total);
            let (repairs, exported) = (stats.audit_repairs(kind), &mut self.audit_repairs[at]);
            count(kind, repairs, exported, &families.audit_repairs_total);
            let (skipped, skipped_fields) = (&mut self.skipped[at], &mut self.skipped_fields[at]);
            count(
                kind,
                stats.skipped_objects(kind),
                skipped,
                &families.skipped_objects_total,
            );
            count(
                kind,
                stats.skipped_fields(kind),
                skipped_fields,
                &families.skipped_fields_total,
            );
        }
        let kinds = [
            (ServiceKind::ClusterIp, "cluster_ip"),
            (ServiceKind::Headless, "headless_with_selector"),
        ];
        for ((kind, label), shown) in kinds.into_iter().zip(&mut self.programming) {
            let family = &metrics.kubernetes.dns_programming_duration_seconds;
            shown.export(stats.programming(kind), family, &[label]);
        }
        self.requests(stats, metrics);
        self.snapshots(stats.snapshot(), metrics);
    }

    fn snapshots(&mut self, snapshot: &SnapshotStats, metrics: &Metrics) {
        let families = &metrics.cluster;
        let (writes, failures) = (snapshot.writes(), snapshot.failures());
        let before = std::mem::replace(&mut self.snapshot_writes, writes);
        families.snapshot_writes_total.inc_by(writes - before);
        let before = std::mem::replace(&mut self.snapshot_failures, failures);
        families.snapshot_failures_total.inc_by(failures - before);
        if writes > 0 {
            let bytes = i64::try_from(snapshot.bytes()).unwrap_or(i64::MAX);
            families.snapshot_bytes.set(bytes);
        }
    }

    fn requests(&mut self, stats: &Stats, metrics: &Metrics) {
        let requests = stats.requests();
        let host = requests.host();
        if host.is_empty() {
            return;
        }
        let families = &metrics.kubernetes;
        let labels = ["GET", host];
        let latency = &families.rest_client_request_duration_seconds;
        self.latency.export(requests.latency(), latency, &labels);
        let throttled = &families.rest_client_rate_limiter_duration_seconds;
        self.throttled
            .export(requests.throttled(), throttled, &labels);
        for (code, count) in requests.codes() {
            // The label that client-go, and so CoreDNS, uses for a request without a response.
            let label = match code {
                0 => "<error>".to_owned(),
                code => code.to_string(),
            };
            let shown = self.codes.insert(code, count).unwrap_or_default();
            let family = &families.rest_client_requests_total;
            family
                .with_label_values(&[&label, "GET", host])
                .inc_by(count - shown);
        }
    }
}

impl ExportedHistogram {
    fn export(&mut self, histogram: &Histogram, family: &BucketedHistogramVec, labels: &[&str]) {
        debug_assert_eq!(histogram.bounds(), family.bounds());
        let counts = histogram.counts();
        let sum = histogram.sum();
        if counts.iter().all(|count| *count == 0) {
            return;
        }
        self.counts.resize(counts.len(), 0);
        let more = counts
            .iter()
            .zip(&self.counts)
            .map(|(now, shown)| now - shown);
        family.add(labels, more, sum - self.sum);
        *self = Self { counts, sum };
    }
}

/// Adds the increase of a count since the last export; a count of 0 creates no series.
fn count(kind: Kind, now: u64, shown: &mut u64, family: &IntCounterVec) {
    if now > *shown {
        let series = family.with_label_values(&[kind.resource()]);
        series.inc_by(now - std::mem::replace(shown, now));
    }
}

/// Exports the number of objects and the time since the last contact. Kinds without contact are not
/// exported: they are not watched, or not listed yet.
fn objects(kind: Kind, stats: &Stats, metrics: &Metrics) {
    let Some(age) = stats.age(kind) else { return };
    let labels = [kind.resource()];
    let held = i64::try_from(stats.objects(kind)).unwrap_or(i64::MAX);
    let families = &metrics.cluster;
    families.objects.with_label_values(&labels).add(held);
    let oldest = families.age_seconds.with_label_values(&labels);
    oldest.set(oldest.get().max(age.as_secs_f64()));
}
