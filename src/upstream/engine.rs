//! The engine that carries out upstream queries: sockets, timeouts and the table of queries in flight of
//! one thread, behind one wait.
//!
//! Each UDP thread of a listener has an engine for the queries that it reads, and finishes a query in the
//! thread that read it. Queries that come over streams, sub-queries and health checks go to an engine in a
//! thread of its own, the [`SharedEngine`]. What happens to a query is decided by its [`Exchange`]; the
//! engine makes the attempts. One over UDP costs an entry in a table, and its datagram leaves together with
//! the others of its batch. One over a stream (TCP, TLS, HTTPS, QUIC) is a task of the runtime, which
//! reports its result to the engine's inbox.

mod inbox;
mod poller;
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

pub(super) use self::inbox::{Event, Inbox, Key};
pub(super) use self::shared::SharedEngine;
use self::{
    poller::{Poller, Ready},
    socket::Attempt,
    sockets::{IDLE, Sockets},
    timers::{TICK, Timers},
};
use super::{
    Failure, UpstreamQuery,
    exchange::{Action, Exchange},
    in_flight::{Follower, Lead},
    packet::Verdict,
    pending,
};
use crate::{
    datagrams::{Connected, take_errors},
    reply::{Reply, Why},
    wire::Header,
};

/// How long a full socket is left alone.
const SEND_PAUSE: Duration = Duration::from_millis(1);

/// Reads of one socket before others get their turn.
const BURST: usize = 8;

/// The clients' socket among those that are waited for.
const CLIENTS: u64 = u64::MAX;

/// The inbox among the sockets that are waited for.
const INBOX: u64 = u64::MAX - 1;

/// The upstream queries of one thread. Each belongs to an owner `T`, which its reply is handed to.
pub struct Engine<T> {
    poller: Poller,
    inbox: Arc<Inbox>,
    sockets: Sockets,
    queries: Slab<PendingQuery<T>>,
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
    failed: Vec<(Attempt, Failure)>,
    ready: Vec<Ready>,
    messages: Connected,
}

/// The owner of an upstream query.
pub trait Owner {
    /// Whether nothing waits for the reply any more.
    fn is_gone(&self) -> bool {
        false
    }
}

/// A query from its submission to its reply.
struct PendingQuery<T> {
    serial: u32,
    owner: T,
    query: Box<UpstreamQuery>,
    /// The exchange with upstreams; `None` while the query follows an identical one.
    exchange: Option<Exchange>,
    /// Ends the coalescing with the exchange.
    lead: Option<Lead>,
    /// When its timer is due; the timer of a later time is not removed.
    timer: Option<Instant>,
}

struct Finished<T> {
    owner: T,
    reply: Box<Reply>,
    failure: Option<Failure>,
}

