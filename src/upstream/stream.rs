//! Questions over TCP and TLS: kept connections, several questions under way on each (RFC 7766).
//!
//! A connection is a task that dials, writes what it is handed and reads what comes. There is one
//! connection more whenever the least busy has as many questions under way as there are
//! connections: one for an occasional question, four for sixteen at once, so that neither a
//! handshake is paid for each question nor a slow one holds up many.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    runtime::Handle,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{
    failure::Failure,
    meter::{Meter, Proto},
    packet::{MAX_QUERY, Packet},
    pending_replies::{Delivery, MAX_IN_FLIGHT, PendingReplies, PendingReply},
    tls::Tls,
};
use crate::{interfaces::local_end, reply::Reply};

/// Connections to one upstream at most.
const MAX_CONNECTIONS: usize = 64;
/// How long a handshake may take, and a write.
const PATIENCE: Duration = Duration::from_secs(4);
/// A connection on which questions wait and nothing has moved for so long gets no new ones.
const STALLED: Duration = Duration::from_millis(700);

/// How connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// How long an idle connection is kept.
    pub expire: Duration,
    /// How old a connection may be for a new question; zero for no limit.
    pub max_age: Duration,
    /// How many idle connections are kept; zero for no limit.
    pub max_idle: usize,
}

/// The connections to one upstream.
#[derive(Debug)]
pub(super) struct Streams {
    server: SocketAddr,
    source: Option<IpAddr>,
    tls: Option<Tls>,
    keeping: Keeping,
    runtime: Handle,
    meter: Arc<Meter>,
    connections: Mutex<Vec<Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    replies: Arc<PendingReplies>,
    outbox: mpsc::Sender<Outgoing>,
    opened: Instant,
    /// Takes no new questions and ends with the last one under way.
    retired: AtomicBool,
}

#[derive(Debug)]
struct Outgoing {
    packet: Arc<Packet>,
    id: u16,
}

impl Streams {
    pub(super) fn new(
        server: SocketAddr,
        source: Option<IpAddr>,
        tls: Option<Tls>,
        keeping: Keeping,
        runtime: Handle,
        meter: Arc<Meter>,
    ) -> Arc<Self> {
        Arc::new(Self {
            server,
            source,
            tls,
            keeping,
            runtime,
            meter,
            connections: Mutex::default(),
        })
    }

    /// Asks and waits for as long as the caller does. A kept connection that the other side closed
    /// meanwhile is no failure: the question is asked again over a new one.
    pub(super) async fn exchange(self: &Arc<Self>, packet: &Arc<Packet>) -> Result<Reply, Failure> {
        let mut fresh = false;
        loop {
            let (connection, pending) = self.enter(packet, &mut fresh)?;
            let outgoing = Outgoing {
                packet: Arc::clone(packet),
                id: pending.id(),
            };
            let sent = connection.outbox.try_send(outgoing);
            drop(connection);
            let answer = match sent {
                Ok(()) => pending.await,
                Err(mpsc::error::TrySendError::Full(_)) => return Err(Failure::Busy),
                Err(mpsc::error::TrySendError::Closed(_)) => Err(Failure::Closed),
            };
            match answer {
                Err(Failure::Closed) if !fresh => fresh = true,
                answer => return answer,
            }
        }
    }

    /// A place on a connection. `fresh` asks for a new one, and tells whether it is one.
    fn enter(
        self: &Arc<Self>,
        packet: &Arc<Packet>,
        fresh: &mut bool,
    ) -> Result<(Arc<Connection>, PendingReply), Failure> {
        let mut connections = self.connections.lock();
        if !*fresh && let Some(connection) = self.choose(&connections) {
            match connection.replies.add(packet) {
                Ok(pending) => {
                    self.meter.hit(self.proto());
                    return Ok((connection, pending));
                }
                Err(Failure::Closed) => {}
                Err(failure) => return Err(failure),
            }
        }
        if connections.len() >= MAX_CONNECTIONS {
            return Err(Failure::Busy);
        }
        *fresh = true;
        self.meter.miss(self.proto());
        let (outbox, inbox) = mpsc::channel(MAX_IN_FLIGHT);
        let connection = Arc::new(Connection {
            replies: Arc::default(),
            outbox,
            opened: Instant::now(),
            retired: AtomicBool::new(false),
        });
        let pending = connection.replies.add(packet)?;
        connections.push(Arc::clone(&connection));
        drop(connections);
        let life = Life {
            replies: Arc::clone(&connection.replies),
            connection: Arc::downgrade(&connection),
            streams: Arc::downgrade(self),
            keeping: self.keeping,
            meter: Arc::clone(&self.meter),
        };
        let dial = dial(self.server, self.source);
        self.runtime.spawn(life.live(dial, self.tls.clone(), inbox));
        Ok((connection, pending))
    }

    /// The connection that a question is put on; none where a new one is to be opened.
    fn choose(&self, connections: &[Arc<Connection>]) -> Option<Arc<Connection>> {
        let count = connections.len();
        let (waiting, connection) = connections
            .iter()
            .filter_map(|connection| Some((self.waiting_if_usable(connection)?, connection)))
            .min_by_key(|(waiting, _)| *waiting)?;
        let enough = waiting == 0 || waiting < count || count >= MAX_CONNECTIONS;
        enough.then(|| Arc::clone(connection))
    }

    /// How many questions are under way on the connection, if it can take another.
    fn waiting_if_usable(&self, connection: &Connection) -> Option<usize> {
        let age = connection.opened.elapsed();
        if !self.keeping.max_age.is_zero() && age >= self.keeping.max_age {
            connection.retired.store(true, Ordering::Relaxed);
        }
        if connection.retired.load(Ordering::Relaxed) {
            return None;
        }
        let load = connection.replies.load();
        let stalled = load.in_flight > 0 && load.progress.is_some_and(|at| at.elapsed() > STALLED);
        (!load.closed && !load.abandoned && !stalled).then_some(load.in_flight)
    }

