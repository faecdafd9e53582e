//! Connection limits: how many connections there may be, and which one is evicted for a new one.
//! One type for the listeners of queries and for the HTTP pages.
//!
//! A connection is busy while the server works for it. It is idle while the server waits for its
//! client: for the first query, for the rest of one, for the next one, or for the client to read
//! what is written. At the limit an idle connection is evicted for a new one (RFC 7766 section 6.2.3
//! lets a server close those): refusing the new one would let a few clients that hold connections
//! open lock out all others. The victim is, of the client address with the most connections, the one
//! that has been idle for longest.
//!
//! If none is idle, a busy one is evicted of a client that has more connections than the new one's.
//! If there is none either, the new one waits briefly for a permit and is refused then.

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

/// How long a new connection waits for a permit: for the evicted one to close or, if all are busy, for one
/// to become idle.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a waiting connection checks whether a busy one has become idle.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// New connections that may wait at a limit for a busy one to become idle; further ones are refused
/// at once.
const WAITING: usize = 64;

/// A limit of `N` connections evicts `N` / this many at a time, so that a flood of new ones does not scan
/// all of them for each.
const BATCH: usize = 64;

/// A connection limit. Clones share it.
#[derive(Clone)]
pub(crate) struct ConnectionLimit(Arc<Shared>);

struct Shared {
    limit: usize,
    free: Arc<Semaphore>,
    waiting: Semaphore,
    table: Mutex<Table>,
    start: Instant,
}

/// The connections that hold a permit.
#[derive(Default)]
struct Table {
    next: u64,
    entries: HashMap<u64, Arc<Entry>>,
    /// How many each client has.
    clients: HashMap<IpAddr, Arc<AtomicUsize>>,
}

/// A connection that holds a permit.
struct Entry {
    client: IpAddr,
    /// Connections of this client, this one among them.
    of_client: Arc<AtomicUsize>,
    /// When it became idle, in nanoseconds after the limit's start; or when it became busy, with [`BUSY`].
    state: AtomicU64,
    /// It has been evicted and is about to close.
    evicted: AtomicBool,
    close: Notify,
}

const BUSY: u64 = 1 << 63;

/// Permission for one connection, given back on drop.
pub(crate) struct ConnectionPermit {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    id: u64,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimit {
    /// A limit of so many connections.
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            limit,
            free: Arc::new(Semaphore::new(limit)),
            waiting: Semaphore::new(WAITING),
            table: Mutex::default(),
            start: Instant::now(),
        }))
    }

    /// A permit for a connection of `client`, which counts as idle; `None` if none becomes free in time.
    pub(crate) async fn acquire(&self, client: IpAddr) -> Option<ConnectionPermit> {
        let client = client.to_canonical();
        let permit = match Arc::clone(&self.0.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.evict_for(client).await?,
        };
        Some(self.insert(client, permit))
    }

    /// A permit if one is free. Evicts nothing.
    pub(crate) fn try_acquire(&self, client: IpAddr) -> Option<ConnectionPermit> {
        let permit = Arc::clone(&self.0.free).try_acquire_owned().ok()?;
        Some(self.insert(client.to_canonical(), permit))
    }

    fn insert(&self, client: IpAddr, permit: OwnedSemaphorePermit) -> ConnectionPermit {
        let mut table = self.0.table.lock();
        let of_client = Arc::clone(table.clients.entry(client).or_default());
        of_client.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            client,
            of_client,
            state: AtomicU64::new(self.0.nanos()),
            evicted: AtomicBool::new(false),
            close: Notify::new(),
        });
        let id = table.next;
        table.next += 1;
        table.entries.insert(id, Arc::clone(&entry));
        drop(table);
        ConnectionPermit {
            shared: Arc::clone(&self.0),
            entry,
            id,
            _permit: permit,
        }
    }

    /// Evicts for a connection of `client`, and waits for the permit.
    async fn evict_for(&self, client: IpAddr) -> Option<OwnedSemaphorePermit> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut freed = std::pin::pin!(Arc::clone(&self.0.free).acquire_owned());
        if self.evict_idle() || self.evict_busy(client) {
            return timeout_at(deadline, freed).await.ok()?.ok();
        }
        let _waiting = self.0.waiting.try_acquire().ok()?;
        loop {
            let look = tokio::time::Instant::now() + POLL_INTERVAL;
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
    /// for longest. Returns whether there was one.
    pub(crate) fn evict_idle(&self) -> bool {
        let table = self.0.table.lock();
        let mut idle: Vec<_> = table
            .entries
            .values()
            .filter_map(|entry| {
                let since = entry.idle_since()?;
                let of_client = entry.of_client.load(Ordering::Relaxed);
                Some((std::cmp::Reverse(of_client), since, entry))
            })
            .collect();
        let most = (self.0.limit / BATCH).max(1).min(idle.len());
        if let Some(last) = most.checked_sub(1) {
            idle.select_nth_unstable_by_key(last, |(of_client, since, _)| (*of_client, *since));
        }
        for (.., entry) in &idle[..most] {
            entry.evict();
        }
        most > 0
    }

    /// Evicts the connection that has been busy for longest, of the client with the most of them, if
    /// that client keeps at least as many as `client` will have. Returns whether there was one.
    fn evict_busy(&self, client: IpAddr) -> bool {
        let table = self.0.table.lock();
        let own = table.clients.get(&client);
        let own = own.map_or(0, |count| count.load(Ordering::Relaxed));
        let staying = table.entries.values().filter(|it| !it.is_evicted());
        let longest = staying
            .map(|entry| {
                let of_client = entry.of_client.load(Ordering::Relaxed);
                let since = entry.state.load(Ordering::Relaxed);
                (of_client, std::cmp::Reverse(since), entry)
            })
            .filter(|(of_client, ..)| *of_client > own + 1)
            .max_by_key(|(of_client, since, _)| (*of_client, *since));
        if let Some((.., entry)) = longest {
            entry.evict();
        }
        longest.is_some()
    }
}

