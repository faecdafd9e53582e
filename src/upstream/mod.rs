//! Queries to upstream servers: attempts, connections, server selection, health checks.
//!
//! ```text
//! query              a query for upstreams, as a plugin returns it
//! engine             runs queries: the sockets, timeouts and queries in flight of one thread
//! exchange           one query from the first attempt to the reply, as a state machine without I/O
//! in_flight          coalesces identical queries in flight
//! loop_state         whether an upstream leads back to this server: set from outside, read by group
//! inbox              events for an engine from other threads
//! group              the upstreams of one forward, and the choice among them; policy has their order
//! plan               how they are tried, as configured
//! timeouts           timeouts between two attempts, after the last one, and in total, and the number of attempts
//! packet             one query in wire form, and the check of a message against it
//! packet_budget      a rate of packets to the upstreams of one forward
//! pending            limits of pending queries; at a limit the oldest are evicted before new ones are rejected
//! transport          the choice between UDP and TCP
//! udp                opens UDP sockets
//! stream             connection pool for TCP and TLS; pending_replies has the queries in flight on each
//! pooled_connection  one connection with a stream per query; http2, https and quic use it
//! health             health checks
//! failure            why an upstream gave no reply, and whether that blames the upstream
//! rpc                a gRPC client, over http2 and pooled_connection
//! target             the address of an upstream in a Corefile
//! resolv_conf        the file that lists upstreams; resolve finds the addresses of a host name
//! tls                TLS configuration; handshake describes why a handshake failed
//! meter              metrics of one upstream
//! attempt_observer   observers of attempts, for plugins that report them
//! ```
//!
//! This module does not depend on Corefiles, chains or plugins. Spawned tasks end when their [`Upstream`]
//! is dropped.

mod attempt_observer;
mod engine;
mod exchange;
mod failure;
mod group;
mod handshake;
mod health;
#[cfg(any(feature = "https", feature = "grpc", feature = "etcd"))]
mod http2;
#[cfg(feature = "https")]
mod https;
mod in_flight;
mod inbox;
mod loop_state;
mod meter;
mod packet;
mod packet_budget;
mod pending;
mod pending_replies;
mod plan;
mod policy;
#[cfg(any(
    feature = "https",
    feature = "quic",
    feature = "grpc",
    feature = "etcd"
))]
mod pooled_connection;
mod query;
#[cfg(feature = "quic")]
mod quic;
mod resolv_conf;
mod resolve;
#[cfg(any(feature = "grpc", feature = "etcd"))]
mod rpc;
mod stream;
mod target;
mod timeouts;
mod tls;
mod transport;
mod udp;

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::runtime::Handle;

pub use attempt_observer::{AttemptObserver, AttemptReport};
pub use engine::{Engine, QueryOwner};
pub use failure::{Failure, LocalError};
pub use group::{Member, UpstreamGroup};
pub use health::HealthCheck;
pub use in_flight::InFlight;
pub use loop_state::LoopState;
pub use meter::{Proto, UpstreamMetrics};
pub use packet::Packet;
pub use packet_budget::PacketBudget;
pub use pending::{
    Eviction, MAX_QUERY_BYTES, PendingLimit, Permit, default_limit, limit_within, process_limit,
};
pub use plan::Plan;
pub use policy::{MAX_UPSTREAMS, SelectionPolicy};
pub use query::UpstreamQuery;
pub use resolv_conf::{
    ResolvConf, read_invalid_nameservers, read_nameservers, read_options, read_search,
};
pub use resolve::{ResolveError, ResolverFiles, addresses, resolve};
#[cfg(any(feature = "grpc", feature = "etcd"))]
pub use rpc::{Rpc, RpcError};
pub use stream::PoolSettings;
pub use target::{Destination, DohMethod, Host, Target, TargetError, UpstreamProtocol};
pub use transport::TransportPolicy;

use crate::{metrics::Metrics, query::Question, reply::Reply};
use engine::SharedEngine;
use health::Health;
#[cfg(feature = "https")]
use https::Https;
#[cfg(any(feature = "https", feature = "quic"))]
use meter::ConnectionMetrics;
#[cfg(any(feature = "https", feature = "quic"))]
use pooled_connection::PooledConnection;
#[cfg(feature = "quic")]
use quic::Quic;
use stream::Streams;
use tls::Tls;
use udp::Udp;

