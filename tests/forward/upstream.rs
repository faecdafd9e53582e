//! A scripted upstream server on loopback.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lodestone::{
    edns::Options,
    message::{Writer, read_query},
    query::{Edns, Query, Question, Transport},
    reply::{Data, Reply, Why},
    wire::{Class, Header, Name, Rcode, Type},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    sync::{Notify, mpsc},
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

/// Media type of DNS messages.
const MESSAGE: &str = "application/dns-message";

/// A received query.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Number of earlier queries.
    pub number: usize,
    pub header: Header,
    pub question: Question,
    pub edns: Option<Edns>,
    /// Echoed in every answer.
    pub options: Options,
    pub over: Transport,
    pub from: SocketAddr,
    /// Number of the connection.
    pub connection: usize,
}

/// An action of the script; several are performed in order.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answer with an A record with this last byte.
    Answer(u8),
    /// Answer with this rcode and no records.
    Code(Rcode),
    /// Answer with these bytes, with the id of the query.
    Octets(Vec<u8>),
    /// Answer with a wrong id.
    WrongId,
    /// Answer with another question.
    WrongQuestion,
    /// Answer without records, with TC.
    Truncated,
    /// Answer with this many A records.
    Many(u8),
    /// The same, cut after this many bytes with unchanged counts, with or without TC.
    Cut(u8, usize, bool),
    /// Wait.
    After(Duration),
    /// Wait for [`Upstream::go`].
    AfterGo,
    /// Answer with this HTTP status.
    Status(u16),
    /// Close the stream, or a connection with a single stream.
    Close,
    /// Write these bytes to the QUIC stream and finish it.
    Raw(Vec<u8>),
    /// Reset the QUIC or HTTP/2 stream.
    Reset,
    /// Never answer, and record the code with which the QUIC stream is stopped.
    NoteStop,
}

type Script = dyn Fn(&Asked) -> Vec<Act> + Send + Sync;

/// The server, stopped on drop.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    asked: Mutex<Vec<Asked>>,
    requests: Mutex<Vec<(String, String, String)>>,
    codes: Mutex<Vec<(&'static str, u64)>>,
    came: Notify,
    go: Notify,
}

impl Upstream {
    /// UDP and TCP on one port.
    pub async fn start(script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::start_on(([127, 0, 0, 1], 0).into(), None, script).await
    }

    /// UDP, and TLS instead of TCP.
    pub async fn start_tls(
        acceptor: TlsAcceptor,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(([127, 0, 0, 1], 0).into(), Some(acceptor), script).await
    }

