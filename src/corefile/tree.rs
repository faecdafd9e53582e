//! What a Corefile says once it is parsed: blocks of directives of words.

use std::path::PathBuf;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::{Place, Sources, Word};

/// A parsed Corefile.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// In file order, imports spliced in. Empty when the file has none: see
    /// [`DEFAULT_COREFILE`](super::DEFAULT_COREFILE).
    pub blocks: Vec<ServerBlock>,
    /// The text ends within its last block, without its closing brace or with its keys, which is accepted
    /// as CoreDNS does.
    pub unclosed: bool,
    /// What was accepted although it is surely a mistake.
    pub warnings: Vec<Diagnostic>,
    /// The texts that the words point into.
    pub sources: Sources,
    /// Imported files, and the directories in which globs were looked up: what a watcher must
    /// watch beside the Corefile itself.
    pub imported: Vec<PathBuf>,
}

/// Keys, and the directives that hold for all of them.
#[derive(Clone, Debug)]
pub struct ServerBlock {
    /// As written, environment references replaced; never empty.
    /// [`keys`](Self::keys) gives them their meaning.
    pub keys: Vec<Word>,
    /// In file order; a name may occur more than once.
    pub directives: Vec<Directive>,
    /// The keys' place.
    pub place: Place,
}

/// One use of a plugin: its name, its arguments, its properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The plugin's name; one of those that the parser was told to know.
    pub name: Word,
    /// The words behind the name, up to the end of the line or the opening brace.
    pub arguments: Vec<Word>,
    /// `{ … }`, if there is one.
    pub body: Option<Body>,
}

/// The braced part of a directive.
#[derive(Clone, Debug)]
pub struct Body {
    /// The property lines.
    pub lines: Vec<Line>,
    /// The opening brace.
    pub open: Place,
    /// The closing brace.
    pub close: Place,
}

/// A property line: a name and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Never empty; the first one is the property's name.
    pub words: Vec<Word>,
}

impl File {
    /// Ties diagnostics that a later step raised to the texts, so that they can be drawn.
    pub fn report(&self, list: Vec<Diagnostic>) -> Diagnostics {
        Diagnostics {
            list,
            sources: self.sources.clone(),
        }
    }

    /// The warnings, ready to be drawn.
    pub fn warnings(&self) -> Diagnostics {
        self.report(self.warnings.clone())
    }
}

impl PartialEq for ServerBlock {
    /// Equal when they say the same, wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys && self.directives == other.directives
    }
}

impl Eq for ServerBlock {}

impl PartialEq for Body {
    /// Equal when they say the same, wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        self.lines == other.lines
    }
}

impl Eq for Body {}

impl Directive {
    /// The property lines; none if there is no body.
    pub fn properties(&self) -> &[Line] {
        self.body.as_ref().map_or(&[], |body| &body.lines)
    }

    /// The text of a directive that begins with `head`, with `lines` between braces.
    pub fn written(head: &str, lines: &[String]) -> String {
        if lines.is_empty() {
            return head.to_owned();
        }
        format!("{head} {{\n    {}\n}}", lines.join("\n    "))
    }

    /// The first line of this property.
    pub fn property(&self, name: &str) -> Option<&Line> {
        self.properties().iter().find(|line| *line.name() == name)
    }
}

impl Line {
    /// The property's name.
    pub fn name(&self) -> &Word {
        &self.words[0]
    }
}
