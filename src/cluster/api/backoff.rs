//! Exponential back-off with jitter.

use super::super::settings::Timing;
use rand::RngExt;
use std::time::Duration;

/// The back-off. Jitter prevents all replicas from reconnecting at once to an API server that has
/// just recovered.
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at the first delay.
    pub(super) fn new(timing: &Timing) -> Self {
        Self {
            first: timing.backoff,
            longest: timing.max_backoff,
            next: timing.backoff,
        }
    }

    /// Resets to the first delay after a success.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The delay before the next attempt: 50 to 100 % of a duration that doubles.
    pub(super) fn take(&mut self) -> Duration {
        let delay = self.next.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.longest);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_reset() {
        let mut backoff = Backoff::new(&Timing::default());
        for expected in [
            100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000,
        ] {
            let taken = backoff.take().as_millis();
            assert!(
                (expected / 2..=expected).contains(&taken),
                "{taken} of {expected}"
            );
        }
        backoff.reset();
        assert!(backoff.take() <= Duration::from_millis(100));
    }
}
