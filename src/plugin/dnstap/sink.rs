//! Sends messages over an outgoing connection, or to receivers that connect to a listener.
//!
//! A task takes messages from a bounded queue and writes them in batches. A connection that fails is
//! reopened after a backoff; meanwhile messages stay in the queue, and are dropped and counted when it
//! is full. Each accepted connection has a queue of its own. The bytes of all queues are bounded too: a
//! message can have 64 KiB.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime::Handle,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Config, DnstapEndpoint, frames};
use crate::{
    backoff::Backoff,
    error_text,
    tls::{self, ClientAuth, ClientFiles, ServerFiles},
};

/// Timeout of a connect, a handshake and a write.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Timeout of the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two attempts to connect or to listen.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// Delay after a failed accept.
const ACCEPT_DELAY: Duration = Duration::from_millis(250);
/// Interval at which the number of dropped messages is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Messages that are taken from a queue at a time at most.
const BATCH: usize = 256;
/// A write has at most this many bytes, and one message.
const WRITE: usize = 32 << 10;
/// Bytes of a queued message beside its own: its place in a queue and its counts.
const MESSAGE_OVERHEAD: usize = 128;
/// Accepted connections at a time at most. At the limit, the oldest one without a completed handshake is closed
/// for a new one.
const MAX_CONNECTIONS: usize = 64;

/// The queue of messages, and the tasks that send them.
pub(super) struct DnstapSink {
    out: Out,
    dropped: Arc<AtomicU64>,
    /// Bytes of queued messages.
    queued: Arc<AtomicUsize>,
    /// Bound of `queued`.
    max_queued: usize,
    /// On true, or when dropped, the queued messages are sent and connections are closed.
    closing: watch::Sender<bool>,
    /// Closed when all tasks have ended.
    done: Mutex<Option<mpsc::Receiver<()>>>,
    logger: AbortHandle,
}

enum Out {
    /// The queue of the outgoing connection, which is closed when this is dropped.
    One(mpsc::Sender<Bytes>),
    /// The queue of each accepted connection.
    All(Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>),
}

impl DnstapSink {
    /// Begins to connect or to listen. Only invalid TLS files are an error: connecting and listening
    /// are retried.
    pub(super) fn open(config: &Config, runtime: &Handle) -> Result<Self, anyhow::Error> {
        let dropped = Arc::new(AtomicU64::new(0));
        let (closing, closes) = watch::channel(false);
        let (alive, done) = mpsc::channel(1);
        let shutdown = ShutdownSignal {
            closes,
            dropped: Arc::clone(&dropped),
            _alive: alive,
        };
        let out = if config.listen {
            let list = Arc::new(Mutex::new(Vec::new()));
            let listener = ReceiverListener {
                socket: config.socket.clone(),
                acceptor: acceptor(config)?,
                queue: config.queue,
                list: Arc::clone(&list),
                shutdown,
            };
            runtime.spawn(listener.run());
            Out::All(list)
        } else {
            let (sender, queue) = mpsc::channel(config.queue);
            let connection = Connection {
                socket: config.socket.clone(),
                connector: connector(config)?,
                write_buffer: config.write_buffer,
                queue,
                shutdown,
            };
            runtime.spawn(connection.run());
            Out::One(sender)
        };
        let logger = runtime.spawn(log_dropped(Arc::clone(&dropped)));
        Ok(Self {
            out,
            dropped,
            queued: Arc::default(),
            max_queued: config.queue_bytes(),
            closing,
            done: Mutex::new(Some(done)),
            logger: logger.abort_handle(),
        })
    }

