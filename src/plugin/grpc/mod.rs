//! `grpc`: forwards queries to other servers by gRPC, as DNS messages.
//!
//! This file is the plugin, `parse` reads the directive, and [`crate::upstream::Rpc`] is the client of a
//! server.

mod parse;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand::seq::SliceRandom;
use rustls::pki_types::ServerName;
use tokio::{runtime::Handle, time::timeout};

pub use parse::parse;

use super::{
    Build, BuildError, Context, Describe, OnQuery, Plugin, Properties, Resolved, Setup, Step,
    ZoneList,
};
use crate::{
    hooks,
    metrics::{Metrics, rcode_label},
    query::Query,
    reply::{Reply, Why},
    tls::ClientFiles,
    upstream::{
        Failure, MAX_UPSTREAMS, Packet, PendingLimit, Rpc, RpcError, SelectionPolicy,
        default_limit, read_nameservers,
    },
    wire::{Header, MAX_MESSAGE, Name, Rcode},
};

/// The name of the plugin in a Corefile.
const NAME: &str = "grpc";

/// The path of the method.
const QUERY: &str = "/coredns.dns.DnsService/Query";

/// Timeout of a query over all servers: less than the 5 s of stub resolvers.
const TIMEOUT: Duration = Duration::from_millis(4500);
/// Timeout of each server but the last.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The message of the gRPC service, for queries and responses.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DnsPacket {
    /// A DNS message in wire form.
    #[prost(bytes = "vec", tag = "1")]
    pub msg: Vec<u8>,
}

/// The options of a directive.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names at and under this one are forwarded.
    pub from: Name,
    /// Names under these are not, `from` itself excepted.
    pub except: Vec<Name>,
    /// The servers.
    pub to: Vec<To>,
    /// Files for TLS; without `tls` and `tls_servername`, no TLS is used.
    pub tls: Option<ClientFiles>,
    /// The name in the servers' certificates.
    pub tls_name: Option<ServerName<'static>>,
    /// The order in which servers are tried.
    pub policy: SelectionPolicy,
    /// Queries for names in these zones pass to the next plugin on NXDOMAIN, and if no server answers.
    pub fallthrough: ZoneList,
}

/// A TO of `grpc FROM TO...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Address and port.
    Server(String, u16),
    /// A file in resolv.conf format, which is read once.
    File(PathBuf),
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let servers = self.open(build.runtime)?;
        Ok(Plugin::from(Grpc {
            from: self.from.to_lower(),
            except: self.except.iter().map(Name::to_lower).collect(),
            servers,
            policy: self.policy,
            fallthrough: self.fallthrough.clone(),
            turn: AtomicUsize::new(0),
            pending: PendingLimit::new(
                default_limit(),
                Rcode::SERVFAIL,
                [build.metrics.queries_shed_total.with_label_values(&[NAME])],
            ),
            metrics: Arc::clone(build.metrics),
        }))
    }
}

impl Config {
    /// The servers. Reads the files that the directive names; nothing is connected yet.
    pub fn open(&self, runtime: &Handle) -> Result<Vec<Arc<Rpc>>, BuildError> {
        let error = |action: String, source: Option<anyhow::Error>| BuildError {
            plugin: NAME,
            action,
            source,
        };
        let tls = self.tls.as_ref().map(ClientFiles::load).transpose();
        let tls = tls.map_err(|source| error("TLS".to_owned(), Some(source.into())))?;
        let mut servers = Vec::new();
        for to in &self.to {
            match to {
                To::Server(host, port) => servers.push((host.clone(), *port)),
                To::File(path) => {
                    let listed = read_nameservers(path).map_err(|source| {
                        let action = format!("not an IP address or file \"{}\"", path.display());
                        error(action, Some(source.into()))
                    })?;
                    servers.extend(listed.iter().map(|server| (server.to_string(), 53)));
                }
            }
        }
        // An empty file is no error if there are other servers.
        if servers.is_empty() {
            return Err(error("no nameservers found".to_owned(), None));
        }
        if servers.len() > MAX_UPSTREAMS {
            let count = servers.len();
            let action = format!("more than {MAX_UPSTREAMS} TOs configured: {count}");
            return Err(error(action, None));
        }
        let open = |(host, port): &(String, u16)| {
            let (name, runtime) = (self.tls_name.as_ref(), runtime.clone());
            Arc::new(Rpc::new(host, *port, tls.as_ref(), name, runtime))
        };
        Ok(servers.iter().map(open).collect())
    }
}

/// The plugin.
struct Grpc {
    from: Name,
    except: Box<[Name]>,
    servers: Vec<Arc<Rpc>>,
    policy: SelectionPolicy,
    fallthrough: ZoneList,
    turn: AtomicUsize,
    pending: Arc<PendingLimit>,
    metrics: Arc<Metrics>,
}

hooks!(Grpc, NAME => on_query; properties);

