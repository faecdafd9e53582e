//! Transports and the one door: what is listened on, and what is answered there.
//!
//! ```text
//! handle    octets in, octets out: every transport goes in here
//! route     a question's block, by the longest zone
//! udp       threads of its own, a batch of datagrams a system call
//! tcp       connections: accept loop; DNS over TCP and TLS, pipelining
//! http      on such a connection: DNS over HTTPS, gRPC
//! doh       DNS messages in requests of HTTP, whatever its version
//! quic      accept loop; DNS over QUIC, DNS over HTTPS with HTTP/3
//! hickory   plain DNS by hickory-server's loops instead, behind the same entrance
//! loops     which of the two, and those of one listener
//! caller    the door for whoever has a way back for each question: http and quic
//! proxy     who really asks, where a load balancer tells
//! reception what accept loops work with, and end by
//! descriptors how many files and sockets the process may have open
//! accept    the next connection, whatever the system is out of
//! gate      connection limits, and which one is evicted for another
//! terms     what connections are treated by, changed by a reload
//! limits    what is granted at most, and for how long
//! ```

pub(crate) mod accept;
pub(crate) mod bind;
mod caller;
pub mod descriptors;
#[cfg(any(feature = "https", feature = "quic"))]
mod doh;
pub(crate) mod gate;
pub mod handle;
#[cfg(feature = "hickory")]
mod hickory;
#[cfg(any(feature = "https", feature = "grpc"))]
mod http;
pub mod limits;
mod loops;
pub mod proxy;
#[cfg(feature = "quic")]
mod quic;
mod reception;
pub mod route;
pub(crate) mod tcp;
mod terms;
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

pub use bind::BindError;
pub use loops::LoopKind;

use self::{
    bind::Sockets,
    handle::{Entrance, Server},
    limits::{Grants, Limits, StreamSettings},
    loops::Loops,
    proxy::Trust,
    reception::Reception,
    route::Routes,
    terms::Terms,
};
use crate::{
    features::{Feature, NotBuilt},
    metrics::Metrics,
    tls::Identity,
};

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
    loop_kind: LoopKind,
    running: HashMap<Listener, Running>,
}

/// A new set of listeners. Sockets are bound for those that did not listen before, and nothing else has
/// happened.
pub struct Prepared {
    wanted: Vec<Wanted>,
    sockets: HashMap<Listener, Sockets>,
}

/// How long a listener that a new configuration does without may go on with what it was asked.
const RETIREMENT: Duration = Duration::from_secs(5);

/// A listener at work. Its sockets stay open until it goes; everything else is a setting that a reload
/// changes beneath them.
struct Running {
    server: Arc<Server>,
    /// Where it listens.
    addresses: Vec<SocketAddr>,
    /// Of plain DNS.
    loops: Option<Loops>,
    reception: Reception,
}

