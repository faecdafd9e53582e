//! TCP listeners: one accept loop for DNS over TCP and TLS, HTTPS and gRPC.
//!
//! DNS over TCP and over TLS (RFC 7766, RFC 7858) is implemented here. Queries of one connection are
//! answered out of order (RFC 7766 section 6.2.1.1): a slow forwarded query does not delay queries after
//! it. [`super::http`] implements what is based on HTTP.

mod accepted;
mod connection;
mod stream;

use std::{io, net::SocketAddr, sync::Arc};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

pub(super) use stream::Abort;

use self::accepted::AcceptedConnection;
use super::{
    Scheme,
    accept::Acceptor,
    accept_loops::{AcceptContext, AcceptLoops},
    connection_limit::ConnectionPermits,
};

/// Length of the accept queue; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Unsent bytes that the kernel buffers for a connection (`TCP_NOTSENT_LOWAT`): bounds the kernel memory
/// that a client which does not read can take; the default is megabytes.
const UNSENT: u32 = 128 * 1024;

/// Bound on a listener's accepted connections that wait for a permit; at the bound no more are accepted.
const ENTERING: usize = 256;

/// Binds a listening socket with `SO_REUSEPORT`, so that a reload can replace it by a listener of another
/// scheme.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    // A restart must not fail because of connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    bound_unsent(&socket);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Bounds the unsent bytes that the kernel buffers for each connection of a listening socket.
pub(crate) fn bound_unsent(socket: &Socket) {
    // On failure the kernel's default applies.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Starts an accept loop for each listening socket.
pub(super) fn start(
    listeners: Vec<TcpListener>,
    scheme: Scheme,
    loops: &AcceptLoops,
    runtime: &Handle,
) {
    for listener in listeners {
        let accept_loop = AcceptLoop {
            acceptor: Acceptor::new(listener, 0),
            scheme,
            context: loops.context(),
            entering: Arc::new(Semaphore::new(ENTERING)),
        };
        runtime.spawn(accept_loop.run());
    }
}

struct AcceptLoop {
    acceptor: Acceptor,
    scheme: Scheme,
    context: AcceptContext,
    entering: Arc<Semaphore>,
}

impl AcceptLoop {
    async fn run(mut self) {
        loop {
            let accepted = async {
                let entering = Arc::clone(&self.entering).acquire_owned().await;
                let accepted = self.acceptor.next(&self.context.connection_limit).await;
                (accepted, entering.expect("it is never closed"))
            };
            let ((stream, client), entering) = tokio::select! {
                accepted = accepted => accepted,
                // Also completes if the sender was dropped.
                _ = self.context.stop.wait_for(|stop| *stop) => break,
            };
            self.admit(stream, client, entering);
        }
        // Queries on connections that are queued already are answered.
        while let Ok(entering) = Arc::clone(&self.entering).try_acquire_owned()
            && let Some((stream, client)) = self.acceptor.queued()
        {
            self.admit(stream, client, entering);
        }
    }

    fn admit(&self, stream: TcpStream, client: SocketAddr, entering: OwnedSemaphorePermit) {
        let context = &self.context;
        let settings = context.settings.borrow().clone();
        let Ok(local) = stream.local_addr() else {
            return; // reset by its client
        };
        // Replies are written in one piece; Nagle's algorithm would only delay them.
        let _ = stream.set_nodelay(true);
        let (limit, own_limit) = (context.connection_limit.clone(), settings.own_limit.clone());
        let (stop, token) = (context.stop.clone(), context.token.clone());
        let (scheme, handler) = (self.scheme, context.handler.clone());
        // Acquired before the spawn, so in order of arrival, while permits are free.
        let permits = ConnectionPermits::try_acquire(&limit, own_limit.as_ref(), client.ip());
        tokio::spawn(async move {
            let permits = match permits {
                Some(permits) => Some(permits),
                None => ConnectionPermits::acquire(&limit, own_limit.as_ref(), client.ip()).await,
            };
            let Some(permits) = permits else {
                tracing::debug!(%client, "all connections are busy, a new one is refused");
                return;
            };
            drop((entering, limit, own_limit));
            let connection = AcceptedConnection {
                stream,
                scheme,
                handler,
                settings,
                ends: (client, local),
                permits,
            };
            if let Err(error) = connection.serve(stop).await {
                tracing::debug!(%error, %client, "a connection ended");
            }
            drop(token);
        });
    }
}
