//! The Corefile's meaning: server blocks with typed keys, settings and plugins.
//!
//! Reading a configuration has no effect on anything: no socket is opened, no file but the
//! Corefile and its imports is read. Everything that is wrong with it is found in one pass.

mod doubts;
pub mod elsewhere;
pub mod listening;
pub mod order;
pub mod settings;

use std::path::PathBuf;

pub use listening::Listening;
pub use settings::Settings;

use order::{Kind, ORDER, Repeat, Word};

use crate::{
    admin::{Endpoint, Page},
    corefile::{self, Diagnostic, Diagnostics, Directive, Key, Loader, Severity},
    features::NotBuilt,
    interfaces::Interfaces,
    plugin::{ParseErrors, Parsing, Setup},
    server::Scheme,
};

/// A whole configuration.
#[derive(Debug)]
pub struct Config {
    /// In file order.
    pub blocks: Vec<ServerBlock>,
    /// What is legal and surely not meant.
    pub warnings: Diagnostics,
    /// Files and directories besides the Corefile that it was read from.
    pub imported: Vec<PathBuf>,
    /// A number that changes with the text, for metrics.
    pub hash: u64,
    /// Whether the text has no server block, so that this is the built-in default.
    pub is_default: bool,
    /// Whether the text ends within a block where that is accepted: without its closing brace, or
    /// with its keys. So much is left where a file was cut short.
    pub is_cut: bool,
}

/// A server block.
#[derive(Debug)]
pub struct ServerBlock {
    /// What it is for; never empty.
    pub keys: Vec<Key>,
    /// What configures it without seeing a query.
    pub settings: Settings,
    /// Its plugins in the order of [`ORDER`], each with its word.
    pub plugins: Vec<(&'static str, Box<dyn Setup>)>,
    /// What it was read from, in file order.
    pub directives: Vec<Directive>,
}

impl ServerBlock {
    /// The pages that it wants served over HTTP.
    pub fn pages(&self) -> Vec<Endpoint> {
        let health = self.settings.health.as_ref();
        let health = health.map(|health| (&health.listen, Page::Health));
        let ready = self.settings.ready.as_ref();
        let ready = ready.map(|ready| (&ready.listen, Page::Ready));
        let profile = self.settings.pprof.as_ref();
        let profile = profile.map(|listen| (listen, Page::Profile));
        let own = [health, ready, profile].into_iter().flatten();
        let own = own.map(|(listen, page)| Endpoint {
            listen: listen.clone(),
            page,
            tls: None,
        });
        own.chain(self.plugins.iter().filter_map(|(_, setup)| setup.page()))
            .collect()
    }

    /// The places of [`Self::plugins`] in the order in which they are built: those that offer
    /// something first, the last of them first, since `kubernetes` offers to `k8s_external` and
    /// both to `transfer`.
    pub fn building_order(&self) -> impl Iterator<Item = usize> {
        let offers = |place: &usize| self.plugins[*place].1.offers();
        let places = || 0..self.plugins.len();
        let offering = places().rev().filter(offers);
        offering.chain(places().filter(move |place| !offers(place)))
    }

    /// The name of its view, where it is for some queries of its zones only.
    pub fn view(&self) -> Option<&str> {
        self.plugins.iter().find_map(|(_, setup)| setup.view())
    }
}

/// Where a configuration is read from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// What errors call it; relative imports start from its directory.
    pub name: &'a str,
    /// What it says.
    pub text: &'a str,
    /// How imports and the environment are read.
    pub loader: &'a dyn Loader,
    /// What names of interfaces mean.
    pub interfaces: &'a Interfaces,
    /// The port of keys that carry none.
    pub default_port: u16,
}

