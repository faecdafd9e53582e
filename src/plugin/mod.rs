//! Plugins: one file a Corefile word, a folder once it outgrows one.
//!
//! A plugin is made in two steps. Its directives are parsed into a configuration, a plain value
//! ([`Setup`]), with no effect on anything, so that a file can be checked without a socket. The
//! configuration is then built into a [`Plugin`] with what it needs of the machine ([`Build`]).
//!
//! Words that configure a server block and never see a query (bind, health, reload, ...) are
//! settings, another type: see [`crate::config`].

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
mod parsing;
mod parts;
pub mod prometheus;
mod random;
pub mod rewrite;
pub mod secondary;
mod suspended;
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

pub use chain::{Chain, Outcome};
pub use parsing::{ParseErrors, Parsing};
pub use parts::Parts;
pub use suspended::Suspended;
pub use zone_list::ZoneList;

use crate::{
    admin::Endpoint,
    metrics::{Metrics, ZoneCounters},
    query::{Query, Question},
    reply::{Reply, Why},
    upstream::UpstreamQuery,
    wire::{Name, Rcode, Type},
};

/// Something that a question meets on its way in, and its reply on the way out.
///
/// Both ways are plain functions: only [`Step::Forward`] and [`Step::Wait`] allocate, and only the latter
/// must meet the scheduler.
pub trait Plugin: Send + Sync + 'static {
    /// The Corefile's word for it.
    fn name(&self) -> &'static str;

    /// The way in: answer into `reply` (which comes empty), pass on, or wait. A plugin may rewrite
    /// [`Query::question`], never [`Query::asked`].
    fn ask(&self, _context: &Context<'_>, _query: &mut Query, _reply: &mut Reply) -> Step {
        Step::Pass
    }

    /// The upstreams that it has asked ([`Step::Forward`]) have replied: makes of that what its reply is to
    /// be, and says whether it is one. If not, the next plugin is asked. `asked` is the type that they
    /// were asked for.
    fn heard(&self, _asked: Type, _reply: &mut Reply) -> bool {
        true
    }

    /// The way out, for a plugin that passed the question on and whose inner plugins replied.
    fn amend(&self, _context: &Context<'_>, _query: &Query, _reply: &mut Reply) {}

    /// Whether it has anything to do on the way in. One that has not always passes, and is not asked.
    fn asks(&self) -> bool {
        true
    }

    /// Whether it has anything to do on the way out: see [`Plugin::amend`].
    fn amends(&self) -> bool {
        true
    }

    /// Whether it chooses among all records of an answer on the way out. Otherwise what the client
    /// does not take need not be in the reply at all, as [`Reply::truncated`] then says.
    fn needs_whole_answers(&self) -> bool {
        false
    }

    /// Whether it may have to wait before it amends: see [`Plugin::follow`].
    fn follows(&self) -> bool {
        false
    }

    /// The way out, before [`Plugin::amend`]: a plugin that must ask something before the reply is
    /// whole takes the reply, and gives the one that will be amended. Only called where
    /// [`Plugin::follows`].
    fn follow(
        &self,
        _context: &Context<'_>,
        _query: &Query,
        _reply: &mut Reply,
    ) -> Option<Pending> {
        None
    }

    /// Whether it wants to hear of every reply that was sent: see [`Plugin::wrote`].
    fn observes(&self) -> bool {
        false
    }

    /// A reply of this block was sent, as `written` says. Only called where [`Plugin::observes`];
    /// it runs where the reply was sent, so it must neither block nor take long.
    fn wrote(&self, _block: &Block, _query: &Query, _reply: &Reply, _written: Written) {}

    /// A query of this block was dropped, so much time after it came: like [`Plugin::wrote`], where
    /// nothing was sent.
    fn dropped(&self, _block: &Block, _query: &Query, _took: Duration) {}

    /// What it knows of a query under `label` (`PLUGIN/KEY`), which may be nothing or an empty
    /// text; asked of every plugin of a block that has [`metadata`], and only once somebody reads
    /// the label: see there.
    fn metadata(&self, _query: &Query, _label: &str) -> Option<String> {
        None
    }

    /// What it knows once the query has been answered: like [`Plugin::metadata`], for those who
    /// read it when the reply has been sent.
    fn metadata_after(&self, query: &Query, _reply: &Reply, label: &str) -> Option<String> {
        self.metadata(query, label)
    }

    /// Whether it can do its work yet; `/ready` asks this.
    fn is_ready(&self) -> bool {
        true
    }

    /// Completes when the plugin has what it needs to start, or has waited long enough. A start
    /// or a reload waits for it before the first query comes in.
    fn started(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        None
    }

    /// The process ends and has answered its last question: completes when the plugin has told
    /// others what it still has to tell. Nobody waits longer than a moment.
    fn ended(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        None
    }

    /// Whether names that nobody here knows can be found by it: decides the RA bit.
    fn recurses(&self) -> bool {
        false
    }

    /// Whether the block is for this query at all: asked of every plugin of a block that has a
    /// view ([`Setup::view`]), for each query that comes to its zone. `chain` is the block's.
    fn admits(&self, _chain: &Chain, _query: &Query) -> bool {
        true
    }

    /// Somebody says that the zone of the query's name has changed (NOTIFY, RFC 1996): what to answer,
    /// where the plugin has to do with that. The plugins of a block are asked in their order, until
    /// one answers. Whatever follows must not be waited for here.
    fn notified(&self, _query: &mut Query) -> Option<Rcode> {
        None
    }

    /// A signed message came that is answered without the chain (another opcode than QUERY, say):
    /// what to answer instead if its signature is wrong. Makes the query's signer, by which the reply
    /// is signed (RFC 8945 §5.3).
    fn verified(&self, _query: &mut Query) -> Option<Rcode> {
        None
    }

    /// Whether a question that it passes on, and that nobody after it takes, is for another server:
    /// it serves zones and nothing else. Otherwise nobody knowing an answer is a failure.
    fn refuses_others(&self) -> bool {
        false
    }

    /// Whether it can answer in classes other than IN.
    fn serves_other_classes(&self) -> bool {
        false
    }
}

