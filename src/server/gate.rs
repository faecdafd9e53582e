//! How many connections there may be, over all listeners, and who has to go for a new one.
//!
//! Where all places are taken, the connection that has been idle for longest is closed (RFC 7766
//! §6.2.3 lets a server do so): refusing the new one would let a few clients that hold connections
//! open lock everybody else out. Where none is idle, the new one is refused.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a new connection waits for an idle one to close.
const PATIENCE: Duration = Duration::from_millis(100);

/// The places for connections; one for the process.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    free: Arc<Semaphore>,
    taken: Mutex<HashMap<u64, Arc<Visitor>>>,
    next: AtomicU64,
    start: Instant,
}

/// What the gate sees of a connection.
struct Visitor {
    /// Milliseconds after the gate's start since which it is idle; [`BUSY`] while it is not.
    idle_since: AtomicU64,
    close: Notify,
}

const BUSY: u64 = u64::MAX;

/// A connection's place, free again when this is dropped.
struct Place {
    shared: Arc<Shared>,
    visitor: Arc<Visitor>,
    id: u64,
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    /// A gate with so many places.
    pub fn new(places: usize) -> Self {
        Self(Arc::new(Shared {
            free: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            taken: Mutex::default(),
            next: AtomicU64::new(0),
            start: Instant::now(),
        }))
    }

    /// A place, or nothing where none is free and nobody idle leaves.
    async fn enter(&self) -> Option<Place> {
        let free = Arc::clone(&self.0.free);
        let permit = if let Ok(permit) = Arc::clone(&free).try_acquire_owned() {
            permit
        } else {
            if !self.close_longest_idle() {
                return None;
            }
            let freed = tokio::time::timeout(PATIENCE, free.acquire_owned());
            freed.await.ok()?.ok()?
        };
        let visitor = Arc::new(Visitor {
            idle_since: AtomicU64::new(self.0.millis()),
            close: Notify::new(),
        });
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.taken.lock().insert(id, Arc::clone(&visitor));
        Some(Place {
            shared: Arc::clone(&self.0),
            visitor,
            id,
            _permit: permit,
        })
    }

    /// Makes the connection that has been idle for longest close; whether there was one.
    pub(super) fn close_longest_idle(&self) -> bool {
        let taken = self.0.taken.lock();
        let idle = taken
            .values()
            .map(|visitor| (visitor.idle_since.load(Ordering::Relaxed), visitor))
            .filter(|(since, _)| *since != BUSY)
            .min_by_key(|(since, _)| *since);
        if let Some((_, visitor)) = idle {
            // It is not to be chosen again while it closes.
            visitor.idle_since.store(BUSY, Ordering::Relaxed);
            visitor.close.notify_one();
        }
        idle.is_some()
    }
}

impl Shared {
    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(BUSY - 1)
    }
}

impl Place {
    /// The connection has something to do.
    fn busy(&self) {
        self.visitor.idle_since.store(BUSY, Ordering::Relaxed);
    }

    /// The connection has nothing to do.
    fn idle(&self) {
        let now = self.shared.millis();
        self.visitor.idle_since.store(now, Ordering::Relaxed);
    }

    /// Completes when the connection is to close for another one.
    fn evicted(&self) -> impl Future<Output = ()> + use<> {
        let visitor = Arc::clone(&self.visitor);
        async move { visitor.close.notified().await }
    }
}

/// A connection's places: the process's, and one of its listener's own where that has a limit of
/// its own (`max_connections`).
pub(super) struct Places {
    process: Place,
    own: Option<Place>,
}

impl Places {
    /// Both places, or nothing where one of them cannot be had.
    pub(super) async fn enter(process: &Gate, own: Option<&Gate>) -> Option<Self> {
        let own = match own {
            Some(gate) => Some(gate.enter().await?),
            None => None,
        };
        let process = process.enter().await?;
        Some(Self { process, own })
    }

    /// The connection has something to do.
    pub(super) fn busy(&self) {
        self.each().for_each(Place::busy);
    }

    /// The connection has nothing to do.
    pub(super) fn idle(&self) {
        self.each().for_each(Place::idle);
    }

    /// Completes when the connection is to close for another one.
    pub(super) fn evicted(&self) -> impl Future<Output = ()> + Send + use<> {
        let process = self.process.evicted();
        let own = self.own.as_ref().map(Place::evicted);
        async move {
            match own {
                Some(own) => tokio::select! {
                    () = process => {}
                    () = own => {}
                },
                None => process.await,
            }
        }
    }

    fn each(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.process).chain(&self.own)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.taken.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_longest_idle_goes_and_the_busy_stay() {
        let gate = Gate::new(2);
        let busy = gate.enter().await.unwrap();
        busy.busy();
        let idle = gate.enter().await.unwrap();
        let entering = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await.is_some() }
        });
        idle.evicted().await;
        assert!(busy.evicted().now_or_never().is_none());
        drop(idle);
        assert!(entering.await.unwrap());
    }

    #[tokio::test]
    async fn where_all_are_busy_the_new_one_is_refused() {
        let gate = Gate::new(1);
        let place = gate.enter().await.unwrap();
        place.busy();
        assert!(gate.enter().await.is_none());
        drop(place);
        assert!(gate.enter().await.is_some());
    }
}