/// An upstream server, with its connections, health and metrics.
#[derive(Debug)]
pub struct Upstream {
    target: Target,
    label: Arc<str>,
    check: HealthCheck,
    check_transport: TransportPolicy,
    health: Health,
    connections: Connections,
    meter: Arc<UpstreamMetrics>,
    runtime: Handle,
}

/// The connections of an upstream.
#[derive(Debug)]
enum Connections {
    Plain {
        udp: Udp,
        streams: Arc<Streams>,
    },
    Tls(Arc<Streams>),
    #[cfg(feature = "https")]
    Https(Box<Https>),
    #[cfg(feature = "quic")]
    Quic(Box<Quic>),
    /// TLS is required and cannot be set up: the reason.
    Broken(Failure),
}

/// Settings of the upstreams of one `forward`. Forwards with equal settings and target share an upstream.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connection pool settings.
    pub pool: PoolSettings,
    /// Consecutive failed checks after which an upstream is down; 0 for never, and without checks.
    pub max_fails: u32,
    /// Health check settings.
    pub check: HealthCheck,
    /// Whether queries are always sent over TCP (`force_tcp`); health checks then are, too.
    pub force_tcp: bool,
    /// The source address; `None` for the kernel's choice.
    pub source: Option<IpAddr>,
    /// The name that the certificates of upstreams must be for, unless an upstream has its own. Takes
    /// precedence over the host name that was resolved to the upstream's address.
    pub tls_name: Option<ServerName<'static>>,
    /// The TLS configuration, if any upstream uses TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// The HTTP method of queries over HTTPS.
    pub doh_method: DohMethod,
}

impl Settings {
    /// Plain DNS with no connection kept after its query, and an upstream that is never down.
    pub fn unpooled() -> Self {
        Self {
            pool: PoolSettings {
                expire: Duration::ZERO,
                max_age: Duration::ZERO,
                max_idle: 0,
            },
            max_fails: 0,
            check: HealthCheck::default(),
            force_tcp: false,
            source: None,
            tls_name: None,
            tls: None,
            doh_method: DohMethod::default(),
        }
    }
}

impl Upstream {
    /// An upstream; nothing is opened yet.
    pub fn new(
        target: Target,
        settings: &Settings,
        runtime: Handle,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let label: Arc<str> = target.to_string().into();
        let meter = Arc::new(UpstreamMetrics::new(metrics, &label));
        let connections = Connections::new(&target, settings, &runtime, &meter);
        Self {
            label,
            health: Health::new(settings.max_fails),
            check: settings.check,
            check_transport: if settings.force_tcp {
                TransportPolicy::Tcp
            } else {
                TransportPolicy::Udp
            },
            connections,
            target,
            meter,
            runtime,
        }
    }

    /// Its address and protocol.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its name in metrics and logs.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Its metrics.
    pub fn meter(&self) -> &UpstreamMetrics {
        &self.meter
    }

    /// Whether it is down: it has failed `max_fails` consecutive checks.
    pub fn is_down(&self) -> bool {
        self.health.is_down()
    }

    /// Whether it failed its last check. Such upstreams are tried after the others.
    pub fn is_suspect(&self) -> bool {
        self.health.is_suspect()
    }

    /// Records a reply to any query, received after `took`.
    fn answered(&self, reply: &Reply, took: Duration) {
        self.health.answered();
        self.meter.answered(reply.rcode, took);
    }

    /// Its UDP sockets, if it is an upstream of plain DNS.
    fn udp(&self) -> Option<&Udp> {
        match &self.connections {
            Connections::Plain { udp, .. } => Some(udp),
            _ => None,
        }
    }

    /// Sends a query over one of its connections and waits for the reply; the caller applies the timeout.
    async fn exchange_by_stream(&self, packet: &Arc<Packet>) -> Result<Reply, Failure> {
        match &self.connections {
            Connections::Plain { streams, .. } | Connections::Tls(streams) => {
                streams.exchange(packet).await
            }
            #[cfg(feature = "https")]
            Connections::Https(https) => https.exchange(packet).await,
            #[cfg(feature = "quic")]
            Connections::Quic(quic) => quic.exchange(packet).await,
            Connections::Broken(failure) => Err(failure.clone()),
        }
    }

