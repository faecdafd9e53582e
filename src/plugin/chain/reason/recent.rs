//! Recent texts of one thread: search lists deny the same names all the time, and a text costs a third of a
//! denial.

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
    time::{Duration, Instant},
};

/// Slots; a text and its slot take some 150 bytes.
const SLOTS: usize = 1024;
/// Maximum age: objects change.
const MAX_AGE: Duration = Duration::from_secs(1);

/// A direct-mapped table.
pub struct RecentTexts {
    slots: Box<[Option<Slot>]>,
    hasher: foldhash::fast::RandomState,
}

struct Slot {
    /// The hash of the key. 64 bits of a keyed hash are taken as equality: an error costs a misleading text.
    hash: u64,
    at: Instant,
    text: Arc<str>,
}

impl Default for RecentTexts {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| None).collect(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }
}

impl RecentTexts {
    /// The text for `key` at `now`: a recent one, or that of `make`.
    pub fn get_or_make(
        &mut self,
        now: Instant,
        key: impl Hash,
        make: impl FnOnce() -> Arc<str>,
    ) -> Arc<str> {
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash % SLOTS as u64).expect("below the number of slots");
        let slot = &mut self.slots[index];
        match slot {
            Some(slot) if slot.hash == hash && now.saturating_duration_since(slot.at) < MAX_AGE => {
                Arc::clone(&slot.text)
            }
            _ => {
                let text = make();
                *slot = Some(Slot {
                    hash,
                    at: now,
                    text: Arc::clone(&text),
                });
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_made_anew_when_they_are_old() {
        let start = Instant::now();
        let mut recent = RecentTexts::default();
        let mut text = |now, key: &str, made: &str| recent.get_or_make(now, key, || made.into());
        assert_eq!(&*text(start, "a", "1"), "1");
        assert_eq!(&*text(start, "a", "2"), "1");
        assert_eq!(&*text(start, "b", "3"), "3");
        assert_eq!(&*text(start + MAX_AGE, "a", "4"), "4");
    }
}
