//! Connections of HTTP/1.1 and HTTP/2, by hyper: DNS over HTTPS and gRPC.
//!
//! hyper implements the protocol but has no timeout for a connection as such, so timeouts are enforced
//! here: `first_query` until the first request, then `idle` since the last response, regardless of headers,
//! pings or empty frames. A body must be complete within `first_query`.

#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "https")]
mod https;

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
    server::conn::http2,
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

#[cfg(feature = "grpc")]
pub(super) use grpc::serve_grpc;
#[cfg(feature = "https")]
pub(super) use https::serve_https;

use super::{
    caller::Caller,
    connection_limit::ConnectionPermits,
    idle::expired,
    limits::{HEADERS, StreamSettings},
};

/// How long a connection without requests may take to shut down.
const LINGER: Duration = Duration::from_millis(500);

type Body = BoxBody<Bytes, Infallible>;
type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Respond = fn(Arc<HttpConnection>, Request<Incoming>) -> Answering;

/// What HTTP is spoken on.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

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

/// Why a body could not be read.
enum BodyError {
    TooLarge,
    TooSlow,
    Broken,
}

async fn serve_http2(
    stream: impl Stream,
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
    // Once it shuts down: when it is closed, if no request is in flight then.
    let mut closes = None;
    loop {
        let idle = closes.map_or(client.settings.idle, |_| LINGER);
        let deadline = || (!client.is_busy()).then(|| closes.unwrap_or_else(|| client.deadline()));
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            () = stopping.as_mut(), if closes.is_none() => {}
            () = evicted.as_mut() => return Ok(()),
            () = expired(timer.as_mut(), idle, deadline) => if closes.is_some() {
                return Ok(()); // what is left is a partial request
            }
        }
        let end = Instant::now() + LINGER;
        closes = Some(end);
        connection.as_mut().shut_down();
        timer.as_mut().reset(end);
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

    /// Reads a body of at limit `limit` bytes.
    async fn body(&self, body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
        let limited = Limited::new(body, limit).collect();
        match timeout(self.settings.first_query, limited).await {
            Ok(Ok(complete)) => Ok(complete.to_bytes()),
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
