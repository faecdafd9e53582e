//! Zone files (RFC 1035 section 5).
//!
//! Not hickory-proto's parser: it does not support DNAME, DNSSEC records other than DS, types by
//! number, and names under `$INCLUDE`; it decodes `\DDD` as a character instead of a byte, and its
//! errors have no line numbers.

mod data;
mod generate;
mod lexer;
mod parameters;
mod record;
mod special;
mod value;

use self::lexer::{FileEntry, Lexer, Token};
pub use self::record::TextRecord;
pub(super) use self::{
    parameters::presentation as parameters_text,
    value::{cert_type_name, quoted},
};
use super::{
    builder::{InvalidRecord, NSEC3_TYPES, ZoneBuilder},
    format::type_from_text,
};
use crate::wire::{Name, NameRef, Type};

/// Maximum depth of `$INCLUDE`.
const MAX_DEPTH: usize = 8;

/// Maximum TTL in seconds (RFC 2181 section 8).
const MAX_TTL: u32 = i32::MAX as u32;

/// An error in a zone file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct TextError {
    /// The file.
    pub file: String,
    /// The 1-based line number.
    pub line: usize,
    /// The message.
    pub message: String,
}

/// Skipped records outside the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutOfZone {
    /// Number of records.
    pub count: usize,
    /// File and line of the first.
    pub first: Option<(String, usize)>,
}

/// Skipped invalid records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvalidRecords {
    /// Number of records.
    pub count: usize,
    /// The error of the first.
    pub first: Option<TextError>,
}

/// The records of a file that are not part of the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkippedRecords {
    /// Records outside the zone.
    pub out_of_zone: OutOfZone,
    /// Invalid records; none with [`OnInvalid::Reject`].
    pub invalid: InvalidRecords,
}

/// How invalid records are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInvalid {
    /// The file is rejected.
    Reject,
    /// The record is skipped. The file is still rejected if more than one record may be affected:
    /// an invalid directive other than `$GENERATE`, an unterminated quote or parenthesis, an
    /// unsupported zone, or an error in an unterminated last line, which indicates a truncated
    /// file.
    Skip,
}

/// Resolves `$INCLUDE`: from the including file and the path to the file's name for messages and
/// its content.
pub type Include<'a> = dyn FnMut(&str, &str) -> Result<(String, Vec<u8>), String> + 'a;

/// Parses a zone file into `builder`. The initial origin is the zone's apex.
pub fn read(
    builder: &mut ZoneBuilder,
    file: &str,
    text: &[u8],
    on_invalid: OnInvalid,
    include: &mut Include<'_>,
) -> Result<SkippedRecords, TextError> {
    let apex = builder.apex().to_name();
    let mut reader = ZoneFileReader {
        builder,
        include,
        owner: None,
        default_ttl: None,
        last_ttl: None,
        on_invalid,
        skipped: SkippedRecords::default(),
        is_fatal: false,
    };
    reader.file(file, text, apex, 0)?;
    Ok(reader.skipped)
}

/// The state of the parser.
struct ZoneFileReader<'a, 'i> {
    builder: &'a mut ZoneBuilder,
    include: &'a mut Include<'i>,
    owner: Option<Name>,
    /// The value of `$TTL` (RFC 2308 section 4).
    default_ttl: Option<u32>,
    /// The last explicit TTL (RFC 1035 section 5.1); initially the minimum of the SOA record.
    last_ttl: Option<u32>,
    on_invalid: OnInvalid,
    skipped: SkippedRecords,
    /// Whether the zone as a whole is unsupported.
    is_fatal: bool,
}

