//! Asking other servers: exchange, pool, policy, health.
//!
//! ```text
//! query          a query for upstreams, as a plugin hands it out
//! engine         carries queries out: the sockets, timeouts and queries in flight of one thread
//! exchange       one query from the first attempt to the reply, as a state machine without I/O
//! in_flight      identical queries in flight are coalesced
//! group          the upstreams of one forward, and which of them a query is sent to; policy is their order
//! timeouts       between two attempts, after the last one, and in all
//! packet         one query in wire form, and whether a message answers it
//! pending        limits of pending queries, which evict the old before they turn away the new
//! transport      what a query goes over
//! udp            how sockets are opened; stream keeps connections of TCP and TLS, with the queries in
//!                flight on each in pending_replies
//! https, quic    connections that carry a query in a stream of its own: line keeps one, http2 speaks HTTP
//! health         whether an upstream is worth asking; failure is why one gave no reply, and whether it
//!                is to blame
//! rpc            calls of gRPC, over http2 and a line too
//! target         how a Corefile names an upstream; resolv_conf is the file that lists some, resolve
//!                finds the addresses of a host
//! tls            files and handshakes; handshake says why one failed
//! meter          metrics of one upstream; witness observes attempts, for plugins that report them
//! ```
//!
//! Nothing here knows a Corefile, a chain or a plugin. Whatever is spawned ends when its
//! [`Upstream`] is dropped.

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
#[cfg(any(
    feature = "https",
    feature = "quic",
    feature = "grpc",
    feature = "etcd"
))]
mod line;
mod meter;
mod packet;
mod pending;
mod pending_replies;
mod policy;
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
mod witness;

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::runtime::Handle;

pub use engine::{Engine, Owner};
pub use failure::{Failure, Lack};
pub use group::{Group, Member, Plan};
pub use health::Check;
pub use in_flight::InFlight;
pub use meter::{Meter, Proto};
pub use packet::Packet;
pub use pending::{Eviction, MAX_QUERY_BYTES, PendingLimit, Permit, default_limit, process_limit};
pub use policy::{MAX_UPSTREAMS, Policy};
pub use query::UpstreamQuery;
pub use resolv_conf::{ResolvConf, read_nameservers, read_search};
pub use resolve::{ResolveError, System, resolve};
#[cfg(any(feature = "grpc", feature = "etcd"))]
pub use rpc::{Rpc, RpcError};
pub use stream::Keeping;
pub use target::{DohMethod, Host, Over, Target, TargetError, To};
pub use tls::{TlsError, TlsFiles};
pub use transport::TransportPolicy;
pub use witness::{Tried, Witness};

use crate::{metrics::Metrics, query::Question, reply::Reply};
use engine::SharedEngine;
use health::Health;
#[cfg(feature = "https")]
use https::Https;
#[cfg(any(feature = "https", feature = "quic"))]
use line::Line;
#[cfg(any(feature = "https", feature = "quic"))]
use meter::Account;
#[cfg(feature = "quic")]
use quic::Quic;
use stream::Streams;
use tls::Tls;
use udp::Udp;

/// One server to ask, with its sockets and its health.
#[derive(Debug)]
pub struct Upstream {
    target: Target,
    label: Arc<str>,
    check: Check,
    check_transport: TransportPolicy,
    health: Health,
    connections: Connections,
    meter: Arc<Meter>,
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
    /// TLS is wanted and cannot be had: the reason.
    Broken(Failure),
}

