//! The one door: octets in, octets out, for every transport.
//!
//! Nothing here knows a socket, and nothing waits: a question that must wait is handed back to the
//! transport that it came over, as a [`Wait`] to be finished where that transport sees fit.

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

use self::unserved::{not_served, notified, sign_bare, verified};
use super::{route::Routes, transfer::Transfer};
use crate::{
    message::{Parsed, Writer, read_query, read_query_into, write_bare},
    metrics::{Dns, Metrics, ZoneCounters},
    plugin::{Block, Context, Door, Outcome, Suspended, Written},
    query::{Edns, Query, Transport},
    reply::{Reply, Why},
    tsig::Signed,
    upstream::{PendingLimit, UpstreamQuery},
    wire::{Header, Opcode, Rcode},
};

/// What is served on one listener. It outlives a reload, which swaps its routes.
pub struct Server {
    label: ArcSwap<Label>,
    routes: ArcSwap<Routes>,
    pending: Arc<PendingLimit>,
    metrics: Arc<Metrics>,
}

/// What metrics and logs call a server, and what is counted under that name.
struct Label {
    text: Arc<str>,
    /// Counts queries that no block is for.
    dropped: Arc<ZoneCounters>,
}

/// A server as a thread or a connection goes in to it.
#[derive(Clone)]
pub struct Entrance {
    server: Arc<Server>,
    /// The same server as plugins see it; kept, because making it costs two contended counts.
    door: Arc<dyn Door>,
}

/// Room to work in, used again for every query; one a thread.
#[derive(Default)]
pub struct Scratch {
    query: Query,
    /// The reply that is being made.
    pub(super) reply: Reply,
    /// What writes it.
    pub(super) writer: Writer,
}

/// A message as it came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The message.
    pub octets: &'a [u8],
    /// Who sent it.
    pub client: SocketAddr,
    /// The address that it was sent to.
    pub local: SocketAddr,
    /// What it came over.
    pub transport: Transport,
    /// When it was read from its socket.
    pub received: Instant,
}

/// What became of a message.
pub enum Handled {
    /// The reply has been written.
    Reply,
    /// A reply of several messages, which are to be written one part after the other.
    Transfer(Box<Transfer>),
    /// Nothing is sent.
    Nothing,
    /// The reply will come.
    Pending(Box<PendingQuery>),
}

/// A query whose walk through the chain is suspended.
pub struct PendingQuery {
    suspended: Box<Suspended>,
    entrance: Entrance,
    /// For the SERVFAIL where the rest of the walk panics.
    question: Kept,
}

/// An [`Arrival`] that outlives the room that it was read into.
struct Kept {
    octets: Box<[u8]>,
    client: SocketAddr,
    local: SocketAddr,
    transport: Transport,
    received: Instant,
}

