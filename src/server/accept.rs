//! Accepting connections, also when the process has no free file descriptor.
//!
//! Without one, accept(2) fails at once and the connection stays in the queue. Retrying at once would take
//! a full core, and the queue would never drain: so an idle connection is evicted, which frees a descriptor
//! for the next one. A listener that must stay reachable in any case holds spare descriptors, which are
//! closed one by one for that. Both are done only while a connection is queued: an eviction for an empty
//! queue would hit a probe that was accepted a moment ago.
//!
//! Closing a listening socket resets the connections in its queue, and those whose handshake is not complete.
//! So one that another succeeds gets no new connections first, and those that it has are accepted.

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

/// How long a socket that is succeeded waits for handshakes to complete. The next socket of the address may listen after
/// that.
pub(crate) const HANDSHAKE_WAIT: Duration = Duration::from_millis(100);

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
/// Another program began to listen there since the socket was bound; or the system's.
pub(crate) fn listen(bound: std::net::TcpListener) -> io::Result<TcpListener> {
    reserve(&bound)?;
    bound.set_nonblocking(true)?;
    let listener = TcpListener::from_std(bound)?;
    // If it fails, the system distributes connections among the sockets of the address.
    let _ = direct_to(&listener, 0);
    Ok(listener)
}

/// Listens at a bound socket whose address no other has, so that no other program can.
pub(crate) fn reserve(bound: &std::net::TcpListener) -> io::Result<()> {
    SockRef::from(bound).listen(BACKLOG)
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

    /// Ends: passes the connections that it has to `admit`, and closes the socket. Where another
    /// socket has `succeeded` this one at its address, new connections reach that one from now on.
    pub(crate) async fn close(
        mut self,
        succeeded: bool,
        limit: &ConnectionLimit,
        admit: impl Fn(Accepted),
    ) {
        let mut end = tokio::time::Instant::now();
        // If it fails, a connection that comes at the very end is reset.
        if succeeded && stop_new_connections(&self.listener).is_ok() {
            end += HANDSHAKE_WAIT;
        }
        while tokio::time::Instant::now() < end
            && let Ok(accepted) = timeout_at(end, self.next(limit)).await
        {
            admit(accepted);
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

/// Makes new connections reach the socket that succeeds this one. Connections in the queue and handshakes that have
/// begun stay with this one.
#[cfg(target_os = "linux")]
fn stop_new_connections(listener: &TcpListener) -> io::Result<()> {
    // A successor of exactly this address is the second of the group. This must come first: the system does not look
    // at the interface of a member.
    direct_to(listener, 1)?;
    // A successor of a less exact address, such as [::], is chosen where this one does not match: no interface has
    // this index. The call is the same for IPv6.
    let none = std::num::NonZeroU32::new(i32::MAX.unsigned_abs());
    SockRef::from(listener).bind_device_by_index_v4(none)
}

/// Connections that come later than the last that is accepted are reset.
#[cfg(not(target_os = "linux"))]
fn stop_new_connections(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Directs the connections of the address to one of its listening sockets. They are a group (`SO_REUSEPORT`) in the
/// order in which they began to listen, until one is closed: the last takes its place. Without a socket of this index
/// the system chooses. A group has at most two for more than [`HANDSHAKE_WAIT`]: the one that serves, and during a
/// take-over the one of the next process.
#[cfg(target_os = "linux")]
fn direct_to(listener: &TcpListener, index: u32) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
    let mut returns_index = libc::sock_filter {
        code: 0x06, // BPF_RET | BPF_K of linux/bpf_common.h
        jt: 0,
        jf: 0,
        k: index,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut returns_index,
    };
    Ok(setsockopt(listener, AttachReusePortCbpf, &program)?)
}

/// Left to the system.
#[cfg(not(target_os = "linux"))]
fn direct_to(_: &TcpListener, _: u32) -> io::Result<()> {
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
        net::{IpAddr, Ipv4Addr},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use socket2::{Domain, Socket, Type};

    use super::*;

    const BOUNDS: AcceptBounds = AcceptBounds {
        spares: 0,
        entering: 1024,
    };

    fn bind(ip: impl Into<IpAddr>, port: u16) -> io::Result<(Acceptor, u16)> {
        let address = SocketAddr::new(ip.into(), port);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        let port = socket.local_addr()?.as_socket().unwrap().port();
        Ok((Acceptor::new(socket.into(), BOUNDS)?, port))
    }

    /// A socket of 127.0.0.1 and one of `second` with the same port.
    fn pair(second: impl Into<IpAddr> + Copy) -> (Acceptor, Acceptor, u16) {
        // Another program may have the port at the second address.
        for _ in 0..32 {
            let (first, port) = bind(Ipv4Addr::LOCALHOST, 0).unwrap();
            if let Ok((second, _)) = bind(second, port) {
                return (first, second, port);
            }
        }
        panic!("no port is free at both addresses");
    }

    /// Accepts what comes to `acceptors` during 100 connections, and closes the first of them after the tenth. The
    /// number of connections of each.
    async fn connected<const N: usize>(
        acceptors: [Acceptor; N],
        succeeded: bool,
        port: u16,
    ) -> [usize; N] {
        let limit = ConnectionLimit::new(1024);
        let counts = [const { AtomicUsize::new(0) }; N];
        let closing = tokio::sync::Notify::new();
        let greet = |accepted: Accepted, count: &AtomicUsize| {
            count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(accepted.stream.try_write(&[7]).unwrap(), 1);
        };
        let accepts = acceptors
            .into_iter()
            .enumerate()
            .map(|(index, mut acceptor)| {
                let (limit, closing, count) = (&limit, &closing, &counts[index]);
                async move {
                    loop {
                        tokio::select! {
                            accepted = acceptor.next(limit) => greet(accepted, count),
                            () = closing.notified(), if index == 0 => break,
                        }
                    }
                    acceptor
                        .close(succeeded, limit, |accepted| greet(accepted, count))
                        .await;
                    std::future::pending::<()>().await;
                }
            });
        let connects = async {
            for number in 0..100 {
                if number == 10 {
                    closing.notify_one();
                    tokio::task::yield_now().await;
                }
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
                // Fails if the connection is reset.
                let byte = tokio::io::AsyncReadExt::read_u8(&mut stream.unwrap()).await;
                assert_eq!(byte.unwrap(), 7, "{number}");
            }
        };
        tokio::select! {
            _ = futures_util::future::join_all(accepts) => {}
            () = connects => {}
        }
        counts.map(AtomicUsize::into_inner)
    }

    /// The first gets ten connections, or the one that begins with its end, and the second all others.
    async fn assert_succeeded(first: Acceptor, second: Acceptor, port: u16) {
        let counts = connected([first, second], true, port).await;
        assert!((10..=11).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[0] + counts[1], 100);
    }

    #[tokio::test]
    async fn a_less_exact_address_succeeds_a_socket() {
        let (first, second, port) = pair(Ipv4Addr::UNSPECIFIED);
        assert_succeeded(first, second, port).await;
    }

    #[tokio::test]
    async fn the_first_of_an_address_serves_until_the_second_succeeds_it() {
        let (first, second, port) = pair(Ipv4Addr::LOCALHOST);
        assert_succeeded(first, second, port).await;
    }

    #[tokio::test]
    async fn one_that_is_withdrawn_takes_no_connections_from_the_first() {
        let (first, second, port) = pair(Ipv4Addr::LOCALHOST);
        assert_eq!(connected([second, first], false, port).await, [0, 100]);
    }

    #[tokio::test]
    async fn a_third_waits_for_the_second_after_the_first_is_gone() {
        let (first, second, port) = pair(Ipv4Addr::LOCALHOST);
        first.close(true, &ConnectionLimit::new(1), drop).await;
        let (third, _) = bind(Ipv4Addr::LOCALHOST, port).unwrap();
        assert_succeeded(second, third, port).await;
    }
}
