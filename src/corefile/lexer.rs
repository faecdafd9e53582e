//! Text into words. White space separates, `#` comments, `"` quotes; nothing else is special.
//!
//! The rules are CoreDNS's with their corners: a carriage return is skipped without ending a word,
//! a `#` glued to a word ends only that word and what follows the next blank is read again, and
//! inside quotes the one escape is `\"`. An unclosed quote is an error here, where CoreDNS makes
//! one word of the rest of the file.

use std::rc::Rc;

use smol_str::SmolStr;

use super::diagnostic::Diagnostic;
use super::source::{Place, SourceId, Word};

/// A word with what the parser needs to know of the line it is on.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) word: Word,
    /// Whether it stands on a later line than the end of the word before it.
    pub(super) new_line: bool,
}

/// All tokens of a text, and what is wrong with its characters.
pub(super) struct Lexed {
    pub(super) tokens: Rc<[Token]>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Reads a whole text.
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
    if let Some(place) = lexer.lone_return {
        lexer.diagnostics.push(
            Diagnostic::warning("a carriage return without a line feed does not end a line")
                .at(place)
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
    /// Whether this is a brace that counts. Quoted braces count as well: after CoreDNS's lexer
    /// they cannot be told apart.
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
    /// Line on which the last word ended; 0 before the first.
    previous_line: u32,
    /// The first carriage return that some would take for a line end.
    lone_return: Option<Place>,
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
        let new_line = word.place.line > self.previous_line;
        self.previous_line = word.place.end_line;
        Some(Token { word, new_line })
    }

    /// Skips white space and comments up to the first rune of a word.
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

    /// A word without quotes: up to white space, or up to a `#`, whose comment lasts to the next
    /// white space only.
    fn bare(&mut self, start: Place) -> Word {
        let mut place = start;
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
                place = start.to(self.here());
            }
            has_return |= rune == '\r';
        }
        let raw = &self.text[place.range()];
        let text = if has_return {
            raw.replace('\r', "").into()
        } else {
            SmolStr::new(raw)
        };
        Word {
            text,
            place,
            quoted: false,
        }
    }

    /// A quoted word. `None` when the closing quote is missing: then the text has ended.
    fn quoted(&mut self, start: Place) -> Option<Word> {
        self.bump('"');
        let opening = start.to(self.here());
        let mut text = String::new();
        while let Some(rune) = self.peek() {
            self.bump(rune);
            match rune {
                '"' => {
                    let place = start.to(self.here());
                    return Some(Word {
                        text: text.into(),
                        place,
                        quoted: true,
                    });
                }
                '\\' => match self.peek() {
                    Some('"') => {
                        self.bump('"');
                        text.push('"');
                    }
                    // The rune behind any other backslash is taken with it, so that `\\` is two
                    // backslashes and the second one does not escape a quote.
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

    /// The empty place in front of the next rune.
    fn here(&self) -> Place {
        // Texts are capped far below 4 GiB before they come here.
        let offset = u32::try_from(self.offset).unwrap_or(u32::MAX);
        Place {
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
