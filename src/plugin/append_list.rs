//! A linked list that elements are only appended to. Readers take no lock, and a reference to an element
//! is good for as long as the list.

use std::sync::{Arc, OnceLock};

use super::Block;

/// The list. A search walks it from its start, so it is for a handful of elements.
pub(super) struct AppendList<T>(OnceLock<Box<Node<T>>>);

struct Node<T> {
    element: T,
    rest: AppendList<T>,
}

impl<T> Default for AppendList<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> AppendList<T> {
    /// The first element that `matches`. Where there is none, one that `make` returns is appended: that
    /// must match.
    pub(super) fn find_or_append(&self, matches: impl Fn(&T) -> bool, make: impl Fn() -> T) -> &T {
        let mut list = self;
        loop {
            // Two threads may get here at once: one appends, the other looks at what that appended.
            let node = list.0.get_or_init(|| {
                Box::new(Node {
                    element: make(),
                    rest: Self::default(),
                })
            });
            if matches(&node.element) {
                return &node.element;
            }
            list = &node.rest;
        }
    }
}

/// A value for each server and view that asks a plugin: the labels that counters have. A block has one
/// or two servers and one view, and a list is walked faster than a map is looked up.
pub(super) struct PerServer<T>(AppendList<(Arc<str>, Arc<str>, T)>);

impl<T> Default for PerServer<T> {
    fn default() -> Self {
        Self(AppendList::default())
    }
}

impl<T> PerServer<T> {
    /// The value for queries of `block`, which `make` returns the first time.
    pub(super) fn of(&self, block: &Block, make: impl Fn() -> T) -> &T {
        let is_its = |(server, view, _): &(Arc<str>, Arc<str>, T)| {
            *server == block.server && *view == block.view
        };
        let make = || (Arc::clone(&block.server), Arc::clone(&block.view), make());
        &self.0.find_or_append(is_its, make).2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_made_once_and_found_afterwards_by_any_thread() {
        let list = AppendList::default();
        let get = |key: u32| {
            list.find_or_append(
                |found: &(u32, String)| found.0 == key,
                || (key, format!("{key} of {:?}", std::thread::current().id())),
            )
        };
        let made = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| [1, 2, 3, 2].map(get)));
            threads.map(|thread| thread.join().unwrap())
        });
        for found in &made[1..] {
            for (one, other) in found.iter().zip(&made[0]) {
                assert!(std::ptr::eq(*one, *other), "{one:?} {other:?}");
            }
        }
        assert_eq!(get(3).0, 3);
    }
}
