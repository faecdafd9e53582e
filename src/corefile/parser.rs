//! Words into server blocks.
//!
//! ```text
//! file       = { snippet | server block | import }
//! block      = keys "{" directives "}"  |  keys, line end, directives   (up to the file's end or "}")
//! keys       = words of one line; a word that ends in "," lets the list go on on the next line
//! directive  = name arguments [ "{" property lines "}" ]
//! snippet    = "(name)" "{" words "}"
//! ```
//!
//! A mistake does not end the parse where the structure is still clear, so that one run shows as
//! many as can be told soundly. Braces, `import` and line ends are looked for in the text as it is
//! written: an environment variable cannot supply them.

mod directive;

use smol_str::SmolStr;

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::feed::Feed;
use super::lexer::Token;
use super::loader::Loader;
use super::source::{Place, Word};
use super::tree::{Directive, File, ServerBlock};

/// Parses a Corefile: words, imports, snippets, environment references.
///
/// `source_name` is shown in errors, and relative imports start from its directory. `words` lists
/// the directive names; any other is refused with the nearest one named.
pub fn parse<'a>(
    source_name: &str,
    text: &str,
    words: impl Into<Words<'a>>,
    loader: &'a dyn Loader,
) -> Result<File, Diagnostics> {
    let file = parse_without_unknown(source_name, text, words, loader)?;
    if file
        .warnings
        .iter()
        .any(|one| one.severity == Severity::Error)
    {
        return Err(file.warnings());
    }
    Ok(file)
}

/// Like [`parse`], but directives with an unknown name are only left out, so that the rest of the file
/// can be checked too: their errors stand among [`File::warnings`], and the file must be refused for
/// them. Every other error still ends it: what stands behind a missing brace makes no sense.
pub fn parse_without_unknown<'a>(
    source_name: &str,
    text: &str,
    words: impl Into<Words<'a>>,
    loader: &'a dyn Loader,
) -> Result<File, Diagnostics> {
    let feed = Feed::new(source_name, text, loader);
    let mut parser = Parser {
        feed,
        words: words.into(),
        blocks: Vec::new(),
        ended: false,
        left_out: 0,
        unclosed: false,
    };
    while parser.feed.peek().is_some() {
        parser.block();
    }
    let list = parser.feed.finish();
    let sources = parser.feed.sources;
    let errors = list.iter().filter(|one| one.severity == Severity::Error);
    if errors.count() > parser.left_out {
        return Err(Diagnostics { list, sources });
    }
    let mut imported = parser.feed.imported;
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

/// The directive names.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// Those that mean something: what "did you mean" looks among.
    pub known: &'a [&'a str],
    /// Those that are read like the others, because whoever asks for the parse refuses them with
    /// more to say than "unknown".
    pub refused: &'a [&'a str],
}

impl Words<'_> {
    fn contain(&self, name: &str) -> bool {
        self.known.contains(&name) || self.refused.contains(&name)
    }
}

impl<'a> From<&'a [&'a str]> for Words<'a> {
    fn from(known: &'a [&'a str]) -> Self {
        Self {
            known,
            refused: &[],
        }
    }
}

impl<'a, const N: usize> From<&'a [&'a str; N]> for Words<'a> {
    fn from(known: &'a [&'a str; N]) -> Self {
        known.as_slice().into()
    }
}

impl<'a> From<&'a Vec<&'a str>> for Words<'a> {
    fn from(known: &'a Vec<&'a str>) -> Self {
        known.as_slice().into()
    }
}

struct Parser<'a> {
    feed: Feed<'a>,
    words: Words<'a>,
    blocks: Vec<ServerBlock>,
    /// The end came too early and has been reported: braces that are open still are no news.
    ended: bool,
    /// Errors that say no more than that a directive has an unknown name.
    left_out: usize,
    /// See [`File::unclosed`].
    unclosed: bool,
}

