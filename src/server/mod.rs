//! Transports and the one door: what is listened on, and what is answered there.
//!
//! ```text
//! handle    octets in, octets out: every transport goes in here
//! route     a question's block, by the longest zone
//! udp       threads of its own, a batch of datagrams a system call
//! tcp       connections: accept loop; DNS over TCP and TLS, pipelining
//! http      on such a connection: DNS over HTTPS, gRPC
//! quic      accept loop; DNS over QUIC, DNS over HTTPS with HTTP/3
//! hickory   plain DNS by hickory-server's loops instead, behind the same entrance
//! backend   which of the two
//! caller    the door for whoever has a way back for each question: http and quic
//! tls       certificates, and following their files
//! proxy     who really asks, where a load balancer tells
//! reception what accept loops work with, and end by
//! descriptors how many files and sockets the process may have open
//! accept    the next connection, whatever the system is out of
//! gate      connection limits, and which one is evicted for another
//! terms     what connections are treated by, changed by a reload
//! limits    what is granted at most, and for how long
//! ```

pub(crate) mod accept;
mod backend;
pub(crate) mod bind;
mod caller;
pub mod descriptors;
pub(crate) mod gate;
pub mod handle;
#[cfg(feature = "hickory")]
mod hickory;
mod http;
pub mod limits;
pub mod proxy;
mod quic;
mod reception;
pub mod route;
pub(crate) mod tcp;
mod terms;
pub mod tls;
mod transfer;
mod udp;

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, runtime::Handle, time::Instant};

pub use backend::Backend;
pub use bind::BindError;

use self::{
    bind::{Bound, Sockets},
    handle::{Entrance, Server},
    limits::{Grants, Limits, StreamSettings},
    proxy::Trust,
    reception::Reception,
    route::Routes,
    terms::Terms,
    tls::Identity,
};
use crate::metrics::Metrics;

/// How questions arrive at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// UDP and TCP.
    Dns,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over QUIC (RFC 9250).
    Quic,
    /// DNS over HTTPS (RFC 8484), HTTP/1.1 and HTTP/2; without a certificate it is bare HTTP/1.1.
    Https,
    /// DNS over HTTPS with HTTP/3.
    Https3,
    /// CoreDNS's service of gRPC; without a certificate it is bare HTTP/2.
    Grpc,
}

/// Something to listen on: what a listener is known by from one configuration to the next.
///
/// The address `[::]` stands for all addresses of the machine, IPv4 as well as IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listener {
    /// How questions arrive.
    pub scheme: Scheme,
    /// Where. Port 0 lets the system choose one.
    pub address: SocketAddr,
}

/// A listener, and all that is served there.
pub struct Wanted {
    /// What to listen on.
    pub listener: Listener,
    /// What metrics and logs call it: `dns://:53`.
    pub label: Arc<str>,
    /// Where questions go.
    pub routes: Routes,
    /// How streams are treated.
    pub streams: StreamSettings,
    /// Threads, each with its socket, for an address of UDP; one for each core unless it is said.
    pub udp_threads: Option<usize>,
    /// The certificate; [`Scheme::Dns`] does without.
    pub tls: Option<Arc<Identity>>,
    /// Whose PROXY headers are believed; without this nobody's are looked for.
    pub proxy: Option<Arc<Trust>>,
}

/// Every listener of the process.
pub struct Servers {
    runtime: Handle,
    grants: Grants,
    gate: gate::Gate,
    metrics: Arc<Metrics>,
    backend: Backend,
    running: HashMap<Listener, Running>,
}

/// A new set of listeners: its sockets are bound and nothing else has happened.
pub struct Prepared {
    wanted: Vec<Wanted>,
    sockets: HashMap<Listener, Sockets>,
}

/// How long a listener that a new configuration does without may go on with what it was asked.
const RETIREMENT: Duration = Duration::from_secs(5);

/// A listener at work.
struct Running {
    server: Arc<Server>,
    bound: Bound,
    /// The threads of UDP, for each address.
    udp: Vec<udp::Threads>,
    /// The listening sockets of connections. Another listener of the same address takes them over:
    /// with a new socket, the connections in the queue of the old one would be reset.
    tcp: Vec<Arc<TcpListener>>,
    /// In place of both, for each address: hickory-server's loops.
    #[cfg(feature = "hickory")]
    hickory: Vec<hickory::Serving>,
    reception: Reception,
    /// What the sockets were made for: with another of these, there must be other sockets.
    shape: Shape,
}

#[derive(Clone)]
struct Shape {
    label: Arc<str>,
    /// Of plain DNS alone: there are no such threads for anything else.
    udp_threads: Option<usize>,
    /// Of datagrams alone: connections can change it without another socket.
    proxy: Option<Arc<Trust>>,
}

