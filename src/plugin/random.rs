//! Fast pseudo-random numbers, with one generator per thread. For load balancing only: they are
//! predictable.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<u64> = Cell::new(rand::random());
}

/// Shuffles `items`; all orders are equally likely.
pub fn shuffle<T>(items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let other = below(last as u64 + 1);
        items.swap(
            last,
            usize::try_from(other).expect("at most last, which is a usize"),
        );
    }
}

/// A random index below `count`; 0 if that is 0.
pub fn index(count: usize) -> usize {
    usize::try_from(below(count as u64)).unwrap_or(0)
}

/// A random number below `limit`; 0 if that is 0. The bias is about `limit` / 2^32, which is
/// negligible for the number of records in a reply.
pub fn below(limit: u64) -> u64 {
    (next() >> 32).wrapping_mul(limit) >> 32
}

/// SplitMix64: hashes a counter; every state is valid.
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
