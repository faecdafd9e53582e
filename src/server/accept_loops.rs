//! The accept loops of a listener, of TCP or of QUIC: shared state, shutdown, and replacement of their
//! settings while they run.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{sync::watch, time::Instant};

use super::{
    connection_limit::ConnectionLimit,
    connection_settings::ConnectionSettings,
    handle::MessageHandler,
    limits::{TaskToken, TaskTracker},
};

/// The accept loops of one listener. When this is dropped, they and their connections end.
pub(super) struct AcceptLoops {
    handler: MessageHandler,
    connection_limit: ConnectionLimit,
    settings: watch::Sender<ConnectionSettings>,
    stop: watch::Sender<bool>,
    /// Whether the sockets are succeeded when they stop: see [`drain`](Self::drain).
    succeeded: Arc<AtomicBool>,
    tasks: TaskTracker,
}

/// The context of one accept loop.
pub(super) struct AcceptContext {
    pub(super) handler: MessageHandler,
    /// The process's limit.
    pub(super) connection_limit: ConnectionLimit,
    /// Settings for connections accepted from now on.
    pub(super) settings: watch::Receiver<ConnectionSettings>,
    /// `true`, or a dropped sender, ends the loop and its connections.
    pub(super) stop: watch::Receiver<bool>,
    /// Whether other sockets have taken the place of this one, when it stops.
    pub(super) succeeded: Arc<AtomicBool>,
    /// Held until the loop and its connections have ended.
    pub(super) token: TaskToken,
}

impl AcceptLoops {
    /// No loop yet.
    pub(super) fn new(
        handler: MessageHandler,
        connection_limit: ConnectionLimit,
        settings: ConnectionSettings,
    ) -> Self {
        Self {
            handler,
            connection_limit,
            settings: watch::Sender::new(settings),
            stop: watch::Sender::new(false),
            succeeded: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// The context of one more loop.
    pub(super) fn context(&self) -> AcceptContext {
        AcceptContext {
            handler: self.handler.clone(),
            connection_limit: self.connection_limit.clone(),
            settings: self.settings.subscribe(),
            stop: self.stop.subscribe(),
            succeeded: Arc::clone(&self.succeeded),
            token: self.tasks.token(),
        }
    }

    /// The settings in force.
    #[cfg(feature = "quic")]
    pub(super) fn settings(&self) -> ConnectionSettings {
        self.settings.borrow().clone()
    }

    /// Replaces the settings, for connections accepted from now on.
    pub(super) fn set(&self, settings: ConnectionSettings) {
        self.settings
            .send_modify(|before| *before = settings.succeeding(before));
    }

    /// Stops accepting connections and queries. The future completes when the queries that were accepted
    /// are answered, at `deadline` at the latest; its output is whether all of them were. If other sockets
    /// have `succeeded` these, new connections reach those.
    pub(super) fn drain(
        self,
        succeeded: bool,
        deadline: Instant,
    ) -> impl Future<Output = bool> + Send + use<> {
        self.succeeded.store(succeeded, Ordering::Release);
        self.stop.send_replace(true);
        self.tasks.wait(deadline)
    }
}
