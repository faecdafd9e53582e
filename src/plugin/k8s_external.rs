//! `k8s_external`: Services by their external addresses.
//!
//! ```text
//! k8s_external [ZONES...] {
//!     apex LABEL
//!     ttl SECONDS
//!     headless
//!     fallthrough [ZONES...]
//! }
//! ```
//!
//! Uses the objects of the `kubernetes` plugin in the same server block. Names and records:
//! [`crate::zone::ExternalView`].

use std::sync::Arc;

use super::{
    Build, BuildError, Context, Offer, OnQuery, ParseErrors, Parsing, Plugin, Setup, Step,
    ZoneList, kubernetes::answer_query, transfer::Transferable,
};
use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Property, unknown_property},
    hooks,
    query::Query,
    reply::Reply,
    wire::Name,
    zone::{ClusterView, ExternalView, Zones},
};

/// The directive.
const NAME: &str = "k8s_external";
/// Default of `ttl`, in seconds.
const TTL: u32 = 5;
/// Maximum of `ttl`, in seconds.
const MAX_TTL: u32 = 3600;

const PROPERTIES: [&str; 4] = ["apex", "ttl", "headless", "fallthrough"];

/// The parsed directive.
#[derive(Clone, Debug)]
pub struct Config {
    /// The zones: as listed, or those of the block's keys.
    pub zones: Zones,
    /// `apex`: the parent label of the name server.
    pub apex: String,
    /// TTL of records in seconds.
    pub ttl: u32,
    /// `headless`: whether headless Services are answered.
    pub headless: bool,
    /// `fallthrough`: zones in which nonexistent names are passed to the next plugin.
    pub fallthrough: ZoneList,
}

/// Parses the directives of a block; the last one applies.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let Some(directive) = Directive::only_last(uses, parsing.warnings) else {
        return Err(Vec::new());
    };
    let mut errors = ErrorList::default();
    if !parsing
        .directives
        .iter()
        .any(|one| one.name == "kubernetes")
    {
        let error = directive
            .name
            .error("no 'kubernetes' in this server block")
            .label("takes its Services from there")
            .help("add a 'kubernetes' block beside it");
        errors.push(error);
    }
    let Some(zones) = errors.catch(zones(directive, parsing.zones)) else {
        return Err(errors.in_plugin(NAME).into());
    };
    let mut config = Config {
        zones,
        apex: "dns".to_owned(),
        ttl: TTL,
        headless: false,
        fallthrough: ZoneList::none(),
    };
    for line in directive.properties() {
        errors.catch(config.read(line));
    }
    errors.in_plugin(NAME).into_result(config)
}

fn zones(directive: &Directive, block: &[String]) -> Result<Zones, Diagnostic> {
    let listed = ZoneList::read_or_block(&directive.arguments, block)?;
    Zones::new(listed.names()).ok_or_else(|| {
        let at = directive.arguments.first().unwrap_or(&directive.name);
        at.error("only reverse zones are listed")
            .expected("a zone such as example.org, besides reverse zones")
            .help("Services are named in the first zone that is not a reverse zone")
    })
}

impl Config {
    fn read(&mut self, line: &Property) -> Result<(), Diagnostic> {
        let mut arguments = line.arguments();
        match line.name().as_str() {
            "apex" => {
                let label = arguments.required("a label such as dns")?;
                let is_label = Name::parse(label)
                    .is_ok_and(|name| name.as_ref().label_count() == 1 && !label.contains('\\'));
                if !is_label {
                    return Err(label.error(format!("'{label}' is no label")));
                }
                self.apex = label.trim_end_matches('.').into();
            }
            "ttl" => self.ttl = arguments.required("seconds")?.integer(0..=MAX_TTL)?,
            "headless" => self.headless = true,
            "fallthrough" => self.fallthrough = ZoneList::read_or_all(arguments.rest())?,
            _ => return Err(unknown_property(line.name(), &PROPERTIES)),
        }
        arguments.none_left()
    }
}

impl Setup for Config {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::Zones]
    }

    fn needs(&self) -> &'static [Offer] {
        &[Offer::Cluster]
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let view = build.offers.cluster.clone().ok_or_else(|| BuildError {
            plugin: NAME,
            action: "there is no 'kubernetes' in its server block".into(),
            source: None,
        })?;
        let plugin = K8sExternal::new(self, &view);
        build.offers.zones.push(plugin.zones());
        Ok(Plugin::from(plugin))
    }
}

/// The plugin.
pub struct K8sExternal {
    zones: Arc<ExternalView>,
    fallthrough: ZoneList,
}

impl K8sExternal {
    /// A plugin for the cluster of `view`.
    pub fn new(config: &Config, view: &ClusterView) -> Self {
        let Config {
            ttl,
            apex,
            headless,
            ..
        } = config;
        let zones = config.zones.clone();
        Self {
            zones: Arc::new(ExternalView::new(view, zones, *ttl, apex, *headless)),
            fallthrough: config.fallthrough.clone(),
        }
    }

    /// Its zones, for transfers.
    pub fn zones(&self) -> Arc<dyn Transferable> {
        Arc::clone(&self.zones) as _
    }
}

hooks!(K8sExternal, NAME => on_query);

impl OnQuery for K8sExternal {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let cluster = self.zones.cluster();
        answer_query(&*self.zones, cluster, context, query, reply, |name| {
            self.fallthrough.covers(name)
        })
    }
}