impl Parser<'_> {
    /// One server block or snippet. Takes at least one token.
    fn block(&mut self) {
        let Some(first) = self.feed.peek() else {
            return;
        };
        let keys = self.keys();
        if let [key] = &keys[..]
            && let Some(name) = snippet_name(key)
        {
            return self.snippet(key, name);
        }
        let open = self.feed.peek().filter(|token| token.is("{")).map(|token| {
            self.feed.next();
            self.warn_quoted(&token);
            token.word.place
        });
        if keys.is_empty() {
            self.no_keys(&first, open);
        }
        let has_more = self.feed.peek().is_some();
        self.unclosed |= open.is_none() && !has_more;
        let directives = self.directives(open, keys.first());
        let Some((head, rest)) = keys.split_first() else {
            return;
        };
        if open.is_none() && !has_more && !self.blocks.is_empty() {
            self.feed.report(stray_word(head));
        }
        let place = rest
            .last()
            .map_or(head.place, |last| head.place.to(last.place));
        self.blocks.push(ServerBlock {
            keys,
            directives,
            place,
        });
    }

    /// The keys of a block, up to the brace or the line end behind them.
    fn keys(&mut self) -> Vec<Word> {
        let mut keys = Vec::new();
        // The comma that promises another key, and whether the next token may be one wherever it
        // stands: the first one, what an import brings, and what follows a comma.
        let mut comma: Option<Place> = None;
        let mut anywhere = true;
        loop {
            let Some(token) = self.feed.peek() else {
                if let Some(comma) = comma {
                    self.feed.report(
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
                self.feed.next();
                self.feed.import(&token.word);
                anywhere = true;
                continue;
            }
            if token.is("{") {
                if let Some(comma) = comma {
                    let message = "Expected another address but had '{' - check for extra comma";
                    let diagnostic = Diagnostic::error(message).at(comma);
                    self.feed.report(
                        diagnostic
                            .label("no key follows this comma")
                            .help("remove the comma"),
                    );
                }
                return keys;
            }
            self.feed.next();
            comma = self.key(token, &mut keys);
            anywhere = comma.is_some();
        }
    }

    /// Adds one key. Gives the place of its trailing comma, if it has one.
    fn key(&mut self, token: Token, keys: &mut Vec<Word>) -> Option<Place> {
        let raw = token.word.clone();
        // A reference that cannot be resolved is reported; its text keeps the block in shape.
        let mut key = self.feed.resolve(token).unwrap_or_else(|| raw.clone());
        if raw.is_empty() {
            return None;
        }
        if key != raw && matches!(key.as_str(), "" | "{" | "}") {
            let message = format!("'{raw}' is '{key}', which is no key");
            self.feed
                .report(raw.error(message).expected("a variable that holds a zone"));
            keys.push(raw);
            return None;
        }
        let Some(text) = key.text.strip_suffix(',').map(SmolStr::new) else {
            keys.push(key);
            return None;
        };
        let comma = self.last_byte(raw.place);
        if text.is_empty() {
            self.feed.report(
                Diagnostic::error("zone is not a valid domain name: the name is empty")
                    .at(raw.place)
                    .expected("a key in front of the comma")
                    .help("put the comma right behind a key: a.example, b.example {"),
            );
            keys.push(key);
        } else {
            if !key.quoted && raw.ends_with(',') {
                let length = raw.place.range().len();
                key.place = self.feed.sources.part(raw.place, 0..length - 1);
            }
            key.text = text;
            keys.push(key);
        }
        Some(comma)
    }

    fn snippet(&mut self, key: &Word, name: SmolStr) {
        let Some(open) = self.feed.peek().filter(|token| token.is("{")) else {
            let diagnostic = match self.feed.peek() {
                Some(token) => {
                    let message = format!("Unexpected token '{}', expecting '{{'", token.word);
                    token.word.error(message)
                }
                None => Diagnostic::error("Unexpected EOF").at(key.place.after()),
            };
            self.feed.report(
                diagnostic
                    .expected(format!("'{{' behind ({name})"))
                    .help(format!("a snippet needs braces: ({name}) {{")),
            );
            // Without its brace the snippet's end cannot be told from that of a block.
            while self.feed.next().is_some() {}
            return;
        };
        self.feed.next();
        self.warn_quoted(&open);
        let mut tokens = Vec::new();
        let mut depth = 1_usize;
        while let Some(token) = self.feed.next() {
            if token.is("{") {
                depth += 1;
            } else if token.is("}") {
                depth -= 1;
                if depth == 0 {
                    self.warn_quoted(&token);
                    return self.feed.define(key, name, tokens);
                }
            }
            tokens.push(token);
        }
        self.not_closed(open.word.place, "the snippet is opened here");
    }

    /// Directives up to the closing brace or the end. `open` is the block's brace, if it has one,
    /// `key` its first key.
    fn directives(&mut self, open: Option<Place>, key: Option<&Word>) -> Vec<Directive> {
        let mut directives = Vec::new();
        while let Some(token) = self.feed.peek() {
            if token.is("}") {
                self.feed.next();
                self.warn_quoted(&token);
                if open.is_none() {
                    self.feed.report(
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
                self.feed.next();
                self.feed.import(&token.word);
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

    /// The text ends within a block. CoreDNS looks at the last word only, and so takes the brace
    /// of a plugin's block for the missing one.
    fn end_of_block(&mut self, open: Place) {
        let Some(last) = self.feed.last.clone().filter(|last| last.is("}")) else {
            return self.not_closed(open, "the block is opened here");
        };
        self.unclosed = true;
        self.feed.report(
            Diagnostic::warning("the closing brace of a server block is missing")
                .at(last.word.place.after())
                .expected("another '}'")
                .also(open, "the block is opened here"),
        );
    }

    fn not_closed(&mut self, open: Place, opened: &str) {
        let Some(last) = self.feed.last.clone().filter(|_| !self.has_ended()) else {
            return;
        };
        self.ended = true;
        let message = format!("Unexpected token '{}', expecting '}}'", last.word);
        self.feed.report(
            Diagnostic::error(message)
                .at(last.word.place.after())
                .label("expected '}' before the end")
                .also(open, opened),
        );
    }

    fn no_keys(&mut self, first: &Token, open: Option<Place>) {
        let place = open.unwrap_or(first.word.place);
        if open.is_none() && first.is("import") {
            return; // nothing was imported, or what it brought is reported
        }
        self.feed.report(
            Diagnostic::error("this server block has no key")
                .at(place)
                .expected("a zone in front of it")
                .help("write . { for the root zone"),
        );
    }

    /// Whether the end that was met is not the author's: it is reported already.
    fn has_ended(&self) -> bool {
        self.ended || self.feed.is_cut()
    }

    fn warn_quoted(&mut self, brace: &Token) {
        if brace.word.quoted {
            let message = format!("a quoted '{}' counts as a brace all the same", brace.word);
            self.feed
                .report(brace.word.warning(message).label("remove the quotes"));
        }
    }

    fn last_byte(&self, place: Place) -> Place {
        let length = place.range().len();
        self.feed
            .sources
            .part(place, length.saturating_sub(1)..length)
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
