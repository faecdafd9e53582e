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

use smol_str::SmolStr;

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::feed::Feed;
use super::lexer::Token;
use super::loader::Loader;
use super::nearest::nearest;
use super::source::{Place, Word};
use super::tree::{Body, Directive, File, Line, ServerBlock};

/// Parses a Corefile: words, imports, snippets, environment references.
///
/// `source_name` is shown in errors, and relative imports start from its directory. `known` lists
/// the directive names; any other is refused with the nearest one named.
pub fn parse(
    source_name: &str,
    text: &str,
    known: &[&str],
    loader: &dyn Loader,
) -> Result<File, Diagnostics> {
    let feed = Feed::new(source_name, text, loader);
    let mut parser = Parser {
        feed,
        known,
        blocks: Vec::new(),
    };
    while parser.feed.peek().is_some() {
        parser.block();
    }
    let list = parser.feed.finish();
    let sources = parser.feed.sources;
    if list.iter().any(|one| one.severity == Severity::Error) {
        return Err(Diagnostics { list, sources });
    }
    let mut imported = parser.feed.imported;
    imported.sort();
    imported.dedup();
    Ok(File {
        blocks: parser.blocks,
        warnings: list,
        sources,
        imported,
    })
}

struct Parser<'a> {
    feed: Feed<'a>,
    known: &'a [&'a str],
    blocks: Vec<ServerBlock>,
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
        if let Some(open) = open {
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
        self.feed.report(
            Diagnostic::warning("the closing brace of a server block is missing")
                .at(last.word.place.after())
                .expected("another '}'")
                .also(open, "the block is opened here"),
        );
    }

    fn not_closed(&mut self, open: Place, opened: &str) {
        let Some(last) = self.feed.last.clone() else {
            return;
        };
        let message = format!("Unexpected token '{}', expecting '}}'", last.word);
        self.feed.report(
            Diagnostic::error(message)
                .at(last.word.place.after())
                .label("expected '}' before the end")
                .also(open, opened),
        );
    }

    /// One directive with its body. `None` if its name is unknown, which is reported.
    fn directive(&mut self, open: Option<Place>, key: Option<&Word>) -> Option<Directive> {
        let token = self.feed.next()?;
        let name = self.feed.resolve(token);
        let mut arguments = Vec::new();
        let mut body = None;
        while let Some(token) = self.feed.peek_same_line() {
            if token.is("{") {
                self.feed.next();
                body = Some(self.body(&token, name.as_ref()));
                break;
            }
            if token.is("}") {
                self.feed.report(unexpected_brace(&token.word));
                break;
            }
            self.feed.next();
            arguments.extend(self.feed.resolve(token));
        }
        if body.is_none() {
            self.brace_on_next_line(name.as_ref());
        }
        let name = name?;
        if !self.known.contains(&name.as_str()) {
            let mut diagnostic = self.unknown_directive(&name);
            // Names of plugins have no dots or colons: this may be the key of the next block.
            if diagnostic.help.is_none() && body.is_some() && name.contains(['.', ':']) {
                diagnostic = looks_like_key(diagnostic, open, key);
            }
            self.feed.report(diagnostic);
            return None;
        }
        Some(Directive {
            name,
            arguments,
            body,
        })
    }

    /// A `{` at the start of a line belongs to the directive above it for the parser, but no
    /// plugin would see it as its block: refused.
    fn brace_on_next_line(&mut self, name: Option<&Word>) {
        let Some(open) = self
            .feed
            .peek()
            .filter(|token| token.new_line && token.is("{"))
        else {
            return;
        };
        let Some(name) = name else { return };
        if !self.known.contains(&name.as_str()) {
            return;
        }
        self.feed.report(
            open.word
                .error(format!(
                    "Unexpected token '{{' after '{name}' on a line of its own"
                ))
                .label("a plugin's block opens on the line of its name")
                .help(format!("move the brace to the end of the line of '{name}'")),
        );
        self.feed.next();
        self.body(&open, None);
    }

    /// The property lines behind an opening brace that was just taken.
    fn body(&mut self, open: &Token, name: Option<&Word>) -> Body {
        self.warn_quoted(open);
        let mut body = Body {
            lines: Vec::new(),
            open: open.word.place,
            close: open.word.place,
        };
        while let Some(token) = self.feed.peek() {
            if token.is("}") {
                self.feed.next();
                self.warn_quoted(&token);
                body.close = token.word.place;
                self.behind_body(name);
                return body;
            }
            if token.new_line && token.is("import") {
                self.feed.next();
                self.feed.import(&token.word);
                continue;
            }
            let (line, close) = self.line();
            if !line.words.is_empty() {
                body.lines.push(line);
            }
            if let Some(close) = close {
                body.close = close;
                self.behind_body(name);
                return body;
            }
        }
        let end = self
            .feed
            .last
            .as_ref()
            .map_or(open.word.place, |last| last.word.place);
        let opened = name.map_or_else(
            || "the block is opened here".to_owned(),
            |name| format!("the block of '{name}' is opened here"),
        );
        self.feed.report(
            Diagnostic::error("Unexpected EOF")
                .at(end.after())
                .expected("'}'")
                .also(open.word.place, opened),
        );
        body
    }

    /// One property line. A `}` behind its words closes the block and, as in CoreDNS, is the last
    /// argument too; its place is given then.
    fn line(&mut self) -> (Line, Option<Place>) {
        let mut words = Vec::new();
        let mut is_first = true;
        while let Some(token) = self.feed.peek().filter(|token| is_first || !token.new_line) {
            self.feed.next();
            is_first = false;
            if token.is("{") {
                self.nested(&token);
                break;
            }
            if token.is("}") {
                let place = token.word.place;
                let property = words.first().map_or("", |word: &Word| word.as_str());
                self.feed.report(
                    token
                        .word
                        .warning(format!(
                            "this '}}' is read as an argument of '{property}' too"
                        ))
                        .label("closes the block as well")
                        .help("put the closing brace on its own line"),
                );
                words.push(token.word);
                return (Line { words }, Some(place));
            }
            words.extend(self.feed.resolve(token));
        }
        (Line { words }, None)
    }

    /// A block within a plugin's block: no plugin takes one. Skipped up to its own brace.
    fn nested(&mut self, open: &Token) {
        self.feed.report(
            open.word
                .error("Unexpected token '{' in a property line")
                .label("a plugin's block cannot hold another block"),
        );
        let mut depth = 1_usize;
        while depth > 0 {
            let Some(token) = self.feed.next() else {
                return;
            };
            if token.is("{") {
                depth += 1;
            } else if token.is("}") {
                depth -= 1;
            }
        }
    }

    /// Words behind the brace that closes a plugin's block. CoreDNS hands them to the plugin as
    /// another use of it.
    fn behind_body(&mut self, name: Option<&Word>) {
        let Some(token) = self.feed.peek_same_line() else {
            return;
        };
        if token.is("}") {
            return self.feed.report(unexpected_brace(&token.word));
        }
        let plugin = name.map_or("the plugin", |name| name.as_str());
        self.feed.report(
            token
                .word
                .error(format!(
                    "Unexpected token '{}' behind a closing brace",
                    token.word
                ))
                .expected(format!("a line end behind the block of '{plugin}'")),
        );
        while let Some(token) = self.feed.peek_same_line() {
            if token.is("}") {
                return;
            }
            self.feed.next();
            if token.is("{") {
                return self.nested(&token);
            }
        }
    }

    fn unknown_directive(&self, name: &Word) -> Diagnostic {
        let near = nearest(name, self.known.iter().copied());
        name.error(format!("Unknown directive '{name}'"))
            .expected("the name of a plugin")
            .maybe_help(near.map(|known| format!("did you mean '{known}'?")))
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

fn unexpected_brace(brace: &Word) -> Diagnostic {
    brace
        .error("Unexpected '}' because no matching opening brace")
        .expected("a line end in front of it")
        .help("put the closing brace on its own line")
}

fn looks_like_key(error: Diagnostic, open: Option<Place>, key: Option<&Word>) -> Diagnostic {
    let error = error.label("this looks like the key of another server block");
    match (open, key) {
        (Some(open), _) => error
            .also(open, "this block is still open")
            .help("close the block above with '}' first"),
        (None, Some(key)) => error
            .also(
                key.place,
                format!("'{key}' is read as the key of a block without braces"),
            )
            .help(format!("remove '{key}', or put '{{' behind it")),
        (None, None) => error,
    }
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
