//! Splits text into words. White space separates, `#` starts a comment, `"` quotes; nothing else is
//! special.
//!
//! Follows CoreDNS, including its corner cases: a carriage return is skipped without ending a word;
//! a `#` glued to a word starts a comment that ends at the next white space; inside quotes `\"` is
//! the only escape. An unclosed quote is an error here; CoreDNS reads the rest of the file as one
//! word.

use std::rc::Rc;

use smol_str::SmolStr;

use super::diagnostic::Diagnostic;
use super::source::{SourceId, Span, Word};

/// A word and whether it begins a line.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) word: Word,
    /// Whether it is on a later line than the end of the previous word.
    pub(super) new_line: bool,
}

/// All tokens of a text, and lexical diagnostics.
pub(super) struct Lexed {
    pub(super) tokens: Rc<[Token]>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Lexes a whole text.
pub(super) fn lex(source: SourceId, text: &str) -> Lexed {
    let mut lexer = Lexer {
        source,
        text,
        offset: 0,
        line: 1,
        column: 1,
        previous_line: 0,
        lone_return: None,
        diagnostics: Vec::new(),
    };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next() {
        tokens.push(token);
    }
    if let Some(span) = lexer.lone_return {
        lexer.diagnostics.push(
            Diagnostic::warning("a carriage return without a line feed does not end a line")
                .at(span)
                .label("the line goes on")
                .help("save the file with LF or CRLF line ends"),
        );
    }
    Lexed {
        tokens: tokens.into(),
        diagnostics: lexer.diagnostics,
    }
}

impl Token {
    /// Whether this token is the given brace. Quoted braces count too: CoreDNS's lexer does not
    /// distinguish them.
    pub(super) fn is(&self, text: &str) -> bool {
        self.word.text == text
    }
}

struct Lexer<'a> {
    source: SourceId,
    text: &'a str,
    offset: usize,
    line: u32,
    column: u32,
    /// Line on which the previous word ended; 0 before the first.
    previous_line: u32,
    /// The first carriage return that is not part of a line end.
    lone_return: Option<Span>,
    diagnostics: Vec<Diagnostic>,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<Token> {
        self.skip_blank();
        let start = self.here();
        let word = if self.peek()? == '"' {
            self.quoted(start)?
        } else {
            self.bare(start)
        };
        let new_line = word.span.line > self.previous_line;
        self.previous_line = word.span.end_line;
        Some(Token { word, new_line })
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) {
        let mut comment = false;
        while let Some(rune) = self.peek() {
            if rune == '\r' && !comment {
                self.note_return();
            }
            if rune == '\n' {
                comment = false;
            } else if rune == '#' {
                comment = true;
            } else if !comment && !rune.is_whitespace() {
                return;
            }
            self.bump(rune);
        }
    }

    /// An unquoted word: up to white space or `#`. A comment glued to the word is skipped up to the
    /// next white space.
    fn bare(&mut self, start: Span) -> Word {
        let mut span = start;
        let mut comment = false;
        let mut has_return = false;
        while let Some(rune) = self.peek() {
            if rune == '\r' {
                if !comment {
                    self.note_return();
                }
            } else if rune.is_whitespace() {
                break;
            } else if rune == '#' {
                comment = true;
            }
            self.bump(rune);
            if !comment && rune != '\r' {
                span = start.to(self.here());
            }
            has_return |= rune == '\r';
        }
        let raw = &self.text[span.range()];
        let text = if has_return {
            raw.replace('\r', "").into()
        } else {
            SmolStr::new(raw)
        };
        Word {
            text,
            span,
            quoted: false,
        }
    }

    /// A quoted word. `None` at the end of the text if the closing quote is missing.
    fn quoted(&mut self, start: Span) -> Option<Word> {
        self.bump('"');
        let opening = start.to(self.here());
        let mut text = String::new();
        while let Some(rune) = self.peek() {
            self.bump(rune);
            match rune {
                '"' => {
                    let span = start.to(self.here());
                    return Some(Word {
                        text: text.into(),
                        span,
                        quoted: true,
                    });
                }
                '\\' => match self.peek() {
                    Some('"') => {
                        self.bump('"');
                        text.push('"');
                    }
                    // After any other backslash both characters are kept, so that in `\\"` the
                    // second backslash does not escape the quote.
                    Some(next) => {
                        self.bump(next);
                        text.extend(['\\', next]);
                    }
                    None => {}
                },
                _ => text.push(rune),
            }
        }
        self.diagnostics.push(
            Diagnostic::error("a quoted word is not closed")
                .at(opening)
                .label("this quote has no partner")
                .help("add the closing \"; inside quotes, write a quote as \\\""),
        );
        None
    }

    fn note_return(&mut self) {
        let rest = &self.text[self.offset + 1..];
        if self.lone_return.is_none() && !rest.starts_with(['\n', '\r']) && !rest.is_empty() {
            self.lone_return = Some(self.here());
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.offset..].chars().next()
    }

    fn bump(&mut self, rune: char) {
        self.offset += rune.len_utf8();
        if rune == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
    }

    /// The empty span in front of the next character.
    fn here(&self) -> Span {
        // `MAX_FILE` keeps texts far below 4 GiB.
        let offset = u32::try_from(self.offset).unwrap_or(u32::MAX);
        Span {
            source: self.source,
            start: offset,
            end: offset,
            line: self.line,
            column: self.column,
            end_line: self.line,
            end_column: self.column,
        }
    }
}