    /// Sends it a query of this server itself, such as a health check, over the usual transport.
    pub async fn probe(
        self: &Arc<Self>,
        question: &Question,
        recursion_desired: bool,
    ) -> Result<Reply, Failure> {
        let packet = Packet::probe(question, recursion_desired);
        self.query(packet, self.check_transport).await
    }

    /// Sends it a query of this server itself over this transport, if it is an upstream of plain DNS. The
    /// caller limits the wait.
    pub async fn probe_over(
        self: &Arc<Self>,
        question: &Question,
        transport: TransportPolicy,
    ) -> Result<Reply, Failure> {
        self.query(Packet::probe(question, true), transport).await
    }

    /// Sends it a query in one attempt. [`QueryTimeouts`](timeouts::QueryTimeouts) and the caller limit the wait for
    /// the reply.
    async fn query(
        self: &Arc<Self>,
        packet: Packet,
        transport: TransportPolicy,
    ) -> Result<Reply, Failure> {
        let group = Arc::new(UpstreamGroup::single(Arc::clone(self)));
        let query = Box::new(UpstreamQuery::probe(group, packet, transport));
        let engine = SharedEngine::get().map_err(|error| Failure::from(&error))?;
        let result = engine.probe(query).await;
        result.unwrap_or(Err(Failure::Closed))
    }

    /// Records a failure that blames the upstream: starts health checks, which end with the next reply.
    pub fn failed(self: &Arc<Self>) {
        if self.health.begin() {
            self.runtime.spawn(health::check(Arc::downgrade(self)));
        }
    }
}

impl Connections {
    fn new(
        target: &Target,
        settings: &Settings,
        runtime: &Handle,
        meter: &Arc<UpstreamMetrics>,
    ) -> Self {
        let (address, source, pool) = (target.address, settings.source, settings.pool);
        let streams = |tls| {
            let (runtime, meter) = (runtime.clone(), Arc::clone(meter));
            Streams::new(address, source, tls, pool, runtime, meter)
        };
        if target.protocol == UpstreamProtocol::Dns {
            let udp = Udp::new(address, source, Arc::clone(meter));
            let streams = streams(None);
            return Self::Plain { udp, streams };
        }
        let Some(config) = &settings.tls else {
            return Self::Broken(Failure::Tls("not set up".into()));
        };
        // A configured name takes precedence over the host name.
        let configured = target.name.as_ref().or(settings.tls_name.as_ref());
        let name = configured.or(target.host.as_ref());
        #[cfg(any(feature = "https", feature = "quic"))]
        let speaking = |protocol| Tls::speaking(config, name, address.ip(), protocol);
        #[cfg(any(feature = "https", feature = "quic"))]
        let metrics = |proto| ConnectionMetrics::new(Arc::clone(meter), proto);
        #[cfg(any(feature = "https", feature = "quic"))]
        let runtime = runtime.clone();
        match target.protocol {
            UpstreamProtocol::Dns | UpstreamProtocol::Tls => Self::Tls(streams(Some(Tls::new(
                Arc::clone(config),
                name,
                address.ip(),
            )))),
            #[cfg(feature = "https")]
            UpstreamProtocol::Https => {
                let metrics = metrics(Proto::Https);
                let connection = PooledConnection::new(pool, runtime, Some(Arc::clone(&metrics)));
                let (tls, method) = (speaking(b"h2"), settings.doh_method);
                Self::Https(Box::new(Https::new(
                    address, source, tls, method, connection, metrics,
                )))
            }
            #[cfg(feature = "quic")]
            UpstreamProtocol::Quic => {
                let metrics = metrics(Proto::Quic);
                let connection = PooledConnection::new(pool, runtime, Some(Arc::clone(&metrics)));
                match Quic::new(address, source, &speaking(b"doq"), connection, metrics) {
                    Ok(quic) => Self::Quic(Box::new(quic)),
                    Err(error) => Self::Broken(Failure::Tls(error.to_string().into())),
                }
            }
            // Not reached: such a Corefile is an error, see `UpstreamProtocol::required`.
            #[cfg(not(feature = "https"))]
            UpstreamProtocol::Https => {
                Self::Broken(Failure::Tls("built without the feature `https`".into()))
            }
            #[cfg(not(feature = "quic"))]
            UpstreamProtocol::Quic => {
                Self::Broken(Failure::Tls("built without the feature `quic`".into()))
            }
        }
    }
}
