//! Explains how a name is resolved: the expansions of a pod's search list, and for each the walk through the
//! server, as [`Recorder`] has recorded it.
//!
//! The walk is that of a client's query: the same routes, plugins and cache.

mod render;
mod search;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use hickory_proto::op::Message;
pub use search::{NDOTS, expand};
use serde::{Deserialize, Serialize};

use crate::{
    corefile,
    message::Writer,
    metrics::Metrics,
    pipeline::{Listener, Pipeline},
    plugin::{Chain, SubQueryHandler},
    query::{Edns, Query, Question, Recorder, Transport},
    reply::{Reply, Section},
    server::{handle::Server, route::Routes},
    upstream::{PendingLimit, process_limit},
    wire::{Class, Name, Rcode, Type},
};

/// The plugin of steps of the server itself.
const SERVER: &str = "server";

/// What is to be explained.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// The name as a program would use it; one that ends in a dot is not expanded.
    pub name: String,
    /// The record type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The namespace of the asking pod, whose search list is used. Without one, the name is complete.
    pub namespace: Option<String>,
    /// The address of the asking pod, for plugins that depend on it.
    pub client: Option<SocketAddr>,
    /// The asking pod, `NAMESPACE/NAME`, where its address is not given.
    pub pod: Option<String>,
    /// The listener that is asked, by its label, such as `dns://:1053`. Default: of the listeners of plain DNS,
    /// the one whose server block has the longest zone for the first query's name; another transport only if
    /// none of them serves that name. The first of equal ones.
    pub server: Option<String>,
}

/// A request that cannot be carried out.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages describe them
pub enum RequestError {
    #[error("'{name}' is no domain name: {why}")]
    Name { name: String, why: String },
    #[error("'{0}' is no name of a namespace")]
    Namespace(String),
    #[error("'{0}' is no pod: use its name or its address")]
    Client(String),
    #[error(
        "pod '{0}' is not known: pods are known with 'pods verified' in the kubernetes block; use its address"
    )]
    UnknownPod(String),
    #[error("'{0}' is no record type")]
    Type(String),
    #[error("the configuration has no server block")]
    NoServer,
    #[error("there is no listener '{label}', only {present}")]
    UnknownServer { label: String, present: String },
    #[error("no server block has kubernetes, so there is no search list for namespace '{0}'")]
    NoCluster(String),
}

/// How a name is resolved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The name as asked for.
    pub name: String,
    /// The record type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The search list; empty if the name is complete.
    pub search: Vec<String>,
    /// Names with fewer dots are tried with the search list first.
    pub ndots: usize,
    /// The queries in the order in which a stub resolver sends them, up to the first with an answer.
    pub queries: Vec<Explained>,
    /// Whether the last query has an answer.
    pub answered: bool,
}

/// One query of an [`Explanation`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// The queried name.
    pub name: String,
    /// The response code.
    pub rcode: String,
    /// The records of the answer section, in presentation format.
    pub answer: Vec<String>,
    /// Why there is no answer.
    pub reason: Option<Reason>,
    /// The object that the name stands for.
    pub object: Option<String>,
    /// What speaks against using the answer.
    pub caution: Option<String>,
    /// Duration in microseconds.
    pub took_us: u64,
    /// The recorded walk.
    pub steps: Vec<WalkStep>,
}

/// A reason, as in the extended DNS error.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// Its name in metrics.
    pub name: String,
    /// The INFO-CODE (RFC 8914).
    pub code: u16,
    /// The text.
    pub text: String,
}

/// A step of a walk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WalkStep {
    /// Microseconds since the query began.
    pub at_us: u64,
    /// 0 for the query, 1 for its sub-queries.
    pub depth: u8,
    /// The plugin, or `server`.
    pub plugin: String,
    /// What happened.
    pub action: String,
}

/// The listeners' servers, and the plugin chains in the order of the Corefile.
#[derive(Clone, Default)]
pub struct Target {
    servers: Vec<Arc<Server>>,
    chains: Vec<Arc<Chain>>,
}

