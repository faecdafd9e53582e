//! The engine that carries out upstream queries: sockets, timeouts and the table of queries in flight of
//! one thread, behind one wait.
//!
//! Each UDP thread of a listener has an engine for the queries that it reads, and finishes a query in the
//! thread that read it. Queries that come over streams, sub-queries and health checks go to an engine in a
//! thread of its own, the [`SharedEngine`]. What happens to a query is decided by its [`Exchange`]; the
//! engine makes the attempts. One over UDP costs an entry in a table, and its datagram leaves together with
//! the others of its batch. One over a stream (TCP, TLS, HTTPS, QUIC) is a task of the runtime, which
//! reports its result to the engine's inbox.

mod expiry;
mod poller;
mod replies;
mod shared;
mod socket;
mod sockets;
mod timers;

use std::{
    io,
    net::UdpSocket,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use slab::Slab;
use tokio::task::AbortHandle;

pub(super) use self::shared::SharedEngine;
use self::{
    poller::{Poller, Ready},
    socket::AttemptKey,
    sockets::{IDLE, Sockets},
    timers::{TICK, Timers},
};
use super::{
    Failure, UpstreamQuery,
    exchange::{Action, Exchange},
    in_flight::{Follower, Lead},
    inbox::{Inbox, InboxEvent, Key},
};
use crate::{
    datagrams::Connected,
    reply::{Reply, Why},
};

/// How long a full socket is left alone.
const SEND_PAUSE: Duration = Duration::from_millis(1);

/// Reads of all sockets before clients get their turn, and at least one of each: some 0.2 ms of work.
const BURST: usize = 4;

/// Queries that the table keeps room for while none is pending.
const KEPT: usize = 1024;

/// The clients' socket among those that are waited for.
const CLIENTS: u64 = u64::MAX;

/// The inbox among the sockets that are waited for.
const INBOX: u64 = u64::MAX - 1;

/// The upstream queries of one thread. Each belongs to an owner `T`, which its reply is handed to.
pub struct Engine<T> {
    poller: Poller,
    inbox: Arc<Inbox>,
    sockets: Sockets,
    queries: Slab<SubmittedQuery<T>>,
    next_serial: u32,
    timers: Timers,
    /// When queries were last looked through for timeouts.
    expired: Instant,
    /// When sockets were last looked through for idle ones.
    swept: Instant,
    /// Count of evictions in the process when queries were last looked through for them.
    evictions: u64,
    /// Queries whose reply is final and not yet handed to the owner.
    finished: Vec<Finished<T>>,
    failed: Vec<(AttemptKey, Failure)>,
    ready: Vec<Ready>,
    /// Whether the inbox was readable at the last wait.
    is_inbox_readable: bool,
    messages: Connected,
}

/// The owner of an upstream query.
pub trait QueryOwner {
    /// Whether nothing waits for the reply any more.
    fn is_gone(&self) -> bool {
        false
    }
}

/// A query from its submission to its reply.
struct SubmittedQuery<T> {
    serial: u32,
    owner: T,
    query: Box<UpstreamQuery>,
    /// The exchange with upstreams; `None` while the query follows an identical one.
    exchange: Option<Exchange<Link>>,
    /// Ends the coalescing with the exchange.
    lead: Option<Lead>,
    /// When its timer is due; the timer of a later time is not removed.
    timer: Option<Instant>,
}

/// What carries an attempt.
enum Link {
    /// A message id on a socket of the engine.
    Datagram {
        socket: usize,
        id: u16,
    },
    Stream(#[allow(dead_code, reason = "held, so that it ends with the attempt")] StreamTask),
}

/// The task of an attempt over a stream, which is aborted when this is dropped.
struct StreamTask(AbortHandle);

impl Drop for StreamTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Finished<T> {
    owner: T,
    reply: Box<Reply>,
    failure: Option<Failure>,
}

impl<T: QueryOwner> Engine<T> {
    /// An engine for a thread that reads `clients` too, if any.
    pub fn new(clients: Option<&UdpSocket>) -> io::Result<Self> {
        let mut poller = Poller::new()?;
        let inbox = Inbox::new()?;
        poller.add(&inbox.readiness(), INBOX)?;
        if let Some(clients) = clients {
            poller.add(clients, CLIENTS)?;
        }
        let now = Instant::now();
        Ok(Self {
            poller,
            inbox,
            sockets: Sockets::default(),
            queries: Slab::new(),
            next_serial: 0,
            timers: Timers::new(now),
            expired: now,
            swept: now,
            evictions: 0,
            finished: Vec::new(),
            failed: Vec::new(),
            ready: Vec::new(),
            is_inbox_readable: false,
            messages: Connected::default(),
        })
    }

    /// Whether no query is pending.
    pub fn is_idle(&self) -> bool {
        self.queries.is_empty() && self.finished.is_empty()
    }

    /// A waker that ends [`Self::wait`], for futures polled by the same thread.
    pub fn waker(&self) -> Waker {
        self.inbox.waker()
    }

    /// Does not wait for clients any more.
    pub fn close(&mut self, clients: &UdpSocket) {
        self.poller.remove(clients, CLIENTS);
    }

    /// Takes a query. Its datagram leaves with the next [`Self::flush`], its reply comes out of
    /// [`Self::process`].
    pub fn submit(&mut self, query: Box<UpstreamQuery>, owner: T, now: Instant) {
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        let slot = self.queries.insert(SubmittedQuery {
            serial,
            owner,
            query,
            exchange: None,
            lead: None,
            timer: None,
        });
        self.start(slot, now);
    }

    /// Starts the exchange of a query, or has it follow an identical one.
    fn start(&mut self, slot: usize, now: Instant) {
        let key = self.key(slot);
        let inbox = &self.inbox;
        let entry = &mut self.queries[slot];
        if let Some(mut reply) = entry.query.evicted() {
            // Meanwhile: the evictions that are looked for later are others.
            self.finish(slot, &mut reply);
            return;
        }
        let request = &entry.query.request;
        if let Some(in_flight) = &entry.query.in_flight {
            let follower = || Follower {
                inbox: Arc::clone(inbox),
                key,
            };
            let Some(lead) = in_flight.join(&request.packet, request.transport, follower) else {
                return;
            };
            entry.lead = Some(lead);
        }
        let mut reply = match request.group.select() {
            Err(reply) => *reply,
            Ok(selection) => {
                entry.exchange = Some(Exchange::new(request, selection, now));
                let mut reply = Reply::default();
                if !self.act(slot, Action::Send(0), &mut reply, now) {
                    return;
                }
                reply
            }
        };
        self.finish(slot, &mut reply);
    }

    /// Sends the datagrams of the queries that were submitted.
    pub fn flush(&mut self, now: Instant) {
        self.sockets.send(&mut self.messages, &mut self.failed);
        while !self.failed.is_empty() {
            self.fail(now);
            self.sockets.send(&mut self.messages, &mut self.failed);
        }
    }

    /// Waits until there is something to [`process`](Self::process), or until clients have sent something:
    /// whether they have. Does not wait unless it `blocks`.
    pub fn wait(&mut self, blocks: bool) -> io::Result<bool> {
        let timeout = if !blocks || !self.finished.is_empty() {
            Some(Duration::ZERO)
        } else if self.sockets.has_unsent() {
            Some(SEND_PAUSE)
        } else if !self.queries.is_empty() {
            Some(TICK)
        } else if !self.sockets.is_empty() {
            Some(IDLE)
        } else {
            None
        };
        self.poller.wait(timeout, &mut self.ready)?;
        let mut clients = false;
        self.ready.retain(|ready| {
            clients |= ready.token == CLIENTS;
            self.is_inbox_readable |= ready.token == INBOX;
            !matches!(ready.token, CLIENTS | INBOX)
        });
        Ok(clients)
    }

    /// Whether a waker of this engine was used since the last call.
    pub fn process_wakeups(&mut self, now: Instant) -> bool {
        let is_readable = std::mem::take(&mut self.is_inbox_readable);
        let was_woken = self.inbox.was_woken(is_readable);
        if was_woken {
            for event in self.inbox.take() {
                self.take_event(event, now);
            }
        }
        was_woken
    }

    /// Reads replies, follows up on timeouts and evictions, and hands each final reply to its owner with
    /// `deliver`; together with the failure that it stands for, if any. `reply` is room to read into.
    pub fn process(
        &mut self,
        reply: &mut Reply,
        now: Instant,
        mut deliver: impl FnMut(T, &mut Reply, Option<Failure>),
    ) {
        let mut ready = std::mem::take(&mut self.ready);
        let reads = BURST / ready.len().clamp(1, BURST);
        for Ready { token, has_error } in ready.drain(..) {
            if let Ok(socket) = usize::try_from(token) {
                self.read(socket, reads, has_error, reply, now, &mut deliver);
            }
        }
        self.ready = ready;
        self.fail(now);
        self.expire(now);
        self.flush(now);
        for Finished {
            owner,
            mut reply,
            failure,
        } in std::mem::take(&mut self.finished)
        {
            deliver(owner, &mut reply, failure);
        }
    }

    /// Closes idle sockets and frees memory that is not needed any more, where it is time to look.
    pub fn close_idle(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) >= IDLE / 2 {
            self.swept = now;
            self.sockets.close_idle(&mut self.poller, now);
            // A burst of queries must not hold its memory for ever.
            if self.queries.is_empty() && self.queries.capacity() > KEPT {
                self.queries.shrink_to_fit();
            }
        }
    }

    fn key(&self, slot: usize) -> Key {
        Key {
            slot: u32::try_from(slot).unwrap_or(u32::MAX),
            serial: self.queries[slot].serial,
        }
    }

    /// The slot of a query, if it is still there.
    fn slot(&self, key: Key) -> Option<usize> {
        let slot = key.slot as usize;
        let query = self.queries.get(slot)?;
        (query.serial == key.serial).then_some(slot)
    }

    /// Carries out what an exchange wants; whether its reply is final.
    fn act(&mut self, slot: usize, action: Action, reply: &mut Reply, now: Instant) -> bool {
        let mut action = action;
        loop {
            match action {
                Action::Finish => return true,
                Action::Wait => break,
                Action::Send(attempt) => {
                    let sent = self.send(slot, attempt, now);
                    let query = &mut self.queries[slot];
                    let Some(exchange) = &mut query.exchange else {
                        return false;
                    };
                    match sent {
                        Ok(link) => {
                            exchange.sent(attempt, link);
                            break;
                        }
                        Err(failure) => {
                            let request = &query.query.request;
                            action = exchange.on_failure(request, attempt, failure, reply, now);
                        }
                    }
                }
            }
        }
        self.arm(slot);
        false
    }

    /// Makes an attempt.
    fn send(&mut self, slot: usize, attempt: usize, now: Instant) -> Result<Link, Failure> {
        let key = self.key(slot);
        let query = &self.queries[slot];
        let exchange = query.exchange.as_ref().ok_or(Failure::Closed)?;
        let request = &query.query.request;
        let upstream = exchange.upstream(attempt);
        if !request.group.take_packet(now) {
            return Err(Failure::Budget);
        }
        if exchange.is_by_datagram(request, attempt) {
            let added = self.sockets.add(
                &mut self.poller,
                upstream,
                (key, attempt),
                &request.packet,
                now,
            );
            return added.map(|(socket, id)| Link::Datagram { socket, id });
        }
        let (upstream, packet) = (Arc::clone(upstream), Arc::clone(&request.packet));
        let inbox = Arc::clone(&self.inbox);
        let runtime = upstream.runtime.clone();
        let task = runtime.spawn(async move {
            let result = upstream.exchange_by_stream(&packet).await.map(Box::new);
            inbox.push(InboxEvent::Attempt {
                key,
                attempt,
                result,
            });
        });
        Ok(Link::Stream(StreamTask(task.abort_handle())))
    }

    /// Sets the timer of an exchange, where none is due early enough.
    fn arm(&mut self, slot: usize) {
        let key = self.key(slot);
        let query = &mut self.queries[slot];
        let Some(exchange) = &query.exchange else {
            return;
        };
        let next = exchange.next_timeout(&query.query.request);
        if query.timer.is_none_or(|timer| timer > next) {
            query.timer = Some(next);
            self.timers.insert(key, next);
        }
    }

    /// Follows up on the attempts that have failed.
    fn fail(&mut self, now: Instant) {
        if self.failed.is_empty() {
            return;
        }
        let mut reply = Reply::default();
        while let Some((attempt, failure)) = self.failed.pop() {
            if let Some(slot) = self.report(attempt, Err(failure), &mut reply, now) {
                self.finish(slot, &mut reply);
            }
        }
    }

    /// Reports the end of an attempt to its exchange, with the reply of the upstream in `reply` or with the
    /// failure, and carries out what follows. Returns the slot of the query where `reply` is its final reply
    /// then. Does nothing where the query or the attempt is over.
    fn report(
        &mut self,
        (key, attempt): AttemptKey,
        result: Result<(), Failure>,
        reply: &mut Reply,
        now: Instant,
    ) -> Option<usize> {
        let slot = self.slot(key)?;
        let query = &mut self.queries[slot];
        let exchange = query.exchange.as_mut()?;
        if !exchange.is_open(attempt) {
            return None;
        }
        let request = &query.query.request;
        let action = match result {
            Ok(()) => exchange.on_reply(request, attempt, reply, now),
            Err(failure) => exchange.on_failure(request, attempt, failure, reply, now),
        };
        self.act(slot, action, reply, now).then_some(slot)
    }

    fn take_event(&mut self, event: InboxEvent, now: Instant) {
        match event {
            InboxEvent::Attempt {
                key,
                attempt,
                result,
            } => {
                let (mut reply, result) = match result {
                    Ok(reply) => (reply, Ok(())),
                    Err(failure) => (Box::default(), Err(failure)),
                };
                if let Some(slot) = self.report((key, attempt), result, &mut reply, now) {
                    self.finish(slot, &mut reply);
                }
            }
            InboxEvent::Coalesced { key, reply } => {
                let Some(slot) = self.slot(key) else {
                    return;
                };
                match reply {
                    Some(reply) => self.finish(slot, &mut Arc::unwrap_or_clone(reply)),
                    None => self.start(slot, now),
                }
            }
        }
    }

    /// Ends a query whose reply is final; the owner gets it at the end of [`Self::process`].
    fn finish(&mut self, slot: usize, reply: &mut Reply) {
        let query = self.remove(slot);
        let reply = Box::new(std::mem::take(reply));
        if let Some(lead) = query.lead {
            lead.publish(&reply);
        }
        let last_failure = query.exchange.as_ref().and_then(Exchange::last_failure);
        let failure = reply.why != Why::Upstream;
        let failure = failure.then(|| last_failure.cloned().unwrap_or(Failure::Silent));
        self.finished.push(Finished {
            owner: query.owner,
            reply,
            failure,
        });
    }

    /// Takes a query out, and ends the attempts that are still in flight.
    fn remove(&mut self, slot: usize) -> SubmittedQuery<T> {
        let mut query = self.queries.remove(slot);
        if let Some(exchange) = &mut query.exchange {
            for link in exchange.open_links() {
                if let Link::Datagram { socket, id } = link
                    && let Some(socket) = self.sockets.get_mut(socket)
                {
                    socket.remove(id);
                }
            }
        }
        query
    }
}

#[cfg(test)]
mod tests;
