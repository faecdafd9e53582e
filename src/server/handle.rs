//! Handling of messages, for every transport: request bytes in, response bytes out.
//!
//! No sockets here, and nothing blocks: a query that cannot be answered at once is returned to its
//! transport as a [`PendingQuery`], which the transport finishes or resumes.

mod shed;
mod unserved;

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use futures_util::FutureExt;

pub use self::shed::Overloaded;
use self::{
    shed::shed,
    unserved::{not_served, notified, sign_bare, verified},
};
use super::{route::Routes, transfer::Transfer};
use crate::{
    message::{Parsed, Writer, read_query, read_query_into, write_header_only},
    metrics::{Dns, Metrics, ZoneCounters},
    plugin::{Block, Context, Outcome, SubQueryHandler, Suspended, Written, attach_reason},
    query::{Query, Request, Transport},
    query_feed::AnsweredQuery,
    reply::{Reply, Why},
    tsig::Signed,
    upstream::{PendingLimit, UpstreamQuery},
    wire::{Header, MalformedMessage, Opcode, Rcode},
};

/// The routes, label and limits of one listener. Survives a reload, which swaps its routes.
pub struct Server {
    label: ArcSwap<ServerLabel>,
    routes: ArcSwap<Routes>,
    pending: Arc<PendingLimit>,
    metrics: Arc<Metrics>,
}

/// The name of a server in metrics and logs, and its counters.
struct ServerLabel {
    text: Arc<str>,
    /// Counts queries that match no block.
    dropped: Arc<ZoneCounters>,
}

/// Handles the messages of a thread or a connection for a server.
#[derive(Clone)]
pub struct MessageHandler {
    server: Arc<Server>,
    /// The same server as plugins see it. Cached, because making it takes two updates of a contended
    /// reference count.
    sub_queries: Arc<dyn SubQueryHandler>,
}

/// Buffers that are reused for every query; one per thread.
#[derive(Default)]
pub struct Scratch {
    query: Query,
    /// The reply.
    pub(super) reply: Reply,
    /// The encoder of replies.
    pub(super) writer: Writer,
}

/// A received message.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The address of the client.
    pub client: SocketAddr,
    /// The destination address.
    pub local: SocketAddr,
    /// The transport.
    pub transport: Transport,
    /// When it was read from the socket.
    pub received: Instant,
}

/// The outcome of handling a message.
pub enum Handled {
    /// The reply has been written.
    Reply,
    /// A reply of several messages, written part by part.
    Transfer(Box<Transfer>),
    /// No reply is sent.
    Nothing,
    /// The reply is pending.
    Pending(Box<PendingQuery>),
}

/// A query that is suspended in the chain of plugins.
pub struct PendingQuery {
    suspended: Box<Suspended>,
    handler: MessageHandler,
    /// For SERVFAIL if the rest of the chain panics.
    arrival: OwnedArrival,
}

/// An owned [`Arrival`].
struct OwnedArrival {
    bytes: Box<[u8]>,
    client: SocketAddr,
    local: SocketAddr,
    transport: Transport,
    received: Instant,
}

