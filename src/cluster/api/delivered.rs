//! What the watch of one kind has delivered, for the audit: versions of objects, and a comparison with
//! a list.
//!
//! A list and the watch race: either may be ahead of the other. An object is not compared if the watch
//! has delivered an event of it since the comparison began, and a difference is a lost event only once
//! the watch has reached the version of the list: events and bookmarks come in the order of versions.

use super::super::event::ObjectKey;
use super::fingerprints::{FingerprintTable, Found, KeyHash};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use tokio::sync::Notify;

/// Maximum number of different objects whose names are kept.
const MAX_NAMES: usize = 100;

/// Shared by the reflector of a kind and the audit.
#[derive(Default)]
pub(super) struct Delivered {
    state: Mutex<State>,
    /// Notified when a comparison may have been decided.
    progress: Notify,
    /// Notified when a new list is requested.
    relist: Notify,
}

#[derive(Default)]
struct State {
    objects: FingerprintTable,
    /// The version up to which all events have been delivered; `None` while a list is under way, or
    /// if the server's versions are not numbers.
    version: Option<u64>,
    /// Whether the server streamed the last list.
    streamed: bool,
    /// Whether a new list is requested.
    relist: bool,
    comparison: Option<Comparison>,
}

/// A comparison with a list.
#[derive(Default)]
struct Comparison {
    /// Objects that the watch deleted since the comparison began.
    deleted: HashSet<KeyHash>,
    /// Objects that differ, and that the watch has not touched since the comparison began.
    different: HashMap<KeyHash, Difference>,
    /// The version of the list, once it is complete.
    listed: Option<u64>,
}

/// An object that differs between the list and what the watch delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The listed version; `None` if the object is not in the list.
    version: Option<u64>,
    /// The name, if it is in the list and among the first [`MAX_NAMES`].
    pub(super) name: Option<ObjectKey>,
}

/// How to list for a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListFrom {
    /// The list must not be older than this.
    pub(super) version: u64,
    /// Whether the server streams lists.
    pub(super) streamed: bool,
}

/// Lost events of a kind.
pub(super) struct Lost {
    /// The objects concerned.
    pub(super) objects: HashMap<KeyHash, Difference>,
    /// A hash of the objects and their listed versions.
    pub(super) digest: u64,
}

/// The calls of the reflector.
impl Delivered {
    /// A list begins: what was delivered before does not count.
    pub(super) fn begin_list(&self) {
        let mut state = self.state.lock();
        state.objects.clear();
        state.relist = false;
        state.forget_version();
        drop(state);
        self.progress.notify_one();
    }

    /// A list is complete.
    pub(super) fn end_list(&self, version: Option<u64>, streamed: bool) {
        let mut state = self.state.lock();
        state.version = version;
        state.streamed = streamed;
    }

    /// The watch cannot resume, and a list will follow.
    pub(super) fn forget_version(&self) {
        self.state.lock().forget_version();
        self.progress.notify_one();
    }

    /// An object exists in this version.
    pub(super) fn put(&self, key: &ObjectKey, version: Option<u64>) {
        let mut state = self.state.lock();
        let key = state.objects.key(&key.namespace, &key.name);
        state.objects.put(key, version);
        if let Some(comparison) = &mut state.comparison {
            comparison.different.remove(&key);
        }
    }

    /// An object was deleted.
    pub(super) fn remove(&self, key: &ObjectKey) {
        let mut state = self.state.lock();
        let key = state.objects.key(&key.namespace, &key.name);
        state.objects.remove(key);
        if let Some(comparison) = &mut state.comparison {
            comparison.different.remove(&key);
            comparison.deleted.insert(key);
        }
    }

    /// All events up to this version have been delivered.
    pub(super) fn reached(&self, version: Option<u64>) {
        let mut state = self.state.lock();
        state.version = version;
        let waits = state.comparison.as_ref();
        let waits = waits.is_some_and(|comparison| comparison.listed.is_some());
        drop(state);
        if waits {
            self.progress.notify_one();
        }
    }

