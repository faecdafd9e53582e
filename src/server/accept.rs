//! Accepting connections, also without a free file descriptor.
//!
//! Without one, accept(2) fails at once and the connection stays in the queue. A tight loop would take a
//! whole core, and without any measure the queue never moves: an idle connection is evicted, which frees a
//! descriptor for the next one. A listener that must stay reachable in any case holds spare descriptors,
//! which are closed one by one for that. Both are done only while a connection waits: an eviction for an
//! empty queue would hit a probe that was accepted a moment ago.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::connection_limit::ConnectionLimit;
use crate::plain;

/// How long to wait before accepting again after an error.
const PAUSE: Duration = Duration::from_millis(20);

/// How often it is logged that connections cannot be accepted.
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
    /// Accepts the connections of `listener`. With `spares`, so many of them also while the process
    /// has no other descriptor left.
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
                // Nothing waits for what an eviction or a spare would free.
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

    /// A connection that is queued already, if there is one. Closing the socket would reset it.
    pub(crate) fn queued(&self) -> Option<(TcpStream, SocketAddr)> {
        // By a system call: tokio sees a connection only once its own wait has ended.
        let (socket, client) = SockRef::from(&self.listener).accept().ok()?;
        socket.set_nonblocking(true).ok()?;
        let stream = TcpStream::from_std(socket.into()).ok()?;
        Some((stream, client.as_socket()?))
    }

    /// Whether a connection waits to be accepted. Linux takes a descriptor before it looks into the queue,
    /// so that without one accept(2) fails for an empty queue too.
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
            tracing::warn!("cannot accept connections: {}", plain::io(error));
        }
    }
}

/// Whether only the connection that was about to be accepted has failed: accept(2) of Linux passes its
/// pending network errors on.
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
