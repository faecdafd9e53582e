//! Fixtures for unit tests of plugins: a block, internal queries that are refused, and helpers that
//! parse directives and build plugins.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::runtime::Handle;

use super::{
    Block, Build, Chain, Context, Offers, OnQuery, ParseErrors, Parsing, Plugin, SharedResources,
    SubQueryHandler,
};
use crate::{
    corefile::{self, Diagnostic, Directive, File, InMemory},
    interfaces::Interfaces,
    metrics::Metrics,
    query::{Query, Question},
    reply::{Reply, Why},
    wire::{Class, Name, Rcode, Type},
};

/// A server block for the root zone.
pub struct TestBlock {
    sub_queries: Arc<dyn SubQueryHandler>,
    /// The block.
    pub block: Arc<Block>,
}

/// Refuses all internal queries.
struct Nowhere;

impl SubQueryHandler for Nowhere {
    fn answer(self: Arc<Self>, _: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let refused = Reply::failure(Rcode::REFUSED, Why::NoZone);
        Box::pin(std::future::ready(refused))
    }
}

impl TestBlock {
    /// A block whose chain has these plugins.
    pub fn new(plugins: Vec<Plugin>) -> Self {
        let block = Block {
            zone: Name::ROOT,
            server: "dns://:53".into(),
            zone_label: ".".into(),
            view: "".into(),
            chain: Arc::new(Chain::new(plugins)),
            counters: Arc::default(),
            feed: Arc::default(),
        };
        Self {
            sub_queries: Arc::new(Nowhere),
            block: Arc::new(block),
        }
    }

    /// The context for calling a plugin.
    pub fn context(&self) -> Context<'_> {
        Context {
            sub_queries: &self.sub_queries,
            block: &self.block,
        }
    }
}

/// The inbound hook of a plugin that has one.
pub fn inbound(plugin: &Plugin) -> &dyn OnQuery {
    &**plugin.on_query.as_ref().expect("an inbound hook")
}

/// A question for `name` in class IN.
pub fn query(name: &str, rtype: Type) -> Query {
    let name = Name::parse(name).expect("a name");
    Query::internal(Question::new(name, rtype, Class::IN))
}

/// Parses the text of one or more uses of a directive with its plugin's `parse`, in the block of
/// `zone`: the configuration and the headlines of the warnings, or the report of the errors.
pub fn read<C>(
    text: &str,
    zone: &str,
    parse: impl FnOnce(&[&Directive], &mut Parsing<'_>) -> Result<C, ParseErrors>,
) -> Result<(C, Vec<String>), String> {
    let (file, parsed, warnings) = parsed(text, zone, parse);
    let config = parsed.map_err(|errors| file.report(errors).to_string())?;
    Ok((config, warnings.iter().map(ToString::to_string).collect()))
}

/// Like [`read`], with the headlines of the errors.
pub fn headlines<C>(
    text: &str,
    zone: &str,
    parse: impl FnOnce(&[&Directive], &mut Parsing<'_>) -> Result<C, ParseErrors>,
) -> Result<(C, Vec<Diagnostic>), Vec<String>> {
    let (_, parsed, warnings) = parsed(text, zone, parse);
    let headlines = |errors: ParseErrors| errors.into_iter().map(|error| error.message).collect();
    parsed.map_err(headlines).map(|config| (config, warnings))
}

fn parsed<C>(
    text: &str,
    zone: &str,
    parse: impl FnOnce(&[&Directive], &mut Parsing<'_>) -> Result<C, ParseErrors>,
) -> (File, Result<C, ParseErrors>, Vec<Diagnostic>) {
    let word = text.split_whitespace().next().expect("a directive");
    let text = format!(". {{\n{text}\n}}\n");
    let file =
        corefile::parse("Corefile", &text, &[word], &InMemory::default()).expect("valid syntax");
    let mut warnings = Vec::new();
    let directives = &file.blocks[0].directives;
    let uses: Vec<_> = directives.iter().collect();
    let parsed = parse(
        &uses,
        &mut Parsing {
            zones: &[zone.to_owned()],
            directives,
            interfaces: &Interfaces::default(),
            warnings: &mut warnings,
        },
    );
    (file, parsed, warnings)
}

/// Builds a plugin for a block of the root zone, in the current runtime.
pub fn build<T>(
    resources: &SharedResources,
    metrics: &Arc<Metrics>,
    with: impl FnOnce(&mut Build<'_>) -> T,
) -> T {
    with(&mut Build {
        runtime: &Handle::current(),
        resources,
        metrics,
        zones: &[Name::ROOT],
        addresses: &[],
        server: &"dns://:53".into(),
        view: "",
        offers: Offers::default(),
    })
}
