//! UDP listeners: a thread per core, each with a socket of its own, which replies where it reads.
//!
//! The threads are not the runtime's. A cluster name costs little more than its system calls, and a task
//! switch would double that. See [`worker`] for what a thread does.

mod deferred;
mod replies;
mod shedding;
mod worker;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;
use tokio::runtime::Handle;

use self::worker::Worker;
use super::{
    bind::datagrams::bind_one,
    handle::MessageHandler,
    limits::TaskTracker,
    proxy::sessions::{DatagramProxy, Relay},
};
use crate::upstream::Engine;

/// How often a thread without queries checks whether it is to stop, should waking it fail.
const LOOK_UP: Duration = Duration::from_secs(1);

/// The threads that serve one address, each with a socket of its own. They are added and retired one by one;
/// dropping them stops them.
pub(super) struct Threads {
    address: SocketAddr,
    threads: Vec<Thread>,
}

/// A thread that serves a socket. Dropping it retires the socket: it receives nothing more, and the thread
/// answers what is queued there before it ends.
pub(super) struct Thread {
    stop: Stop,
    tasks: TaskTracker,
}

/// Stops a thread when dropped.
struct Stop {
    socket: Arc<UdpSocket>,
    flag: Arc<AtomicBool>,
}

/// What every thread of a listener works with. A reload changes what is behind it, not the threads.
#[derive(Clone)]
pub(super) struct ListenerContext {
    pub(super) handler: MessageHandler,
    pub(super) proxy: DatagramProxy,
    /// Where queries are finished that a thread cannot finish itself.
    pub(super) runtime: Handle,
}

impl Threads {
    /// Begins to serve, with a thread for each of the sockets, all of one address.
    pub(super) fn start(sockets: Vec<UdpSocket>, context: &ListenerContext) -> io::Result<Self> {
        let first = sockets.first().ok_or(io::ErrorKind::InvalidInput)?;
        let address = first.local_addr()?;
        let threads = sockets.into_iter();
        let threads = threads.map(|socket| Thread::start(socket, context));
        Ok(Self {
            address,
            threads: threads.collect::<io::Result<_>>()?,
        })
    }

    /// Starts the threads that are missing to `count`, each with one more socket of the address. They serve
    /// at once; dropped instead of being given to [`resize`](Self::resize), they end like any others.
    pub(super) fn start_missing(
        &self,
        count: usize,
        context: &ListenerContext,
    ) -> io::Result<Vec<Thread>> {
        (self.threads.len()..count.max(1))
            .map(|_| Thread::start(bind_one(self.address)?, context))
            .collect()
    }

    /// Keeps `count` threads, `missing` included; the others are returned.
    #[must_use]
    pub(super) fn resize(&mut self, count: usize, missing: Vec<Thread>) -> Vec<Thread> {
        self.threads.extend(missing);
        self.threads.split_off(count.max(1).min(self.threads.len()))
    }

    /// Stops receiving at once: a datagram that is sent after this call reaches another socket of the address.
    /// The future completes when the queries that were received are answered, at `deadline` at the latest,
    /// and returns whether all were.
    pub(super) fn drain(
        self,
        deadline: tokio::time::Instant,
    ) -> impl Future<Output = bool> + Send + use<> {
        drain(self.threads, deadline)
    }
}

/// Stops threads as [`Threads::drain`] does.
pub(super) fn drain(
    threads: Vec<Thread>,
    deadline: tokio::time::Instant,
) -> impl Future<Output = bool> + Send + use<> {
    let threads = threads.into_iter();
    let drained: Vec<_> = threads
        .map(|Thread { stop, tasks }| {
            drop(stop);
            tasks.wait(deadline)
        })
        .collect();
    async move {
        let drained = futures_util::future::join_all(drained).await;
        drained.into_iter().all(|drained| drained)
    }
}

impl Thread {
    fn start(socket: UdpSocket, context: &ListenerContext) -> io::Result<Self> {
        socket.set_read_timeout(Some(LOOK_UP))?;
        let bound = socket.local_addr()?;
        let tasks = TaskTracker::new();
        let socket = Arc::new(socket);
        let stop = Stop {
            socket: Arc::clone(&socket),
            flag: Arc::default(),
        };
        let ListenerContext {
            handler,
            proxy,
            runtime,
        } = context;
        let worker = Worker {
            engine: Engine::new(Some(&socket))?,
            relay: Relay::new(proxy),
            runtime: runtime.clone(),
            socket,
            bound,
            handler: handler.clone(),
            stop: Arc::clone(&stop.flag),
            _token: tasks.token(),
        };
        thread::Builder::new()
            .name(format!("udp-{}", bound.port()))
            .spawn(move || worker.run())?;
        Ok(Self { stop, tasks })
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        // If it fails, the socket goes on receiving and its queue is lost.
        let _ = retire(&self.socket);
        self.flag.store(true, Ordering::Release);
        // Wakes the thread that waits at the socket. On a socket without a peer the call reports ENOTCONN
        // and wakes it all the same.
        let _ = SockRef::from(self.socket.as_ref()).shutdown(Shutdown::Read);
    }
}

/// Takes a socket out of its `SO_REUSEPORT` group: datagrams from now on reach other sockets of the address,
/// while this one keeps its queue and can still send. It is connected to itself: Linux delivers nothing to a
/// connected socket but its peer's datagrams.
fn retire(socket: &UdpSocket) -> io::Result<()> {
    let mut peer = socket.local_addr()?;
    match peer.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => peer.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => peer.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    socket.connect(peer)
}
