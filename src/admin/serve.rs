//! Accepts HTTP connections and serves them within limits.
//!
//! These ports are reachable from every pod. `axum::serve` neither limits connections nor sets
//! hyper's header timeout, so this accept loop passes axum's router to hyper itself. Each listener
//! has its own connection limit: a kubelet probe does not compete with other listeners, and at the
//! limit it replaces an idle connection ([`crate::server::connection_limit`]).

use std::{
    convert::Infallible,
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
    net::TcpStream,
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::server::{
    accept::{AcceptBounds, Accepted, Acceptor},
    connection_limit::{ConnectionLimit, ConnectionPermit},
    limits::TaskToken,
};

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    /// Maximum number of connections. At the limit, the longest-idle connection of the client with
    /// the most connections is closed.
    pub connections: usize,
    /// Timeout for a request's header, and idle timeout.
    pub head: Duration,
    /// Maximum lifetime of a connection.
    pub life: Duration,
    /// Time for the response in progress when a connection is closed.
    pub last_response: Duration,
    /// Time for the first request when a connection is closed before it.
    pub first_request: Duration,
}

impl Default for PageLimits {
    fn default() -> Self {
        Self {
            connections: 128,
            // Shorter than a scrape interval: reconnecting costs less than connection slots
            // occupied by idle clients.
            head: Duration::from_secs(10),
            life: Duration::from_mins(1),
            last_response: Duration::from_secs(5),
            first_request: Duration::from_secs(1),
        }
    }
}

/// Maximum size of a request header in bytes. Those of kubelet and Prometheus have a few hundred.
const MAX_HEAD: usize = 16 * 1024;

/// With spare descriptors, so that probes are answered when the process has no others left.
pub(super) const ACCEPT_BOUNDS: AcceptBounds = AcceptBounds {
    spares: 4,
    entering: 64,
};

/// What a listener serves.
#[derive(Default)]
pub(super) struct ServedPages {
    pub(super) router: Router,
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// Inputs of an accept loop.
#[derive(Clone)]
pub(super) struct AcceptContext {
    pub(super) served: Arc<ArcSwap<ServedPages>>,
    pub(super) connection_limit: ConnectionLimit,
    pub(super) limits: PageLimits,
    /// Stops the loop when it changes or its sender is dropped. The value is whether other sockets have taken
    /// the place of this one.
    pub(super) stop: watch::Receiver<bool>,
    /// Held until the loop and its connections have ended.
    pub(super) token: TaskToken,
}

/// Accepts connections until stopped.
pub(super) async fn accept(mut acceptor: Acceptor, context: AcceptContext) {
    let mut stop = context.stop.clone();
    let admit = |accepted: Accepted| {
        // In order of arrival, while the limit is not reached.
        let permit = context.connection_limit.try_acquire(accepted.client.ip());
        tokio::spawn(connection(accepted, permit, context.clone()));
    };
    loop {
        tokio::select! {
            accepted = acceptor.next(&context.connection_limit) => admit(accepted),
            _ = stop.changed() => break,
        }
    }
    let succeeded = *stop.borrow();
    acceptor
        .close(succeeded, &context.connection_limit, admit)
        .await;
}

async fn connection(accepted: Accepted, permit: Option<ConnectionPermit>, context: AcceptContext) {
    let Accepted {
        stream,
        client,
        slot,
    } = accepted;
    let permit = match permit {
        Some(permit) => Some(permit),
        None => context.connection_limit.acquire(client.ip()).await,
    };
    let Some(permit) = permit else {
        return;
    };
    drop(slot);
    let evicted = permit.evicted();
    tokio::select! {
        () = handshake_and_serve(stream, context, &permit) => {}
        () = evicted => {}
    }
}

async fn handshake_and_serve(stream: TcpStream, context: AcceptContext, permit: &ConnectionPermit) {
    let AcceptContext {
        served,
        limits,
        stop,
        token: _token,
        ..
    } = context;
    let served = served.load_full();
    let router = served.router.clone();
    let Some(tls) = &served.tls else {
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
    limits: PageLimits,
    permit: &ConnectionPermit,
    mut stop: watch::Receiver<bool>,
) {
    let pages = TowerToHyperService::new(router);
    let first_request = FirstRequest::default();
    let service = service_fn(|request| handle(&pages, permit, &first_request, request));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    // Connection errors are caused by clients and are not reported.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.changed() => {}
        () = sleep(limits.life) => {}
    }
    // The first request may be in transit, and a lost probe counts as a failure.
    if !first_request.received.load(Ordering::Relaxed) {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = first_request.notify.notified() => {}
            () = sleep(limits.first_request) => {}
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.last_response, connection).await;
}

/// Whether a connection has sent its first request.
#[derive(Default)]
struct FirstRequest {
    received: AtomicBool,
    notify: Notify,
}

/// Handles one request. The connection counts as busy meanwhile, and as idle otherwise.
async fn handle(
    pages: &TowerToHyperService<Router>,
    permit: &ConnectionPermit,
    first_request: &FirstRequest,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    permit.busy();
    if !first_request.received.swap(true, Ordering::Relaxed) {
        first_request.notify.notify_one();
    }
    let response = pages.call(request).await;
    permit.idle();
    response
}
