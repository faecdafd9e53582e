//! The one layout of a Corefile: what `lodestone fmt` writes.
//!
//! Four blanks for each open brace, one blank between words, one empty line between blocks and at
//! most one elsewhere, comments where they were. Words are written as they stand, quotes and
//! references included, and lines are neither joined nor cut, for a line's end has a meaning; but a
//! block's opening brace comes to its keys. So the words and what is on one line with what stay the
//! same, and with them all that the file says; this is looked at before the text is given away.

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::lexer::{Token, lex};
use super::loader::MAX_FILE;
use super::source::Sources;

/// Blanks for each open brace.
const INDENT: usize = 4;

/// Lays a text out. `plugins` are the names by which a file of directives alone is told from one
/// with server blocks: what is imported within a block may hold just those.
///
/// Refused is only what cannot be cut into words.
pub fn layout(name: &str, text: &str, plugins: &[&str]) -> Result<String, Diagnostics> {
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
    let layout = Layout::new(&text, &lexed.tokens, plugins);
    let form = layout.form;
    let written = layout.write();
    // As it is read from a file: less the mark that an editor may have put there.
    let read = written.strip_prefix('\u{feff}').unwrap_or(&written);
    if is_same(&lexed.tokens, &lex(id, read).tokens, form) {
        return Ok(written);
    }
    let message = format!("{name} cannot be laid out anew without changing what it says");
    let error = Diagnostic::error(message);
    list.push(match lexed.tokens.first() {
        Some(first) => error.at(first.word.place),
        None => error,
    });
    Err(Diagnostics { list, sources })
}

/// Whether two texts have the same words on the same lines. A block's brace may have moved up.
fn is_same(one: &[Token], other: &[Token], form: Form) -> bool {
    let mut depth = 0_usize;
    let pairs = one.iter().zip(other);
    one.len() == other.len()
        && pairs.into_iter().all(|(one, other)| {
            let may_move = depth == 0 && form == Form::Blocks && one.is("{");
            depth = after(depth, one);
            one.word == other.word
                && one.word.quoted == other.word.quoted
                && (one.new_line == other.new_line || may_move)
        })
}

/// How many braces are open behind a token.
fn after(depth: usize, token: &Token) -> usize {
    match token.word.as_str() {
        "{" => depth + 1,
        "}" => depth.saturating_sub(1),
        _ => depth,
    }
}

struct Layout<'a> {
    text: &'a str,
    tokens: &'a [Token],
    form: Form,
    out: String,
    /// Whether a word is written.
    begun: bool,
    /// Comments in front of a brace that moved up: they come behind it.
    waiting: Vec<&'a str>,
}

impl<'a> Layout<'a> {
    fn new(text: &'a str, tokens: &'a [Token], plugins: &[&str]) -> Self {
        Self {
            text,
            tokens,
            form: form(tokens, plugins),
            begun: false,
            out: String::with_capacity(text.len()),
            waiting: Vec::new(),
        }
    }

    fn write(mut self) -> String {
        let mut depth = 0;
        let mut end = 0;
        for (number, token) in self.tokens.iter().enumerate() {
            let range = token.word.place.range();
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

    /// What stands between two words, or in front of the first.
    fn gap(&mut self, gap: &'a str, before: Option<&Token>, token: &Token, depth: usize) {
        if before.is_some() && !gap.contains('\n') {
            // A comment that ends within its line ends where it does.
            let glued = gap.contains('#');
            return self.out.push_str(if glued { gap } else { " " });
        }
        let joins = depth == 0 && self.form == Form::Blocks && token.is("{");
        if joins && before.is_some_and(|before| !before.is("}")) {
            let comments = gap.split('\n').map(str::trim);
            self.waiting
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

    /// Ends a line, with its comment, and gives the lines up to the next word.
    fn end_line(&mut self, gap: &'a str) -> Vec<&'a str> {
        let (comment, rest) = gap.split_once('\n').unwrap_or((gap, ""));
        if !comment.trim().is_empty() {
            self.out.push(' ');
            self.out.push_str(comment.trim());
        }
        self.out.push('\n');
        entries(rest)
    }

    /// Comments on lines of their own, and empty lines between them: none at the beginning where
    /// `tight`, none at the end where `closes`.
    fn lines(&mut self, lines: &[&'a str], depth: usize, tight: bool, closes: bool) {
        let waiting = std::mem::take(&mut self.waiting);
        for comment in &waiting {
            self.line(comment, depth);
        }
        let start = usize::from(tight && waiting.is_empty() && lines.first() == Some(&""));
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

    /// What stands behind the last word.
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
        self.begun = true;
        let raw = &self.text[token.word.place.range()];
        if token.word.quoted {
            self.out.push_str(raw);
        } else {
            self.out.extend(raw.chars().filter(|rune| *rune != '\r'));
        }
    }

    fn indent(&mut self, depth: usize) {
        let depth = depth + usize::from(self.form == Form::Bare && self.begun);
        self.out.extend(std::iter::repeat_n(' ', depth * INDENT));
    }
}

/// Lines without what is around them, several empty ones as one. What is behind the last line end is
/// where the next word begins, or nothing, or a comment that the text ends with.
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

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Server blocks and snippets.
    Blocks,
    /// One block without braces: all but its first line are indented.
    Bare,
    /// Directives alone, to be imported within a block.
    Directives,
}

fn form(tokens: &[Token], plugins: &[&str]) -> Form {
    // Whether this line is an import, which says nothing; and whether it goes on on the next one.
    let (mut imports, mut continues) = (true, false);
    for (number, token) in tokens.iter().enumerate() {
        if token.is("{") {
            return Form::Blocks;
        }
        if number == 0 || token.new_line {
            if !imports && !continues {
                return Form::Bare;
            }
            if imports && plugins.contains(&token.word.as_str()) {
                return Form::Directives;
            }
            imports &= token.is("import");
        }
        continues = token.word.ends_with(',');
    }
    Form::Blocks
}

#[cfg(test)]
mod tests;