    fn proto(&self) -> Proto {
        if self.tls.is_some() {
            Proto::Tls
        } else {
            Proto::Tcp
        }
    }

    fn idle_count(&self) -> usize {
        let connections = self.connections.lock();
        let idle = |connection: &&Arc<Connection>| connection.replies.load().in_flight == 0;
        connections.iter().filter(idle).count()
    }

    fn forget(&self, replies: &Arc<PendingReplies>) {
        self.connections
            .lock()
            .retain(|connection| !Arc::ptr_eq(&connection.replies, replies));
    }
}

pub(super) async fn dial(server: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = match server {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if source.is_some() {
        socket.bind(local_end(source, server))?;
    }
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What the task of a connection holds: nothing that keeps the upstream alive.
struct Life {
    replies: Arc<PendingReplies>,
    connection: Weak<Connection>,
    streams: Weak<Streams>,
    keeping: Keeping,
    meter: Arc<Meter>,
}

impl Life {
    async fn live(
        self,
        dial: impl Future<Output = io::Result<TcpStream>>,
        tls: Option<Tls>,
        inbox: mpsc::Receiver<Outgoing>,
    ) {
        let end = match self.connect(dial, tls.as_ref()).await {
            Ok(Connected::Plain(stream)) => self.converse(stream, inbox).await,
            Ok(Connected::Tls(stream)) => self.converse(stream, inbox).await,
            Err(failure) => failure,
        };
        if let Some(streams) = self.streams.upgrade() {
            streams.forget(&self.replies);
        }
        self.replies.close(&end);
    }

    async fn connect(
        &self,
        dial: impl Future<Output = io::Result<TcpStream>>,
        tls: Option<&Tls>,
    ) -> Result<Connected, Failure> {
        let connecting = async {
            let stream = dial.await.map_err(|error| Failure::from(&error))?;
            let proto = if tls.is_some() {
                Proto::Tls
            } else {
                Proto::Tcp
            };
            self.replies
                .connected(self.meter.heard(stream.local_addr().ok(), proto));
            Ok(match tls {
                None => Connected::Plain(stream),
                Some(tls) => Connected::Tls(Box::new(tls.connect(stream).await?)),
            })
        };
        timeout(PATIENCE, connecting)
            .await
            .unwrap_or(Err(Failure::Silent))
    }

    /// Writes and reads until the connection is of no more use, and says why.
    async fn converse<S>(&self, stream: S, mut inbox: mpsc::Receiver<Outgoing>) -> Failure
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let mut received = Vec::new();
        let mut to_send = Vec::new();
        let idle = sleep_until(Instant::now() + self.keeping.expire);
        tokio::pin!(idle);
        loop {
            tokio::select! {
                outgoing = inbox.recv() => {
                    // The pool has let go of the connection: its end of the channel is closed.
                    let Some(outgoing) = outgoing else { return Failure::Closed };
                    put(&outgoing, &mut to_send);
                    while let Ok(outgoing) = inbox.try_recv() {
                        put(&outgoing, &mut to_send);
                    }
                    match timeout(PATIENCE, writing.write_all(&to_send)).await {
                        Ok(Ok(())) => to_send.clear(),
                        _ => return Failure::Closed,
                    }
                    let _ = timeout(PATIENCE, writing.flush()).await;
                }
                read = reading.read_buf(&mut received) => {
                    if !matches!(read, Ok(1..)) {
                        return Failure::Closed;
                    }
                    self.take(&mut received);
                    if self.is_to_end() {
                        return Failure::Closed;
                    }
                }
                () = &mut idle => {
                    if self.replies.close_if_empty() {
                        return Failure::Closed;
                    }
                    // Somebody waits: however short the idle life, this is none.
                    idle.as_mut().reset(Instant::now() + self.keeping.expire.max(STALLED));
                    continue;
                }
            }
            idle.as_mut().reset(Instant::now() + self.keeping.expire);
        }
    }

    /// Hands on every whole message (RFC 1035 §4.2.2: each behind its length).
    fn take(&self, received: &mut Vec<u8>) {
        let mut rest = &received[..];
        while let Some((length, behind)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(*length));
            let Some((message, behind)) = behind.split_at_checked(length) else {
                break;
            };
            if self.replies.deliver(message) == Delivery::Wrong {
                self.meter.wrong_reply();
            }
            rest = behind;
        }
        let used = received.len() - rest.len();
        received.drain(..used);
        if received.is_empty() && received.capacity() > 4096 {
            *received = Vec::new();
        }
    }

    /// Whether the connection, where nobody waits on it, is too old or one too many.
    fn is_to_end(&self) -> bool {
        if self.replies.load().in_flight > 0 {
            return false;
        }
        let retired = self
            .connection
            .upgrade()
            .is_none_or(|connection| connection.retired.load(Ordering::Relaxed));
        let too_many = self.keeping.max_idle > 0
            && self
                .streams
                .upgrade()
                .is_some_and(|streams| streams.idle_count() > self.keeping.max_idle);
        (retired || too_many) && self.replies.close_if_empty()
    }
}

enum Connected {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

fn put(outgoing: &Outgoing, to_send: &mut Vec<u8>) {
    let mut room = [0; MAX_QUERY];
    let octets = outgoing.packet.under(outgoing.id, &mut room);
    let length = u16::try_from(octets.len()).expect("a query has some hundred octets");
    to_send.extend(length.to_be_bytes());
    to_send.extend(octets);
}
