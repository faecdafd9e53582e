//! Values that plugins attach to a query.

use std::{any::Any, fmt, sync::Arc};

/// A value that a plugin attaches to a query, for itself or for another plugin.
pub trait Extension: Any + Send + Sync + fmt::Debug {
    /// Whether the query's sub-queries inherit it.
    fn is_inherited(&self) -> bool {
        false
    }
}

/// The values attached to a query, at most one per type. An empty set allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Extensions(Vec<Arc<dyn Extension>>);

impl Extensions {
    /// Attaches a value, replacing any other of its type.
    pub fn insert<T: Extension>(&mut self, value: T) {
        self.0.retain(|other| !is::<T>(other));
        self.0.push(Arc::new(value));
    }

    /// The value of this type.
    pub fn get<T: Extension>(&self) -> Option<&T> {
        let mut values = self.0.iter();
        values.find_map(|value| any(value).downcast_ref())
    }

    /// The values that sub-queries inherit.
    #[must_use]
    pub fn inherited(&self) -> Self {
        let values = self.0.iter();
        let inherited = values.filter(|value| value.is_inherited());
        Self(inherited.cloned().collect())
    }

    /// Drops all values.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn any(value: &Arc<dyn Extension>) -> &dyn Any {
    &**value
}

fn is<T: Extension>(value: &Arc<dyn Extension>) -> bool {
    any(value).is::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Own(u8);

    #[derive(Debug, PartialEq)]
    struct Shared(u8);

    impl Extension for Own {}

    impl Extension for Shared {
        fn is_inherited(&self) -> bool {
            true
        }
    }

    #[test]
    fn one_value_of_a_type_is_kept_and_some_are_inherited() {
        let mut extensions = Extensions::default();
        extensions.insert(Shared(1));
        extensions.insert(Own(2));
        extensions.insert(Own(3));
        let inherited = extensions.inherited();
        assert_eq!(extensions.get(), Some(&Own(3)));
        assert_eq!(inherited.get::<Own>(), None);
        assert_eq!(inherited.get(), Some(&Shared(1)));
        extensions.clear();
        assert_eq!(extensions.get::<Shared>(), None);
    }
}
