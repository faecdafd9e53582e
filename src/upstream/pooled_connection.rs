//! One pooled connection with concurrent queries, each on a stream of its own: HTTP/2 and QUIC.
//!
//! A task dials the connection and then drives it, so it outlives the query that opened it. It is replaced
//! for new queries when it exceeds its maximum age, makes no progress, or had a query abandoned on it: it
//! may be dead. Queries in flight stay on the old connection, which closes after the last of them. If the
//! transport shows that the peer is alive (QUIC acknowledges packets), a query without reply costs only its
//! own stream.

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

use super::{
    failure::Failure, meter::ConnectionMetrics, pending_replies::MAX_IN_FLIGHT,
    stream::PoolSettings,
};

/// Timeout of connecting, with the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A connection with queries in flight and no progress for this long takes no new ones.
const STALLED: Duration = Duration::from_millis(700);
/// Lower bound on the idle timeout: a query that has just been assigned to the connection must reach it.
const MIN_IDLE: Duration = Duration::from_millis(50);

/// Drives a connection; completes when the connection has ended.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The result of dialling: the sending half, and the driver.
pub(super) type Dialled<S> = Result<(S, Driver), Failure>;

/// The sending half of a connection.
pub(super) trait Sender: Clone + Send + Sync + 'static {
    /// The number of packets received on the connection, if the transport counts them. A live peer
    /// acknowledges packets, however long its replies take.
    fn received(&self) -> Option<u64>;
}

/// Why a query got no reply, and whether its connection is still usable.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// Only the stream failed; the connection is still usable.
    Stream(Failure),
    /// The connection failed and takes no more queries.
    Connection(Failure),
}

impl From<Failure> for ExchangeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed | Failure::Silent => Self::Connection(failure),
            failure => Self::Stream(failure),
        }
    }
}

/// A slot for one connection to a server, opened on demand and reused; `S` is the sending half.
pub(super) struct PooledConnection<S> {
    slot: Mutex<Option<Arc<Connection<S>>>>,
    pool: PoolSettings,
    runtime: Handle,
    metrics: Option<Arc<ConnectionMetrics>>,
}

/// A connection, open or being opened. Its strong references are the slot and the queries in flight.
struct Connection<S> {
    ready: Shared<BoxFuture<'static, Result<S, Failure>>>,
    opened: Instant,
    /// Last progress: a reply, or the first query after being idle.
    progress: Mutex<Instant>,
    /// A query was abandoned since the last reply.
    abandoned: AtomicBool,
    /// When the packet count was last sampled, and its value.
    sampled: Mutex<(Instant, u64)>,
    /// Dropping this ends the connection's task.
    _keeper: oneshot::Sender<()>,
}

