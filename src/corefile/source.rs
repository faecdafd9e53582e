//! Where words come from: the texts that were read, places in them, and the word itself.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use smol_str::SmolStr;

/// One word of a Corefile after quotes and environment references are resolved.
///
/// Two words are equal when their texts are; where they stand does not matter, so settings of two
/// versions of a file can be compared.
#[derive(Clone, Debug)]
pub struct Word {
    /// The text that counts.
    pub text: SmolStr,
    /// Where the word stands as it was written, quotes and references included.
    pub place: Place,
    /// Whether it was written in double quotes.
    pub quoted: bool,
}

/// A stretch of one source text, in bytes of that text as it was read (less a byte order mark).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The text it is in.
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

/// Names one text of [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

/// Every text that took part in one parse: the Corefile and what it imported.
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
    /// The words with a blank between two of them.
    pub fn join(words: &[Self]) -> String {
        let words: Vec<&str> = words.iter().map(Self::as_str).collect();
        words.join(" ")
    }

    /// A word that stands in no file, for defaults and tests. Its place must not be drawn.
    pub fn detached(text: &str) -> Self {
        Self {
            text: SmolStr::new(text),
            place: Place {
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

    /// The place of part of the text, as far as it can be told: a word with escaped quotes or
    /// replaced references gives its whole place.
    pub fn part(&self, part: Range<usize>) -> Place {
        // Quotes stand around the text; where nothing else is more, nothing in it is escaped.
        let quote = usize::from(self.quoted);
        let plain = self.text.is_ascii()
            && self.place.line == self.place.end_line
            && self.place.range().len() == self.text.len() + 2 * quote
            && part.end <= self.text.len()
            && part.start <= part.end;
        let (Ok(start), Ok(end)) = (
            u32::try_from(part.start + quote),
            u32::try_from(part.end + quote),
        ) else {
            return self.place;
        };
        if !plain {
            return self.place;
        }
        let Place {
            source,
            line,
            column,
            ..
        } = self.place;
        let offset = self.place.start;
        Place {
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

impl Place {
    /// The empty place right behind this one: where something is missing.
    #[must_use]
    pub fn after(self) -> Self {
        Self {
            start: self.end,
            line: self.end_line,
            column: self.end_column,
            ..self
        }
    }

    /// From the start of this place to the end of a later one in the same text.
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

    /// The bytes as a range.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Sources {
    /// Keeps a text under the name that errors show. One leading byte order mark is dropped.
    pub(super) fn add(&mut self, name: &str, text: &str) -> SourceId {
        let id = SourceId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.list.push(Arc::new(Source {
            name: name.to_owned(),
            text: text.to_owned(),
        }));
        id
    }

    /// The name of a text: the path as the user gave it.
    pub fn name(&self, id: SourceId) -> Option<&str> {
        self.get(id).map(|source| source.name.as_str())
    }

    /// A whole text.
    pub fn text(&self, id: SourceId) -> Option<&str> {
        self.get(id).map(|source| source.text.as_str())
    }

    /// Every text, in the order in which they were read.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|source| source.text.as_str())
    }

    /// What is written at a place, quotes included.
    pub fn slice(&self, place: Place) -> Option<&str> {
        self.text(place.source)?.get(place.range())
    }

    /// `NAME:LINE:COLUMN`, for log lines.
    pub fn locate(&self, place: Place) -> String {
        let name = self.name(place.source).unwrap_or("?");
        format!("{name}:{}:{}", place.line, place.column)
    }

    /// Part of a place, as byte offsets within it. Gives the whole place if they do not fit.
    pub(super) fn part(&self, whole: Place, part: Range<usize>) -> Place {
        let cut = || {
            let text = self.slice(whole)?;
            let (before, within) = (text.get(..part.start)?, text.get(part.clone())?);
            let (line, column) = advance(whole.line, whole.column, before);
            let (end_line, end_column) = advance(line, column, within);
            Some(Place {
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

/// Line and column behind `text`, which starts at the given ones.
fn advance(line: u32, column: u32, text: &str) -> (u32, u32) {
    text.chars().fold((line, column), |(line, column), rune| {
        if rune == '\n' {
            (line + 1, 1)
        } else {
            (line, column + 1)
        }
    })
}