impl Server {
    /// A server with a name in metrics and logs (`dns://:53`).
    pub fn new(
        label: Arc<str>,
        routes: Routes,
        pending: Arc<PendingLimit>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            label: ArcSwap::from_pointee(ServerLabel::new(label, metrics)),
            routes: ArcSwap::from_pointee(routes),
            pending,
            metrics: Arc::clone(metrics),
        })
    }

    /// Its name in metrics and logs.
    pub fn label(&self) -> Arc<str> {
        Arc::clone(&self.label.load().text)
    }

    /// Changes the name.
    pub(super) fn relabel(&self, label: Arc<str>) {
        if self.label.load().text != label {
            self.label
                .store(Arc::new(ServerLabel::new(label, &self.metrics)));
        }
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The present routes. Hold the guard for one batch only: it keeps the plugins of an old configuration
    /// alive.
    pub fn routes(&self) -> Guard<Arc<Routes>> {
        self.routes.load()
    }

    /// Replaces the routes; pending queries finish on the old ones.
    pub fn swap(&self, routes: Arc<Routes>) {
        self.routes.store(routes);
    }

    /// Counts a query that matches no block. Out of line: most queries match one.
    #[cold]
    #[inline(never)]
    fn count_dropped(&self, query: &Query, reply: &Reply, size: usize, took: Duration) {
        self.label.load().dropped.count(query, reply, size, took);
        let feed = &self.metrics.feed;
        if feed.is_watched() {
            feed.publish(&AnsweredQuery {
                query,
                reply,
                took,
                describe: &|text| text.push(reply.reason()),
            });
        }
    }

    fn panicked(&self, bytes: &[u8]) {
        self.metrics.panics_total.inc();
        let message = Header::read(bytes).map(|header| read_query(bytes, &header));
        if let Some(Ok(Parsed { question, .. })) = message {
            tracing::error!(
                server = %self.label(),
                name = %question.name,
                rtype = %question.rtype,
                "a query made the server panic; SERVFAIL was answered"
            );
        } else {
            tracing::error!(server = %self.label(), "a message made the server panic");
        }
    }
}

impl ServerLabel {
    fn new(text: Arc<str>, metrics: &Metrics) -> Self {
        Self {
            dropped: metrics.dns.zone(&text, Dns::DROPPED, ""),
            text,
        }
    }
}

impl SubQueryHandler for Server {
    /// Answers a sub-query of a plugin; not logged or counted, since no client sent it.
    fn answer(self: Arc<Self>, query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let sub_queries: Arc<dyn SubQueryHandler> = Arc::clone(&self) as _;
        Box::pin(async move {
            let mut query = query;
            let mut reply = Reply::default();
            let walk = {
                let routes = self.routes.load();
                let Some(block) = routes.find(&query) else {
                    return Reply::failure(Rcode::REFUSED, Why::NoZone);
                };
                if let Some(recorder) = &query.recorder {
                    recorder.add(query.depth, "server", block.describe());
                }
                let context = Context {
                    sub_queries: &sub_queries,
                    block,
                };
                block.chain.walk(&context, &mut query, &mut reply)
            };
            let dropped = || Reply::failure(Rcode::SERVFAIL, Why::Policy);
            match walk {
                Outcome::Done => reply,
                Outcome::Dropped => dropped(),
                Outcome::Pending(suspended) => suspended.finish().await.1.unwrap_or_else(dropped),
            }
        })
    }
}