impl ExplainRequest {
    /// A request of a pod in the namespace `from`, `NAMESPACE`, or `NAMESPACE/POD` with the name or the
    /// address of the pod. Without it, the name is complete.
    ///
    /// # Errors
    /// `from` has an invalid address.
    pub fn new(name: &str, rtype: &str, from: Option<&str>) -> Result<Self, RequestError> {
        let (namespace, pod) = match from.map(|from| from.split_once('/').ok_or(from)) {
            Some(Ok((namespace, pod))) => (Some(namespace), Some(pod)),
            Some(Err(namespace)) => (Some(namespace), None),
            None => (None, None),
        };
        let address = pod.and_then(|pod| pod.parse().ok());
        let client = address.map(|address| SocketAddr::new(address, 0));
        let pod = pod.filter(|_| client.is_none());
        if pod.is_some_and(|pod| pod.is_empty() || pod.len() > 253) {
            return Err(RequestError::Client(pod.unwrap_or_default().to_owned()));
        }
        if name.contains("://") {
            return Err(RequestError::Name {
                name: name.to_owned(),
                why: "it is a URL: use the host name in it".to_owned(),
            });
        }
        // An address stands for its name.
        if let Ok(address) = name.parse::<IpAddr>() {
            let name = hickory_proto::rr::Name::from(address).to_string();
            let rtype = if rtype.eq_ignore_ascii_case("A") {
                "PTR"
            } else {
                rtype
            };
            return Self::new(&name, rtype, from);
        }
        let from_namespace = namespace;
        let namespace = namespace.filter(|_| !name.ends_with('.'));
        Ok(Self {
            name: name.to_owned(),
            rtype: rtype.to_owned(),
            namespace: namespace.map(str::to_owned),
            client,
            pod: pod.map(|pod| format!("{}/{pod}", from_namespace.unwrap_or_default())),
            server: None,
        })
    }
}

impl Target {
    /// Servers for a pipeline that has no sockets.
    pub fn offline(pipeline: &Pipeline, metrics: &Arc<Metrics>) -> Self {
        // Not among the metrics: the serving listeners have a limit of their own.
        let pending = PendingLimit::new(process_limit(), Rcode::SERVFAIL, []);
        let servers = pipeline.listeners.iter().map(|one: &Listener| {
            let routes = Routes::new(one.routes.iter().cloned());
            Server::new(
                Arc::clone(&one.label),
                routes,
                Arc::clone(&pending),
                metrics,
            )
        });
        Self::new(servers.collect(), pipeline)
    }

    /// The servers of a pipeline.
    pub fn new(servers: Vec<Arc<Server>>, pipeline: &Pipeline) -> Self {
        let routes = pipeline.listeners.iter().flat_map(|one| &one.routes);
        let chains = routes.map(|route| Arc::clone(&route.block.chain));
        Self {
            servers,
            chains: chains.collect(),
        }
    }

    /// Resolves the name as a stub resolver in the namespace would, and records how.
    ///
    /// # Errors
    /// The request names no domain name, type or listener, or the configuration lacks what it needs.
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, RequestError> {
        let rtype: Type = request
            .rtype
            .to_ascii_uppercase()
            .parse()
            .map_err(|_| RequestError::Type(request.rtype.clone()))?;
        let named = request.server.as_deref();
        let named = named.map(|label| self.server(label)).transpose()?;
        let search = match &request.namespace {
            Some(namespace) if namespace.is_empty() || namespace.len() > 63 => {
                return Err(RequestError::Namespace(namespace.clone()));
            }
            Some(namespace) => self
                .search_list(named, namespace)
                .ok_or_else(|| RequestError::NoCluster(namespace.clone()))?,
            None => Vec::new(),
        };
        let client = match &request.pod {
            Some(pod) => Some(self.pod(pod)?),
            None => request.client,
        };
        let names = expand(&request.name, &search, NDOTS)?;
        let query = |name: &Name| Query::internal(Question::new(*name, rtype, Class::IN));
        let server = named
            .or_else(|| self.best(&query(names.first()?)))
            .ok_or(RequestError::NoServer)?;
        let mut explanation = Explanation {
            name: request.name.clone(),
            rtype: rtype.to_string(),
            search: search.iter().map(ToString::to_string).collect(),
            ndots: NDOTS,
            queries: Vec::new(),
            answered: false,
        };
        for name in names {
            let (explained, answered) = explain_name(server, name, rtype, client).await;
            explanation.answered = answered;
            explanation.queries.push(explained);
            if answered {
                break;
            }
        }
        Ok(explanation)
    }

