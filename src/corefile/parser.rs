//! Parses words into server blocks.
//!
//! ```text
//! file       = { snippet | server block | import }
//! block      = keys "{" directives "}"  |  keys, line end, directives   (up to the file's end or "}")
//! keys       = names of one line; after a trailing "," the list continues on the next line
//! directive  = name arguments [ "{" property lines "}" ]
//! snippet    = "(name)" "{" names "}"
//! ```
//!
//! Parsing continues after a mistake if the structure is still clear, so that one run reports as
//! many mistakes as possible. Braces, `import` and line ends are recognized in the source text
//! only: an environment variable cannot supply them.

mod directive;

use smol_str::SmolStr;

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::lexer::Token;
use super::loader::Loader;
use super::source::{Span, Word};
use super::token_stream::TokenStream;
use super::tree::{Directive, File, ServerBlock};

/// Parses a Corefile: words, imports, snippets, environment references.
///
/// `source_name` appears in errors; relative imports are resolved against its directory. `names`
/// are the directive names; an unknown one is an error that suggests the nearest.
pub fn parse<'a>(
    source_name: &str,
    text: &str,
    names: impl Into<DirectiveNames<'a>>,
    loader: &'a dyn Loader,
) -> Result<File, Diagnostics> {
    let file = parse_without_unknown(source_name, text, names, loader)?;
    if file
        .warnings
        .iter()
        .any(|one| one.severity == Severity::Error)
    {
        return Err(file.warnings());
    }
    Ok(file)
}

/// Like [`parse`], but skips directives with an unknown name and failed imports, so that the rest of
/// the file can be checked: their errors are in [`File::warnings`], and the caller must refuse the file. Any other
/// error ends parsing.
pub fn parse_without_unknown<'a>(
    source_name: &str,
    text: &str,
    names: impl Into<DirectiveNames<'a>>,
    loader: &'a dyn Loader,
) -> Result<File, Diagnostics> {
    let stream = TokenStream::new(source_name, text, loader);
    let mut parser = Parser {
        stream,
        names: names.into(),
        blocks: Vec::new(),
        ended: false,
        left_out: 0,
        unclosed: false,
    };
    while parser.stream.peek().is_some() {
        parser.block();
    }
    let list = parser.stream.finish();
    let sources = parser.stream.sources;
    let errors = list.iter().filter(|one| one.severity == Severity::Error);
    if errors.count() > parser.left_out {
        return Err(Diagnostics { list, sources });
    }
    let mut imported = parser.stream.imported;
    imported.sort();
    imported.dedup();
    Ok(File {
        blocks: parser.blocks,
        unclosed: parser.unclosed,
        warnings: list,
        sources,
        imported,
    })
}

/// Directive names that the parser accepts.
#[derive(Clone, Copy, Debug)]
pub struct DirectiveNames<'a> {
    /// Supported directives, from which suggestions are taken.
    pub known: &'a [&'a str],
    /// Directives that are parsed like the others and refused by the caller with a more specific
    /// error than "unknown".
    pub refused: &'a [&'a str],
}

impl DirectiveNames<'_> {
    fn contain(&self, name: &str) -> bool {
        self.known.contains(&name) || self.refused.contains(&name)
    }
}

impl<'a> From<&'a [&'a str]> for DirectiveNames<'a> {
    fn from(known: &'a [&'a str]) -> Self {
        Self {
            known,
            refused: &[],
        }
    }
}

impl<'a, const N: usize> From<&'a [&'a str; N]> for DirectiveNames<'a> {
    fn from(known: &'a [&'a str; N]) -> Self {
        known.as_slice().into()
    }
}

impl<'a> From<&'a Vec<&'a str>> for DirectiveNames<'a> {
    fn from(known: &'a Vec<&'a str>) -> Self {
        known.as_slice().into()
    }
}

struct Parser<'a> {
    stream: TokenStream<'a>,
    names: DirectiveNames<'a>,
    blocks: Vec<ServerBlock>,
    /// An early end of input was reported: unclosed braces are not reported again.
    ended: bool,
    /// Number of errors about unknown directive names and failed imports.
    left_out: usize,
    /// See [`File::unclosed`].
    unclosed: bool,
}