/// What carries an attempt.
pub(super) enum Link {
    /// A message id on a socket of the engine.
    Datagram { socket: usize, id: u16 },
    /// A task, which is aborted when this is dropped.
    Stream(#[allow(dead_code, reason = "held, so that it ends with the attempt")] StreamTask),
}

/// The task of an attempt over a stream.
pub(super) struct StreamTask(AbortHandle);

impl<T: Owner> PendingQuery<T> {
    /// Whether nothing waits for the reply, neither the owner nor a follower.
    fn is_cancelled(&self) -> bool {
        self.owner.is_gone() && !self.lead.as_ref().is_some_and(Lead::has_followers)
    }
}

impl Drop for StreamTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T: Owner> Engine<T> {
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
        let slot = self.queries.insert(PendingQuery {
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
    /// whether they have.
    pub fn wait(&mut self) -> io::Result<bool> {
        let timeout = if !self.finished.is_empty() {
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
        let before = self.ready.len();
        self.ready.retain(|ready| ready.token != CLIENTS);
        Ok(self.ready.len() < before)
    }

    /// Whether a waker of this engine was used since the last call.
    pub fn process_wakeups(&mut self, now: Instant) -> bool {
        let was_woken = self.inbox.was_woken();
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
        for Ready { token, has_error } in ready.drain(..) {
            if let Ok(socket) = usize::try_from(token)
                && token != INBOX
            {
                self.read(socket, has_error, reply, now, &mut deliver);
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

    /// Closes idle sockets, where it is time to look.
    pub fn close_idle(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) >= IDLE / 2 {
            self.swept = now;
            self.sockets.close_idle(&mut self.poller, now);
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

    /// Takes the replies that a socket has received.
    fn read(
        &mut self,
        at: usize,
        has_error: bool,
        reply: &mut Reply,
        now: Instant,
        deliver: &mut impl FnMut(T, &mut Reply, Option<Failure>),
    ) {
        let mut error = None;
        for _ in 0..BURST {
            let Some(socket) = self.sockets.get(at) else {
                return;
            };
            let count = match self.messages.receive(socket.io()) {
                Ok(count) => count,
                Err(failed) => {
                    let is_none = matches!(
                        failed.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    );
                    error = (!is_none).then_some(failed);
                    break;
                }
            };
            for index in 0..count {
                self.take_message(at, index, reply, now, deliver);
            }
            // What comes from here on is found at the next wait.
            if count < Connected::RECEIVED {
                break;
            }
        }
        if (has_error || error.is_some())
            && let Some(socket) = self.sockets.get_mut(at)
            && let Some(error) = take_errors(socket.io()).or(error)
        {
            // An ICMP error is reported to everything that was sent (RFC 1122 section 4.1.3.3).
            socket.fail_sent(&Failure::reported(&error), &mut self.failed);
        }
    }

    /// Matches a message with the attempt that it answers. A message that answers another question changes
    /// nothing: the right one may still come. One that cannot be parsed ends the attempt.
    fn take_message(
        &mut self,
        at: usize,
        index: usize,
        reply: &mut Reply,
        now: Instant,
        deliver: &mut impl FnMut(T, &mut Reply, Option<Failure>),
    ) {
        let message = self.messages.message(index);
        let Some(socket) = self.sockets.get_mut(at) else {
            return;
        };
        let matched = Header::read(message).and_then(|header| {
            let (key, attempt) = socket.attempt(header.id)?;
            let query = self.queries.get(key.slot as usize)?;
            let packet = &query.query.request.packet;
            let verdict = packet.judge(message, &header, true, reply);
            (verdict != Verdict::OtherQuestion).then_some((header.id, key, attempt, verdict))
        });
        if !matches!(matched, Some((.., Verdict::Reply)))
            && let Some(upstream) = socket.upstream.upgrade()
        {
            upstream.meter.wrong_reply();
        }
        let Some((id, key, attempt, verdict)) = matched else {
            return;
        };
        socket.remove(id);
        let Some(slot) = self.slot(key) else {
            return;
        };
        if verdict == Verdict::Unreadable {
            self.failed.push(((key, attempt), Failure::Malformed));
            return;
        }
        let received_at = self.sockets.get(at).map(|socket| &socket.received_at);
        reply.heard = received_at.cloned();
        let query = &mut self.queries[slot];
        let Some(exchange) = &mut query.exchange else {
            return;
        };
        let action = exchange.on_reply(&query.query.request, attempt, reply, now);
        if self.act(slot, action, reply, now) {
            // The exchange goes first: it holds its upstreams.
            let PendingQuery { owner, lead, .. } = self.remove(slot);
            if let Some(lead) = lead {
                lead.publish(reply);
            }
            deliver(owner, reply, None);
        }
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
        if upstream.udp().is_some() && !exchange.is_by_stream(request, attempt) {
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
            inbox.push(Event::Attempt {
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
        while let Some(((key, attempt), failure)) = self.failed.pop() {
            self.fail_attempt(key, attempt, failure, &mut reply, now);
        }
    }

    fn fail_attempt(
        &mut self,
        key: Key,
        attempt: usize,
        failure: Failure,
        reply: &mut Reply,
        now: Instant,
    ) {
        let Some(slot) = self.slot(key) else {
            return;
        };
        let query = &mut self.queries[slot];
        let Some(exchange) = query.exchange.as_mut() else {
            return;
        };
        if !exchange.is_open(attempt) {
            return;
        }
        let action = exchange.on_failure(&query.query.request, attempt, failure, reply, now);
        if self.act(slot, action, reply, now) {
            self.finish(slot, reply);
        }
    }

    fn take_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Attempt {
                key,
                attempt,
                result: Ok(mut reply),
            } => {
                let Some(slot) = self.slot(key) else {
                    return;
                };
                let query = &mut self.queries[slot];
                if let Some(exchange) = &mut query.exchange
                    && exchange.is_open(attempt)
                {
                    let request = &query.query.request;
                    let action = exchange.on_reply(request, attempt, &mut reply, now);
                    if self.act(slot, action, &mut reply, now) {
                        self.finish(slot, &mut reply);
                    }
                }
            }
            Event::Attempt {
                key,
                attempt,
                result: Err(failure),
            } => self.fail_attempt(key, attempt, failure, &mut Reply::default(), now),
            Event::Coalesced { key, reply } => {
                let Some(slot) = self.slot(key) else {
                    return;
                };
                match reply {
                    Some(mut reply) => self.finish(slot, &mut reply),
                    None => self.start(slot, now),
                }
            }
        }
    }

    /// Follows up on timeouts and evictions.
    fn expire(&mut self, now: Instant) {
        if now.saturating_duration_since(self.expired) < TICK {
            return;
        }
        self.expired = now;
        let evictions = pending::evictions();
        if self.evictions != evictions {
            self.evictions = evictions;
            self.evict();
        }
        let mut due = Vec::new();
        self.timers.expire(now, &mut due);
        let mut reply = Reply::default();
        for key in due {
            let Some(slot) = self.slot(key) else {
                continue;
            };
            let query = &mut self.queries[slot];
            query.timer = None;
            let Some(exchange) = &mut query.exchange else {
                continue;
            };
            let request = &query.query.request;
            let action = if exchange.next_timeout(request) <= now {
                exchange.on_timeout(request, &mut reply, now)
            } else {
                Action::Wait
            };
            if self.act(slot, action, &mut reply, now) {
                self.finish(slot, &mut reply);
            }
        }
    }

    /// Ends the queries that have been evicted, and those whose owner has gone.
    fn evict(&mut self) {
        let over: Vec<_> = self
            .queries
            .iter()
            .filter(|(_, query)| query.is_cancelled() || query.query.evicted().is_some())
            .map(|(slot, _)| slot)
            .collect();
        for slot in over {
            let mut query = self.remove(slot);
            let Some(reply) = query.query.evicted() else {
                continue;
            };
            if let Some(exchange) = &mut query.exchange {
                exchange.count_open(&query.query.request);
            }
            // Its lead goes with it: the followers are submitted again.
            self.finished.push(Finished {
                owner: query.owner,
                reply: Box::new(reply),
                failure: None,
            });
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
    fn remove(&mut self, slot: usize) -> PendingQuery<T> {
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