impl Servers {
    /// No listener yet. What must wait is run on `runtime`.
    pub fn new(runtime: Handle, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            runtime,
            grants: Grants::new(limits, &metrics),
            gate: gate::Gate::new(limits.connections),
            metrics,
            loop_kind: LoopKind::default(),
            running: HashMap::new(),
        }
    }

    /// Serves listeners that start from now on by loops of this kind.
    pub fn use_loops(&mut self, kind: LoopKind) {
        self.loop_kind = kind;
    }

    /// Has so many queries be pending at most, over all listeners, as `limits` says.
    pub fn allow_pending(&self, limits: Limits) {
        self.grants.allow(limits);
    }

    /// The addresses of a listener, as the system knows them: the ports are the ones that it chose.
    /// For all addresses of the machine, IPv4's comes first and IPv6's follows, if there is IPv6.
    pub fn bound(&self, listener: Listener) -> &[SocketAddr] {
        let running = self.running.get(&listener);
        running.map_or(&[], |running| &running.addresses)
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
            .flat_map(|running| running.addresses.iter().map(SocketAddr::port))
            .collect();
        let mut sockets = HashMap::new();
        let mut seen = HashSet::new();
        for new in &wanted {
            let listener = new.listener;
            self.loop_kind.check(new)?;
            let refused = |why: &str| {
                let source = io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
                BindError::new(listener, listener.address, source)
            };
            if let Err(missing) = listener.scheme.required() {
                let unsupported = io::Error::new(io::ErrorKind::Unsupported, missing);
                return Err(BindError::new(listener, listener.address, unsupported));
            }
            if !seen.insert(listener) {
                return Err(refused("it is wanted twice"));
            }
            if listener.scheme.needs_certificate() && new.tls.is_none() {
                return Err(refused("it needs a certificate"));
            }
            if !self.running.contains_key(&listener) {
                let bound = Sockets::bind(new, &ours)?;
                ours.extend(bound.addresses.iter().map(SocketAddr::port));
                sockets.insert(listener, bound);
            }
        }
        Ok(Prepared { wanted, sockets })
    }

    /// Starts listeners that are new, changes the settings of the others, and retires those that are not
    /// wanted any more. A socket that stays bound is read all the time.
    pub fn commit(&mut self, prepared: Prepared) -> Result<(), BindError> {
        let Prepared {
            wanted,
            mut sockets,
        } = prepared;
        // What can still fail comes first. Threads that are added to a listener serve it as it is, so
        // that none of their queries is lost where another listener fails.
        let mut next = HashMap::new();
        let mut kept = Vec::new();
        for new in wanted {
            let listener = new.listener;
            if let Some(sockets) = sockets.remove(&listener) {
                next.insert(listener, self.start(new, sockets)?);
            } else if let Some(running) = self.running.get(&listener) {
                let missing = running.start_missing(new.udp_threads());
                let failed = |source| BindError::new(listener, listener.address, source);
                kept.push((new, missing.map_err(failed)?));
            }
        }
        let deadline = Instant::now() + RETIREMENT;
        for (new, missing) in kept {
            let listener = new.listener;
            if let Some(mut running) = self.running.remove(&listener) {
                let surplus = running.change(new, missing);
                next.insert(listener, running);
                self.runtime.spawn(udp::drain(surplus, deadline));
            }
        }
        let before = std::mem::replace(&mut self.running, next);
        for gone in before.into_values() {
            self.runtime.spawn(gone.drain(deadline));
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

    fn start(&self, wanted: Wanted, mut sockets: Sockets) -> Result<Running, BindError> {
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
        let (scheme, runtime) = (listener.scheme, &self.runtime);
        let server = Server::new(label, routes, self.grants.clone(), &self.metrics);
        let entrance = Entrance::new(Arc::clone(&server));
        let mut loops = None;
        if scheme == Scheme::Dns {
            let settings = (streams, proxy.clone());
            let started = self
                .loop_kind
                .start(&mut sockets, &entrance, settings, runtime);
            loops = Some(started.map_err(failed)?);
        }
        let terms = Terms::new(streams, tls, proxy);
        let reception = Reception::new(entrance, self.gate.clone(), terms);
        if scheme.is_quic() {
            // Without it `prepare` has refused the listener.
            #[cfg(feature = "quic")]
            {
                let sockets = sockets.udp.into_iter().flatten().collect();
                quic::start(sockets, scheme, &reception, runtime).map_err(failed)?;
            }
        } else {
            let _in_runtime = runtime.enter();
            let sockets = sockets.tcp.into_iter().map(TcpListener::from_std);
            let sockets = sockets.collect::<io::Result<_>>().map_err(failed)?;
            tcp::start(sockets, scheme, &reception, runtime);
        }
        Ok(Running {
            server,
            addresses: sockets.addresses,
            loops,
            reception,
        })
    }
}

impl Running {
    /// Starts the threads of UDP that each address lacks to `count`.
    fn start_missing(&self, count: usize) -> io::Result<Vec<Vec<udp::Thread>>> {
        let loops = self.loops.as_ref();
        loops.map_or(Ok(Vec::new()), |loops| loops.start_missing(count))
    }

    /// Changes all settings to those of `new` and takes in the threads that were `missing`; those that are
    /// too many are returned.
    fn change(&mut self, new: Wanted, missing: Vec<Vec<udp::Thread>>) -> Vec<udp::Thread> {
        let count = new.udp_threads();
        self.server.relabel(new.label);
        self.server.swap(Arc::new(new.routes));
        let surplus = self.loops.as_mut().map_or(Vec::new(), |loops| {
            loops.change(count, new.proxy.clone(), missing)
        });
        let terms = Terms::new(new.streams, new.tls, new.proxy);
        self.reception.set(terms);
        surplus
    }

    /// Stops listening at once. The future completes when everything that was asked is answered, at
    /// `deadline` at the latest; whether everything was.
    fn drain(self, deadline: Instant) -> impl Future<Output = bool> + Send + use<> {
        let loops = self.loops.map(|loops| loops.drain(deadline));
        let received = self.reception.drain(deadline);
        async move {
            let loops = async {
                match loops {
                    Some(loops) => loops.await,
                    None => true,
                }
            };
            let (loops, received) = tokio::join!(loops, received);
            loops && received
        }
    }
}

impl Wanted {
    /// Threads for each address of UDP.
    fn udp_threads(&self) -> usize {
        self.udp_threads.unwrap_or_else(udp::default_threads)
    }
}

impl Scheme {
    /// Whether it comes in datagrams of QUIC.
    fn is_quic(self) -> bool {
        matches!(self, Self::Quic | Self::Https3)
    }

    /// An error where this build has no such listener.
    pub fn required(self) -> Result<(), NotBuilt> {
        match self {
            Self::Dns | Self::Tls => Ok(()),
            Self::Quic | Self::Https3 => Feature::Quic.required(),
            Self::Https => Feature::Https.required(),
            Self::Grpc => Feature::Grpc.required(),
        }
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
