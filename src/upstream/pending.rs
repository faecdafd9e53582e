//! Bounds on pending queries, shared fairly: at the limit, old queries of the heaviest client are evicted.
//!
//! A limit that turns away newcomers lets one client, or one dead upstream, occupy every slot for as long
//! as an upstream is waited for, and every other client fails meanwhile. Here a query that enters a full
//! limit takes the slot of
//!
//! 1. another group's (a group is what is waited for: one `forward`, one `etcd`) if that has more queries
//!    pending: of its client with the most, the oldest;
//! 2. else, in its own group, the oldest of the client with the most queries, if that is another client;
//! 3. else its own client's oldest, once that has been pending for [`SETTLED`]: an upstream that is merely
//!    busy gets the time to answer what it was asked.
//!
//! Where none of the three applies, the newcomer is turned away. Either way one query is shed: it is
//! answered with the limit's response code.
//!
//! Limits are nested: a query to a `forward` takes a slot of that `forward` and one of the process. The
//! process's limit follows from the memory that the process may use; a `forward` without a limit of its own
//! gets at most half of that, so that one whose upstreams are dead leaves the others theirs.
//!
//! The first quarter of the slots is counted and no more. An upstream that answers keeps few queries
//! pending, so the usual query costs one atomic addition and no lock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    future::poll_fn,
    net::IpAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use prometheus::IntCounter;

use crate::{
    memory::Memory,
    reply::{Reply, Why},
    wire::Rcode,
};

/// A query that has been pending for so long gives way to a newer one of the same client. About as long
/// as the first try of one upstream.
const SETTLED: Duration = Duration::from_millis(800);

/// Slots of a limit that are counted only, at most.
const UNTRACKED: usize = 256;

/// Bytes that a pending query takes at most. Measured with an upstream that is silent and 3,000 to 15,000
/// different names a second: at a limit of 10,000 the process had grown by 84 to 110 MB, with replies that
/// fail, evicted queries on their way out and what the allocator holds back.
pub const MAX_QUERY_BYTES: usize = 12 << 10;

/// Pending queries of the process at least: 3 MiB.
const LEAST: usize = 256;

/// Of a smaller memory limit, the program takes a large part.
const SMALL: u64 = 96 << 20;

/// Pending queries of one `forward` or `grpc` at most that is given no limit: an upstream that answers never
/// gets near it.
const DEFAULT: usize = 32_768;

/// The limit on the pending queries of this process, over all listeners and plugins: as many as fit into half
/// of the memory that the process is limited to, into a quarter of less than 96 MiB; without a limit, into an
/// eighth of the machine's.
pub fn process_limit() -> usize {
    static LIMIT: LazyLock<usize> = LazyLock::new(|| limit_within(Memory::of_process()));
    *LIMIT
}

/// The same for this memory.
pub fn limit_within(memory: Memory) -> usize {
    let bytes = match memory {
        Memory::Limited(bytes) if bytes < SMALL => bytes / 4,
        Memory::Limited(bytes) => bytes / 2,
        Memory::Machine(bytes) => bytes / 8,
        Memory::Unknown => 128 << 20,
    };
    let queries = bytes / MAX_QUERY_BYTES as u64;
    usize::try_from(queries).unwrap_or(usize::MAX).max(LEAST)
}

/// The limit on the pending queries of one plugin's upstreams, where the configuration sets none: half of the
/// process's, and 32,768 at most.
pub fn default_limit() -> usize {
    DEFAULT.min(process_limit() / 2)
}

/// A limit on pending queries.
#[derive(Debug)]
pub struct PendingLimit {
    limit: usize,
    rcode: Rcode,
    /// Each is incremented for every query that is shed.
    shed: Box<[IntCounter]>,
    pending: AtomicUsize,
    tracked: Mutex<Tracked>,
}

/// A slot of a [`PendingLimit`], given back on drop.
#[derive(Debug)]
pub struct Permit {
    limit: Arc<PendingLimit>,
    /// None for a slot that is counted only.
    ticket: Option<Arc<Ticket>>,
    group: usize,
    client: IpAddr,
}

/// Whether the query that holds a [`Permit`] has been evicted.
#[derive(Clone, Debug, Default)]
pub struct Eviction(Option<(Arc<Ticket>, Arc<PendingLimit>)>);

/// Evictions and cancellations in the process so far: an engine looks through its queries only after this
/// has changed.
static EVICTIONS: AtomicU64 = AtomicU64::new(0);

/// Evictions and cancellations in the process so far.
pub(super) fn evictions() -> u64 {
    EVICTIONS.load(Ordering::Acquire)
}

/// A query was evicted, or its caller has gone.
pub(super) fn count_eviction() {
    EVICTIONS.fetch_add(1, Ordering::AcqRel);
}

