//! Queries over TCP and TLS: a pool of connections to one upstream, with queries pipelined on each (RFC
//! 7766 section 6.2.1.1).
//!
//! Each connection is a task that connects, writes queries and reads replies. The pool grows by one when
//! the least loaded connection has as many queries in flight as there are connections: one connection for
//! an occasional query, four for sixteen concurrent ones. This avoids a handshake per query and bounds how
//! many queries one slow connection delays.

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
    meter::{Proto, UpstreamMetrics},
    packet::{MAX_QUERY, Packet},
    pending_replies::{Delivery, MAX_IN_FLIGHT, PendingReplies, PendingReply},
    tls::Tls,
};
use crate::{interfaces::local_end, reply::Reply};

/// Bound on the connections to one upstream.
const MAX_CONNECTIONS: usize = 64;
/// Timeout of connecting with the TLS handshake, and of one write.
const TIMEOUT: Duration = Duration::from_secs(4);
/// A connection with queries in flight and no progress for this long takes no new ones.
const STALLED: Duration = Duration::from_millis(700);

/// Connection pool settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Idle timeout of a connection.
    pub expire: Duration,
    /// Maximum age of a connection for a new query; zero for no limit.
    pub max_age: Duration,
    /// Maximum number of idle connections; zero for no limit.
    pub max_idle: usize,
}

