//! Semantics of a Corefile: server blocks with typed keys, settings and plugins.
//!
//! Reading a configuration has no side effects: it opens no socket, and reads no file except the
//! Corefile and its imports. One pass reports all errors.

mod lints;
pub mod order;
pub mod settings;
pub mod unsupported;

use std::{any::Any, path::PathBuf};

pub use settings::{Settings, listening::Listening};

use order::{DirectiveSpec, Kind, ORDER, Repeat};

use crate::{
    corefile::{self, Diagnostic, Diagnostics, Directive, Key, Loader, Severity},
    features::NotBuilt,
    http_page::{HttpPage, Page},
    interfaces::Interfaces,
    plugin::{ParseErrors, Parsing, Setup},
    server::Scheme,
};

/// A complete configuration.
#[derive(Debug)]
pub struct Config {
    /// In file order.
    pub blocks: Vec<ServerBlock>,
    /// Warnings: accepted, but probably mistakes.
    pub warnings: Diagnostics,
    /// Imported files and directories, which are watched like the Corefile.
    pub imported: Vec<PathBuf>,
    /// Hash of the text, for metrics and to detect changes.
    pub hash: u64,
    /// Whether the text has no server block, so that this is the built-in default.
    pub is_default: bool,
    /// Whether the text ends within its last block where that is accepted: after the keys, or
    /// without the closing brace. A truncated file looks the same.
    pub is_cut: bool,
}

/// A server block.
#[derive(Debug)]
pub struct ServerBlock {
    /// Zones and transports; never empty.
    pub keys: Vec<Key>,
    /// Its settings.
    pub settings: Settings,
    /// Its plugins in the order of [`ORDER`], each with its directive's name.
    pub plugins: Vec<(&'static str, Box<dyn Setup>)>,
    /// The directives of the block, in file order.
    pub directives: Vec<Directive>,
}

impl ServerBlock {
    /// The HTTP pages that the block requires.
    pub fn pages(&self) -> Vec<HttpPage> {
        let health = self.settings.health.as_ref();
        let health = health.map(|health| (&health.listen, Page::Health));
        let ready = self.settings.ready.as_ref();
        let ready = ready.map(|ready| (&ready.listen, Page::Ready));
        let profile = self.settings.pprof.as_ref();
        let profile = profile.map(|listen| (listen, Page::Profile));
        let own = [health, ready, profile].into_iter().flatten();
        let own = own.map(|(listen, page)| HttpPage {
            listen: listen.clone(),
            page,
            tls: None,
        });
        own.chain(self.plugins.iter().filter_map(|(_, setup)| setup.page()))
            .collect()
    }

    /// Indices into [`Self::plugins`], in the order in which the plugins are built: a plugin comes
    /// after those that offer what it needs. See [`Offer`](crate::plugin::Offer).
    pub fn building_order(&self) -> Vec<usize> {
        let offers = |place: usize| self.plugins[place].1.offers();
        let needs = |place: usize| self.plugins[place].1.needs();
        let places = 0..self.plugins.len();
        let mut left: Vec<usize> = places.clone().rev().collect();
        left.retain(|place| !offers(*place).is_empty());
        let mut order = Vec::new();
        while !left.is_empty() {
            let lacks = |place: usize| {
                let others = left.iter().filter(|other| **other != place);
                let mut offered = others.flat_map(|other| offers(*other));
                offered.any(|offer| needs(place).contains(offer))
            };
            // Plugins that need each other are built in file order.
            let next = left.iter().position(|place| !lacks(*place));
            order.push(left.remove(next.unwrap_or_default()));
        }
        order.extend(places.filter(|place| offers(*place).is_empty()));
        order
    }

    /// The configurations of its plugins of one type.
    pub fn plugins_of<T: Setup>(&self) -> impl Iterator<Item = &T> {
        self.plugins.iter().filter_map(|(_, setup)| {
            let setup: &dyn Any = &**setup;
            setup.downcast_ref()
        })
    }

    /// The same, to be changed.
    fn plugins_of_mut<T: Setup>(&mut self) -> impl Iterator<Item = &mut T> {
        self.plugins.iter_mut().filter_map(|(_, setup)| {
            let setup: &mut dyn Any = &mut **setup;
            setup.downcast_mut()
        })
    }

    /// The name of its view, if it serves only some queries of its zones.
    pub fn view(&self) -> Option<&str> {
        self.plugins.iter().find_map(|(_, setup)| setup.view())
    }
}

/// The text of a configuration, and the environment in which it is read.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Name in error messages. Relative imports are resolved against its directory.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
    /// Reads imports and environment variables.
    pub loader: &'a dyn Loader,
    /// The machine's network interfaces.
    pub interfaces: &'a Interfaces,
    /// Port of keys without one.
    pub default_port: u16,
}

impl Config {
    /// The configurations of the plugins of one type, of all blocks.
    pub fn plugins_of<T: Setup>(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flat_map(ServerBlock::plugins_of)
    }

    /// The same, to be changed.
    pub fn plugins_of_mut<T: Setup>(&mut self) -> impl Iterator<Item = &mut T> {
        self.blocks.iter_mut().flat_map(ServerBlock::plugins_of_mut)
    }

