//! TCP listeners: one accept loop for DNS over TCP and TLS, HTTPS and gRPC.
//!
//! DNS over TCP and over TLS (RFC 7766, RFC 7858) is implemented here. Queries of one connection are
//! answered out of order (RFC 7766 section 6.2.1.1): a slow forwarded query does not delay queries after
//! it. [`super::http`] implements what is based on HTTP.

mod accepted;
mod connection;
mod stream;

use std::{io, net::SocketAddr, sync::atomic::Ordering};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;

pub(super) use stream::Abort;

use self::accepted::AcceptedConnection;
use super::{
    Scheme,
    accept::{AcceptBounds, Accepted, Acceptor, reserve},
    accept_loops::{AcceptContext, AcceptLoops},
    connection_limit::ConnectionPermits,
};

/// Unsent bytes that the kernel buffers for a connection (`TCP_NOTSENT_LOWAT`): bounds the kernel memory
/// that a client which does not read can take; the default is megabytes.
const UNSENT: u32 = 128 * 1024;

const ACCEPT_BOUNDS: AcceptBounds = AcceptBounds {
    spares: 0,
    entering: 256,
};

/// Binds a socket with `SO_REUSEPORT`, so that a reload can replace it by a listener of another scheme. If it `shares`
/// its address, it listens from [`start`] on: it must get no connections before it is served. Otherwise it listens now,
/// so that no other program can.
pub(super) fn bind(address: SocketAddr, shares: bool) -> io::Result<std::net::TcpListener> {
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
    let bound = socket.into();
    if !shares {
        reserve(&bound)?;
    }
    Ok(bound)
}

/// Bounds the unsent bytes that the kernel buffers for each connection of a listening socket.
pub(crate) fn bound_unsent(socket: &Socket) {
    // On failure the kernel's default applies.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Listens at each bound socket and starts its accept loop.
pub(super) fn start(
    bound: Vec<std::net::TcpListener>,
    scheme: Scheme,
    loops: &AcceptLoops,
    runtime: &Handle,
) -> io::Result<()> {
    let _in_runtime = runtime.enter();
    for socket in bound {
        let acceptor = Acceptor::new(socket, ACCEPT_BOUNDS)?;
        runtime.spawn(accept(acceptor, scheme, loops.context()));
    }
    Ok(())
}

/// Accepts connections until it is stopped.
async fn accept(mut acceptor: Acceptor, scheme: Scheme, mut context: AcceptContext) {
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.next(&context.connection_limit) => accepted,
            // Also completes if the sender was dropped.
            _ = context.stop.wait_for(|stop| *stop) => break,
        };
        admit(accepted, scheme, &context);
    }
    let succeeded = context.succeeded.load(Ordering::Acquire);
    let admit = |accepted| admit(accepted, scheme, &context);
    acceptor
        .close(succeeded, &context.connection_limit, admit)
        .await;
}

fn admit(accepted: Accepted, scheme: Scheme, context: &AcceptContext) {
    let Accepted {
        stream,
        client,
        slot,
    } = accepted;
    let settings = context.settings.borrow().clone();
    let Ok(local) = stream.local_addr() else {
        return; // reset by its client
    };
    // Replies are written in one piece; Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    let (limit, own_limit) = (context.connection_limit.clone(), settings.own_limit.clone());
    let (stop, token) = (context.stop.clone(), context.token.clone());
    let handler = context.handler.clone();
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
        drop((slot, limit, own_limit));
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
