//! Where messages go: over a connection of ours, or to whoever connects to us.
//!
//! A task takes messages from a bounded queue and writes them in batches. A connection that breaks
//! is made anew; meanwhile messages wait in the queue, and are dropped and counted when it is
//! full. Whoever connects to us has a queue of its own.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime::Handle,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Config, Socket, frames};
use crate::{
    backoff::Backoff,
    plain,
    tls::{ClientAuth, Files},
    upstream::TlsFiles,
};

/// How long a connection, a handshake and a write may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a good-bye may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Between two attempts to connect or to listen.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// Between two attempts to accept a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(250);
/// How often what was dropped is told.
const TELL: Duration = Duration::from_secs(10);
/// Messages written at once.
const BATCH: usize = 256;
/// Who may be connected to us at a time.
const MAX_LISTENERS: usize = 64;

/// The queue of messages, and the task behind it.
pub(super) struct Sink {
    out: Out,
    dropped: Arc<AtomicU64>,
    /// Once it says so, or goes, what waits is sent and connections are closed.
    closing: watch::Sender<bool>,
    /// Ends when all tasks have.
    done: Mutex<Option<mpsc::Receiver<()>>>,
    telling: AbortHandle,
}

enum Out {
    /// To our one connection, which ends when this goes.
    One(mpsc::Sender<Bytes>),
    /// To each who has connected.
    All(Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>),
}

impl Sink {
    /// Begins to connect or to listen. Only what can never work is an error.
    pub(super) fn open(config: &Config, runtime: &Handle) -> Result<Self, anyhow::Error> {
        let dropped = Arc::new(AtomicU64::new(0));
        let (closing, closes) = watch::channel(false);
        let (alive, done) = mpsc::channel(1);
        let fate = Fate {
            closes,
            dropped: Arc::clone(&dropped),
            _alive: alive,
        };
        let out = if config.listen {
            let list = Arc::new(Mutex::new(Vec::new()));
            let listener = Listener {
                socket: config.socket.clone(),
                acceptor: acceptor(config)?,
                queue: config.queue,
                list: Arc::clone(&list),
                fate,
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
                fate,
            };
            runtime.spawn(connection.run());
            Out::One(sender)
        };
        let telling = runtime.spawn(tell_dropped(Arc::clone(&dropped)));
        Ok(Self {
            out,
            dropped,
            closing,
            done: Mutex::new(Some(done)),
            telling: telling.abort_handle(),
        })
    }

