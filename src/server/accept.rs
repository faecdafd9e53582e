//! Accepting connections, also when the process has no free file descriptor.
//!
//! Without one, accept(2) fails at once and the connection stays in the queue. Retrying at once would take
//! a full core, and the queue would never drain: so an idle connection is evicted, which frees a descriptor
//! for the next one. A listener that must stay reachable in any case holds spare descriptors, which are
//! closed one by one for that. Both are done only while a connection is queued: an eviction for an empty
//! queue would hit a probe that was accepted a moment ago.
//!
//! Closing a listening socket resets the connections in its queue, and those whose handshake is under way.
//! So it is retired first: it gets no new connections, and what it has is accepted.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};

use super::connection_limit::ConnectionLimit;
use crate::error_text;

/// Delay before accepting again after an error.
const PAUSE: Duration = Duration::from_millis(20);

/// Bound on the rate of log lines about failures to accept.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Length of the accept queue; the kernel caps it at `net.core.somaxconn`. A connection that does not fit is
/// retried by the client's kernel a second later, which is the whole timeout of a probe.
const BACKLOG: i32 = 4096;

/// How long a retired socket waits for the handshakes that are under way.
const HANDSHAKES: Duration = Duration::from_millis(100);

/// Bounds of an [`Acceptor`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct AcceptBounds {
    /// Spare descriptors.
    pub(crate) spares: usize,
    /// Accepted connections whose slot is still held; at the bound no more are accepted.
    pub(crate) entering: usize,
}

/// A listening socket whose connections are accepted.
pub(crate) struct Acceptor {
    listener: TcpListener,
    /// Spare descriptors, closed one by one when there are no others.
    spares: Vec<File>,
    wanted_spares: usize,
    slots: Arc<Semaphore>,
    logged: Option<Instant>,
}

/// A connection that was accepted.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) client: SocketAddr,
    /// Held until the connection has a permit of the connection limit.
    pub(crate) slot: OwnedSemaphorePermit,
}

/// Listens at a bound socket. Call within a runtime.
///
/// # Errors
/// The system's. A bound socket has its address, so none is expected.
pub(crate) fn listen(bound: std::net::TcpListener) -> io::Result<TcpListener> {
    SockRef::from(&bound).listen(BACKLOG)?;
    bound.set_nonblocking(true)?;
    TcpListener::from_std(bound)
}

impl Acceptor {
    /// Listens at a bound socket, as [`listen`] does.
    pub(crate) fn new(bound: std::net::TcpListener, bounds: AcceptBounds) -> io::Result<Self> {
        let mut acceptor = Self {
            listener: listen(bound)?,
            spares: Vec::with_capacity(bounds.spares),
            wanted_spares: bounds.spares,
            slots: Arc::new(Semaphore::new(bounds.entering)),
            logged: None,
        };
        acceptor.refill();
        Ok(acceptor)
    }

