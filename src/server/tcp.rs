//! Connections: one accept loop for TCP, TLS, HTTPS and gRPC, into the same door.
//!
//! DNS over TCP and over TLS (RFC 7766, RFC 7858) is spoken here. A connection's questions wait side
//! by side and are answered as they come to be (RFC 7766 §6.2.1.1); a slow forward does not hold up
//! the cluster names that were asked behind it. [`super::http`] speaks what is based on HTTP.

mod connection;
mod front;
mod visit;

use std::{io, net::SocketAddr, sync::Arc};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use front::Abort;

use self::visit::Visit;
use super::{
    Scheme,
    accept::Accept,
    gate::Places,
    reception::{Desk, Reception},
};

/// Connections that the system keeps until they are accepted; it cuts this to what it allows.
const BACKLOG: i32 = 4096;

/// Bytes that the system takes in from us for a client before it has sent them. A client that does
/// not read costs so much of the system's memory, and not the megabytes that buffers grow to.
const UNSENT: u32 = 128 * 1024;

/// Accepted connections of a listener that may be without a place yet; while there are so many, none
/// is accepted.
const ENTERING: usize = 256;

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
    bound_unsent(&socket);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Bounds what the connections of a listening socket may leave unsent in the system.
pub(crate) fn bound_unsent(socket: &Socket) {
    // Where the system knows no such bound it is its own that counts.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Begins to serve, with an accept loop for each listening socket.
pub(super) fn start(
    listeners: Vec<TcpListener>,
    scheme: Scheme,
    reception: &Reception,
    runtime: &Handle,
) {
    for listener in listeners {
        let acceptor = Acceptor {
            accept: Accept::new(listener, 0),
            scheme,
            desk: reception.desk(),
            entering: Arc::new(Semaphore::new(ENTERING)),
        };
        runtime.spawn(acceptor.run());
    }
}

struct Acceptor {
    accept: Accept,
    scheme: Scheme,
    desk: Desk,
    entering: Arc<Semaphore>,
}

impl Acceptor {
    async fn run(mut self) {
        loop {
            let accepted = async {
                let entering = Arc::clone(&self.entering).acquire_owned().await;
                let accepted = self.accept.next(&self.desk.gate).await;
                (accepted, entering.expect("it is never closed"))
            };
            let ((stream, client), entering) = tokio::select! {
                accepted = accepted => accepted,
                // Both where it was said and where nobody is left to say it.
                _ = self.desk.stop.wait_for(|stop| *stop) => break,
            };
            self.admit(stream, client, entering);
        }
        // What was asked on those in the queue is answered; unless they are another listener's now.
        while let Ok(entering) = Arc::clone(&self.entering).try_acquire_owned()
            && let Some((stream, client)) = self.accept.queued()
        {
            self.admit(stream, client, entering);
        }
    }

    fn admit(&self, stream: TcpStream, client: SocketAddr, entering: OwnedSemaphorePermit) {
        let desk = &self.desk;
        let terms = desk.terms.borrow().clone();
        let Ok(local) = stream.local_addr() else {
            return; // it is gone again
        };
        // Replies are written whole; to hold them back would only delay them.
        let _ = stream.set_nodelay(true);
        let (gate, own_gate) = (desk.gate.clone(), terms.own_gate.clone());
        let (stop, working) = (desk.stop.clone(), desk.working.clone());
        let (scheme, entrance) = (self.scheme, desk.entrance.clone());
        // In the order of their coming as long as there is room.
        let places = Places::try_enter(&gate, own_gate.as_ref(), client.ip());
        tokio::spawn(async move {
            let places = match places {
                Some(places) => Some(places),
                None => Places::enter(&gate, own_gate.as_ref(), client.ip()).await,
            };
            let Some(places) = places else {
                tracing::debug!(%client, "all connections are busy, one more is refused");
                return;
            };
            drop((entering, gate, own_gate));
            let visit = Visit {
                stream,
                scheme,
                entrance,
                terms,
                ends: (client, local),
                places,
            };
            if let Err(error) = visit.serve(stop).await {
                tracing::debug!(%error, %client, "a connection ended");
            }
            drop(working);
        });
    }
}
