//! Explains how a name is resolved: the expansions of a pod's search list, and for each the walk through the
//! server, as [`Recorder`] has recorded it.
//!
//! The walk is that of a client's query: the same routes, plugins and cache.

mod render;
mod search;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use hickory_proto::op::Message;
pub use search::expand;
use serde::{Deserialize, Serialize};

use crate::{
    message::Writer,
    metrics::Metrics,
    pipeline::{Listener, Pipeline},
    plugin::{Chain, SubQueryHandler},
    query::{Edns, Query, Question, Recorder},
    reply::Reply,
    server::{handle::Server, limits::Limits, route::Routes},
    wire::{Class, Name, Type},
};

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
}

/// A request that cannot be carried out.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages describe them
pub enum RequestError {
    #[error("'{name}' is no domain name: {why}")]
    Name { name: String, why: String },
    #[error("'{0}' is no name of a namespace")]
    Namespace(String),
    #[error("'{0}' is no address of a pod")]
    Client(String),
    #[error("'{0}' is no record type")]
    Type(String),
    #[error("the configuration has no server block for plain DNS")]
    NoServer,
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

/// The servers of plain DNS, and their plugin chains.
#[derive(Clone, Default)]
pub struct Target {
    servers: Vec<Arc<Server>>,
    chains: Vec<Arc<Chain>>,
}

impl ExplainRequest {
    /// A request of a pod in the namespace `from`, `NAMESPACE` or `NAMESPACE/ADDRESS` with the address of the
    /// pod. Without it, the name is complete.
    ///
    /// # Errors
    /// `from` has an invalid address.
    pub fn new(name: &str, rtype: &str, from: Option<&str>) -> Result<Self, RequestError> {
        let (namespace, client) = match from.map(|from| from.split_once('/').ok_or(from)) {
            Some(Ok((namespace, pod))) => {
                let address = pod.parse();
                let address = address.map_err(|_| RequestError::Client(pod.to_owned()))?;
                (Some(namespace), Some(SocketAddr::new(address, 0)))
            }
            Some(Err(namespace)) => (Some(namespace), None),
            None => (None, None),
        };
        let namespace = namespace.filter(|_| !name.ends_with('.'));
        Ok(Self {
            name: name.to_owned(),
            rtype: rtype.to_owned(),
            namespace: namespace.map(str::to_owned),
            client,
        })
    }
}

impl Target {
    /// Servers for a pipeline that has no sockets.
    pub fn offline(pipeline: &Pipeline, metrics: &Arc<Metrics>) -> Self {
        let pending = Limits::default().pending_limit(metrics);
        let plain = |one: &&Listener| one.transport == crate::corefile::Transport::Dns;
        let servers = pipeline.listeners.iter().filter(plain).map(|one| {
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
    /// The request names no domain name or type, or the configuration lacks what it needs.
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, RequestError> {
        let rtype: Type = request
            .rtype
            .to_ascii_uppercase()
            .parse()
            .map_err(|_| RequestError::Type(request.rtype.clone()))?;
        let server = self.servers.first().ok_or(RequestError::NoServer)?;
        let search = match &request.namespace {
            Some(namespace) if namespace.is_empty() || namespace.len() > 63 => {
                return Err(RequestError::Namespace(namespace.clone()));
            }
            Some(namespace) => self
                .search_list(namespace)
                .ok_or_else(|| RequestError::NoCluster(namespace.clone()))?,
            None => Vec::new(),
        };
        let names = search::expand(&request.name, &search)?;
        let mut explanation = Explanation {
            name: request.name.clone(),
            rtype: rtype.to_string(),
            search: search.iter().map(ToString::to_string).collect(),
            queries: Vec::new(),
            answered: false,
        };
        for name in names {
            let explained = self.explain_name(server, name, rtype, request.client).await;
            explanation.answered = !explained.answer.is_empty() && explained.rcode == "NOERROR";
            explanation.queries.push(explained);
            if explanation.answered {
                break;
            }
        }
        Ok(explanation)
    }

    fn search_list(&self, namespace: &str) -> Option<Vec<Name>> {
        let mut plugins = self.chains.iter().flat_map(|chain| chain.plugins());
        let lists = |plugin: &crate::plugin::Plugin| {
            let list = plugin.diagnosis.as_ref()?.search_list(namespace);
            (!list.is_empty()).then_some(list)
        };
        plugins.find_map(lists)
    }

    async fn explain_name(
        &self,
        server: &Arc<Server>,
        name: Name,
        rtype: Type,
        client: Option<SocketAddr>,
    ) -> Explained {
        let recorder = Arc::new(Recorder::default());
        let query = query(name, rtype, client, &recorder);
        let started = Instant::now();
        let reply = Arc::clone(server).answer(query.clone()).await;
        let took = started.elapsed();
        let plugins = self.chains.iter().flat_map(|chain| chain.plugins());
        let mut objects = plugins.filter_map(|plugin| plugin.diagnosis.as_ref()?.object(&query));
        Explained {
            name: name.to_string(),
            rcode: reply.rcode.to_string(),
            answer: answer(&query, &reply),
            reason: reason(&reply),
            object: objects.next(),
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
        }
    }
}

/// A query as usual clients send it: over UDP, with EDNS.
fn query(name: Name, rtype: Type, client: Option<SocketAddr>, recorder: &Arc<Recorder>) -> Query {
    let mut request = crate::query::Request::internal(Question::new(name, rtype, Class::IN));
    request.edns = Some(Edns::OURS);
    if let Some(client) = client {
        request.client = client;
    }
    let mut query = Query::new(request);
    query.recorder = Some(Arc::clone(recorder));
    query
}

/// The answer section in presentation format, from the message as it would be sent.
fn answer(query: &Query, reply: &Reply) -> Vec<String> {
    let mut message = Vec::new();
    Writer::default().write(query, reply, &mut message);
    let records = Message::from_vec(&message).map(|message| message.answers);
    let records = records.unwrap_or_default();
    records.iter().map(ToString::to_string).collect()
}

fn reason(reply: &Reply) -> Option<Reason> {
    let error = reply.extended_error.as_ref();
    (error.is_some() || reply.lacks_answer()).then(|| Reason {
        name: reply.why.name().to_owned(),
        code: error.map_or(reply.why.info_code(), |error| error.code),
        text: reply.reason().to_owned(),
    })
}

fn micros(took: std::time::Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
