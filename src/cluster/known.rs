//! The objects that are known of one kind, and which of them the current list has told of.

use super::event::Key;
use super::object::{Namespace, Pod, Service, ServiceImport, Slice};
use hashbrown::HashTable;
use std::borrow::Borrow;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The writer's own table: the objects themselves are shared with the published state, so an
/// object costs 9 bytes here.
pub(super) struct Known<T> {
    /// All of them; while a list is read, those that it has told of.
    told: HashTable<Arc<T>>,
    /// While a list is read, those that it has not told of yet. Otherwise empty.
    untold: HashTable<Arc<T>>,
    hasher: foldhash::fast::RandomState,
    in_list: bool,
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
            told: HashTable::new(),
            untold: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            in_list: false,
        }
    }
}

impl<T: Named + PartialEq> Known<T> {
    /// Takes an object. Returns what it replaces and the object as it is kept; None where it is
    /// the same as what was known.
    pub(super) fn put(&mut self, object: T) -> Option<(Option<Arc<T>>, Arc<T>)> {
        self.put_shared(object, Arc::new)
    }

    /// The same for an object that is shared already.
    pub(super) fn put_arc(&mut self, object: Arc<T>) -> Option<(Option<Arc<T>>, Arc<T>)> {
        self.put_shared(object, |object| object)
    }

    fn put_shared<O: Borrow<T>>(
        &mut self,
        object: O,
        share: impl FnOnce(O) -> Arc<T>,
    ) -> Option<(Option<Arc<T>>, Arc<T>)> {
        let it: &T = object.borrow();
        let hash = self.hasher.hash_one(it.key());
        self.tell(hash, it.key());
        let known = self.told.find_mut(hash, |known| known.key() == it.key());
        if let Some(known) = known {
            if **known == *it {
                return None;
            }
            let new = share(object);
            let old = std::mem::replace(known, Arc::clone(&new));
            return Some((Some(old), new));
        }
        let new = share(object);
        insert(&mut self.told, &self.hasher, hash, Arc::clone(&new));
        Some((None, new))
    }

    /// Forgets an object and returns it.
    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let hash = self.hasher.hash_one((namespace, name));
        let told = take(&mut self.told, hash, (namespace, name));
        let found = told.or_else(|| take(&mut self.untold, hash, (namespace, name)));
        if !self.in_list && self.untold.is_empty() {
            self.untold = HashTable::new();
        }
        found
    }

    /// Whether a list has begun and not ended.
    pub(super) fn in_list(&self) -> bool {
        self.in_list
    }

    /// An object has been told of, if it is known.
    fn tell(&mut self, hash: u64, key: (&str, &str)) {
        if let Some(known) = take(&mut self.untold, hash, key) {
            insert(&mut self.told, &self.hasher, hash, known);
        }
    }
}

fn take<T: Named>(objects: &mut HashTable<Arc<T>>, hash: u64, key: (&str, &str)) -> Option<Arc<T>> {
    let found = objects.find_entry(hash, |it| it.key() == key);
    Some(found.ok()?.remove().0)
}

fn insert<T: Named>(
    objects: &mut HashTable<Arc<T>>,
    hasher: &impl BuildHasher,
    hash: u64,
    object: Arc<T>,
) {
    objects.insert_unique(hash, object, |it| hasher.hash_one(it.key()));
}

impl<T: Named + PartialEq> Listing for Known<T> {
    fn begin(&mut self) {
        self.in_list = true;
        let (told, untold) = (&mut self.told, &mut self.untold);
        if untold.len() < told.len() {
            std::mem::swap(told, untold);
        }
        for object in told.drain() {
            let hash = self.hasher.hash_one(object.key());
            insert(untold, &self.hasher, hash, object);
        }
        // At once, since a table that grows leaves its smaller ones behind.
        told.reserve(untold.len(), |it| self.hasher.hash_one(it.key()));
    }

    fn keep(&mut self, namespace: &str, name: &str) {
        let hash = self.hasher.hash_one((namespace, name));
        self.tell(hash, (namespace, name));
    }

    fn end(&mut self) -> Vec<Key> {
        self.in_list = false;
        if self.untold.is_empty() {
            self.untold = HashTable::new();
        }
        let untold = self.untold.iter();
        untold.map(|object| object.key()).map(Key::from).collect()
    }

    fn len(&self) -> usize {
        self.told.len() + self.untold.len()
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