impl Servers {
    /// No listener yet. What must wait is run on `runtime`.
    pub fn new(runtime: Handle, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            runtime,
            grants: Grants::new(limits, &metrics),
            gate: gate::Gate::new(limits.connections),
            metrics,
            backend: Backend::default(),
            running: HashMap::new(),
        }
    }

    /// Serves listeners that start from now on by this backend.
    pub fn use_backend(&mut self, backend: Backend) {
        self.backend = backend;
    }

    /// Has so many queries be pending at most, over all listeners, as `limits` says.
    pub fn allow_pending(&self, limits: Limits) {
        self.grants.allow(limits);
    }

    /// The addresses of a listener, as the system knows them: the ports are the ones that it chose.
    /// For all addresses of the machine, IPv4's comes first and IPv6's follows, if there is IPv6.
    pub fn bound(&self, listener: Listener) -> &[SocketAddr] {
        let running = self.running.get(&listener);
        running.map_or(&[], |running| &running.bound.addresses)
    }

    /// Makes `wanted` the listeners. Either all of it happens or, with an error, nothing.
    pub fn apply(&mut self, wanted: Vec<Wanted>) -> Result<(), BindError> {
        let prepared = self.prepare(wanted)?;
        self.commit(prepared)
    }

    /// Binds what is new of `wanted` and leaves everything else as it is.
    pub fn prepare(&self, wanted: Vec<Wanted>) -> Result<Prepared, BindError> {
        let mut ours: Vec<_> = self
            .running
            .values()
            .flat_map(|running| running.bound.addresses.iter().map(SocketAddr::port))
            .collect();
        let mut sockets = HashMap::new();
        let mut seen = HashSet::new();
        for new in &wanted {
            let listener = new.listener;
            self.backend.check(new)?;
            if !seen.insert(listener) {
                let twice = io::Error::new(io::ErrorKind::InvalidInput, "it is wanted twice");
                return Err(BindError::new(listener, listener.address, twice));
            }
            let kept = self.running.get(&listener);
            if !kept.is_some_and(|running| running.shape.same_as(new)) {
                // A port that the system is to choose is another one.
                let keeps_tcp = kept.is_some_and(|running| !running.tcp.is_empty())
                    && listener.address.port() != 0;
                let bound = Sockets::bind(new, &ours, keeps_tcp)?;
                ours.extend(bound.bound.addresses.iter().map(SocketAddr::port));
                sockets.insert(listener, bound);
            }
        }
        Ok(Prepared { wanted, sockets })
    }

    /// Begins with what is new, gives the rest its new routes, and sends into retirement what is
    /// not wanted any more. The sockets of listeners that stay as they were are never closed.
    pub fn commit(&mut self, prepared: Prepared) -> Result<(), BindError> {
        let Prepared {
            wanted,
            mut sockets,
        } = prepared;
        // What can still fail comes first, while everything is as it was.
        let mut kept = Vec::new();
        let mut next = HashMap::new();
        for new in wanted {
            match sockets.remove(&new.listener) {
                Some(sockets) => {
                    let listener = new.listener;
                    next.insert(listener, self.start(new, sockets)?);
                }
                None => kept.push(new),
            }
        }
        for new in kept {
            if let Some(running) = self.running.remove(&new.listener) {
                next.insert(new.listener, running.with(new));
            }
        }
        let before = std::mem::replace(&mut self.running, next);
        for gone in before.into_values() {
            self.runtime.spawn(gone.drain(Instant::now() + RETIREMENT));
        }
        Ok(())
    }

    /// Stops listening, and waits until everything that was asked is answered, `patience` at the
    /// most; whether everything was.
    pub async fn drain(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let running = std::mem::take(&mut self.running);
        let drained = running.into_values().map(|gone| gone.drain(deadline));
        let drained = futures_util::future::join_all(drained).await;
        drained.into_iter().all(|drained| drained)
    }

    fn start(&self, wanted: Wanted, sockets: Sockets) -> Result<Running, BindError> {
        let shape = Shape::of(&wanted);
        let Wanted {
            listener,
            label,
            routes,
            streams,
            tls,
            proxy,
            ..
        } = wanted;
        let failed = |source| BindError::new(listener, listener.address, source);
        let server = Server::new(label, routes, self.grants.clone(), &self.metrics);
        let entrance = Entrance::new(Arc::clone(&server));
        let terms = Terms::new(streams, tls, proxy.clone());
        let reception = Reception::new(entrance.clone(), self.gate.clone(), terms);
        let (scheme, runtime) = (listener.scheme, &self.runtime);
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        #[cfg(feature = "hickory")]
        let mut hickory = Vec::new();
        if self.backend.is_hickory(scheme) {
            #[cfg(feature = "hickory")]
            {
                let mut listeners = sockets.tcp.into_iter().flatten();
                for udp in sockets.udp {
                    let tcp = listeners.next();
                    let serving = hickory::Serving::start(udp, tcp, &entrance, streams, runtime);
                    hickory.push(serving.map_err(failed)?);
                }
            }
        } else if scheme.is_quic() {
            let sockets = sockets.udp.into_iter().flatten().collect();
            quic::start(sockets, scheme, &reception, runtime).map_err(failed)?;
        } else {
            for sockets in sockets.udp {
                let threads = udp::Threads::start(sockets, &entrance, proxy.as_ref(), runtime);
                udp.push(threads.map_err(failed)?);
            }
            tcp = match sockets.tcp {
                Some(sockets) => {
                    let _in_runtime = runtime.enter();
                    let sockets = sockets.into_iter().map(TcpListener::from_std);
                    let sockets = sockets.map(|socket| socket.map(Arc::new));
                    sockets.collect::<io::Result<_>>().map_err(failed)?
                }
                None => self.tcp_of(listener).to_vec(),
            };
            tcp::start(&tcp, scheme, &reception, runtime);
        }
        Ok(Running {
            server,
            bound: sockets.bound,
            udp,
            tcp,
            #[cfg(feature = "hickory")]
            hickory,
            reception,
            shape,
        })
    }

    /// The sockets at which a listener listens for connections.
    fn tcp_of(&self, listener: Listener) -> &[Arc<TcpListener>] {
        let running = self.running.get(&listener);
        running.map_or(&[], |running| &running.tcp)
    }
}

