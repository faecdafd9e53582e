//! Tokens in reading order, with imports and snippets expanded in place.
//!
//! A stack of shared token lists, the innermost on top: an expansion costs one stack entry, without
//! recursion. The first word of an imported list begins a line, and so does the word after an
//! import, so that two uses of a snippet are never joined into one line.

mod import;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;

use smol_str::SmolStr;

use super::diagnostic::{Diagnostic, Severity};
use super::environment::{self, Unresolved};
use super::lexer::{Token, lex};
use super::loader::{Loader, MAX_FILE};
use super::source::{Sources, Span, Word};

/// Quotes inserted by word processors and web pages. At the start of a word they are always a
/// mistake; inside a word they may be an apostrophe.
const TYPOGRAPHIC_QUOTES: [char; 5] = ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}'];

/// Maximum number of snippet expansions per parse, as in CoreDNS.
const MAX_SNIPPETS: usize = 10_000;
/// Maximum number of file expansions per parse, as in CoreDNS.
const MAX_FILES: usize = 100_000;
/// Maximum size in bytes of all source texts of a parse.
const MAX_TEXT: usize = 64 << 20;
/// Maximum number of words per parse, counted after expansion: ten times the largest known files.
const MAX_WORDS: usize = 4 << 20;
/// Maximum number of diagnostics kept; further ones are counted.
const MAX_DIAGNOSTICS: usize = 100;

/// Iterator over tokens that expands imports.
pub(super) struct TokenStream<'a> {
    loader: &'a dyn Loader,
    pub(super) sources: Sources,
    pub(super) imported: Vec<PathBuf>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// The token returned last.
    pub(super) last: Option<Token>,
    frames: Vec<Frame>,
    snippets: HashMap<SmolStr, Snippet>,
    files: HashMap<PathBuf, Rc<[Token]>>,
    /// Reported diagnostics, so that a snippet used twice reports its mistake once.
    seen: HashSet<(String, Option<Span>)>,
    dropped: usize,
    dropped_severity: Severity,
    text_left: usize,
    words_left: usize,
    snippets_left: usize,
    files_left: usize,
    /// A limit was exceeded: the stream ends.
    stopped: bool,
    /// A source text ends in an unclosed quote.
    cut: bool,
}

struct Frame {
    tokens: Rc<[Token]>,
    position: usize,
    origin: Origin,
}

#[derive(PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    Snippet(SmolStr),
}

struct Snippet {
    tokens: Rc<[Token]>,
    span: Span,
}

impl<'a> TokenStream<'a> {
    /// Starts with the Corefile's text.
    pub(super) fn new(name: &str, text: &str, loader: &'a dyn Loader) -> Self {
        let mut stream = Self {
            loader,
            sources: Sources::default(),
            imported: Vec::new(),
            diagnostics: Vec::new(),
            last: None,
            frames: Vec::new(),
            snippets: HashMap::new(),
            files: HashMap::new(),
            seen: HashSet::new(),
            dropped: 0,
            dropped_severity: Severity::Warning,
            text_left: MAX_TEXT,
            words_left: MAX_WORDS,
            snippets_left: MAX_SNIPPETS,
            files_left: MAX_FILES,
            stopped: false,
            cut: false,
        };
        if text.len() > MAX_FILE {
            stream.report(too_large(name));
        } else {
            let tokens = stream.lex(name, text);
            let origin = Origin::File(PathBuf::from(name));
            stream.frames.push(Frame {
                tokens,
                position: 0,
                origin,
            });
        }
        stream
    }

    /// The next token, without consuming it.
    pub(super) fn peek(&self) -> Option<Token> {
        if self.stopped {
            return None;
        }
        let frame = self
            .frames
            .iter()
            .rev()
            .find(|frame| !frame.is_exhausted())?;
        let mut token = frame.tokens[frame.position].clone();
        token.new_line |= frame.position == 0;
        Some(token)
    }

    /// Consumes the next token.
    pub(super) fn next(&mut self) -> Option<Token> {
        let token = self.peek()?;
        while self.frames.last().is_some_and(Frame::is_exhausted) {
            self.frames.pop();
        }
        self.frames.last_mut()?.position += 1;
        if self.words_left == 0 {
            self.stopped = true;
            let message = format!("the Corefile grows to more than {MAX_WORDS} words");
            self.report(token.word.error(message).label("stopped here"));
            return None;
        }
        self.words_left -= 1;
        self.last = Some(token.clone());
        Some(token)
    }

