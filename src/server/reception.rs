//! Where connections are received: what the accept loops of a listener, for TCP or for QUIC, work
//! with, hear while they run, and end by.

use tokio::{sync::watch, time::Instant};

use super::{
    gate::Gate,
    handle::Entrance,
    limits::{Work, Working},
    terms::Terms,
};

/// The accept loops of one listener. They and their connections end when this is dropped.
pub(super) struct Reception {
    entrance: Entrance,
    gate: Gate,
    terms: watch::Sender<Terms>,
    stop: watch::Sender<bool>,
    work: Work,
}

/// What one accept loop works with.
pub(super) struct Desk {
    pub(super) entrance: Entrance,
    pub(super) gate: Gate,
    /// How whoever comes now is to be treated.
    pub(super) terms: watch::Receiver<Terms>,
    /// Whether it is to end, with its connections.
    pub(super) stop: watch::Receiver<bool>,
    /// Held until the loop and its connections have ended.
    pub(super) working: Working,
}

impl Reception {
    /// No loop yet.
    pub(super) fn new(entrance: Entrance, gate: Gate, terms: Terms) -> Self {
        Self {
            entrance,
            gate,
            terms: watch::Sender::new(terms),
            stop: watch::Sender::new(false),
            work: Work::new(),
        }
    }

    /// For one more loop.
    pub(super) fn desk(&self) -> Desk {
        Desk {
            entrance: self.entrance.clone(),
            gate: self.gate.clone(),
            terms: self.terms.subscribe(),
            stop: self.stop.subscribe(),
            working: self.work.begin(),
        }
    }

    /// How connections are treated now.
    #[cfg(feature = "quic")]
    pub(super) fn terms(&self) -> Terms {
        self.terms.borrow().clone()
    }

    /// Treats connections from now on like this.
    pub(super) fn set(&self, terms: Terms) {
        self.terms
            .send_modify(|before| *before = terms.after(before));
    }

    /// Takes no more connections and no more questions from now on. The future completes when those
    /// that were taken are answered, at `deadline` at the latest; whether all were.
    pub(super) fn drain(self, deadline: Instant) -> impl Future<Output = bool> + Send + use<> {
        self.stop.send_replace(true);
        self.work.end(deadline)
    }
}