    /// Reads a configuration, or returns all of its errors.
    pub fn read(source: &Source<'_>) -> Result<Self, Diagnostics> {
        let mut file = read_words(source, true)?;
        let is_refused =
            |list: &[Diagnostic]| list.iter().any(|one| one.severity == Severity::Error);
        let is_default = file.blocks.is_empty() && !is_refused(&file.warnings);
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
            // Spans of diagnostics refer to the file; the default has none.
            default.sources = file.sources;
            file = default;
        }
        let mut found = Vec::new();
        let mut overlaps = corefile::Overlaps::default();
        let mut blocks = Vec::new();
        for block in &file.blocks {
            blocks.push(read_block(block, source, &mut overlaps, &mut found));
        }
        if !is_refused(&found) && !is_refused(&file.warnings) {
            found.extend(lints::lint(&blocks, source.default_port));
        }
        file.warnings.append(&mut found);
        if is_refused(&file.warnings) {
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

/// Parses a text without evaluating directives. Unsupported directives are accepted: `read_block`
/// refuses them with an alternative.
pub fn parse(source: &Source<'_>) -> Result<corefile::File, Diagnostics> {
    read_words(source, false)
}

fn read_words(source: &Source<'_>, without_unknown: bool) -> Result<corefile::File, Diagnostics> {
    let words = corefile::DirectiveNames {
        known: &ORDER.iter().map(|word| word.name).collect::<Vec<_>>(),
        refused: &unsupported::words().collect::<Vec<_>>(),
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

/// Reads one block. Errors and warnings are added to `found`.
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
            found.push(unsupported::refuse(one, block.keys.first()));
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
            if let Err(errors) = read_directive(word, &uses, &mut parsing, &mut read) {
                found.extend(errors);
            }
        }
    }
    settings::listening::warn_of_inapplicable(&read, block, found);
    claim(&read, source.default_port, overlaps, found);
    read
}

/// Reads all uses of one directive in a block.
fn read_directive(
    word: &DirectiveSpec,
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
                    .push(warning.also(uses[0].name.span, "this one"));
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
            let mut errors = Vec::new();
            for instance in instances {
                match parse(instance, parsing) {
                    Ok(plugin) => into.plugins.push((word.name, plugin)),
                    Err(mut wrong) => errors.append(&mut wrong),
                }
            }
            if errors.is_empty() {
                Ok(())
            } else {
                Err(errors)
            }
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
                match unsupported::find(word.name) {
                    Some(known) => error.label(known.why).help(known.instead(one)),
                    None => error
                        .label("CoreDNS has it, Lodestone does not yet")
                        .help(instead),
                }
            })
            .collect()),
    }
}

/// Claims the block's zones on its addresses, and refuses keys that cannot be served.
fn claim(
    block: &ServerBlock,
    default_port: u16,
    overlaps: &mut corefile::Overlaps,
    found: &mut Vec<Diagnostic>,
) {
    use corefile::Transport;
    let listening = &block.settings.listening;
    let bound: Vec<_> = block.settings.bind.iter().copied().map(Some).collect();
    // Conflicts on addresses of another machine cannot be detected.
    let everywhere = bound.is_empty() && !block.settings.bound_elsewhere;
    let addresses = if everywhere { vec![None] } else { bound };
    for key in &block.keys {
        let transport = key.transport;
        if let Err(missing) = Scheme::from(transport).required() {
            let error = Diagnostic::error(format!("no {transport}:// server: {missing}"));
            found.push(error.at(key.span).help(missing.help()));
            continue;
        }
        if let (Some(shed), true) = (block.settings.shed, transport != Transport::Dns) {
            let error = Diagnostic::error("shed is for plain DNS alone").at(shed);
            let error = error.also(key.span, "this is not");
            found.push(error.in_plugin("shed").help("remove the line"));
        }
        let bare = matches!(
            transport,
            Transport::Dns | Transport::Https | Transport::Grpc
        );
        // An invalid `tls` has been reported.
        let is_reported = block.directives.iter().any(|one| one.name == "tls");
        if !bare && listening.tls.is_none() && !is_reported {
            let message = format!("a {transport}:// server needs a certificate");
            let error = Diagnostic::error(message).at(key.span);
            found.push(error.help("add a line 'tls CERTIFICATE KEY' to the block"));
        }
        let quic = matches!(transport, Transport::Quic | Transport::Https3);
        if quic && listening.proxy.is_some() {
            let message = format!("PROXY headers are not read from packets of {transport}://");
            let error = Diagnostic::error(message).at(key.span);
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

/// Hash of the text of a configuration and its imports.
fn hash(file: &corefile::File) -> u64 {
    use std::hash::{Hash, Hasher};
    // Not secret and not stored: it only has to change with the text.
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
    fn plugins_are_built_after_those_that_offer_what_they_need() {
        let source = Source {
            name: "Corefile",
            text: ".:53 {\nmetadata\nlog\ndnstap /run/tap\ntransfer {\nto *\n}\n\
                   k8s_external a.test\nkubernetes b.test\nfile db c.test\nforward . 10.0.0.1\n}\n",
            loader: &corefile::InMemory::default(),
            interfaces: &Interfaces::default(),
            default_port: 53,
        };
        let config = Config::read(&source).unwrap_or_else(|errors| panic!("{errors}"));
        let block = &config.blocks[0];
        let order = block.building_order().into_iter();
        let words: Vec<&str> = order.map(|place| block.plugins[place].0).collect();
        assert_eq!(
            words.join(" "),
            "file kubernetes k8s_external metadata dnstap log transfer forward"
        );
    }

    #[test]
    fn an_unterminated_last_block_is_detected() {
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
                loader: &corefile::InMemory::default(),
                interfaces: &Interfaces::default(),
                default_port: 53,
            };
            let config = Config::read(&source).unwrap_or_else(|errors| panic!("{text:?} {errors}"));
            assert_eq!(config.is_cut, is_cut, "{text:?}");
        }
    }
}