    /// Waits until a new list is requested.
    pub(super) async fn relist_requested(&self) {
        while !self.state.lock().relist {
            self.relist.notified().await;
        }
    }
}

/// The calls of the audit.
impl Delivered {
    /// Begins a comparison; `None` while a list is under way or requested.
    pub(super) fn begin_comparison(&self) -> Option<ListFrom> {
        let mut state = self.state.lock();
        let version = state.version.filter(|_| !state.relist)?;
        state.objects.begin_comparison();
        state.comparison = Some(Comparison::default());
        Some(ListFrom {
            version,
            streamed: state.streamed,
        })
    }

    /// Compares a listed object.
    pub(super) fn compare(&self, key: ObjectKey, version: Option<u64>) {
        let mut state = self.state.lock();
        let State {
            objects,
            comparison: Some(comparison),
            ..
        } = &mut *state
        else {
            return;
        };
        let hash = objects.key(&key.namespace, &key.name);
        let differs = match objects.compare(hash, version) {
            Found::Agrees => false,
            Found::Differs => true,
            Found::Missing => !comparison.deleted.contains(&hash),
        };
        if differs {
            let name = (comparison.different.len() < MAX_NAMES).then_some(key);
            let difference = Difference { version, name };
            comparison.different.insert(hash, difference);
        }
    }

    /// The list is complete at this version: objects that are not in it differ.
    pub(super) fn end_comparison(&self, version: Option<u64>) {
        let mut state = self.state.lock();
        let State {
            objects,
            comparison: Some(comparison),
            ..
        } = &mut *state
        else {
            return;
        };
        comparison.listed = Some(version.unwrap_or(u64::MAX));
        let missing = objects.unseen().map(|key| {
            let difference = Difference {
                version: None,
                name: None,
            };
            (key, difference)
        });
        comparison.different.extend(missing);
    }

    /// Waits until the watch has reached the version of the list, or nothing differs, or the watch
    /// has ended in a list, which ends the comparison.
    pub(super) async fn decided(&self) {
        while !self.state.lock().is_decided() {
            self.progress.notified().await;
        }
    }

    /// Ends the comparison. Returns what differs; `None` if a list has ended it.
    pub(super) fn take_comparison(&self) -> Option<Lost> {
        let mut state = self.state.lock();
        let objects = state.comparison.take()?.different;
        let hasher = foldhash::quality::FixedState::default();
        let each = objects.iter();
        let each = each.map(|(key, difference)| hasher.hash_one((key, difference.version)));
        let digest = each.fold(0, u64::wrapping_add);
        Some(Lost { objects, digest })
    }

    /// The identity of an object, as in [`Lost`].
    pub(super) fn key(&self, namespace: &str, name: &str) -> KeyHash {
        self.state.lock().objects.key(namespace, name)
    }

    /// Makes the reflector list again.
    pub(super) fn request_list(&self) {
        self.state.lock().relist = true;
        self.relist.notify_one();
    }
}

impl State {
    fn forget_version(&mut self) {
        self.version = None;
        self.comparison = None;
    }

