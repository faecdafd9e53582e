//! `metadata`: lets the plugins of a block tell each other what they know of a query.
//!
//! ```text
//! metadata [ZONES...]
//! ```
//!
//! What is known stands under a label, `PLUGIN/KEY`, and is read by whoever writes about queries:
//! the placeholder `{/PLUGIN/KEY}` of `log`. Nothing is gathered beforehand. A reader asks
//! [`Published::value`], which asks each plugin of the chain ([`Plugin::metadata`]) until one
//! knows the label; where nobody reads, it costs nothing. Readers find [`Published`] among what
//! the plugins of their block offer; without it, every label is unknown.
//!
//! Labels that are told: of `kubernetes`, for names of its zones, `kind`, `namespace`, `service`,
//! `endpoint`, `port-name`, `protocol` and `parse-error`, in multicluster zones `cluster`, and with
//! `zonal` `zone`; where it knows its pods (`pods verified`), for every name, `client-namespace` and
//! `client-pod-name`, and of the pod's labels, `client-label/KEY`, those that some plugin of the
//! block names: others are not kept (see [`kubernetes`](super::kubernetes)).
//! Of `forward`, once the reply is there, `upstream`: the address that answered. [`MAKERS`] has all of them.

use std::sync::Arc;

use super::{Build, BuildError, Chain, ParseErrors, Parsing, Plugin, Setup, ZoneList};
use crate::{
    corefile::{Directive, Problems},
    query::Query,
    reply::Reply,
};

/// Labels, and the plugin that makes them.
pub struct Maker {
    /// The Corefile's word, which is also the label's first part.
    pub plugin: &'static str,
    /// When they are known.
    pub moment: Moment,
    /// The labels; one that ends in a slash stands for all that begin so.
    pub labels: &'static [&'static str],
}

/// When a label is known, or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// As soon as the query is there.
    Asked,
    /// Once its reply is.
    Answered,
}

impl Maker {
    /// Whether a label is one of these.
    pub fn makes(&self, label: &str) -> bool {
        let mut labels = self.labels.iter();
        labels.any(|own| *own == label || own.ends_with('/') && label.starts_with(own))
    }
}

/// Every label that a plugin makes; those that are not here are unknown.
pub const MAKERS: &[Maker] = &[
    Maker {
        plugin: "forward",
        moment: Moment::Answered,
        labels: &["forward/upstream"],
    },
    Maker {
        plugin: "kubernetes",
        moment: Moment::Asked,
        labels: &[
            "kubernetes/client-label/",
            "kubernetes/client-namespace",
            "kubernetes/client-pod-name",
            "kubernetes/cluster",
            "kubernetes/endpoint",
            "kubernetes/kind",
            "kubernetes/namespace",
            "kubernetes/parse-error",
            "kubernetes/port-name",
            "kubernetes/protocol",
            "kubernetes/service",
            "kubernetes/zone",
        ],
    },
    Maker {
        plugin: "log",
        moment: Moment::Answered,
        labels: &["log/class", "log/type"],
    },
    Maker {
        plugin: "trace",
        moment: Moment::Asked,
        labels: &["trace/traceid"],
    },
    Maker {
        plugin: "view",
        moment: Moment::Asked,
        labels: &["view/name"],
    },
];

/// The Corefile's word.
const NAME: &str = "metadata";

/// Reads the directive.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Published, ParseErrors> {
    let directive = uses[0];
    let mut problems = Problems::default();
    for line in directive.properties() {
        let error = line
            .name()
            .error(format!("unknown property '{}'", line.name()));
        problems.push(error.label("'metadata' has no properties"));
    }
    let zones = problems.catch(ZoneList::read_or_block(&directive.arguments, parsing.zones));
    let zones = zones.unwrap_or_default();
    problems.in_plugin(NAME).into_result(Published { zones })
}

/// That what plugins know may be read, and for which names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Only of names in these zones.
    pub zones: ZoneList,
}

impl Published {
    /// What a plugin of `chain` knows of the query under `label`.
    pub fn value(&self, chain: &Chain, query: &Query, label: &str) -> Option<String> {
        if !self.zones.covers(query.asked.lower.as_ref()) {
            return None;
        }
        let mut plugins = chain.plugins().iter();
        plugins.find_map(|plugin| plugin.metadata(query, label))
    }
}

impl Published {
    /// What a plugin of `chain` knows under `label` of the query that `reply` was sent to.
    pub fn value_after(
        &self,
        chain: &Chain,
        query: &Query,
        reply: &Reply,
        label: &str,
    ) -> Option<String> {
        if !self.zones.covers(query.asked.lower.as_ref()) {
            return None;
        }
        let mut plugins = chain.plugins().iter();
        plugins.find_map(|plugin| plugin.metadata_after(query, reply, label))
    }
}

impl Setup for Published {
    fn offers(&self) -> bool {
        true
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        build.offered.push(Arc::new(self.clone()) as _);
        Ok(Arc::new(Metadata))
    }
}

/// The plugin, which leaves every question to the next one.
struct Metadata;

impl Plugin for Metadata {
    fn name(&self) -> &'static str {
        NAME
    }
}