    /// Sends the queued messages, closes the connections, and completes when that is done.
    pub(super) fn end(&self) -> impl Future<Output = ()> + Send + 'static {
        self.closing.send_replace(true);
        let done = self.done.lock().take();
        async move {
            if let Some(mut done) = done {
                done.recv().await;
            }
        }
    }

    /// Adds a message to each queue, or drops and counts it where that is full.
    pub(super) fn push(&self, message: Vec<u8>) {
        let Some(message) = QueuedMessage::new(message, &self.queued, self.max_queued) else {
            let queues = match &self.out {
                Out::One(_) => 1,
                Out::All(list) => list.lock().len() as u64,
            };
            self.dropped.fetch_add(queues, Ordering::Relaxed);
            return;
        };
        let message = Bytes::from_owner(message);
        match &self.out {
            Out::One(queue) => self.offer(queue, message),
            Out::All(list) => {
                for queue in &*list.lock() {
                    self.offer(queue, message.clone());
                }
            }
        }
    }

    fn offer(&self, queue: &mpsc::Sender<Bytes>, message: Bytes) {
        if queue.try_send(message).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A message, counted until the last queue has written it.
struct QueuedMessage {
    message: Vec<u8>,
    queued: Arc<AtomicUsize>,
}

impl QueuedMessage {
    /// `None` if the bytes of all messages would exceed the bound.
    fn new(message: Vec<u8>, queued: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let this = Self {
            message,
            queued: Arc::clone(queued),
        };
        // Of concurrent callers at the bound, all may be refused.
        let before = queued.fetch_add(this.size(), Ordering::Relaxed);
        (before + this.size() <= max).then_some(this)
    }

    fn size(&self) -> usize {
        self.message.capacity() + MESSAGE_OVERHEAD
    }
}

impl AsRef<[u8]> for QueuedMessage {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

impl Drop for QueuedMessage {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.size(), Ordering::Relaxed);
    }
}

/// Bytes of all writes at a time at most.
pub(super) fn write_bytes(listen: bool) -> usize {
    WRITE * if listen { MAX_CONNECTIONS } else { 1 }
}

impl Drop for DnstapSink {
    fn drop(&mut self) {
        self.logger.abort();
    }
}

/// The shutdown signal of a sink, held by each of its tasks.
#[derive(Clone)]
struct ShutdownSignal {
    closes: watch::Receiver<bool>,
    dropped: Arc<AtomicU64>,
    _alive: mpsc::Sender<()>,
}

impl ShutdownSignal {
    /// Completes at the shutdown of the sink.
    async fn closed(&mut self) {
        // An error means that the sink was dropped.
        let _ = self.closes.wait_for(|closing| *closing).await;
    }

    /// Sleeps until the next attempt. False at the shutdown of the sink.
    async fn sleep(&mut self, backoff: &mut Backoff) -> bool {
        tokio::select! {
            () = tokio::time::sleep(backoff.delay()) => true,
            () = self.closed() => false,
        }
    }
}

async fn log_dropped(dropped: Arc<AtomicU64>) {
    loop {
        tokio::time::sleep(LOG_INTERVAL).await;
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            tracing::warn!(target: "plugin/dnstap", "Dropped dnstap messages: {count}");
        }
    }
}

/// The outgoing connection to a receiver.
struct Connection {
    socket: DnstapEndpoint,
    connector: Option<TlsConnector>,
    write_buffer: usize,
    queue: mpsc::Receiver<Bytes>,
    shutdown: ShutdownSignal,
}

/// Why a connection ended.
enum ConnectionEnd {
    /// The queue was closed and is empty.
    Done,
    /// The connection failed.
    Broken(io::Error),
}

impl Connection {
    async fn run(mut self) {
        let mut backoff = BACKOFF;
        let mut logged = false;
        loop {
            let end = match timeout(TIMEOUT, self.connect()).await {
                Ok(Ok(mut stream)) => {
                    backoff.reset();
                    logged = false;
                    feed(&mut stream, &mut self.queue, &mut self.shutdown).await
                }
                Ok(Err(error)) => ConnectionEnd::Broken(error),
                Err(_) => ConnectionEnd::Broken(io::ErrorKind::TimedOut.into()),
            };
            match end {
                ConnectionEnd::Done => return,
                ConnectionEnd::Broken(error) => {
                    if !std::mem::replace(&mut logged, true) {
                        let (socket, why) = (&self.socket, error_text::io(&error));
                        tracing::error!(
                            target: "plugin/dnstap",
                            "No connection to dnstap endpoint {socket}: {why}; trying again"
                        );
                    }
                }
            }
            if !self.shutdown.sleep(&mut backoff).await {
                return;
            }
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let mut stream: Box<dyn Stream> = match (&self.socket, &self.connector) {
            (DnstapEndpoint::Unix(path), _) => Box::new(UnixStream::connect(path).await?),
            (DnstapEndpoint::Tcp(host, port) | DnstapEndpoint::Tls(host, port), connector) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // Best effort: the system may limit the size.
                let _ = socket2::SockRef::from(&stream).set_send_buffer_size(self.write_buffer);
                match connector {
                    None => Box::new(stream),
                    Some(connector) => {
                        let name = ServerName::try_from(host.clone())
                            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                        Box::new(connector.connect(name, stream).await?)
                    }
                }
            }
        };
        frames::open(&mut stream).await?;
        Ok(stream)
    }
}