    /// The address of a pod, `NAMESPACE/NAME`.
    fn pod(&self, pod: &str) -> Result<SocketAddr, RequestError> {
        let unknown = || RequestError::UnknownPod(pod.to_owned());
        let (namespace, name) = pod.split_once('/').ok_or_else(unknown)?;
        let mut plugins = self.chains.iter().flat_map(|chain| chain.plugins());
        let address = plugins.find_map(|plugin| plugin.diagnosis.as_ref()?.pod(namespace, name));
        Ok(SocketAddr::new(address.ok_or_else(unknown)?, 0))
    }

    /// The listener with this label.
    fn server(&self, label: &str) -> Result<&Arc<Server>, RequestError> {
        let mut servers = self.servers.iter();
        servers
            .find(|server| *server.label() == *label)
            .ok_or_else(|| {
                let present = self.servers.iter().map(|server| server.label().to_string());
                RequestError::UnknownServer {
                    label: label.to_owned(),
                    present: present.collect::<Vec<_>>().join(", "),
                }
            })
    }

    /// The listener for a query: see [`ExplainRequest::server`].
    fn best(&self, query: &Query) -> Option<&Arc<Server>> {
        let rank = |server: &Arc<Server>| {
            let routes = server.routes();
            let labels = routes
                .find(query)
                .map(|block| block.zone.as_ref().label_count());
            let is_plain = transport(server) == Transport::Udp;
            (labels.is_some() && is_plain, labels)
        };
        // The first of equal ones: `max_by_key` returns the last.
        self.servers.iter().rev().max_by_key(|server| rank(server))
    }

    /// The search list of a namespace: by the cluster that `server` serves, else by any.
    fn search_list(&self, server: Option<&Arc<Server>>, namespace: &str) -> Option<Vec<Name>> {
        let routes = server.map(|server| server.routes());
        let is_own = |chain: &&Arc<Chain>| {
            let mut blocks = routes.iter().flat_map(|routes| routes.blocks());
            blocks.any(|block| Arc::ptr_eq(&block.chain, chain))
        };
        let own = self.chains.iter().filter(is_own);
        let mut plugins = own.chain(&self.chains).flat_map(|chain| chain.plugins());
        plugins.find_map(|plugin| {
            let list = plugin.diagnosis.as_ref()?.search_list(namespace);
            (!list.is_empty()).then_some(list)
        })
    }
}

