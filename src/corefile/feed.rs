//! The words in reading order: what is imported stands where the import stood.
//!
//! A stack of token lists, the innermost on top. Lists are shared, so an expansion costs one stack
//! entry; nothing recurses. The first word of an imported list begins a line, and so does the word
//! behind an import: two uses of a snippet never melt into one line.

mod import;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;

use smol_str::SmolStr;

use super::diagnostic::{Diagnostic, Severity};
use super::environment::{self, Unresolved};
use super::lexer::{Token, lex};
use super::loader::{Loader, MAX_FILE};
use super::source::{Place, Sources, Word};

/// What word processors and web pages make of straight quotes. At the start of a word it is always a
/// mistake; within one it may be an apostrophe.
const TYPOGRAPHIC_QUOTES: [char; 5] = ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}'];

/// Snippet expansions in one parse, as in CoreDNS.
const MAX_SNIPPETS: usize = 10_000;
/// File expansions in one parse, as in CoreDNS.
const MAX_FILES: usize = 100_000;
/// Bytes of all texts of one parse together.
const MAX_TEXT: usize = 64 << 20;
/// Words of one parse, expansions counted each time: ten times what the largest real files hold.
const MAX_WORDS: usize = 4 << 20;
/// What is found wrong beyond this is counted, not kept.
const MAX_DIAGNOSTICS: usize = 100;

/// Hands out tokens and replaces imports.
pub(super) struct Feed<'a> {
    loader: &'a dyn Loader,
    pub(super) sources: Sources,
    pub(super) imported: Vec<PathBuf>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// The token handed out last.
    pub(super) last: Option<Token>,
    frames: Vec<Frame>,
    snippets: HashMap<SmolStr, Snippet>,
    files: HashMap<PathBuf, Rc<[Token]>>,
    /// Diagnostics seen, so that a snippet used twice does not report its mistake twice.
    seen: HashSet<(String, Option<Place>)>,
    dropped: usize,
    dropped_severity: Severity,
    text_left: usize,
    words_left: usize,
    snippets_left: usize,
    files_left: usize,
    /// A limit was hit: nothing more is handed out.
    stopped: bool,
    /// A text lacks its end, for want of a closing quote.
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
    place: Place,
}

impl<'a> Feed<'a> {
    /// Starts with the Corefile's own text.
    pub(super) fn new(name: &str, text: &str, loader: &'a dyn Loader) -> Self {
        let mut feed = Self {
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
            feed.report(too_large(name));
        } else {
            let tokens = feed.lex(name, text);
            let origin = Origin::File(PathBuf::from(name));
            feed.frames.push(Frame {
                tokens,
                position: 0,
                origin,
            });
        }
        feed
    }

    /// The next token, left in place.
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

    /// The next token, taken.
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

    /// The next token if it stands on the line of the one before it.
    pub(super) fn peek_same_line(&self) -> Option<Token> {
        self.peek().filter(|token| !token.new_line)
    }

    /// Keeps a diagnostic, once.
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() == MAX_DIAGNOSTICS {
            self.dropped += 1;
            self.dropped_severity = self.dropped_severity.max(diagnostic.severity);
        } else if self
            .seen
            .insert((diagnostic.message.clone(), diagnostic.place))
        {
            self.diagnostics.push(diagnostic);
        }
    }

    /// All that was reported, with a closing line if some of it was not kept.
    pub(super) fn finish(&mut self) -> Vec<Diagnostic> {
        let mut list = std::mem::take(&mut self.diagnostics);
        if self.dropped > 0 {
            let mut more = Diagnostic::error(format!("{} more are not shown", self.dropped));
            more.severity = self.dropped_severity;
            more.place = list.last().and_then(|last| last.place);
            list.push(more);
        }
        list
    }

    /// Whether the words end before the author's text does; that is reported already.
    pub(super) fn is_cut(&self) -> bool {
        self.stopped || self.cut
    }

    /// The word of a token with its environment references replaced; `None` when one cannot be,
    /// which is reported.
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
        // Points at the reference within the word; one that came out of a value stands nowhere.
        let raw = self.sources.slice(word.place).unwrap_or_default();
        let spellings = [format!("{{${name}}}"), format!("{{%{name}%}}")];
        let found = spellings
            .iter()
            .find_map(|one| Some((raw.find(one)?, one.len())));
        let (place, template) = found.map_or((word.place, false), |(start, length)| {
            let place = self.sources.part(word.place, start..start + length);
            (place, raw[..start].ends_with('{'))
        });
        let diagnostic = Diagnostic::error(message).at(place);
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
