//! Resources that are kept across reloads: caches, connections, the cluster's state.
//!
//! A part is identified by its type and by a key that holds every setting it depends on. A new
//! configuration that uses the same part takes over the old one; a part that it does not use is dropped
//! with the old configuration.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::Arc,
};

use parking_lot::Mutex;

type PartsByKey = HashMap<(TypeId, String), Arc<dyn Any + Send + Sync>>;

/// The parts of one configuration.
#[derive(Default)]
pub struct Parts {
    previous: PartsByKey,
    current: Mutex<PartsByKey>,
}

impl Parts {
    /// The parts of the next configuration.
    #[must_use]
    pub fn succeed(&self) -> Self {
        Self {
            previous: self.current.lock().clone(),
            current: Mutex::default(),
        }
    }

    /// The part of type `T` for `key`: the one of this configuration, of the one before, or a new
    /// one made by `make`.
    pub fn keep<T, E>(&self, key: &str, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E>
    where
        T: Any + Send + Sync,
    {
        let slot = (TypeId::of::<T>(), key.to_owned());
        let known = self
            .current
            .lock()
            .get(&slot)
            .or_else(|| self.previous.get(&slot))
            .cloned();
        let part = match known.and_then(|part| part.downcast().ok()) {
            Some(part) => part,
            None => Arc::new(make()?),
        };
        let kept: Arc<dyn Any + Send + Sync> = Arc::clone(&part) as _;
        self.current.lock().insert(slot, kept);
        Ok(part)
    }

    /// Like [`keep`](Self::keep), but never shared within one configuration: each call for a key gets a
    /// part of its own. Calls for one key are matched across a reload by their order.
    pub fn keep_own<T, E>(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E>
    where
        T: Any + Send + Sync,
    {
        let taken = self.current.lock().len();
        // There are more numbers than parts, so one of them is free.
        let free = (0..=taken)
            .map(|number| format!("{number} {key}"))
            .find(|key| {
                let slot = (TypeId::of::<T>(), key.clone());
                !self.current.lock().contains_key(&slot)
            })
            .expect("one more key than there are parts");
        self.keep(&free, make)
    }

    /// Sets this configuration's part under the key.
    pub fn put<T: Any + Send + Sync>(&self, key: &str, part: Arc<T>) {
        let slot = (TypeId::of::<T>(), key.to_owned());
        self.current.lock().insert(slot, part);
    }

    /// The part that the configuration before this one had under the key.
    pub fn before<T: Any + Send + Sync>(&self, key: &str) -> Option<Arc<T>> {
        let slot = (TypeId::of::<T>(), key.to_owned());
        self.previous.get(&slot).cloned()?.downcast().ok()
    }

    /// All parts of this type that the configuration before this one had, in no order.
    pub fn all_before<T: Any + Send + Sync>(&self) -> impl Iterator<Item = Arc<T>> {
        let parts = self.previous.values();
        parts.filter_map(|part| Arc::clone(part).downcast().ok())
    }

    /// Drops the references to the previous configuration's parts, so that unused ones are freed.
    pub fn settle(&mut self) {
        self.previous.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(parts: &Parts, key: &str, value: u32) -> Arc<u32> {
        parts
            .keep(key, || Ok::<_, std::convert::Infallible>(value))
            .unwrap()
    }

    #[test]
    fn the_same_key_finds_the_same_part_after_a_reload() {
        let first = Parts::default();
        let part = keep(&first, "a", 1);
        let second = first.succeed();
        assert!(Arc::ptr_eq(&part, &keep(&second, "a", 2)));
        assert_eq!(*keep(&second, "b", 3), 3);
    }

    #[test]
    fn unshared_parts_are_found_again_after_a_reload() {
        let make = || Ok::<_, std::convert::Infallible>(1u32);
        let first = Parts::default();
        let (one, other) = (
            first.keep_own("a", make).unwrap(),
            first.keep_own("a", make).unwrap(),
        );
        assert!(!Arc::ptr_eq(&one, &other));
        let second = first.succeed();
        assert!(Arc::ptr_eq(&one, &second.keep_own("a", make).unwrap()));
        assert!(Arc::ptr_eq(&other, &second.keep_own("a", make).unwrap()));
    }

    #[test]
    fn parts_of_the_previous_configuration_are_found_by_key_and_type() {
        let first = Parts::default();
        keep(&first, "a", 1);
        first.put("b", Arc::new(2u32));
        first.put("b", Arc::new(3u32));
        first.put("c", Arc::new("of another type"));
        let mut second = first.succeed();
        second.put("b", Arc::new(4u32));
        assert_eq!(second.before::<u32>("b").as_deref(), Some(&3));
        assert!(second.before::<u32>("c").is_none());
        let mut all: Vec<u32> = second.all_before().map(|part| *part).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 3]);
        second.settle();
        assert!(second.before::<u32>("b").is_none());
    }

    #[test]
    fn an_unused_part_is_dropped() {
        let first = Parts::default();
        let part = Arc::downgrade(&keep(&first, "a", 1));
        let mut second = first.succeed();
        second.settle();
        drop(first);
        assert!(part.upgrade().is_none());
    }
}
