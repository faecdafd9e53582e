//! Transports and the one door: what is listened on, and what is answered there.
//!
//! ```text
//! handle    octets in, octets out: every transport goes in here
//! route     a question's block, by the longest zone
//! udp       threads of its own, a batch of datagrams a system call
//! tcp       streams: accept loop, pipelining, limits
//! hickory   hickory-server's transports, by one adapter; DNS over TLS
//! limits    what is granted at most, and for how long
//! ```

mod bind;
pub mod handle;
mod hickory;
pub mod limits;
pub mod route;
mod tcp;
pub mod tls;
mod udp;

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

pub use bind::BindError;

use self::{
    bind::{Bound, Sockets},
    handle::{Entrance, Server},
    hickory::Adapter,
    limits::{Grants, Limits, StreamSettings},
    route::Routes,
};
use crate::{metrics::Metrics, query::Transport};

/// How questions arrive at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// UDP and TCP.
    Dns,
    /// DNS over TLS (RFC 7858).
    Tls,
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
    /// The certificate and what belongs to it, for [`Scheme::Tls`]. Another value means other
    /// sockets and an end to the connections: a reload that changes nothing must pass the same one.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Every listener of the process.
pub struct Servers {
    runtime: Handle,
    grants: Grants,
    gate: tcp::Gate,
    metrics: Arc<Metrics>,
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
    transports: Transports,
    /// What the sockets were made for: with another of these, there must be other sockets.
    shape: Shape,
}

#[derive(Clone)]
struct Shape {
    label: Arc<str>,
    udp_threads: Option<usize>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

#[derive(Default)]
struct Transports {
    udp: Vec<udp::Threads>,
    tcp: Option<tcp::Streams>,
    tls: Option<hickory_server::Server<Adapter>>,
}

impl Servers {
    /// No listener yet. What must wait is run on `runtime`.
    pub fn new(runtime: Handle, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            runtime,
            grants: Grants::new(limits),
            gate: tcp::Gate::new(limits.connections),
            metrics,
            running: HashMap::new(),
        }
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
            if !seen.insert(listener) {
                let twice = io::Error::new(io::ErrorKind::InvalidInput, "it is wanted twice");
                return Err(BindError::new(listener, listener.address, twice));
            }
            let kept = self.running.get(&listener);
            if !kept.is_some_and(|running| running.shape.same_as(new)) {
                let bound = Sockets::bind(new, &ours)?;
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
            ..
        } = wanted;
        let failed = |source| BindError::new(listener, listener.address, source);
        let server = Server::new(label, routes, self.grants.clone(), &self.metrics);
        let entrance = Entrance::new(Arc::clone(&server));
        let mut transports = Transports::default();
        for sockets in sockets.udp {
            let threads = udp::Threads::start(sockets, &entrance, &self.runtime);
            transports.udp.push(threads.map_err(failed)?);
        }
        if let Some(tls) = &shape.tls {
            let adapter = Adapter {
                entrance,
                local: sockets.bound.addresses[0],
                transport: Transport::Tls,
                transfers: hickory::Adapter::transfers(),
            };
            let server = self.start_tls(adapter, sockets.tcp, streams, tls);
            transports.tls = Some(server.map_err(failed)?);
        } else {
            let streams =
                tcp::Streams::start(sockets.tcp, &entrance, streams, &self.gate, &self.runtime);
            transports.tcp = Some(streams.map_err(failed)?);
        }
        Ok(Running {
            server,
            bound: sockets.bound,
            transports,
            shape,
        })
    }

    fn start_tls(
        &self,
        adapter: Adapter,
        listeners: Vec<std::net::TcpListener>,
        streams: StreamSettings,
        tls: &Arc<rustls::ServerConfig>,
    ) -> io::Result<hickory_server::Server<Adapter>> {
        let _in_runtime = self.runtime.enter();
        let mut server = hickory_server::Server::new(adapter);
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            // It knows one time for the handshake and for every question after it.
            let patience = streams.first_query.max(streams.idle);
            server.register_tls_listener_with_tls_config(listener, patience, Arc::clone(tls))?;
        }
        Ok(server)
    }
}

impl Running {
    /// The same listener with what a new configuration says.
    fn with(self, new: Wanted) -> Self {
        self.server.swap(Arc::new(new.routes));
        if let Some(tcp) = &self.transports.tcp {
            tcp.set(new.streams);
        }
        self
    }

    async fn drain(self, deadline: Instant) -> bool {
        let Transports { udp, tcp, tls } = self.transports;
        let udp = futures_util::future::join_all(udp.into_iter().map(|udp| udp.drain(deadline)));
        let tcp = async {
            match tcp {
                Some(tcp) => tcp.drain(deadline).await,
                None => true,
            }
        };
        let tls = async {
            match tls {
                Some(mut tls) => tokio::time::timeout_at(deadline, tls.shutdown_gracefully())
                    .await
                    .is_ok(),
                None => true,
            }
        };
        let (udp, tcp, tls) = tokio::join!(udp, tcp, tls);
        udp.into_iter().all(|udp| udp) && tcp && tls
    }
}

impl Shape {
    fn of(wanted: &Wanted) -> Self {
        Self {
            label: Arc::clone(&wanted.label),
            udp_threads: wanted.udp_threads,
            tls: wanted.tls.clone(),
        }
    }

    fn same_as(&self, wanted: &Wanted) -> bool {
        let same_tls = match (&self.tls, &wanted.tls) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        };
        self.label == wanted.label && self.udp_threads == wanted.udp_threads && same_tls
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Dns => "dns",
            Scheme::Tls => "tls",
        };
        write!(out, "{scheme}://{}", self.address)
    }
}