impl Parser<'_> {
    /// Parses one server block or snippet. Consumes at least one token.
    fn block(&mut self) {
        let Some(first) = self.stream.peek() else {
            return;
        };
        let keys = self.keys();
        if let [key] = &keys[..]
            && let Some(name) = snippet_name(key)
        {
            return self.snippet(key, name);
        }
        let open = self
            .stream
            .peek()
            .filter(|token| token.is("{"))
            .map(|token| {
                self.stream.next();
                self.warn_quoted(&token);
                token.word.span
            });
        if keys.is_empty() {
            self.no_keys(&first, open);
        }
        let has_more = self.stream.peek().is_some();
        self.unclosed |= open.is_none() && !has_more;
        let directives = self.directives(open, keys.first());
        let Some((head, rest)) = keys.split_first() else {
            return;
        };
        if open.is_none() && !has_more && !self.blocks.is_empty() {
            self.stream.report(stray_word(head));
        }
        let span = rest
            .last()
            .map_or(head.span, |last| head.span.to(last.span));
        self.blocks.push(ServerBlock {
            keys,
            directives,
            span,
        });
    }

    /// The keys of a block, up to the opening brace or the end of the line.
    fn keys(&mut self) -> Vec<Word> {
        let mut keys = Vec::new();
        // Span of the comma that announces another key; and whether a key may stand on a new line:
        // the first key, after an import, and after a comma.
        let mut comma: Option<Span> = None;
        let mut anywhere = true;
        loop {
            let Some(token) = self.stream.peek() else {
                if let Some(comma) = comma {
                    self.stream.report(
                        Diagnostic::error("Unexpected EOF")
                            .at(comma)
                            .label("expected another key behind this comma"),
                    );
                }
                return keys;
            };
            if token.new_line && !anywhere {
                return keys;
            }
            if token.new_line && token.is("import") {
                self.stream.next();
                self.import(&token.word);
                anywhere = true;
                continue;
            }
            if token.is("{") {
                if let Some(comma) = comma {
                    let message = "Expected another address but had '{' - check for extra comma";
                    let diagnostic = Diagnostic::error(message).at(comma);
                    self.stream.report(
                        diagnostic
                            .label("no key follows this comma")
                            .help("remove the comma"),
                    );
                }
                return keys;
            }
            self.stream.next();
            comma = self.key(token, &mut keys);
            anywhere = comma.is_some();
        }
    }

    /// Imports directives or keys. If that fails, the rest of the file can still be checked.
    fn import(&mut self, import: &Word) {
        let before = self.stream.errors();
        self.stream.import(import);
        if !self.stream.is_cut() {
            self.left_out += self.stream.errors() - before;
        }
    }

    /// Adds one key. Returns the span of its trailing comma, if any.
    fn key(&mut self, token: Token, keys: &mut Vec<Word>) -> Option<Span> {
        let raw = token.word.clone();
        // An unresolvable reference was reported; its text stands in for the key.
        let mut key = self.stream.resolve(token).unwrap_or_else(|| raw.clone());
        if raw.is_empty() {
            return None;
        }
        if key != raw && matches!(key.as_str(), "" | "{" | "}") {
            let message = format!("'{raw}' is '{key}', which is no key");
            self.stream
                .report(raw.error(message).expected("a variable that holds a zone"));
            keys.push(raw);
            return None;
        }
        let Some(text) = key.text.strip_suffix(',').map(SmolStr::new) else {
            keys.push(key);
            return None;
        };
        let comma = self.last_byte(raw.span);
        if text.is_empty() {
            self.stream.report(
                Diagnostic::error("zone is not a valid domain name: the name is empty")
                    .at(raw.span)
                    .expected("a key in front of the comma")
                    .help("put the comma right behind a key: a.example, b.example {"),
            );
            keys.push(key);
        } else {
            if !key.quoted && raw.ends_with(',') {
                let length = raw.span.range().len();
                key.span = self.stream.sources.part(raw.span, 0..length - 1);
            }
            key.text = text;
            keys.push(key);
        }
        Some(comma)
    }

    fn snippet(&mut self, key: &Word, name: SmolStr) {
        let Some(open) = self.stream.peek().filter(|token| token.is("{")) else {
            let diagnostic = match self.stream.peek() {
                Some(token) => {
                    let message = format!("Unexpected token '{}', expecting '{{'", token.word);
                    token.word.error(message)
                }
                None => Diagnostic::error("Unexpected EOF").at(key.span.after()),
            };
            self.stream.report(
                diagnostic
                    .expected(format!("'{{' behind ({name})"))
                    .help(format!("a snippet needs braces: ({name}) {{")),
            );
            // Without its brace the end of the snippet is ambiguous.
            while self.stream.next().is_some() {}
            return;
        };
        self.stream.next();
        self.warn_quoted(&open);
        let mut tokens = Vec::new();
        let mut depth = 1_usize;
        while let Some(token) = self.stream.next() {
            if token.is("{") {
                depth += 1;
            } else if token.is("}") {
                depth -= 1;
                if depth == 0 {
                    self.warn_quoted(&token);
                    return self.stream.define(key, name, tokens);
                }
            }
            tokens.push(token);
        }
        self.not_closed(open.word.span, "the snippet is opened here");
    }

    /// Directives up to the closing brace or the end of input. `open` is the block's opening brace,
    /// `key` its first key.
    fn directives(&mut self, open: Option<Span>, key: Option<&Word>) -> Vec<Directive> {
        let mut directives = Vec::new();
        while let Some(token) = self.stream.peek() {
            if token.is("}") {
                self.stream.next();
                self.warn_quoted(&token);
                if open.is_none() {
                    self.stream.report(
                        token
                            .word
                            .warning("this '}' ends a block that no '{' opened")
                            .label("nothing to close")
                            .help("put a blank in front of the '{' behind the key"),
                    );
                }
                return directives;
            }
            if token.is("import") {
                self.stream.next();
                self.import(&token.word);
            } else if let Some(directive) = self.directive(open, key) {
                directives.push(directive);
            }
        }
        if let Some(open) = open
            && !self.has_ended()
        {
            self.end_of_block(open);
        }
        directives
    }

    /// End of input within a block. CoreDNS checks only that the last word is a brace, and so
    /// accepts the closing brace of a plugin's body for that of the block.
    fn end_of_block(&mut self, open: Span) {
        let Some(last) = self.stream.last.clone().filter(|last| last.is("}")) else {
            return self.not_closed(open, "the block is opened here");
        };
        self.unclosed = true;
        self.stream.report(
            Diagnostic::warning("the closing brace of a server block is missing")
                .at(last.word.span.after())
                .expected("another '}'")
                .also(open, "the block is opened here"),
        );
    }

    fn not_closed(&mut self, open: Span, opened: &str) {
        let Some(last) = self.stream.last.clone().filter(|_| !self.has_ended()) else {
            return;
        };
        self.ended = true;
        let message = format!("Unexpected token '{}', expecting '}}'", last.word);
        self.stream.report(
            Diagnostic::error(message)
                .at(last.word.span.after())
                .label("expected '}' before the end")
                .also(open, opened),
        );
    }

    fn no_keys(&mut self, first: &Token, open: Option<Span>) {
        let span = open.unwrap_or(first.word.span);
        if open.is_none() && first.is("import") {
            return; // the import was empty or its error is reported
        }
        self.stream.report(
            Diagnostic::error("this server block has no key")
                .at(span)
                .expected("a zone in front of it")
                .help("write . { for the root zone"),
        );
    }

    /// Whether an early end of input was reported already.
    fn has_ended(&self) -> bool {
        self.ended || self.stream.is_cut()
    }

    fn warn_quoted(&mut self, brace: &Token) {
        if brace.word.quoted {
            let message = format!("a quoted '{}' counts as a brace all the same", brace.word);
            self.stream
                .report(brace.word.warning(message).label("remove the quotes"));
        }
    }

    fn last_byte(&self, span: Span) -> Span {
        let length = span.range().len();
        self.stream
            .sources
            .part(span, length.saturating_sub(1)..length)
    }
}

fn snippet_name(key: &Word) -> Option<SmolStr> {
    key.strip_prefix('(')?.strip_suffix(')').map(SmolStr::new)
}

fn stray_word(key: &Word) -> Diagnostic {
    let help = if *key == "}" {
        "remove the brace, or look for one too many above"
    } else {
        "remove the word, or give it a block"
    };
    key.warning(format!(
        "'{key}' behind the last block is served as a zone without plugins"
    ))
    .label("its names are answered with REFUSED")
    .help(help)
}
