//! Listeners: transports, the common handler for their queries, routing and limits.
//!
//! ```text
//! handle               bytes in, bytes out: the handler of every transport
//! route                a query's server block, by the longest zone
//! loops                what reads and writes the sockets of plain DNS: our loops or hickory-server's
//! udp                  threads with a socket each, a batch of datagrams a system call
//! tcp                  accept loop; DNS over TCP and TLS, pipelining
//! hickory              plain DNS by hickory-server's loops, behind the same handler
//! http                 DNS over HTTPS (HTTP/1.1, HTTP/2) and gRPC, on connections of tcp
//! doh                  DNS messages in HTTP requests of any version
//! quic                 accept loop; DNS over QUIC, DNS over HTTPS with HTTP/3
//! caller               the client of a connection
//! exchange             queries whose replies have a channel of their own: http and quic
//! proxy                PROXY headers of load balancers
//! bind                 a listener's sockets
//! accept_loops         what accept loops share, and how they stop
//! accept               accepting connections, also without a free file descriptor, and until the last
//! connection_limit     connection limits, and which connection is evicted for another
//! connection_settings  settings for new connections, replaced by a reload
//! idle                 idle timeouts of connections
//! descriptors          the limit on file descriptors
//! limits               limits of the process and of connections
//! ```

pub(crate) mod accept;
mod accept_loops;
pub(crate) mod bind;
mod caller;
pub(crate) mod connection_limit;
mod connection_settings;
pub mod descriptors;
#[cfg(any(feature = "https", feature = "quic"))]
mod doh;
#[cfg(any(
    feature = "https",
    feature = "grpc",
    feature = "quic",
    feature = "hickory"
))]
mod exchange;
pub mod handle;
#[cfg(feature = "hickory")]
mod hickory;
#[cfg(any(feature = "https", feature = "grpc"))]
mod http;
mod idle;
pub mod limits;
mod loops;
pub mod proxy;
#[cfg(feature = "quic")]
mod quic;
pub mod route;
pub(crate) mod tcp;
mod transfer;
#[cfg(target_os = "linux")]
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
pub use loops::LoopKind;
pub(crate) use transfer::TRANSFER_BYTES;

use self::{
    accept_loops::AcceptLoops,
    bind::BoundSockets,
    connection_settings::ConnectionSettings,
    handle::{MessageHandler, Server},
    limits::{Limits, StreamSettings},
    loops::{Loops, Thread},
    proxy::ProxyPolicy,
    route::Routes,
};
use crate::{
    features::{Feature, NotBuilt},
    metrics::Metrics,
    tls::Identity,
    upstream::PendingLimit,
};

/// The transport of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// UDP and TCP.
    Dns,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over QUIC (RFC 9250).
    Quic,
    /// DNS over HTTPS (RFC 8484), HTTP/1.1 and HTTP/2; only HTTP/1.1, without TLS, if there is no
    /// certificate.
    Https,
    /// DNS over HTTPS with HTTP/3.
    Https3,
    /// CoreDNS's gRPC service; HTTP/2 without TLS if there is no certificate.
    Grpc,
}

/// Identifies a listener, across reloads too.
///
/// The address `[::]` stands for all addresses of the machine, IPv4 as well as IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listener {
    /// The transport.
    pub scheme: Scheme,
    /// The address. With port 0 the system chooses one.
    pub address: SocketAddr,
}

/// A listener and its settings.
pub struct ListenerConfig {
    /// Which listener.
    pub listener: Listener,
    /// Its name in metrics and logs: `dns://:53`.
    pub label: Arc<str>,
    /// The server blocks of its queries.
    pub routes: Routes,
    /// Timeouts and limits of its connections.
    pub streams: StreamSettings,
    /// Threads, each with its socket, for each UDP address (`multisocket`); one for each core by default.
    pub udp_threads: Option<usize>,
    /// The certificate; not for [`Scheme::Dns`].
    pub tls: Option<Arc<Identity>>,
    /// Whose PROXY headers are used; without it they are not looked for.
    pub proxy: Option<Arc<ProxyPolicy>>,
}

