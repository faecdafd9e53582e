//! Datagrams: a thread a core, each with a socket of its own, answering where it reads.
//!
//! The threads are not the runtime's. A cluster name costs little more than its system calls, and
//! handing it to a scheduler would double that. A question for an upstream costs its system calls
//! twice: the thread asks by itself (`asking`), and answers when it reads the upstream's answer. What
//! must wait for anything else is handed over (`waits`), and sends its own reply when it has one.

#[cfg(target_os = "linux")]
mod asking;
#[cfg(not(target_os = "linux"))]
#[path = "udp/not_asking.rs"]
mod asking;
mod waits;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, UdpSocket},
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::runtime::Handle;

use self::{asking::Asking, waits::Waits};
use super::{
    RETIREMENT,
    handle::{Arrival, Entrance, Handled, Scratch, Wait},
    limits::{Work, Working},
    proxy::sessions::{DatagramProxy, Relay, Relayed},
};
use crate::{
    datagrams::{Datagrams, ask_for_destinations},
    plain,
    query::Transport,
};

/// Octets of waiting datagrams that the system is asked to hold for each socket: a quarter of a
/// second of a thread's work. It grants what `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How often a thread without queries looks whether it is to stop, where waking it fails.
const LOOK_UP: Duration = Duration::from_secs(1);

/// How long a thread that stops goes on with what is queued at its socket before it looks after its
/// pending queries again.
const DRAIN: Duration = Duration::from_millis(200);

/// The threads that serve one address, each with a socket of its own: threads are added and retired one by
/// one. Dropping them stops them.
pub(super) struct Threads {
    address: SocketAddr,
    threads: Vec<Thread>,
}

/// A thread that serves a socket. Dropping it retires the socket: it receives nothing more, and the thread
/// answers what is queued there before it ends.
pub(super) struct Thread {
    stop: Stop,
    work: Work,
}

/// Stops a thread when dropped.
struct Stop {
    socket: Arc<UdpSocket>,
    flag: Arc<AtomicBool>,
}

/// What every thread of a listener works with. A reload changes what is behind it, not the threads.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) entrance: Entrance,
    pub(super) proxy: DatagramProxy,
    /// Where queries are finished that a thread cannot finish itself.
    pub(super) runtime: Handle,
}

/// How many threads serve an address unless it is said: the cores that this process may use, by
/// its cgroup's quota too.
pub(super) fn default_threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Binds `count` sockets to one address, between which the system divides the clients. With port
/// 0 the system chooses one port for all of them.
pub(super) fn bind(mut address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count.max(1) {
        let socket = bind_one(address)?;
        address.set_port(socket.local_addr()?.port());
        sockets.push(socket);
    }
    Ok(sockets)
}

fn bind_one(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    if socket.recv_buffer_size()? < RECEIVE_BUFFER {
        // A smaller buffer serves too.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    if address.ip().is_unspecified() {
        ask_for_destinations(&socket, address)?;
    }
    Ok(socket)
}