impl<S: Sender> PooledConnection<S> {
    /// An empty slot; nothing is dialled yet. Hits and misses are counted with `metrics`.
    pub(super) fn new(
        pool: PoolSettings,
        runtime: Handle,
        metrics: Option<Arc<ConnectionMetrics>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            slot: Mutex::new(None),
            pool,
            runtime,
            metrics,
        })
    }

    /// Runs an exchange on the connection, dialling it if there is none. If a pooled connection was closed
    /// by the server meanwhile, retries once over a new one.
    pub(super) async fn exchange<T, D, F>(
        self: &Arc<Self>,
        dial: impl Fn() -> D,
        exchange: impl Fn(S) -> F,
    ) -> Result<T, Failure>
    where
        D: Future<Output = Dialled<S>> + Send + 'static,
        F: Future<Output = Result<T, ExchangeError>>,
    {
        let mut fresh = false;
        loop {
            let mut guard = self.assign(&mut fresh, &dial)?;
            let answer = match guard.connection.ready.clone().await {
                Ok(sender) => {
                    guard.received = sender.received();
                    exchange(sender).await
                }
                Err(failure) => Err(ExchangeError::Connection(failure)),
            };
            match answer {
                Ok(answer) => {
                    guard.done();
                    return Ok(answer);
                }
                Err(ExchangeError::Stream(failure)) => {
                    guard.done();
                    return Err(failure);
                }
                Err(ExchangeError::Connection(failure)) => {
                    self.remove(&guard.connection);
                    if fresh || failure != Failure::Closed {
                        return Err(failure);
                    }
                    fresh = true;
                }
            }
        }
    }

    /// Assigns a query to the connection. With `fresh` set, opens a new one; sets `fresh` if it opened one.
    fn assign<D>(
        self: &Arc<Self>,
        fresh: &mut bool,
        dial: impl Fn() -> D,
    ) -> Result<StreamGuard<S>, Failure>
    where
        D: Future<Output = Dialled<S>> + Send + 'static,
    {
        let mut slot = self.slot.lock();
        if let Some(connection) = slot
            .as_ref()
            .filter(|connection| !*fresh && self.is_usable(connection))
        {
            let in_flight = Arc::strong_count(connection) - 1;
            if in_flight >= MAX_IN_FLIGHT {
                return Err(Failure::Busy);
            }
            if in_flight == 0 {
                *connection.progress.lock() = Instant::now();
                connection.sample();
            }
            if let Some(metrics) = &self.metrics {
                metrics.hit();
            }
            return Ok(StreamGuard::on(connection));
        }
        *fresh = true;
        if let Some(metrics) = &self.metrics {
            metrics.miss();
        }
        let (opened_sender, opened) = oneshot::channel();
        let (keeper, dropped) = oneshot::channel();
        let now = Instant::now();
        let ready = opened.map(|opened| opened.unwrap_or(Err(Failure::Closed)));
        let connection = Arc::new(Connection {
            ready: ready.boxed().shared(),
            opened: now,
            progress: Mutex::new(now),
            abandoned: AtomicBool::new(false),
            sampled: Mutex::new((now, 0)),
            _keeper: keeper,
        });
        let task = run(
            dial(),
            opened_sender,
            dropped,
            Arc::downgrade(self),
            Arc::downgrade(&connection),
        );
        self.runtime.spawn(task);
        let guard = StreamGuard::on(&connection);
        *slot = Some(connection);
        Ok(guard)
    }

    fn is_usable(&self, connection: &Arc<Connection<S>>) -> bool {
        let max_age = self.pool.max_age;
        let too_old = !max_age.is_zero() && connection.opened.elapsed() >= max_age;
        let is_busy = Arc::strong_count(connection) > 1;
        let stalled = is_busy
            && connection.progress.lock().elapsed() > STALLED
            && !connection.peer_is_alive();
        !too_old && !stalled && !connection.abandoned.load(Ordering::Relaxed)
    }

    /// Empties the slot if this connection is in it.
    fn remove(&self, connection: &Arc<Connection<S>>) {
        let mut slot = self.slot.lock();
        if slot
            .as_ref()
            .is_some_and(|one| Arc::ptr_eq(one, connection))
        {
            *slot = None;
        }
    }

    /// When to check the connection again for idleness; `None` if it has expired, which also empties the
    /// slot.
    fn idle_until(&self, connection: &Weak<Connection<S>>) -> Option<Instant> {
        let mut slot = self.slot.lock();
        let ours = slot
            .as_ref()
            .filter(|one| std::ptr::eq(Arc::as_ptr(one), connection.as_ptr()));
        let expire = self.pool.expire.max(MIN_IDLE);
        let Some(ours) = ours else {
            // Replaced: it ends with the last query on it, not by the idle timeout.
            return Some(Instant::now() + expire);
        };
        let now = Instant::now();
        let at = *ours.progress.lock() + expire;
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

async fn run<S: Sender>(
    dial: impl Future<Output = Dialled<S>>,
    opened_sender: oneshot::Sender<Result<S, Failure>>,
    dropped: oneshot::Receiver<()>,
    pooled: Weak<PooledConnection<S>>,
    connection: Weak<Connection<S>>,
) {
    let dialled = timeout(CONNECT_TIMEOUT, dial).await;
    let (sender, mut driver) = match dialled.unwrap_or(Err(Failure::Silent)) {
        Ok(both) => both,
        Err(failure) => {
            let _ = opened_sender.send(Err(failure));
            return;
        }
    };
    let _ = opened_sender.send(Ok(sender));
    let mut dropped = dropped;
    let mut wake = Instant::now() + MIN_IDLE;
    loop {
        tokio::select! {
            () = &mut driver => break,
            _ = &mut dropped => return,
            () = sleep_until(wake) => {
                let next = pooled.upgrade().and_then(|pooled| pooled.idle_until(&connection));
                let Some(next) = next else { return };
                wake = next;
            }
        }
    }
    if let (Some(pooled), Some(connection)) = (pooled.upgrade(), connection.upgrade()) {
        pooled.remove(&connection);
    }
}

impl<S: Sender> Connection<S> {
    /// The number of packets received, if the transport counts them.
    fn received(&self) -> Option<u64> {
        self.ready.peek()?.as_ref().ok()?.received()
    }

    /// Samples the packet count.
    fn sample(&self) {
        *self.sampled.lock() = (Instant::now(), self.received().unwrap_or_default());
    }

    /// Whether packets were received since the last sample, or that sample is younger than [`STALLED`].
    /// False if the transport does not count packets.
    fn peer_is_alive(&self) -> bool {
        let Some(received) = self.received() else {
            return false;
        };
        let (at, before) = *self.sampled.lock();
        if at.elapsed() <= STALLED {
            return true;
        }
        self.sample();
        received > before
    }
}

/// A query in flight on a connection. Dropped before its reply, it marks the connection as abandoned,
/// unless packets were received meanwhile.
struct StreamGuard<S: Sender> {
    connection: Arc<Connection<S>>,
    /// The packet count when the query was sent, if the transport counts them.
    received: Option<u64>,
}

impl<S: Sender> StreamGuard<S> {
    fn on(connection: &Arc<Connection<S>>) -> Self {
        Self {
            connection: Arc::clone(connection),
            received: None,
        }
    }

    fn done(&self) {
        self.connection.abandoned.store(false, Ordering::Relaxed);
        *self.connection.progress.lock() = Instant::now();
    }
}

impl<S: Sender> Drop for StreamGuard<S> {
    fn drop(&mut self) {
        // A reply would have updated `progress` just before.
        let is_still = self.connection.progress.lock().elapsed() > STALLED;
        if is_still && self.connection.received() <= self.received {
            self.connection.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

impl<S> std::fmt::Debug for PooledConnection<S> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("PooledConnection")
    }
}
