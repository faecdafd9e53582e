//! `autopath`: resolves a client's search list on the server, in one query.
//!
//! ```text
//! autopath [ZONES...] @kubernetes|RESOLV-CONF
//! ```
//!
//! A pod's resolver queries `www.example.org.NS.svc.ZONE` for `www.example.org` first, and then the
//! name under each further domain of its search list, one NXDOMAIN at a time. If the first of these
//! queries is recognised, the rest of the search is done here: the answer is the first name that
//! exists, preceded by a CNAME record from the queried name to it.
//!
//! NODATA ends the search too, so that parallel queries for A and AAAA end at the same name. So does
//! an error (SERVFAIL and the like), which leaves open whether the name exists: continuing could
//! answer with another name while the right one cannot be resolved.
//!
//! A search list from a file is read at the start and at each reload.
//!
//! Each name is resolved through the server as if the client had sent the query: other server
//! blocks, access rules and the cache apply. Names of the cluster are answered synchronously; the
//! search becomes a pending future only when a step is pending.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use futures_util::FutureExt;
use tokio::runtime::Handle;

use super::{
    Block, Build, BuildError, Context, OnQuery, ParseErrors, Parsing, Plugin, Resolved, Setup,
    Step, SubQueryHandler, ZoneList,
};
use crate::{
    corefile::{Diagnostic, Directive},
    hooks,
    metrics::ShardedCounter,
    query::{Query, Question},
    reply::{Data, Owner, Reply, Section},
    upstream,
    wire::{Class, Name, NameRef, Rcode, Type},
    zone::ClusterView,
};

/// The name of the plugin in a Corefile.
const NAME: &str = "autopath";
/// The file with the domains that follow those of the cluster in a pod's search list: kubelet copies
/// them from the node, as it does for this server's own pod.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The options of the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Zones whose names are searched for.
    pub zones: ZoneList,
    /// Which search list.
    pub list: List,
}

/// The source of a search list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    /// Derived from the client's pod.
    Kubernetes,
    /// Read from a file, the same for every client.
    File(PathBuf),
    /// From a plugin that the block does not have: the search list is empty.
    Missing,
}

/// Reads the directives of a block, of which the last one is used.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let Some(directive) = Directive::only_last(uses, parsing.warnings) else {
        return Err(Vec::new());
    };
    let mut read = || {
        directive.no_body()?;
        let words = directive
            .arguments()
            .at_least_one("@kubernetes or a resolv.conf file")?;
        let (last, zones) = words.split_last().expect("at least one");
        let zones = ZoneList::read_or_block(zones, parsing.zones)?;
        let Some(plugin) = last.strip_prefix('@') else {
            let list = List::File(PathBuf::from(last.as_str()));
            return Ok(Config { zones, list });
        };
        let mut named = parsing.directives.iter().filter(|one| one.name == plugin);
        let list = match (plugin, named.next()) {
            ("kubernetes", Some(kubernetes)) => {
                if !verifies_pods(kubernetes) {
                    let warning = last
                        .warning("autopath does nothing: 'kubernetes' does not watch pods")
                        .label("a client is known by its pod")
                        .also(kubernetes.name.span, "no line 'pods verified' in here")
                        .help("add 'pods verified' to the kubernetes block, or take autopath away");
                    parsing.warnings.push(warning);
                }
                List::Kubernetes
            }
            (_, None) => {
                let message = format!("autopath does nothing: no '{plugin}' in this server block");
                parsing.warnings.push(last.warning(message));
                List::Missing
            }
            (_, Some(_)) => {
                return Err(last
                    .error(format!("'{plugin}' has no search lists"))
                    .expected("@kubernetes or a resolv.conf file"));
            }
        };
        Ok(Config { zones, list })
    };
    read().map_err(|error: Diagnostic| vec![error.in_plugin(NAME)])
}

/// Whether the last line `pods` of a `kubernetes` block is `pods verified`.
fn verifies_pods(kubernetes: &Directive) -> bool {
    let mut lines = kubernetes.properties().iter().rev();
    lines
        .find(|line| *line.name() == "pods")
        .is_some_and(|line| line.words.get(1).is_some_and(|mode| *mode == "verified"))
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let search = match &self.list {
            List::Kubernetes => build.offers.cluster.clone().map_or(Search::None, |view| {
                // A machine without the file has no further domains.
                let tail = upstream::read_search(RESOLV_CONF.as_ref()).unwrap_or_default();
                Search::Pods { view, tail }
            }),
            List::File(path) => {
                let list = upstream::read_search(path).map_err(|error| BuildError {
                    plugin: NAME,
                    action: format!("cannot read {}", path.display()),
                    source: Some(error.into()),
                })?;
                Search::Fixed(list)
            }
            List::Missing => Search::None,
        };
        Ok(Plugin::from(Autopath {
            zones: self.zones.clone(),
            search,
            runtime: build.runtime.clone(),
            found: build.metrics.autopath_success_total.with(&[build.server]),
        }))
    }
}

/// The plugin.
pub struct Autopath {
    zones: ZoneList,
    search: Search,
    /// Runs pending searches.
    runtime: Handle,
    /// Counts searches that found a name.
    found: Arc<ShardedCounter>,
}