impl MessageHandler {
    /// A handle to `server`.
    pub fn new(server: Arc<Server>) -> Self {
        let sub_queries = Arc::clone(&server) as _;
        Self {
            server,
            sub_queries,
        }
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Handles a message with `routes`, the server's present ones. Clears `out`, and writes the reply to
    /// it.
    ///
    /// A panic is caught here and answered with SERVFAIL; other queries are not affected.
    pub fn handle(
        &self,
        routes: &Routes,
        scratch: &mut Scratch,
        arrival: &Arrival<'_>,
        out: &mut Vec<u8>,
    ) -> Handled {
        let walk = AssertUnwindSafe(|| {
            let handled = self.take(routes, scratch, arrival, out);
            scratch.query.release();
            handled
        });
        catch_unwind(walk).unwrap_or_else(|_| {
            // The panic may have left inconsistent state. Parsing may be what panicked, so the failure path
            // is guarded too.
            *scratch = Scratch::default();
            let failure = AssertUnwindSafe(|| self.fail(arrival, out));
            catch_unwind(failure).unwrap_or(Handled::Nothing)
        })
    }

    fn take(
        &self,
        routes: &Routes,
        scratch: &mut Scratch,
        arrival: &Arrival<'_>,
        out: &mut Vec<u8>,
    ) -> Handled {
        out.clear();
        let Scratch {
            query,
            reply,
            writer,
        } = scratch;
        match arrival.read(query) {
            Ok(()) => {}
            Err(None) => return Handled::Nothing,
            Err(Some((header, rcode))) => {
                write_header_only(&header, rcode, out);
                sign_bare(routes, arrival, &header, out);
                return Handled::Reply;
            }
        }
        let refused = match not_served(routes, query) {
            Some(_) if query.opcode == Opcode::NOTIFY => Err(notified(routes, query)),
            Some(rcode) => Err((verified(routes, query).unwrap_or(rcode), Why::NotServed)),
            None => routes.find(query).ok_or((Rcode::REFUSED, Why::NoZone)),
        };
        let block = match refused {
            Ok(block) => block,
            Err((rcode, why)) => {
                reply.fail(rcode, why);
                // NOERROR here is the reply to an accepted NOTIFY: the zone is served here.
                reply.authoritative = rcode == Rcode::NOERROR;
                attach_reason(query, reply);
                writer.write(query, reply, out);
                let took = arrival.received.elapsed();
                self.server.count_dropped(query, reply, out.len(), took);
                return Handled::Reply;
            }
        };
        let context = Context {
            sub_queries: &self.sub_queries,
            block,
        };
        match block.chain.walk(&context, query, reply) {
            Outcome::Done => {}
            Outcome::Dropped => {
                block.chain.dropped(block, query, query.received.elapsed());
                return Handled::Nothing;
            }
            Outcome::Pending(mut suspended) => {
                let limit = &self.server.pending;
                let Some(permit) = limit.enter(suspended.group(), arrival.client.ip()) else {
                    return shed(
                        suspended,
                        block,
                        |reply| limit.overload(reply),
                        scratch,
                        out,
                    );
                };
                suspended.hold(permit);
                return Handled::Pending(arrival.pending(self, suspended));
            }
        }
        if query.takes_several_messages() {
            let (query, reply) = (query.clone(), std::mem::take(reply));
            let metrics = &self.server.metrics;
            let transfer = Transfer::new(query, reply, block, metrics, &self.sub_queries);
            return Handled::Transfer(Box::new(transfer));
        }
        write(writer, block, query, reply, out);
        Handled::Reply
    }

    /// Writes SERVFAIL for a message that caused a panic, as far as it can be parsed.
    fn fail(&self, arrival: &Arrival<'_>, out: &mut Vec<u8>) -> Handled {
        self.server.panicked(arrival.bytes);
        out.clear();
        let mut query = Query::default();
        match arrival.read(&mut query) {
            Ok(()) => {
                let reply = Reply::failure(Rcode::SERVFAIL, Why::Internal);
                Writer::default().write(&query, &reply, out);
                let took = arrival.received.elapsed();
                self.server.count_dropped(&query, &reply, out.len(), took);
            }
            Err(Some((header, _))) => write_header_only(&header, Rcode::SERVFAIL, out),
            Err(None) => return Handled::Nothing,
        }
        Handled::Reply
    }
}

impl Arrival<'_> {
    /// Parses the message into `query`, replacing its contents. An error is the header and rcode of the
    /// reply, or `None` for no reply; `query` is then unspecified.
    fn read(&self, query: &mut Query) -> Result<(), Option<(Header, Rcode)>> {
        let header = Header::read(self.bytes).ok_or(None)?;
        // Replies to responses would let two servers answer each other endlessly.
        if header.has(Header::RESPONSE) {
            return Err(None);
        }
        // In place, to avoid moving four name buffers of 256 bytes each.
        let options = query.receive(|request| {
            let beside = read_query_into(self.bytes, &header, &mut request.original)?;
            // Destructured, so that a new field cannot be left unset.
            let Request {
                id,
                original: _,
                opcode,
                recursion_desired,
                checking_disabled,
                authentic_data,
                edns,
                held_serial,
                signed,
                client,
                local,
                transport,
                size,
                received,
            } = request;
            *id = header.id;
            *opcode = header.opcode();
            *recursion_desired = header.has(Header::RECURSION_DESIRED);
            *checking_disabled = header.has(Header::CHECKING_DISABLED);
            *authentic_data = header.has(Header::AUTHENTIC);
            *edns = beside.edns;
            *held_serial = beside.held_serial;
            *signed = beside
                .tsig_at
                .map(|at| Arc::new(Signed::new(self.bytes, at)));
            *client = self.client;
            *local = self.local;
            *transport = self.transport;
            *size = self.bytes.len();
            *received = self.received;
            Ok(beside.options)
        });
        query.options = options.map_err(|_: MalformedMessage| {
            let rcode = if header.opcode() == Opcode::QUERY {
                Rcode::FORMERR
            } else {
                Rcode::NOTIMP
            };
            Some((header, rcode))
        })?;
        Ok(())
    }