    /// Sends what waits, says good-bye, and ends.
    pub(super) fn end(&self) -> impl Future<Output = ()> + Send + 'static {
        self.closing.send_replace(true);
        let done = self.done.lock().take();
        async move {
            if let Some(mut done) = done {
                done.recv().await;
            }
        }
    }

    /// Adds a message to the queue, if there is room.
    pub(super) fn push(&self, message: Vec<u8>) {
        let message = Bytes::from(message);
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

impl Drop for Sink {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

/// What the tasks of a sink know of its end.
#[derive(Clone)]
struct Fate {
    closes: watch::Receiver<bool>,
    dropped: Arc<AtomicU64>,
    _alive: mpsc::Sender<()>,
}

impl Fate {
    /// Completes when it is time to close.
    async fn closes(&mut self) {
        // An error says that the sink is gone.
        let _ = self.closes.wait_for(|closing| *closing).await;
    }

    /// Sleeps until the next attempt; false where it is time to close instead.
    async fn waits(&mut self, backoff: &mut Backoff) -> bool {
        tokio::select! {
            () = tokio::time::sleep(backoff.delay()) => true,
            () = self.closes() => false,
        }
    }
}

async fn tell_dropped(dropped: Arc<AtomicU64>) {
    loop {
        tokio::time::sleep(TELL).await;
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            tracing::warn!(target: "plugin/dnstap", "Dropped dnstap messages: {count}");
        }
    }
}

/// Our connection to whoever takes messages.
struct Connection {
    socket: Socket,
    connector: Option<TlsConnector>,
    write_buffer: usize,
    queue: mpsc::Receiver<Bytes>,
    fate: Fate,
}

/// Why a connection is over.
enum End {
    /// There will be no more messages.
    Done,
    /// It broke.
    Broken(io::Error),
}

impl Connection {
    async fn run(mut self) {
        let mut backoff = BACKOFF;
        let mut told = false;
        loop {
            let end = match timeout(PATIENCE, self.connect()).await {
                Ok(Ok(mut stream)) => {
                    backoff.reset();
                    told = false;
                    feed(&mut stream, &mut self.queue, &mut self.fate).await
                }
                Ok(Err(error)) => End::Broken(error),
                Err(_) => End::Broken(io::ErrorKind::TimedOut.into()),
            };
            match end {
                End::Done => return,
                End::Broken(error) => {
                    if !std::mem::replace(&mut told, true) {
                        let (socket, why) = (&self.socket, plain::io(&error));
                        tracing::error!(
                            target: "plugin/dnstap",
                            "No connection to dnstap endpoint {socket}: {why}; trying again"
                        );
                    }
                }
            }
            if !self.fate.waits(&mut backoff).await {
                return;
            }
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let mut stream: Box<dyn Stream> = match (&self.socket, &self.connector) {
            (Socket::Unix(path), _) => Box::new(UnixStream::connect(path).await?),
            (Socket::Tcp(host, port) | Socket::Tls(host, port), connector) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // As large as the system lets it be; what is missing is not worth a failure.
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

/// Writes what comes, until there is no more or the stream breaks.
async fn feed<S>(stream: &mut S, queue: &mut mpsc::Receiver<Bytes>, fate: &mut Fate) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut batch = Vec::with_capacity(BATCH);
    let mut octets = Vec::new();
    let mut closing = false;
    loop {
        batch.clear();
        octets.clear();
        let count = tokio::select! {
            biased;
            count = queue.recv_many(&mut batch, BATCH) => count,
            () = fate.closes(), if !closing => {
                closing = true;
                queue.close();
                continue;
            }
        };
        if count == 0 {
            let _ = timeout(FAREWELL, frames::close(stream)).await;
            return End::Done;
        }
        for message in &batch {
            frames::put(&mut octets, message);
        }
        let writing = async {
            stream.write_all(&octets).await?;
            stream.flush().await
        };
        let written = timeout(PATIENCE, writing).await;
        if let Err(error) = written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            fate.dropped.fetch_add(count as u64, Ordering::Relaxed);
            return End::Broken(error);
        }
    }
}

/// Takes in whoever connects to us.
struct Listener {
    socket: Socket,
    acceptor: Option<TlsAcceptor>,
    queue: usize,
    list: Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>,
    fate: Fate,
}

enum Bound {
    Unix {
        // Goes first: another listener may stand there at once.
        _file: Unlink,
        listener: UnixListener,
    },
    Tcp(TcpListener),
}

/// Removes the socket's file when we go.
struct Unlink(std::path::PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    async fn run(mut self) {
        let mut backoff = BACKOFF;
        let bound = loop {
            match self.bind().await {
                Ok(bound) => break bound,
                Err(error) => {
                    let (socket, why) = (&self.socket, plain::io(&error));
                    tracing::error!(
                        target: "plugin/dnstap",
                        "Failed to start dnstap listener at {socket}: {why}; trying again"
                    );
                }
            }
            if !self.fate.waits(&mut backoff).await {
                return;
            }
        };
        let mut clients = JoinSet::new();
        loop {
            let accepted: io::Result<Box<dyn Stream>> = tokio::select! {
                accepted = bound.accept() => accepted,
                Some(_) = clients.join_next() => continue,
                () = self.fate.closes() => break,
            };
            match accepted {
                Ok(stream) if clients.len() < MAX_LISTENERS => {
                    let (list, fate) = (Arc::clone(&self.list), self.fate.clone());
                    let acceptor = self.acceptor.clone();
                    clients.spawn(serve(stream, acceptor, self.queue, list, fate));
                }
                Ok(_) => {
                    tracing::warn!(
                        target: "plugin/dnstap",
                        "More than {MAX_LISTENERS} dnstap clients: one is turned away"
                    );
                }
                Err(error) => {
                    tracing::warn!(
                        target: "plugin/dnstap",
                        "Error accepting dnstap connection: {}",
                        plain::io(&error)
                    );
                    // Too few descriptors, most likely: others need time to go.
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        drop(bound);
        while clients.join_next().await.is_some() {}
    }

    async fn bind(&self) -> io::Result<Bound> {
        match &self.socket {
            Socket::Unix(path) => {
                // A file that nobody listens behind is left over from before.
                if is_socket(path) && UnixStream::connect(path).await.is_err() {
                    std::fs::remove_file(path)?;
                }
                let listener = UnixListener::bind(path)?;
                Ok(Bound::Unix {
                    _file: Unlink(path.clone()),
                    listener,
                })
            }
            Socket::Tcp(host, port) | Socket::Tls(host, port) => {
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

async fn serve(
    stream: Box<dyn Stream>,
    acceptor: Option<TlsAcceptor>,
    room: usize,
    list: Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>,
    mut fate: Fate,
) {
    let opening = async {
        let mut stream: Box<dyn Stream> = match acceptor {
            None => stream,
            Some(acceptor) => Box::new(acceptor.accept(stream).await?),
        };
        frames::open(&mut stream).await?;
        io::Result::Ok(stream)
    };
    let opened = timeout(PATIENCE, opening).await;
    let mut stream = match opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(target: "plugin/dnstap", "A dnstap client did not get ready: {error}");
            return;
        }
    };
    let (sender, mut queue) = mpsc::channel(room);
    list.lock().push(sender.clone());
    feed(&mut stream, &mut queue, &mut fate).await;
    list.lock().retain(|one| !one.same_channel(&sender));
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl std::fmt::Display for Socket {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
            Self::Tcp(host, port) => write!(out, "tcp://{host}:{port}"),
            Self::Tls(host, port) => write!(out, "tls://{host}:{port}"),
        }
    }
}

fn connector(config: &Config) -> Result<Option<TlsConnector>, anyhow::Error> {
    if !matches!(config.socket, Socket::Tls(..)) {
        return Ok(None);
    }
    let client = if config.skip_verify {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Anybody(Arc::clone(&provider)));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        Arc::new(builder.with_no_client_auth())
    } else {
        TlsFiles::default().load()?
    };
    Ok(Some(TlsConnector::from(client)))
}

fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, anyhow::Error> {
    let (Socket::Tls(..), Some((certificate, key, authority))) = (&config.socket, &config.tls)
    else {
        return Ok(None);
    };
    let client_auth = match (authority, config.skip_verify) {
        (None, _) => ClientAuth::NoCertificate,
        (Some(_), true) => ClientAuth::VerifyIfGiven,
        (Some(_), false) => ClientAuth::RequireAndVerify,
    };
    let files = Files {
        authority: authority.clone(),
        client_auth,
        ..Files::new(certificate, key)
    };
    Ok(Some(TlsAcceptor::from(Arc::new(files.load()?))))
}

/// Takes any certificate: what `skipverify` asks for.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
