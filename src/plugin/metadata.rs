//! `metadata`: publishes values that plugins of a block derive from a query, for use by others.
//!
//! ```text
//! metadata [ZONES...]
//! ```
//!
//! A value has a label, `PLUGIN/KEY`, and is used by log formats (`{/PLUGIN/KEY}`), expressions and
//! templates. Values are computed on demand: [`Published::value`] calls each plugin of the chain
//! ([`MetadataSource`](super::MetadataSource)) until one has the label, so unused labels cost
//! nothing. Readers get [`Published`] from [`Offers::metadata`](super::Offers::metadata); without
//! it, every label is unknown.
//!
//! [`PUBLISHERS`] lists all labels. `kubernetes` has, for names in its zones, `kind`, `namespace`,
//! `service`, `endpoint`, `port-name`, `protocol` and `parse-error`, in multicluster zones
//! `cluster`, and with `zonal` `zone`. With `pods verified` it has, for every name,
//! `client-namespace`, `client-pod-name`, and `client-label/KEY` for those labels of the client's
//! pod that are used in the block (see [`kubernetes`](super::kubernetes)). `forward` has, once
//! there is a reply, `upstream`: the address that answered.

use std::sync::Arc;

use super::{Build, BuildError, Offer, ParseErrors, Parsing, Plugin, Setup, ZoneList};
use crate::{
    corefile::{Directive, ErrorList},
    hooks,
    query::Query,
    reply::Reply,
};

/// A plugin that publishes labels.
pub struct Publisher {
    /// The directive's name, which is also the first part of its labels.
    pub plugin: &'static str,
    /// When the values are available.
    pub available: Available,
    /// The labels; one that ends in a slash is a prefix.
    pub labels: &'static [&'static str],
}

/// When a value is available, or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Available {
    /// From the query on.
    OnQuery,
    /// Once there is a reply.
    OnReply,
}

impl Publisher {
    /// Whether the plugin publishes this label.
    pub fn publishes(&self, label: &str) -> bool {
        let mut labels = self.labels.iter();
        labels.any(|own| *own == label || own.ends_with('/') && label.starts_with(own))
    }
}

/// All plugins that publish labels; labels that are not listed are unknown.
pub const PUBLISHERS: &[Publisher] = &[
    Publisher {
        plugin: "forward",
        available: Available::OnReply,
        labels: &["forward/upstream"],
    },
    Publisher {
        plugin: "kubernetes",
        available: Available::OnQuery,
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
    Publisher {
        plugin: "log",
        available: Available::OnReply,
        labels: &["log/class", "log/reason", "log/type"],
    },
    Publisher {
        plugin: "trace",
        available: Available::OnQuery,
        labels: &["trace/traceid"],
    },
    Publisher {
        plugin: "view",
        available: Available::OnQuery,
        labels: &["view/name"],
    },
];

/// The directive's name.
const NAME: &str = "metadata";

/// Parses the directive.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Published, ParseErrors> {
    let directive = uses[0];
    let mut errors = ErrorList::default();
    for line in directive.properties() {
        let error = line
            .name()
            .error(format!("unknown property '{}'", line.name()));
        errors.push(error.label("'metadata' has no properties"));
    }
    let zones = errors.catch(ZoneList::read_or_block(&directive.arguments, parsing.zones));
    let zones = zones.unwrap_or_default();
    errors.in_plugin(NAME).into_result(Published { zones })
}

/// The plugin's configuration: metadata is available for names in these zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The zones.
    pub zones: ZoneList,
}

impl Published {
    /// The value of `label` for a query of the block with these plugins: that of the first plugin that has
    /// one. `reply` is present once the query is answered.
    pub fn value(
        &self,
        plugins: &[Plugin],
        query: &Query,
        reply: Option<&Reply>,
        label: &str,
    ) -> Option<String> {
        if !self.zones.covers(query.original.lower.as_ref()) {
            return None;
        }
        let mut plugins = plugins.iter();
        plugins.find_map(|plugin| plugin.metadata(query, reply, label))
    }
}

impl Setup for Published {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::Metadata]
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        build.offers.metadata = Some(Arc::new(self.clone()));
        Ok(Plugin::from(Metadata))
    }
}

/// The plugin, which has no hooks.
struct Metadata;

hooks!(Metadata, NAME =>);