#[derive(Debug)]
struct Ticket {
    serial: u64,
    entered: Instant,
    evicted: AtomicBool,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Tracked {
    next_serial: u64,
    groups: HashMap<usize, PendingGroup>,
}

/// The pending queries of one group.
#[derive(Debug, Default)]
struct PendingGroup {
    pending: usize,
    /// By serial, the oldest first.
    clients: HashMap<IpAddr, BTreeMap<u64, Arc<Ticket>>>,
    /// By number of pending queries; among equals, the one with the oldest query is last.
    ranks: BTreeMap<(usize, Reverse<u64>), IpAddr>,
}

impl PendingLimit {
    /// A limit of `limit` pending queries, which answers with `rcode` what it sheds and counts it in
    /// `shed`.
    pub fn new(
        limit: usize,
        rcode: Rcode,
        shed: impl IntoIterator<Item = IntCounter>,
    ) -> Arc<Self> {
        Arc::new(Self {
            limit,
            rcode,
            shed: shed.into_iter().collect(),
            pending: AtomicUsize::new(0),
            tracked: Mutex::default(),
        })
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Queries that are pending now.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// A slot for a query of `client` to `group`, if need be that of another query; `None` where the
    /// newcomer itself is shed.
    pub fn enter(self: &Arc<Self>, group: usize, client: IpAddr) -> Option<Permit> {
        let limit = self.limit;
        let pending = self.pending.fetch_add(1, Ordering::Relaxed);
        let mut permit = Permit {
            limit: Arc::clone(self),
            ticket: None,
            group,
            client,
        };
        if pending < UNTRACKED.min(limit / 4) {
            return Some(permit);
        }
        let now = Instant::now();
        let mut tracked = self.tracked.lock();
        if pending >= limit {
            self.count_shed();
            // Without a victim, the slot that was just counted is given back with the permit.
            let victim = tracked.victim(group, client, now)?;
            victim.evict();
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
        permit.ticket = Some(tracked.insert(group, client, now));
        Some(permit)
    }

    /// The reply to a query that was shed.
    pub fn overload(&self, reply: &mut Reply) {
        let limit = self.limit;
        reply.fail(self.rcode, Why::Overload);
        reply.cause = Some(format!("concurrent queries exceeded maximum {limit}").into());
    }

    fn overload_reply(&self) -> Reply {
        let mut reply = Reply::default();
        self.overload(&mut reply);
        reply
    }

    fn count_shed(&self) {
        self.shed.iter().for_each(IntCounter::inc);
    }
}

impl Permit {
    /// A handle that shows whether this query has been evicted.
    pub fn eviction(&self) -> Eviction {
        let ticket = self.ticket.as_ref();
        Eviction(ticket.map(|ticket| (Arc::clone(ticket), Arc::clone(&self.limit))))
    }

    /// Waits until this query is evicted, and gives the reply to it.
    pub async fn evicted(&self) -> Reply {
        poll_fn(|context| match &self.ticket {
            None => Poll::Pending,
            Some(ticket) => {
                ticket.waker.register(context.waker());
                if ticket.is_evicted() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }
        })
        .await;
        self.limit.overload_reply()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let holds_slot = match &self.ticket {
            None => true,
            Some(ticket) => {
                let mut tracked = self.limit.tracked.lock();
                tracked
                    .remove(self.group, self.client, ticket.serial)
                    .is_some()
            }
        };
        if holds_slot {
            self.limit.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Eviction {
    /// The reply to the query, if it has been evicted.
    pub(super) fn reply(&self) -> Option<Reply> {
        let (ticket, limit) = self.0.as_ref()?;
        ticket.is_evicted().then(|| limit.overload_reply())
    }
}

impl Ticket {
    fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        count_eviction();
        self.waker.wake();
    }
}

impl Tracked {
    fn insert(&mut self, group: usize, client: IpAddr, now: Instant) -> Arc<Ticket> {
        let ticket = Arc::new(Ticket {
            serial: self.next_serial,
            entered: now,
            evicted: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        self.next_serial += 1;
        let group = self.groups.entry(group).or_default();
        group.change(client, |queries| {
            queries.insert(ticket.serial, Arc::clone(&ticket));
        });
        group.pending += 1;
        ticket
    }

    /// Removes a query; `None` where it is not there any more.
    fn remove(&mut self, key: usize, client: IpAddr, serial: u64) -> Option<Arc<Ticket>> {
        let group = self.groups.get_mut(&key)?;
        let removed = group.change(client, |queries| queries.remove(&serial))?;
        group.pending -= 1;
        if group.pending == 0 {
            self.groups.remove(&key);
        }
        Some(removed)
    }

    /// Removes the query that gives way to one of `client` to `group`.
    fn victim(&mut self, group: usize, client: IpAddr, now: Instant) -> Option<Arc<Ticket>> {
        let pending = |group: Option<&PendingGroup>| group.map_or(0, |group| group.pending);
        let own = pending(self.groups.get(&group));
        let largest = self.groups.iter().max_by_key(|(_, group)| group.pending);
        let key = match largest {
            Some((&other, largest)) if largest.pending > own => other,
            _ => group,
        };
        let chosen = self.groups.get(&key)?;
        let (&(most, Reverse(oldest)), &heaviest) = chosen.ranks.last_key_value()?;
        if key != group {
            return self.remove(key, heaviest, oldest);
        }
        let clients_own = chosen.clients.get(&client);
        if clients_own.map_or(0, BTreeMap::len) < most {
            return self.remove(key, heaviest, oldest);
        }
        let (&serial, ticket) = clients_own?.first_key_value()?;
        let is_settled = now.saturating_duration_since(ticket.entered) >= SETTLED;
        is_settled
            .then(|| self.remove(key, client, serial))
            .flatten()
    }
}

impl PendingGroup {
    /// Changes the queries of a client, and its rank with them.
    fn change<T>(
        &mut self,
        client: IpAddr,
        change: impl FnOnce(&mut BTreeMap<u64, Arc<Ticket>>) -> T,
    ) -> T {
        let rank = |queries: &BTreeMap<u64, Arc<Ticket>>| {
            let (oldest, _) = queries.first_key_value()?;
            Some((queries.len(), Reverse(*oldest)))
        };
        let queries = self.clients.entry(client).or_default();
        if let Some(before) = rank(queries) {
            self.ranks.remove(&before);
        }
        let changed = change(queries);
        match rank(queries) {
            Some(after) => {
                self.ranks.insert(after, client);
            }
            None => {
                self.clients.remove(&client);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests;
