//! Connection limits: how many connections there may be, and which one is evicted for a new one.
//! One type for the listeners of queries and for the HTTP pages.
//!
//! A connection is busy while the server works for it. It is idle while the server waits for its
//! client: for the first query, for the rest of one, for the next one, or for the client to read
//! what is written. At the limit a new connection takes the place of an idle one (RFC 7766 §6.2.3
//! lets a server close those): refusing the new one would let a few clients that hold connections
//! open lock out all others. Chosen is, of the client address with the most connections, the one
//! that has been idle for longest.
//!
//! Where none is idle, a busy one of a client with more connections than the new one's is evicted.
//! Where there is none either, the new one waits briefly for a place and is refused then.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};

/// How long a new connection waits for a place: for the evicted one to close or, where all are busy,
/// for one to become idle.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked again whether a busy connection has become idle.
const LOOK: Duration = Duration::from_millis(20);

/// New connections that may wait at a limit for a busy one to become idle; further ones are refused
/// at once.
const WAITING: usize = 64;

/// A limit of `N` connections evicts `N` / this many at a time, so that a flood of new ones does not
/// have to look through all of them for each.
const BATCH: usize = 64;

/// A connection limit. Clones share it.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Shared>);

struct Shared {
    limit: usize,
    free: Arc<Semaphore>,
    waiting: Semaphore,
    taken: Mutex<Taken>,
    start: Instant,
}

/// The connections within the limit.
#[derive(Default)]
struct Taken {
    next: u64,
    visitors: HashMap<u64, Arc<Visitor>>,
    /// How many there are of each client.
    clients: HashMap<IpAddr, Arc<AtomicUsize>>,
}

/// What the limit sees of a connection.
struct Visitor {
    client: IpAddr,
    /// Connections of this client, this one among them.
    of_client: Arc<AtomicUsize>,
    /// Since when it is in its state, in nanoseconds after the gate's start; with [`BUSY`] if that
    /// is to be busy.
    state: AtomicU64,
    /// It is evicted and closes.
    leaving: AtomicBool,
    close: Notify,
}

const BUSY: u64 = 1 << 63;

/// A connection's place, free again when this is dropped.
pub(crate) struct Place {
    shared: Arc<Shared>,
    visitor: Arc<Visitor>,
    id: u64,
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    /// A limit of so many connections.
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            limit,
            free: Arc::new(Semaphore::new(limit)),
            waiting: Semaphore::new(WAITING),
            taken: Mutex::default(),
            start: Instant::now(),
        }))
    }

    /// A place for a connection of `client`, which counts as idle; nothing where none can be had.
    pub(crate) async fn enter(&self, client: IpAddr) -> Option<Place> {
        let client = client.to_canonical();
        let permit = match Arc::clone(&self.0.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.make_room(client).await?,
        };
        Some(self.place(client, permit))
    }

    /// The same where a place is free. Nothing is evicted.
    pub(crate) fn try_enter(&self, client: IpAddr) -> Option<Place> {
        let permit = Arc::clone(&self.0.free).try_acquire_owned().ok()?;
        Some(self.place(client.to_canonical(), permit))
    }

    fn place(&self, client: IpAddr, permit: OwnedSemaphorePermit) -> Place {
        let mut taken = self.0.taken.lock();
        let of_client = Arc::clone(taken.clients.entry(client).or_default());
        of_client.fetch_add(1, Ordering::Relaxed);
        let visitor = Arc::new(Visitor {
            client,
            of_client,
            state: AtomicU64::new(self.0.nanos()),
            leaving: AtomicBool::new(false),
            close: Notify::new(),
        });
        let id = taken.next;
        taken.next += 1;
        taken.visitors.insert(id, Arc::clone(&visitor));
        drop(taken);
        Place {
            shared: Arc::clone(&self.0),
            visitor,
            id,
            _permit: permit,
        }
    }

    /// Evicts for a connection of `client`, and waits for the place.
    async fn make_room(&self, client: IpAddr) -> Option<OwnedSemaphorePermit> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut freed = std::pin::pin!(Arc::clone(&self.0.free).acquire_owned());
        if self.evict_idle() || self.evict_busy(client) {
            return timeout_at(deadline, freed).await.ok()?.ok();
        }
        let _waiting = self.0.waiting.try_acquire().ok()?;
        loop {
            let look = tokio::time::Instant::now() + LOOK;
            if let Ok(permit) = timeout_at(look.min(deadline), freed.as_mut()).await {
                return permit.ok();
            }
            if look >= deadline {
                return None;
            }
            if self.evict_idle() {
                return timeout_at(deadline, freed).await.ok()?.ok();
            }
        }
    }

    /// Evicts idle connections, of the clients with the most connections those that have been idle
    /// for longest; whether there was one.
    pub(crate) fn evict_idle(&self) -> bool {
        let taken = self.0.taken.lock();
        let mut idle: Vec<_> = taken
            .visitors
            .values()
            .filter_map(|visitor| {
                let since = visitor.idle_since()?;
                let of_client = visitor.of_client.load(Ordering::Relaxed);
                Some((std::cmp::Reverse(of_client), since, visitor))
            })
            .collect();
        let most = (self.0.limit / BATCH).max(1).min(idle.len());
        if let Some(last) = most.checked_sub(1) {
            idle.select_nth_unstable_by_key(last, |(of_client, since, _)| (*of_client, *since));
        }
        for (.., visitor) in &idle[..most] {
            visitor.evict();
        }
        most > 0
    }

    /// Evicts the connection that has been busy for longest, of the client with the most of them, if
    /// that one keeps at least as many as `client` will have; whether there was one.
    fn evict_busy(&self, client: IpAddr) -> bool {
        let taken = self.0.taken.lock();
        let own = taken.clients.get(&client);
        let own = own.map_or(0, |count| count.load(Ordering::Relaxed));
        let staying = taken.visitors.values().filter(|it| !it.is_leaving());
        let longest = staying
            .map(|visitor| {
                let of_client = visitor.of_client.load(Ordering::Relaxed);
                let since = visitor.state.load(Ordering::Relaxed);
                (of_client, std::cmp::Reverse(since), visitor)
            })
            .filter(|(of_client, ..)| *of_client > own + 1)
            .max_by_key(|(of_client, since, _)| (*of_client, *since));
        if let Some((.., visitor)) = longest {
            visitor.evict();
        }
        longest.is_some()
    }
}