impl Server {
    /// A server that metrics and logs call `label` (`dns://:53`).
    pub fn new(
        label: Arc<str>,
        routes: Routes,
        pending: Arc<PendingLimit>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            label: ArcSwap::from_pointee(Label::new(label, metrics)),
            routes: ArcSwap::from_pointee(routes),
            pending,
            metrics: Arc::clone(metrics),
        })
    }

    /// What metrics call it.
    pub fn label(&self) -> Arc<str> {
        Arc::clone(&self.label.load().text)
    }

    /// Calls it `label` from now on.
    pub(super) fn relabel(&self, label: Arc<str>) {
        if self.label.load().text != label {
            self.label.store(Arc::new(Label::new(label, &self.metrics)));
        }
    }

    /// Every metric.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The routes as they are now. To be held for a batch and not while waiting for the next:
    /// what is held keeps the plugins of an old configuration alive.
    pub fn routes(&self) -> Guard<Arc<Routes>> {
        self.routes.load()
    }

    /// Puts other routes in place; questions under way end on the old ones.
    pub fn swap(&self, routes: Arc<Routes>) {
        self.routes.store(routes);
    }

    /// Counts a query that no block is for.
    fn count_dropped(&self, query: &Query, reply: &Reply, octets: usize, took: Duration) {
        self.label.load().dropped.count(query, reply, octets, took);
    }

    fn panicked(&self, octets: &[u8]) {
        self.metrics.panics_total.inc();
        let message = Header::read(octets).map(|header| read_query(octets, &header));
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

impl Label {
    fn new(text: Arc<str>, metrics: &Metrics) -> Self {
        Self {
            dropped: metrics.dns.zone(&text, Dns::DROPPED, ""),
            text,
        }
    }
}

impl Door for Server {
    /// A sub-query: neither logged nor counted, for no client asked it.
    fn answer(self: Arc<Self>, query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let door: Arc<dyn Door> = Arc::clone(&self) as _;
        Box::pin(async move {
            let mut query = query;
            let mut reply = Reply::default();
            let walk = {
                let routes = self.routes.load();
                let Some(block) = routes.find(&query) else {
                    return Reply::failure(Rcode::REFUSED, Why::NoZone);
                };
                let context = Context { door: &door, block };
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

impl Entrance {
    /// The way in to `server`.
    pub fn new(server: Arc<Server>) -> Self {
        let door = Arc::clone(&server) as _;
        Self { server, door }
    }

    /// Which server this leads to.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Takes one message in by `routes`, the server's at present. A reply is in `out` afterwards,
    /// which is cleared first.
    ///
    /// A panic anywhere behind this door is this question's alone: it is answered with SERVFAIL.
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
            // Whatever state the panic left behind is thrown away. What panicked may be the reading
            // of this very message, so saying so is guarded too.
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
                write_bare(&header, rcode, out);
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
                // Only of a notification that is taken: that zone is served here.
                reply.authoritative = rcode == Rcode::NOERROR;
                writer.write(query, reply, out);
                let took = arrival.received.elapsed();
                self.server.count_dropped(query, reply, out.len(), took);
                return Handled::Reply;
            }
        };
        let context = Context {
            door: &self.door,
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
                    return turn_away(suspended, block, limit, scratch, out);
                };
                suspended.hold(permit);
                return Handled::Pending(arrival.pending(self, suspended));
            }
        }
        if query.takes_several_messages() {
            let (query, reply) = (query.clone(), std::mem::take(reply));
            let metrics = &self.server.metrics;
            let transfer = Transfer::new(query, reply, block, metrics, &self.door);
            return Handled::Transfer(Box::new(transfer));
        }
        write(writer, block, query, reply, out);
        Handled::Reply
    }

    /// Writes SERVFAIL to a message that made the server panic, as far as it can be read.
    fn fail(&self, arrival: &Arrival<'_>, out: &mut Vec<u8>) -> Handled {
        self.server.panicked(arrival.octets);
        out.clear();
        let mut query = Query::default();
        match arrival.read(&mut query) {
            Ok(()) => {
                let reply = Reply::failure(Rcode::SERVFAIL, Why::Internal);
                Writer::default().write(&query, &reply, out);
                let took = arrival.received.elapsed();
                self.server.count_dropped(&query, &reply, out.len(), took);
            }
            Err(Some((header, _))) => write_bare(&header, Rcode::SERVFAIL, out),
            Err(None) => return Handled::Nothing,
        }
        Handled::Reply
    }
}

impl Arrival<'_> {
    /// Makes `query` what the message asks, whatever it was; or says what to say to it instead, if
    /// anything, and `query` is of no use.
    fn read(&self, query: &mut Query) -> Result<(), Option<(Header, Rcode)>> {
        let header = Header::read(self.octets).ok_or(None)?;
        // Answering answers would let two servers talk for ever.
        if header.has(Header::RESPONSE) {
            return Err(None);
        }
        // In place, the names above all: four of 256 octets each would be made and moved, to hold some
        // twenty.
        let Ok(beside) = read_query_into(self.octets, &header, &mut query.asked) else {
            let rcode = if header.opcode() == Opcode::QUERY {
                Rcode::FORMERR
            } else {
                Rcode::NOTIMP
            };
            return Err(Some((header, rcode)));
        };
        // Each by its name, so that none that is added is forgotten here.
        let Query {
            id,
            asked,
            question,
            opcode,
            recursion_desired,
            onward_recursion,
            checking_disabled,
            authentic_data,
            edns,
            udp_limit,
            options,
            rewritten,
            held_serial,
            signed,
            signer,
            client,
            local,
            transport,
            size,
            received,
            depth,
            refresh,
            untranslated,
            deadline,
            traced,
        } = query;
        question.copy_from(asked);
        *id = header.id;
        *opcode = header.opcode();
        *recursion_desired = header.has(Header::RECURSION_DESIRED);
        *onward_recursion = None;
        *checking_disabled = header.has(Header::CHECKING_DISABLED);
        *authentic_data = header.has(Header::AUTHENTIC);
        *edns = beside.edns;
        *udp_limit = Edns::OUR_UDP_PAYLOAD;
        *options = beside.options;
        *rewritten = None;
        *held_serial = beside.held_serial;
        *signed = beside
            .tsig_at
            .map(|at| Arc::new(Signed::new(self.octets, at)));
        *signer = None;
        *client = self.client;
        *local = self.local;
        *transport = self.transport;
        *size = self.octets.len();
        *received = self.received;
        *depth = 0;
        *refresh = false;
        *untranslated = false;
        *deadline = None;
        *traced = None;
        Ok(())
    }

    fn pending(&self, entrance: &Entrance, suspended: Box<Suspended>) -> Box<PendingQuery> {
        Box::new(PendingQuery {
            suspended,
            entrance: entrance.clone(),
            question: Kept {
                octets: self.octets.into(),
                client: self.client,
                local: self.local,
                transport: self.transport,
                received: self.received,
            },
        })
    }
}