impl OnQuery for Grpc {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let lower = query.question.lower;
        if !self.is_for(&lower) {
            return Step::Pass;
        }
        let Some(permit) = self.pending.enter(0, query.client.ip()) else {
            self.pending.overload(reply);
            return Step::Answer;
        };
        let attempts = Attempts {
            servers: self.in_order(),
            packet: Packet::of(query),
            id: query.id,
            metrics: Arc::clone(&self.metrics),
        };
        let falls_through = self.fallthrough.covers(lower.as_ref());
        Step::Wait(Box::pin(async move {
            let reply = tokio::select! {
                biased;
                reply = permit.evicted() => return Resolved::Answer(reply),
                reply = timeout(TIMEOUT, attempts.run()) => {
                    reply.unwrap_or_else(|_| failure(&RpcError::Failed(Failure::Silent)))
                }
            };
            drop(permit);
            let is_lacking = reply.why != Why::Upstream || reply.rcode == Rcode::NXDOMAIN;
            if falls_through && is_lacking {
                Resolved::Pass
            } else {
                Resolved::Answer(reply)
            }
        }))
    }
}

impl Describe for Grpc {
    fn properties(&self) -> Properties {
        Properties {
            recursive: true,
            other_classes: true,
            ..Properties::default()
        }
    }
}

impl Grpc {
    fn is_for(&self, name: &Name) -> bool {
        let is_excepted = || {
            let mut except = self.except.iter();
            except.any(|zone| name.as_ref().is_under(zone.as_ref()))
        };
        name.as_ref().is_under(self.from.as_ref()) && (*name == self.from || !is_excepted())
    }

    fn in_order(&self) -> Vec<Arc<Rpc>> {
        let mut servers = self.servers.clone();
        match self.policy {
            SelectionPolicy::Random => servers.shuffle(&mut rand::rng()),
            SelectionPolicy::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                servers.rotate_left(turn % self.servers.len().max(1));
            }
            SelectionPolicy::Sequential => {}
        }
        servers
    }
}

/// The attempts for one query.
struct Attempts {
    servers: Vec<Arc<Rpc>>,
    packet: Packet,
    id: u16,
    metrics: Arc<Metrics>,
}

impl Attempts {
    async fn run(&self) -> Reply {
        let mut last = RpcError::Failed(Failure::Silent);
        for (number, server) in self.servers.iter().enumerate() {
            let call = self.exchange(server);
            let answer = if number + 1 < self.servers.len() {
                let silent = RpcError::Failed(Failure::Silent);
                timeout(ATTEMPT_TIMEOUT, call).await.unwrap_or(Err(silent))
            } else {
                call.await
            };
            match answer {
                Ok(reply) => return reply,
                Err(error) => last = error,
            }
        }
        failure(&last)
    }

    async fn exchange(&self, server: &Rpc) -> Result<Reply, RpcError> {
        let begun = Instant::now();
        let Some(mut reply) = exchange(server, &self.packet, self.id).await? else {
            // Not counted as a response, as in CoreDNS.
            return Ok(Reply::failure(Rcode::NXDOMAIN, Why::Upstream));
        };
        let (to, metrics) = (server.authority(), &self.metrics.grpc);
        let took = begun.elapsed().as_secs_f64();
        metrics.requests_total.with_label_values(&[to]).inc();
        metrics
            .responses_total
            .with_label_values(&[rcode_label(reply.rcode), to])
            .inc();
        let durations = &metrics.request_duration_seconds;
        durations.with_label_values(&[to]).observe(took);
        // AA in the upstream's response does not make this server authoritative.
        reply.authoritative = false;
        Ok(reply)
    }
}

/// Sends a query to a server; the caller limits the wait for the reply. `None` is the status NOT_FOUND, which
/// means NXDOMAIN, as in CoreDNS.
pub async fn exchange(server: &Rpc, packet: &Packet, id: u16) -> Result<Option<Reply>, RpcError> {
    let request = DnsPacket {
        msg: packet.message(id),
    };
    let called = server.call::<_, DnsPacket>(QUERY, &request, None).await;
    let answer = match called {
        Err(RpcError::Status { code, .. }) if code == RpcError::NOT_FOUND => return Ok(None),
        called => called?.msg,
    };
    let header = Header::read(&answer).filter(|_| answer.len() <= MAX_MESSAGE);
    let reply = header.and_then(|header| packet.read(&answer, &header));
    reply.map(Some).ok_or(RpcError::Failed(Failure::Malformed))
}

fn failure(error: &RpcError) -> Reply {
    let why = match error {
        RpcError::Failed(failure) => failure.why(),
        RpcError::Status { .. } => Why::UpstreamUnreachable,
    };
    let mut reply = Reply::failure(Rcode::SERVFAIL, why);
    reply.cause = Some(error.to_string().into());
    reply
}
