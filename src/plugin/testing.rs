//! What tests of plugins stand on: a block around nothing, a door that leads nowhere, and a
//! directive read by itself.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{Block, Chain, Context, Door, Plugin};
use crate::{
    corefile::{self, Diagnostic, Directive, Memory},
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

/// Reads the text of a directive with its plugin's `parse`, in the block of `zone`: what it says
/// and the headlines of its warnings, or the report of its errors.
pub fn read<C>(
    text: &str,
    zone: &str,
    parse: impl FnOnce(&Directive, &[String], &mut Vec<Diagnostic>) -> Result<C, Vec<Diagnostic>>,
) -> Result<(C, Vec<String>), String> {
    let word = text.split_whitespace().next().expect("a directive");
    let text = format!(". {{\n{text}\n}}\n");
    let file = corefile::parse("Corefile", &text, &[word], &Memory::default())
        .expect("the language is not what is tested");
    let mut warnings = Vec::new();
    let directive = &file.blocks[0].directives[0];
    parse(directive, &[zone.to_owned()], &mut warnings)
        .map(|config| {
            let warnings = warnings.iter().map(ToString::to_string).collect();
            (config, warnings)
        })
        .map_err(|errors| file.report(errors).to_string())
}