    fn pending(&self, handler: &MessageHandler, suspended: Box<Suspended>) -> Box<PendingQuery> {
        Box::new(PendingQuery {
            suspended,
            handler: handler.clone(),
            arrival: OwnedArrival {
                bytes: self.bytes.into(),
                client: self.client,
                local: self.local,
                transport: self.transport,
                received: self.received,
            },
        })
    }
}

impl OwnedArrival {
    fn borrow(&self) -> Arrival<'_> {
        Arrival {
            bytes: &self.bytes,
            client: self.client,
            local: self.local,
            transport: self.transport,
            received: self.received,
        }
    }
}

impl PendingQuery {
    /// The client's address.
    pub fn client(&self) -> SocketAddr {
        self.arrival.client
    }

    /// The destination address, which must be the source address of the reply (RFC 2181 section 4.1).
    pub fn local(&self) -> SocketAddr {
        self.arrival.local
    }

    /// Takes the query for upstreams on which the chain is suspended, if it is: see
    /// [`Suspended::take_upstream_query`].
    pub fn take_upstream_query(&mut self) -> Option<Box<UpstreamQuery>> {
        self.suspended.take_upstream_query()
    }

    /// Resumes the chain with the upstreams' reply in `reply`; the outcome is as of [`MessageHandler::handle`].
    pub fn resume(
        mut self: Box<Self>,
        reply: &mut Reply,
        writer: &mut Writer,
        out: &mut Vec<u8>,
    ) -> Handled {
        out.clear();
        let suspended = &mut self.suspended;
        let walk = AssertUnwindSafe(|| {
            let outcome = suspended.resume(reply);
            let (block, query) = (suspended.block(), suspended.query());
            match outcome {
                Outcome::Done => write(writer, block, query, reply, out),
                Outcome::Dropped => block.chain.dropped(block, query, query.received.elapsed()),
                Outcome::Pending(()) => {}
            }
            outcome
        });
        match catch_unwind(walk) {
            Ok(Outcome::Done) => Handled::Reply,
            Ok(Outcome::Dropped) => Handled::Nothing,
            Ok(Outcome::Pending(())) => Handled::Pending(self),
            Err(_) => {
                *reply = Reply::default();
                *writer = Writer::default();
                let arrival = self.arrival.borrow();
                let failure = AssertUnwindSafe(|| self.handler.fail(&arrival, out));
                catch_unwind(failure).unwrap_or(Handled::Nothing)
            }
        }
    }

    /// Waits for the reply. Clears `out`, and writes the reply to it; returns false if none is to be sent.
    pub async fn finish(self: Box<Self>, out: &mut Vec<u8>) -> bool {
        let Self {
            suspended,
            handler,
            arrival,
        } = *self;
        out.clear();
        let walk = async {
            let (suspended, reply) = suspended.finish().await;
            let (block, query) = (suspended.block(), suspended.query());
            if let Some(mut reply) = reply {
                reply.complete();
                // Allocated only now: many queries are pending, and few replies are written at a time.
                out.reserve(crate::wire::MIN_UDP_PAYLOAD);
                write(&mut Writer::default(), block, query, &reply, out);
                true
            } else {
                block.chain.dropped(block, query, query.received.elapsed());
                false
            }
        };
        match AssertUnwindSafe(walk).catch_unwind().await {
            Ok(written) => written,
            Err(_) => matches!(handler.fail(&arrival.borrow(), out), Handled::Reply),
        }
    }
}

/// Writes a block's reply and calls its plugins' hooks for written replies.
fn write(writer: &mut Writer, block: &Block, query: &Query, reply: &Reply, out: &mut Vec<u8>) {
    writer.write(query, reply, out);
    let written = Written::new(out, query.received.elapsed());
    block.chain.wrote(block, query, reply, written);
}
