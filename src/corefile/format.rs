//! The canonical format of a Corefile, as written by `lodestone fmt`.
//!
//! Indents by four spaces per open brace, separates words by one space and blocks by one empty
//! line, keeps at most one empty line elsewhere, and keeps comments. Words are copied verbatim,
//! with quotes and references. Line breaks are significant and stay, except that a block's opening
//! brace moves to the line of its keys. Before the result is returned, it is lexed again and
//! compared with the input: same words on the same lines.

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::lexer::{Token, lex};
use super::loader::MAX_FILE;
use super::source::Sources;

/// Spaces per open brace.
const INDENT: usize = 4;

/// Formats a text. `plugins` are the directive names, used to distinguish a file of bare directives
/// (to be imported within a block) from one with server blocks.
///
/// Fails only on texts that cannot be lexed.
pub fn format(name: &str, text: &str, plugins: &[&str]) -> Result<String, Diagnostics> {
    let mut sources = Sources::default();
    if text.len() > MAX_FILE {
        let list = vec![Diagnostic::error(format!("{name} is too long"))];
        return Err(Diagnostics { list, sources });
    }
    let id = sources.add(name, text);
    let text = sources.text(id).unwrap_or_default().to_owned();
    let lexed = lex(id, &text);
    let mut list = lexed.diagnostics;
    if list.iter().any(|one| one.severity == Severity::Error) {
        return Err(Diagnostics { list, sources });
    }
    let format = Formatter::new(&text, &lexed.tokens, plugins);
    let kind = format.kind;
    let written = format.write();
    // Strips a byte order mark, as reading from a file does.
    let read = written.strip_prefix('\u{feff}').unwrap_or(&written);
    if is_same(&lexed.tokens, &lex(id, read).tokens, kind) {
        return Ok(written);
    }
    let message = format!("{name} cannot be formatted without changing its meaning");
    let error = Diagnostic::error(message);
    list.push(match lexed.tokens.first() {
        Some(first) => error.at(first.word.span),
        None => error,
    });
    Err(Diagnostics { list, sources })
}

/// Whether two texts have the same words on the same lines, apart from moved opening braces.
fn is_same(one: &[Token], other: &[Token], kind: FileKind) -> bool {
    let mut depth = 0_usize;
    let pairs = one.iter().zip(other);
    one.len() == other.len()
        && pairs.into_iter().all(|(one, other)| {
            let may_move = depth == 0 && kind == FileKind::Blocks && one.is("{");
            depth = after(depth, one);
            one.word == other.word
                && one.word.quoted == other.word.quoted
                && (one.new_line == other.new_line || may_move)
        })
}

/// Brace depth after a token.
fn after(depth: usize, token: &Token) -> usize {
    match token.word.as_str() {
        "{" => depth + 1,
        "}" => depth.saturating_sub(1),
        _ => depth,
    }
}

struct Formatter<'a> {
    text: &'a str,
    tokens: &'a [Token],
    kind: FileKind,
    out: String,
    /// Whether a word has been written.
    has_output: bool,
    /// Comments in front of a moved brace: written after it.
    moved_comments: Vec<&'a str>,
}

impl<'a> Formatter<'a> {
    fn new(text: &'a str, tokens: &'a [Token], plugins: &[&str]) -> Self {
        Self {
            text,
            tokens,
            kind: kind(tokens, plugins),
            has_output: false,
            out: String::with_capacity(text.len()),
            moved_comments: Vec::new(),
        }
    }

    fn write(mut self) -> String {
        let mut depth = 0;
        let mut end = 0;
        for (number, token) in self.tokens.iter().enumerate() {
            let range = token.word.span.range();
            let gap = &self.text[end..range.start];
            let before = number.checked_sub(1).map(|before| &self.tokens[before]);
            self.gap(gap, before, token, depth);
            self.word(token);
            depth = after(depth, token);
            end = range.end;
        }
        self.tail(&self.text[end..], depth);
        self.out
    }