    /// The next token if it is on the same line as the previous one.
    pub(super) fn peek_same_line(&self) -> Option<Token> {
        self.peek().filter(|token| !token.new_line)
    }

    /// Records a diagnostic unless it is a duplicate.
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() == MAX_DIAGNOSTICS {
            self.dropped += 1;
            self.dropped_severity = self.dropped_severity.max(diagnostic.severity);
        } else if self
            .seen
            .insert((diagnostic.message.clone(), diagnostic.span))
        {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Number of errors recorded so far.
    pub(super) fn errors(&self) -> usize {
        let errors = self.diagnostics.iter();
        errors.filter(|one| one.severity == Severity::Error).count()
    }

    /// All recorded diagnostics, and a final line with the number of those dropped.
    pub(super) fn finish(&mut self) -> Vec<Diagnostic> {
        let mut list = std::mem::take(&mut self.diagnostics);
        if self.dropped > 0 {
            let mut more = Diagnostic::error(format!("{} more are not shown", self.dropped));
            more.severity = self.dropped_severity;
            more.span = list.last().and_then(|last| last.span);
            list.push(more);
        }
        list
    }

    /// Whether the stream ended early, by a limit or an unclosed quote. That was reported already.
    pub(super) fn is_cut(&self) -> bool {
        self.stopped || self.cut
    }

    /// Resolves the environment references of a token's word. On failure reports the error and
    /// returns `None`.
    pub(super) fn resolve(&mut self, token: Token) -> Option<Word> {
        let word = token.word;
        if !word.quoted && word.starts_with(TYPOGRAPHIC_QUOTES) {
            let message = format!("{word} begins with a typographic quote, which quotes nothing");
            self.report(
                word.warning(message)
                    .label("the quote is read as a part of the word")
                    .help("write straight quotes (\"), or none"),
            );
        }
        if !environment::has_reference(&word) {
            return Some(word);
        }
        match environment::resolve(&word, self.loader) {
            Ok(text) => Some(Word {
                text: text.into(),
                ..word
            }),
            Err(reason) => {
                let diagnostic = self.unresolved(&word, &reason);
                self.report(diagnostic);
                None
            }
        }
    }

    fn lex(&mut self, name: &str, text: &str) -> Rc<[Token]> {
        self.text_left = self.text_left.saturating_sub(text.len());
        let source = self.sources.add(name, text);
        let lexed = lex(source, self.sources.text(source).unwrap_or_default());
        for diagnostic in lexed.diagnostics {
            self.cut |= diagnostic.severity == Severity::Error;
            self.report(diagnostic);
        }
        lexed.tokens
    }

    fn unresolved(&self, word: &Word, reason: &Unresolved) -> Diagnostic {
        let (name, message) = match reason {
            Unresolved::Unset(name) => (name, format!("environment variable '{name}' is not set")),
            Unresolved::Endless(name) => (
                name,
                format!("environment variable '{name}' refers to itself"),
            ),
        };
        // Points at the reference within the word. A reference from a variable's value has no span.
        let raw = self.sources.slice(word.span).unwrap_or_default();
        let spellings = [format!("{{${name}}}"), format!("{{%{name}%}}")];
        let found = spellings
            .iter()
            .find_map(|one| Some((raw.find(one)?, one.len())));
        let (span, template) = found.map_or((word.span, false), |(start, length)| {
            let span = self.sources.part(word.span, start..start + length);
            (span, raw[..start].ends_with('{'))
        });
        let diagnostic = Diagnostic::error(message).at(span);
        match reason {
            Unresolved::Unset(_) if template => diagnostic.expected("a variable that is set").help(
                format!("a template's own variable needs a blank: {{{{ ${name} }}}}"),
            ),
            Unresolved::Unset(_) => diagnostic.expected("a variable that is set").help(format!(
                "set {name} in the server's environment, empty if need be"
            )),
            Unresolved::Endless(_) => diagnostic.label("replacing it does not end"),
        }
    }

    fn stop(&mut self, diagnostic: Diagnostic) -> Diagnostic {
        self.stopped = true;
        diagnostic
    }
}

impl Frame {
    fn is_exhausted(&self) -> bool {
        self.position >= self.tokens.len()
    }
}

fn too_large(name: &str) -> Diagnostic {
    Diagnostic::error(format!("{name} has more than {} MiB", MAX_FILE >> 20))
}
