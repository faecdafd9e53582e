//! The words in reading order: what is imported stands where the import stood.
//!
//! A stack of token lists, the innermost on top. Lists are shared, so an expansion costs one stack
//! entry; nothing recurses. The first word of an imported list begins a line, and so does the word
//! behind an import: two uses of a snippet never melt into one line.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use smol_str::SmolStr;

use super::diagnostic::{Diagnostic, Severity};
use super::environment::{self, Unresolved};
use super::lexer::{Token, lex};
use super::loader::{Loader, MAX_FILE};
use super::source::{Place, SourceId, Sources, Word};

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
}

struct Frame {
    tokens: Rc<[Token]>,
    position: usize,
    origin: Origin,
}

#[derive(PartialEq, Eq)]
enum Origin {
    Corefile,
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
        };
        if text.len() > MAX_FILE {
            feed.report(too_large(name));
        } else {
            let tokens = feed.lex(name, text);
            let origin = Origin::Corefile;
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

    /// The word of a token with its environment references replaced; `None` when one cannot be,
    /// which is reported.
    pub(super) fn resolve(&mut self, token: Token) -> Option<Word> {
        let word = token.word;
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

    /// Defines a snippet whose key is `key`, without its parentheses `name`.
    pub(super) fn define(&mut self, key: &Word, name: SmolStr, tokens: Vec<Token>) {
        if let Some(first) = self.snippets.get(&name) {
            let diagnostic = key
                .error(format!(
                    "redeclaration of previously declared snippet {name}"
                ))
                .label("the name is taken")
                .also(first.place, "first defined here");
            return self.report(diagnostic);
        }
        let own = |pair: &[Token]| {
            pair[0].new_line && pair[0].is("import") && pair[1].is(&name) && !pair[1].new_line
        };
        if let Some(pair) = tokens.windows(2).find(|pair| own(pair)) {
            let diagnostic = endless_snippet(&pair[1].word, "a snippet cannot import itself");
            return self.report(diagnostic);
        }
        self.snippets.insert(
            name,
            Snippet {
                tokens: tokens.into(),
                place: key.place,
            },
        );
    }

    /// Replaces an import whose word `import` was just taken.
    pub(super) fn import(&mut self, import: &Word) {
        let Some(argument) = self.peek_same_line() else {
            let message = "Wrong argument count or unexpected line ending after 'import'";
            let diagnostic = Diagnostic::error(message)
                .at(import.place.after())
                .expected("the name of a snippet, a file or a glob pattern");
            return self.report(diagnostic);
        };
        self.next();
        if let Some(extra) = self.peek_same_line() {
            let message = "Import takes only one argument (glob pattern or file)";
            let mut diagnostic = extra.word.error(message).label("one too many");
            if extra.is("}") {
                diagnostic = diagnostic.help("put the closing brace on its own line");
            }
            self.report(diagnostic);
            // A brace is left to the parser, or the block's end would be lost with it.
            while self
                .peek_same_line()
                .is_some_and(|extra| !extra.is("}") && !extra.is("{"))
            {
                self.next();
            }
            return;
        }
        let Some(pattern) = self.resolve(argument) else {
            return;
        };
        if pattern.is_empty() {
            let diagnostic = pattern
                .error("Import requires a non-empty filepath")
                .expected("the name of a snippet, a file or a glob pattern");
            return self.report(diagnostic);
        }
        let outcome = if self.snippets.contains_key(&pattern.text) {
            self.import_snippet(&pattern)
        } else {
            self.import_files(&pattern)
        };
        if let Err(diagnostic) = outcome {
            self.report(diagnostic);
        }
    }

    fn import_snippet(&mut self, name: &Word) -> Result<(), Diagnostic> {
        let origin = Origin::Snippet(name.text.clone());
        if self.is_open(&origin) {
            return Err(endless_snippet(
                name,
                "this snippet is being imported already",
            ));
        }
        if self.snippets_left == 0 {
            return Err(self.stop(endless_snippet(name, "one import too many")));
        }
        self.snippets_left -= 1;
        let Some(snippet) = self.snippets.get(&name.text) else {
            return Ok(());
        };
        self.frames.push(Frame {
            tokens: Rc::clone(&snippet.tokens),
            position: 0,
            origin,
        });
        Ok(())
    }

    fn import_files(&mut self, pattern: &Word) -> Result<(), Diagnostic> {
        let path = self.directory(pattern.place.source).join(pattern.as_str());
        let text = path.to_string_lossy();
        let has_wildcard = text.contains(['*', '?', '[']);
        let paths = if has_wildcard {
            check_glob(pattern, &text)?;
            self.imported.push(fixed_part(&path));
            let found = self.loader.glob(&path);
            found.map_err(|error| not_imported(pattern, &path, &error))?
        } else {
            vec![path.clone()]
        };
        if paths.is_empty() {
            self.report(
                pattern
                    .warning(format!("No files matching import glob pattern: {pattern}"))
                    .label("nothing is imported"),
            );
        }
        // The first file must come out first, so it goes on the stack last; but files are read in
        // order, so that the first bad one is the one that is reported.
        let mut frames = Vec::with_capacity(paths.len());
        for path in paths {
            let origin = Origin::File(path.clone());
            if self.is_open(&origin) {
                return Err(endless_file(pattern, "this file is being imported already"));
            }
            if self.files_left == 0 {
                let diagnostic = endless_file(pattern, "one import too many");
                return Err(self.stop(diagnostic));
            }
            self.files_left -= 1;
            let tokens = self.file(pattern, path)?;
            frames.push(Frame {
                tokens,
                position: 0,
                origin,
            });
        }
        self.frames.extend(frames.into_iter().rev());
        Ok(())
    }

    /// The tokens of a file, read at its first import.
    fn file(&mut self, pattern: &Word, path: PathBuf) -> Result<Rc<[Token]>, Diagnostic> {
        if let Some(tokens) = self.files.get(&path) {
            return Ok(Rc::clone(tokens));
        }
        self.imported.push(path.clone());
        let text = self
            .loader
            .read(&path)
            .map_err(|error| not_imported(pattern, &path, &error))?;
        if text.len() > MAX_FILE {
            let error = io::ErrorKind::FileTooLarge.into();
            return Err(not_imported(pattern, &path, &error));
        }
        if text.len() > self.text_left {
            let message = format!("the imported files have more than {} MiB", MAX_TEXT >> 20);
            return Err(self.stop(pattern.error(message).label("stopped here")));
        }
        let tokens = self.lex(&path.to_string_lossy(), &text);
        self.files.insert(path, Rc::clone(&tokens));
        Ok(tokens)
    }

    fn lex(&mut self, name: &str, text: &str) -> Rc<[Token]> {
        self.text_left = self.text_left.saturating_sub(text.len());
        let source = self.sources.add(name, text);
        let lexed = lex(source, self.sources.text(source).unwrap_or_default());
        for diagnostic in lexed.diagnostics {
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

    /// Whether a list is on the stack, so that importing it again would never end.
    fn is_open(&self, origin: &Origin) -> bool {
        self.frames.iter().any(|frame| frame.origin == *origin)
    }

    /// Where relative paths of a text begin: beside the file; for text from standard input, the
    /// working directory.
    fn directory(&self, source: SourceId) -> PathBuf {
        match self.sources.name(source) {
            None | Some("/dev/stdin") => PathBuf::new(),
            Some(name) => Path::new(name)
                .parent()
                .map(Path::to_path_buf)
                .unwrap_or_default(),
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

/// CoreDNS's limits on glob patterns, which hold for the whole path.
fn check_glob(pattern: &Word, path: &str) -> Result<(), Diagnostic> {
    let count = |rune| path.matches(rune).count();
    if count('*') > 1 || count('?') > 1 || path.contains('[') && path.contains(']') {
        let message =
            format!("Glob pattern may only contain one wildcard (*), but has others: {pattern}");
        return Err(pattern.error(message).expected("at most one * and one ?"));
    }
    if path.contains('[') {
        let message = format!("Failed to use import pattern {pattern}: syntax error in pattern");
        return Err(pattern.error(message).label("the [ is not closed"));
    }
    Ok(())
}

/// The directory from which a glob searches.
fn fixed_part(pattern: &Path) -> PathBuf {
    let is_fixed = |part: &std::path::Component<'_>| {
        !part.as_os_str().to_string_lossy().contains(['*', '?', '['])
    };
    let fixed: PathBuf = pattern.components().take_while(is_fixed).collect();
    if fixed.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        fixed
    }
}

fn not_imported(pattern: &Word, path: &Path, error: &io::Error) -> Diagnostic {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => pattern
            .error(format!("File to import not found: {pattern}"))
            .label(format!(
                "no snippet of this name above, and no file {shown}"
            )),
        io::ErrorKind::IsADirectory => pattern
            .error(format!("Could not import {pattern}: is a directory"))
            .expected("files")
            .help("name the files with a pattern such as DIRECTORY/*.override"),
        io::ErrorKind::FileTooLarge => too_large(&shown.to_string()).at(pattern.place),
        _ => pattern
            .error(format!("Could not import {pattern}: {error}"))
            .label(format!("reading {shown} failed")),
    }
}

fn too_large(name: &str) -> Diagnostic {
    Diagnostic::error(format!("{name} has more than {} MiB", MAX_FILE >> 20))
}

fn endless_snippet(name: &Word, label: &str) -> Diagnostic {
    name.error(format!(
        "maximum snippet import depth ({MAX_SNIPPETS}) exceeded"
    ))
    .label(label)
}

fn endless_file(name: &Word, label: &str) -> Diagnostic {
    name.error(format!("maximum file import depth ({MAX_FILES}) exceeded"))
        .label(label)
}
