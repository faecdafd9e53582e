//! Directives and the property lines of their bodies.

use super::Parser;
use crate::corefile::diagnostic::Diagnostic;
use crate::corefile::lexer::Token;
use crate::corefile::nearest::nearest;
use crate::corefile::source::{Place, Word};
use crate::corefile::tree::{Body, Directive, Line};

impl Parser<'_> {
    /// One directive with its body. `None` if its name is unknown, which is reported.
    pub(super) fn directive(
        &mut self,
        open: Option<Place>,
        key: Option<&Word>,
    ) -> Option<Directive> {
        let token = self.feed.next()?;
        if token.is("{") {
            let diagnostic = token.word.error("Unknown directive '{'");
            self.feed
                .report(diagnostic.expected("the name of a plugin in front of it"));
            self.skip_block();
            return None;
        }
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
        if !self.words.contain(&name) {
            let mut diagnostic = self.unknown_directive(&name);
            // Names of plugins have no dots or colons: this may be the key of the next block.
            if diagnostic.help.is_none() && body.is_some() && name.contains(['.', ':']) {
                diagnostic = looks_like_key(diagnostic, open, key);
            } else {
                if diagnostic.help.is_none()
                    && let Some(key) = key
                    && self.words.known.contains(&key.as_str())
                {
                    diagnostic = diagnostic.plugin_for_key(key);
                }
                self.left_out += 1;
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
        if !self.words.contain(name) {
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
        if self.has_ended() {
            return body;
        }
        self.ended = true;
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
        self.skip_block();
    }

    /// Skips up to the brace that closes the one just taken.
    fn skip_block(&mut self) {
        let mut depth = 1_usize;
        while depth > 0 {
            let Some(token) = self.feed.next() else {
                self.ended = true;
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
        let error = name
            .error(format!("Unknown directive '{name}'"))
            .expected("the name of a plugin");
        if ["//", ";", "--", "/*"]
            .iter()
            .any(|mark| name.starts_with(mark))
        {
            return error.help("a comment begins with '#'");
        }
        let near = nearest(name, self.words.known.iter().copied());
        error.maybe_help(near.map(|known| format!("did you mean '{known}'?")))
    }
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
