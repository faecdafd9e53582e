//! Asking other servers: exchange, pool, policy, health.
//!
//! ```text
//! group        the upstreams of one forward: whom to ask, when to ask the next, when to give up
//! flight       identical questions under way are asked once
//! ask          a question that is to be asked, as a plugin hands it out; asker asks it from a thread
//!              of the server's own, without a scheduler
//! patience     how long each upstream is given, and a question in all
//! packet       one question in octets, and whether a message answers it
//! pending      limits of pending queries, which evict the old before they turn away the new
//! udp, stream  sockets and connections to one upstream; waiters is who waits on them for what
//! https, quic  the same in other clothes, on one connection each: line keeps it, http2 speaks it
//! health       whether an upstream is worth asking; failure is why one gave no answer, and whether it
//!              is to blame
//! rpc          calls of gRPC, over http2 and a line too
//! target       how a Corefile names an upstream; resolv_conf is the file that lists some, resolve
//!              finds the addresses of a host
//! tls          files and handshakes; handshake says why one failed
//! meter        what is counted; witness is told of every try, where there is one
//! ```
//!
//! Nothing here knows a Corefile, a chain or a plugin. Whatever is spawned ends when its
//! [`Upstream`] is dropped.

mod ask;
#[cfg(target_os = "linux")]
mod asker;
mod failure;
mod flight;
mod group;
mod handshake;
mod health;
#[cfg(any(feature = "https", feature = "grpc", feature = "etcd"))]
mod http2;
#[cfg(feature = "https")]
mod https;
#[cfg(any(
    feature = "https",
    feature = "quic",
    feature = "grpc",
    feature = "etcd"
))]
mod line;
mod meter;
mod packet;
mod patience;
mod pending;
mod policy;
#[cfg(feature = "quic")]
mod quic;
mod resolv_conf;
mod resolve;
#[cfg(any(feature = "grpc", feature = "etcd"))]
mod rpc;
mod stream;
mod target;
mod tls;
mod udp;
mod waiters;
mod witness;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{runtime::Handle, time::timeout};

pub use ask::Ask;
#[cfg(target_os = "linux")]
pub use asker::Asker;
pub use failure::{Failure, Lack};
pub use flight::Flights;
pub use group::{Group, Member, Plan};
pub use health::Check;
pub use meter::{Meter, Proto};
pub use packet::Packet;
pub use pending::{Eviction, PendingLimit, Permit};
pub use policy::{MAX_UPSTREAMS, Policy};
pub use resolv_conf::{ResolvConf, read_nameservers, read_search};
pub use resolve::{ResolveError, System, resolve};
#[cfg(any(feature = "grpc", feature = "etcd"))]
pub use rpc::{Rpc, RpcError};
pub use stream::Keeping;
pub use target::{DohMethod, Host, Over, Target, TargetError, To};
pub use witness::{Tried, Witness};

use crate::{
    metrics::Metrics,
    query::{Question, Transport},
    reply::Reply,
};
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

/// How long the whole of a cut answer is waited for.
const STREAM_PATIENCE: Duration = Duration::from_secs(1);

/// One server to ask, with its sockets and its health.
#[derive(Debug)]
pub struct Upstream {
    target: Target,
    label: Arc<str>,
    check: Check,
    check_way: Way,
    health: Health,
    link: Link,
    meter: Arc<Meter>,
    runtime: Handle,
}

