//! HTTP connections of the control API.
//!
//! Clients are users of this machine, so limits are few: the number of connections, and the time for a
//! request's header. A response can last as long as its client reads it.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use super::socket;

/// Maximum number of connections of a listener; further ones are closed.
const MAX_CONNECTIONS: usize = 64;
/// Timeout for a request's header, and idle timeout.
const HEAD: Duration = Duration::from_secs(30);
/// Maximum size of a request header in bytes. Browsers send a few hundred.
const MAX_HEAD: usize = 16 * 1024;
/// Delay after a failed accept: out of file descriptors.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Serves clients that may use the socket.
pub(super) async fn unix(listener: UnixListener, router: Router) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(AFTER_FAILURE).await;
            continue;
        };
        if stream.peer_cred().is_ok_and(socket::is_permitted)
            && let Ok(permit) = Arc::clone(&connections).try_acquire_owned()
        {
            tokio::spawn(connection(stream, router.clone(), permit));
        }
    }
}

/// Serves all clients.
pub(super) async fn tcp(listener: TcpListener, router: Router) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(AFTER_FAILURE).await;
            continue;
        };
        if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
            // Lines of a live list are small and should not wait for others.
            let _ = stream.set_nodelay(true);
            tokio::spawn(connection(stream, router.clone(), permit));
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    _permit: OwnedSemaphorePermit,
) {
    // Connection errors are caused by clients and are not reported.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}
