//! `prometheus`: counts the queries of the block, and serves the metrics.
//!
//! ```text
//! prometheus [ADDRESS] {
//!     runtime_metrics
//!     tls FILE
//! }
//! ```
//!
//! The listener is `admin`'s, the families are in [`crate::metrics`].

use std::path::PathBuf;

use crate::{
    corefile::{Directive, ErrorList, Listen, unknown_property},
    hooks,
    http_page::{HttpPage, Page},
    plugin::{Block, Build, BuildError, Observer, ParseErrors, Parsing, Plugin, Setup, Written},
    query::Query,
    reply::Reply,
};

/// The parsed directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The listener's address. Default: `localhost:9153`.
    pub listen: Listen,
    /// The TLS configuration, in the web configuration format of Prometheus's exporters.
    pub tls: Option<PathBuf>,
}

/// Parses the directive.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut errors = ErrorList::default();
    let listen = errors.catch(directive.listen()).flatten();
    let mut tls = None;
    for line in directive.properties() {
        let outcome = match line.name().as_str() {
            // Enables the metrics of Go's runtime in CoreDNS; accepted without effect.
            "runtime_metrics" => line.arguments().none_left(),
            "tls" => {
                let file = line.arguments().exactly::<1>("a file");
                file.map(|[file]| tls = Some(file.path()))
            }
            _ => Err(unknown_property(line.name(), &["runtime_metrics", "tls"])),
        };
        errors.catch(outcome);
    }
    let default = || Listen {
        host: "localhost".into(),
        port: 9153,
    };
    let listen = listen.unwrap_or_else(default);
    errors
        .in_plugin("prometheus")
        .into_result(Config { listen, tls })
}

impl Setup for Config {
    fn build(&self, _: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(Prometheus))
    }

    fn page(&self) -> Option<HttpPage> {
        Some(HttpPage {
            listen: self.listen.clone(),
            page: Page::Metrics,
            tls: self.tls.clone(),
        })
    }
}

/// The plugin.
pub struct Prometheus;

hooks!(Prometheus, "prometheus" => observer);

impl Observer for Prometheus {
    fn on_sent(&self, block: &Block, query: &Query, reply: &Reply, written: Written) {
        block
            .counters
            .count(query, reply, written.size, written.took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing;

    fn parsed(text: &str) -> Result<String, String> {
        testing::read(text, ".", parse).map(|(config, _)| config.listen.to_string())
    }

    #[test]
    fn directives_are_parsed() {
        for (text, wanted) in [
            ("prometheus", "localhost:9153"),
            ("prometheus :9153", ":9153"),
            ("prometheus :1 {\ntls web.yml\n}", ":1"),
            ("prometheus 0.0.0.0:9253", "0.0.0.0:9253"),
            ("prometheus [::]:9153 {\nruntime_metrics\n}", "[::]:9153"),
        ] {
            assert_eq!(parsed(text).unwrap(), wanted, "{text}");
        }
        for (text, wanted) in [
            ("prometheus 9153", "missing port"),
            ("prometheus :1 :2", "Wrong argument count"),
            (
                "prometheus {\nruntime_metrics yes\n}",
                "Wrong argument count",
            ),
            ("prometheus {\nruntime_metric\n}", "unknown property"),
            ("prometheus {\ntls\n}", "Wrong argument count"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(refused.contains(wanted), "{text}: {refused}");
        }
    }
}
