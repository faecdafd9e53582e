//! Whom to ask first.

use std::{
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
};

use rand::seq::SliceRandom;

/// Upstreams that one forward has at most.
pub const MAX_UPSTREAMS: usize = 15;

/// How the first of several upstreams is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// By lot, each time.
    #[default]
    Random,
    /// Each in its turn.
    RoundRobin,
    /// As they are written: the later ones are reserves.
    Sequential,
}

impl FromStr for Policy {
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

/// Places of a list in the order in which they are to be tried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    places: [u8; MAX_UPSTREAMS],
    length: usize,
}

impl Order {
    /// Adds a place; what is beyond the limit is left out.
    pub(super) fn push(&mut self, place: usize) {
        if let (Some(slot), Ok(place)) = (self.places.get_mut(self.length), u8::try_from(place)) {
            *slot = place;
            self.length += 1;
        }
    }

    /// Arranges by `policy`; `turn` counts the questions.
    pub(super) fn arrange(&mut self, policy: Policy, turn: &AtomicUsize) {
        let places = &mut self.places[..self.length];
        if places.len() < 2 {
            return;
        }
        match policy {
            Policy::Random => places.shuffle(&mut rand::rng()),
            Policy::RoundRobin => {
                places.rotate_left(turn.fetch_add(1, Ordering::Relaxed) % places.len());
            }
            Policy::Sequential => {}
        }
    }

    /// Adds the places of another order behind its own.
    pub(super) fn append(&mut self, other: &Self) {
        let places = other.places.iter().take(other.length);
        places.for_each(|place| self.push(usize::from(*place)));
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The place for the `attempt`th try, beginning again at the end.
    pub(super) fn at(&self, attempt: usize) -> Option<usize> {
        (self.length > 0).then(|| usize::from(self.places[attempt % self.length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firsts(policy: Policy, tries: usize) -> Vec<usize> {
        let turn = AtomicUsize::new(0);
        (0..tries)
            .map(|_| {
                let mut order = Order::default();
                (0..3).for_each(|place| order.push(place));
                order.arrange(policy, &turn);
                let mut all: Vec<_> = (0..3).filter_map(|at| order.at(at)).collect();
                all.sort_unstable();
                assert_eq!(all, [0, 1, 2], "nobody is left out");
                order.at(0).unwrap()
            })
            .collect()
    }

    #[test]
    fn each_policy_begins_where_it_says() {
        assert_eq!(firsts(Policy::Sequential, 3), [0, 0, 0]);
        assert_eq!(firsts(Policy::RoundRobin, 4), [0, 1, 2, 0]);
        let random = firsts(Policy::Random, 300);
        for place in 0..3 {
            assert!(random.iter().filter(|first| **first == place).count() > 30);
        }
    }

    #[test]
    fn the_order_begins_again_and_is_bounded() {
        let mut order = Order::default();
        assert_eq!(order.at(0), None);
        (0..40).for_each(|place| order.push(place));
        assert_eq!(order.len(), MAX_UPSTREAMS);
        assert_eq!(order.at(MAX_UPSTREAMS), Some(0));
    }
}