impl ZoneFileReader<'_, '_> {
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
        let mut entry = FileEntry::default();
        loop {
            match lexer.next(&mut entry) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err((line, message)) => return Err(failed(line, message.to_owned())),
            }
            let tokens = &entry.tokens;
            let directive = tokens[0].text.starts_with(b"$") && !tokens[0].is_quoted;
            let is_record = entry.is_indented || !directive;
            let is_single_record = is_record || tokens[0].is("$GENERATE");
            let done = match &tokens[0] {
                _ if is_record => self.record(&entry, origin.as_ref(), file),
                token if token.is("$ORIGIN") => argument(tokens).and_then(|token| {
                    origin = value::name(token, origin.as_ref())?;
                    Ok(())
                }),
                token if token.is("$TTL") => argument(tokens).and_then(|token| {
                    self.default_ttl = Some(ttl(token)?);
                    Ok(())
                }),
                token if token.is("$INCLUDE") => {
                    let found = self.include(tokens, origin.as_ref(), file, depth);
                    let (name, text, origin) = found.map_err(|it| failed(entry.line, it))?;
                    let owner = self.owner;
                    self.file(&name, &text, origin, depth + 1)?;
                    // The owner of the included file does not apply to this one (RFC 1035 section
                    // 5.1).
                    self.owner = owner;
                    Ok(())
                }
                token if token.is("$GENERATE") => self.generate(&entry, origin.as_ref(), file),
                token => Err(format!(
                    "unknown directive {}: expected $ORIGIN, $TTL, $INCLUDE or $GENERATE",
                    lexer::quote(token)
                )),
            };
            let Err(message) = done else { continue };
            let error = failed(entry.line, message);
            let is_truncated = lexer.is_at_end() && !text.ends_with(b"\n");
            if self.on_invalid == OnInvalid::Reject
                || !is_single_record
                || self.is_fatal
                || is_truncated
            {
                return Err(error);
            }
            let invalid = &mut self.skipped.invalid;
            invalid.count += 1;
            invalid.first.get_or_insert(error);
        }
    }

    /// `$INCLUDE FILE [ORIGIN]`
    fn include(
        &mut self,
        tokens: &[Token<'_>],
        origin: NameRef<'_>,
        file: &str,
        depth: usize,
    ) -> Result<(String, Vec<u8>, Name), String> {
        let (name, under) = match tokens {
            [_, name] => (name, origin.to_name()),
            [_, name, under] => (name, value::name(under, origin)?),
            _ => return Err("expected $INCLUDE FILE [ORIGIN]".to_owned()),
        };
        if depth == MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} levels of $INCLUDE"));
        }
        let path = String::from_utf8(name.unescaped()?);
        let path = path.map_err(|_| "the file's name is not UTF-8".to_owned())?;
        let (name, text) = (self.include)(file, &path)
            .map_err(|error| format!("cannot include {path}: {error}"))?;
        Ok((name, text, under))
    }

    /// `[OWNER] [TTL] [CLASS] TYPE DATA…`
    fn record(
        &mut self,
        entry: &FileEntry<'_>,
        origin: NameRef<'_>,
        file: &str,
    ) -> Result<(), String> {
        let mut tokens = entry.tokens.as_slice();
        if !entry.is_indented {
            // If the owner is invalid, following records without an owner are invalid too.
            self.owner = None;
            self.owner = Some(value::name(&tokens[0], origin)?);
            tokens = &tokens[1..];
        }
        let owner = self.owner.ok_or("no owner name, and no previous record")?;
        let RecordHeader {
            rtype,
            ttl,
            rest: tokens,
        } = record_header(tokens)?;
        if NSEC3_TYPES.contains(&rtype) {
            self.is_fatal = true;
            return Err(InvalidRecord::Hashed.to_string());
        }
        // A TTL applies to the following records even if this one is invalid.
        self.last_ttl = ttl.or(self.last_ttl);
        let data = data::data(rtype, tokens, origin)?;
        let ttl = self.ttl(rtype, ttl, &data)?;
        match self.builder.add(owner.as_ref(), rtype, ttl, &data) {
            Err(InvalidRecord::Outside) => {
                let outside = &mut self.skipped.out_of_zone;
                outside.count += 1;
                let place = || (file.to_owned(), entry.line);
                outside.first.get_or_insert_with(place);
                Ok(())
            }
            Err(refusal @ InvalidRecord::TooMuch) => {
                self.is_fatal = true;
                Err(refusal.to_string())
            }
            added => added.map_err(|error| error.to_string()),
        }
    }

    /// The TTL of a record with this explicit TTL, if any.
    fn ttl(&mut self, rtype: Type, explicit: Option<u32>, data: &[u8]) -> Result<u32, String> {
        let minimum = match data {
            [.., a, b, c, d] if rtype == Type::SOA => {
                Some(u32::from_be_bytes([*a, *b, *c, *d]).min(MAX_TTL))
            }
            _ => None,
        };
        let ttl = explicit
            .or(self.default_ttl)
            .or(self.last_ttl)
            .or(minimum)
            .ok_or("no TTL: neither explicit nor by $TTL")?;
        self.last_ttl = explicit.or(self.last_ttl).or(minimum);
        Ok(ttl)
    }
}

/// The part of a record before its data.
struct RecordHeader<'e, 't> {
    rtype: Type,
    ttl: Option<u32>,
    rest: &'e [Token<'t>],
}

fn record_header<'e, 't>(tokens: &'e [Token<'t>]) -> Result<RecordHeader<'e, 't>, String> {
    let (mut explicit, mut class) = (None, None);
    for (at, token) in tokens.iter().enumerate() {
        if class.is_none() && is_class(token) {
            class = Some(token);
            if !token.is("IN") && !token.is("CLASS1") {
                let token = lexer::quote(token);
                return Err(format!(
                    "class {token}: only records of class IN are served"
                ));
            }
        } else if explicit.is_none() && token.text.first().is_some_and(u8::is_ascii_digit) {
            explicit = Some(ttl(token)?);
        } else {
            let rtype = type_from_text(token.text).filter(|_| !token.is_quoted);
            let rtype =
                rtype.ok_or_else(|| format!("{} is not a record type", lexer::quote(token)))?;
            return Ok(RecordHeader {
                rtype,
                ttl: explicit,
                rest: &tokens[at + 1..],
            });
        }
    }
    Err("expected a record type".to_owned())
}

fn is_class(token: &Token<'_>) -> bool {
    ["IN", "CH", "HS", "CS", "ANY", "NONE"]
        .iter()
        .any(|class| token.is(class))
        || (token.text.len() > 5 && token.text[..5].eq_ignore_ascii_case(b"CLASS"))
}

fn ttl(token: &Token<'_>) -> Result<u32, String> {
    let seconds = value::seconds(token)?;
    if seconds > MAX_TTL {
        return Err(format!("a TTL is at most {MAX_TTL} seconds"));
    }
    Ok(seconds)
}

/// The only argument of a directive.
fn argument<'w, 't>(tokens: &'w [Token<'t>]) -> Result<&'w Token<'t>, String> {
    match tokens {
        [_, token] => Ok(token),
        _ => Err(format!(
            "expected one argument after {}",
            lexer::quote(&tokens[0])
        )),
    }
}

#[cfg(test)]
mod tests;
