//! `grpc`: questions go to other servers by gRPC, as whole messages.
//!
//! This file is the plugin, `parse` is its Corefile form. What is asked on is
//! [`crate::upstream::Rpc`].

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
use tokio::time::timeout;

pub use parse::parse;

use super::{Build, BuildError, Context, Plugin, Resolved, Setup, Step, ZoneList};
use crate::{
    metrics::{Metrics, rcode_label},
    query::Query,
    reply::{Reply, Why},
    upstream::{
        Failure, MAX_UPSTREAMS, Packet, PendingLimit, Policy, Rpc, RpcError, TlsFiles,
        default_limit, read_nameservers,
    },
    wire::{Header, MAX_MESSAGE, Name, Rcode},
};

/// The Corefile's word.
const NAME: &str = "grpc";

/// What is called.
const QUERY: &str = "/coredns.dns.DnsService/Query";

/// How long a question may take in all: what resolvers wait, less the way.
const PATIENCE: Duration = Duration::from_millis(4500);
/// How long the first of several servers may take.
const EACH: Duration = Duration::from_secs(2);

/// A message, as it goes over the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DnsPacket {
    /// The octets of a DNS message.
    #[prost(bytes = "vec", tag = "1")]
    pub msg: Vec<u8>,
}

/// What a directive says.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names at and under this one are asked for.
    pub from: Name,
    /// Names under these are not, `from` itself excepted.
    pub except: Vec<Name>,
    /// Where.
    pub to: Vec<To>,
    /// Files for TLS; without `tls` or `tls_servername`, questions go in plain.
    pub tls: Option<TlsFiles>,
    /// The name that servers must prove.
    pub tls_name: Option<ServerName<'static>>,
    /// Who is asked first.
    pub policy: Policy,
    /// Names of which the next plugin is asked where nobody knows them, or nobody answers.
    pub fallthrough: ZoneList,
}

/// What is written behind `grpc FROM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Address and port.
    Server(String, u16),
    /// A file in the form of resolv.conf, which is read once.
    File(PathBuf),
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let error = |action: String, source: Option<anyhow::Error>| BuildError {
            plugin: NAME,
            action,
            source,
        };
        let tls = self.tls.as_ref().map(TlsFiles::load).transpose();
        let tls = tls.map_err(|source| error("TLS".to_owned(), Some(source.into())))?;
        let mut places = Vec::new();
        for to in &self.to {
            match to {
                To::Server(host, port) => places.push((host.clone(), *port)),
                To::File(path) => {
                    let servers = read_nameservers(path).map_err(|source| {
                        let action = format!("not an IP address or file \"{}\"", path.display());
                        error(action, Some(source.into()))
                    })?;
                    places.extend(servers.iter().map(|server| (server.to_string(), 53)));
                }
            }
        }
        // An empty file is passed over as long as anything else is left.
        if places.is_empty() {
            return Err(error("no nameservers found".to_owned(), None));
        }
        if places.len() > MAX_UPSTREAMS {
            let count = places.len();
            let action = format!("more than {MAX_UPSTREAMS} TOs configured: {count}");
            return Err(error(action, None));
        }
        let open = |(host, port): &(String, u16)| {
            let (name, runtime) = (self.tls_name.as_ref(), build.runtime.clone());
            Arc::new(Rpc::new(host, *port, tls.as_ref(), name, runtime))
        };
        Ok(Arc::new(Grpc {
            from: self.from.to_lower(),
            except: self.except.iter().map(Name::to_lower).collect(),
            servers: places.iter().map(open).collect(),
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

/// The plugin.
struct Grpc {
    from: Name,
    except: Box<[Name]>,
    servers: Vec<Arc<Rpc>>,
    policy: Policy,
    fallthrough: ZoneList,
    turn: AtomicUsize,
    pending: Arc<PendingLimit>,
    metrics: Arc<Metrics>,
}

impl Plugin for Grpc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let lower = query.question.lower;
        if !self.is_for(&lower) {
            return Step::Pass;
        }
        let Some(permit) = self.pending.enter(0, query.client.ip()) else {
            self.pending.overload(reply);
            return Step::Answer;
        };
        let round = Round {
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
                reply = timeout(PATIENCE, round.run()) => {
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

    fn recurses(&self) -> bool {
        true
    }

    fn serves_other_classes(&self) -> bool {
        true
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
            Policy::Random => servers.shuffle(&mut rand::rng()),
            Policy::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                servers.rotate_left(turn % self.servers.len().max(1));
            }
            Policy::Sequential => {}
        }
        servers
    }
}

/// One question's way through the servers.
struct Round {
    servers: Vec<Arc<Rpc>>,
    packet: Packet,
    id: u16,
    metrics: Arc<Metrics>,
}

impl Round {
    async fn run(&self) -> Reply {
        let mut last = RpcError::Failed(Failure::Silent);
        for (number, server) in self.servers.iter().enumerate() {
            let asking = self.ask(server);
            let answer = if number + 1 < self.servers.len() {
                let silent = RpcError::Failed(Failure::Silent);
                timeout(EACH, asking).await.unwrap_or(Err(silent))
            } else {
                asking.await
            };
            match answer {
                Ok(reply) => return reply,
                Err(error) => last = error,
            }
        }
        failure(&last)
    }

    async fn ask(&self, server: &Rpc) -> Result<Reply, RpcError> {
        let begun = Instant::now();
        let question = DnsPacket {
            msg: self.packet.message(self.id),
        };
        let called = server.call::<_, DnsPacket>(QUERY, &question, None).await;
        let answer = match called {
            // There is a word of gRPC for it.
            Err(RpcError::Status { code, .. }) if code == RpcError::NOT_FOUND => {
                return Ok(Reply::failure(Rcode::NXDOMAIN, Why::Upstream));
            }
            called => called?.msg,
        };
        let header = Header::read(&answer).filter(|_| answer.len() <= MAX_MESSAGE);
        let reply = header.and_then(|header| self.packet.read(&answer, &header));
        let mut reply = reply.ok_or(RpcError::Failed(Failure::Malformed))?;
        let (to, metrics) = (server.authority(), &self.metrics.grpc);
        let took = begun.elapsed().as_secs_f64();
        metrics.requests_total.with_label_values(&[to]).inc();
        metrics
            .responses_total
            .with_label_values(&[rcode_label(reply.rcode), to])
            .inc();
        let durations = &metrics.request_duration_seconds;
        durations.with_label_values(&[to]).observe(took);
        // Whoever the authority is, it is not this server.
        reply.authoritative = false;
        Ok(reply)
    }
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
