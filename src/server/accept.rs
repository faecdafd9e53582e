//! Accepting connections, also when the process has no free file descriptor.
//!
//! Without one, accept(2) fails at once and the connection stays in the queue. Retrying at once would take
//! a full core, and the queue would never drain: so an idle connection is evicted, which frees a descriptor
//! for the next one. A listener that must stay reachable in any case holds spare descriptors, which are
//! closed one by one for that. Both are done only while a connection is queued: an eviction for an empty
//! queue would hit a probe that was accepted a moment ago.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::connection_limit::ConnectionLimit;
use crate::error_text;

/// Delay before accepting again after an error.
const PAUSE: Duration = Duration::from_millis(20);

/// Bound on the rate of log lines about failures to accept.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A listening socket whose connections are accepted.
pub(crate) struct Acceptor {
    listener: TcpListener,
    /// Spare descriptors, closed one by one when there are no others.
    spares: Vec<File>,
    wanted_spares: usize,
    logged: Option<Instant>,
}

impl Acceptor {
    /// Accepts the connections of `listener`, with so many spare descriptors.
    pub(crate) fn new(listener: TcpListener, spares: usize) -> Self {
        let mut accept = Self {
            listener,
            spares: Vec::with_capacity(spares),
            wanted_spares: spares,
            logged: None,
        };
        accept.refill();
        accept
    }

    /// The next connection and its client. Without a descriptor for it, evicts an idle connection of
    /// `limit` and retries. Cancel safe.
    pub(crate) async fn next(&mut self, limit: &ConnectionLimit) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.refill();
                    return accepted;
                }
                Err(error) if belongs_to_connection(&error) => {}
                // No connection is queued that could use a freed descriptor.
                Err(_) if !self.has_queued() => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    self.log(&error);
                    if self.spares.pop().is_some() {
                        continue;
                    }
                    limit.evict_idle();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// A connection that is already queued, if there is one. Closing the listening socket would reset it.
    pub(crate) fn queued(&self) -> Option<(TcpStream, SocketAddr)> {
        // By accept(2) directly: tokio's readiness may not yet be set.
        let (socket, client) = SockRef::from(&self.listener).accept().ok()?;
        socket.set_nonblocking(true).ok()?;
        let stream = TcpStream::from_std(socket.into()).ok()?;
        Some((stream, client.as_socket()?))
    }

    /// Whether a connection is queued. Linux reserves a descriptor before it checks the queue, so without
    /// one accept(2) fails for an empty queue too.
    fn has_queued(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let mut sockets = [PollFd::new(&self.listener, PollFlags::IN)];
            let now = Timespec::default();
            poll(&mut sockets, Some(&now)).is_ok_and(|ready| ready > 0)
        }
        #[cfg(not(target_os = "linux"))]
        true
    }

    fn refill(&mut self) {
        while self.spares.len() < self.wanted_spares {
            match File::open("/dev/null") {
                Ok(spare) => self.spares.push(spare),
                Err(_) => return, // retried with the next connection
            }
        }
    }

    fn log(&mut self, error: &io::Error) {
        if self
            .logged
            .is_none_or(|last| last.elapsed() >= LOG_INTERVAL)
        {
            self.logged = Some(Instant::now());
            tracing::warn!("cannot accept connections: {}", error_text::io(error));
        }
    }
}

/// Whether the error belongs to the connection that was to be accepted: Linux's accept(2) returns its
/// pending network errors.
fn belongs_to_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
    )
}
