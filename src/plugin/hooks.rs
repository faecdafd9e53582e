//! The hooks that a plugin can have: a small trait for each, and the value that holds those of one
//! plugin.
//!
//! A type lists its hooks once, with [`hooks!`](crate::hooks). The compiler holds the list against the
//! implementations: a hook that is listed must be implemented, and one that is implemented must be
//! listed.
//!
//! ```
//! use lodestone::{
//!     hooks,
//!     plugin::{Context, OnQuery, Plugin, Step},
//!     query::Query,
//!     reply::Reply,
//! };
//!
//! struct Silence;
//! hooks!(Silence, "silence" => on_query);
//!
//! impl OnQuery for Silence {
//!     fn on_query(&self, _: &Context<'_>, _: &mut Query, _: &mut Reply) -> Step {
//!         Step::Drop
//!     }
//! }
//! assert!(Plugin::from(Silence).on_query.is_some());
//! ```
//!
//! Listed and not implemented:
//!
//! ```compile_fail,E0277
//! struct Silence;
//! lodestone::hooks!(Silence, "silence" => on_query);
//! ```
//!
//! Implemented and not listed:
//!
//! ```compile_fail,E0277
//! use lodestone::{
//!     plugin::{Context, OnQuery, Step},
//!     query::Query,
//!     reply::Reply,
//! };
//!
//! struct Silence;
//! lodestone::hooks!(Silence, "silence" =>);
//!
//! impl OnQuery for Silence {
//!     fn on_query(&self, _: &Context<'_>, _: &mut Query, _: &mut Reply) -> Step {
//!         Step::Drop
//!     }
//! }
//! ```

use std::{fmt, future::Future, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use super::{Block, Context, Pending, Step, Written};
use crate::{
    query::Query,
    reply::{ReasonText, Reply},
    wire::{Name, Rcode, Type},
};

/// Declares the name and the hooks of a type, so that it can become a [`Plugin`]:
/// `hooks!(TYPE, NAME => HOOK, ...)`, hooks by the names of [`Plugin`]'s fields. A type that implements
/// [`Describe`] adds `; properties`.
#[macro_export]
macro_rules! hooks {
    ($type:ty, $name:expr => $($hook:ident),* $(; $properties:ident)?) => {
        $(impl $crate::plugin::Lists<$crate::plugin::listed::$hook> for $type {})*
        $(impl $crate::plugin::Lists<$crate::plugin::listed::$properties> for $type {})?
        impl $crate::plugin::Hooks for $type {
            const NAME: &'static str = $name;

            fn register(this: &::std::sync::Arc<Self>, plugin: &mut $crate::plugin::Plugin) {
                let _ = (this, &plugin);
                $(plugin.$hook = Some(::std::sync::Arc::clone(this) as _);)*
                $(plugin.$properties = $crate::plugin::Describe::$properties(&**this);)?
            }
        }
    };
}

/// A type with hooks, as [`hooks!`](crate::hooks) declares them.
pub trait Hooks: Send + Sync + Sized + 'static {
    /// The Corefile's word.
    const NAME: &'static str;

    /// Puts the hooks of `this` into `plugin`.
    fn register(this: &Arc<Self>, plugin: &mut Plugin);
}

/// Says that [`hooks!`](crate::hooks) lists the hook `H` for a type. Every hook's trait requires it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` implements a hook that its `hooks!` does not list",
    label = "a hook of `{Self}` that would never be called"
)]
pub trait Lists<H> {}

/// A type for each hook, named like its field of [`Plugin`]: see [`Lists`].
#[allow(non_camel_case_types, missing_docs)]
pub mod listed {
    pub enum on_query {}
    pub enum on_upstream_reply {}
    pub enum on_response {}
    pub enum before_response {}
    pub enum observer {}
    pub enum metadata {}
    pub enum diagnosis {}
    pub enum readiness {}
    pub enum startup {}
    pub enum shutdown {}
    pub enum route_filter {}
    pub enum on_notify {}
    pub enum verify_signature {}
    pub enum properties {}
}

/// A built plugin: its name, its properties, and the hooks that it has.
///
/// The inbound and the outbound hooks are plain functions: only [`Step::Forward`] and [`Step::Wait`]
/// allocate, and only the latter must meet the scheduler.
#[derive(Clone)]
#[non_exhaustive]
pub struct Plugin {
    /// The Corefile's word.
    pub name: &'static str,
    /// What is true of it whatever the query.
    pub properties: Properties,
    /// The inbound hook.
    pub on_query: Option<Arc<dyn OnQuery>>,
    /// For the replies of upstreams to [`Step::Forward`].
    pub on_upstream_reply: Option<Arc<dyn OnUpstreamReply>>,
    /// The outbound hook.
    pub on_response: Option<Arc<dyn OnResponse>>,
    /// For what must be fetched before the outbound hook.
    pub before_response: Option<Arc<dyn BeforeResponse>>,
    /// For what was sent.
    pub observer: Option<Arc<dyn Observer>>,
    /// For the labels of [`metadata`](super::metadata).
    pub metadata: Option<Arc<dyn MetadataSource>>,
    /// For the texts of negative and failed replies.
    pub diagnosis: Option<Arc<dyn Diagnose>>,
    /// For `/ready`.
    pub readiness: Option<Arc<dyn ReadinessCheck>>,
    /// For a start or a reload.
    pub startup: Option<Arc<dyn Startup>>,
    /// For the end of the process.
    pub shutdown: Option<Arc<dyn Shutdown>>,
    /// For the choice among blocks of one zone.
    pub route_filter: Option<Arc<dyn RouteFilter>>,
    /// For NOTIFY messages.
    pub on_notify: Option<Arc<dyn OnNotify>>,
    /// For signed messages that no chain answers.
    pub verify_signature: Option<Arc<dyn VerifySignature>>,
}

