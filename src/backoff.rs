//! Exponential backoff: the delay between attempts doubles up to a bound, and is jittered.

use std::time::Duration;

use rand::RngExt;

/// The delay before the next attempt. Jitter keeps the replicas of a cluster from returning all at once
/// to a server that has just come back.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays from `first` to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// Starts again at the first delay; called after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The delay now: between half and all of a time that doubles with each call.
    pub fn delay(&mut self) -> Duration {
        self.delay_within(self.longest)
    }

    /// The same, of at most `bound` this time.
    pub fn delay_within(&mut self, bound: Duration) -> Duration {
        let delay = self.next.min(bound);
        let delay = delay.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.longest);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_bound_and_start_again_after_a_reset() {
        let milliseconds = Duration::from_millis;
        let mut backoff = Backoff::new(milliseconds(100), milliseconds(30_000));
        for bound in [
            100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000,
        ] {
            let delay = backoff.delay().as_millis();
            assert!(
                (bound / 2..=bound).contains(&delay),
                "{delay} ms of {bound} ms"
            );
        }
        assert!(backoff.delay_within(milliseconds(5000)) <= milliseconds(5000));
        assert!(backoff.delay() >= milliseconds(15_000));
        backoff.reset();
        assert!(backoff.delay() <= milliseconds(100));
    }
}