impl Config {
    /// Reads a configuration, or tells everything that is wrong with it.
    pub fn read(source: &Source<'_>) -> Result<Self, Diagnostics> {
        let mut file = read_words(source, true)?;
        let is_default = file.blocks.is_empty();
        if is_default {
            let text = corefile::DEFAULT_COREFILE;
            let mut default = parse(&Source {
                name: "built-in",
                text,
                ..*source
            })?;
            default.warnings.append(&mut file.warnings);
            let message = format!("{} has no server block", source.name);
            default.warnings.push(
                Diagnostic::warning(message)
                    .help("the built-in default is served: the root zone with whoami and log"),
            );
            default.imported.append(&mut file.imported);
            // What there is to point at is in the file; the default is beyond reproach.
            default.sources = file.sources;
            file = default;
        }
        let mut found = Vec::new();
        let mut overlaps = corefile::Overlaps::default();
        let mut blocks = Vec::new();
        for block in &file.blocks {
            blocks.push(read_block(block, source, &mut overlaps, &mut found));
        }
        let mut told = found.iter().chain(&file.warnings);
        if !told.any(|one| one.severity == Severity::Error) {
            found.extend(doubts::doubts(&blocks, source.default_port));
        }
        file.warnings.append(&mut found);
        if file
            .warnings
            .iter()
            .any(|one| one.severity == Severity::Error)
        {
            return Err(file.warnings());
        }
        Ok(Self {
            blocks,
            is_cut: file.unclosed && !is_default,
            hash: hash(&file),
            warnings: file.warnings(),
            imported: file.imported,
            is_default,
        })
    }
}

/// The words and blocks of a text. Words that are not served here are let through, for
/// `read_block` to tell what to do about them.
pub fn parse(source: &Source<'_>) -> Result<corefile::File, Diagnostics> {
    read_words(source, false)
}

fn read_words(source: &Source<'_>, without_unknown: bool) -> Result<corefile::File, Diagnostics> {
    let words = corefile::Words {
        known: &ORDER.iter().map(|word| word.name).collect::<Vec<_>>(),
        refused: &elsewhere::words().collect::<Vec<_>>(),
    };
    let Source {
        name, text, loader, ..
    } = *source;
    if without_unknown {
        corefile::parse_without_unknown(name, text, words, loader)
    } else {
        corefile::parse(name, text, words, loader)
    }
}

/// Reads one block; what is wrong with it goes to `found`.
fn read_block(
    block: &corefile::ServerBlock,
    source: &Source<'_>,
    overlaps: &mut corefile::Overlaps,
    found: &mut Vec<Diagnostic>,
) -> ServerBlock {
    let keys = match block.read_keys() {
        Ok(mut keys) => {
            found.append(&mut keys.warnings);
            keys.list
        }
        Err(mut errors) => {
            found.append(&mut errors);
            Vec::new()
        }
    };
    let zones: Vec<String> = keys.iter().map(|key| key.zone.to_string()).collect();
    let mut read = ServerBlock {
        keys,
        settings: Settings::default(),
        plugins: Vec::new(),
        directives: block.directives.clone(),
    };
    for one in &block.directives {
        if !ORDER.iter().any(|word| one.name == word.name) {
            found.push(elsewhere::refuse(one, block.keys.first()));
        }
    }
    for word in ORDER {
        let uses: Vec<&Directive> = block
            .directives
            .iter()
            .filter(|use_| use_.name == word.name)
            .collect();
        if !uses.is_empty() {
            let mut parsing = Parsing {
                zones: &zones,
                directives: &block.directives,
                interfaces: source.interfaces,
                warnings: found,
            };
            if let Err(errors) = read_word(word, &uses, &mut parsing, &mut read) {
                found.extend(errors);
            }
        }
    }
    listening::warn_of_unheeded(&read, block, found);
    claim(&read, source.default_port, overlaps, found);
    read
}

