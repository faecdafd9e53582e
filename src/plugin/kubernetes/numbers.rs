//! What metrics show of a source: its objects and their age, and what the API server was asked.

use std::{collections::BTreeMap, sync::Weak};

use parking_lot::Mutex;
use prometheus::IntCounterVec;

use crate::{
    cluster::{Cluster, Histogram, Kind, ServiceKind, Stats},
    metrics::{Metrics, TimesVec},
};

/// What has been added to the families so far: they go on when a source is replaced, and are the
/// sum of all sources where there are several.
#[derive(Default)]
struct Exported {
    skipped: [u64; Kind::ALL.len()],
    left_out: [u64; Kind::ALL.len()],
    programming: [ExportedHistogram; 2],
    took: ExportedHistogram,
    waited: ExportedHistogram,
    codes: BTreeMap<u16, u64>,
}

#[derive(Default)]
struct ExportedHistogram {
    counts: Vec<u64>,
    sum: f64,
}

/// Has the numbers of a cluster shown at each scrape, for as long as the cluster is there.
pub(super) fn show(cluster: Weak<Cluster>, metrics: &Metrics) {
    let shown = Mutex::new(Exported::default());
    metrics.before_scrape(move |metrics| {
        let Some(cluster) = cluster.upgrade() else {
            return false;
        };
        shown.lock().catch_up(cluster.stats(), metrics);
        true
    });
}

impl Exported {
    fn catch_up(&mut self, stats: &Stats, metrics: &Metrics) {
        let families = &metrics.cluster;
        for kind in Kind::ALL {
            objects(kind, stats, metrics);
            let at = kind as usize;
            let (skipped, left_out) = (&mut self.skipped[at], &mut self.left_out[at]);
            count(
                kind,
                stats.skipped_objects(kind),
                skipped,
                &families.skipped_objects_total,
            );
            count(
                kind,
                stats.skipped_fields(kind),
                left_out,
                &families.skipped_fields_total,
            );
        }
        let kinds = [
            (ServiceKind::ClusterIp, "cluster_ip"),
            (ServiceKind::Headless, "headless_with_selector"),
        ];
        for ((kind, label), shown) in kinds.into_iter().zip(&mut self.programming) {
            let family = &metrics.kubernetes.dns_programming_duration_seconds;
            shown.catch_up(stats.programming(kind), family, &[label]);
        }
        self.requests(stats, metrics);
    }

    fn requests(&mut self, stats: &Stats, metrics: &Metrics) {
        let requests = stats.requests();
        let host = requests.host();
        if host.is_empty() {
            return;
        }
        let families = &metrics.kubernetes;
        let labels = ["GET", host];
        let took = &families.rest_client_request_duration_seconds;
        self.took.catch_up(requests.latency(), took, &labels);
        let waited = &families.rest_client_rate_limiter_duration_seconds;
        self.waited.catch_up(requests.throttled(), waited, &labels);
        for (code, count) in requests.codes() {
            // What client-go, and so CoreDNS, calls a request without a response.
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
    fn catch_up(&mut self, histogram: &Histogram, family: &TimesVec, labels: &[&str]) {
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

/// Adds what a count has grown by since it was shown; a count of 0 has no series.
fn count(kind: Kind, now: u64, shown: &mut u64, family: &IntCounterVec) {
    if now > *shown {
        let series = family.with_label_values(&[kind.resource()]);
        series.inc_by(now - std::mem::replace(shown, now));
    }
}

/// How many there are, and how long ago that was told. A kind never heard of has neither: it is
/// not watched, or not listed yet.
fn objects(kind: Kind, stats: &Stats, metrics: &Metrics) {
    let Some(age) = stats.age(kind) else { return };
    let labels = [kind.resource()];
    let held = i64::try_from(stats.objects(kind)).unwrap_or(i64::MAX);
    let families = &metrics.cluster;
    families.objects.with_label_values(&labels).add(held);
    let oldest = families.age_seconds.with_label_values(&labels);
    oldest.set(oldest.get().max(age.as_secs_f64()));
}