/// The sockets of an upstream.
#[derive(Debug)]
enum Link {
    Plain {
        udp: Arc<Udp>,
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

/// What a question is sent over. Upstreams that prove who they are have a way of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By datagram.
    Datagram,
    /// By datagram, and again by stream where the answer was cut.
    DatagramFirst,
    /// By stream.
    Stream,
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
        let link = Link::new(&target, settings, &runtime, &meter);
        Self {
            label,
            health: Health::new(settings.max_fails),
            check: settings.check,
            check_way: if settings.by_stream {
                Way::Stream
            } else {
                Way::Datagram
            },
            link,
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

    /// Asks it, and waits for as long as the caller does.
    pub async fn exchange(&self, packet: &Arc<Packet>, way: Way) -> Result<Reply, Failure> {
        let asked = Instant::now();
        let answer = self.ask(packet, way).await;
        if let Some(witness) = packet.witness() {
            let heard = answer.as_ref().ok().and_then(|reply| reply.heard.as_ref());
            let usual = match self.target.over {
                Over::Dns if way == Way::Stream => Transport::Tcp,
                Over::Dns => Transport::Udp,
                Over::Tls => Transport::Tls,
                Over::Https => Transport::Https,
                Over::Quic => Transport::Quic,
            };
            witness.tried(&Tried {
                upstream: self.target.address,
                over: heard.map_or(usual, |heard| heard.over),
                begun: asked,
                took: asked.elapsed(),
                reply: answer.as_ref().ok(),
            });
        }
        if let Ok(reply) = &answer {
            self.answered(reply, asked.elapsed());
        }
        answer
    }

    fn answered(&self, reply: &Reply, took: Duration) {
        self.health.answered();
        self.meter.answered(reply.rcode, took);
    }

    /// Its sockets, where it can be asked by datagram in plain.
    #[cfg(target_os = "linux")]
    fn datagrams(&self) -> Option<&Udp> {
        match &self.link {
            Link::Plain { udp, .. } => Some(udp),
            _ => None,
        }
    }

    async fn ask(&self, packet: &Arc<Packet>, way: Way) -> Result<Reply, Failure> {
        let (udp, streams) = match &self.link {
            Link::Plain { udp, streams } => (udp, streams),
            Link::Tls(streams) => return streams.exchange(packet).await,
            // Futures of their own: they are large, and most questions need none.
            #[cfg(feature = "https")]
            Link::Https(https) => return Box::pin(https.exchange(packet)).await,
            #[cfg(feature = "quic")]
            Link::Quic(quic) => return Box::pin(quic.exchange(packet)).await,
            Link::Broken(failure) => return Err(failure.clone()),
        };
        if way == Way::Stream {
            return streams.exchange(packet).await;
        }
        let reply = udp.exchange(packet).await?;
        if way == Way::DatagramFirst && reply.truncated {
            let whole = timeout(STREAM_PATIENCE, streams.exchange(packet)).await;
            // A cut answer is better than none.
            return Ok(whole.ok().and_then(Result::ok).unwrap_or(reply));
        }
        Ok(reply)
    }

    /// Asks it something of our own, in the way in which it is usually asked.
    pub async fn probe(
        &self,
        question: &Question,
        recursion_desired: bool,
    ) -> Result<Reply, Failure> {
        let packet = Arc::new(Packet::probe(question, recursion_desired));
        self.exchange(&packet, self.check_way).await
    }

    /// A question to it failed in a way that speaks against it: it is checked until it answers.
    pub fn failed(self: &Arc<Self>) {
        if self.health.begin() {
            self.runtime.spawn(health::check(Arc::downgrade(self)));
        }
    }
}

impl Link {
    fn new(target: &Target, settings: &Settings, runtime: &Handle, meter: &Arc<Meter>) -> Self {
        let (address, source, keeping) = (target.address, settings.source, settings.keeping);
        let streams = |tls| {
            let (runtime, meter) = (runtime.clone(), Arc::clone(meter));
            Streams::new(address, source, tls, keeping, runtime, meter)
        };
        if target.over == Over::Dns {
            let udp = Udp::new(address, source, runtime.clone(), Arc::clone(meter));
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
            // No Corefile gets this far: `Over::required` refuses it.
            #[cfg(not(feature = "https"))]
            Over::Https => Self::Broken(Failure::Tls(NotBuilt(Feature::Https).to_string().into())),
            #[cfg(not(feature = "quic"))]
            Over::Quic => Self::Broken(Failure::Tls(NotBuilt(Feature::Quic).to_string().into())),
        }
    }
}
