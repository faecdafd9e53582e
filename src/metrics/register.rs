//! Creates and registers families.

use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

use super::BucketedHistogramVec;

/// Invariant of all family definitions.
pub(super) const WELL_FORMED: &str =
    "names, labels and buckets of families are constants, each its own";

/// Creates families and registers them.
pub(super) struct Register(pub(super) Registry);

impl Register {
    pub(super) fn add<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        let registered = self.0.register(Box::new(collector.clone()));
        registered.expect(WELL_FORMED);
        collector
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help).expect(WELL_FORMED))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels).expect(WELL_FORMED))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help).expect(WELL_FORMED))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels).expect(WELL_FORMED))
    }

    pub(super) fn bucketed_histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&'static str],
        bounds: Vec<f64>,
    ) -> BucketedHistogramVec {
        self.add(BucketedHistogramVec::new(name, help, labels, bounds))
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: Vec<f64>,
    ) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets);
        self.add(HistogramVec::new(options, labels).expect(WELL_FORMED))
    }

    /// Build information. The label `goversion` belongs to CoreDNS's family; its value here is the
    /// compiler.
    pub(super) fn build_info(&self) {
        let info = self.gauges(
            "coredns_build_info",
            "1 for this build: version, revision and compiler.",
            &["version", "revision", "goversion"],
        );
        let version = env!("CARGO_PKG_VERSION");
        let revision = option_env!("LODESTONE_REVISION").unwrap_or_default();
        let compiler = concat!("rust", env!("CARGO_PKG_RUST_VERSION"));
        info.with_label_values(&[version, revision, compiler])
            .set(1);
    }
}

pub(super) fn gauge(name: &str, help: &str) -> Gauge {
    Gauge::new(name, help).expect(WELL_FORMED)
}
