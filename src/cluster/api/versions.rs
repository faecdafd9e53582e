//! Filters stale and duplicate watch events by resource version.
//!
//! An API server sends each change once and in order. Proxies, restarts and bugs have caused
//! duplicates and reordering, and an event applied after its successor would persist until the next
//! list. Since Kubernetes 1.35, resource versions are documented as increasing numbers.

use super::super::event::ObjectKey;
use std::collections::VecDeque;
use std::hash::BuildHasher;

/// Events remembered: reordering is local.
const MAX_RECENT: usize = 256;

/// Resource versions of the events so far.
#[derive(Default)]
pub(super) struct VersionFilter {
    /// All events up to this version have been seen.
    floor: u64,
    /// The highest version seen.
    newest: u64,
    /// Events since `floor`, oldest first: hash of the object's key, and version.
    recent: VecDeque<(u64, u64)>,
    hasher: foldhash::fast::RandomState,
}

impl VersionFilter {
    /// A list or a bookmark covers everything up to this version.
    pub(super) fn settle(&mut self, version: Option<u64>) {
        let Some(version) = version else { return };
        self.floor = version;
        self.newest = version;
        self.recent.clear();
    }

    /// Whether an event is new for its object. Events without a numeric version are.
    pub(super) fn admit(&mut self, key: &ObjectKey, version: Option<u64>) -> bool {
        let Some(version) = version else { return true };
        if version <= self.floor {
            return false;
        }
        let object = self.hasher.hash_one(key);
        let is_newer = |it: &(u64, u64)| it.0 == object && it.1 >= version;
        if version <= self.newest && self.recent.iter().any(is_newer) {
            return false;
        }
        self.newest = self.newest.max(version);
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((object, version));
        true
    }

    /// Whether a watch may resume from this version.
    pub(super) fn is_newest(&self, version: u64) -> bool {
        version >= self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_and_duplicate_events_are_rejected() {
        let (a, b) = (ObjectKey::from(("n", "a")), ObjectKey::from(("n", "b")));
        let mut order = VersionFilter::default();
        order.settle(Some(10));
        assert!(!order.admit(&a, Some(10)), "part of the list");
        assert!(order.admit(&a, Some(12)));
        assert!(!order.admit(&a, Some(12)), "duplicate");
        assert!(!order.admit(&a, Some(11)), "overtaken");
        assert!(
            order.admit(&b, Some(11)),
            "late, but the first of this object"
        );
        assert!(order.admit(&a, None));
        order.settle(Some(20));
        assert!(!order.admit(&b, Some(15)));
    }
}
