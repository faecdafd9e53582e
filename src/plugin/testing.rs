//! What tests of plugins stand on: a block around nothing, a door that leads nowhere, directives read
//! by themselves, and what a plugin is built from.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::runtime::Handle;

use super::{Block, Build, Chain, Context, Door, ParseErrors, Parsing, Parts, Plugin};
use crate::{
    corefile::{self, Diagnostic, Directive, File, Memory},
    interfaces::Interfaces,
    metrics::Metrics,
    query::{Query, Question},
    reply::{Reply, Why},
    wire::{Class, Name, Rcode, Type},
};

/// The root's block of a server of which nothing is known.
pub struct Place {
    door: Arc<dyn Door>,
    /// The block.
    pub block: Arc<Block>,
}

/// Refuses whatever is asked anew.
struct Nowhere;

impl Door for Nowhere {
    fn answer(self: Arc<Self>, _: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let refused = Reply::failure(Rcode::REFUSED, Why::NoZone);
        Box::pin(std::future::ready(refused))
    }
}

impl Place {
    /// One whose chain has these plugins.
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        let block = Block {
            zone: Name::ROOT,
            server: "dns://:53".into(),
            zone_label: ".".into(),
            view: "".into(),
            chain: Arc::new(Chain::new(plugins)),
            counters: Arc::default(),
        };
        Self {
            door: Arc::new(Nowhere),
            block: Arc::new(block),
        }
    }

    /// For a call of a plugin.
    pub fn context(&self) -> Context<'_> {
        Context {
            door: &self.door,
            block: &self.block,
        }
    }
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

/// The same, with the headlines of the errors.
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
    let file = corefile::parse("Corefile", &text, &[word], &Memory::default())
        .expect("the language is not what is tested");
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

/// Lets a plugin be built for a block of the root, in this runtime.
pub fn build<T>(
    parts: &Parts,
    metrics: &Arc<Metrics>,
    with: impl FnOnce(&mut Build<'_>) -> T,
) -> T {
    with(&mut Build {
        runtime: &Handle::current(),
        parts,
        metrics,
        zones: &[Name::ROOT],
        addresses: &[],
        server: &"dns://:53".into(),
        view: "",
        offered: Vec::new(),
    })
}