/// Every listener of the process.
pub struct Servers {
    runtime: Handle,
    pending: Arc<PendingLimit>,
    connection_limit: connection_limit::ConnectionLimit,
    metrics: Arc<Metrics>,
    loop_kind: LoopKind,
    /// Whether another server may have the addresses, from which this one takes over.
    takes_over: bool,
    /// Whether another server has the addresses, which has taken over from this one.
    is_succeeded: bool,
    running: HashMap<Listener, RunningListener>,
}

/// A new set of listeners. Sockets are bound for those that did not listen before, and nothing else has
/// happened.
pub struct Prepared {
    wanted: Vec<ListenerConfig>,
    sockets: HashMap<Listener, BoundSockets>,
}

/// How long a listener that a reload removes may go on with its pending queries.
const RETIREMENT: Duration = Duration::from_secs(5);

/// A running listener. Its sockets stay open until it is removed; everything else is a setting that a reload
/// replaces beneath them.
struct RunningListener {
    server: Arc<Server>,
    /// The addresses that it is bound to.
    addresses: Vec<SocketAddr>,
    /// The loops of plain DNS.
    loops: Option<Loops>,
    accept_loops: AcceptLoops,
}

impl Servers {
    /// No listener yet. Accept loops, connections and slow queries run on `runtime`.
    pub fn new(runtime: Handle, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            runtime,
            pending: limits.pending_limit(&metrics),
            connection_limit: connection_limit::ConnectionLimit::new(limits.connections),
            metrics,
            loop_kind: LoopKind::default(),
            takes_over: false,
            is_succeeded: false,
            running: HashMap::new(),
        }
    }

    /// Serves listeners that start from now on by loops of this kind.
    pub fn use_loops(&mut self, kind: LoopKind) {
        self.loop_kind = kind;
    }

    /// Sets whether another server may listen at the addresses of new listeners: see
    /// [`Process::takes_over`](crate::process::ProcessOptions::takes_over).
    pub fn take_over(&mut self, takes_over: bool) {
        self.takes_over = takes_over;
    }

    /// Another server has taken over: new connections reach it when this one stops.
    pub fn succeed(&mut self) {
        self.is_succeeded = true;
    }

    /// The addresses that a listener is bound to, with the ports that the system chose. For `[::]`, IPv4's
    /// comes first and IPv6's follows, if there is IPv6.
    pub fn bound(&self, listener: Listener) -> &[SocketAddr] {
        let running = self.running.get(&listener);
        running.map_or(&[], |running| &running.addresses)
    }

    /// Makes `wanted` the listeners. On an error, nothing changes.
    pub fn apply(&mut self, wanted: Vec<ListenerConfig>) -> Result<(), BindError> {
        let prepared = self.prepare(wanted)?;
        self.commit(prepared)
    }

    /// Binds the listeners that are new in `wanted`; nothing else changes.
    pub fn prepare(&self, wanted: Vec<ListenerConfig>) -> Result<Prepared, BindError> {
        let mut ours: Vec<_> = self
            .running
            .values()
            .flat_map(|running| running.addresses.iter().map(SocketAddr::port))
            .collect();
        let mut sockets = HashMap::new();
        let mut seen = HashSet::new();
        for new in &wanted {
            let listener = new.listener;
            #[cfg(feature = "hickory")]
            self.loop_kind.check(new)?;
            let refused = |why: &str| {
                let source = io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
                BindError::new(listener, listener.address, source)
            };
            if let Err(missing) = listener.scheme.required() {
                return Err(refused(&missing.to_string()));
            }
            if !seen.insert(listener) {
                return Err(refused("it is wanted twice"));
            }
            if listener.scheme.needs_certificate() && new.tls.is_none() {
                return Err(refused("it needs a certificate"));
            }
            if !self.running.contains_key(&listener) {
                let shares = |port| self.takes_over || ours.contains(&port);
                let bound = BoundSockets::bind(new, shares)?;
                ours.extend(bound.addresses.iter().map(SocketAddr::port));
                sockets.insert(listener, bound);
            }
        }
        Ok(Prepared { wanted, sockets })
    }

    /// Starts the new listeners, replaces the settings of those that stay, and drains those that are not in
    /// the list any more. A socket that stays bound is read all the time.
    pub fn commit(&mut self, prepared: Prepared) -> Result<(), BindError> {
        let Prepared {
            wanted,
            mut sockets,
        } = prepared;
        // What can fail comes first. Threads that are added to a listener serve its present configuration,
        // so none of their queries is lost if another listener fails.
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
                self.runtime.spawn(loops::drain(surplus, deadline));
            }
        }
        let before = std::mem::replace(&mut self.running, next);
        for gone in before.into_values() {
            self.runtime.spawn(gone.drain(true, deadline));
        }
        Ok(())
    }

    /// Stops listening, and waits until all queries are answered, `patience` at most. Returns whether all
    /// were.
    pub async fn drain(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let running = std::mem::take(&mut self.running);
        let drained = running
            .into_values()
            .map(|gone| gone.drain(self.is_succeeded, deadline));
        let drained = futures_util::future::join_all(drained).await;
        drained.into_iter().all(|drained| drained)
    }

    fn start(
        &self,
        wanted: ListenerConfig,
        mut sockets: BoundSockets,
    ) -> Result<RunningListener, BindError> {
        let ListenerConfig {
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
        let server = Server::new(label, routes, Arc::clone(&self.pending), &self.metrics);
        let handler = MessageHandler::new(Arc::clone(&server));
        let mut loops = None;
        if scheme == Scheme::Dns {
            let settings = (streams, proxy.clone());
            let started = self
                .loop_kind
                .start(&mut sockets, &handler, settings, runtime);
            loops = Some(started.map_err(failed)?);
        }
        let settings = ConnectionSettings::new(streams, tls, proxy);
        let accept_loops = AcceptLoops::new(handler, self.connection_limit.clone(), settings);
        if scheme.is_quic() {
            // Without it `prepare` has refused the listener.
            #[cfg(feature = "quic")]
            {
                let sockets = sockets.udp.into_iter().flatten().collect();
                quic::start(sockets, scheme, &accept_loops, runtime).map_err(failed)?;
            }
        } else {
            tcp::start(sockets.tcp, scheme, &accept_loops, runtime).map_err(failed)?;
        }
        Ok(RunningListener {
            server,
            addresses: sockets.addresses,
            loops,
            accept_loops,
        })
    }
}

