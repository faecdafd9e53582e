//! The idle timeout of a connection, whatever is spoken on it.

use std::{pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep};

/// Completes when the deadline of a connection has passed: `deadline` returns it, None while a request is
/// in flight, which is looked at again after `idle`.
///
/// `timer` is made once for a connection and runs on when the deadline moves: making or resetting one for
/// each query would cost as much as the query.
pub(super) async fn expired(
    mut timer: Pin<&mut Sleep>,
    idle: Duration,
    deadline: impl Fn() -> Option<Instant>,
) {
    if let Some(deadline) = deadline()
        && deadline < timer.deadline()
    {
        timer.as_mut().reset(deadline);
    }
    loop {
        timer.as_mut().await;
        let now = Instant::now();
        match deadline() {
            Some(deadline) if now >= deadline => return,
            Some(deadline) => timer.as_mut().reset(deadline),
            None => timer.as_mut().reset(now + idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, pin::pin};

    use tokio::time::sleep_until;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_is_kept_and_one_in_flight_is_waited_for() {
        let begun = Instant::now();
        let mut timer = pin!(sleep_until(begun + 3 * SECOND));
        // It comes sooner than the timer was made for.
        expired(timer.as_mut(), SECOND, || Some(begun + SECOND)).await;
        assert_eq!(begun.elapsed(), SECOND);
        // It comes later, also than the timer that has run out already.
        expired(timer.as_mut(), SECOND, || Some(begun + 5 * SECOND)).await;
        assert_eq!(begun.elapsed(), 5 * SECOND);
        // A request is in flight when the timer runs out, and none is when it does so again.
        let looks = Cell::new(0);
        let deadline = || {
            looks.set(looks.get() + 1);
            (looks.get() > 3).then(|| begun + 6 * SECOND)
        };
        expired(timer.as_mut(), SECOND, deadline).await;
        assert_eq!(begun.elapsed(), 7 * SECOND);
    }
}