    /// Writes what separates two words, or precedes the first.
    fn gap(&mut self, gap: &'a str, before: Option<&Token>, token: &Token, depth: usize) {
        if before.is_some() && !gap.contains('\n') {
            // A comment glued to a word ends at the next white space and stays unchanged.
            let glued = gap.contains('#');
            return self.out.push_str(if glued { gap } else { " " });
        }
        let joins = depth == 0 && self.kind == FileKind::Blocks && token.is("{");
        if joins && before.is_some_and(|before| !before.is("}")) {
            let comments = gap.split('\n').map(str::trim);
            self.moved_comments
                .extend(comments.filter(|line| !line.is_empty()));
            return self.out.push(' ');
        }
        let closes = token.is("}");
        let lines = match before {
            Some(_) => self.end_line(gap),
            None => entries(gap),
        };
        let parts = depth == 0 && before.is_some_and(|before| before.is("}"));
        let opened = before.is_none_or(|before| before.is("{"));
        if parts {
            self.out.push('\n');
        }
        self.lines(&lines, depth, opened || parts, closes);
        self.indent(depth.saturating_sub(usize::from(closes)));
    }

    /// Ends a line with its comment and returns the lines up to the next word.
    fn end_line(&mut self, gap: &'a str) -> Vec<&'a str> {
        let (comment, rest) = gap.split_once('\n').unwrap_or((gap, ""));
        if !comment.trim().is_empty() {
            self.out.push(' ');
            self.out.push_str(comment.trim());
        }
        self.out.push('\n');
        entries(rest)
    }

    /// Writes comment lines and the empty lines between them: no leading empty lines if `tight`, no
    /// trailing ones if `closes`.
    fn lines(&mut self, lines: &[&'a str], depth: usize, tight: bool, closes: bool) {
        let moved_comments = std::mem::take(&mut self.moved_comments);
        for comment in &moved_comments {
            self.line(comment, depth);
        }
        let start = usize::from(tight && moved_comments.is_empty() && lines.first() == Some(&""));
        let end =
            lines.len() - usize::from(closes && lines.len() > start && lines.last() == Some(&""));
        for line in &lines[start..end] {
            if line.is_empty() {
                self.out.push('\n');
            } else {
                self.line(line, depth);
            }
        }
    }

    fn line(&mut self, comment: &str, depth: usize) {
        self.indent(depth);
        self.out.push_str(comment);
        self.out.push('\n');
    }

    /// Writes what follows the last word.
    fn tail(&mut self, gap: &'a str, depth: usize) {
        let alone = self.tokens.is_empty();
        let lines = if alone {
            entries(gap)
        } else {
            self.end_line(gap)
        };
        self.lines(&lines, depth, alone, true);
    }

    fn word(&mut self, token: &Token) {
        self.has_output = true;
        let raw = &self.text[token.word.span.range()];
        if token.word.quoted {
            self.out.push_str(raw);
        } else {
            self.out.extend(raw.chars().filter(|rune| *rune != '\r'));
        }
    }

    fn indent(&mut self, depth: usize) {
        let depth = depth + usize::from(self.kind == FileKind::Bare && self.has_output);
        self.out.extend(std::iter::repeat_n(' ', depth * INDENT));
    }
}

/// Trimmed lines, runs of empty lines merged. The text after the last newline is the indentation of
/// the next word, empty, or a comment at the end of the file.
fn entries(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = Vec::new();
    let (whole, rest) = text.rsplit_once('\n').unwrap_or(("", text));
    let whole = whole.split('\n').filter(|_| text.contains('\n'));
    let rest = Some(rest).filter(|rest| !rest.trim().is_empty());
    for line in whole.chain(rest).map(str::trim) {
        if !line.is_empty() || lines.last() != Some(&"") {
            lines.push(line);
        }
    }
    lines
}

/// Kind of file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileKind {
    /// Server blocks and snippets.
    Blocks,
    /// One block without braces: all lines but the first are indented.
    Bare,
    /// Bare directives, to be imported within a block.
    Directives,
}

fn kind(tokens: &[Token], plugins: &[&str]) -> FileKind {
    // Whether the current line is an import, which both kinds can have, and whether it continues on
    // the next line.
    let (mut imports, mut continues) = (true, false);
    for (number, token) in tokens.iter().enumerate() {
        if token.is("{") {
            return FileKind::Blocks;
        }
        if number == 0 || token.new_line {
            if !imports && !continues {
                return FileKind::Bare;
            }
            if imports && plugins.contains(&token.word.as_str()) {
                return FileKind::Directives;
            }
            imports &= token.is("import");
        }
        continues = token.word.ends_with(',');
    }
    FileKind::Blocks
}

#[cfg(test)]
mod tests;
