//! Resources that are kept across reloads: caches, connections, the cluster's state.
//!
//! A resource is identified by its type and by a key that holds every setting it depends on. A new
//! configuration that uses the same resource takes over the old one; one that it does not use is dropped
//! with the old configuration.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::Arc,
};

use parking_lot::Mutex;

type ByKey = HashMap<(TypeId, String), Arc<dyn Any + Send + Sync>>;

/// The resources of one configuration.
#[derive(Default)]
pub struct SharedResources {
    previous: ByKey,
    current: Mutex<ByKey>,
}

impl SharedResources {
    /// The resources of the next configuration.
    #[must_use]
    pub fn succeed(&self) -> Self {
        Self {
            previous: self.current.lock().clone(),
            current: Mutex::default(),
        }
    }

    /// The resource of type `T` for `key`: the one of this configuration, of the one before, or a new
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
        let resource = match known.and_then(|resource| resource.downcast().ok()) {
            Some(resource) => resource,
            None => Arc::new(make()?),
        };
        let kept: Arc<dyn Any + Send + Sync> = Arc::clone(&resource) as _;
        self.current.lock().insert(slot, kept);
        Ok(resource)
    }

    /// Like [`keep`](Self::keep), but never shared within one configuration: each call for a key gets a
    /// resource of its own. Calls for one key are matched across a reload by their order.
    pub fn keep_own<T, E>(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E>
    where
        T: Any + Send + Sync,
    {
        let taken = self.current.lock().len();
        // There are more numbers than resources, so one of them is free.
        let free = (0..=taken)
            .map(|number| format!("{number} {key}"))
            .find(|key| {
                let slot = (TypeId::of::<T>(), key.clone());
                !self.current.lock().contains_key(&slot)
            })
            .expect("one more key than there are resources");
        self.keep(&free, make)
    }

    /// Sets this configuration's resource under the key.
    pub fn put<T: Any + Send + Sync>(&self, key: &str, resource: Arc<T>) {
        let slot = (TypeId::of::<T>(), key.to_owned());
        self.current.lock().insert(slot, resource);
    }

    /// The resource that the configuration before this one had under the key.
    pub fn before<T: Any + Send + Sync>(&self, key: &str) -> Option<Arc<T>> {
        let slot = (TypeId::of::<T>(), key.to_owned());
        self.previous.get(&slot).cloned()?.downcast().ok()
    }

    /// All resources of this type that the configuration before this one had, in no order.
    pub fn all_before<T: Any + Send + Sync>(&self) -> impl Iterator<Item = Arc<T>> {
        let resources = self.previous.values();
        resources.filter_map(|resource| Arc::clone(resource).downcast().ok())
    }

    /// Drops the references to the previous configuration's resources, so that unused ones are freed.
    pub fn settle(&mut self) {
        self.previous.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(resources: &SharedResources, key: &str, value: u32) -> Arc<u32> {
        resources
            .keep(key, || Ok::<_, std::convert::Infallible>(value))
            .unwrap()
    }

    #[test]
    fn the_same_key_finds_the_same_resource_after_a_reload() {
        let first = SharedResources::default();
        let resource = keep(&first, "a", 1);
        let second = first.succeed();
        assert!(Arc::ptr_eq(&resource, &keep(&second, "a", 2)));
        assert_eq!(*keep(&second, "b", 3), 3);
    }

    #[test]
    fn unshared_resources_are_found_again_after_a_reload() {
        let make = || Ok::<_, std::convert::Infallible>(1u32);
        let first = SharedResources::default();
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
    fn resources_of_the_previous_configuration_are_found_by_key_and_type() {
        let first = SharedResources::default();
        keep(&first, "a", 1);
        first.put("b", Arc::new(2u32));
        first.put("b", Arc::new(3u32));
        first.put("c", Arc::new("of another type"));
        let mut second = first.succeed();
        second.put("b", Arc::new(4u32));
        assert_eq!(second.before::<u32>("b").as_deref(), Some(&3));
        assert!(second.before::<u32>("c").is_none());
        let mut all: Vec<u32> = second.all_before().map(|resource| *resource).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 3]);
        second.settle();
        assert!(second.before::<u32>("b").is_none());
    }

    #[test]
    fn an_unused_resource_is_dropped() {
        let first = SharedResources::default();
        let resource = Arc::downgrade(&keep(&first, "a", 1));
        let mut second = first.succeed();
        second.settle();
        drop(first);
        assert!(resource.upgrade().is_none());
    }
}