/// What is true of a plugin whatever the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent of each other
pub struct Properties {
    /// It can resolve names that this server has no data for: sets the RA bit.
    pub recursive: bool,
    /// It serves zones and nothing else: a query that it passes and that no later plugin answers is
    /// refused. Without it, such a query fails with SERVFAIL.
    pub zones_only: bool,
    /// It can answer in classes other than IN.
    pub other_classes: bool,
    /// It answers names about the server in class CH. Without another plugin for other classes, queries of
    /// these that it passes are refused.
    pub server_names: bool,
    /// It chooses among all records of an answer. Without one such plugin in the chain, an answer holds
    /// no more records than the client takes, and [`Reply::truncated`] says so.
    pub complete_answers: bool,
    /// It keeps replies for later queries, and answers nothing by itself.
    pub caches: bool,
    /// It answers transfers of zones.
    pub transfers: bool,
}

/// The inbound hook.
pub trait OnQuery: Lists<listed::on_query> + Send + Sync {
    /// Answers into `reply` (which is empty), passes, or waits. A plugin may change
    /// [`Query::question`], never [`original`](crate::query::Request::original).
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step;
}

/// The hook for replies of upstreams.
pub trait OnUpstreamReply: Lists<listed::on_upstream_reply> + Send + Sync {
    /// The upstreams of its [`Step::Forward`] have replied: changes the reply as needed, and returns whether
    /// it is the answer. If not, the chain goes on with the next plugin. `asked` is the type of the
    /// upstreams' question.
    fn on_upstream_reply(&self, asked: Type, reply: &mut Reply) -> bool;
}

/// The outbound hook.
pub trait OnResponse: Lists<listed::on_response> + Send + Sync {
    /// Changes the reply of an inner plugin to a query that this one passed.
    fn on_response(&self, context: &Context<'_>, query: &Query, reply: &mut Reply);
}

/// The hook before the outbound one.
pub trait BeforeResponse: OnResponse + Lists<listed::before_response> {
    /// Takes the reply where something must be asked before it is complete, and returns the one for
    /// [`OnResponse::on_response`].
    fn before_response(
        &self,
        context: &Context<'_>,
        query: &Query,
        reply: &mut Reply,
    ) -> Option<Pending>;
}

/// The hook for what was sent. It runs where the reply was sent: it must neither block nor take long.
pub trait Observer: Lists<listed::observer> + Send + Sync {
    /// A reply of this block was sent.
    fn on_sent(&self, block: &Block, query: &Query, reply: &Reply, written: Written);

    /// A query of this block was dropped, `took` after it came.
    fn on_dropped(&self, _block: &Block, _query: &Query, _took: Duration) {}
}

/// The hook for labels of [`metadata`](super::metadata).
pub trait MetadataSource: Lists<listed::metadata> + Send + Sync {
    /// The value of `label` (`PLUGIN/KEY`) for a query, which may be none or an empty text. `reply` is
    /// there once the query is answered. Called only where something reads the label.
    fn metadata(&self, query: &Query, reply: Option<&Reply>, label: &str) -> Option<String>;
}

/// The hook for `/ready`.
pub trait ReadinessCheck: Lists<listed::readiness> + Send + Sync {
    /// Whether it can do its work yet.
    fn is_ready(&self) -> bool;