impl Threads {
    /// Begins to serve, with a thread for each of the sockets, all of one address.
    pub(super) fn start(sockets: Vec<UdpSocket>, context: &Context) -> io::Result<Self> {
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
    pub(super) fn start_missing(&self, count: usize, context: &Context) -> io::Result<Vec<Thread>> {
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

    /// Stops taking queries at once: a query that is sent after this call is another socket's. The
    /// future completes when those that were taken are answered, at `deadline` at the latest; whether
    /// all were.
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
        .map(|Thread { stop, work }| {
            drop(stop);
            work.end(deadline)
        })
        .collect();
    async move {
        let drained = futures_util::future::join_all(drained).await;
        drained.into_iter().all(|drained| drained)
    }
}

impl Thread {
    fn start(socket: UdpSocket, context: &Context) -> io::Result<Self> {
        socket.set_read_timeout(Some(LOOK_UP))?;
        let bound = socket.local_addr()?;
        let wildcard = bound.ip().is_unspecified();
        let work = Work::new();
        let socket = Arc::new(socket);
        let stop = Stop {
            socket: Arc::clone(&socket),
            flag: Arc::default(),
        };
        let Context {
            entrance,
            proxy,
            runtime,
        } = context;
        let worker = Worker {
            waits: Waits::start(Arc::clone(&socket), wildcard, work.begin(), runtime),
            asking: Asking::new(&socket, wildcard, entrance.server().metrics()),
            socket,
            bound,
            entrance: entrance.clone(),
            stop: Arc::clone(&stop.flag),
            _working: work.begin(),
        };
        let relay = Relay::new(proxy);
        thread::Builder::new()
            .name(format!("udp-{}", bound.port()))
            .spawn(move || worker.run(relay))?;
        Ok(Self { stop, work })
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        // Where it fails, the socket goes on receiving and its queue is lost.
        let _ = retire(&self.socket);
        self.flag.store(true, Ordering::Release);
        // It wakes the thread that waits at it. On a socket without a peer the call reports a failure
        // and does so all the same.
        let _ = SockRef::from(self.socket.as_ref()).shutdown(Shutdown::Read);
    }
}

/// Makes the system choose other sockets of the address for all that comes from now on, while this
/// one keeps what it has and can still send replies. Linux chooses no socket that has a peer for
/// the datagrams of another peer; the peer is the socket itself, which sends nothing.
fn retire(socket: &UdpSocket) -> io::Result<()> {
    let mut peer = socket.local_addr()?;
    match peer.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => peer.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => peer.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    socket.connect(peer)
}

struct Worker {
    socket: Arc<UdpSocket>,
    bound: SocketAddr,
    entrance: Entrance,
    waits: Waits,
    asking: Asking,
    stop: Arc<AtomicBool>,
    _working: Working,
}

impl Worker {
    /// Works until it is to stop; `relay` takes PROXY headers off.
    fn run(mut self, mut relay: Relay) {
        let mut datagrams = Datagrams::new(self.bound);
        let mut scratch = Scratch::default();
        while !self.stop.load(Ordering::Acquire) {
            if self.asking.is_idle() {
                self.turn(&mut datagrams, &mut scratch, &mut relay, true);
                self.asking.sweep(&mut self.waits);
            } else if self.asking.turn(&mut scratch, &mut self.waits) {
                self.turn(&mut datagrams, &mut scratch, &mut relay, false);
            }
        }
        // Clients are not waited for any more: the socket would be found readable for ever.
        self.asking.close();
        let reads = self.socket.set_nonblocking(true).is_ok();
        let begun = Instant::now();
        loop {
            // What the system has taken in is answered. Where the socket could not be retired there
            // is no end to that under load, and it is bounded by time.
            while reads
                && begun.elapsed() < RETIREMENT
                && self.turn(&mut datagrams, &mut scratch, &mut relay, false) > 0
                && begun.elapsed() < DRAIN
            {}
            if self.asking.is_idle() {
                break;
            }
            self.asking.turn(&mut scratch, &mut self.waits);
        }
    }

    /// Takes what has come, answers it, sends the replies; how many datagrams it was.
    fn turn(
        &mut self,
        datagrams: &mut Datagrams,
        scratch: &mut Scratch,
        relay: &mut Relay,
        waits: bool,
    ) -> usize {
        let count = match datagrams.receive(&self.socket, waits) {
            Ok(count) => count,
            Err(error) => {
                // The system is out of something. It is not to be asked in a tight loop.
                let why = plain::io(&error);
                tracing::warn!("cannot receive queries at {}: {why}", self.bound);
                thread::sleep(Duration::from_millis(100));
                return 0;
            }
        };
        if count == 0 {
            return 0;
        }
        let stale = datagrams.take_stale();
        if stale > 0 {
            let metrics = self.entrance.server().metrics();
            metrics.stale_queries_total.inc_by(stale as u64);
        }
        let received = Instant::now();
        let routes = self.entrance.server().routes();
        for index in 0..count {
            let Some((datagram, reply)) = datagrams.datagram(index) else {
                continue;
            };
            let relayed = relay.read(datagram.octets, datagram.client, received);
            let Some(Relayed { octets, client }) = relayed else {
                reply.clear();
                continue;
            };
            let arrival = Arrival {
                octets,
                client,
                local: datagram.local,
                transport: Transport::Udp,
                received,
            };
            match self.entrance.handle(&routes, scratch, &arrival, reply) {
                Handled::Reply => {}
                // Several messages are for streams alone.
                Handled::Nothing | Handled::Transfer(_) => reply.clear(),
                Handled::Wait(wait) => {
                    reply.clear();
                    if let Some(wait) = self.asking.push(wait, datagram.client, received) {
                        self.waits.push(wait, datagram.client);
                    }
                }
            }
        }
        drop(routes);
        datagrams.send(&self.socket);
        self.asking.flush(&mut self.waits);
        self.waits.hand_over();
        count
    }
}
