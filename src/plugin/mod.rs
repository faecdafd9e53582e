//! Plugins: one file a Corefile word, a folder once it outgrows one.
//!
//! A plugin is made in two steps. Its directives are parsed into a configuration, a plain value
//! ([`Setup`]), without any effect, so that a file can be checked without a socket. The configuration is
//! then built into a [`Plugin`] with what it needs of the machine and of the other plugins of its block
//! ([`Build`]).
//!
//! ```text
//! hooks    a trait for each hook, and the value that holds those of one plugin
//! chain    calls the hooks of a block's plugins, inward and outward; walks that are suspended
//! offers   what the plugins of a block offer to each other
//! parsing  what the parser of a directive is given besides its words
//! ```
//!
//! The order of plugins and the words that configure a server block without seeing a query (bind,
//! health, reload, ...) are in [`crate::config`].

pub mod acl;
mod alias;
pub mod any;
mod append_list;
mod authority;
pub mod auto;
pub mod autopath;
pub mod bufsize;
pub mod cache;
pub mod cancel;
mod chain;
pub mod chaos;
pub mod dns64;
#[cfg(feature = "dnstap")]
pub mod dnstap;
pub mod erratic;
pub mod errors;
#[cfg(feature = "etcd")]
pub mod etcd;
mod expression;
pub mod file;
pub mod forward;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod header;
mod hooks;
mod host_name;
pub mod hosts;
pub mod k8s_external;
pub mod kubernetes;
pub mod loadbalance;
pub mod local;
pub mod log;
pub mod loop_guard;
pub mod metadata;
pub mod minimal;
pub mod nsid;
mod offers;
mod outcome;
mod parsing;
pub mod prometheus;
mod random;
pub mod rewrite;
pub mod secondary;
mod shared_resources;
#[cfg(feature = "template")]
pub mod template;
#[cfg(test)]
mod testing;
#[cfg(feature = "trace")]
pub mod trace;
pub mod transfer;
pub mod tsig;
pub mod view;
pub mod whoami;
mod zone_list;

use std::{any::Any, fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

pub(crate) use chain::attach_reason;
pub use chain::{Chain, Suspended};
pub use hooks::{
    BeforeResponse, Describe, Diagnose, Hooks, Lists, MetadataSource, Observer, OnNotify, OnQuery,
    OnResponse, OnUpstreamReply, Plugin, Properties, ReadinessCheck, RouteFilter, Shutdown,
    Startup, VerifySignature, Work, listed,
};
pub use offers::Offers;
pub use outcome::Outcome;
pub use parsing::{ParseErrors, Parsing};
pub use shared_resources::SharedResources;
pub use zone_list::ZoneList;

use crate::{
    http_page::HttpPage,
    metrics::{Metrics, ZoneCounters},
    query::{Edns, Query, Question},
    query_feed::QueryFeed,
    reply::{Reply, Why},
    upstream::UpstreamQuery,
    wire::{Name, Rcode},
};

/// The outcome of an inbound hook.
pub enum Step {
    /// The next plugin is called.
    Pass,
    /// The reply is complete.
    Answer,
    /// No reply is sent.
    Drop,
    /// Upstreams are to be asked; their reply goes through [`OnUpstreamReply`].
    Forward(Box<UpstreamQuery>),
    /// The reply will come.
    Wait(Pending),
}

/// A reply as it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Its size in bytes.
    pub size: usize,
    /// Whether it was cut to what the client takes: the TC bit as it was sent.
    pub truncated: bool,
    /// From the reading of the query to the sending of the reply.
    pub took: Duration,
}

impl Written {
    /// Of `message`, a reply in wire form.
    pub fn new(message: &[u8], took: Duration) -> Self {
        Self {
            size: message.len(),
            truncated: message.get(2).is_some_and(|flags| flags & 0x02 != 0),
            took,
        }
    }
}

/// A reply in the future. It owns what it needs, so that the thread it was begun on is free.
pub type Pending = Pin<Box<dyn Future<Output = Resolved> + Send>>;

/// What a wait came to.
pub enum Resolved {
    /// The reply.
    Answer(Reply),
    /// Nothing: the next plugin is asked.
    Pass,
    /// Nothing is sent, ever.
    Drop,
}

impl fmt::Debug for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Pass => "Pass",
            Self::Answer => "Answer",
            Self::Drop => "Drop",
            Self::Forward(_) => "Forward",
            Self::Wait(_) => "Wait",
        })
    }
}

/// The server and the block that a query is in.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The server that was asked; sub-queries begin there.
    pub sub_queries: &'a Arc<dyn SubQueryHandler>,
    /// The server block, for one of its keys.
    pub block: &'a Arc<Block>,
}

/// How deep sub-queries may go: an alias of an alias is ordinary, eight are a loop.
pub const MAX_DEPTH: u8 = 8;

