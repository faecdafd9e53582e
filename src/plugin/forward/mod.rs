//! `forward`: forwards queries to upstreams.
//!
//! This file is the plugin; `parse` reads the directive, `sources` keeps the list of upstreams in step
//! with the files and host names that it comes from, and [`crate::upstream`] does the exchanges.

mod observers;
mod parse;
mod sources;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustls::pki_types::ServerName;

pub use parse::parse;
#[cfg(any(feature = "grpc", feature = "etcd"))]
pub(super) use parse::tls_files;
#[cfg(feature = "grpc")]
pub(super) use parse::{names, policy, server_name};

use super::{
    Build, BuildError, Context, Describe, MetadataSource, OnQuery, OnUpstreamReply, Plugin,
    Properties, Setup, Startup, Step, Work, loop_guard::LoopGuard,
};
use crate::{
    hooks,
    metrics::Metrics,
    query::{Query, Transport},
    reply::{Reply, Section, Why},
    tls::ClientFiles,
    upstream::{
        Destination, DohMethod, HealthCheck, InFlight, Packet, PendingLimit, Plan, PoolSettings,
        TransportPolicy, UpstreamGroup, UpstreamQuery, default_limit, process_limit,
    },
    wire::{Name, Rcode, Type},
};
pub use observers::ExchangeObserver;
use observers::Observers;
use sources::UpstreamSources;

/// The name of the plugin in a Corefile.
const NAME: &str = "forward";

/// The metadata label of the upstream that answered.
const UPSTREAM: &str = "forward/upstream";

/// The options of a directive.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // switches of the Corefile, independent of each other
pub struct Config {
    /// Names at and under this one are forwarded.
    pub from: Name,
    /// Names under these are not, `from` itself excepted.
    pub except: Vec<Name>,
    /// The upstreams.
    pub to: Vec<Destination>,
    /// Whether TCP is always used.
    pub force_tcp: bool,
    /// Whether UDP is used even for queries received over TCP, with a retry over TCP on truncation.
    pub prefer_udp: bool,
    /// Bounds of the pooled connections.
    pub pool: PoolSettings,
    /// Consecutive failures after which an upstream is down; 0 for never.
    pub max_fails: u32,
    /// The health check of an upstream that is down.
    pub check: HealthCheck,
    /// Files for TLS.
    pub tls: ClientFiles,
    /// The name in the certificates of TLS upstreams.
    pub tls_name: Option<ServerName<'static>>,
    /// The HTTP method for HTTPS upstreams.
    pub doh_method: DohMethod,
    /// The name servers that resolve upstreams given by name; the system's resolver if empty.
    pub resolver: Box<[SocketAddr]>,
    /// The source address of queries to upstreams.
    pub source: Option<IpAddr>,
    /// Attempts, policy and timeouts.
    pub plan: Plan,
    /// Pending queries at most; 0 for [`default_limit`].
    pub max_concurrent: usize,
    /// Packets to the upstreams per second at most; 0 for no limit.
    pub max_pps: u32,
    /// Response codes on which the next `forward` of the block is tried.
    pub next: Vec<Rcode>,
    /// Whether the next `forward` is tried on NODATA too.
    pub next_on_nodata: bool,
    /// Whether another `forward` follows in the block.
    pub has_next: bool,
}

impl Config {
    /// Forwards names under `from` to `to`, with the defaults of CoreDNS otherwise.
    pub fn new(from: Name, to: Vec<Destination>) -> Self {
        Self {
            from,
            to,
            except: Vec::new(),
            force_tcp: false,
            prefer_udp: false,
            pool: PoolSettings {
                expire: std::time::Duration::from_secs(10),
                max_age: std::time::Duration::ZERO,
                max_idle: 0,
            },
            max_fails: 2,
            check: HealthCheck::default(),
            tls: ClientFiles::default(),
            tls_name: None,
            doh_method: DohMethod::default(),
            resolver: Box::default(),
            source: None,
            plan: Plan::default(),
            max_concurrent: 0,
            max_pps: 0,
            next: Vec::new(),
            next_on_nodata: false,
            has_next: false,
        }
    }
}