    /// The next connection. Without a descriptor for it, evicts an idle connection of `limit` and retries.
    /// Cancel safe.
    pub(crate) async fn next(&mut self, limit: &ConnectionLimit) -> Accepted {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.expect("it is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, client)) => {
                    self.refill();
                    return Accepted {
                        stream,
                        client,
                        slot,
                    };
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

    /// Takes no new connections, which reach other sockets of the address, and passes those that it has to
    /// `admit`. Completes when the socket can be closed.
    pub(crate) async fn retire(mut self, limit: &ConnectionLimit, admit: impl Fn(Accepted)) {
        // If it fails, a connection that comes at the very end is reset.
        let _ = divert(&self.listener);
        let end = tokio::time::Instant::now() + HANDSHAKES;
        while let Ok(accepted) = timeout_at(end, self.next(limit)).await {
            admit(accepted);
            if tokio::time::Instant::now() >= end {
                break;
            }
        }
        while let Some(accepted) = self.queued() {
            admit(accepted);
        }
    }

    /// A connection that is already queued, if there is one.
    fn queued(&self) -> Option<Accepted> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        // By accept(2) directly: tokio's readiness may not yet be set.
        let (socket, client) = SockRef::from(&self.listener).accept().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Accepted {
            stream: TcpStream::from_std(socket.into()).ok()?,
            client: client.as_socket()?,
            slot,
        })
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

/// Makes new connections reach other listening sockets of the address, if there are any. Connections of the
/// queue and handshakes that are under way stay with this one.
///
/// Sockets of exactly this address are a group (`SO_REUSEPORT`), in the order in which they began to listen,
/// and this is the first. A program that chooses one must come first: the system does not look at a member's
/// interface.
#[cfg(target_os = "linux")]
fn divert(listener: &TcpListener) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
    use std::num::NonZeroU32;
    // "Return 1", the index of the second. Without a second the system chooses as before.
    let mut returns_second = libc::sock_filter {
        code: 0x06, // BPF_RET | BPF_K of linux/bpf_common.h
        jt: 0,
        jf: 0,
        k: 1,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut returns_second,
    };
    setsockopt(listener, AttachReusePortCbpf, &program)?;
    // Sockets of a less exact address, such as [::], are chosen where this one does not match: no interface
    // has this index. The call is the same for IPv6.
    SockRef::from(listener).bind_device_by_index_v4(NonZeroU32::new(i32::MAX.unsigned_abs()))
}

/// Connections that come later than the last that is accepted are reset.
#[cfg(not(target_os = "linux"))]
fn divert(_: &TcpListener) -> io::Result<()> {
    Ok(())
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr, Ipv6Addr},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use socket2::{Domain, Socket, Type};

    use super::*;

    const BOUNDS: AcceptBounds = AcceptBounds {
        spares: 0,
        entering: 1024,
    };

    fn bind(ip: impl Into<IpAddr>, port: u16) -> (Acceptor, u16) {
        let address = SocketAddr::new(ip.into(), port);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        (Acceptor::new(socket.into(), BOUNDS).unwrap(), port)
    }

    /// Connects while `first` is retired beside `second`; the numbers of connections that each has accepted.
    async fn connected(first: Acceptor, mut second: Acceptor, port: u16) -> (usize, usize) {
        let limit = ConnectionLimit::new(1024);
        let (of_first, of_second) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let connect = || async {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            let mut stream = stream.unwrap();
            // Fails if the connection is reset.
            let byte = tokio::io::AsyncReadExt::read_u8(&mut stream).await;
            assert_eq!(byte.unwrap(), 7);
        };
        let greet = |accepted: Accepted, count: &AtomicUsize| {
            count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(accepted.stream.try_write(&[7]).unwrap(), 1);
        };
        // In the queue of one of them when the first is retired.
        let queued = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let serve_second = async {
            loop {
                greet(second.next(&limit).await, &of_second);
            }
        };
        let retire = first.retire(&limit, |accepted| greet(accepted, &of_first));
        let connects = async {
            for _ in 0..200 {
                connect().await;
            }
        };
        tokio::select! {
            _ = async { tokio::join!(biased; retire, connects) } => {}
            () = serve_second => {}
        }
        drop(queued);
        (of_first.into_inner(), of_second.into_inner())
    }

    #[tokio::test]
    async fn a_retired_socket_keeps_its_queue_and_gets_no_new_connections() {
        let (first, port) = bind(Ipv4Addr::LOCALHOST, 0);
        let (second, _) = bind(Ipv6Addr::UNSPECIFIED, port);
        let (of_first, of_second) = connected(first, second, port).await;
        assert_eq!((of_first, of_second), (1, 200), "a less exact address");

        let (first, port) = bind(Ipv4Addr::LOCALHOST, 0);
        let (second, _) = bind(Ipv4Addr::LOCALHOST, port);
        let (of_first, of_second) = connected(first, second, port).await;
        assert_eq!(of_first + of_second, 201, "the same address");
        assert!(of_first <= 1, "{of_first}");
    }
}