impl Context<'_> {
    /// Sends a sub-query to the server itself, as the same client: the only way for a plugin to send
    /// one.
    pub fn again(
        &self,
        query: &Query,
        question: Question,
    ) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        self.send(query.sub_query(question))
    }

    /// Sends the original question again as a sub-query that bypasses every cache; they keep its reply.
    pub fn refresh(&self, query: &Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let mut sub_query = query.sub_query(query.original);
        sub_query.bypass.cache = true;
        self.send(sub_query)
    }

    /// Sends a sub-query whose reply has an extended DNS error if it is negative, whatever the client uses.
    pub fn with_reason(
        &self,
        query: &Query,
        question: Question,
    ) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let mut sub_query = query.sub_query(question);
        sub_query.edns.get_or_insert(Edns::OURS);
        self.send(sub_query)
    }

    /// Sends a sub-query for which `dns64` translates no addresses.
    pub fn untranslated(
        &self,
        query: &Query,
        question: Question,
    ) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let mut sub_query = query.sub_query(question);
        sub_query.bypass.translation = true;
        self.send(sub_query)
    }

    fn send(&self, sub_query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        if sub_query.depth > MAX_DEPTH {
            let reply = Reply::failure(Rcode::SERVFAIL, Why::TooDeep);
            return Box::pin(std::future::ready(reply));
        }
        Arc::clone(self.sub_queries).answer(sub_query)
    }
}

/// A server as plugins see it.
pub trait SubQueryHandler: Send + Sync {
    /// Routes the query to its block and walks the chain to its end.
    fn answer(self: Arc<Self>, query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>>;
}

/// A server block, for one of its keys.
pub struct Block {
    /// The key's zone, in lower case.
    pub zone: Name,
    /// What metrics call the listener: `dns://:53`.
    pub server: Arc<str>,
    /// What metrics call the zone: `cluster.local.`.
    pub zone_label: Arc<str>,
    /// What metrics call the view; empty without one.
    pub view: Arc<str>,
    /// The plugins.
    pub chain: Arc<Chain>,
    /// Where its queries are counted: [`crate::metrics::Dns::zone`] of the three labels.
    pub counters: Arc<ZoneCounters>,
    /// Where its queries are published.
    pub feed: Arc<QueryFeed>,
}

impl Block {
    /// Which block this is, and why it was chosen.
    pub fn describe(&self) -> String {
        let (server, zone) = (&self.server, &self.zone_label);
        let mut text =
            format!("block \"{zone}\" of {server}: its zone is the longest for this name");
        if !self.view.is_empty() {
            text.push_str(", view ");
            text.push_str(&self.view);
        }
        text
    }
}

/// A plugin's configuration, parsed and checked, not yet built.
pub trait Setup: fmt::Debug + Send + Sync + Any {
    /// Builds the plugin. Called once for the block, whatever number of keys it has.
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError>;

    /// What it offers to the other plugins of its block, in [`Build::offers`].
    fn offers(&self) -> &'static [Offer] {
        &[]
    }

    /// What it must find in [`Build::offers`] before it offers something itself. A plugin without
    /// [`Self::offers`] finds everything there, whatever it says here.
    fn needs(&self) -> &'static [Offer] {
        &[]
    }

    /// The name of the view that it makes of its block: the block is then for those queries only
    /// that its plugins accept ([`RouteFilter`]).
    fn view(&self) -> Option<&str> {
        None
    }

    /// A page that is to be served over HTTP for it.
    fn page(&self) -> Option<HttpPage> {
        None
    }
}

/// A field of [`Offers`]: what a plugin offers, or needs for what it offers itself.
///
/// Plugins that offer something are built before all others, each behind those that offer what it
/// needs; among them, the innermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// [`Offers::metadata`]
    Metadata,
    /// [`Offers::exchange_observers`]
    ExchangeObservers,
    /// [`Offers::loop_guard`]
    LoopGuard,
    /// [`Offers::cluster`]
    Cluster,
    /// [`Offers::zones`]
    Zones,
}

/// Why a plugin cannot be built from a configuration that is well-formed.
#[derive(Debug, thiserror::Error)]
#[error("plugin/{plugin}: {action}")]
pub struct BuildError {
    /// The Corefile's word.
    pub plugin: &'static str,
    /// What failed, with the object of it.
    pub action: String,
    /// Why.
    #[source]
    pub source: Option<anyhow::Error>,
}

/// What a plugin is built from, besides its configuration.
pub struct Build<'a> {
    /// Where background work is spawned, which must end when the plugin is dropped.
    pub runtime: &'a tokio::runtime::Handle,
    /// Resources that are kept across reloads.
    pub resources: &'a SharedResources,
    /// Every metric.
    pub metrics: &'a Arc<Metrics>,
    /// The zones of the block's keys, in lower case.
    pub zones: &'a [Name],
    /// The addresses that the block is served on.
    pub addresses: &'a [SocketAddr],
    /// What metrics call the block's first listener: `dns://:53`.
    pub server: &'a Arc<str>,
    /// The block's view; empty without one.
    pub view: &'a str,
    /// What the plugins of the block that are built already offer: see [`Offer`].
    pub offers: Offers,
}
