//! Zone files (RFC 1035 §5): their text in, records out.
//!
//! The reader is our own. hickory-proto's knows no DNAME, no DNSSEC records but DS, no types by
//! number and no names under `$INCLUDE`, reads `\DDD` as another character and not as an octet, and
//! its errors have no line.

mod data;
mod generate;
mod lexer;
mod line;
mod parameters;
mod rare;
mod value;

use self::lexer::{Entry, Lexer, Word};
pub use self::line::Line;
use super::{
    builder::{Builder, HASHED, Refusal},
    format::named,
};
use crate::wire::{Name, NameRef, Type};

/// Files within files.
const MAX_DEPTH: usize = 8;

/// Seconds that a record may be kept at most (RFC 2181 §8).
const MAX_TTL: u32 = i32::MAX as u32;

/// What is wrong with a zone file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct TextError {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Records that are no part of the zone, and are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// How many.
    pub count: usize,
    /// File and line of the first.
    pub first: Option<(String, usize)>,
}

/// Records that cannot be read, and are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faulty {
    /// How many.
    pub count: usize,
    /// What is wrong with the first, and where it stands.
    pub first: Option<TextError>,
}

/// What of a text became no part of the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Records that are none of the zone's.
    pub outside: Outside,
    /// Records that cannot be read; none with [`Faults::Refuse`].
    pub faulty: Faulty,
}

/// What becomes of a text with a record that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// It is refused.
    Refuse,
    /// The record is left out. The text is still refused where more than one record may be wrong: a
    /// directive other than `$GENERATE`, an open quote or parenthesis, a zone that is not served at
    /// all, and a fault in a last line without an end, as of a file that is not written to its end.
    LeaveOut,
}

/// Finds the file that `$INCLUDE` names, given who names it: what errors call it, and its text.
pub type Include<'a> = dyn FnMut(&str, &str) -> Result<(String, Vec<u8>), String> + 'a;

/// Reads the text of a file into `builder`, the zone's apex being the first origin.
pub fn read(
    builder: &mut Builder,
    file: &str,
    text: &[u8],
    faults: Faults,
    include: &mut Include<'_>,
) -> Result<LeftOut, TextError> {
    let apex = builder.apex().to_name();
    let mut reader = Reader {
        builder,
        include,
        owner: None,
        default_ttl: None,
        last_ttl: None,
        faults,
        left_out: LeftOut::default(),
        is_void: false,
    };
    reader.file(file, text, apex, 0)?;
    Ok(reader.left_out)
}

/// What is kept from one entry to the next.
struct Reader<'a, 'i> {
    builder: &'a mut Builder,
    include: &'a mut Include<'i>,
    owner: Option<Name>,
    /// What `$TTL` says (RFC 2308 §4).
    default_ttl: Option<u32>,
    /// What a record said last (RFC 1035 §5.1); where none did, the minimum of the SOA record.
    last_ttl: Option<u32>,
    faults: Faults,
    left_out: LeftOut,
    /// A record makes the whole zone unservable.
    is_void: bool,
}

