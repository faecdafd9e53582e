//! Prepares the text of an expression for the library: checks names and patterns, bounds the size, and
//! rewrites syntax of the Go implementation that the library lacks.

use std::ops::Range;

use regex::Regex;

use super::{FACTS, Scope, facts::VARIABLE};
use crate::{
    corefile::{Diagnostic, Span, Word, nearest},
    error_text,
};

/// Bytes of an expression at most.
const MAX_LENGTH: usize = 10_000;
/// Nesting of brackets, conditions and lists at most: the library's parser is recursive.
const MAX_DEPTH: usize = 32;
/// Operators of an expression at most: evaluation recurses along a row of operators of one kind.
const MAX_OPERATORS: usize = 80;
/// The largest end of a range, which is expanded to a list.
const MAX_RANGE: u32 = 65_536;

/// Built-in functions of the language, except those for time, JSON and Base64.
const FUNCTIONS: [&str; 57] = [
    "abs",
    "all",
    "any",
    "bitand",
    "bitnand",
    "bitnot",
    "bitor",
    "bitshl",
    "bitshr",
    "bitushr",
    "bitxor",
    "ceil",
    "concat",
    "count",
    "filter",
    "find",
    "findIndex",
    "findLast",
    "findLastIndex",
    "first",
    "flatten",
    "float",
    "floor",
    "fromPairs",
    "get",
    "groupBy",
    "hasPrefix",
    "hasSuffix",
    "indexOf",
    "int",
    "join",
    "keys",
    "last",
    "lastIndexOf",
    "len",
    "lower",
    "map",
    "max",
    "mean",
    "median",
    "min",
    "none",
    "one",
    "reduce",
    "repeat",
    "replace",
    "reverse",
    "round",
    "sort",
    "sortBy",
    "split",
    "splitAfter",
    "string",
    "sum",
    "take",
    "toPairs",
    "trim",
];
const MORE_FUNCTIONS: [&str; 5] = ["trimPrefix", "trimSuffix", "uniq", "upper", "values"];

/// Keywords of the language.
const KEYWORDS: [&str; 14] = [
    "and",
    "contains",
    "else",
    "endsWith",
    "false",
    "if",
    "in",
    "let",
    "matches",
    "nil",
    "not",
    "or",
    "startsWith",
    "true",
];
/// Binary operators that the Go implementation allows after `not`.
const TESTS: [&str; 4] = ["contains", "endsWith", "matches", "startsWith"];

/// An expression as written, and as rewritten for the library.
pub(super) struct Text<'a> {
    words: &'a [Word],
    written: String,
    /// The text for the library.
    pub prepared: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Name,
    Number,
    Quoted,
    Symbol,
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    range: Range<usize>,
}

/// A range of the text and its replacement.
struct Edit {
    range: Range<usize>,
    text: String,
}

/// The span of all words of a line.
pub(super) fn span_of(words: &[Word]) -> Span {
    let (first, last) = (&words[0], &words[words.len() - 1]);
    first.span.to(last.span)
}

/// Whether a variable can have this name.
#[cfg(feature = "template")]
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(is_name_byte)
}

/// Whether a name is a keyword or a function, and so cannot be that of a variable.
#[cfg(feature = "template")]
pub fn is_taken(name: &str) -> bool {
    KEYWORDS.contains(&name)
        || is_builtin(name)
        || FACTS.contains(&name)
        || ["incidr", "metadata", "group"].contains(&name)
}

fn is_builtin(name: &str) -> bool {
    FUNCTIONS.contains(&name) || MORE_FUNCTIONS.contains(&name)
}