/// What a plugin made of a question.
pub enum Step {
    /// The next plugin is asked.
    Pass,
    /// The reply is there.
    Answer,
    /// Nothing is sent, ever.
    Drop,
    /// Upstreams are to be asked; their reply goes to [`Plugin::heard`].
    Forward(Box<UpstreamQuery>),
    /// The reply will come.
    Wait(Pending),
}

/// What is known of a reply once it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Its octets.
    pub octets: usize,
    /// Whether it was cut to what the client takes: the TC bit as it was sent.
    pub truncated: bool,
    /// From the reading of the query to the sending of the reply.
    pub took: Duration,
}

impl Written {
    /// What is known of `message`, a reply in wire form.
    pub fn new(message: &[u8], took: Duration) -> Self {
        Self {
            octets: message.len(),
            truncated: message.get(2).is_some_and(|flags| flags & 0x02 != 0),
            took,
        }
    }
}

/// A reply that will come. It owns what it needs, so that the thread it was begun on is free.
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

/// Where in the configuration a query is.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The server that was asked; sub-queries begin there.
    pub door: &'a Arc<dyn Door>,
    /// The server block, for one of its keys.
    pub block: &'a Arc<Block>,
}

/// How deep sub-queries may go: an alias of an alias is ordinary, eight are a loop.
pub const MAX_DEPTH: u8 = 8;

impl Context<'_> {
    /// Asks the server itself, as the same client would, and waits for the reply: the one way in
    /// which a plugin may ask again.
    pub fn again(
        &self,
        query: &Query,
        question: Question,
    ) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        self.send(query.sub_query(question))
    }

    /// Asks the server itself once more what the client asked, past every cache, which then holds
    /// what came.
    pub fn refresh(&self, query: &Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let mut sub_query = query.sub_query(query.asked);
        sub_query.refresh = true;
        self.send(sub_query)
    }

    /// Asks the server itself, as the same client would, for addresses as they are: none are made of
    /// others by `dns64`.
    pub fn untranslated(
        &self,
        query: &Query,
        question: Question,
    ) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let mut sub_query = query.sub_query(question);
        sub_query.untranslated = true;
        self.send(sub_query)
    }

    fn send(&self, sub_query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        if sub_query.depth > MAX_DEPTH {
            let reply = Reply::failure(Rcode::SERVFAIL, Why::TooDeep);
            return Box::pin(std::future::ready(reply));
        }
        Arc::clone(self.door).answer(sub_query)
    }
}

/// A server as plugins see it: something that can be asked.
pub trait Door: Send + Sync {
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
}

/// A plugin's configuration, parsed and checked, not yet built.
pub trait Setup: fmt::Debug + Send + Sync {
    /// Makes the plugin. Called once for the block, whatever number of keys it has.
    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError>;

    /// Whether the plugin offers something to others of its block ([`Build::offered`]). Those that
    /// do are built before those that do not, wherever they stand in the chain, and the innermost
    /// of them first: an offer may be made of what those further in have offered.
    fn offers(&self) -> bool {
        false
    }

    /// The name of the view that it makes of its block: the block is then for those queries only
    /// that its plugins admit ([`Plugin::admits`]).
    fn view(&self) -> Option<&str> {
        None
    }

    /// A page that is to be served over HTTP for it.
    fn page(&self) -> Option<Endpoint> {
        None
    }
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
    /// Where background work is spawned. Whatever is spawned must end when the plugin is dropped.
    pub runtime: &'a tokio::runtime::Handle,
    /// What outlives a reload.
    pub parts: &'a Parts,
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
    /// What plugins of this block offer to those built after them: see [`Setup::offers`].
    pub offered: Vec<Arc<dyn Any + Send + Sync>>,
}

impl Build<'_> {
    /// What an earlier plugin of this block offered, by type.
    pub fn offered<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.offered
            .iter()
            .find_map(|offer| Arc::clone(offer).downcast().ok())
    }
}
