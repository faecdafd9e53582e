//! `k8s_external`: the cluster's Services by the addresses that lead to them from outside.
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
//! It takes what it knows from the `kubernetes` of the same server block. What names mean is
//! [`crate::zone::ExternalView`]'s.

use std::sync::Arc;

use super::{
    Build, BuildError, Context, ParseErrors, Parsing, Plugin, Setup, Step, ZoneList,
    kubernetes::ask,
    transfer::{Changes, Offer, Transferable},
};
use crate::{
    corefile::{Diagnostic, Directive, Line, Problems, unknown_property},
    query::{Query, Question},
    reply::Reply,
    wire::Name,
    zone::{ClusterView, ExternalView, Zones},
};

/// The Corefile's word.
const NAME: &str = "k8s_external";
/// Seconds that a record may be kept, where nothing is said.
const TTL: u32 = 5;
/// And at most.
const MAX_TTL: u32 = 3600;

const PROPERTIES: [&str; 4] = ["apex", "ttl", "headless", "fallthrough"];

/// What the directive says.
#[derive(Clone, Debug)]
pub struct Config {
    /// The zones, as listed or those of the block.
    pub zones: Zones,
    /// The label below which the name server stands.
    pub apex: String,
    /// Seconds that a record may be kept.
    pub ttl: u32,
    /// Whether headless Services are shown too.
    pub headless: bool,
    /// Zones in which the next plugin is asked for names that do not exist.
    pub fallthrough: ZoneList,
}

/// Reads the directives of a block, of which the last one counts.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let Some(directive) = Directive::only_last(uses, parsing.warnings) else {
        return Err(Vec::new());
    };
    let mut problems = Problems::default();
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
        problems.push(error);
    }
    let Some(zones) = problems.catch(zones(directive, parsing.zones)) else {
        return Err(problems.in_plugin(NAME).into());
    };
    let mut config = Config {
        zones,
        apex: "dns".to_owned(),
        ttl: TTL,
        headless: false,
        fallthrough: ZoneList::none(),
    };
    for line in directive.properties() {
        problems.catch(config.read(line));
    }
    problems.in_plugin(NAME).into_result(config)
}

fn zones(directive: &Directive, block: &[String]) -> Result<Zones, Diagnostic> {
    let listed = ZoneList::read_or_block(&directive.arguments, block)?;
    Zones::new(listed.names()).ok_or_else(|| {
        let at = directive.arguments.first().unwrap_or(&directive.name);
        at.error("only reverse zones are listed")
            .expected("a zone such as example.org, besides reverse zones")
            .help("Services are named in the first zone that is no reverse zone")
    })
}

impl Config {
    fn read(&mut self, line: &Line) -> Result<(), Diagnostic> {
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
    fn offers(&self) -> bool {
        true
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let inside = build.offered::<ClusterView>().ok_or_else(|| BuildError {
            plugin: NAME,
            action: "there is no 'kubernetes' in its server block".into(),
            source: None,
        })?;
        let plugin = K8sExternal::new(self, &inside);
        build.offered.push(Arc::new(Offer(plugin.zones())) as _);
        Ok(Arc::new(plugin))
    }
}

/// The plugin.
pub struct K8sExternal {
    outside: Arc<ExternalView>,
    fallthrough: ZoneList,
}

impl K8sExternal {
    /// Shows what `inside` knows as `config` says.
    pub fn new(config: &Config, inside: &ClusterView) -> Self {
        let Config {
            ttl,
            apex,
            headless,
            ..
        } = config;
        let zones = config.zones.clone();
        Self {
            outside: Arc::new(ExternalView::new(inside, zones, *ttl, apex, *headless)),
            fallthrough: config.fallthrough.clone(),
        }
    }

    /// Its zones as a whole.
    pub fn zones(&self) -> Arc<dyn Transferable> {
        Arc::clone(&self.outside) as _
    }
}

impl Transferable for ExternalView {
    fn transfer(
        self: Arc<Self>,
        question: &Question,
        held: Option<u32>,
        reply: &mut Reply,
    ) -> bool {
        Self::transfer(&self, question, held, reply)
    }

    fn serials(&self) -> Vec<(Name, u32)> {
        Self::serials(self)
    }

    fn changes(&self) -> Option<Changes> {
        Some(Box::pin(self.cluster().changes()))
    }
}

impl Plugin for K8sExternal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        ask(&*self.outside, context, query, reply, |name| {
            self.fallthrough.covers(name)
        })
    }
}
