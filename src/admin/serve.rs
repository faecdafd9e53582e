//! Accepting connections and serving them, within limits.
//!
//! These ports are open to every pod of a cluster. `axum::serve` neither limits connections nor
//! gives hyper the timer without which a client may take for ever over its request, so the loop is
//! our own and hands axum's router to hyper. Each listener has a limit of its own, so that its
//! connections compete with no others: a probe of the kubelet gets a permit whatever else the
//! process serves; at the limit an idle connection is evicted for it
//! ([`crate::server::connection_limit`]).

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{Router, body::Body, response::Response};
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::server::{
    accept::Acceptor,
    connection_limit::{ConnectionLimit, ConnectionPermit},
};

/// What clients of a listener may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. For one more, the longest idle one of the client with the most
    /// connections is closed.
    pub connections: usize,
    /// How long a client may take over the head of a request; also how long a connection may idle.
    pub head: Duration,
    /// How long a connection lives, whatever it does.
    pub life: Duration,
    /// How long a connection that is to end has for the response in flight.
    pub last_answer: Duration,
    /// How long a connection that is to end is waited for if it has asked for nothing so far.
    pub first_request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            // Shorter than the time between two scrapes: a new connection for each costs less than
            // permits that a client can hold.
            head: Duration::from_secs(10),
            life: Duration::from_mins(1),
            last_answer: Duration::from_secs(5),
            first_request: Duration::from_secs(1),
        }
    }
}

/// Bytes of a request's head: those of kubelet and Prometheus have some hundred.
const MAX_HEAD: usize = 16 * 1024;

/// Connections that are accepted while the process has no file descriptor left for anything else.
const SPARES: usize = 4;

/// Accepted connections that may wait for a permit; while there are so many, none is accepted.
const ENTERING: usize = 64;

/// What a listener serves to new connections.
#[derive(Default)]
pub(super) struct Face {
    pub(super) router: Router,
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// What an accept loop works with.
#[derive(Clone)]
pub(super) struct AcceptContext {
    pub(super) face: Arc<ArcSwap<Face>>,
    pub(super) connection_limit: ConnectionLimit,
    pub(super) limits: Limits,
    /// The loop ends when it changes or its sender is gone.
    pub(super) stop: watch::Receiver<()>,
}

/// Accepts until it is to stop.
pub(super) async fn accept(listener: TcpListener, context: AcceptContext) {
    let mut stop = context.stop.clone();
    let mut acceptor = Acceptor::new(listener, SPARES);
    let waiting = Arc::new(Semaphore::new(ENTERING));
    let admit = |stream: TcpStream, client: SocketAddr, entering| {
        // In the order of their coming as long as there is room.
        let permit = context.connection_limit.try_acquire(client.ip());
        let visit = connection(stream, client.ip(), permit, context.clone(), entering);
        tokio::spawn(visit);
    };
    loop {
        let accepted = async {
            let entering = Arc::clone(&waiting).acquire_owned().await;
            let (stream, client) = acceptor.next(&context.connection_limit).await;
            (stream, client, entering.expect("it is never closed"))
        };
        tokio::select! {
            (stream, client, entering) = accepted => admit(stream, client, entering),
            _ = stop.changed() => break,
        }
    }
    // Those that wait in the queue would be reset with the socket.
    while let Ok(entering) = Arc::clone(&waiting).try_acquire_owned()
        && let Some((stream, client)) = acceptor.queued()
    {
        admit(stream, client, entering);
    }
}

async fn connection(
    stream: TcpStream,
    client: IpAddr,
    permit: Option<ConnectionPermit>,
    context: AcceptContext,
    entering: OwnedSemaphorePermit,
) {
    let permit = match permit {
        Some(permit) => Some(permit),
        None => context.connection_limit.acquire(client).await,
    };
    let Some(permit) = permit else {
        return;
    };
    drop(entering);
    let evicted = permit.evicted();
    tokio::select! {
        () = converse(stream, context, &permit) => {}
        () = evicted => {}
    }
}

async fn converse(stream: TcpStream, context: AcceptContext, permit: &ConnectionPermit) {
    let AcceptContext {
        face, limits, stop, ..
    } = context;
    let face = face.load_full();
    let router = face.router.clone();
    let Some(tls) = &face.tls else {
        return serve(stream, router, limits, permit, stop).await;
    };
    let accepted = TlsAcceptor::from(Arc::clone(tls)).accept(stream);
    if let Ok(Ok(stream)) = timeout(limits.head, accepted).await {
        serve(stream, router, limits, permit, stop).await;
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    limits: Limits,
    permit: &ConnectionPermit,
    mut stop: watch::Receiver<()>,
) {
    let pages = TowerToHyperService::new(router);
    let answered = Answered::default();
    let service = service_fn(|request| answer(&pages, permit, &answered, request));
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    // What goes wrong with a connection is its client's affair.
    tokio::select! {
        _ = served.as_mut() => return,
        _ = stop.changed() => {}
        () = sleep(limits.life) => {}
    }
    // The first request of a connection may still be on its way: a probe that is lost counts.
    if !answered.any.load(Ordering::Relaxed) {
        tokio::select! {
            _ = served.as_mut() => return,
            () = answered.first.notified() => {}
            () = sleep(limits.first_request) => {}
        }
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(limits.last_answer, served).await;
}

/// Whether a connection's first request has come.
#[derive(Default)]
struct Answered {
    any: AtomicBool,
    first: Notify,
}

/// Answers one request. The connection is busy for as long: after it, and before it, it is the
/// client that is waited for.
async fn answer(
    pages: &TowerToHyperService<Router>,
    permit: &ConnectionPermit,
    answered: &Answered,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    permit.busy();
    if !answered.any.swap(true, Ordering::Relaxed) {
        answered.first.notify_one();
    }
    let response = pages.call(request).await;
    permit.idle();
    response
}
