//! Families that are filled at scrape time, in the text encoder's types.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use prometheus::{
    core::{Collector, Desc},
    proto,
};

use super::cells::ShardedCounter;

/// Name, help text and label names of a family.
#[derive(Clone)]
pub(super) struct Family {
    desc: Desc,
    kind: proto::MetricType,
}

impl Family {
    pub(super) fn new(
        name: &str,
        help: &str,
        labels: &[&'static str],
        kind: proto::MetricType,
    ) -> Self {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())
            .expect("names and labels of families are constants that are well-formed");
        Self { desc, kind }
    }

    pub(super) fn desc(&self) -> &Desc {
        &self.desc
    }

    /// A series; `values` in the order of the label names.
    pub(super) fn series(&self, values: &[&str]) -> proto::Metric {
        let mut labels: Vec<_> = self
            .desc
            .variable_labels
            .iter()
            .zip(values)
            .map(|(name, value)| {
                let mut pair = proto::LabelPair::default();
                pair.set_name(name.clone());
                pair.set_value((*value).to_owned());
                pair
            })
            .collect();
        labels.sort();
        proto::Metric::from_label(labels)
    }

    /// A counter series.
    pub(super) fn counter(&self, values: &[&str], value: f64) -> proto::Metric {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        let mut series = self.series(values);
        series.set_counter(counter);
        series
    }

    /// A gauge series.
    pub(super) fn gauge(&self, values: &[&str], value: f64) -> proto::Metric {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        let mut series = self.series(values);
        series.set_gauge(gauge);
        series
    }

    /// A histogram series from non-cumulative bucket counts; the last one is `+Inf`.
    pub(super) fn histogram(
        &self,
        values: &[&str],
        bounds: impl Iterator<Item = f64>,
        counts: &[u64],
        sum: f64,
    ) -> proto::Metric {
        let mut total = 0;
        let buckets = bounds
            .zip(counts)
            .map(|(bound, count)| {
                total += count;
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(total);
                bucket
            })
            .collect();
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum);
        let mut series = self.series(values);
        series.set_histogram(histogram);
        series
    }

    /// The family with its series.
    pub(super) fn with(&self, series: Vec<proto::Metric>) -> proto::MetricFamily {
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(self.kind);
        family.set_metric(series);
        family
    }
}

/// A family of [`ShardedCounter`]s. Keep the series: looking it up takes a lock.
#[derive(Clone)]
pub struct ShardedCounterVec {
    inner: Arc<ShardedSeries>,
}

struct ShardedSeries {
    family: Family,
    series: RwLock<HashMap<Vec<String>, Arc<ShardedCounter>>>,
}

impl ShardedCounterVec {
    pub(super) fn new(name: &str, help: &str, labels: &[&'static str]) -> Self {
        Self {
            inner: Arc::new(ShardedSeries {
                family: Family::new(name, help, labels, proto::MetricType::COUNTER),
                series: RwLock::default(),
            }),
        }
    }

    /// The series with these label values, in the order of the label names.
    pub fn with(&self, values: &[&str]) -> Arc<ShardedCounter> {
        let key: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        Arc::clone(self.inner.series.write().entry(key).or_default())
    }
}

impl Collector for ShardedCounterVec {
    fn desc(&self) -> Vec<&Desc> {
        vec![self.inner.family.desc()]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let family = &self.inner.family;
        let series = self.inner.series.read();
        let series = series
            .iter()
            .map(|(values, counter)| {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                family.counter(&values, counter.get() as f64)
            })
            .collect();
        vec![family.with(series)]
    }
}

/// A histogram family that accepts observations already counted by bucket.
#[derive(Clone)]
pub struct BucketedHistogramVec {
    inner: Arc<BucketedSeries>,
}

struct BucketedSeries {
    family: Family,
    /// Upper bounds in seconds.
    bounds: Vec<f64>,
    series: RwLock<HashMap<Vec<String>, BucketCounts>>,
}

struct BucketCounts {
    counts: Vec<u64>,
    sum: f64,
}

impl BucketedHistogramVec {
    pub(super) fn new(name: &str, help: &str, labels: &[&'static str], bounds: Vec<f64>) -> Self {
        Self {
            inner: Arc::new(BucketedSeries {
                family: Family::new(name, help, labels, proto::MetricType::HISTOGRAM),
                bounds,
                series: RwLock::default(),
            }),
        }
    }

    /// Adds observations to a series: the number in each bucket, the last one above all bounds, and
    /// their sum in seconds.
    pub fn add(&self, values: &[&str], counts: impl IntoIterator<Item = u64>, sum: f64) {
        let key: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        let mut series = self.inner.series.write();
        let totals = series.entry(key).or_insert_with(|| BucketCounts {
            counts: vec![0; self.inner.bounds.len() + 1],
            sum: 0.0,
        });
        for (count, more) in totals.counts.iter_mut().zip(counts) {
            *count += more;
        }
        totals.sum += sum;
    }

    /// Upper bounds of the buckets in seconds.
    pub fn bounds(&self) -> &[f64] {
        &self.inner.bounds
    }
}

impl Collector for BucketedHistogramVec {
    fn desc(&self) -> Vec<&Desc> {
        vec![self.inner.family.desc()]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let BucketedSeries {
            family,
            bounds,
            series,
        } = &*self.inner;
        let series = series.read();
        let series = series.iter().map(|(values, counts)| {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            family.histogram(&values, bounds.iter().copied(), &counts.counts, counts.sum)
        });
        vec![family.with(series.collect())]
    }
}