/// The connection pool of one upstream.
#[derive(Debug)]
pub(super) struct Streams {
    server: SocketAddr,
    source: Option<IpAddr>,
    tls: Option<Tls>,
    pool: PoolSettings,
    runtime: Handle,
    meter: Arc<UpstreamMetrics>,
    connections: Mutex<Vec<Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    replies: Arc<PendingReplies>,
    outbox: mpsc::Sender<Outgoing>,
    opened: Instant,
    /// Takes no new queries and closes after the last one in flight.
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
        pool: PoolSettings,
        runtime: Handle,
        meter: Arc<UpstreamMetrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            server,
            source,
            tls,
            pool,
            runtime,
            meter,
            connections: Mutex::default(),
        })
    }

    /// Sends the query and waits for its reply; the caller applies the timeout. If a pooled connection was
    /// closed by the upstream meanwhile, retries once over a new one.
    pub(super) async fn exchange(self: &Arc<Self>, packet: &Arc<Packet>) -> Result<Reply, Failure> {
        let mut fresh = false;
        loop {
            let (connection, pending) = self.assign(packet, &mut fresh)?;
            let outgoing = Outgoing {
                packet: Arc::clone(packet),
                id: pending.id(),
            };
            let sent = connection.outbox.try_send(outgoing);
            drop(connection);
            let result = match sent {
                Ok(()) => pending.await,
                Err(mpsc::error::TrySendError::Full(_)) => return Err(Failure::Busy),
                Err(mpsc::error::TrySendError::Closed(_)) => Err(Failure::Closed),
            };
            match result {
                Err(Failure::Closed) if !fresh => fresh = true,
                result => return result,
            }
        }
    }

    /// Adds the query to a connection. With `fresh` set, opens a new one; sets `fresh` if it opened one.
    fn assign(
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
        let task = ConnectionTask {
            replies: Arc::clone(&connection.replies),
            connection: Arc::downgrade(&connection),
            streams: Arc::downgrade(self),
            pool: self.pool,
            meter: Arc::clone(&self.meter),
        };
        let dial = dial(self.server, self.source);
        self.runtime.spawn(task.run(dial, self.tls.clone(), inbox));
        Ok((connection, pending))
    }

    /// The connection for a new query; `None` if one is to be opened.
    fn choose(&self, connections: &[Arc<Connection>]) -> Option<Arc<Connection>> {
        let count = connections.len();
        let (in_flight, connection) = connections
            .iter()
            .filter_map(|connection| Some((self.in_flight_if_usable(connection)?, connection)))
            .min_by_key(|(in_flight, _)| *in_flight)?;
        let enough = in_flight == 0 || in_flight < count || count >= MAX_CONNECTIONS;
        enough.then(|| Arc::clone(connection))
    }

    /// The number of queries in flight on the connection, or `None` if it takes no more.
    fn in_flight_if_usable(&self, connection: &Connection) -> Option<usize> {
        let age = connection.opened.elapsed();
        if !self.pool.max_age.is_zero() && age >= self.pool.max_age {
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

    fn remove(&self, replies: &Arc<PendingReplies>) {
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

/// The state of a connection's task. Holds no strong reference to the pool, so that the pool can be
/// dropped.
struct ConnectionTask {
    replies: Arc<PendingReplies>,
    connection: Weak<Connection>,
    streams: Weak<Streams>,
    pool: PoolSettings,
    meter: Arc<UpstreamMetrics>,
}

impl ConnectionTask {
    async fn run(
        self,
        dial: impl Future<Output = io::Result<TcpStream>>,
        tls: Option<Tls>,
        inbox: mpsc::Receiver<Outgoing>,
    ) {
        let end = match self.connect(dial, tls.as_ref()).await {
            Ok(ConnectedStream::Plain(stream)) => self.drive(stream, inbox).await,
            Ok(ConnectedStream::Tls(stream)) => self.drive(stream, inbox).await,
            Err(failure) => failure,
        };
        if let Some(streams) = self.streams.upgrade() {
            streams.remove(&self.replies);
        }
        self.replies.close(&end);
    }

    async fn connect(
        &self,
        dial: impl Future<Output = io::Result<TcpStream>>,
        tls: Option<&Tls>,
    ) -> Result<ConnectedStream, Failure> {
        let connecting = async {
            let stream = dial.await.map_err(|error| Failure::from(&error))?;
            let proto = if tls.is_some() {
                Proto::Tls
            } else {
                Proto::Tcp
            };
            self.replies
                .connected(self.meter.source(stream.local_addr().ok(), proto));
            Ok(match tls {
                None => ConnectedStream::Plain(stream),
                Some(tls) => ConnectedStream::Tls(Box::new(tls.connect(stream).await?)),
            })
        };
        timeout(TIMEOUT, connecting)
            .await
            .unwrap_or(Err(Failure::Silent))
    }

    /// Writes queries and reads replies until the connection ends; returns the reason.
    async fn drive<S>(&self, stream: S, mut inbox: mpsc::Receiver<Outgoing>) -> Failure
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let mut received = Vec::new();
        let mut to_send = Vec::new();
        let idle = sleep_until(Instant::now() + self.pool.expire);
        tokio::pin!(idle);
        loop {
            tokio::select! {
                outgoing = inbox.recv() => {
                    // The pool has dropped the connection and with it the sending half of the channel.
                    let Some(outgoing) = outgoing else { return Failure::Closed };
                    frame(&outgoing, &mut to_send);
                    while let Ok(outgoing) = inbox.try_recv() {
                        frame(&outgoing, &mut to_send);
                    }
                    match timeout(TIMEOUT, writing.write_all(&to_send)).await {
                        Ok(Ok(())) => to_send.clear(),
                        _ => return Failure::Closed,
                    }
                    let _ = timeout(TIMEOUT, writing.flush()).await;
                }
                read = reading.read_buf(&mut received) => {
                    if !matches!(read, Ok(1..)) {
                        return Failure::Closed;
                    }
                    self.deliver_received(&mut received);
                    if self.should_close() {
                        return Failure::Closed;
                    }
                }
                () = &mut idle => {
                    if self.replies.close_if_empty() {
                        return Failure::Closed;
                    }
                    // Queries are in flight: not idle, however short the idle timeout is.
                    idle.as_mut().reset(Instant::now() + self.pool.expire.max(STALLED));
                    continue;
                }
            }
            idle.as_mut().reset(Instant::now() + self.pool.expire);
        }
    }

    /// Delivers every complete message. Each is preceded by its length in two bytes (RFC 1035 section
    /// 4.2.2).
    fn deliver_received(&self, received: &mut Vec<u8>) {
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

    /// Whether the connection is to close: it has no query in flight, and is retired or exceeds `max_idle`.
    fn should_close(&self) -> bool {
        if self.replies.load().in_flight > 0 {
            return false;
        }
        let retired = self
            .connection
            .upgrade()
            .is_none_or(|connection| connection.retired.load(Ordering::Relaxed));
        let too_many = self.pool.max_idle > 0
            && self
                .streams
                .upgrade()
                .is_some_and(|streams| streams.idle_count() > self.pool.max_idle);
        (retired || too_many) && self.replies.close_if_empty()
    }
}

enum ConnectedStream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

fn frame(outgoing: &Outgoing, to_send: &mut Vec<u8>) {
    let mut buffer = [0; MAX_QUERY];
    let bytes = outgoing.packet.under(outgoing.id, &mut buffer);
    let length = u16::try_from(bytes.len()).expect("a query has some hundred bytes");
    to_send.extend(length.to_be_bytes());
    to_send.extend(bytes);
}
