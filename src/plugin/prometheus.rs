//! `prometheus`: counts each query of the block, and has the metrics served.
//!
//! ```text
//! prometheus [ADDRESS] {
//!     runtime_metrics
//!     tls FILE
//! }
//! ```
//!
//! The listener is [`crate::admin`]'s, the families are in [`crate::metrics`].

use std::{path::PathBuf, sync::Arc};

use crate::{
    admin::{Endpoint, Page},
    corefile::{Directive, Listen, Problems, unknown_property},
    plugin::{Block, Build, BuildError, ParseErrors, Parsing, Plugin, Setup, Written},
    query::Query,
    reply::Reply,
};

/// Where the metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The listener's address: `localhost:9153` unless said otherwise.
    pub listen: Listen,
    /// A file that says how to serve them over TLS, in the form that Prometheus's exporters share.
    pub tls: Option<PathBuf>,
}

/// Reads the one `prometheus` of a server block.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut problems = Problems::default();
    let listen = problems.catch(directive.listen()).flatten();
    let mut tls = None;
    for line in directive.properties() {
        let outcome = match line.name().as_str() {
            // The metrics of Go's runtime: there is none here, and all that is known is served.
            "runtime_metrics" => line.arguments().none_left(),
            "tls" => {
                let file = line.arguments().exactly::<1>("a file");
                file.map(|[file]| tls = Some(file.path()))
            }
            _ => Err(unknown_property(line.name(), &["runtime_metrics", "tls"])),
        };
        problems.catch(outcome);
    }
    let usual = || Listen {
        host: "localhost".into(),
        port: 9153,
    };
    let listen = listen.unwrap_or_else(usual);
    problems
        .in_plugin("prometheus")
        .into_result(Config { listen, tls })
}

impl Setup for Config {
    fn build(&self, _: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        Ok(Arc::new(Prometheus))
    }

    fn page(&self) -> Option<Endpoint> {
        Some(Endpoint {
            listen: self.listen.clone(),
            page: Page::Metrics,
            tls: self.tls.clone(),
        })
    }
}

/// The plugin.
pub struct Prometheus;

impl Plugin for Prometheus {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn asks(&self) -> bool {
        false
    }

    fn amends(&self) -> bool {
        false
    }

    fn observes(&self) -> bool {
        true
    }

    fn wrote(&self, block: &Block, query: &Query, reply: &Reply, written: Written) {
        block
            .counters
            .count(query, reply, written.octets, written.took);
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
    fn lines_of_a_corefile() {
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
