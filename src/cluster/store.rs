//! The known objects of one kind, and which of them the current list has confirmed.

use super::event::ObjectKey;
use super::object::{EndpointSlice, Namespace, Pod, Service, ServiceImport};
use hashbrown::HashTable;
use std::borrow::Borrow;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The writer's table. Objects are shared with the published state, so each costs 9 bytes here.
pub(super) struct ObjectStore<T> {
    /// All objects; during a list, the confirmed ones.
    confirmed: HashTable<Arc<T>>,
    /// During a list, the objects it has not confirmed yet; otherwise empty.
    unconfirmed: HashTable<Arc<T>>,
    hasher: foldhash::fast::RandomState,
    in_list: bool,
}

/// The kind-independent operations of a relist.
pub(super) trait Relist {
    /// Starts or restarts a list: no object is confirmed.
    fn begin(&mut self);
    /// Confirms an object without a new state.
    fn keep(&mut self, namespace: &str, name: &str);
    /// Ends a list. Returns the keys of the unconfirmed objects.
    fn end(&mut self) -> Vec<ObjectKey>;
    /// Number of objects.
    fn len(&self) -> usize;
}

/// An object with a namespace and a name.
pub(super) trait Keyed {
    /// Namespace and name; the namespace is empty for a Namespace.
    fn key(&self) -> (&str, &str);
    /// Called if `later` is equal: takes what does not count as a change.
    fn follow(&self, _later: &Self) {}
}

impl<T> Default for ObjectStore<T> {
    fn default() -> Self {
        Self {
            confirmed: HashTable::new(),
            unconfirmed: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            in_list: false,
        }
    }
}

impl<T: Keyed + PartialEq> ObjectStore<T> {
    /// Inserts an object. Returns the object it replaces and the stored one; `None` if nothing
    /// changed.
    pub(super) fn put(&mut self, object: T) -> Option<(Option<Arc<T>>, Arc<T>)> {
        self.put_shared(object, Arc::new)
    }

    /// Like [`put`](Self::put), for an object that is already shared.
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
        self.confirm(hash, it.key());
        let known = self
            .confirmed
            .find_mut(hash, |known| known.key() == it.key());
        if let Some(known) = known {
            if **known == *it {
                known.follow(it);
                return None;
            }
            let new = share(object);
            let old = std::mem::replace(known, Arc::clone(&new));
            return Some((Some(old), new));
        }
        let new = share(object);
        insert(&mut self.confirmed, &self.hasher, hash, Arc::clone(&new));
        Some((None, new))
    }

    /// Removes and returns an object.
    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let hash = self.hasher.hash_one((namespace, name));
        let confirmed = take(&mut self.confirmed, hash, (namespace, name));
        let found = confirmed.or_else(|| take(&mut self.unconfirmed, hash, (namespace, name)));
        if !self.in_list && self.unconfirmed.is_empty() {
            self.unconfirmed = HashTable::new();
        }
        found
    }

    /// Whether a list has started and not ended.
    pub(super) fn in_list(&self) -> bool {
        self.in_list
    }

    /// Marks a known object as confirmed.
    fn confirm(&mut self, hash: u64, key: (&str, &str)) {
        if let Some(known) = take(&mut self.unconfirmed, hash, key) {
            insert(&mut self.confirmed, &self.hasher, hash, known);
        }
    }
}

fn take<T: Keyed>(objects: &mut HashTable<Arc<T>>, hash: u64, key: (&str, &str)) -> Option<Arc<T>> {
    let found = objects.find_entry(hash, |it| it.key() == key);
    Some(found.ok()?.remove().0)
}

fn insert<T: Keyed>(
    objects: &mut HashTable<Arc<T>>,
    hasher: &impl BuildHasher,
    hash: u64,
    object: Arc<T>,
) {
    objects.insert_unique(hash, object, |it| hasher.hash_one(it.key()));
}

impl<T: Keyed + PartialEq> Relist for ObjectStore<T> {
    fn begin(&mut self) {
        self.in_list = true;
        let (confirmed, unconfirmed) = (&mut self.confirmed, &mut self.unconfirmed);
        if unconfirmed.len() < confirmed.len() {
            std::mem::swap(confirmed, unconfirmed);
        }
        for object in confirmed.drain() {
            let hash = self.hasher.hash_one(object.key());
            insert(unconfirmed, &self.hasher, hash, object);
        }
        // Reserved at once: growing a table step by step fragments memory.
        confirmed.reserve(unconfirmed.len(), |it| self.hasher.hash_one(it.key()));
    }

    fn keep(&mut self, namespace: &str, name: &str) {
        let hash = self.hasher.hash_one((namespace, name));
        self.confirm(hash, (namespace, name));
    }

    fn end(&mut self) -> Vec<ObjectKey> {
        self.in_list = false;
        if self.unconfirmed.is_empty() {
            self.unconfirmed = HashTable::new();
        }
        let unconfirmed = self.unconfirmed.iter();
        unconfirmed
            .map(|object| object.key())
            .map(ObjectKey::from)
            .collect()
    }

    fn len(&self) -> usize {
        self.confirmed.len() + self.unconfirmed.len()
    }
}

impl Keyed for Namespace {
    fn key(&self) -> (&str, &str) {
        ("", &self.name)
    }
}

impl Keyed for Service {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn follow(&self, later: &Self) {
        self.revision.follow(&later.revision);
    }
}

impl Keyed for EndpointSlice {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl Keyed for Pod {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl Keyed for ServiceImport {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}