/// Writes queued messages until the queue is closed or the stream fails.
async fn feed<S>(
    stream: &mut S,
    queue: &mut mpsc::Receiver<Bytes>,
    shutdown: &mut ShutdownSignal,
) -> ConnectionEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut batch = Vec::with_capacity(BATCH);
    let mut buffer = Vec::new();
    let mut closing = false;
    loop {
        let count = tokio::select! {
            biased;
            count = queue.recv_many(&mut batch, BATCH) => count,
            () = shutdown.closed(), if !closing => {
                closing = true;
                queue.close();
                continue;
            }
        };
        if count == 0 {
            let _ = timeout(CLOSE_TIMEOUT, frames::close(stream)).await;
            return ConnectionEnd::Done;
        }
        let mut written = 0;
        while written < batch.len() {
            buffer.clear();
            let mut next = written;
            while next < batch.len() && buffer.len() < WRITE {
                frames::put(&mut buffer, &batch[next]);
                next += 1;
            }
            let writing = async {
                stream.write_all(&buffer).await?;
                stream.flush().await
            };
            let result = timeout(TIMEOUT, writing).await;
            if let Err(error) = result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                let lost = (batch.len() - written) as u64;
                shutdown.dropped.fetch_add(lost, Ordering::Relaxed);
                return ConnectionEnd::Broken(error);
            }
            written = next;
        }
        // Before the wait for the next ones: their bytes count.
        batch.clear();
        buffer.shrink_to(WRITE);
    }
}

/// Accepts connections of receivers.
struct ReceiverListener {
    socket: DnstapEndpoint,
    acceptor: Option<TlsAcceptor>,
    queue: usize,
    list: Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>,
    shutdown: ShutdownSignal,
}

enum Bound {
    Unix {
        // Declared, and so dropped, first: after a close another listener could already own the path.
        _file: Unlink,
        listener: UnixListener,
    },
    Tcp(TcpListener),
}