    /// UDP and TCP on this address.
    pub async fn start_on(
        address: SocketAddr,
        acceptor: Option<TlsAcceptor>,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind(address).await.unwrap();
            // Another process may use the port for UDP.
            match UdpSocket::bind(tcp.local_addr().unwrap()).await {
                Ok(udp) => break (udp, tcp),
                Err(error) if address.port() != 0 => panic!("{error}"),
                Err(_) => {}
            }
        };
        let address = tcp.local_addr().unwrap();
        let shared = Shared::new(script);
        let tasks = vec![
            tokio::spawn(Arc::clone(&shared).datagrams(Arc::new(udp))).abort_handle(),
            tokio::spawn(Arc::clone(&shared).listen(tcp, acceptor)).abort_handle(),
        ];
        Self {
            address,
            shared,
            tasks,
        }
    }

    /// HTTP/2 over TLS, DNS messages at `/dns-query` (RFC 8484).
    pub async fn start_https(
        tls: Arc<rustls::ServerConfig>,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared::new(script);
        let serve = Arc::clone(&shared).https(listener, tls.into());
        Self {
            address,
            tasks: vec![tokio::spawn(serve).abort_handle()],
            shared,
        }
    }

    /// DNS over QUIC (RFC 9250).
    pub fn start_quic(
        tls: Arc<rustls::ServerConfig>,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let endpoint = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let shared = Shared::new(script);
        let serve = Arc::clone(&shared).quic(endpoint);
        Self {
            address,
            tasks: vec![tokio::spawn(serve).abort_handle()],
            shared,
        }
    }

    /// Received HTTP requests: method, URL and content type.
    pub fn requests(&self) -> Vec<(String, String, String)> {
        self.shared.requests.lock().clone()
    }

    /// Codes of closed QUIC connections (`closed`) and stopped streams (`stopped`), once there are
    /// `count`.
    pub async fn codes(&self, count: usize) -> Vec<(&'static str, u64)> {
        loop {
            let came = self.shared.came.notified();
            let codes = self.shared.codes.lock().clone();
            if codes.len() >= count {
                return codes;
            }
            came.await;
        }
    }

    /// An upstream that never answers.
    pub async fn silent() -> Self {
        Self::start(|_| vec![]).await
    }

    /// An upstream with one answer.
    pub async fn answering(last: u8) -> Self {
        Self::start(move |_| vec![Act::Answer(last)]).await
    }

    /// Replaces the script.
    pub fn now(&self, script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) {
        *self.shared.script.lock() = Arc::new(script);
    }

    /// The queries received so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().clone()
    }

    /// Number of A queries received so far; health checks query other types.
    pub fn count(&self) -> usize {
        let asked = self.shared.asked.lock();
        asked
            .iter()
            .filter(|one| one.question.rtype == Type::A)
            .count()
    }

    /// Waits until `count` queries have been received.
    pub async fn came(&self, count: usize) {
        loop {
            let came = self.shared.came.notified();
            if self.shared.asked.lock().len() >= count {
                return;
            }
            came.await;
        }
    }

    /// Stops it, and waits until its port is closed.
    pub async fn end(self) -> SocketAddr {
        let address = self.address;
        drop(self);
        // The tasks and their sockets end at their next poll.
        loop {
            tokio::task::yield_now().await;
            if UdpSocket::bind(address).await.is_ok() && TcpListener::bind(address).await.is_ok() {
                return address;
            }
        }
    }

    /// Releases one waiting action.
    pub fn go(&self) {
        self.shared.go.notify_one();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    fn new(script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Arc::new(script)),
            asked: Mutex::default(),
            requests: Mutex::default(),
            codes: Mutex::default(),
            came: Notify::new(),
            go: Notify::new(),
        })
    }

    async fn https(self: Arc<Self>, listener: TcpListener, acceptor: TlsAcceptor) {
        let mut connection = 0;
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, from)) = listener.accept().await {
            connection += 1;
            let (shared, acceptor) = (Arc::clone(&self), acceptor.clone());
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let stop = Arc::new(Notify::new());
                let stopped = Arc::clone(&stop);
                let serve = move |request| {
                    let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stop));
                    async move { shared.request(request, from, connection, &stop).await }
                };
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(serve));
                tokio::select! {
                    _ = serving => {}
                    () = stopped.notified() => {}
                }
            });
        }
    }

    async fn request(
        &self,
        request: http::Request<hyper::body::Incoming>,
        from: SocketAddr,
        connection: usize,
        stop: &Notify,
    ) -> Result<http::Response<Full<Bytes>>, std::convert::Infallible> {
        let (head, body) = request.into_parts();
        let kind = head.headers.get("content-type");
        let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let request = (head.method.to_string(), head.uri.to_string(), kind);
        self.requests.lock().push(request);
        let message = match head
            .uri
            .query()
            .and_then(|query| query.strip_prefix("dns="))
        {
            Some(text) => URL_SAFE_NO_PAD.decode(text).unwrap(),
            None => body.collect().await.unwrap().to_bytes().to_vec(),
        };
        let (asked, acts) = self.note(&message, Transport::Https, from, connection);
        for act in acts {
            if let Act::Status(status) = act {
                let answer = http::Response::builder().status(status);
                return Ok(answer.body(Full::default()).unwrap());
            }
            if matches!(act, Act::Close) {
                stop.notify_one();
                std::future::pending::<()>().await;
            }
            if let Some(bytes) = self.act(&asked, act).await {
                let answer = http::Response::builder().header("content-type", MESSAGE);
                return Ok(answer.body(Full::new(bytes.into())).unwrap());
            }
        }
        std::future::pending().await
    }

    async fn quic(self: Arc<Self>, endpoint: quinn::Endpoint) {
        let mut connection = 0;
        let mut connections = tokio::task::JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            connection += 1;
            let shared = Arc::clone(&self);
            connections.spawn(async move {
                let Ok(quic) = incoming.await else { return };
                let mut streams = tokio::task::JoinSet::new();
                loop {
                    let (mut sending, mut receiving) = match quic.accept_bi().await {
                        Ok(stream) => stream,
                        Err(quinn::ConnectionError::ApplicationClosed(closed)) => {
                            shared.code("closed", closed.error_code);
                            return;
                        }
                        Err(_) => return,
                    };
                    let (shared, quic) = (Arc::clone(&shared), quic.clone());
                    streams.spawn(async move {
                        let framed = receiving.read_to_end(4096).await.unwrap();
                        let from = quic.remote_address();
                        let length = usize::from(u16::from_be_bytes([framed[0], framed[1]]));
                        assert_eq!(length, framed.len() - 2);
                        let (asked, acts) =
                            shared.note(&framed[2..], Transport::Quic, from, connection);
                        for act in acts {
                            match &act {
                                Act::Close => {
                                    quic.close(0u32.into(), b"");
                                    return;
                                }
                                Act::Raw(bytes) => {
                                    sending.write_all(bytes).await.unwrap();
                                    sending.finish().unwrap();
                                    let _ = sending.stopped().await;
                                    return;
                                }
                                Act::Reset => {
                                    sending.reset(1u32.into()).unwrap();
                                    return;
                                }
                                Act::NoteStop => {
                                    if let Ok(Some(code)) = sending.stopped().await {
                                        shared.code("stopped", code);
                                    }
                                    return;
                                }
                                _ => {}
                            }
                            if let Some(bytes) = shared.act(&asked, act).await {
                                let length = u16::try_from(bytes.len()).unwrap();
                                sending.write_all(&length.to_be_bytes()).await.unwrap();
                                sending.write_all(&bytes).await.unwrap();
                                sending.finish().unwrap();
                                let _ = sending.stopped().await;
                                return;
                            }
                        }
                        std::future::pending::<()>().await;
                    });
                }
            });
        }
    }

    fn code(&self, what: &'static str, code: quinn::VarInt) {
        self.codes.lock().push((what, code.into_inner()));
        self.came.notify_waiters();
    }

    async fn datagrams(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let (asked, acts) = self.note(&buffer[..length], Transport::Udp, from, 0);
            let (shared, socket) = (Arc::clone(&self), Arc::clone(&socket));
            tokio::spawn(async move {
                for act in acts {
                    if let Some(bytes) = shared.act(&asked, act).await {
                        socket.send_to(&bytes, from).await.unwrap();
                    }
                }
            });
        }
    }

    async fn listen(self: Arc<Self>, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
        let mut connection = 0;
        // Aborted with the listener.
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, from)) = listener.accept().await {
            connection += 1;
            let (shared, acceptor) = (Arc::clone(&self), acceptor.clone());
            connections.spawn(async move {
                match acceptor {
                    None => {
                        shared
                            .stream(stream, Transport::Tcp, from, connection)
                            .await;
                    }
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            shared
                                .stream(stream, Transport::Tls, from, connection)
                                .await;
                        }
                    }
                }
            });
        }
    }

    async fn stream<S>(self: Arc<Self>, stream: S, over: Transport, from: SocketAddr, number: usize)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let (outbox, mut inbox) = mpsc::unbounded_channel::<Option<Vec<u8>>>();
        let writer = async move {
            while let Some(Some(bytes)) = inbox.recv().await {
                let length = u16::try_from(bytes.len()).unwrap();
                let framed = [&length.to_be_bytes()[..], &bytes].concat();
                if writing.write_all(&framed).await.is_err() {
                    return;
                }
                let _ = writing.flush().await;
            }
            let _ = writing.shutdown().await;
        };
        let reader = async move {
            while let Ok(length) = reading.read_u16().await {
                let mut message = vec![0; usize::from(length)];
                if reading.read_exact(&mut message).await.is_err() {
                    return;
                }
                let (asked, acts) = self.note(&message, over, from, number);
                let (shared, outbox) = (Arc::clone(&self), outbox.clone());
                tokio::spawn(async move {
                    for act in acts {
                        let closes = matches!(act, Act::Close);
                        let bytes = shared.act(&asked, act).await;
                        if bytes.is_some() || closes {
                            let _ = outbox.send(bytes);
                        }
                    }
                });
            }
        };
        // The first to end closes the connection.
        tokio::select! {
            () = writer => {}
            () = reader => {}
        }
    }

    fn note(
        &self,
        message: &[u8],
        over: Transport,
        from: SocketAddr,
        connection: usize,
    ) -> (Asked, Vec<Act>) {
        let header = Header::read(message).unwrap();
        let parsed = read_query(message, &header).unwrap();
        let mut list = self.asked.lock();
        let asked = Asked {
            number: list.len(),
            header,
            question: parsed.question,
            edns: parsed.edns,
            options: parsed.options,
            over,
            from,
            connection,
        };
        list.push(asked.clone());
        drop(list);
        let script = Arc::clone(&self.script.lock());
        let acts = script(&asked);
        self.came.notify_waiters();
        (asked, acts)
    }

    async fn act(&self, asked: &Asked, act: Act) -> Option<Vec<u8>> {
        let mut reply = Reply::default();
        reply.recursion_available = true;
        reply.authoritative = true;
        reply.authentic = true;
        match act {
            Act::Answer(last) => {
                reply.answer(Type::A, 60, a_record(last));
                reply.options.copy_from(&asked.options);
            }
            Act::Many(count) => {
                (0..count).for_each(|last| reply.answer(Type::A, 60, a_record(last)));
            }
            Act::Cut(count, length, tc) => {
                (0..count).for_each(|last| reply.answer(Type::A, 60, a_record(last)));
                let mut bytes = written(asked, &reply, &asked.question);
                bytes.truncate(length);
                bytes[2] |= u8::from(tc) << 1;
                return Some(bytes);
            }
            Act::Code(rcode) => reply.rcode = rcode,
            Act::Truncated => reply.truncated = true,
            Act::WrongId => {
                reply.answer(Type::A, 60, a_record(66));
                let mut bytes = written(asked, &reply, &asked.question);
                bytes[1] ^= 0x55;
                return Some(bytes);
            }
            Act::WrongQuestion => {
                reply.answer(Type::A, 60, a_record(66));
                let other = Name::parse("other.example").unwrap();
                let other = Question::new(other, Type::A, Class::IN);
                return Some(written(asked, &reply, &other));
            }
            Act::Octets(mut bytes) => {
                bytes[..2].copy_from_slice(&asked.header.id.to_be_bytes());
                return Some(bytes);
            }
            Act::After(pause) => {
                tokio::time::sleep(pause).await;
                return None;
            }
            Act::AfterGo => {
                self.go.notified().await;
                return None;
            }
            Act::Close | Act::Status(_) | Act::Raw(_) | Act::Reset | Act::NoteStop => return None,
        }
        Some(written(asked, &reply, &asked.question))
    }
}

fn a_record(last: u8) -> Data<'static> {
    Data::A(Ipv4Addr::new(192, 0, 2, last))
}

fn written(asked: &Asked, reply: &Reply, question: &Question) -> Vec<u8> {
    let query = Query {
        id: asked.header.id,
        edns: asked.edns,
        transport: asked.over,
        recursion_desired: asked.header.has(Header::RECURSION_DESIRED),
        authentic_data: asked.header.has(Header::AUTHENTIC),
        ..Query::internal(*question)
    };
    let mut out = Vec::new();
    Writer::default().write(&query, reply, &mut out);
    out
}

/// A port without a listener.
pub async fn closed_port() -> SocketAddr {
    Upstream::silent().await.end().await
}

/// The last byte of the A record of a reply.
pub fn answer_of(reply: &Reply) -> u8 {
    let records = reply.section(lodestone::reply::Section::Answer);
    assert_eq!(records.len(), 1, "{:?} {:?}", reply.why, reply.cause);
    assert_eq!((reply.rcode, reply.why), (Rcode::NOERROR, Why::Upstream));
    reply.data(&records[0])[3]
}

/// The address 127.0.0.`last`.
pub fn loopback(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}
