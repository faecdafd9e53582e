//! Source texts, spans in them, and words.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use smol_str::SmolStr;

/// A word of a Corefile, with quotes and environment references resolved.
///
/// Equality compares texts only, not spans, so that settings of two versions of a file can be
/// compared.
#[derive(Clone, Debug)]
pub struct Word {
    /// The resolved text.
    pub text: SmolStr,
    /// Source span, including quotes and references.
    pub span: Span,
    /// Whether it was written in double quotes.
    pub quoted: bool,
}

/// A range of one source text, in bytes of the text without a byte order mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The source text.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// Line of the first byte, from 1.
    pub line: u32,
    /// Column of the first byte in characters, from 1.
    pub column: u32,
    /// Line of the end.
    pub end_line: u32,
    /// Column of the end, exclusive.
    pub end_column: u32,
}

/// Identifies a text of [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

/// All texts of one parse: the Corefile and its imports.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    list: Vec<Arc<Source>>,
}

#[derive(Debug)]
struct Source {
    name: String,
    text: String,
}

impl Word {
    /// The words, separated by spaces.
    pub fn join(words: &[Self]) -> String {
        let words: Vec<&str> = words.iter().map(Self::as_str).collect();
        words.join(" ")
    }

    /// A word without a source, for defaults and tests. Its span must not be rendered.
    pub fn detached(text: &str) -> Self {
        Self {
            text: SmolStr::new(text),
            span: Span {
                source: SourceId(u32::MAX),
                start: 0,
                end: 0,
                line: 0,
                column: 0,
                end_line: 0,
                end_column: 0,
            },
            quoted: false,
        }
    }

    /// The span of part of the text. Falls back to the whole word's span if the word has escaped
    /// quotes or replaced references.
    pub fn part(&self, part: Range<usize>) -> Span {
        // If the quotes are the only difference in length, the text has no escapes.
        let quote = usize::from(self.quoted);
        let plain = self.text.is_ascii()
            && self.span.line == self.span.end_line
            && self.span.range().len() == self.text.len() + 2 * quote
            && part.end <= self.text.len()
            && part.start <= part.end;
        let (Ok(start), Ok(end)) = (
            u32::try_from(part.start + quote),
            u32::try_from(part.end + quote),
        ) else {
            return self.span;
        };
        if !plain {
            return self.span;
        }
        let Span {
            source,
            line,
            column,
            ..
        } = self.span;
        let offset = self.span.start;
        Span {
            source,
            start: offset + start,
            end: offset + end,
            line,
            column: column + start,
            end_line: line,
            end_column: column + end,
        }
    }

    /// The text as a slice.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Deref for Word {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for Word {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Word {}

impl PartialEq<str> for Word {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl PartialEq<&str> for Word {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

impl Span {
    /// The empty span right after this one: where something is missing.
    #[must_use]
    pub fn after(self) -> Self {
        Self {
            start: self.end,
            line: self.end_line,
            column: self.end_column,
            ..self
        }
    }

    /// From the start of this span to the end of a later one in the same text.
    #[must_use]
    pub fn to(self, last: Self) -> Self {
        if self.source != last.source || last.end < self.start {
            return self;
        }
        Self {
            end: last.end,
            end_line: last.end_line,
            end_column: last.end_column,
            ..self
        }
    }

    /// The byte range.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Sources {
    /// Adds a text under the name shown in errors. A leading byte order mark is dropped.
    pub(super) fn add(&mut self, name: &str, text: &str) -> SourceId {
        let id = SourceId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.list.push(Arc::new(Source {
            name: name.to_owned(),
            text: text.to_owned(),
        }));
        id
    }

    /// The name of a text: the path as given by the user.
    pub fn name(&self, id: SourceId) -> Option<&str> {
        self.get(id).map(|source| source.name.as_str())
    }

    /// A source text.
    pub fn text(&self, id: SourceId) -> Option<&str> {
        self.get(id).map(|source| source.text.as_str())
    }

    /// All texts in reading order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|source| source.text.as_str())
    }

    /// The text of a span, including quotes.
    pub fn slice(&self, span: Span) -> Option<&str> {
        self.text(span.source)?.get(span.range())
    }

    /// `NAME:LINE:COLUMN`, for log lines.
    pub fn locate(&self, span: Span) -> String {
        let name = self.name(span.source).unwrap_or("?");
        format!("{name}:{}:{}", span.line, span.column)
    }

    /// A part of a span, given as byte offsets within it; the whole span if they are out of range.
    pub(super) fn part(&self, whole: Span, part: Range<usize>) -> Span {
        let cut = || {
            let text = self.slice(whole)?;
            let (before, within) = (text.get(..part.start)?, text.get(part.clone())?);
            let (line, column) = advance(whole.line, whole.column, before);
            let (end_line, end_column) = advance(line, column, within);
            Some(Span {
                source: whole.source,
                start: whole.start + u32::try_from(part.start).ok()?,
                end: whole.start + u32::try_from(part.end).ok()?,
                line,
                column,
                end_line,
                end_column,
            })
        };
        cut().unwrap_or(whole)
    }

    fn get(&self, id: SourceId) -> Option<&Source> {
        self.list.get(id.0 as usize).map(|source| &**source)
    }
}

/// Line and column after `text`, which starts at the given ones.
fn advance(line: u32, column: u32, text: &str) -> (u32, u32) {
    text.chars().fold((line, column), |(line, column), rune| {
        if rune == '\n' {
            (line + 1, 1)
        } else {
            (line, column + 1)
        }
    })
}