/// Removes the socket's file when dropped.
struct Unlink(std::path::PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl ReceiverListener {
    async fn run(mut self) {
        let mut backoff = BACKOFF;
        let bound = loop {
            match self.bind().await {
                Ok(bound) => break bound,
                Err(error) => {
                    let (socket, why) = (&self.socket, error_text::io(&error));
                    tracing::error!(
                        target: "plugin/dnstap",
                        "Failed to start dnstap listener at {socket}: {why}; trying again"
                    );
                }
            }
            if !self.shutdown.sleep(&mut backoff).await {
                return;
            }
        };
        let mut clients = JoinSet::new();
        let mut opening: VecDeque<(AbortHandle, Arc<AtomicBool>)> = VecDeque::new();
        loop {
            let accepted: io::Result<Box<dyn Stream>> = tokio::select! {
                accepted = bound.accept() => accepted,
                Some(_) = clients.join_next() => continue,
                () = self.shutdown.closed() => break,
            };
            opening
                .retain(|(task, is_open)| !task.is_finished() && !is_open.load(Ordering::Relaxed));
            match accepted {
                Ok(stream) => {
                    let is_full = clients.len() >= MAX_CONNECTIONS;
                    let evicted = is_full.then(|| opening.pop_front()).flatten();
                    if let Some((task, _)) = &evicted {
                        task.abort();
                    }
                    if !is_full || evicted.is_some() {
                        let client = Client {
                            acceptor: self.acceptor.clone(),
                            capacity: self.queue,
                            list: Arc::clone(&self.list),
                            shutdown: self.shutdown.clone(),
                            is_open: Arc::default(),
                        };
                        let is_open = Arc::clone(&client.is_open);
                        opening.push_back((clients.spawn(client.serve(stream)), is_open));
                        continue;
                    }
                    tracing::warn!(
                        target: "plugin/dnstap",
                        "More than {MAX_CONNECTIONS} dnstap clients: one is turned away"
                    );
                }
                Err(error) => {
                    tracing::warn!(
                        target: "plugin/dnstap",
                        "Error accepting dnstap connection: {}",
                        error_text::io(&error)
                    );
                    // Most likely out of file descriptors: others need time to be closed.
                    tokio::time::sleep(ACCEPT_DELAY).await;
                }
            }
        }
        drop(bound);
        while clients.join_next().await.is_some() {}
    }

    async fn bind(&self) -> io::Result<Bound> {
        match &self.socket {
            DnstapEndpoint::Unix(path) => {
                // A socket file that refuses connections is left over from an earlier process.
                if is_socket(path) && UnixStream::connect(path).await.is_err() {
                    std::fs::remove_file(path)?;
                }
                let listener = UnixListener::bind(path)?;
                Ok(Bound::Unix {
                    _file: Unlink(path.clone()),
                    listener,
                })
            }
            DnstapEndpoint::Tcp(host, port) | DnstapEndpoint::Tls(host, port) => {
                let host = if host.is_empty() { "::" } else { host };
                Ok(Bound::Tcp(TcpListener::bind((host, *port)).await?))
            }
        }
    }
}

impl Bound {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix { listener, .. } => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// An accepted connection.
struct Client {
    acceptor: Option<TlsAcceptor>,
    /// Capacity of its queue.
    capacity: usize,
    list: Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>,
    shutdown: ShutdownSignal,
    /// Whether the handshake is complete.
    is_open: Arc<AtomicBool>,
}

impl Client {
    async fn serve(mut self, stream: Box<dyn Stream>) {
        let acceptor = self.acceptor.take();
        let opening = async {
            let mut stream: Box<dyn Stream> = match acceptor {
                None => stream,
                Some(acceptor) => Box::new(acceptor.accept(stream).await?),
            };
            frames::open(&mut stream).await?;
            io::Result::Ok(stream)
        };
        let opened = timeout(TIMEOUT, opening).await;
        let mut stream = match opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(error) => {
                let why = error_text::io(&error);
                tracing::warn!(target: "plugin/dnstap", "A dnstap client did not get ready: {why}");
                return;
            }
        };
        self.is_open.store(true, Ordering::Relaxed);
        let (sender, mut queue) = mpsc::channel(self.capacity);
        self.list.lock().push(sender.clone());
        feed(&mut stream, &mut queue, &mut self.shutdown).await;
        self.list.lock().retain(|one| !one.same_channel(&sender));
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl std::fmt::Display for DnstapEndpoint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
            Self::Tcp(host, port) => write!(out, "tcp://{host}:{port}"),
            Self::Tls(host, port) => write!(out, "tls://{host}:{port}"),
        }
    }
}

fn connector(config: &Config) -> Result<Option<TlsConnector>, anyhow::Error> {
    if !matches!(config.socket, DnstapEndpoint::Tls(..)) {
        return Ok(None);
    }
    let client = if config.skip_verify {
        tls::unchecked()?
    } else {
        ClientFiles::default().load()?
    };
    Ok(Some(TlsConnector::from(client)))
}

fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, anyhow::Error> {
    let (DnstapEndpoint::Tls(..), Some((certificate, key, authority))) =
        (&config.socket, &config.tls)
    else {
        return Ok(None);
    };
    let client_auth = match (authority, config.skip_verify) {
        (None, _) => ClientAuth::NoCertificate,
        (Some(_), true) => ClientAuth::VerifyIfGiven,
        (Some(_), false) => ClientAuth::RequireAndVerify,
    };
    let files = ServerFiles {
        authority: authority.clone(),
        client_auth,
        ..ServerFiles::new(certificate, key)
    };
    Ok(Some(TlsAcceptor::from(Arc::new(files.load()?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_messages_are_bounded_until_they_are_dropped() {
        let queued = Arc::default();
        let new = |size| QueuedMessage::new(vec![0; size], &queued, 10_000).map(Bytes::from_owner);
        let first = new(6000).unwrap();
        let other = first.clone();
        assert!(new(6000).is_none());
        let small = new(1000).unwrap();
        drop(first);
        assert!(new(6000).is_none(), "another queue has it");
        drop(other);
        assert_eq!(new(6000).unwrap().len(), 6000);
        drop(small);
        assert_eq!(queued.load(Ordering::Relaxed), 0);
    }
}
