//! One kept connection on which many questions are under way at once, each on a stream of its own:
//! HTTP/2 and QUIC.
//!
//! A connection is dialled by a task that then drives it, so it does not go with whoever asked
//! first. It is replaced for new questions when it is too old, when nothing moves on it, or when a
//! question was given up on it: it may be dead. Those under way stay with theirs, and it ends with
//! the last of them.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use super::{failure::Failure, meter::Account, stream::Keeping, waiters::MAX_WAITING};

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// A connection on which questions wait and nothing has moved for so long gets no new ones.
const STALLED: Duration = Duration::from_millis(700);
/// An idle life is not shorter than this: whoever has just been let in must get there.
const SHORTEST: Duration = Duration::from_millis(50);

/// Drives a connection; it is over when this is.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What dialling gives: the end to ask on, and the driver.
pub(super) type Dialled<S> = Result<(S, Driver), Failure>;

/// The place of the connection; `S` is its end to ask on.
pub(super) struct Line<S> {
    slot: Mutex<Option<Arc<Kept<S>>>>,
    keeping: Keeping,
    runtime: Handle,
    account: Option<Arc<Account>>,
}

/// A connection, and who asks on it: whoever holds it.
struct Kept<S> {
    ready: Shared<BoxFuture<'static, Result<S, Failure>>>,
    opened: Instant,
    /// When it last came out of idleness or gave an answer.
    moved: Mutex<Instant>,
    /// A question was given up since the last answer.
    abandoned: AtomicBool,
    /// Its task ends when this goes.
    _held: oneshot::Sender<()>,
}

impl<S: Clone + Send + Sync + 'static> Line<S> {
    /// Nothing is dialled yet. Connections are counted where there is somebody to count.
    pub(super) fn new(
        keeping: Keeping,
        runtime: Handle,
        account: Option<Arc<Account>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            slot: Mutex::new(None),
            keeping,
            runtime,
            account,
        })
    }

    /// Asks on the connection, which is dialled where there is none. A kept connection that the
    /// other side closed meanwhile is no failure: it is asked again over a new one.
    pub(super) async fn ask<T, D, F>(
        self: &Arc<Self>,
        dial: impl Fn() -> D,
        ask: impl Fn(S) -> F,
    ) -> Result<T, Failure>
    where
        D: Future<Output = Dialled<S>> + Send + 'static,
        F: Future<Output = Result<T, Failure>>,
    {
        let mut fresh = false;
        loop {
            let seat = self.enter(&mut fresh, &dial)?;
            let answer = match seat.0.ready.clone().await {
                Ok(sender) => ask(sender).await,
                Err(failure) => {
                    self.forget(&seat.0);
                    Err(failure)
                }
            };
            match answer {
                Err(Failure::Closed) if !fresh => {
                    self.forget(&seat.0);
                    fresh = true;
                }
                Err(Failure::Closed | Failure::Silent) => {
                    self.forget(&seat.0);
                    return answer;
                }
                answer => {
                    seat.done();
                    return answer;
                }
            }
        }
    }

    /// A place on the connection. `fresh` asks for a new one, and tells whether it is one.
    fn enter<D>(
        self: &Arc<Self>,
        fresh: &mut bool,
        dial: impl Fn() -> D,
    ) -> Result<Seat<S>, Failure>
    where
        D: Future<Output = Dialled<S>> + Send + 'static,
    {
        let mut slot = self.slot.lock();
        if let Some(kept) = slot.as_ref().filter(|kept| !*fresh && self.is_usable(kept)) {
            let under_way = Arc::strong_count(kept) - 1;
            if under_way >= MAX_WAITING {
                return Err(Failure::Busy);
            }
            if under_way == 0 {
                *kept.moved.lock() = Instant::now();
            }
            if let Some(account) = &self.account {
                account.hit();
            }
            return Ok(Seat(Arc::clone(kept)));
        }
        *fresh = true;
        if let Some(account) = &self.account {
            account.miss();
        }
        let (tell, told) = oneshot::channel();
        let (held, let_go) = oneshot::channel();
        let now = Instant::now();
        let ready = told.map(|told| told.unwrap_or(Err(Failure::Closed)));
        let kept = Arc::new(Kept {
            ready: ready.boxed().shared(),
            opened: now,
            moved: Mutex::new(now),
            abandoned: AtomicBool::new(false),
            _held: held,
        });
        let life = live(
            dial(),
            tell,
            let_go,
            Arc::downgrade(self),
            Arc::downgrade(&kept),
        );
        self.runtime.spawn(life);
        *slot = Some(Arc::clone(&kept));
        Ok(Seat(kept))
    }

    fn is_usable(&self, kept: &Arc<Kept<S>>) -> bool {
        let max_age = self.keeping.max_age;
        let too_old = !max_age.is_zero() && kept.opened.elapsed() >= max_age;
        let stalled = Arc::strong_count(kept) > 1 && kept.moved.lock().elapsed() > STALLED;
        !too_old && !stalled && !kept.abandoned.load(Ordering::Relaxed)
    }

    /// Takes the connection out of its place, if it is still there.
    fn forget(&self, kept: &Arc<Kept<S>>) {
        let mut slot = self.slot.lock();
        if slot.as_ref().is_some_and(|one| Arc::ptr_eq(one, kept)) {
            *slot = None;
        }
    }

    /// When an idle connection is to be looked at again; it is let go where that is now.
    fn idle_until(&self, kept: &Weak<Kept<S>>) -> Option<Instant> {
        let mut slot = self.slot.lock();
        let ours = slot
            .as_ref()
            .filter(|one| std::ptr::eq(Arc::as_ptr(one), kept.as_ptr()));
        let expire = self.keeping.expire.max(SHORTEST);
        let Some(ours) = ours else {
            // Replaced: it ends with the last question on it, whatever the time.
            return Some(Instant::now() + expire);
        };
        let now = Instant::now();
        let at = *ours.moved.lock() + expire;
        if Arc::strong_count(ours) > 1 {
            return Some(now + expire);
        }
        if at <= now {
            *slot = None;
            return None;
        }
        Some(at)
    }
}

