//! The text of an expression before the library reads it: names and patterns checked, the forms
//! of Go's that the library lacks put into those that it has, and its size bounded.

use std::ops::Range;

use regex::Regex;

use super::{FACTS, Scope, facts::VARIABLE};
use crate::{
    corefile::{Diagnostic, Place, Word, nearest},
    plain,
};

/// Octets of the longest expression.
const LONGEST: usize = 10_000;
/// How deep brackets, conditions and lists may be in each other: reading goes as deep.
const DEEPEST: usize = 32;
/// Operators of an expression: an evaluation goes as deep as there are of one kind in a row.
const MOST_OPERATORS: usize = 80;
/// The last number of a range, each of which becomes a value.
const LONGEST_RANGE: u32 = 65_536;

/// Functions of the language itself; those of time, JSON and Base64 are not built in.
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

/// Words of the language that are no names.
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
/// Those that stand between two operands and that Go lets `not` stand before.
const TESTS: [&str; 4] = ["contains", "endsWith", "matches", "startsWith"];

/// An expression as it is written and as the library is to read it.
pub(super) struct Text<'a> {
    words: &'a [Word],
    written: String,
    /// For the library.
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

/// A piece of the text and what takes its place.
struct Edit {
    range: Range<usize>,
    text: String,
}

/// The place of a whole line of words.
pub(super) fn whole(words: &[Word]) -> Place {
    let (first, last) = (&words[0], &words[words.len() - 1]);
    first.place.to(last.place)
}

/// Whether a variable can have this name.
#[cfg(feature = "template")]
pub fn is_name(text: &str) -> bool {
    let mut octets = text.bytes();
    octets
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && octets.all(is_name_octet)
}

/// What a name cannot be that is meant for a variable, because it means something already.
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

/// Every function of the language itself.
#[cfg(test)]
pub(super) fn builtins() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.into_iter().chain(MORE_FUNCTIONS)
}

fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'_'
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
        if text.written.len() > LONGEST {
            let message = format!("the expression is longer than {LONGEST} octets");
            return Err(Diagnostic::error(message).at(whole(words)));
        }
        let tokens = text.tokens()?;
        text.check_size(&tokens)?;
        let renamed = text.check_names(&tokens, scope)?;
        text.check_patterns(&tokens)?;
        let negations = (0..tokens.len()).filter_map(|at| text.negation(&tokens, at));
        let mut edits: Vec<Edit> = negations.flatten().collect();
        // Behind the others: where both begin at one place, the name is what is negated.
        edits.extend(renamed);
        text.prepared = text.edited(edits);
        Ok(text)
    }

    /// What to say of a text that the library does not take.
    pub fn refuse(&self, error: &expr::Error) -> Diagnostic {
        let error = error.to_string();
        // The library draws the place of a mistake; its column is a place in our text as long as
        // that is the same.
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
                    .label("makes no sense from here on")
            }
            Some(_) => Diagnostic::error("this is no expression").at(whole(self.words)),
            None => {
                Diagnostic::error(format!("this is no expression: {error}")).at(whole(self.words))
            }
        }
    }

    fn error(&self, range: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(message).at(self.place(range))
    }

    /// Where a piece of the text stands in the file: within the word in which it begins.
    fn place(&self, range: Range<usize>) -> Place {
        let mut start = 0;
        for word in self.words {
            let end = start + word.len();
            if range.start < end {
                return word.part(range.start - start..range.end.min(end) - start);
            }
            start = end + 1;
        }
        self.words[self.words.len() - 1].place.after()
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
        let octets = self.written.as_bytes();
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(&octet) = octets.get(at) {
            let rest = &self.written[at..];
            let (kind, length) = match octet {
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
                        .take_while(|next| is_name_octet(*next))
                        .count(),
                ),
                b'0'..=b'9' => (Kind::Number, number(rest)),
                _ if !octet.is_ascii() || octet.is_ascii_control() => {
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

    /// Octets of the quoted text that begins here, quotes included.
    fn quoted(&self, at: usize) -> Result<usize, Diagnostic> {
        let rest = &self.written.as_bytes()[at..];
        let quote = rest[0];
        let mut length = 1;
        while let Some(&octet) = rest.get(length) {
            length += match octet {
                _ if octet == quote => return Ok(length + 1),
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
            if depth + conditions > DEEPEST || operators > MOST_OPERATORS {
                return Err(self
                    .error(token.range.clone(), "the expression is too large")
                    .help("several lines 'expr' must all be true"));
            }
        }
        Ok(())
    }

    /// A range becomes a list of all that lies in it, so its size has to be known.
    fn check_range(&self, tokens: &[Token], at: usize) -> Result<(), Diagnostic> {
        let bound = |token: Option<&Token>| self.of(token?).parse::<u32>().ok();
        let start = at
            .checked_sub(1)
            .and_then(|before| bound(tokens.get(before)));
        match (start, bound(tokens.get(at + 1))) {
            (Some(_), Some(end)) if end <= LONGEST_RANGE => Ok(()),
            _ => Err(self
                .error(
                    tokens[at].range.clone(),
                    "a range must lie between two numbers",
                )
                .expected(format!("numbers up to {LONGEST_RANGE}, as in 1024..65535"))),
        }
    }

    /// Every name must mean something. What the library would take for a word of its own gets
    /// another name.
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

    /// A name that is no variable must be that of a function, with the arguments that it takes.
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

    /// How many arguments a call has whose opening bracket is the first of `tokens`.
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
                    .label(plain::regex(&error)));
            }
        }
        Ok(())
    }

    /// `A not matches B`, which the library does not know, as `not (A matches B)`.
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
        for (behind, token) in tokens.iter().enumerate().skip(at + 2) {
            match self.of(token) {
                _ if token.kind == Kind::Quoted => {}
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" if depth == 0 => break,
                ")" | "]" | "}" => depth -= 1,
                text if depth == 0 && ends_operand(text) => break,
                _ => {}
            }
            last = behind;
        }
        let insert = |place: usize, text: &str| Edit {
            range: place..place,
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

/// Whether a word or symbol binds less than a test does, or the same, so that an operand of one
/// ends there.
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

/// Octets of the number at the start of a text, of which a range is not a part.
fn number(text: &str) -> usize {
    let octets = text.as_bytes();
    let mut length = 0;
    while let Some(&octet) = octets.get(length) {
        let is_point = octet == b'.' && octets.get(length + 1).is_none_or(|next| *next != b'.');
        if !is_name_octet(octet) && !is_point {
            break;
        }
        length += 1;
    }
    length
}