    fn is_decided(&self) -> bool {
        let Some(comparison) = &self.comparison else {
            return true;
        };
        let reached = self.version >= comparison.listed;
        comparison.different.is_empty() || reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn key(name: &str) -> ObjectKey {
        ("ns", name).into()
    }

    /// Objects a, b and c at version 3.
    fn delivered() -> Delivered {
        let delivered = Delivered::default();
        delivered.begin_list();
        for (name, version) in [("a", 1), ("b", 2), ("c", 3)] {
            delivered.put(&key(name), Some(version));
        }
        delivered.end_list(Some(3), true);
        delivered
    }

    fn listed(delivered: &Delivered, objects: &[(&str, u64)], version: u64) {
        for (name, version) in objects {
            delivered.compare(key(name), Some(*version));
        }
        delivered.end_comparison(Some(version));
    }

    fn is_decided(delivered: &Delivered) -> bool {
        delivered.decided().now_or_never().is_some()
    }

    /// The number of differences, and the names among them.
    fn lost(delivered: &Delivered) -> (usize, Vec<String>) {
        let lost = delivered.take_comparison().unwrap();
        let names = lost.objects.values().filter_map(|it| it.name.as_ref());
        let mut names: Vec<_> = names.map(ToString::to_string).collect();
        names.sort();
        (lost.objects.len(), names)
    }

    #[test]
    fn the_same_objects_do_not_differ() {
        let delivered = delivered();
        let from = delivered.begin_comparison().unwrap();
        assert_eq!((from.version, from.streamed), (3, true));
        listed(&delivered, &[("a", 1), ("b", 2), ("c", 3)], 9);
        assert!(is_decided(&delivered));
        assert_eq!(lost(&delivered), (0, vec![]));
    }

    #[test]
    fn differences_are_lost_events_once_the_watch_has_reached_the_list() {
        let delivered = delivered();
        delivered.begin_comparison();
        listed(&delivered, &[("a", 1), ("b", 5), ("d", 6)], 7);
        assert!(!is_decided(&delivered));
        delivered.reached(Some(6));
        assert!(!is_decided(&delivered));
        delivered.reached(Some(7));
        assert!(is_decided(&delivered));
        // b was changed, c deleted and d created.
        assert_eq!(lost(&delivered), (3, vec!["ns/b".into(), "ns/d".into()]));
    }

    #[test]
    fn events_in_flight_are_no_differences() {
        // After the list: the list was ahead.
        let delivered = delivered();
        delivered.begin_comparison();
        listed(&delivered, &[("a", 1), ("b", 5), ("d", 6)], 7);
        delivered.put(&key("b"), Some(5));
        delivered.put(&key("d"), Some(6));
        assert!(!is_decided(&delivered));
        delivered.remove(&key("c"));
        assert!(is_decided(&delivered));
        assert_eq!(lost(&delivered), (0, vec![]));

        // Before the list: the watch was ahead.
        let delivered = self::delivered();
        delivered.begin_comparison();
        delivered.put(&key("b"), Some(5));
        delivered.put(&key("d"), Some(6));
        delivered.remove(&key("c"));
        delivered.reached(Some(7));
        listed(&delivered, &[("a", 1), ("b", 2), ("c", 3)], 3);
        assert!(is_decided(&delivered));
        assert_eq!(lost(&delivered), (0, vec![]));
    }

    #[test]
    fn a_list_ends_the_comparison() {
        let delivered = delivered();
        delivered.begin_comparison();
        listed(&delivered, &[], 7);
        delivered.begin_list();
        assert!(is_decided(&delivered));
        assert!(delivered.take_comparison().is_none());
        assert!(delivered.begin_comparison().is_none());
        delivered.end_list(None, false);
        assert!(delivered.begin_comparison().is_none(), "no numeric version");
    }

    #[test]
    fn a_request_for_a_list_ends_with_the_next_list() {
        let delivered = delivered();
        assert!(delivered.relist_requested().now_or_never().is_none());
        delivered.request_list();
        assert!(delivered.relist_requested().now_or_never().is_some());
        delivered.begin_list();
        assert!(delivered.relist_requested().now_or_never().is_none());
    }

    #[test]
    fn the_digest_is_that_of_the_differences() {
        let delivered = delivered();
        let digest = |objects: &[(&str, u64)]| {
            delivered.begin_comparison();
            listed(&delivered, objects, 3);
            delivered.take_comparison().unwrap().digest
        };
        let one = digest(&[("a", 1), ("b", 5)]);
        assert_eq!(one, digest(&[("b", 5), ("a", 1)]));
        assert_ne!(one, digest(&[("b", 6), ("a", 1)]));
        assert_ne!(one, digest(&[("b", 5), ("a", 1), ("c", 3)]));
    }
}
