//! The objects that are known of one kind, and which of them the current list has told of.

use super::event::Key;
use super::object::{Namespace, Pod, Service, ServiceImport, Slice};
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The writer's own table: the objects themselves are shared with the published state, so an
/// object costs 16 bytes here.
pub(super) struct Known<T> {
    objects: HashTable<Held<T>>,
    hasher: foldhash::fast::RandomState,
    /// Counts the lists begun.
    list: u32,
    in_list: bool,
}

struct Held<T> {
    object: Arc<T>,
    /// The list, or the time after it, in which the object was last told of.
    seen: u32,
}

/// What a list does, whatever the kind.
pub(super) trait Listing {
    /// A list begins, perhaps for the second time: nothing counts as told of.
    fn begin(&mut self);
    /// This object is still there.
    fn keep(&mut self, namespace: &str, name: &str);
    /// The list is complete. Returns those that it has not told of.
    fn end(&mut self) -> Vec<Key>;
    /// How many objects there are.
    fn len(&self) -> usize;
}

/// An object that has a name.
pub(super) trait Named {
    /// Namespace and name; the namespace of a Namespace is empty.
    fn key(&self) -> (&str, &str);
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            objects: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            list: 0,
            in_list: false,
        }
    }
}

impl<T: Named + PartialEq> Known<T> {
    /// Takes an object. Returns what it replaces and the object as it is kept; None where it is
    /// the same as what was known.
    pub(super) fn put(&mut self, object: T) -> Option<(Option<Arc<T>>, Arc<T>)> {
        let hash = self.hasher.hash_one(object.key());
        let known = self
            .objects
            .find_mut(hash, |held| held.object.key() == object.key());
        if let Some(held) = known {
            held.seen = self.list;
            if *held.object == object {
                return None;
            }
            let new = Arc::new(object);
            let old = std::mem::replace(&mut held.object, Arc::clone(&new));
            return Some((Some(old), new));
        }
        let new = Arc::new(object);
        let held = Held {
            object: Arc::clone(&new),
            seen: self.list,
        };
        self.objects
            .insert_unique(hash, held, |held| self.hasher.hash_one(held.object.key()));
        Some((None, new))
    }

    /// Forgets an object and returns it.
    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let hash = self.hasher.hash_one((namespace, name));
        let found = self
            .objects
            .find_entry(hash, |held| held.object.key() == (namespace, name));
        Some(found.ok()?.remove().0.object)
    }

    /// Whether a list has begun and not ended.
    pub(super) fn in_list(&self) -> bool {
        self.in_list
    }
}

impl<T: Named + PartialEq> Listing for Known<T> {
    fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
        self.in_list = true;
    }

    fn keep(&mut self, namespace: &str, name: &str) {
        let hash = self.hasher.hash_one((namespace, name));
        if let Some(held) = self
            .objects
            .find_mut(hash, |held| held.object.key() == (namespace, name))
        {
            held.seen = self.list;
        }
    }

    fn end(&mut self) -> Vec<Key> {
        self.in_list = false;
        let unseen = self.objects.iter().filter(|held| held.seen != self.list);
        unseen
            .map(|held| held.object.key())
            .map(Key::from)
            .collect()
    }

    fn len(&self) -> usize {
        self.objects.len()
    }
}

impl Named for Namespace {
    fn key(&self) -> (&str, &str) {
        ("", &self.name)
    }
}

impl Named for Service {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl Named for Slice {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl Named for Pod {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl Named for ServiceImport {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}
