//! Syntax tree of a Corefile.

use std::path::PathBuf;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::{Sources, Span, Word};

/// A parsed Corefile.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// In file order, with imports expanded. Empty if the file has no blocks: see
    /// [`DEFAULT_COREFILE`](super::DEFAULT_COREFILE).
    pub blocks: Vec<ServerBlock>,
    /// Whether the last block lacks its closing brace or body, which CoreDNS accepts.
    pub unclosed: bool,
    /// Accepted, but probably mistakes.
    pub warnings: Vec<Diagnostic>,
    /// The source texts of all words.
    pub sources: Sources,
    /// Imported files and the directories of glob patterns: to be watched for changes beside the
    /// Corefile itself.
    pub imported: Vec<PathBuf>,
}

/// A server block: keys and directives.
#[derive(Clone, Debug)]
pub struct ServerBlock {
    /// As written, with environment references replaced; never empty. Parsed by
    /// [`read_keys`](Self::read_keys).
    pub keys: Vec<Word>,
    /// In file order; a name can occur more than once.
    pub directives: Vec<Directive>,
    /// Span of the keys.
    pub span: Span,
}

/// One use of a plugin: name, arguments, properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The plugin's name, one of the parser's [`DirectiveNames`](super::DirectiveNames).
    pub name: Word,
    /// The words after the name, up to the end of the line or the opening brace.
    pub arguments: Vec<Word>,
    /// `{ … }`, if present.
    pub body: Option<Body>,
}

/// The braced part of a directive.
#[derive(Clone, Debug)]
pub struct Body {
    /// The property lines.
    pub lines: Vec<Property>,
    /// The opening brace.
    pub open: Span,
    /// The closing brace.
    pub close: Span,
}

/// A property line: a name and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Never empty; the first word is the property's name.
    pub words: Vec<Word>,
}

impl File {
    /// Attaches the source texts to diagnostics of a later stage, for rendering.
    pub fn report(&self, list: Vec<Diagnostic>) -> Diagnostics {
        Diagnostics {
            list,
            sources: self.sources.clone(),
        }
    }

    /// The warnings with their source texts.
    pub fn warnings(&self) -> Diagnostics {
        self.report(self.warnings.clone())
    }
}

impl PartialEq for ServerBlock {
    /// Compares texts, not spans.
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys && self.directives == other.directives
    }
}

impl Eq for ServerBlock {}

impl PartialEq for Body {
    /// Compares texts, not spans.
    fn eq(&self, other: &Self) -> bool {
        self.lines == other.lines
    }
}

impl Eq for Body {}

impl Directive {
    /// The property lines; empty without a body.
    pub fn properties(&self) -> &[Property] {
        self.body.as_ref().map_or(&[], |body| &body.lines)
    }

    /// The text of a directive that begins with `head`, with `lines` between braces.
    pub fn written(head: &str, lines: &[String]) -> String {
        if lines.is_empty() {
            return head.to_owned();
        }
        format!("{head} {{\n    {}\n}}", lines.join("\n    "))
    }

    /// The first line of the named property.
    pub fn property(&self, name: &str) -> Option<&Property> {
        self.properties().iter().find(|line| *line.name() == name)
    }
}

impl Property {
    /// The property's name.
    pub fn name(&self) -> &Word {
        &self.words[0]
    }
}
