//! Invalid fields of objects, and log deduplication per object.

use super::event::{Kind, ObjectKey};
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::hash::BuildHasher;

/// Invalid fields described per object; further ones are only counted.
const MAX_DESCRIBED: usize = 8;

/// Characters of a value shown in a message.
const MAX_VALUE_CHARS: usize = 64;

/// Objects remembered for deduplication.
const MAX_LOGGED: usize = 1000;

/// The invalid fields of one object; they are skipped.
#[derive(Debug, Default)]
pub(super) struct InvalidFields {
    described: Vec<InvalidField>,
    more: u32,
}

/// An invalid field.
#[derive(Debug)]
pub(super) struct InvalidField {
    /// The path, as in `spec.ports[0].port`.
    pub(super) path: String,
    value: Box<str>,
    expected: &'static str,
}

impl InvalidFields {
    /// Adds a field: `value` as shown in messages, and what was `expected` instead.
    pub(super) fn add(&mut self, path: &dyn Display, value: &str, expected: &'static str) {
        if self.described.len() == MAX_DESCRIBED {
            self.more = self.more.saturating_add(1);
            return;
        }
        self.described.push(InvalidField {
            path: path.to_string(),
            value: value.into(),
            expected,
        });
    }

    /// Number of invalid fields.
    pub(super) fn count(&self) -> u32 {
        // `described` has at most MAX_DESCRIBED entries.
        self.more + u32::try_from(self.described.len()).unwrap_or(u32::MAX)
    }

    /// The described fields.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, InvalidField> {
        self.described.iter()
    }

    /// Number of fields not described.
    pub(super) fn more(&self) -> u32 {
        self.more
    }
}

impl Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, value, expected) = (&self.path, &self.value, self.expected);
        write!(f, "{path} {value}, expected {expected}")
    }
}

impl Display for InvalidFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, field) in self.described.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            field.fmt(f)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// A value for a message: quoted, escaped and truncated.
pub(super) fn quote(text: &str) -> Box<str> {
    let mut shown: String = text.chars().take(MAX_VALUE_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}").into()
}

/// Log deduplication for one kind. A message about an object is logged once, and again after the
/// object was valid or deleted in between.
pub(super) struct LogOnce {
    kind: Kind,
    known: HashMap<ObjectKey, LoggedObject>,
    hasher: foldhash::fast::RandomState,
    /// Sequence number of the current or last list.
    list: u32,
    is_full: bool,
}

struct LoggedObject {
    message: u64,
    list: u32,
}

impl LogOnce {
    /// An empty record.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            known: HashMap::new(),
            hasher: foldhash::fast::RandomState::default(),
            list: 0,
            is_full: false,
        }
    }

    /// The log line for a message about an object; `None` if it was logged before. Objects without
    /// a key are distinguished by the message.
    pub(super) fn line_for(
        &mut self,
        key: Option<&ObjectKey>,
        message: &dyn Display,
    ) -> Option<String> {
        let text = message.to_string();
        let hash = self.hasher.hash_one(&text);
        let kind = self.kind.resource();
        let line = match key {
            Some(key) => format!("{kind} {key}: {text}"),
            None => format!("{kind}: {text}"),
        };
        let key = key.cloned().unwrap_or_else(|| ObjectKey {
            namespace: "".into(),
            name: format!("{hash:x}").into(),
        });
        let entry = LoggedObject {
            message: hash,
            list: self.list,
        };
        let is_room = self.known.len() < MAX_LOGGED;
        match self.known.get_mut(&key) {
            Some(known) if known.message == hash => {
                known.list = self.list;
                None
            }
            Some(known) => {
                *known = entry;
                Some(line)
            }
            None if is_room => {
                self.known.insert(key, entry);
                Some(line)
            }
            None if self.is_full => None,
            None => {
                self.is_full = true;
                Some(format!(
                    "{kind}: more than {MAX_LOGGED} objects have parts that cannot be used; those \
                     of further objects are counted and not logged"
                ))
            }
        }
    }

    /// The object is valid or deleted.
    pub(super) fn clear(&mut self, key: &ObjectKey) {
        if !self.known.is_empty() {
            self.known.remove(key);
        }
    }

    /// A list starts.
    pub(super) fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// The list is complete: objects that it did not contain are deleted.
    pub(super) fn end(&mut self) {
        let list = self.list;
        self.known.retain(|_, entry| entry.list == list);
        self.is_full &= self.known.len() >= MAX_LOGGED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_eight_fields_are_described_and_all_are_counted() {
        let mut invalid = InvalidFields::default();
        for number in 0..20 {
            invalid.add(&format_args!("a[{number}]"), "7", "text");
        }
        let text = invalid.to_string();
        assert!(text.starts_with("a[0] 7, expected text; a[1]"), "{text}");
        assert!(text.ends_with("; and 12 more"), "{text}");
        assert_eq!(invalid.count(), 20);
        assert_eq!(&*quote("a\n"), r#""a\n""#);
        assert!(quote(&"x".repeat(100_000)).len() < 80);
    }

    #[test]
    fn a_message_is_logged_once_until_its_object_is_valid_or_deleted() {
        let key = |number: usize| ObjectKey::from(("ns", &*format!("s{number}")));
        let mut logged = LogOnce::new(Kind::Service);
        let mut lines = Vec::new();
        for _ in 0..3 {
            logged.begin();
            lines.extend(logged.line_for(Some(&key(1)), &"bad"));
            lines.extend(logged.line_for(None, &"worse"));
            logged.end();
        }
        assert_eq!(lines, ["services ns/s1: bad", "services: worse"]);
        let again = |logged: &mut LogOnce| logged.line_for(Some(&key(1)), &"bad again").is_some();
        assert!(again(&mut logged) && !again(&mut logged));
        logged.clear(&key(1));
        assert!(again(&mut logged));
        logged.begin();
        logged.end();
        assert!(again(&mut logged));
        let many = (0..2 * MAX_LOGGED).filter_map(|it| logged.line_for(Some(&key(it)), &"bad"));
        assert_eq!(many.count(), MAX_LOGGED + 1);
    }
}
