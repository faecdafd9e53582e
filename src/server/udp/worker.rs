//! The thread of one UDP socket: reads queries in batches, answers those that it can at once, carries out
//! upstream queries with an engine of its own, and polls the futures that other queries wait for.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::runtime::Handle;

use super::{
    super::{
        RETIREMENT,
        handle::{Arrival, Handled, MessageHandler, Overloaded, PendingQuery, Scratch},
        limits::TaskToken,
        proxy::sessions::{Relay, Relayed},
        route::Routes,
    },
    deferred::{DeferredQueries, DeferredQuery},
    replies::DelayedReplies,
    shedding::{Admission, LoadShedder},
};
use crate::{
    datagrams::Batch,
    error_text,
    query::Transport,
    upstream::{Engine, QueryOwner},
};

/// How long a retired socket stays open after its queue was found empty. The kernel delivers a datagram within
/// microseconds of the choice of a socket, unless its processor is taken away meanwhile.
const LATE: Duration = Duration::from_millis(10);

/// How long a thread that stops serves the queue of its socket before it looks after its pending queries.
const DRAIN: Duration = Duration::from_millis(200);

/// Pause after a system call that failed for lack of resources.
const PAUSE: Duration = Duration::from_millis(100);

/// Deferred queries that are answered before the socket gets its turn: a query that comes meanwhile waits so much
/// longer.
const DEFERRED_PER_TURN: usize = 8;

/// Batches that are received before upstreams and futures get their turn.
const BATCHES_PER_TURN: usize = 4;

/// Futures that are completed before other work gets its turn.
const COMPLETED: usize = 256;

/// What the thread works with.
pub(super) struct Worker {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) bound: SocketAddr,
    pub(super) handler: MessageHandler,
    pub(super) engine: Engine<ClientQuery>,
    /// Takes PROXY headers off.
    pub(super) relay: Relay,
    pub(super) runtime: Handle,
    pub(super) stop: Arc<AtomicBool>,
    /// Held until the last query is answered.
    pub(super) _token: TaskToken,
}

/// A query that is answered now.
struct Received<'a> {
    arrival: Arrival<'a>,
    /// Where the reply is sent: the client, or a proxy in front of it.
    peer: SocketAddr,
    /// The present time.
    now: Instant,
    /// Why it is not forwarded, if so.
    overloaded: Option<Overloaded>,
}

/// A query whose upstream query is in the engine.
pub(super) struct ClientQuery {
    query: Box<PendingQuery>,
    /// Where the reply is sent: the client, or a proxy in front of it.
    peer: SocketAddr,
}

impl QueryOwner for ClientQuery {}

/// What a query waits for that is not in the engine. Its output is the reply, if one is sent, with the addresses
/// that it leaves from and goes to.
type ReplyFuture = BoxFuture<'static, Option<(Vec<u8>, IpAddr, SocketAddr)>>;

/// The state of a running [`Worker`].
struct RunningWorker {
    worker: Worker,
    datagrams: Batch,
    shedder: LoadShedder,
    deferred: DeferredQueries,
    scratch: Scratch,
    /// Replies to pending queries.
    replies: DelayedReplies,
    futures: FuturesUnordered<ReplyFuture>,
    /// Ends the engine's wait when a future can go on.
    waker: Waker,
}

impl Worker {
    /// Serves until it is stopped, and then until nothing is pending.
    pub(super) fn run(self) {
        let runtime = self.runtime.clone();
        // For the timers and connections of the futures.
        let _inside = runtime.enter();
        let mut running = RunningWorker {
            datagrams: Batch::new(self.bound),
            shedder: LoadShedder::new(Instant::now()),
            deferred: DeferredQueries::default(),
            scratch: Scratch::default(),
            replies: DelayedReplies::new(
                Arc::clone(&self.socket),
                self.bound.ip().is_unspecified(),
            ),
            futures: FuturesUnordered::new(),
            waker: self.engine.waker(),
            worker: self,
        };
        while !running.worker.stop.load(Ordering::Acquire) {
            if running.is_idle() {
                // Nothing but a client can give it work: a blocking read saves a system call.
                running.receive(true);
                let now = running.datagrams.received_at();
                running.worker.engine.close_idle(now);
            } else if running.wait() {
                running.receive_queue();
            }
            running.answer_deferred();
        }
        running.drain();
    }

