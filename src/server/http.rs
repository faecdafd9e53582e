//! Connections of HTTP/1.1 and HTTP/2, by hyper: DNS over HTTPS and gRPC.
//!
//! hyper implements the protocol; how long a connection may last is decided here, since hyper has no
//! single timeout for it: until the first request `read`, then `idle` from the last reply on, however
//! many headers, pings or empty frames come meanwhile. A body must come within `read`.

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
    limits::{HEADERS, StreamSettings},
    tcp::ClientStream,
};

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
