//! Which events are old news.
//!
//! An API server sends each change once and in order. Proxies, restarts and bugs have sent them
//! twice or out of order, and a change applied after its successor would stand until the next
//! list. Versions tell: since Kubernetes 1.35 they are promised to be numbers that grow.

use super::super::event::Key;
use std::collections::VecDeque;
use std::hash::BuildHasher;

/// How many events are remembered: disorder is local.
const REMEMBERED: usize = 256;

/// What has been told of, as versions.
#[derive(Default)]
pub(super) struct Order {
    /// Everything up to here is known.
    floor: u64,
    /// The newest version told.
    newest: u64,
    /// Objects told of since `floor`, by hash, each with its version; the latest last.
    recent: VecDeque<(u64, u64)>,
    hasher: foldhash::fast::RandomState,
}

impl Order {
    /// Everything up to this version is known: a list or a bookmark says so.
    pub(super) fn settle(&mut self, version: Option<u64>) {
        let Some(version) = version else { return };
        self.floor = version;
        self.newest = version;
        self.recent.clear();
    }

    /// Whether this is news about that object. What has no numeric version is.
    pub(super) fn admit(&mut self, key: &Key, version: Option<u64>) -> bool {
        let Some(version) = version else { return true };
        if version <= self.floor {
            return false;
        }
        let object = self.hasher.hash_one(key);
        let newer = |it: &(u64, u64)| it.0 == object && it.1 >= version;
        if version <= self.newest && self.recent.iter().any(newer) {
            return false;
        }
        self.newest = self.newest.max(version);
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((object, version));
        true
    }

    /// Whether a watch may go on from this version rather than from an earlier one.
    pub(super) fn is_newest(&self, version: u64) -> bool {
        version >= self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_admitted() {
        let (a, b) = (Key::from(("n", "a")), Key::from(("n", "b")));
        let mut order = Order::default();
        order.settle(Some(10));
        assert!(!order.admit(&a, Some(10)), "the list has told it");
        assert!(order.admit(&a, Some(12)));
        assert!(!order.admit(&a, Some(12)), "twice");
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
