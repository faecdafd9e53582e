//! The Corefile's meaning: server blocks with typed keys, settings and plugins.
//!
//! Reading a configuration has no effect on anything: no socket is opened, no file but the
//! Corefile and its imports is read. Everything that is wrong with it is found in one pass.

pub mod listening;
pub mod settings;

use std::{collections::HashMap, path::PathBuf};

pub use listening::Listening;
pub use settings::Settings;

use crate::{
    corefile::{self, Diagnostic, Diagnostics, Directive, Key, Loader, Severity, Zone},
    plugin::{
        Setup,
        order::{Errors, Kind, ORDER, Repeat, Word},
    },
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
}

/// What the reading of a directive knows of its surroundings.
pub struct Parsing<'a> {
    /// The zones of the block's keys.
    pub zones: &'a [Zone],
    /// Every directive of the block: what a plugin that builds on another looks for it in.
    pub directives: &'a [Directive],
    /// Where warnings go.
    pub warnings: &'a mut Vec<Diagnostic>,
}

impl Parsing<'_> {
    /// The zones of the block's keys as text.
    pub fn zone_names(&self) -> Vec<String> {
        self.zones
            .iter()
            .map(|zone| zone.as_str().to_owned())
            .collect()
    }
}

/// Where a configuration is read from.
pub struct Source<'a> {
    /// What errors call it; relative imports start from its directory.
    pub name: &'a str,
    /// What it says.
    pub text: &'a str,
    /// How imports and the environment are read.
    pub loader: &'a dyn Loader,
    /// The port of keys that carry none.
    pub default_port: u16,
}

impl Config {
    /// Reads a configuration, or tells everything that is wrong with it.
    pub fn read(source: &Source<'_>) -> Result<Self, Diagnostics> {
        let known: Vec<&str> = ORDER.iter().map(|word| word.name).collect();
        let mut file = corefile::parse(source.name, source.text, &known, source.loader)?;
        if file.blocks.is_empty() {
            let text = corefile::DEFAULT_COREFILE;
            let mut default = corefile::parse("built-in", text, &known, source.loader)?;
            default.warnings.append(&mut file.warnings);
            let message = format!("{} has no server block", source.name);
            default.warnings.push(
                Diagnostic::warning(message)
                    .help("the built-in default is served: the root zone with whoami and log"),
            );
            default.imported.append(&mut file.imported);
            file = default;
        }
        let mut found = Vec::new();
        let mut overlaps = corefile::Overlaps::default();
        let mut blocks = Vec::new();
        for block in &file.blocks {
            blocks.push(read_block(
                block,
                source.default_port,
                &mut overlaps,
                &mut found,
            ));
        }
        check_certificates(&blocks, source.default_port, &mut found);
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
            hash: hash(&file),
            warnings: file.warnings(),
            imported: file.imported,
        })
    }
}

/// Reads one block; what is wrong with it goes to `found`.
fn read_block(
    block: &corefile::ServerBlock,
    default_port: u16,
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
    let zones: Vec<Zone> = keys.iter().map(|key| key.zone.clone()).collect();
    let mut read = ServerBlock {
        keys,
        settings: Settings::default(),
        plugins: Vec::new(),
    };
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
                warnings: found,
            };
            if let Err(errors) = read_word(word, &uses, &mut parsing, &mut read) {
                found.extend(errors);
            }
        }
    }
    listening::warn_of_unheeded(&read, block, found);
    claim(&read, default_port, overlaps, found);
    read
}

/// Reads all uses of one word in a block.
fn read_word(
    word: &Word,
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
    into: &mut ServerBlock,
) -> Result<(), Errors> {
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
            for one in uses {
                into.plugins.push((word.name, parse(one, parsing)?));
            }
            Ok(())
        }
        Kind::MergedPlugin(parse) => {
            into.plugins.push((word.name, parse(uses, parsing)?));
            Ok(())
        }
        Kind::Setting(parse) => parse(uses, parsing, &mut into.settings),
        Kind::Absent(instead) => Err(uses
            .iter()
            .map(|one| {
                let message = format!("plugin/{}: not built into Lodestone yet", word.name);
                one.name
                    .error(message)
                    .label("CoreDNS has it, Lodestone does not")
                    .help(instead)
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
    for key in &block.keys {
        let transport = key.transport;
        let bare = matches!(
            transport,
            Transport::Dns | Transport::Https | Transport::Grpc
        );
        if !bare && listening.tls.is_none() {
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
        for address in bindings(block) {
            if let Err(error) = overlaps.claim(key, key.port_or(default_port), address, false) {
                found.push(error);
            }
        }
    }
}

/// The addresses that a block is bound to; nothing stands for all of the machine.
fn bindings(block: &ServerBlock) -> Vec<Option<std::net::IpAddr>> {
    let bound: Vec<_> = block.settings.bind.iter().copied().map(Some).collect();
    if bound.is_empty() { vec![None] } else { bound }
}

/// Refuses two certificates for one listener: which of them a client is shown is decided before it
/// says what zone it asks for.
fn check_certificates(blocks: &[ServerBlock], default_port: u16, found: &mut Vec<Diagnostic>) {
    let mut shown = HashMap::new();
    for block in blocks {
        for key in &block.keys {
            if key.transport == corefile::Transport::Dns {
                continue;
            }
            for address in bindings(block) {
                let listener = (key.transport, address, key.port_or(default_port));
                let files = block.settings.listening.tls.as_ref();
                let (first, place) = *shown.entry(listener).or_insert((files, key.place));
                if first != files {
                    let (transport, port) = (key.transport, listener.2);
                    let message =
                        format!("{transport}:// at port {port} cannot have two certificates");
                    let error = Diagnostic::error(message).at(key.place);
                    found.push(
                        error
                            .also(place, "the other one is of this block")
                            .help("write the same 'tls' line in both blocks, or another port"),
                    );
                }
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
