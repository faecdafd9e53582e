//! Directives and the property lines of their bodies.

use super::Parser;
use crate::corefile::diagnostic::Diagnostic;
use crate::corefile::lexer::Token;
use crate::corefile::nearest::nearest;
use crate::corefile::source::{Span, Word};
use crate::corefile::tree::{Body, Directive, Property};

impl Parser<'_> {
    /// Parses a directive and its body. Reports an unknown name and returns `None`.
    pub(super) fn directive(
        &mut self,
        open: Option<Span>,
        key: Option<&Word>,
    ) -> Option<Directive> {
        let token = self.stream.next()?;
        if token.is("{") {
            let diagnostic = token.word.error("Unknown directive '{'");
            self.stream
                .report(diagnostic.expected("the name of a plugin in front of it"));
            self.skip_block();
            return None;
        }
        let name = self.stream.resolve(token);
        let mut arguments = Vec::new();
        let mut body = None;
        while let Some(token) = self.stream.peek_same_line() {
            if token.is("{") {
                self.stream.next();
                body = Some(self.body(&token, name.as_ref()));
                break;
            }
            if token.is("}") {
                self.stream.report(unexpected_brace(&token.word));
                break;
            }
            self.stream.next();
            arguments.extend(self.stream.resolve(token));
        }
        if body.is_none() {
            self.brace_on_next_line(name.as_ref());
        }
        let name = name?;
        if !self.names.contain(&name) {
            let mut diagnostic = self.unknown_directive(&name);
            // Plugin names have no dots or colons: this may be the key of the next block.
            if diagnostic.help.is_none() && body.is_some() && name.contains(['.', ':']) {
                diagnostic = looks_like_key(diagnostic, open, key);
            } else {
                if diagnostic.help.is_none()
                    && let Some(key) = key
                    && self.names.known.contains(&key.as_str())
                {
                    diagnostic = diagnostic.plugin_for_key(key);
                }
                self.left_out += 1;
            }
            self.stream.report(diagnostic);
            return None;
        }
        Some(Directive {
            name,
            arguments,
            body,
        })
    }

    /// A `{` at the start of a line belongs to the directive above it for the parser, but the
    /// plugin would not see it as its body: refused.
    fn brace_on_next_line(&mut self, name: Option<&Word>) {
        let Some(open) = self
            .stream
            .peek()
            .filter(|token| token.new_line && token.is("{"))
        else {
            return;
        };
        let Some(name) = name else { return };
        if !self.names.contain(name) {
            return;
        }
        self.stream.report(
            open.word
                .error(format!(
                    "Unexpected token '{{' after '{name}' on a line of its own"
                ))
                .label("a plugin's block opens on the line of its name")
                .help(format!("move the brace to the end of the line of '{name}'")),
        );
        self.stream.next();
        self.body(&open, None);
    }

    /// The property lines after a consumed opening brace.
    fn body(&mut self, open: &Token, name: Option<&Word>) -> Body {
        self.warn_quoted(open);
        let mut body = Body {
            lines: Vec::new(),
            open: open.word.span,
            close: open.word.span,
        };
        while let Some(token) = self.stream.peek() {
            if token.is("}") {
                self.stream.next();
                self.warn_quoted(&token);
                body.close = token.word.span;
                self.behind_body(name);
                return body;
            }
            if token.new_line && token.is("import") {
                self.stream.next();
                self.stream.import(&token.word);
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
            .stream
            .last
            .as_ref()
            .map_or(open.word.span, |last| last.word.span);
        let opened = name.map_or_else(
            || "the block is opened here".to_owned(),
            |name| format!("the block of '{name}' is opened here"),
        );
        self.stream.report(
            Diagnostic::error("Unexpected EOF")
                .at(end.after())
                .expected("'}'")
                .also(open.word.span, opened),
        );
        body
    }

    /// A property line. A `}` on the same line closes the body and, as in CoreDNS, is also the last
    /// argument; its span is returned.
    fn line(&mut self) -> (Property, Option<Span>) {
        let mut words = Vec::new();
        let mut is_first = true;
        while let Some(token) = self
            .stream
            .peek()
            .filter(|token| is_first || !token.new_line)
        {
            self.stream.next();
            is_first = false;
            if token.is("{") {
                self.nested(&token);
                break;
            }
            if token.is("}") {
                let span = token.word.span;
                let property = words.first().map_or("", |word: &Word| word.as_str());
                self.stream.report(
                    token
                        .word
                        .warning(format!(
                            "this '}}' is read as an argument of '{property}' too"
                        ))
                        .label("closes the block as well")
                        .help("put the closing brace on its own line"),
                );
                words.push(token.word);
                return (Property { words }, Some(span));
            }
            words.extend(self.stream.resolve(token));
        }
        (Property { words }, None)
    }

    /// Refuses a nested block, which no plugin accepts, and skips it.
    fn nested(&mut self, open: &Token) {
        self.stream.report(
            open.word
                .error("Unexpected token '{' in a property line")
                .label("a plugin's block cannot hold another block"),
        );
        self.skip_block();
    }

    /// Skips to the brace that matches the one just consumed.
    fn skip_block(&mut self) {
        let mut depth = 1_usize;
        while depth > 0 {
            let Some(token) = self.stream.next() else {
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

    /// Handles words after the closing brace of a plugin's body. CoreDNS treats them as another use
    /// of the plugin.
    fn behind_body(&mut self, name: Option<&Word>) {
        let Some(token) = self.stream.peek_same_line() else {
            return;
        };
        if token.is("}") {
            return self.stream.report(unexpected_brace(&token.word));
        }
        let plugin = name.map_or("the plugin", |name| name.as_str());
        self.stream.report(
            token
                .word
                .error(format!(
                    "Unexpected token '{}' behind a closing brace",
                    token.word
                ))
                .expected(format!("a line end behind the block of '{plugin}'")),
        );
        while let Some(token) = self.stream.peek_same_line() {
            if token.is("}") {
                return;
            }
            self.stream.next();
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
        let near = nearest(name, self.names.known.iter().copied());
        error.maybe_help(near.map(|known| format!("did you mean '{known}'?")))
    }
}

fn unexpected_brace(brace: &Word) -> Diagnostic {
    brace
        .error("Unexpected '}' because no matching opening brace")
        .expected("a line end in front of it")
        .help("put the closing brace on its own line")
}

fn looks_like_key(error: Diagnostic, open: Option<Span>, key: Option<&Word>) -> Diagnostic {
    let error = error.label("this looks like the key of another server block");
    match (open, key) {
        (Some(open), _) => error
            .also(open, "this block is still open")
            .help("close the block above with '}' first"),
        (None, Some(key)) => error
            .also(
                key.span,
                format!("'{key}' is read as the key of a block without braces"),
            )
            .help(format!("remove '{key}', or put '{{' behind it")),
        (None, None) => error,
    }
}