impl Running {
    /// The same listener with what a new configuration says.
    fn with(self, new: Wanted) -> Self {
        self.server.swap(Arc::new(new.routes));
        let terms = Terms::new(new.streams, new.tls, new.proxy);
        self.reception.set(terms);
        self
    }

    /// Stops listening at once. The future completes when everything that was asked is answered, at
    /// `deadline` at the latest; whether everything was.
    fn drain(self, deadline: Instant) -> impl Future<Output = bool> + Send + use<> {
        // Unless another listener has taken them over, they are closed by this.
        drop(self.tcp);
        let threads = self.udp.into_iter().map(|threads| threads.drain(deadline));
        let threads = futures_util::future::join_all(threads);
        let received = self.reception.drain(deadline);
        #[cfg(feature = "hickory")]
        let hickory = {
            let serving = self.hickory.into_iter();
            futures_util::future::join_all(serving.map(|serving| serving.drain(deadline)))
        };
        #[cfg(not(feature = "hickory"))]
        let hickory = std::future::ready(Vec::new());
        async move {
            let (threads, received, hickory) = tokio::join!(threads, received, hickory);
            let mut drained = threads.into_iter().chain(hickory);
            drained.all(|drained| drained) && received
        }
    }
}

impl Shape {
    fn of(wanted: &Wanted) -> Self {
        Self {
            label: Arc::clone(&wanted.label),
            udp_threads: wanted.datagram_threads(),
            proxy: wanted.datagram_proxy().cloned(),
        }
    }

    fn same_as(&self, wanted: &Wanted) -> bool {
        self.label == wanted.label
            && self.udp_threads == wanted.datagram_threads()
            && self.proxy.as_ref() == wanted.datagram_proxy()
    }
}

impl Wanted {
    fn datagram_proxy(&self) -> Option<&Arc<Trust>> {
        let datagrams = self.listener.scheme == Scheme::Dns;
        self.proxy.as_ref().filter(|_| datagrams)
    }

    fn datagram_threads(&self) -> Option<usize> {
        let datagrams = self.listener.scheme == Scheme::Dns;
        self.udp_threads.filter(|_| datagrams)
    }
}

impl Scheme {
    /// Whether it comes in datagrams of QUIC.
    fn is_quic(self) -> bool {
        matches!(self, Self::Quic | Self::Https3)
    }

    /// Whether there is no such thing without a certificate.
    fn needs_certificate(self) -> bool {
        matches!(self, Self::Tls | Self::Quic | Self::Https3)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Dns => "dns",
            Scheme::Tls => "tls",
            Scheme::Quic => "quic",
            Scheme::Https => "https",
            Scheme::Https3 => "https3",
            Scheme::Grpc => "grpc",
        };
        write!(out, "{scheme}://{}", self.address)
    }
}
