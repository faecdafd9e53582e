//! Cheap random numbers, a generator for each thread. Good for spreading load; not for anything
//! that nobody may guess.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<u64> = Cell::new(rand::random());
}

/// Brings `items` in any order, each as likely as any other.
pub fn shuffle<T>(items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let other = below(last as u64 + 1);
        items.swap(
            last,
            usize::try_from(other).expect("at most last, which is a usize"),
        );
    }
}

/// The place of one of so many items; 0 where there are none.
pub fn index(count: usize) -> usize {
    usize::try_from(below(count as u64)).unwrap_or(0)
}

/// A number from 0 to below `limit`; 0 where that is 0. Limits must be far below 2^32 for all
/// numbers to be equally likely, as they are for what fits in a reply.
pub fn below(limit: u64) -> u64 {
    (next() >> 32).wrapping_mul(limit) >> 32
}

/// SplitMix64: a counter whose steps are scattered; every state is as good as any other.
fn next() -> u64 {
    let state = STATE.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
    STATE.set(state);
    let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_limit_and_reach_it() {
        assert_eq!(below(0), 0);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[usize::try_from(below(7)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 7]);
    }
}
