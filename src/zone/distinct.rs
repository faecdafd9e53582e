//! A set for deduplication that allocates only when it grows large.

use std::{collections::HashSet, hash::Hash};

/// Number of inline values: most Services have fewer endpoints, and a linear search of so few is as
/// fast as hashing.
const INLINE: usize = 16;

/// A set of small values.
pub struct Distinct<T> {
    few: [Option<T>; INLINE],
    length: usize,
    many: HashSet<T, foldhash::fast::RandomState>,
}

impl<T: Copy> Default for Distinct<T> {
    fn default() -> Self {
        Self {
            few: [None; INLINE],
            length: 0,
            many: HashSet::default(),
        }
    }
}

impl<T: Copy + Eq + Hash> Distinct<T> {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value; returns false if it is already present.
    pub fn insert(&mut self, value: T) -> bool {
        if self.length < INLINE {
            if self.few[..self.length].contains(&Some(value)) {
                return false;
            }
            self.few[self.length] = Some(value);
            self.length += 1;
            return true;
        }
        if self.many.is_empty() {
            // From here on, all values are in the hash set.
            self.many.reserve(8 * INLINE);
            self.many.extend(self.few.iter().flatten());
        }
        self.many.insert(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_inserted_once() {
        let mut distinct = Distinct::new();
        for value in 0..1000 {
            assert!(distinct.insert(value));
        }
        for value in 0..1000 {
            assert!(!distinct.insert(value));
        }
    }
}