impl Kept {
    fn arrival(&self) -> Arrival<'_> {
        Arrival {
            octets: &self.octets,
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
        self.question.client
    }

    /// The address that was asked, from which the reply must come.
    pub fn local(&self) -> SocketAddr {
        self.question.local
    }

    /// Takes the query for upstreams that the walk is suspended on, if it is: see
    /// [`Suspended::take_upstream_query`].
    pub fn take_upstream_query(&mut self) -> Option<Box<UpstreamQuery>> {
        self.suspended.take_upstream_query()
    }

    /// Goes on with the upstreams' reply, which is in `reply`, as [`Entrance::handle`] goes on with a
    /// message.
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
                let arrival = self.question.arrival();
                let failure = AssertUnwindSafe(|| self.entrance.fail(&arrival, out));
                catch_unwind(failure).unwrap_or(Handled::Nothing)
            }
        }
    }

    /// Waits for the reply and writes it into `out`, which is cleared first; false where nothing is to be
    /// sent.
    pub async fn finish(self: Box<Self>, out: &mut Vec<u8>) -> bool {
        let Self {
            suspended,
            entrance,
            question,
        } = *self;
        out.clear();
        let walk = async {
            let (suspended, reply) = suspended.finish().await;
            let (block, query) = (suspended.block(), suspended.query());
            if let Some(mut reply) = reply {
                reply.complete();
                // Not before: many queries are pending, and few replies are written at a time.
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
            Err(_) => matches!(entrance.fail(&question.arrival(), out), Handled::Reply),
        }
    }
}

/// Answers a query that the server's limit leaves no slot for. The reply goes outward like any other: it
/// is logged and counted.
fn turn_away(
    mut suspended: Box<Suspended>,
    block: &Block,
    limit: &PendingLimit,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Handled {
    let Scratch { reply, writer, .. } = scratch;
    loop {
        limit.overload(reply);
        match suspended.end(reply) {
            Outcome::Done => break,
            Outcome::Dropped => {
                let query = suspended.query();
                block.chain.dropped(block, query, query.received.elapsed());
                return Handled::Nothing;
            }
            // On its way outward it would have to wait again, nearer to the client.
            Outcome::Pending(()) => {}
        }
    }
    write(writer, block, suspended.query(), reply, out);
    Handled::Reply
}

/// Writes a block's reply, and tells those of its plugins that want to hear of it.
fn write(writer: &mut Writer, block: &Block, query: &Query, reply: &Reply, out: &mut Vec<u8>) {
    writer.write(query, reply, out);
    let written = Written::new(out, query.received.elapsed());
    block.chain.wrote(block, query, reply, written);
}
