//! What has been said already: a set that allocates only once it grows large.

use std::{collections::HashSet, hash::Hash};

/// How many are kept in place: most Services have fewer endpoints, and so few are found as fast by
/// looking at each as by hashing.
const FEW: usize = 16;

/// A set of small values.
pub struct Distinct<T> {
    few: [Option<T>; FEW],
    length: usize,
    many: HashSet<T, foldhash::fast::RandomState>,
}

impl<T: Copy> Default for Distinct<T> {
    fn default() -> Self {
        Self {
            few: [None; FEW],
            length: 0,
            many: HashSet::default(),
        }
    }
}

impl<T: Copy + Eq + Hash> Distinct<T> {
    /// Of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value; false where it is there already.
    pub fn insert(&mut self, value: T) -> bool {
        if self.length < FEW {
            if self.few[..self.length].contains(&Some(value)) {
                return false;
            }
            self.few[self.length] = Some(value);
            self.length += 1;
            return true;
        }
        if self.many.is_empty() {
            // From here on all of them are hashed, and none is compared with the first ones.
            self.many.reserve(8 * FEW);
            self.many.extend(self.few.iter().flatten());
        }
        self.many.insert(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_new_once() {
        let mut distinct = Distinct::new();
        for value in 0..1000 {
            assert!(distinct.insert(value));
        }
        for value in 0..1000 {
            assert!(!distinct.insert(value));
        }
    }
}