/// How upstreams of one forward are treated: what, with the target, makes two of them the same.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How connections are kept.
    pub keeping: Keeping,
    /// Failed checks in a row after which an upstream is down; 0 for never, and then it is not checked.
    pub max_fails: u32,
    /// How an upstream is checked.
    pub check: Check,
    /// Whether it is always asked by stream: then its checks go that way too.
    pub by_stream: bool,
    /// Our address towards it; the kernel's choice without one.
    pub source: Option<IpAddr>,
    /// The name that TLS upstreams must prove, where none is written for the upstream itself. It comes
    /// before the host name that an upstream's address was found by.
    pub tls_name: Option<ServerName<'static>>,
    /// How TLS is spoken, where any upstream wants it.
    pub tls: Option<Arc<ClientConfig>>,
    /// How HTTPS upstreams are asked.
    pub doh_method: DohMethod,
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
        let meter = Arc::new(Meter::new(metrics, &label));
        let connections = Connections::new(&target, settings, &runtime, &meter);
        Self {
            label,
            health: Health::new(settings.max_fails),
            check: settings.check,
            check_transport: if settings.by_stream {
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

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What metrics and logs call it.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// What is counted about it.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Whether it has failed so many checks in a row that it is not asked for now.
    pub fn is_down(&self) -> bool {
        self.health.is_down()
    }

    /// Whether it failed its last check. It is asked after those that did not.
    pub fn is_suspect(&self) -> bool {
        self.health.is_suspect()
    }

    /// It replied to a query, whatever that was, after `took`.
    fn answered(&self, reply: &Reply, took: Duration) {
        self.health.answered();
        self.meter.answered(reply.rcode, took);
    }

    /// Its UDP end, where it speaks plain DNS.
    fn udp(&self) -> Option<&Udp> {
        match &self.connections {
            Connections::Plain { udp, .. } => Some(udp),
            _ => None,
        }
    }

    /// Sends a query over one of its connections, and waits for the reply for as long as the caller does.
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

    /// Sends it a query of our own, over the transport that its queries usually take.
    pub async fn probe(
        self: &Arc<Self>,
        question: &Question,
        recursion_desired: bool,
    ) -> Result<Reply, Failure> {
        let packet = Packet::probe(question, recursion_desired);
        self.query(packet, self.check_transport).await
    }

    /// Sends it one query, and no second one if it fails. The reply is waited for as long as
    /// [`Timeouts`](timeouts::Timeouts) and the caller allow.
    async fn query(
        self: &Arc<Self>,
        packet: Packet,
        transport: TransportPolicy,
    ) -> Result<Reply, Failure> {
        let group = Arc::new(Group::single(Arc::clone(self)));
        let query = Box::new(UpstreamQuery::probe(group, packet, transport));
        let engine = SharedEngine::get().map_err(|error| Failure::from(&error))?;
        let result = engine.probe(query).await;
        result.unwrap_or(Err(Failure::Closed))
    }

    /// A question to it failed in a way that speaks against it: it is checked until it answers.
    pub fn failed(self: &Arc<Self>) {
        if self.health.begin() {
            self.runtime.spawn(health::check(Arc::downgrade(self)));
        }
    }
}

impl Connections {
    fn new(target: &Target, settings: &Settings, runtime: &Handle, meter: &Arc<Meter>) -> Self {
        let (address, source, keeping) = (target.address, settings.source, settings.keeping);
        let streams = |tls| {
            let (runtime, meter) = (runtime.clone(), Arc::clone(meter));
            Streams::new(address, source, tls, keeping, runtime, meter)
        };
        if target.over == Over::Dns {
            let udp = Udp::new(address, source, Arc::clone(meter));
            let streams = streams(None);
            return Self::Plain { udp, streams };
        }
        let Some(config) = &settings.tls else {
            return Self::Broken(Failure::Tls("not set up".into()));
        };
        // What is configured comes before what the host happens to be called.
        let configured = target.name.as_ref().or(settings.tls_name.as_ref());
        let name = configured.or(target.host.as_ref());
        #[cfg(any(feature = "https", feature = "quic"))]
        let speaking = |protocol| Tls::speaking(config, name, address.ip(), protocol);
        #[cfg(any(feature = "https", feature = "quic"))]
        let account = |proto| Account::new(Arc::clone(meter), proto);
        #[cfg(any(feature = "https", feature = "quic"))]
        let runtime = runtime.clone();
        match target.over {
            Over::Dns | Over::Tls => Self::Tls(streams(Some(Tls::new(
                Arc::clone(config),
                name,
                address.ip(),
            )))),
            #[cfg(feature = "https")]
            Over::Https => {
                let account = account(Proto::Https);
                let line = Line::new(keeping, runtime, Some(Arc::clone(&account)));
                let (tls, method) = (speaking(b"h2"), settings.doh_method);
                Self::Https(Box::new(Https::new(
                    address, source, tls, method, line, account,
                )))
            }
            #[cfg(feature = "quic")]
            Over::Quic => {
                let account = account(Proto::Quic);
                let line = Line::new(keeping, runtime, Some(Arc::clone(&account)));
                match Quic::new(address, source, &speaking(b"doq"), line, account) {
                    Ok(quic) => Self::Quic(Box::new(quic)),
                    Err(error) => Self::Broken(Failure::Tls(error.to_string().into())),
                }
            }
            // A Corefile with such an upstream is refused: see `Over::required`.
            #[cfg(not(feature = "https"))]
            Over::Https => Self::Broken(Failure::Tls("built without the feature `https`".into())),
            #[cfg(not(feature = "quic"))]
            Over::Quic => Self::Broken(Failure::Tls("built without the feature `quic`".into())),
        }
    }
}
