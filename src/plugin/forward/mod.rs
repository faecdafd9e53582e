//! `forward`: questions about names that nobody here knows go to other servers.
//!
//! This file is the plugin; `parse` is its Corefile form, `sources` keeps its upstreams as the
//! files that list them say, and how upstreams are asked is [`crate::upstream`]'s matter.

mod observers;
mod parse;
mod sources;

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::pki_types::ServerName;

pub use parse::parse;
#[cfg(any(feature = "grpc", feature = "etcd"))]
pub(super) use parse::tls_files;
#[cfg(feature = "grpc")]
pub(super) use parse::{names, policy, server_name};

use super::{Build, BuildError, Context, Plugin, Setup, Step, loop_guard::LoopGuard};
use crate::{
    metrics::Metrics,
    query::{Query, Transport},
    reply::{Reply, Section, Why},
    upstream::{
        Check, DohMethod, Group, InFlight, Keeping, Packet, PendingLimit, Plan, TlsFiles, To,
        TransportPolicy, UpstreamQuery, default_limit, process_limit,
    },
    wire::{Name, Rcode, Type},
};
use observers::Observers;
pub use observers::{ExchangeObserver, OfferedObserver};
use sources::Sources;

/// The Corefile's word.
const NAME: &str = "forward";

/// The metadata label of the upstream that answered.
const UPSTREAM: &str = "forward/upstream";

/// What a `forward` directive says.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // switches of the Corefile, independent of each other
pub struct Config {
    /// Names at and under this one are forwarded.
    pub from: Name,
    /// Names under these are not, `from` itself excepted.
    pub except: Vec<Name>,
    /// Where to.
    pub to: Vec<To>,
    /// Always by stream.
    pub force_tcp: bool,
    /// By datagram even for clients that came by stream, and again by stream where it was cut.
    pub prefer_udp: bool,
    /// How connections are kept.
    pub keeping: Keeping,
    /// Failures in a row after which an upstream is down; 0 for never.
    pub max_fails: u32,
    /// How an upstream that is down is asked whether it is up.
    pub check: Check,
    /// Files for TLS.
    pub tls: TlsFiles,
    /// The name that TLS upstreams must prove.
    pub tls_name: Option<ServerName<'static>>,
    /// How HTTPS upstreams are asked.
    pub doh_method: DohMethod,
    /// Whom the addresses of upstreams that are given by name are asked of; the system without any.
    pub resolver: Box<[SocketAddr]>,
    /// Our address towards upstreams.
    pub source: Option<IpAddr>,
    /// How often, in which order, and for how long upstreams are tried.
    pub plan: Plan,
    /// Pending queries at most; 0 for [`default_limit`].
    pub max_concurrent: usize,
    /// Codes with which a question goes on to the forward behind this one.
    pub next: Vec<Rcode>,
    /// Whether it does so with an empty answer.
    pub next_on_nodata: bool,
}

impl Config {
    /// Everything forwarded to `to`, and all else as CoreDNS has it by default.
    pub fn new(from: Name, to: Vec<To>) -> Self {
        Self {
            from,
            to,
            except: Vec::new(),
            force_tcp: false,
            prefer_udp: false,
            keeping: Keeping {
                expire: std::time::Duration::from_secs(10),
                max_age: std::time::Duration::ZERO,
                max_idle: 0,
            },
            max_fails: 2,
            check: Check::default(),
            tls: TlsFiles::default(),
            tls_name: None,
            doh_method: DohMethod::default(),
            resolver: Box::default(),
            source: None,
            plan: Plan::default(),
            max_concurrent: 0,
            next: Vec::new(),
            next_on_nodata: false,
        }
    }
}

/// The plugin.
pub struct Forward {
    from: Name,
    except: Box<[Name]>,
    force_tcp: bool,
    prefer_udp: bool,
    sources: Arc<Sources>,
    in_flight: Arc<InFlight>,
    next: Arc<Next>,
    pending: Arc<PendingLimit>,
    observers: Observers,
}

/// When a question goes on to the forward behind this one.
#[derive(Debug)]
struct Next {
    rcodes: Box<[Rcode]>,
    on_nodata: bool,
    /// There is one.
    exists: AtomicBool,
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        Ok(self.open(build)?)
    }
}