    /// Answers a query: the reply is in `reply`, which stays empty without one, or the query waits for an upstream.
    /// Returns whether the engine has something to send.
    #[inline]
    fn answer(
        &mut self,
        routes: &Routes,
        query: &Received<'_>,
        scratch: &mut Scratch,
        futures: &FuturesUnordered<ReplyFuture>,
        reply: &mut Vec<u8>,
    ) -> bool {
        let now = query.now;
        match self.handler.handle(routes, scratch, &query.arrival, reply) {
            Handled::Reply => false,
            // A reply of several messages goes over streams only.
            Handled::Nothing | Handled::Transfer(_) => {
                reply.clear();
                false
            }
            Handled::Pending(pending) => {
                if let Some(overloaded) = query.overloaded {
                    self.handler.server().metrics().overload.upstream.inc();
                    match pending.shed(overloaded, scratch, reply) {
                        Handled::Reply => {}
                        _ => reply.clear(),
                    }
                    return false;
                }
                reply.clear();
                let client = ClientQuery {
                    query: pending,
                    peer: query.peer,
                };
                let wait = AssertUnwindSafe(|| client.wait(&mut self.engine, futures, now));
                catch_unwind(wait).unwrap_or_else(|_| {
                    self.recover(now);
                    true
                })
            }
        }
    }

    /// Continues after a panic in the engine: the query that it was about is lost, and no other.
    fn recover(&mut self, now: Instant) {
        self.handler.server().metrics().panics_total.inc();
        tracing::error!("an upstream query made the server panic; it was dropped");
        let _ = catch_unwind(AssertUnwindSafe(|| self.engine.recover(now)));
    }
}

impl RunningWorker {
    fn is_idle(&self) -> bool {
        self.worker.engine.is_idle() && self.futures.is_empty() && self.deferred.is_empty()
    }

    /// Answers what is queued at the socket, and then what is pending.
    fn drain(&mut self) {
        // The socket has been shut down: it would be found readable for ever.
        self.worker.engine.close(&self.worker.socket);
        let reads = self.worker.socket.set_nonblocking(true).is_ok();
        let begun = Instant::now();
        let mut is_last = false;
        loop {
            // Where the socket could not be retired its queue has no end under load, hence the bound.
            while reads
                && begun.elapsed() < RETIREMENT
                && self.receive(false) > 0
                && begun.elapsed() < DRAIN
            {}
            self.answer_deferred();
            if !self.is_idle() {
                self.wait();
            } else if is_last {
                return;
            } else {
                // The kernel may have chosen this socket for a datagram before it was retired, and queue the
                // datagram only now.
                is_last = true;
                thread::sleep(LATE);
            }
        }
    }

    /// Receives batches until the queue is short, but not for ever: clients that send little may fill it all the time.
    fn receive_queue(&mut self) {
        for _ in 0..BATCHES_PER_TURN {
            self.receive(false);
            if !self.datagrams.is_full() {
                return;
            }
        }
    }

    /// Receives a batch of queries, answers them and sends the replies; with `blocks`, waits for the first.
    /// Returns the number of queries.
    fn receive(&mut self, blocks: bool) -> usize {
        let worker = &mut self.worker;
        let count = match self.datagrams.receive(&worker.socket, blocks) {
            Ok(count) => count,
            Err(error) => {
                let why = error_text::io(&error);
                tracing::warn!("cannot receive queries at {}: {why}", worker.bound);
                thread::sleep(PAUSE);
                return 0;
            }
        };
        if count == 0 {
            self.shedder.begin(false, self.datagrams.received_at());
            return 0;
        }
        let metrics = worker.handler.server().metrics();
        metrics.after_unready.received(count);
        let stale = self.datagrams.take_stale();
        if stale > 0 {
            metrics.stale_queries_total.inc_by(stale as u64);
        }
        let received = self.datagrams.received_at();
        let is_counted = self.shedder.begin(self.datagrams.is_full(), received);
        let routes = worker.handler.server().routes();
        let (mut submitted, before) = (false, self.futures.len());
        for index in 0..count {
            let Some((datagram, reply)) = self.datagrams.datagram(index) else {
                continue;
            };
            let relayed = worker.relay.read(datagram.bytes, datagram.client, received);
            let Some(Relayed { bytes, client }) = relayed else {
                reply.clear();
                continue;
            };
            let admission = if is_counted {
                let has_room = self.deferred.has_room(bytes.len());
                self.shedder.admit(client.ip(), has_room)
            } else {
                Admission::Full
            };
            let arrival = Arrival {
                bytes,
                client,
                local: datagram.local,
                transport: Transport::Udp,
                received,
            };
            let overloaded = match admission {
                Admission::Full => None,
                Admission::Local(overloaded) => Some(overloaded),
                Admission::Deferred => {
                    self.deferred
                        .push(DeferredQuery::new(&arrival, datagram.client));
                    continue;
                }
                Admission::None => {
                    worker.handler.server().metrics().overload.unread.inc();
                    continue;
                }
            };
            let query = Received {
                arrival,
                peer: datagram.client,
                now: received,
                overloaded,
            };
            submitted |= worker.answer(&routes, &query, &mut self.scratch, &self.futures, reply);
        }
        drop(routes);
        self.datagrams.send(&worker.socket);
        self.finish_turn(submitted, before, received);
        count
    }

