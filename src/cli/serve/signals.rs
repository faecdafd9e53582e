//! The signals of a server process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The handled signals, as in CoreDNS.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    reload: Signal,
    /// Handled so that it does not terminate the process.
    _hang_up: Signal,
}

/// Action of a signal.
pub(super) enum SignalAction {
    Reload,
    Termination(Termination),
}

/// What terminates the process.
pub(super) enum Termination {
    /// Another process answers at the addresses of this one.
    TakenOver,
    Terminate,
    Interrupt,
    Quit,
}

impl Signals {
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            reload: signal(SignalKind::user_defined1())?,
            _hang_up: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.terminate.recv() => SignalAction::Termination(Termination::Terminate),
            _ = self.interrupt.recv() => SignalAction::Termination(Termination::Interrupt),
            _ = self.quit.recv() => SignalAction::Termination(Termination::Quit),
            _ = self.reload.recv() => SignalAction::Reload,
        }
    }

    /// Completes on a termination signal. Reload signals stay pending.
    pub(super) async fn termination(&mut self) -> Termination {
        tokio::select! {
            _ = self.terminate.recv() => Termination::Terminate,
            _ = self.interrupt.recv() => Termination::Interrupt,
            _ = self.quit.recv() => Termination::Quit,
        }
    }

    /// Completes on the next interrupt.
    pub(super) async fn interrupted(&mut self) {
        self.interrupt.recv().await;
    }
}