impl Reader<'_, '_> {
    fn file(
        &mut self,
        file: &str,
        text: &[u8],
        mut origin: Name,
        depth: usize,
    ) -> Result<(), TextError> {
        let failed = |line, message| TextError {
            file: file.to_owned(),
            line,
            message,
        };
        let mut lexer = Lexer::new(text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text));
        let mut entry = Entry::default();
        loop {
            match lexer.next(&mut entry) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err((line, message)) => return Err(failed(line, message.to_owned())),
            }
            let words = &entry.words;
            let directive = words[0].text.starts_with(b"$") && !words[0].is_quoted;
            let is_record = entry.is_indented || !directive;
            let is_one_fault = is_record || words[0].is("$GENERATE");
            let done = match &words[0] {
                _ if is_record => self.record(&entry, origin.as_ref(), file),
                word if word.is("$ORIGIN") => argument(words).and_then(|word| {
                    origin = value::name(word, origin.as_ref())?;
                    Ok(())
                }),
                word if word.is("$TTL") => argument(words).and_then(|word| {
                    self.default_ttl = Some(ttl(word)?);
                    Ok(())
                }),
                word if word.is("$INCLUDE") => {
                    let found = self.include(words, origin.as_ref(), file, depth);
                    let (name, text, origin) = found.map_err(|it| failed(entry.line, it))?;
                    let owner = self.owner;
                    self.file(&name, &text, origin, depth + 1)?;
                    // What the other file named last is none of this one's (RFC 1035 §5.1).
                    self.owner = owner;
                    Ok(())
                }
                word if word.is("$GENERATE") => self.generate(&entry, origin.as_ref(), file),
                word => Err(format!(
                    "{} is none of $ORIGIN, $TTL, $INCLUDE and $GENERATE",
                    data::shown(word)
                )),
            };
            let Err(message) = done else { continue };
            let error = failed(entry.line, message);
            let is_cut_off = lexer.is_at_end() && !text.ends_with(b"\n");
            if self.faults == Faults::Refuse || !is_one_fault || self.is_void || is_cut_off {
                return Err(error);
            }
            let faulty = &mut self.left_out.faulty;
            faulty.count += 1;
            faulty.first.get_or_insert(error);
        }
    }

    /// `$INCLUDE FILE [ORIGIN]`
    fn include(
        &mut self,
        words: &[Word<'_>],
        origin: NameRef<'_>,
        file: &str,
        depth: usize,
    ) -> Result<(String, Vec<u8>, Name), String> {
        let (name, under) = match words {
            [_, name] => (name, origin.to_name()),
            [_, name, under] => (name, value::name(under, origin)?),
            _ => return Err("$INCLUDE is followed by a file, and perhaps an origin".to_owned()),
        };
        if depth == MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} files within files"));
        }
        let path = String::from_utf8(name.unescaped()?);
        let path = path.map_err(|_| "the file's name is not UTF-8".to_owned())?;
        let (name, text) = (self.include)(file, &path)
            .map_err(|error| format!("cannot include {path}: {error}"))?;
        Ok((name, text, under))
    }

    /// `[OWNER] [TTL] [CLASS] TYPE DATA…`
    fn record(&mut self, entry: &Entry<'_>, origin: NameRef<'_>, file: &str) -> Result<(), String> {
        let mut words = entry.words.as_slice();
        if !entry.is_indented {
            // Where it is no name, records below it that leave theirs out have none either.
            self.owner = None;
            self.owner = Some(value::name(&words[0], origin)?);
            words = &words[1..];
        }
        let owner = self
            .owner
            .ok_or("there is no record before it whose name it could have")?;
        let Head {
            rtype,
            ttl,
            rest: words,
        } = head(words)?;
        if HASHED.contains(&rtype) {
            self.is_void = true;
            return Err(Refusal::Hashed.to_string());
        }
        // A TTL holds for the records below, whatever is wrong with these data.
        self.last_ttl = ttl.or(self.last_ttl);
        let data = data::data(rtype, words, origin)?;
        let ttl = self.ttl(rtype, ttl, &data)?;
        match self.builder.add(owner.as_ref(), rtype, ttl, &data) {
            Err(Refusal::Outside) => {
                let outside = &mut self.left_out.outside;
                outside.count += 1;
                let place = || (file.to_owned(), entry.line);
                outside.first.get_or_insert_with(place);
                Ok(())
            }
            Err(refusal @ Refusal::TooMuch) => {
                self.is_void = true;
                Err(refusal.to_string())
            }
            added => added.map_err(|error| error.to_string()),
        }
    }

    /// The TTL of a record that says this one, or none.
    fn ttl(&mut self, rtype: Type, said: Option<u32>, data: &[u8]) -> Result<u32, String> {
        let minimum = match data {
            [.., a, b, c, d] if rtype == Type::SOA => {
                Some(u32::from_be_bytes([*a, *b, *c, *d]).min(MAX_TTL))
            }
            _ => None,
        };
        let ttl = said
            .or(self.default_ttl)
            .or(self.last_ttl)
            .or(minimum)
            .ok_or("no TTL is said, neither here nor by $TTL")?;
        self.last_ttl = said.or(self.last_ttl).or(minimum);
        Ok(ttl)
    }
}

/// What stands before a record's data.
struct Head<'e, 't> {
    rtype: Type,
    ttl: Option<u32>,
    rest: &'e [Word<'t>],
}

fn head<'e, 't>(words: &'e [Word<'t>]) -> Result<Head<'e, 't>, String> {
    let (mut said, mut class) = (None, None);
    for (at, word) in words.iter().enumerate() {
        if class.is_none() && is_class(word) {
            class = Some(word);
            if !word.is("IN") && !word.is("CLASS1") {
                let word = data::shown(word);
                return Err(format!("class {word}: only records of class IN are served"));
            }
        } else if said.is_none() && word.text.first().is_some_and(u8::is_ascii_digit) {
            said = Some(ttl(word)?);
        } else {
            let rtype = named(word.text).filter(|_| !word.is_quoted);
            let rtype = rtype.ok_or_else(|| format!("{} is no record type", data::shown(word)))?;
            return Ok(Head {
                rtype,
                ttl: said,
                rest: &words[at + 1..],
            });
        }
    }
    Err("a record type is expected".to_owned())
}

fn is_class(word: &Word<'_>) -> bool {
    ["IN", "CH", "HS", "CS", "ANY", "NONE"]
        .iter()
        .any(|class| word.is(class))
        || (word.text.len() > 5 && word.text[..5].eq_ignore_ascii_case(b"CLASS"))
}

fn ttl(word: &Word<'_>) -> Result<u32, String> {
    let seconds = value::seconds(word)?;
    if seconds > MAX_TTL {
        return Err(format!("a TTL has at most {MAX_TTL} seconds"));
    }
    Ok(seconds)
}

/// The one word behind a directive.
fn argument<'w, 't>(words: &'w [Word<'t>]) -> Result<&'w Word<'t>, String> {
    match words {
        [_, word] => Ok(word),
        _ => Err(format!(
            "{} is followed by one word",
            data::shown(&words[0])
        )),
    }
}

#[cfg(test)]
mod tests;
