//! Existing names that resemble a missing one, for the texts of denials.
//!
//! Candidates are derived from the missing name (one edit, or an affix such as `-svc`) and looked up, so the
//! cost follows the length of the name and not the number of objects. A name of 11 bytes has some 850
//! candidates. [`Searches`] remembers outcomes and bounds the look-ups per second, since clients choose the
//! names: search lists produce the same missing names all the time, and attackers produce new ones.

use std::{
    hash::{BuildHasher, Hash},
    time::{Duration, Instant},
};

/// Maximum length of a label in bytes (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// Bytes that names of Kubernetes objects consist of (RFC 1123 labels).
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-";

/// Affixes that people add to or omit from the names of Services.
const SUFFIXES: [&str; 4] = ["-service", "-svc", "-headless", "s"];

/// Slots for remembered outcomes.
const SLOTS: usize = 256;
/// Maximum age of a remembered outcome: objects change.
const MAX_AGE: Duration = Duration::from_secs(5);
/// Look-ups per second, at some 20 ns each: 1 % of a core.
const LOOKUPS_PER_SECOND: u32 = 500_000;
/// Unused look-ups that accumulate: for some 50 searches at once.
const MAX_LOOKUPS: u32 = 50_000;

/// Searches for similar names, of one thread: outcomes, and what may be spent.
pub struct Searches {
    slots: Box<[Option<Outcome>]>,
    hasher: foldhash::fast::RandomState,
    allowance: u32,
    refilled: Instant,
}

struct Outcome {
    /// The hash of what was searched for. 64 bits of a keyed hash are taken as equality: an error costs a
    /// misleading text.
    hash: u64,
    at: Instant,
    found: Option<Box<str>>,
}

impl Searches {
    /// No outcomes; a full allowance at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| None).collect(),
            hasher: foldhash::fast::RandomState::default(),
            allowance: MAX_LOOKUPS,
            refilled: now,
        }
    }

    /// The outcome of `search`, which makes at most `cost` look-ups, for `key`: a remembered one, or a new
    /// one if the allowance suffices. Otherwise `None`.
    pub fn find(
        &mut self,
        now: Instant,
        key: impl Hash,
        cost: usize,
        search: impl FnOnce() -> Option<Box<str>>,
    ) -> Option<&str> {
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash % SLOTS as u64).expect("below the number of slots");
        let is_known = self.slots[index].as_ref().is_some_and(|outcome| {
            outcome.hash == hash && now.saturating_duration_since(outcome.at) < MAX_AGE
        });
        if !is_known {
            if !self.spend(now, cost) {
                return None;
            }
            self.slots[index] = Some(Outcome {
                hash,
                at: now,
                found: search(),
            });
        }
        self.slots[index].as_ref()?.found.as_deref()
    }

    fn spend(&mut self, now: Instant, cost: usize) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled);
        let gained = elapsed.as_secs_f64() * f64::from(LOOKUPS_PER_SECOND);
        if gained >= 1.0 {
            // Bounded by the maximum before the cast.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let gained = gained.min(f64::from(MAX_LOOKUPS)) as u32;
            self.allowance = self.allowance.saturating_add(gained).min(MAX_LOOKUPS);
            self.refilled = now;
        }
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let left = self.allowance.checked_sub(cost);
        self.allowance = left.unwrap_or(self.allowance);
        left.is_some()
    }
}

/// Number of look-ups of [`nearest`] for a name.
pub fn cost(name: &str) -> usize {
    let length = name.len().min(MAX_LABEL);
    (2 * length + 1) * ALPHABET.len() + 2 * length + 2 * SUFFIXES.len()
}

/// An existing name that `name` was probably meant to be: one that differs by a transposition, a missing,
/// an additional or a wrong byte, or by an affix.
pub fn nearest(name: &str, exists: impl Fn(&str) -> bool) -> Option<Box<str>> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_LABEL || !bytes.is_ascii() {
        return None;
    }
    let check = |candidate: &[u8]| {
        let text = std::str::from_utf8(candidate).ok()?;
        let is_label = (1..=MAX_LABEL).contains(&text.len());
        (is_label && text != name && exists(text)).then(|| Box::from(text))
    };
    // One or two bytes resemble everything.
    let edited = if bytes.len() > 2 {
        edits(bytes, check)
    } else {
        None
    };
    edited.or_else(|| affixes(name, check))
}