    /// Answers some deferred queries, if there are any.
    fn answer_deferred(&mut self) {
        if self.deferred.is_empty() {
            return;
        }
        let now = Instant::now();
        let worker = &mut self.worker;
        let routes = worker.handler.server().routes();
        let (mut submitted, before) = (false, self.futures.len());
        for _ in 0..DEFERRED_PER_TURN {
            let Some(query) = self.deferred.pop() else {
                break;
            };
            if query.is_stale(now) {
                let metrics = worker.handler.server().metrics();
                metrics.stale_queries_total.inc();
                continue;
            }
            let query = Received {
                arrival: query.arrival(),
                peer: query.peer,
                now,
                overloaded: None,
            };
            let local = query.arrival.local.ip();
            let reply = &mut self.replies.next(local, query.peer).bytes;
            reply.clear();
            submitted |= worker.answer(&routes, &query, &mut self.scratch, &self.futures, reply);
            if !reply.is_empty() {
                self.replies.push();
            }
        }
        drop(routes);
        self.replies.send();
        self.finish_turn(submitted, before, now);
    }

    /// Sends what was `submitted` to the engine, and polls the futures that were added to those `before`.
    fn finish_turn(&mut self, submitted: bool, before: usize, now: Instant) {
        let engine = &mut self.worker.engine;
        if submitted && catch_unwind(AssertUnwindSafe(|| engine.flush(now))).is_err() {
            self.worker.recover(now);
        }
        if self.futures.len() > before {
            self.poll_futures();
            self.replies.send();
        }
    }

    /// Waits for upstreams, futures and clients, and replies to the queries that can be answered now.
    /// Returns whether clients have sent something.
    fn wait(&mut self) -> bool {
        let blocks = self.deferred.is_empty();
        let clients = self.worker.engine.wait(blocks).unwrap_or_else(|error| {
            tracing::warn!("cannot wait for upstreams: {}", error_text::io(&error));
            thread::sleep(PAUSE);
            true
        });
        let now = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| self.process(now))).is_err() {
            // The message of an upstream is untrusted input. What else was received is read at the next
            // wait.
            self.scratch = Scratch::default();
            self.worker.recover(now);
        }
        self.replies.send();
        self.worker.engine.close_idle(now);
        clients
    }

    fn process(&mut self, now: Instant) {
        let Self {
            worker,
            scratch,
            replies,
            futures,
            ..
        } = self;
        let was_woken = worker.engine.process_wakeups(now);
        let Scratch { reply, writer, .. } = scratch;
        let mut again = Vec::new();
        worker
            .engine
            .process(reply, now, |ClientQuery { query, peer }, reply, _| {
                let late = replies.next(query.local().ip(), peer);
                match query.resume(reply, writer, &mut late.bytes) {
                    Handled::Reply => replies.push(),
                    Handled::Nothing | Handled::Transfer(_) => {}
                    Handled::Pending(query) => again.push(ClientQuery { query, peer }),
                }
            });
        let is_new = !again.is_empty();
        for client in again {
            client.wait(&mut worker.engine, futures, now);
        }
        if is_new {
            worker.engine.flush(now);
        }
        if was_woken || is_new {
            self.poll_futures();
        }
    }

    /// Polls the futures that can go on.
    fn poll_futures(&mut self) {
        let mut context = Context::from_waker(&self.waker);
        for _ in 0..COMPLETED {
            match self.futures.poll_next_unpin(&mut context) {
                Poll::Ready(Some(Some((bytes, local, peer)))) => {
                    self.replies.add(&bytes, local, peer);
                }
                Poll::Ready(Some(None)) => {}
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
        self.waker.wake_by_ref();
    }
}

impl ClientQuery {
    /// Submits the query's upstream query to the engine, or adds the future that it waits for; whether it is
    /// the engine that has something to send.
    fn wait(
        mut self,
        engine: &mut Engine<Self>,
        futures: &FuturesUnordered<ReplyFuture>,
        now: Instant,
    ) -> bool {
        if let Some(upstream_query) = self.query.take_upstream_query() {
            engine.submit(upstream_query, self, now);
            return true;
        }
        let future = async move {
            let local = self.query.local().ip();
            let mut bytes = Vec::new();
            let is_sent = self.query.finish(&mut bytes).await;
            is_sent.then_some((bytes, local, self.peer))
        };
        futures.push(future.boxed());
        false
    }
}