async fn live<S: Clone + Send + Sync + 'static>(
    dial: impl Future<Output = Dialled<S>>,
    tell: oneshot::Sender<Result<S, Failure>>,
    let_go: oneshot::Receiver<()>,
    line: Weak<Line<S>>,
    kept: Weak<Kept<S>>,
) {
    let dialled = timeout(PATIENCE, dial).await;
    let (sender, mut driver) = match dialled.unwrap_or(Err(Failure::Silent)) {
        Ok(both) => both,
        Err(failure) => {
            let _ = tell.send(Err(failure));
            return;
        }
    };
    let _ = tell.send(Ok(sender));
    let mut let_go = let_go;
    let mut wake = Instant::now() + SHORTEST;
    loop {
        tokio::select! {
            () = &mut driver => break,
            _ = &mut let_go => return,
            () = sleep_until(wake) => {
                let next = line.upgrade().and_then(|line| line.idle_until(&kept));
                let Some(next) = next else { return };
                wake = next;
            }
        }
    }
    if let (Some(line), Some(kept)) = (line.upgrade(), kept.upgrade()) {
        line.forget(&kept);
    }
}

/// A question's place on a connection. One that goes before its answer came marks the connection.
struct Seat<S>(Arc<Kept<S>>);

impl<S> Seat<S> {
    fn done(&self) {
        self.0.abandoned.store(false, Ordering::Relaxed);
        *self.0.moved.lock() = Instant::now();
    }
}

impl<S> Drop for Seat<S> {
    fn drop(&mut self) {
        // Whoever was answered has moved it a moment ago.
        if self.0.moved.lock().elapsed() > STALLED {
            self.0.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

impl<S> std::fmt::Debug for Line<S> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Line")
    }
}
