//! What the connections of a listener are treated by. A reload changes it without a new socket:
//! who comes next is met by the new terms, who is there stays as before.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{gate::Gate, limits::StreamSettings, proxy::Trust};
use crate::tls::Identity;

/// The terms of one listener.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) settings: StreamSettings,
    /// The certificate; without one, TCP is spoken bare.
    pub(super) tls: Option<Arc<Identity>>,
    /// Whose PROXY headers are believed, where they are looked for at all.
    pub(super) proxy: Option<Arc<Trust>>,
    /// The listener's own limit of connections, where it has one.
    pub(super) own_gate: Option<Gate>,
    /// What is left for questions to be read and answered at once, where each has a stream of QUIC.
    pub(super) workers: Arc<Semaphore>,
}

/// CoreDNS's number, of its code; its page says 512.
const WORKERS: usize = 1024;

impl Terms {
    pub(super) fn new(
        settings: StreamSettings,
        tls: Option<Arc<Identity>>,
        proxy: Option<Arc<Trust>>,
    ) -> Self {
        Self {
            settings,
            tls,
            proxy,
            own_gate: settings.connections.map(Gate::new),
            workers: Arc::new(Semaphore::new(
                settings
                    .workers
                    .unwrap_or(WORKERS)
                    .min(Semaphore::MAX_PERMITS),
            )),
        }
    }

    /// These terms after others: with the same limit, those who are there go on being counted.
    #[must_use]
    pub(super) fn after(mut self, before: &Self) -> Self {
        if self.settings.connections == before.settings.connections {
            self.own_gate.clone_from(&before.own_gate);
        }
        if self.settings.workers == before.settings.workers {
            self.workers = Arc::clone(&before.workers);
        }
        self
    }
}