impl Config {
    /// Makes the plugin: reads the files that it names and begins to follow them.
    pub fn open(&self, build: &mut Build<'_>) -> Result<Arc<Forward>, BuildError> {
        let guard = build.offered::<LoopGuard>();
        let sources = Sources::open(self, build, guard)?;
        let next = Arc::new(Next {
            rcodes: self.next.clone().into(),
            on_nodata: self.next_on_nodata,
            exists: AtomicBool::new(false),
        });
        // Forwards stand behind each other in a chain, nothing between them.
        let mut before = build.offered.iter().rev();
        if let Some(before) = before.find_map(|offer| offer.downcast_ref::<Next>()) {
            before.exists.store(true, Ordering::Relaxed);
        }
        build.offered.push(Arc::clone(&next) as _);
        Ok(Arc::new(Forward {
            from: self.from.to_lower(),
            except: self.except.iter().map(Name::to_lower).collect(),
            force_tcp: self.force_tcp,
            prefer_udp: self.prefer_udp,
            sources,
            in_flight: Arc::new(InFlight::new(build.metrics.panics_total.clone())),
            next,
            pending: self.limit(build.metrics),
            observers: Observers::offered(build),
        }))
    }
}

impl Config {
    fn limit(&self, metrics: &Metrics) -> Arc<PendingLimit> {
        let shed = metrics.queries_shed_total.with_label_values(&["forward"]);
        // A limit of the configuration is answered as CoreDNS does. Ours is no rule against the
        // client but a fault, after which it may ask elsewhere or again.
        let limit = self.max_concurrent;
        if limit == 0 {
            return PendingLimit::new(default_limit(), Rcode::SERVFAIL, [shed]);
        }
        let process = process_limit();
        if limit > process {
            tracing::warn!(
                target: "plugin/forward",
                "max_concurrent {limit} is more than the {process} queries that may be pending in this process"
            );
        }
        let rejects = metrics.forward.max_concurrent_rejects_total.clone();
        PendingLimit::new(limit, Rcode::REFUSED, [shed, rejects])
    }
}

impl Plugin for Forward {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if !self.is_for(&query.question.lower) {
            return Step::Pass;
        }
        // A zone comes in several messages, and upstreams are asked for one.
        if matches!(query.question.rtype, Type::AXFR | Type::IXFR) {
            reply.fail(Rcode::NOTIMP, Why::NotServed);
            return Step::Answer;
        }
        let Some(permit) = self.pending.enter(0, query.client.ip()) else {
            self.pending.overload(reply);
            return Step::Answer;
        };
        let mut packet = Packet::of(query);
        if let Some(witness) = self.observers.of(context, query) {
            packet.witnessed(witness);
        }
        let (group, in_flight) = (Arc::clone(self.group()), Arc::clone(&self.in_flight));
        let transport = self.transport(query.transport);
        let query = UpstreamQuery::new(group, in_flight, packet, transport, permit);
        Step::Forward(Box::new(query))
    }

    fn heard(&self, asked: Type, reply: &mut Reply) -> bool {
        // Whoever the authority is, it is not this server.
        reply.authoritative = false;
        !self.next.wants(asked, reply)
    }

    fn metadata_after(&self, _: &Query, reply: &Reply, label: &str) -> Option<String> {
        let heard = reply.heard.as_ref().filter(|_| label == UPSTREAM)?;
        Some(heard.upstream.to_string())
    }

    fn started(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let started = self.sources.started()?;
        Some(Box::pin(started))
    }

    fn recurses(&self) -> bool {
        true
    }

    fn serves_other_classes(&self) -> bool {
        true
    }
}

impl Forward {
    /// Its upstreams.
    pub fn group(&self) -> &Arc<Group> {
        self.sources.group()
    }

    /// Whether the name, in lower case, is forwarded.
    fn is_for(&self, name: &Name) -> bool {
        let name_ref = name.as_ref();
        let is_excepted = || {
            let mut except = self.except.iter();
            except.any(|zone| name_ref.is_under(zone.as_ref()))
        };
        name_ref.is_under(self.from.as_ref()) && (*name == self.from || !is_excepted())
    }

    fn transport(&self, client: Transport) -> TransportPolicy {
        if self.force_tcp {
            TransportPolicy::Tcp
        } else if self.prefer_udp {
            TransportPolicy::UdpThenTcp
        } else if client == Transport::Udp {
            TransportPolicy::Udp
        } else {
            TransportPolicy::Tcp
        }
    }
}

impl Next {
    /// Whether the reply is not good enough. A failure of ours is no upstream's word.
    fn wants(&self, asked: Type, reply: &Reply) -> bool {
        if reply.why != Why::Upstream || !self.exists.load(Ordering::Relaxed) {
            return false;
        }
        let is_empty = reply.section(Section::Answer).is_empty();
        let is_nodata = reply.rcode == Rcode::NOERROR && (is_empty || reply.denies(asked));
        self.rcodes.contains(&reply.rcode) || (self.on_nodata && is_nodata)
    }
}
