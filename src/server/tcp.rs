//! Connections: one accept loop for TCP, TLS, HTTPS and gRPC, into the same door.
//!
//! DNS over TCP and over TLS (RFC 7766, RFC 7858) is spoken here. A connection's questions wait side
//! by side and are answered as they come to be (RFC 7766 §6.2.1.1); a slow forward does not hold up
//! the cluster names that were asked behind it. [`super::http`] speaks what is based on HTTP.

mod connection;
mod front;
mod visit;

use std::{io, net::SocketAddr, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

pub(super) use front::Wire;

use self::visit::Visit;
use super::{
    Scheme,
    gate::Places,
    reception::{Desk, Reception},
};

/// Connections that the system keeps until they are accepted; it cuts this to what it allows.
const BACKLOG: i32 = 4096;

/// How long to wait before accepting again where the system is out of something.
const PAUSE: Duration = Duration::from_millis(20);

/// Binds a listening socket that several may share, so that a new one can stand beside an old one.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    // A server that starts again need not wait for the connections of the one before it.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Begins to serve, with an accept loop for each listening socket.
pub(super) fn start(
    listeners: Vec<std::net::TcpListener>,
    scheme: Scheme,
    reception: &Reception,
    runtime: &Handle,
) -> io::Result<()> {
    let _in_runtime = runtime.enter();
    for listener in listeners {
        let acceptor = Acceptor {
            listener: TcpListener::from_std(listener)?,
            scheme,
            desk: reception.desk(),
        };
        runtime.spawn(acceptor.run());
    }
    Ok(())
}

struct Acceptor {
    listener: TcpListener,
    scheme: Scheme,
    desk: Desk,
}

impl Acceptor {
    async fn run(mut self) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                // Both where it was said and where nobody is left to say it.
                _ = self.desk.stop.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((stream, client)) => self.admit(stream, client).await,
                Err(error) if belongs_to_connection(&error) => {}
                Err(error) => {
                    // Most likely there is no file descriptor left: one can be had.
                    tracing::warn!(%error, "cannot accept a connection");
                    self.desk.gate.close_longest_idle();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn admit(&self, stream: TcpStream, client: SocketAddr) {
        let desk = &self.desk;
        let terms = desk.terms.borrow().clone();
        let Some(places) = Places::enter(&desk.gate, terms.own_gate.as_ref()).await else {
            tracing::debug!(%client, "all connections are busy, one more is refused");
            return;
        };
        let Ok(local) = stream.local_addr() else {
            return; // it is gone again
        };
        // Replies are written whole; to hold them back would only delay them.
        let _ = stream.set_nodelay(true);
        let visit = Visit {
            stream,
            scheme: self.scheme,
            entrance: desk.entrance.clone(),
            terms,
            ends: (client, local),
            places,
        };
        let (stop, working) = (desk.stop.clone(), desk.working.clone());
        tokio::spawn(async move {
            if let Err(error) = visit.serve(stop).await {
                tracing::debug!(%error, %client, "a connection ended");
            }
            drop(working);
        });
    }
}

/// Whether only the connection that was about to be accepted has failed.
fn belongs_to_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
