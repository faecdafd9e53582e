//! Connections of HTTP/1.1 and HTTP/2, by hyper: DNS over HTTPS and gRPC.
//!
//! hyper keeps order within a connection; how long it may last is decided here, since hyper has no
//! one measure for it: until the first request `read`, then `idle` from the last reply on, however
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
    gate::Places,
    limits::{HEADERS, StreamSettings},
    tcp::Wire,
};

/// How long a connection that is to end may take for it once nothing is asked on it.
const LINGER: Duration = Duration::from_millis(500);

type Body = BoxBody<Bytes, Infallible>;
type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Respond = fn(Arc<Guest>, Request<Incoming>) -> Answering;

/// A connection and its client.
struct Guest {
    caller: Caller,
    settings: StreamSettings,
    places: Places,
    /// Requests under way.
    busy: AtomicUsize,
    /// When the connection closes, if nothing is under way then.
    deadline: Mutex<Instant>,
}

/// A request under way, until this is dropped.
struct Busy(Arc<Guest>);

/// Why a body is not used.
enum NoBody {
    TooLarge,
    TooSlow,
    Broken,
}

async fn serve_second(
    wire: Wire,
    guest: Arc<Guest>,
    respond: Respond,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let streams = u32::try_from(guest.settings.in_flight).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024);
    let service = service(Arc::clone(&guest), respond);
    let connection = builder.serve_connection(TokioIo::new(wire), service);
    drive(connection, &guest, stop).await
}

/// What hyper has requests answered by.
fn service(
    guest: Arc<Guest>,
    respond: Respond,
) -> impl HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Send> {
    service_fn(move |request| {
        let answering = respond(Arc::clone(&guest), request);
        async move { Ok::<_, Infallible>(answering.await) }
    })
}

/// What both versions have in common.
trait Graceful: Future<Output = hyper::Result<()>> {
    /// Ends once what is under way is answered.
    fn leave(self: Pin<&mut Self>);
}

impl<I, S> Graceful for http2::Connection<I, S, TokioExecutor>
where
    Self: Future<Output = hyper::Result<()>>,
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    TokioExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, Body>,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Lets hyper do its work, and ends it where it has lasted long enough.
async fn drive(
    connection: impl Graceful,
    guest: &Guest,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut connection = pin!(connection);
    let mut stopping = pin!(async { drop(stop.wait_for(|stop| *stop).await) });
    let mut evicted = pin!(guest.places.evicted());
    let mut timer = pin!(sleep_until(guest.deadline()));
    let mut leaving = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            () = stopping.as_mut(), if !leaving => {
                leaving = true;
                connection.as_mut().leave();
                timer.as_mut().reset(Instant::now() + LINGER);
            }
            () = evicted.as_mut() => return Ok(()),
            () = timer.as_mut() => {
                let now = Instant::now();
                if guest.is_busy() {
                    timer.as_mut().reset(now + if leaving { LINGER } else { guest.settings.idle });
                } else if leaving {
                    return Ok(()); // what is left of it is half a request
                } else if now < guest.deadline() {
                    timer.as_mut().reset(guest.deadline());
                } else {
                    leaving = true;
                    connection.as_mut().leave();
                    timer.as_mut().reset(now + LINGER);
                }
            }
        }
    }
}

impl Guest {
    fn new(caller: Caller, settings: StreamSettings, places: Places) -> Arc<Self> {
        Arc::new(Self {
            caller,
            settings,
            places,
            busy: AtomicUsize::new(0),
            deadline: Mutex::new(Instant::now() + settings.first_query),
        })
    }

    fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::AcqRel);
        self.places.busy();
        Busy(Arc::clone(self))
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    fn deadline(&self) -> Instant {
        *self.deadline.lock()
    }

    /// A body of at most so many octets.
    async fn body(&self, body: Incoming, most: usize) -> Result<Bytes, NoBody> {
        let limited = Limited::new(body, most).collect();
        match timeout(self.settings.first_query, limited).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(NoBody::TooLarge),
            Ok(Err(_)) => Err(NoBody::Broken),
            Err(_) => Err(NoBody::TooSlow),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let guest = &self.0;
        *guest.deadline.lock() = Instant::now() + guest.settings.idle;
        if guest.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            guest.places.idle();
        }
    }
}