/// Resolves a name, and records how. Returns whether there is data of the queried type.
async fn explain_name(
    server: &Arc<Server>,
    name: Name,
    rtype: Type,
    client: Option<SocketAddr>,
) -> (Explained, bool) {
    let recorder = Arc::new(Recorder::default());
    let mut query = query(name, rtype, transport(server), client, &recorder);
    let block = server.routes().find(&query).cloned();
    if block.is_none() {
        let action = format!("no block of {} has a zone for this name", server.label());
        recorder.add(0, SERVER, action);
    }
    let started = Instant::now();
    let mut reply = Arc::clone(server).answer(query.clone()).await;
    let mut message = written(&query, &reply);
    if query.transport == Transport::Udp && message.truncated {
        // RFC 1035 section 4.2.1, RFC 7766 section 5: a stub resolver repeats the query over TCP.
        recorder.add(
            0,
            "client",
            "the reply is truncated: repeats the query over TCP",
        );
        query = self::query(name, rtype, Transport::Tcp, client, &recorder);
        reply = Arc::clone(server).answer(query.clone()).await;
        message = written(&query, &reply);
    }
    let took = started.elapsed();
    let plugins = block.iter().flat_map(|block| block.chain.plugins());
    let hooks = || {
        plugins
            .clone()
            .filter_map(|plugin| plugin.diagnosis.as_ref())
    };
    let object = hooks().find_map(|hook| hook.object(&query));
    let is_answered = reply.answers(rtype);
    let caution = hooks().find_map(|hook| hook.caution(&query));
    let explained = Explained {
        name: name.to_string(),
        rcode: reply.rcode.to_string(),
        answer: message.answers,
        reason: reason(&reply, rtype),
        object,
        caution: caution.filter(|_| is_answered),
        took_us: micros(took),
        steps: recorder
            .steps()
            .into_iter()
            .map(|step| WalkStep {
                at_us: micros(step.at),
                depth: step.depth,
                plugin: step.plugin.to_owned(),
                action: step.action,
            })
            .collect(),
    };
    (explained, is_answered)
}

/// The transport of a listener's queries, by the scheme of its label; for plain DNS, UDP.
fn transport(server: &Server) -> Transport {
    let label = server.label();
    let mut all = corefile::Transport::ALL.into_iter();
    let scheme = |one: &corefile::Transport| {
        let rest = label.strip_prefix(one.scheme());
        rest.is_some_and(|rest| rest.starts_with("://"))
    };
    match all.find(scheme) {
        None | Some(corefile::Transport::Dns) => Transport::Udp,
        Some(corefile::Transport::Tls) => Transport::Tls,
        Some(corefile::Transport::Quic) => Transport::Quic,
        Some(corefile::Transport::Grpc) => Transport::Grpc,
        Some(corefile::Transport::Https) => Transport::Https,
        Some(corefile::Transport::Https3) => Transport::Https3,
    }
}

/// A query as usual clients send it, with EDNS.
fn query(
    name: Name,
    rtype: Type,
    transport: Transport,
    client: Option<SocketAddr>,
    recorder: &Arc<Recorder>,
) -> Query {
    let mut request = crate::query::Request::internal(Question::new(name, rtype, Class::IN));
    request.edns = Some(Edns::OURS);
    request.transport = transport;
    if let Some(client) = client {
        request.client = client;
    }
    let mut query = Query::new(request);
    query.recorder = Some(Arc::clone(recorder));
    query
}

/// A reply as it is sent.
struct Sent {
    /// The answer section in presentation format.
    answers: Vec<String>,
    truncated: bool,
}

fn written(query: &Query, reply: &Reply) -> Sent {
    let mut bytes = Vec::new();
    Writer::default().write(query, reply, &mut bytes);
    let message = Message::from_vec(&bytes).ok();
    Sent {
        truncated: message.as_ref().is_some_and(|it| it.metadata.truncation),
        answers: message.map_or_else(Vec::new, |message| {
            message.answers.iter().map(ToString::to_string).collect()
        }),
    }
}

fn reason(reply: &Reply, rtype: Type) -> Option<Reason> {
    let error = reply.extended_error.as_ref();
    let text = if error.is_some() || reply.lacks_answer() {
        reply.reason().to_owned()
    } else if reply.answers(rtype) {
        return None;
    } else {
        // An alias to a name that this server neither serves nor forwards.
        let mut aliases = reply.section(Section::Answer).iter().rev();
        let target = aliases.find_map(|record| reply.data_name(record))?;
        format!("the answer ends with the alias to {target}, which this server does not resolve")
    };
    Some(Reason {
        name: reply.why.name().to_owned(),
        code: error.map_or(reply.why.info_code(), |error| error.code),
        text,
    })
}

/// Whole microseconds.
pub(crate) fn micros(took: std::time::Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
