//! Parts of objects that were left out, and which of them the log has had.

use super::event::{Key, Kind};
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::hash::BuildHasher;

/// So many flaws of an object are described; more are only counted.
const DESCRIBED: usize = 8;

/// So many characters of a value are shown.
const SHOWN: usize = 64;

/// So many objects are remembered, so that each is logged once.
const REMEMBERED: usize = 1000;

/// The parts of one object that cannot be used and were left out.
#[derive(Debug, Default)]
pub(super) struct Flaws {
    described: Vec<Flaw>,
    more: u32,
}

/// A part of an object that was left out.
#[derive(Debug)]
pub(super) struct Flaw {
    /// As in `spec.ports[0].port`.
    pub(super) path: String,
    value: Box<str>,
    expected: &'static str,
}

impl Flaws {
    /// The value at `path`, as a message shows it, is not what is `expected`.
    pub(super) fn add(&mut self, path: &dyn Display, value: &str, expected: &'static str) {
        if self.described.len() == DESCRIBED {
            self.more = self.more.saturating_add(1);
            return;
        }
        self.described.push(Flaw {
            path: path.to_string(),
            value: value.into(),
            expected,
        });
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        // There are DESCRIBED of them at most.
        self.more + u32::try_from(self.described.len()).unwrap_or(u32::MAX)
    }

    /// Those that are described.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Flaw> {
        self.described.iter()
    }

    /// How many are not described.
    pub(super) fn more(&self) -> u32 {
        self.more
    }
}

impl Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, value, expected) = (&self.path, &self.value, self.expected);
        write!(f, "{path} {value}, expected {expected}")
    }
}

impl Display for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, flaw) in self.described.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            flaw.fmt(f)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// A value as a message shows it: quoted, escaped, and cut where it is long.
pub(super) fn quote(text: &str) -> Box<str> {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}").into()
}

/// What was logged of the objects of one kind. The same complaint about an object is logged once,
/// however often the object is read; again once it was good or gone in between.
pub(super) struct Logged {
    kind: Kind,
    known: HashMap<Key, Entry>,
    hasher: foldhash::fast::RandomState,
    /// The number of the list that is read or was read last.
    list: u32,
    is_full: bool,
}

struct Entry {
    complaint: u64,
    list: u32,
}

impl Logged {
    /// Nothing, so far.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            known: HashMap::new(),
            hasher: foldhash::fast::RandomState::default(),
            list: 0,
            is_full: false,
        }
    }

    /// The log line for what is wrong with an object; nothing where it was logged already. Objects
    /// without a name are distinguished by the complaint alone.
    pub(super) fn print_error(
        &mut self,
        key: Option<&Key>,
        complaint: &dyn Display,
    ) -> Option<String> {
        let text = complaint.to_string();
        let hash = self.hasher.hash_one(&text);
        let kind = self.kind.resource();
        let line = match key {
            Some(key) => format!("{kind} {key}: {text}"),
            None => format!("{kind}: {text}"),
        };
        let key = key.cloned().unwrap_or_else(|| Key {
            namespace: "".into(),
            name: format!("{hash:x}").into(),
        });
        let entry = Entry {
            complaint: hash,
            list: self.list,
        };
        let is_room = self.known.len() < REMEMBERED;
        match self.known.get_mut(&key) {
            Some(known) if known.complaint == hash => {
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
                    "{kind}: more than {REMEMBERED} objects have parts that cannot be used; those \
                     of further objects are counted and not logged"
                ))
            }
        }
    }

    /// The object is as it should be, or gone.
    pub(super) fn clear(&mut self, key: &Key) {
        if !self.known.is_empty() {
            self.known.remove(key);
        }
    }

    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// The list is complete: what it has not shown is gone.
    pub(super) fn end(&mut self) {
        let list = self.list;
        self.known.retain(|_, entry| entry.list == list);
        self.is_full &= self.known.len() >= REMEMBERED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_flaws_are_described_and_all_are_counted() {
        let mut flaws = Flaws::default();
        for number in 0..20 {
            flaws.add(&format_args!("a[{number}]"), "7", "text");
        }
        let text = flaws.to_string();
        assert!(text.starts_with("a[0] 7, expected text; a[1]"), "{text}");
        assert!(text.ends_with("; and 12 more"), "{text}");
        assert_eq!(flaws.count(), 20);
        assert_eq!(&*quote("a\n"), r#""a\n""#);
        assert!(quote(&"x".repeat(100_000)).len() < 80);
    }

    #[test]
    fn a_complaint_is_logged_once_until_its_object_is_good_or_gone() {
        let key = |number: usize| Key::from(("ns", &*format!("s{number}")));
        let mut logged = Logged::new(Kind::Service);
        let mut lines = Vec::new();
        for _ in 0..3 {
            logged.begin();
            lines.extend(logged.print_error(Some(&key(1)), &"bad"));
            lines.extend(logged.print_error(None, &"worse"));
            logged.end();
        }
        assert_eq!(lines, ["services ns/s1: bad", "services: worse"]);
        let again = |logged: &mut Logged| logged.print_error(Some(&key(1)), &"bad again").is_some();
        assert!(again(&mut logged) && !again(&mut logged));
        logged.clear(&key(1));
        assert!(again(&mut logged));
        logged.begin();
        logged.end();
        assert!(again(&mut logged));
        let many = (0..2 * REMEMBERED).filter_map(|it| logged.print_error(Some(&key(it)), &"bad"));
        assert_eq!(many.count(), REMEMBERED + 1);
    }
}
