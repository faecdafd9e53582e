//! How long to wait after a failure: twice as long each time, never quite the same.

use super::super::settings::Timing;
use rand::RngExt;
use std::time::Duration;

/// The next pause. Jitter keeps the replicas of a cluster from returning all at once to an API
/// server that has just come back.
pub(super) struct Pause {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pause {
    /// Starts at the first pause.
    pub(super) fn new(timing: &Timing) -> Self {
        Self {
            first: timing.pause,
            longest: timing.longest_pause,
            next: timing.pause,
        }
    }

    /// Something went well.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// How long to wait now: between half and all of a time that doubles.
    pub(super) fn take(&mut self) -> Duration {
        let pause = self.next.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_start_again() {
        let mut pause = Pause::new(&Timing::default());
        for expected in [
            100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000,
        ] {
            let taken = pause.take().as_millis();
            assert!(
                (expected / 2..=expected).contains(&taken),
                "{taken} of {expected}"
            );
        }
        pause.reset();
        assert!(pause.take() <= Duration::from_millis(100));
    }
}
