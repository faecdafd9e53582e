//! The order in which upstreams are tried.

use std::{
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
};

use rand::seq::SliceRandom;

/// Bound on the upstreams of one `forward`.
pub const MAX_UPSTREAMS: usize = 15;

/// How the first upstream of a query is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SelectionPolicy {
    /// At random for each query.
    #[default]
    Random,
    /// In rotation.
    RoundRobin,
    /// In the order of the Corefile; the later ones are fallbacks.
    Sequential,
}

impl FromStr for SelectionPolicy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "random" => Ok(Self::Random),
            "round_robin" => Ok(Self::RoundRobin),
            "sequential" => Ok(Self::Sequential),
            _ => Err(()),
        }
    }
}

/// Indexes of a list in the order of the attempts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    indexes: [u8; MAX_UPSTREAMS],
    length: usize,
}

impl Order {
    /// Adds an index; those beyond the limit are dropped.
    pub(super) fn push(&mut self, index: usize) {
        if let (Some(slot), Ok(index)) = (self.indexes.get_mut(self.length), u8::try_from(index)) {
            *slot = index;
            self.length += 1;
        }
    }

    /// Arranges by `policy`; `turn` counts the queries.
    pub(super) fn arrange(&mut self, policy: SelectionPolicy, turn: &AtomicUsize) {
        let indexes = &mut self.indexes[..self.length];
        if indexes.len() < 2 {
            return;
        }
        match policy {
            SelectionPolicy::Random => indexes.shuffle(&mut rand::rng()),
            SelectionPolicy::RoundRobin => {
                indexes.rotate_left(turn.fetch_add(1, Ordering::Relaxed) % indexes.len());
            }
            SelectionPolicy::Sequential => {}
        }
    }

    /// Appends the indexes of another order.
    pub(super) fn append(&mut self, other: &Self) {
        let indexes = other.indexes.iter().take(other.length);
        indexes.for_each(|index| self.push(usize::from(*index)));
    }

    /// The number of indexes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The index for the `attempt`th attempt; wraps around at the end.
    pub(super) fn at(&self, attempt: usize) -> Option<usize> {
        (self.length > 0).then(|| usize::from(self.indexes[attempt % self.length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firsts(policy: SelectionPolicy, tries: usize) -> Vec<usize> {
        let turn = AtomicUsize::new(0);
        (0..tries)
            .map(|_| {
                let mut order = Order::default();
                (0..3).for_each(|index| order.push(index));
                order.arrange(policy, &turn);
                let mut all: Vec<_> = (0..3).filter_map(|at| order.at(at)).collect();
                all.sort_unstable();
                assert_eq!(all, [0, 1, 2], "each index occurs once");
                order.at(0).unwrap()
            })
            .collect()
    }

    #[test]
    fn each_policy_chooses_the_first_upstream() {
        assert_eq!(firsts(SelectionPolicy::Sequential, 3), [0, 0, 0]);
        assert_eq!(firsts(SelectionPolicy::RoundRobin, 4), [0, 1, 2, 0]);
        let random = firsts(SelectionPolicy::Random, 300);
        for index in 0..3 {
            assert!(random.iter().filter(|first| **first == index).count() > 30);
        }
    }

    #[test]
    fn the_order_wraps_around_and_is_bounded() {
        let mut order = Order::default();
        assert_eq!(order.at(0), None);
        (0..40).for_each(|index| order.push(index));
        assert_eq!(order.len(), MAX_UPSTREAMS);
        assert_eq!(order.at(MAX_UPSTREAMS), Some(0));
    }
}
