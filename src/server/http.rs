//! Connections of HTTP/1.1 and HTTP/2, by hyper: DNS over HTTPS and gRPC.
//!
//! hyper implements the protocol; how long a connection may last is decided here, since hyper has no
//! single timeout for it: until the first request `read`, then `idle` from the last reply on, however
//! many headers, pings or empty frames come meanwhile. A body must come within `read`.

pub(super) mod doh;
mod grpc;

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    caller::Caller, connection_limit::ConnectionPermits, limits::StreamSettings, tcp::ClientStream,
};

/// Bytes of a request's headers. The longest is the URI of a GET request: 16 KiB hold every query that fits
/// into a datagram, and some that do not.
pub(super) const HEADERS: u32 = 16 * 1024;

/// How long a connection without requests may take to shut down.
const LINGER: Duration = Duration::from_millis(500);

type Body = BoxBody<Bytes, Infallible>;
type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Respond = fn(Arc<HttpConnection>, Request<Incoming>) -> Answering;

/// A connection and its client.
struct HttpConnection {
    caller: Caller,
    settings: StreamSettings,
    permits: ConnectionPermits,
    /// Requests in flight.
    busy: AtomicUsize,
    /// When the connection closes, if no request is in flight then.
    deadline: Mutex<Instant>,
}

/// A request in flight, until this is dropped.
struct ActiveRequest(Arc<HttpConnection>);

/// Why there is no body.
enum BodyError {
    TooLarge,
    TooSlow,
    Broken,
}

/// Serves DNS over HTTPS (RFC 8484) to the connection's end: HTTP/2 if it was negotiated in the TLS
/// handshake.
pub(super) async fn serve_https(
    stream: ClientStream,
    caller: Caller,
    settings: StreamSettings,
    permits: ConnectionPermits,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let client = HttpConnection::new(caller, settings, permits);
    let is_http2 = match &stream {
        ClientStream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        ClientStream::Plain(_) => false,
    };
    let respond: Respond = |client, request| Box::pin(answer_https(client, request));
    if is_http2 {
        serve_http2(stream, client, respond, stop).await
    } else {
        serve_http1(stream, client, respond, stop).await
    }
}

/// Serves gRPC, which is always HTTP/2, to the connection's end.
pub(super) async fn serve_grpc(
    stream: ClientStream,
    caller: Caller,
    settings: StreamSettings,
    permits: ConnectionPermits,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let client = HttpConnection::new(caller, settings, permits);
    let respond: Respond = |client, request| Box::pin(grpc::answer(client, request));
    serve_http2(stream, client, respond, stop).await
}

async fn serve_http1(
    stream: ClientStream,
    client: Arc<HttpConnection>,
    respond: Respond,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HEADERS as usize)
        .max_headers(64)
        .half_close(true);
    let service = service(Arc::clone(&client), respond);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    drive(connection, &client, stop).await
}

async fn serve_http2(
    stream: ClientStream,
    client: Arc<HttpConnection>,
    respond: Respond,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let streams = u32::try_from(client.settings.in_flight).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024);
    let service = service(Arc::clone(&client), respond);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    drive(connection, &client, stop).await
}

/// The service that hyper calls for each request.
fn service(
    client: Arc<HttpConnection>,
    respond: Respond,
) -> impl HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Send> {
    service_fn(move |request| {
        let answering = respond(Arc::clone(&client), request);
        async move { Ok::<_, Infallible>(answering.await) }
    })
}

/// A connection of either version.
trait Graceful: Future<Output = hyper::Result<()>> {
    /// Ends once the requests in flight are answered.
    fn shut_down(self: Pin<&mut Self>);
}

impl<I, S> Graceful for http1::Connection<I, S>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Graceful for http2::Connection<I, S, TokioExecutor>
where
    Self: Future<Output = hyper::Result<()>>,
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    TokioExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, Body>,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Drives a connection, and enforces its timeouts.
async fn drive(
    connection: impl Graceful,
    client: &HttpConnection,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut connection = pin!(connection);
    let mut stopping = pin!(async { drop(stop.wait_for(|stop| *stop).await) });
    let mut evicted = pin!(client.permits.evicted());
    let mut timer = pin!(sleep_until(client.deadline()));
    let mut ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            () = stopping.as_mut(), if !ending => {
                ending = true;
                connection.as_mut().shut_down();
                timer.as_mut().reset(Instant::now() + LINGER);
            }
            () = evicted.as_mut() => return Ok(()),
            () = timer.as_mut() => {
                let now = Instant::now();
                if client.is_busy() {
                    timer.as_mut().reset(now + if ending { LINGER } else { client.settings.idle });
                } else if ending {
                    return Ok(()); // what is left is a partial request
                } else if now < client.deadline() {
                    timer.as_mut().reset(client.deadline());
                } else {
                    ending = true;
                    connection.as_mut().shut_down();
                    timer.as_mut().reset(now + LINGER);
                }
            }
        }
    }
}

impl HttpConnection {
    fn new(caller: Caller, settings: StreamSettings, permits: ConnectionPermits) -> Arc<Self> {
        Arc::new(Self {
            caller,
            settings,
            permits,
            busy: AtomicUsize::new(0),
            deadline: Mutex::new(Instant::now() + settings.first_query),
        })
    }

    fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.busy.fetch_add(1, Ordering::AcqRel);
        self.permits.busy();
        ActiveRequest(Arc::clone(self))
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    fn deadline(&self) -> Instant {
        *self.deadline.lock()
    }

    /// A body of at most `most` bytes.
    async fn body(&self, body: Incoming, most: usize) -> Result<Bytes, BodyError> {
        let limited = Limited::new(body, most).collect();
        match timeout(self.settings.first_query, limited).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
            Ok(Err(_)) => Err(BodyError::Broken),
            Err(_) => Err(BodyError::TooSlow),
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let client = &self.0;
        *client.deadline.lock() = Instant::now() + client.settings.idle;
        if client.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            client.permits.idle();
        }
    }
}

async fn answer_https(client: Arc<HttpConnection>, request: Request<Incoming>) -> Response<Body> {
    let _busy = client.begin();
    let (head, body) = request.into_parts();
    let message = match doh::asked(&head) {
        Err(fault) => Err(fault),
        Ok(doh::Asked::Message(message)) => Ok(message.into()),
        Ok(doh::Asked::Body) => match client.body(body, doh::MAX_MESSAGE).await {
            Ok(message) => Ok(message),
            Err(BodyError::TooLarge) => Err(doh::Fault::TOO_LARGE),
            Err(BodyError::TooSlow) => Err(doh::Fault::TOO_SLOW),
            Err(BodyError::Broken) => Err(doh::Fault::BROKEN),
        },
    };
    let response = doh::respond(&client.caller, message).await;
    response.map(|octets| http_body_util::Full::new(octets).boxed())
}
