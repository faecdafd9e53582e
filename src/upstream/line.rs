//! One kept connection on which many questions are under way at once, each on a stream of its own:
//! HTTP/2 and QUIC.
//!
//! A connection is dialled by a task that then drives it, so it does not go with whoever asked
//! first. It is replaced for new questions when it is too old, when nothing moves on it, or when a
//! question was given up on it: it may be dead. Those under way stay with theirs, and it ends with
//! the last of them. Where the transport shows that the other side lives (QUIC acknowledges what it
//! gets), a silent question costs its own stream and nothing else.

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

use super::{failure::Failure, meter::Account, pending_replies::MAX_IN_FLIGHT, stream::Keeping};

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

/// The end of a connection to ask on.
pub(super) trait Sender: Clone + Send + Sync + 'static {
    /// How many packets came on the connection, where the transport knows. A peer that lives
    /// acknowledges what it gets, however long its answers take.
    fn received(&self) -> Option<u64>;
}

/// Why a question was not answered, and what that cost.
#[derive(Debug)]
pub(super) enum Lost {
    /// Its stream alone: the connection is as good as before.
    Stream(Failure),
    /// The connection: it gets no more questions.
    Connection(Failure),
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed | Failure::Silent => Self::Connection(failure),
            failure => Self::Stream(failure),
        }
    }
}

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
    /// When it was last seen whether the other side lives, and how many packets had come by then.
    seen: Mutex<(Instant, u64)>,
    /// Its task ends when this goes.
    _held: oneshot::Sender<()>,
}

impl<S: Sender> Line<S> {
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
        F: Future<Output = Result<T, Lost>>,
    {
        let mut fresh = false;
        loop {
            let mut seat = self.enter(&mut fresh, &dial)?;
            let answer = match seat.kept.ready.clone().await {
                Ok(sender) => {
                    seat.received = sender.received();
                    ask(sender).await
                }
                Err(failure) => Err(Lost::Connection(failure)),
            };
            match answer {
                Ok(answer) => {
                    seat.done();
                    return Ok(answer);
                }
                Err(Lost::Stream(failure)) => {
                    seat.done();
                    return Err(failure);
                }
                Err(Lost::Connection(failure)) => {
                    self.forget(&seat.kept);
                    if fresh || failure != Failure::Closed {
                        return Err(failure);
                    }
                    fresh = true;
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
            if under_way >= MAX_IN_FLIGHT {
                return Err(Failure::Busy);
            }
            if under_way == 0 {
                *kept.moved.lock() = Instant::now();
                kept.look();
            }
            if let Some(account) = &self.account {
                account.hit();
            }
            return Ok(Seat::on(kept));
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
            seen: Mutex::new((now, 0)),
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
        let seat = Seat::on(&kept);
        *slot = Some(kept);
        Ok(seat)
    }

    fn is_usable(&self, kept: &Arc<Kept<S>>) -> bool {
        let max_age = self.keeping.max_age;
        let too_old = !max_age.is_zero() && kept.opened.elapsed() >= max_age;
        let is_busy = Arc::strong_count(kept) > 1;
        let stalled = is_busy && kept.moved.lock().elapsed() > STALLED && !kept.lives();
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

async fn live<S: Sender>(
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

impl<S: Sender> Kept<S> {
    /// How many packets came, where the transport knows.
    fn received(&self) -> Option<u64> {
        self.ready.peek()?.as_ref().ok()?.received()
    }

    /// Notes what has come by now.
    fn look(&self) {
        *self.seen.lock() = (Instant::now(), self.received().unwrap_or_default());
    }

    /// Whether the other side has shown that it lives since it was last looked, which is not doubted
    /// before it has had the time. False where the transport shows nothing.
    fn lives(&self) -> bool {
        let Some(received) = self.received() else {
            return false;
        };
        let (at, before) = *self.seen.lock();
        if at.elapsed() <= STALLED {
            return true;
        }
        self.look();
        received > before
    }
}

/// A question's place on a connection. One that goes before its answer came marks the connection,
/// unless that has shown meanwhile that the other side lives.
struct Seat<S: Sender> {
    kept: Arc<Kept<S>>,
    /// What had come before the question went, where the transport knows.
    received: Option<u64>,
}

impl<S: Sender> Seat<S> {
    fn on(kept: &Arc<Kept<S>>) -> Self {
        Self {
            kept: Arc::clone(kept),
            received: None,
        }
    }

    fn done(&self) {
        self.kept.abandoned.store(false, Ordering::Relaxed);
        *self.kept.moved.lock() = Instant::now();
    }
}

impl<S: Sender> Drop for Seat<S> {
    fn drop(&mut self) {
        // Whoever was answered has moved it a moment ago.
        let is_still = self.kept.moved.lock().elapsed() > STALLED;
        if is_still && self.kept.received() <= self.received {
            self.kept.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

impl<S> std::fmt::Debug for Line<S> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Line")
    }
}