impl RunningListener {
    /// Starts the UDP threads that each address lacks to have `count`.
    fn start_missing(&self, count: usize) -> io::Result<Vec<Vec<Thread>>> {
        let loops = self.loops.as_ref();
        loops.map_or(Ok(Vec::new()), |loops| loops.start_missing(count))
    }

    /// Replaces all settings by those of `new`, and adds the threads that were `missing`. Returns the threads
    /// beyond the new number.
    fn change(&mut self, new: ListenerConfig, missing: Vec<Vec<Thread>>) -> Vec<Thread> {
        let count = new.udp_threads();
        self.server.relabel(new.label);
        self.server.swap(Arc::new(new.routes));
        let surplus = self.loops.as_mut().map_or(Vec::new(), |loops| {
            loops.change(count, new.proxy.clone(), missing)
        });
        let settings = ConnectionSettings::new(new.streams, new.tls, new.proxy);
        self.accept_loops.set(settings);
        surplus
    }

    /// Stops listening at once. The future completes when all queries are answered, at `deadline` at the
    /// latest, and returns whether all were. If other sockets have `succeeded` these, connections reach those.
    fn drain(
        self,
        succeeded: bool,
        deadline: Instant,
    ) -> impl Future<Output = bool> + Send + use<> {
        let loops = self.loops.map(|loops| loops.drain(deadline));
        let received = self.accept_loops.drain(succeeded, deadline);
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

impl ListenerConfig {
    /// Threads for each address of UDP.
    fn udp_threads(&self) -> usize {
        self.udp_threads
            .unwrap_or_else(bind::datagrams::default_threads)
    }
}

impl Scheme {
    /// Whether it is based on QUIC.
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

    /// Whether it needs a certificate.
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