impl Shared {
    fn nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(BUSY - 1)
    }
}

impl Entry {
    /// Since when it is idle; `None` if it is busy or evicted.
    fn idle_since(&self) -> Option<u64> {
        let state = self.state.load(Ordering::Relaxed);
        (state & BUSY == 0 && !self.is_evicted()).then_some(state)
    }

    fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    fn evict(&self) {
        self.evicted.store(true, Ordering::Relaxed);
        self.close.notify_one();
    }
}

impl ConnectionPermit {
    /// Marks the connection as busy: the server works for it.
    pub(crate) fn busy(&self) {
        let state = self.shared.nanos() | BUSY;
        self.entry.state.store(state, Ordering::Relaxed);
    }

    /// Marks the connection as idle from now on: the server waits for its client.
    pub(crate) fn idle(&self) {
        let now = self.shared.nanos();
        self.entry.state.store(now, Ordering::Relaxed);
    }

    /// Completes when the connection is evicted and must close at once.
    pub(crate) fn evicted(&self) -> impl Future<Output = ()> + Send + use<> {
        let entry = Arc::clone(&self.entry);
        async move { entry.close.notified().await }
    }
}

/// A connection's permits: of the process, and of its listener if that has a limit of its own
/// (`max_connections`).
pub(super) struct ConnectionPermits {
    process: ConnectionPermit,
    own: Option<ConnectionPermit>,
}

impl ConnectionPermits {
    /// Both permits, or `None` if one of them does not become free in time.
    pub(super) async fn acquire(
        process: &ConnectionLimit,
        own: Option<&ConnectionLimit>,
        client: IpAddr,
    ) -> Option<Self> {
        let own = match own {
            Some(limit) => Some(limit.acquire(client).await?),
            None => None,
        };
        let process = process.acquire(client).await?;
        Some(Self { process, own })
    }

    /// Both permits if they are free. Evicts nothing.
    pub(super) fn try_acquire(
        process: &ConnectionLimit,
        own: Option<&ConnectionLimit>,
        client: IpAddr,
    ) -> Option<Self> {
        let own = match own {
            Some(limit) => Some(limit.try_acquire(client)?),
            None => None,
        };
        let process = process.try_acquire(client)?;
        Some(Self { process, own })
    }

    /// Marks the connection as busy in both.
    pub(super) fn busy(&self) {
        self.each().for_each(ConnectionPermit::busy);
    }

    /// Marks the connection as idle in both.
    pub(super) fn idle(&self) {
        self.each().for_each(ConnectionPermit::idle);
    }

    /// Completes when either evicts the connection.
    pub(super) fn evicted(&self) -> impl Future<Output = ()> + Send + use<> {
        let process = self.process.evicted();
        let own = self.own.as_ref().map(ConnectionPermit::evicted);
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

    fn each(&self) -> impl Iterator<Item = &ConnectionPermit> {
        std::iter::once(&self.process).chain(&self.own)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        table.entries.remove(&self.id);
        if self.entry.of_client.fetch_sub(1, Ordering::Relaxed) == 1 {
            table.clients.remove(&self.entry.client);
        }
    }
}

#[cfg(test)]
mod tests;