    /// Lines for `/ready?verbose`: the state of what the plugin depends on.
    fn details(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Work that a start, a reload or the end of the process waits for.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The hook for the texts of negative and failed replies.
pub trait Diagnose: Lists<listed::diagnosis> + Send + Sync {
    /// Describes in `text`, which is empty, why `reply` has no answer; false if this plugin has nothing to
    /// add to [`Why`](crate::reply::Why). Called only if a text is needed, for replies of this plugin and
    /// of others, by which name they were asked: `query.question`.
    fn diagnose(&self, query: &Query, reply: &Reply, text: &mut ReasonText) -> bool;

    /// The object that the name stands for, if this plugin has one: `Service shop/web, ClusterIP ...`.
    fn object(&self, _query: &Query) -> Option<String> {
        None
    }

    /// What speaks against using the answer, although there is one: a Service without a ready endpoint.
    fn caution(&self, _query: &Query) -> Option<String> {
        None
    }

    /// An address of a pod, if pods are known.
    fn pod(&self, _namespace: &str, _name: &str) -> Option<IpAddr> {
        None
    }

    /// The first domains of the search list of pods in a namespace.
    fn search_list(&self, _namespace: &str) -> Vec<Name> {
        Vec::new()
    }
}

/// The hook for a start or a reload.
pub trait Startup: Lists<listed::startup> + Send + Sync {
    /// Completes when the plugin has what it needs to start, or has waited long enough; none where it
    /// has it already. No query comes in before.
    fn started(&self) -> Option<Work>;
}

/// The hook for the end of the process.
pub trait Shutdown: Lists<listed::shutdown> + Send + Sync {
    /// The last query is answered: completes when everything that is still queued for others has been
    /// sent. The process waits for a moment only.
    fn ended(&self) -> Work;
}

/// The hook for the choice among blocks of one zone, in a block that has a view
/// ([`Setup::view`](super::Setup::view)).
pub trait RouteFilter: Lists<listed::route_filter> + Send + Sync {
    /// Whether the block, which has these plugins, is for a query of its zone.
    fn accepts(&self, plugins: &[Plugin], query: &Query) -> bool;
}

/// The hook for NOTIFY messages (RFC 1996).
pub trait OnNotify: Lists<listed::on_notify> + Send + Sync {
    /// The answer to a message that the zone of the query's name has changed, where the plugin has to do
    /// with that zone. The plugins of a block are called in their order until one answers. Must not
    /// wait for what follows from it.
    fn on_notify(&self, query: &mut Query) -> Option<Rcode>;
}

/// The hook for signed messages that are answered without the chain (another opcode than QUERY, say).
pub trait VerifySignature: Lists<listed::verify_signature> + Send + Sync {
    /// Sets the query's signer, by which the reply is signed (RFC 8945 section 5.3). Returns what to
    /// answer where the signature is wrong.
    fn verify_signature(&self, query: &mut Query) -> Option<Rcode>;
}

/// Plugins with properties other than the default ones.
pub trait Describe: Lists<listed::properties> {
    /// Its properties. Read once, when it is built.
    fn properties(&self) -> Properties;
}

impl<T: Hooks> From<T> for Plugin {
    fn from(plugin: T) -> Self {
        Self::from(Arc::new(plugin))
    }
}

impl<T: Hooks> From<Arc<T>> for Plugin {
    fn from(hooks: Arc<T>) -> Self {
        let mut plugin = Self {
            name: T::NAME,
            properties: Properties::default(),
            on_query: None,
            on_upstream_reply: None,
            on_response: None,
            before_response: None,
            observer: None,
            metadata: None,
            diagnosis: None,
            readiness: None,
            startup: None,
            shutdown: None,
            route_filter: None,
            on_notify: None,
            verify_signature: None,
        };
        T::register(&hooks, &mut plugin);
        plugin
    }
}

impl Plugin {
    /// See [`ReadinessCheck::is_ready`]; a plugin without the hook always is.
    pub fn is_ready(&self) -> bool {
        let hook = self.readiness.as_ref();
        hook.is_none_or(|hook| hook.is_ready())
    }

    /// See [`ReadinessCheck::details`].
    pub fn readiness_details(&self) -> Vec<String> {
        let hook = self.readiness.as_ref();
        hook.map_or_else(Vec::new, |hook| hook.details())
    }

    /// See [`Startup::started`].
    pub fn started(&self) -> Option<Work> {
        self.startup.as_ref()?.started()
    }

    /// See [`Shutdown::ended`].
    pub fn ended(&self) -> Option<Work> {
        Some(self.shutdown.as_ref()?.ended())
    }

    /// See [`RouteFilter::accepts`]; a plugin without the hook accepts every query.
    pub fn accepts(&self, plugins: &[Plugin], query: &Query) -> bool {
        let hook = self.route_filter.as_ref();
        hook.is_none_or(|hook| hook.accepts(plugins, query))
    }

    /// See [`MetadataSource::metadata`].
    pub fn metadata(&self, query: &Query, reply: Option<&Reply>, label: &str) -> Option<String> {
        self.metadata.as_ref()?.metadata(query, reply, label)
    }

    /// See [`OnNotify::on_notify`].
    pub fn on_notify(&self, query: &mut Query) -> Option<Rcode> {
        self.on_notify.as_ref()?.on_notify(query)
    }

    /// See [`VerifySignature::verify_signature`].
    pub fn verify_signature(&self, query: &mut Query) -> Option<Rcode> {
        self.verify_signature.as_ref()?.verify_signature(query)
    }

    /// See [`OnUpstreamReply::on_upstream_reply`]; without the hook, every reply is the answer.
    pub fn on_upstream_reply(&self, asked: Type, reply: &mut Reply) -> bool {
        let hook = self.on_upstream_reply.as_ref();
        hook.is_none_or(|hook| hook.on_upstream_reply(asked, reply))
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Plugin({})", self.name)
    }
}