/// The plugin.
pub struct Forward {
    from: Name,
    except: Box<[Name]>,
    force_tcp: bool,
    prefer_udp: bool,
    sources: Arc<UpstreamSources>,
    in_flight: Arc<InFlight>,
    next: Next,
    pending: Arc<PendingLimit>,
    observers: Observers,
}

/// When the next `forward` of the block is tried.
#[derive(Debug)]
struct Next {
    rcodes: Box<[Rcode]>,
    on_nodata: bool,
    /// Whether there is one.
    exists: bool,
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(self.open(build)?.into())
    }
}

impl Config {
    /// Makes the plugin: reads the files that it names and begins to watch them.
    pub fn open(&self, build: &mut Build<'_>) -> Result<Arc<Forward>, BuildError> {
        let guard = build.offers.loop_guard.clone();
        let sources = UpstreamSources::open(self, build, guard)?;
        let next = Next {
            rcodes: self.next.clone().into(),
            on_nodata: self.next_on_nodata,
            exists: self.has_next,
        };
        Ok(Arc::new(Forward {
            from: self.from.to_lower(),
            except: self.except.iter().map(Name::to_lower).collect(),
            force_tcp: self.force_tcp,
            prefer_udp: self.prefer_udp,
            sources,
            in_flight: Arc::new(InFlight::new(build.metrics.panics_total.clone())),
            next,
            pending: self.limit(build.metrics),
            observers: Observers::of_block(&build.offers.exchange_observers),
        }))
    }
}

impl Config {
    fn limit(&self, metrics: &Metrics) -> Arc<PendingLimit> {
        let shed = metrics.queries_shed_total.with_label_values(&["forward"]);
        // At a configured limit the response is REFUSED, as in CoreDNS. At the default limit it is
        // SERVFAIL, after which the client may retry or use another server.
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

hooks!(Forward, NAME => on_query, on_upstream_reply, metadata, startup; properties);

impl OnQuery for Forward {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if !self.is_for(&query.question.lower) {
            return Step::Pass;
        }
        // A zone transfer is a sequence of messages, and an exchange with an upstream has one response.
        if matches!(query.question.rtype, Type::AXFR | Type::IXFR) {
            reply.fail(Rcode::NOTIMP, Why::NotServed);
            return Step::Answer;
        }
        let Some(permit) = self.pending.enter(0, query.client.ip()) else {
            self.pending.overload(reply);
            return Step::Answer;
        };
        let mut packet = Packet::of(query);
        if let Some(observer) = self.observers.of(context, query) {
            packet.observe(observer);
        }
        let (group, in_flight) = (Arc::clone(self.group()), Arc::clone(&self.in_flight));
        let transport = self.transport(query.transport);
        let query = UpstreamQuery::new(group, in_flight, packet, transport, permit);
        Step::Forward(Box::new(query))
    }
}

impl OnUpstreamReply for Forward {
    fn on_upstream_reply(&self, rtype: Type, reply: &mut Reply) -> bool {
        // AA in the upstream's response does not make this server authoritative.
        reply.authoritative = false;
        !self.next.wants(rtype, reply)
    }
}

impl MetadataSource for Forward {
    fn metadata(&self, _: &Query, reply: Option<&Reply>, label: &str) -> Option<String> {
        let source = reply?.source.as_ref().filter(|_| label == UPSTREAM)?;
        Some(source.upstream.to_string())
    }
}

impl Startup for Forward {
    fn started(&self) -> Option<Work> {
        let started = self.sources.started()?;
        Some(Box::pin(started))
    }
}

impl Describe for Forward {
    fn properties(&self) -> Properties {
        Properties {
            recursive: true,
            other_classes: true,
            ..Properties::default()
        }
    }
}

impl Forward {
    /// Its upstreams.
    pub fn group(&self) -> &Arc<UpstreamGroup> {
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
    /// Whether the next `forward` is to be tried after this reply. Only responses of an upstream count,
    /// not failures of this server.
    fn wants(&self, rtype: Type, reply: &Reply) -> bool {
        if reply.why != Why::Upstream || !self.exists {
            return false;
        }
        let is_empty = reply.section(Section::Answer).is_empty();
        let is_nodata = reply.rcode == Rcode::NOERROR && (is_empty || reply.denies(rtype));
        self.rcodes.contains(&reply.rcode) || (self.on_nodata && is_nodata)
    }
}