/// All built-in functions of the language.
#[cfg(test)]
pub(super) fn builtins() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.into_iter().chain(MORE_FUNCTIONS)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl<'a> Text<'a> {
    /// Reads the words of an expression's line; there is at least one.
    pub fn read(words: &'a [Word], scope: Scope<'_>) -> Result<Self, Diagnostic> {
        let texts: Vec<&str> = words.iter().map(Word::as_str).collect();
        let mut text = Self {
            words,
            written: texts.join(" "),
            prepared: String::new(),
        };
        if text.written.len() > MAX_LENGTH {
            let message = format!("the expression is longer than {MAX_LENGTH} bytes");
            return Err(Diagnostic::error(message).at(span_of(words)));
        }
        let tokens = text.tokens()?;
        text.check_size(&tokens)?;
        let renamed = text.check_names(&tokens, scope)?;
        text.check_patterns(&tokens)?;
        let negations = (0..tokens.len()).filter_map(|at| text.negation(&tokens, at));
        let mut edits: Vec<Edit> = negations.flatten().collect();
        // After the negations: if both begin at the same index, the negation comes first.
        edits.extend(renamed);
        text.prepared = text.edited(edits);
        Ok(text)
    }

    /// The diagnostic for an error of the library.
    pub fn refuse(&self, error: &expr::Error) -> Diagnostic {
        let error = error.to_string();
        // The library's error contains a column, which applies to the text as written only if that was
        // not rewritten.
        let column = error
            .lines()
            .next()
            .and_then(|line| line.trim().strip_prefix("--> 1:"))
            .and_then(|column| column.parse::<usize>().ok());
        match column {
            Some(column) if self.prepared == self.written => {
                let at = column.saturating_sub(1).min(self.written.len());
                let end = at + usize::from(at < self.written.len());
                self.error(at..end, "this is no expression")
                    .label("not understood from here on")
            }
            Some(_) => Diagnostic::error("this is no expression").at(span_of(self.words)),
            None => {
                Diagnostic::error(format!("this is no expression: {error}")).at(span_of(self.words))
            }
        }
    }

    fn error(&self, range: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(message).at(self.span(range))
    }

    /// The span of a range of the text in the file, cut at the end of the word in which it begins.
    fn span(&self, range: Range<usize>) -> Span {
        let mut start = 0;
        for word in self.words {
            let end = start + word.len();
            if range.start < end {
                return word.part(range.start - start..range.end.min(end) - start);
            }
            start = end + 1;
        }
        self.words[self.words.len() - 1].span.after()
    }

    fn of(&self, token: &Token) -> &str {
        &self.written[token.range.clone()]
    }

    fn is(&self, token: Option<&Token>, text: &str) -> bool {
        token.is_some_and(|token| token.kind != Kind::Quoted && self.of(token) == text)
    }

    fn tokens(&self) -> Result<Vec<Token>, Diagnostic> {
        const SYMBOLS: [&str; 11] = [
            "?.", "??", "**", "..", "&&", "||", "==", "!=", "<=", ">=", "|",
        ];
        let bytes = self.written.as_bytes();
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let rest = &self.written[at..];
            let (kind, length) = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    at += 1;
                    continue;
                }
                b'/' if rest.starts_with("//") || rest.starts_with("/*") => {
                    return Err(self
                        .error(at..at + 2, "an expression cannot hold a comment")
                        .help("write it behind a '#', on a line of its own"));
                }
                b'\'' | b'"' | b'`' => (Kind::Quoted, self.quoted(at)?),
                b'#' | b'$' | b'_' | b'a'..=b'z' | b'A'..=b'Z' => (
                    Kind::Name,
                    1 + rest[1..]
                        .bytes()
                        .take_while(|next| is_name_byte(*next))
                        .count(),
                ),
                b'0'..=b'9' => (Kind::Number, number(rest)),
                _ if !byte.is_ascii() || byte.is_ascii_control() => {
                    let length = rest.chars().next().map_or(1, char::len_utf8);
                    return Err(self.error(at..at + length, "this character means nothing here"));
                }
                _ => {
                    let known = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
                    (Kind::Symbol, known.map_or(1, |symbol| symbol.len()))
                }
            };
            tokens.push(Token {
                kind,
                range: at..at + length,
            });
            at += length;
        }
        Ok(tokens)
    }

    /// The length in bytes of the quoted text that begins at `at`, including the quotes.
    fn quoted(&self, at: usize) -> Result<usize, Diagnostic> {
        let rest = &self.written.as_bytes()[at..];
        let quote = rest[0];
        let mut length = 1;
        while let Some(&byte) = rest.get(length) {
            length += match byte {
                _ if byte == quote => return Ok(length + 1),
                b'\\' if quote != b'`' => 2,
                _ => 1,
            };
        }
        Err(self
            .error(at..at + 1, "a quoted text has no end")
            .label("begins here"))
    }

    fn check_size(&self, tokens: &[Token]) -> Result<(), Diagnostic> {
        let mut depth = 0usize;
        let mut conditions = 0usize;
        let mut operators = 0usize;
        for (at, token) in tokens.iter().enumerate() {
            match (token.kind, self.of(token)) {
                (Kind::Symbol, "(" | "[" | "{") => depth += 1,
                (Kind::Symbol, ")" | "]" | "}") => depth = depth.saturating_sub(1),
                (Kind::Symbol, "?") | (Kind::Name, "if") => conditions += 1,
                (Kind::Symbol, "..") => self.check_range(tokens, at)?,
                (Kind::Symbol, "," | ":" | ";") => {}
                (Kind::Symbol, _) => operators += 1,
                (Kind::Name, word) if KEYWORDS.contains(&word) => operators += 1,
                _ => {}
            }
            if depth + conditions > MAX_DEPTH || operators > MAX_OPERATORS {
                return Err(self
                    .error(token.range.clone(), "the expression is too large")
                    .help("several lines 'expr' must all be true"));
            }
        }
        Ok(())
    }

    /// A range is expanded to a list, so that its bounds must be literals.
    fn check_range(&self, tokens: &[Token], at: usize) -> Result<(), Diagnostic> {
        let bound = |token: Option<&Token>| self.of(token?).parse::<u32>().ok();
        let start = at
            .checked_sub(1)
            .and_then(|before| bound(tokens.get(before)));
        match (start, bound(tokens.get(at + 1))) {
            (Some(_), Some(end)) if end <= MAX_RANGE => Ok(()),
            _ => Err(self
                .error(
                    tokens[at].range.clone(),
                    "a range must lie between two numbers",
                )
                .expected(format!("numbers up to {MAX_RANGE}, as in 1024..65535"))),
        }
    }

    /// Checks that every name is defined. Variables get a prefix, so that the library does not read
    /// one as a keyword.
    fn check_names(&self, tokens: &[Token], scope: Scope<'_>) -> Result<Vec<Edit>, Diagnostic> {
        let mut edits = Vec::new();
        let mut locals: Vec<&str> = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            if token.kind != Kind::Name {
                continue;
            }
            let name = self.of(token);
            let before = at.checked_sub(1).and_then(|before| tokens.get(before));
            let next = tokens.get(at + 1);
            let is_key = (self.is(before, "{") || self.is(before, ",")) && self.is(next, ":");
            let is_member = self.is(before, ".") || self.is(before, "?.");
            if is_member && self.is(next, "(") {
                let message = format!("there is no method '{name}'");
                return Err(self.error(token.range.clone(), message));
            }
            if is_key || is_member || name.starts_with('#') || KEYWORDS.contains(&name) {
                continue;
            }
            if self.is(before, "let") {
                locals.push(name);
            }
            if locals.contains(&name) || scope.variables.iter().any(|known| known == name) {
                edits.push(Edit {
                    range: token.range.start..token.range.start,
                    text: VARIABLE.to_string(),
                });
                continue;
            }
            self.check_function(tokens, at, scope)?;
        }
        Ok(edits)
    }

    /// A name that is no variable must be that of a function, with its number of arguments.
    fn check_function(
        &self,
        tokens: &[Token],
        at: usize,
        scope: Scope<'_>,
    ) -> Result<(), Diagnostic> {
        let token = &tokens[at];
        let name = self.of(token);
        let takes = match name {
            "incidr" => Some(2),
            "metadata" => Some(1),
            "group" if scope.groups => Some(1),
            fact if FACTS.contains(&fact) => Some(0),
            _ => None,
        };
        if takes.is_none() && !is_builtin(name) {
            return Err(self.unknown(token, scope));
        }
        if !self.is(tokens.get(at + 1), "(") {
            let message = format!("'{name}' is a function");
            return Err(self
                .error(token.range.clone(), message)
                .expected(format!("{name}(...)"))
                .maybe_help((takes == Some(0)).then(|| format!("write {name}()"))));
        }
        let given = self.count_arguments(&tokens[at + 1..]);
        match takes {
            Some(takes) if takes != given => {
                let message = format!("{name}() takes {takes} arguments, not {given}");
                Err(self.error(token.range.clone(), message))
            }
            _ => Ok(()),
        }
    }

    fn unknown(&self, token: &Token, scope: Scope<'_>) -> Diagnostic {
        let name = self.of(token);
        let groups = scope.groups.then_some("group");
        let own = FACTS
            .into_iter()
            .chain(["incidr", "metadata"])
            .chain(groups);
        let known = own.chain(FUNCTIONS).chain(MORE_FUNCTIONS);
        let known = known.chain(scope.variables.iter().map(String::as_str));
        let near = nearest(name, known);
        let error = self.error(token.range.clone(), format!("nothing is called '{name}'"));
        error
            .label("unknown in expressions")
            .maybe_help(near.map(|near| format!("did you mean '{near}'?")))
    }

    /// The number of arguments of a call whose opening bracket is the first of `tokens`.
    fn count_arguments(&self, tokens: &[Token]) -> usize {
        let mut depth = 0usize;
        let mut commas = 0;
        for (at, token) in tokens.iter().enumerate() {
            match (token.kind, self.of(token)) {
                (Kind::Symbol, "(" | "[" | "{") => depth += 1,
                (Kind::Symbol, ")" | "]" | "}") => {
                    depth -= 1;
                    if depth == 0 {
                        return if at == 1 { 0 } else { commas + 1 };
                    }
                }
                (Kind::Symbol, ",") if depth == 1 => commas += 1,
                _ => {}
            }
        }
        commas + 1
    }

    /// Patterns are compiled at load, never for a query.
    fn check_patterns(&self, tokens: &[Token]) -> Result<(), Diagnostic> {
        for (at, token) in tokens.iter().enumerate() {
            if token.kind != Kind::Name || self.of(token) != "matches" {
                continue;
            }
            let Some(pattern) = tokens.get(at + 1).filter(|next| next.kind == Kind::Quoted) else {
                return Err(self
                    .error(token.range.clone(), "'matches' needs a pattern in quotes")
                    .expected(r"a regular expression, as in matches '^www\\.'"));
            };
            let quoted = self.of(pattern);
            let inner = &quoted[1..quoted.len() - 1];
            let regex = if quoted.starts_with('`') {
                inner.to_owned()
            } else {
                inner.replace("\\\\", "\\")
            };
            if let Err(error) = Regex::new(&regex) {
                return Err(self
                    .error(pattern.range.clone(), "this is no regular expression")
                    .label(error_text::regex(&error)));
            }
        }
        Ok(())
    }

    /// Rewrites `A not matches B`, which the library lacks, to `not (A matches B)`.
    fn negation(&self, tokens: &[Token], at: usize) -> Option<[Edit; 3]> {
        let (not, test) = (tokens.get(at)?, tokens.get(at + 1)?);
        let is_test = test.kind == Kind::Name && TESTS.contains(&self.of(test));
        if not.kind != Kind::Name || self.of(not) != "not" || !is_test {
            return None;
        }
        let mut first = at;
        let mut depth = 0usize;
        for before in (0..at).rev() {
            match self.of(&tokens[before]) {
                _ if tokens[before].kind == Kind::Quoted => {}
                ")" | "]" | "}" => depth += 1,
                "(" | "[" | "{" if depth == 0 => break,
                "(" | "[" | "{" => depth -= 1,
                text if depth == 0 && ends_operand(text) => break,
                _ => {}
            }
            first = before;
        }
        let mut last = at + 1;
        for (index, token) in tokens.iter().enumerate().skip(at + 2) {
            match self.of(token) {
                _ if token.kind == Kind::Quoted => {}
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" if depth == 0 => break,
                ")" | "]" | "}" => depth -= 1,
                text if depth == 0 && ends_operand(text) => break,
                _ => {}
            }
            last = index;
        }
        let insert = |index: usize, text: &str| Edit {
            range: index..index,
            text: text.to_owned(),
        };
        Some([
            insert(tokens.get(first)?.range.start, "not ("),
            Edit {
                range: not.range.clone(),
                text: String::new(),
            },
            insert(tokens[last].range.end, ")"),
        ])
    }

    fn edited(&self, mut edits: Vec<Edit>) -> String {
        edits.sort_by_key(|edit| edit.range.start);
        let mut text = String::new();
        let mut from = 0;
        for edit in edits {
            text.push_str(&self.written[from..edit.range.start]);
            text.push_str(&edit.text);
            from = edit.range.end;
        }
        text.push_str(&self.written[from..]);
        text
    }
}

/// Whether a word or symbol has at most the precedence of [`TESTS`], so that the operand of a test
/// ends before it.
fn ends_operand(text: &str) -> bool {
    const WORDS: [&str; 10] = [
        "and",
        "or",
        "not",
        "in",
        "contains",
        "endsWith",
        "matches",
        "startsWith",
        "if",
        "else",
    ];
    const SYMBOLS: [&str; 14] = [
        "&&", "||", "?", ":", ",", ";", "|", "=", "==", "!=", "<", ">", "<=", ">=",
    ];
    WORDS.contains(&text) || SYMBOLS.contains(&text)
}

/// The length in bytes of the number at the start of a text, without a `..` after it.
fn number(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut length = 0;
    while let Some(&byte) = bytes.get(length) {
        let is_point = byte == b'.' && bytes.get(length + 1).is_none_or(|next| *next != b'.');
        if !is_name_byte(byte) && !is_point {
            break;
        }
        length += 1;
    }
    length
}