/// Reads all uses of one word in a block.
fn read_word(
    word: &Word,
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
    into: &mut ServerBlock,
) -> Result<(), ParseErrors> {
    let uses = match word.repeat {
        Repeat::Once => {
            Directive::only_once(uses).map_err(|error| vec![error])?;
            uses
        }
        Repeat::First => {
            for later in &uses[1..] {
                let warning = later
                    .name
                    .warning(format!("only the first '{}' counts", word.name));
                parsing
                    .warnings
                    .push(warning.also(uses[0].name.place, "this one"));
            }
            &uses[..1]
        }
        Repeat::Instances | Repeat::Merged => uses,
    };
    match word.kind {
        Kind::Plugin(parse) => {
            let instances = match word.repeat {
                Repeat::Instances => uses.chunks(1),
                Repeat::Once | Repeat::First | Repeat::Merged => uses.chunks(uses.len()),
            };
            for instance in instances {
                into.plugins.push((word.name, parse(instance, parsing)?));
            }
            Ok(())
        }
        Kind::Setting(parse) => parse(uses, parsing, &mut into.settings),
        Kind::NotBuilt(feature) => Err(uses
            .iter()
            .map(|one| {
                let missing = NotBuilt(feature);
                let error = one.name.error(format!("plugin/{}: {missing}", word.name));
                error.help(missing.help())
            })
            .collect()),
        Kind::Absent(instead) => Err(uses
            .iter()
            .map(|one| {
                let message = format!("plugin/{}: not built into Lodestone", word.name);
                let error = one.name.error(message);
                match elsewhere::left_out(word.name) {
                    Some(told) => error.label(told.why).help(told.instead(one)),
                    None => error
                        .label("CoreDNS has it, Lodestone does not yet")
                        .help(instead),
                }
            })
            .collect()),
    }
}

/// Claims the block's zones on its addresses, and refuses keys that cannot be served as they are.
fn claim(
    block: &ServerBlock,
    default_port: u16,
    overlaps: &mut corefile::Overlaps,
    found: &mut Vec<Diagnostic>,
) {
    use corefile::Transport;
    let listening = &block.settings.listening;
    let bound: Vec<_> = block.settings.bind.iter().copied().map(Some).collect();
    // Whether addresses that only another machine has clash cannot be known.
    let everywhere = bound.is_empty() && !block.settings.bound_elsewhere;
    let addresses = if everywhere { vec![None] } else { bound };
    for key in &block.keys {
        let transport = key.transport;
        if let Err(missing) = Scheme::from(transport).required() {
            let error = Diagnostic::error(format!("no {transport}:// server: {missing}"));
            found.push(error.at(key.place).help(missing.help()));
            continue;
        }
        if let (Some(shed), true) = (block.settings.shed, transport != Transport::Dns) {
            let error = Diagnostic::error("shed is for plain DNS alone").at(shed);
            let error = error.also(key.place, "this is not");
            found.push(error.in_plugin("shed").help("remove the line"));
        }
        let bare = matches!(
            transport,
            Transport::Dns | Transport::Https | Transport::Grpc
        );
        // One that is there and wrong has been told.
        let is_told = block.directives.iter().any(|one| one.name == "tls");
        if !bare && listening.tls.is_none() && !is_told {
            let message = format!("a {transport}:// server needs a certificate");
            let error = Diagnostic::error(message).at(key.place);
            found.push(error.help("add a line 'tls CERTIFICATE KEY' to the block"));
        }
        let quic = matches!(transport, Transport::Quic | Transport::Https3);
        if quic && listening.proxy.is_some() {
            let message = format!("PROXY headers are not read from packets of {transport}://");
            let error = Diagnostic::error(message).at(key.place);
            found.push(error.help("serve it in a block without 'proxyproto'"));
        }
        for address in &addresses {
            let port = key.port_or(default_port);
            if let Err(clash) = overlaps.claim(key, port, *address, block.view().is_some()) {
                found.push(clash);
            }
        }
    }
}

/// A number that follows the text of a configuration and of its imports.
fn hash(file: &corefile::File) -> u64 {
    use std::hash::{Hash, Hasher};
    // Not secret and not kept: it only has to differ where the text does.
    let mut hasher = std::hash::DefaultHasher::new();
    for text in file.sources.texts() {
        text.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_that_ends_within_its_last_block() {
        for (text, is_cut) in [
            (".", true),
            (". {\n errors {\n }\n", true),
            ("a. {\n errors\n}\nb.", true),
            (". {\n errors\n}\n", false),
            (". {\n}\n# The end.\n", false),
            (".\nerrors", false),
            ("", false),
        ] {
            let source = Source {
                name: "Corefile",
                text,
                loader: &corefile::Memory::default(),
                interfaces: &Interfaces::default(),
                default_port: 53,
            };
            let config = Config::read(&source).unwrap_or_else(|errors| panic!("{text:?} {errors}"));
            assert_eq!(config.is_cut, is_cut, "{text:?}");
        }
    }
}
