//! Families of `forward` under the names that CoreDNS had for them before `coredns_proxy_*` replaced them. Widely used
//! dashboards and alerts still query these. Read from the present families at scrape time.

use std::collections::BTreeMap;

use prometheus::{
    core::{Collector, Desc},
    proto::{LabelPair, Metric, MetricFamily, MetricType},
};

use super::{ForwardMetrics, family::Family};

/// Label of the present families that the former ones do not have.
const DROPPED: &str = "proxy_name";

/// The former families; clones share the present ones.
#[derive(Clone)]
pub(super) struct FormerForwardMetrics {
    present: ForwardMetrics,
    requests: Family,
    responses: Family,
    duration: Family,
    failures: Family,
    hits: Family,
    misses: Family,
}

impl FormerForwardMetrics {
    pub(super) fn new(present: &ForwardMetrics) -> Self {
        let family = |name, labels: &[&'static str], kind| {
            let name = format!("coredns_forward_{name}");
            Family::new(&name, "Former name of coredns_proxy_*.", labels, kind)
        };
        let (counter, histogram) = (MetricType::COUNTER, MetricType::HISTOGRAM);
        Self {
            present: present.clone(),
            requests: family("requests_total", &["to"], counter),
            responses: family("responses_total", &["to", "rcode"], counter),
            duration: family("request_duration_seconds", &["to", "rcode"], histogram),
            failures: family("healthcheck_failures_total", &["to"], counter),
            hits: family("conn_cache_hits_total", &["to", "proto"], counter),
            misses: family("conn_cache_misses_total", &["to", "proto"], counter),
        }
    }
}

impl Collector for FormerForwardMetrics {
    fn desc(&self) -> Vec<&Desc> {
        [
            &self.requests,
            &self.responses,
            &self.duration,
            &self.failures,
            &self.hits,
            &self.misses,
        ]
        .map(Family::desc)
        .into()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let durations = series(&self.present.request_duration_seconds);
        let mut requests = BTreeMap::<String, u64>::new();
        let mut responses = Vec::with_capacity(durations.len());
        for duration in &durations {
            let count = duration.get_histogram().get_sample_count();
            let (to, rcode) = (label(duration, "to"), label(duration, "rcode"));
            *requests.entry(to.to_owned()).or_default() += count;
            responses.push(self.responses.counter(&[to, rcode], count as f64));
        }
        let requests = requests
            .iter()
            .map(|(to, &count)| self.requests.counter(&[to], count as f64));
        vec![
            self.requests.with(requests.collect()),
            self.responses.with(responses),
            self.duration.with(durations),
            self.failures
                .with(series(&self.present.healthcheck_failures_total)),
            self.hits.with(series(&self.present.conn_cache_hits_total)),
            self.misses
                .with(series(&self.present.conn_cache_misses_total)),
        ]
    }
}

/// The series of a present family with the labels of the former one.
fn series(present: &impl Collector) -> Vec<Metric> {
    let families = present.collect();
    let series = families.iter().flat_map(MetricFamily::get_metric).cloned();
    series
        .map(|mut metric| {
            let mut labels: Vec<LabelPair> = metric.take_label();
            labels.retain(|label| label.name() != DROPPED);
            metric.set_label(labels);
            metric
        })
        .collect()
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    let found = metric.get_label().iter().find(|label| label.name() == name);
    found.map_or("", LabelPair::value)
}