fn edits(name: &[u8], check: impl Fn(&[u8]) -> Option<Box<str>>) -> Option<Box<str>> {
    let length = name.len();
    let mut buffer = [0; MAX_LABEL + 1];
    // Transpositions.
    buffer[..length].copy_from_slice(name);
    for at in 1..length {
        buffer.swap(at - 1, at);
        if let Some(found) = check(&buffer[..length]) {
            return Some(found);
        }
        buffer.swap(at - 1, at);
    }
    // An additional byte.
    for at in 0..length {
        buffer[..at].copy_from_slice(&name[..at]);
        buffer[at..length - 1].copy_from_slice(&name[at + 1..]);
        if let Some(found) = check(&buffer[..length - 1]) {
            return Some(found);
        }
    }
    // A missing byte.
    for at in 0..=length {
        buffer[..at].copy_from_slice(&name[..at]);
        buffer[at + 1..=length].copy_from_slice(&name[at..]);
        for &byte in ALPHABET {
            buffer[at] = byte;
            if let Some(found) = check(&buffer[..=length]) {
                return Some(found);
            }
        }
    }
    // A wrong byte.
    buffer[..length].copy_from_slice(name);
    for at in 0..length {
        for &byte in ALPHABET {
            buffer[at] = byte;
            if let Some(found) = check(&buffer[..length]) {
                return Some(found);
            }
        }
        buffer[at] = name[at];
    }
    None
}

fn affixes(name: &str, check: impl Fn(&[u8]) -> Option<Box<str>>) -> Option<Box<str>> {
    SUFFIXES.iter().find_map(|suffix| {
        let with = [name, suffix].concat();
        let without = name.strip_suffix(suffix);
        check(with.as_bytes()).or_else(|| check(without?.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn one_edit_or_an_affix_is_found() {
        let names = ["payroll", "web-service", "db", "redis-headless", "q"];
        for (missing, wanted) in [
            ("payrol", Some("payroll")),
            ("payrolll", Some("payroll")),
            ("paryoll", Some("payroll")),
            ("bayroll", Some("payroll")),
            ("apayroll", Some("payroll")),
            ("web", Some("web-service")),
            ("db-svc", Some("db")),
            ("redis", Some("redis-headless")),
            ("payr", None),
            ("dx", None),
            ("", None),
            ("p\u{e4}yroll", None),
        ] {
            let found = nearest(missing, |name| names.contains(&name));
            assert_eq!(found.as_deref(), wanted, "{missing}");
        }
    }

    #[test]
    fn the_cost_is_an_upper_bound_of_the_look_ups() {
        for name in ["a", "abc", "web-service", &"x".repeat(63), &"x".repeat(64)] {
            let count = Cell::new(0);
            let found = nearest(name, |candidate| {
                assert!(candidate.len() <= MAX_LABEL, "{candidate}");
                count.set(count.get() + 1);
                false
            });
            assert_eq!(found, None);
            assert!(count.get() <= cost(name), "{name}: {}", count.get());
        }
    }

    #[test]
    fn outcomes_are_remembered_and_new_searches_are_bounded() {
        let start = Instant::now();
        let mut searches = Searches::new(start);
        let ran = Cell::new(0);
        let mut find = |now, key: u32, cost| {
            let found = searches.find(now, key, cost, || {
                ran.set(ran.get() + 1);
                Some("web".into())
            });
            (found.is_some(), ran.get())
        };
        let most = MAX_LOOKUPS as usize;
        assert_eq!(find(start, 1, most), (true, 1));
        assert_eq!(find(start, 1, most), (true, 1), "remembered");
        assert_eq!(find(start, 2, 1), (false, 1), "nothing left");
        let later = start + Duration::from_secs(1);
        assert_eq!(find(later, 2, most), (true, 2), "refilled, to the maximum");
        assert_eq!(find(later, 3, 1), (false, 2));
        assert_eq!(find(later + MAX_AGE, 2, most), (true, 3), "too old");
    }
}