impl Shared {
    fn nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(BUSY - 1)
    }
}

impl Visitor {
    /// Since when it is idle; nothing where it is not, or is evicted already.
    fn idle_since(&self) -> Option<u64> {
        let state = self.state.load(Ordering::Relaxed);
        (state & BUSY == 0 && !self.is_leaving()).then_some(state)
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    fn evict(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.close.notify_one();
    }
}

impl Place {
    /// The server works for the connection.
    pub(crate) fn busy(&self) {
        let state = self.shared.nanos() | BUSY;
        self.visitor.state.store(state, Ordering::Relaxed);
    }

    /// The server waits for the connection's client, from now on.
    pub(crate) fn idle(&self) {
        let now = self.shared.nanos();
        self.visitor.state.store(now, Ordering::Relaxed);
    }

    /// Completes when the connection is to close at once for another one.
    pub(crate) fn evicted(&self) -> impl Future<Output = ()> + Send + use<> {
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
    pub(super) async fn enter(process: &Gate, own: Option<&Gate>, client: IpAddr) -> Option<Self> {
        let own = match own {
            Some(gate) => Some(gate.enter(client).await?),
            None => None,
        };
        let process = process.enter(client).await?;
        Some(Self { process, own })
    }

    /// The same where both are free. Nothing is evicted.
    pub(super) fn try_enter(process: &Gate, own: Option<&Gate>, client: IpAddr) -> Option<Self> {
        let own = match own {
            Some(gate) => Some(gate.try_enter(client)?),
            None => None,
        };
        let process = process.try_enter(client)?;
        Some(Self { process, own })
    }

    /// The server works for the connection.
    pub(super) fn busy(&self) {
        self.each().for_each(Place::busy);
    }

    /// The server waits for the connection's client, from now on.
    pub(super) fn idle(&self) {
        self.each().for_each(Place::idle);
    }

    /// Completes when the connection is to close at once for another one.
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
        let mut taken = self.shared.taken.lock();
        taken.visitors.remove(&self.id);
        if self.visitor.of_client.fetch_sub(1, Ordering::Relaxed) == 1 {
            taken.clients.remove(&self.visitor.client);
        }
    }
}

#[cfg(test)]
mod tests;