/// The search lists of clients.
pub enum Search {
    /// That of the client's pod: the cluster's domains, followed by `tail`.
    Pods {
        /// Finds a pod by its address.
        view: Arc<ClusterView>,
        /// The domains of the node.
        tail: Vec<Name>,
    },
    /// The same for every client.
    Fixed(Vec<Name>),
    /// No search list.
    None,
}

impl Autopath {
    /// Searches along the lists of `search` for names in `zones`, and counts successes in `found`.
    pub fn new(
        zones: ZoneList,
        search: Search,
        runtime: Handle,
        found: Arc<ShardedCounter>,
    ) -> Self {
        Self {
            zones,
            search,
            runtime,
            found,
        }
    }

    /// The names to try for a query, beginning with its own name. `None` unless it is the first query
    /// of a client's search.
    fn names(&self, query: &Query) -> Option<Vec<Name>> {
        let question = &query.question;
        let is_searched = question.class == Class::IN
            && !matches!(question.rtype, Type::AXFR | Type::IXFR)
            // Sub-queries are for complete names; the steps of a search are among them.
            && query.depth == 0
            && self.zones.covers(question.lower.as_ref());
        if !is_searched {
            return None;
        }
        let list = self.search.list(question, query.client.ip())?;
        let base = question.name.as_ref().strip(list.first()?.as_ref())?;
        if base.is_empty() {
            return None;
        }
        let mut names = vec![question.name];
        for domain in list[1..].iter().chain([&Name::ROOT]) {
            // A name of more than 255 bytes could not have been queried by the client either.
            let name = Name::from_labels(base.clone(), domain.as_ref());
            let is_new = |name: &Name| {
                let mut known = names.iter();
                !known.any(|known| known.as_ref().eq_ignore_case(name.as_ref()))
            };
            names.extend(name.ok().filter(is_new));
        }
        Some(names)
    }
}

impl Search {
    fn list(&self, question: &Question, client: IpAddr) -> Option<Vec<Name>> {
        match self {
            Self::Pods { view, tail } => {
                let mut list = view.search_list(question, client)?.to_vec();
                list.extend_from_slice(tail);
                Some(list)
            }
            Self::Fixed(list) => Some(list.clone()),
            Self::None => None,
        }
    }
}

hooks!(Autopath, NAME => on_query);

impl OnQuery for Autopath {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let Some(names) = self.names(query) else {
            return Step::Pass;
        };
        let search = Searcher {
            sub_queries: Arc::clone(context.sub_queries),
            block: Arc::clone(context.block),
            query: query.clone(),
            found: Arc::clone(&self.found),
        };
        let mut search = Box::pin(search.run(names));
        // A pending step may need the runtime (timers, sockets) at its first poll.
        let _inside = self.runtime.enter();
        match (&mut search).now_or_never() {
            Some(found) => {
                *reply = found;
                Step::Answer
            }
            None => Step::Wait(Box::pin(async { Resolved::Answer(search.await) })),
        }
    }
}

/// A search along a search list.
struct Searcher {
    sub_queries: Arc<dyn SubQueryHandler>,
    block: Arc<Block>,
    query: Query,
    found: Arc<ShardedCounter>,
}

impl Searcher {
    async fn run(self, names: Vec<Name>) -> Reply {
        let mut first = None;
        for name in names {
            let step = self.resolve(name).await;
            match step.rcode {
                Rcode::NXDOMAIN => {
                    first.get_or_insert(step);
                }
                Rcode::NOERROR => {
                    self.found.inc();
                    return self.reply_with_alias(&name, step);
                }
                _ if first.is_none() => return step,
                _ => {
                    let mut failed = Reply::failure(Rcode::SERVFAIL, step.why);
                    failed.cause = step.cause;
                    failed.extended_error = step.extended_error;
                    return failed;
                }
            }
        }
        first.unwrap_or_default()
    }

    async fn resolve(&self, name: Name) -> Reply {
        let context = Context {
            sub_queries: &self.sub_queries,
            block: &self.block,
        };
        let original = &self.query.question;
        let question = Question::new(name, original.rtype, original.class);
        context.again(&self.query, question).await
    }

    /// The reply to the client's question, made from the response for `name`.
    fn reply_with_alias(&self, name: &Name, step: Reply) -> Reply {
        let target: NameRef<'_> = name.as_ref();
        if target.eq_ignore_case(self.query.question.name.as_ref()) {
            return step;
        }
        let mut reply = Reply::failure(step.rcode, step.why);
        reply.authoritative = step.authoritative;
        reply.truncated = step.truncated;
        reply.extended_error.clone_from(&step.extended_error);
        if let Some(record) = step.section(Section::Answer).first() {
            reply.answer(Type::CNAME, record.ttl, Data::Name(target));
        } else {
            // AD covers the records of the upstream, not the CNAME synthesized before them.
            reply.authentic = step.authentic;
        }
        for section in Section::ALL {
            reply.push_all_from(section, Owner::Name(target), &step);
        }
        reply
    }
}
