//! `autopath`: walks a client's search list for it.
//!
//! ```text
//! autopath [ZONES...] @kubernetes|RESOLV-CONF
//! ```
//!
//! A pod's resolver asks for `www.example.org` as `www.example.org.NS.svc.ZONE` first, and then for
//! each further domain of its search list, one NXDOMAIN at a time. Where the first of these
//! questions is recognised, the rest of the walk is done here: the answer is the first name that
//! exists, behind a CNAME that leads to it from the name that was asked.
//!
//! What a name exists for does not matter: one that has no record of this type ends the walk too,
//! so that A and AAAA, asked side by side, come to the same name. A name of which nobody knows
//! whether it exists (SERVFAIL and the like) ends the walk as well: to go on would be to answer
//! with another name while the right one cannot be seen.
//!
//! A search list in a file is that of the start, or of the last reload.
//!
//! Each name is asked of the server's own door, as the client would have asked it: other server
//! blocks, rules of access and the cache see it. Names of the cluster are answered there and then;
//! only where a step has to wait does the walk go on elsewhere.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use futures_util::FutureExt;
use tokio::runtime::Handle;

use super::{
    Block, Build, BuildError, Context, Door, ParseErrors, Parsing, Plugin, Resolved, Setup, Step,
    ZoneList,
};
use crate::{
    corefile::{Diagnostic, Directive},
    metrics::Tally,
    query::{Query, Question},
    reply::{Data, Owner, Reply, Section},
    upstream,
    wire::{Class, Name, NameRef, Rcode, Type},
    zone::ClusterView,
};

/// The Corefile's word.
const NAME: &str = "autopath";
/// Where the domains are read that follow those of the cluster in a pod's search list: kubelet
/// copies them from the node, as it does for this server's own pod.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What the directive says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Names in these zones are looked at.
    pub zones: ZoneList,
    /// Whose search list.
    pub list: List,
}

/// Where a search list comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    /// From the pod that asks.
    Kubernetes,
    /// From a file, the same for every client.
    File(PathBuf),
    /// From a plugin that the block does not have: there is none.
    Nowhere,
}

/// Reads the directives of a block, of which the last one counts.
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
                        .also(kubernetes.name.place, "no line 'pods verified' in here")
                        .help("add 'pods verified' to the kubernetes block, or take autopath away");
                    parsing.warnings.push(warning);
                }
                List::Kubernetes
            }
            (_, None) => {
                let message = format!("autopath does nothing: no '{plugin}' in this server block");
                parsing.warnings.push(last.warning(message));
                List::Nowhere
            }
            (_, Some(_)) => {
                return Err(last
                    .error(format!("'{plugin}' knows no search lists"))
                    .expected("@kubernetes or a resolv.conf file"));
            }
        };
        Ok(Config { zones, list })
    };
    read().map_err(|error: Diagnostic| vec![error.in_plugin(NAME)])
}

/// Whether the last word of a `kubernetes` block about pods is `verified`.
fn verifies_pods(kubernetes: &Directive) -> bool {
    let mut lines = kubernetes.properties().iter().rev();
    lines
        .find(|line| *line.name() == "pods")
        .is_some_and(|line| line.words.get(1).is_some_and(|mode| *mode == "verified"))
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let search = match &self.list {
            List::Kubernetes => build.offered().map_or(Search::None, |view| {
                // A machine without the file has no domains of its own.
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
            List::Nowhere => Search::None,
        };
        Ok(Arc::new(Autopath {
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
    /// Where a walk goes on that has to wait.
    runtime: Handle,
    /// Walks that found a name.
    found: Arc<Tally>,
}

/// The search lists of clients.
pub enum Search {
    /// That of the pod that asks, with these domains behind the cluster's.
    Pods {
        /// Who knows the pods.
        view: Arc<ClusterView>,
        /// The domains of the node.
        tail: Vec<Name>,
    },
    /// The same for everybody.
    Fixed(Vec<Name>),
    /// None is known.
    None,
}

impl Autopath {
    /// Walks the lists of `search` for names in `zones`, and counts in `found`.
    pub fn new(zones: ZoneList, search: Search, runtime: Handle, found: Arc<Tally>) -> Self {
        Self {
            zones,
            search,
            runtime,
            found,
        }
    }

    /// The names to try for a question, the one that was asked first; nothing where it is not the
    /// first one of a client's search.
    fn names(&self, query: &Query) -> Option<Vec<Name>> {
        let question = &query.question;
        let is_searched = question.class == Class::IN
            && !matches!(question.rtype, Type::AXFR | Type::IXFR)
            // Sub-queries are for whole names, the steps of a walk among them.
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
            // Where a name grows too long, the client could not have asked it either.
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

impl Plugin for Autopath {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let Some(names) = self.names(query) else {
            return Step::Pass;
        };
        let walk = Walk {
            door: Arc::clone(context.door),
            block: Arc::clone(context.block),
            query: query.clone(),
            found: Arc::clone(&self.found),
        };
        let mut walk = Box::pin(walk.go(names));
        // What waits may need the runtime from its first step on.
        let _inside = self.runtime.enter();
        match (&mut walk).now_or_never() {
            Some(found) => {
                *reply = found;
                Step::Answer
            }
            None => Step::Wait(Box::pin(async { Resolved::Answer(walk.await) })),
        }
    }
}

/// A walk along a search list.
struct Walk {
    door: Arc<dyn Door>,
    block: Arc<Block>,
    query: Query,
    found: Arc<Tally>,
}

impl Walk {
    async fn go(self, names: Vec<Name>) -> Reply {
        let mut first = None;
        for name in names {
            let step = self.ask(name).await;
            match step.rcode {
                Rcode::NXDOMAIN => {
                    first.get_or_insert(step);
                }
                Rcode::NOERROR => {
                    self.found.inc();
                    return self.lead_to(&name, step);
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

    async fn ask(&self, name: Name) -> Reply {
        let context = Context {
            door: &self.door,
            block: &self.block,
        };
        let asked = &self.query.question;
        let question = Question::new(name, asked.rtype, asked.class);
        context.again(&self.query, question).await
    }

    /// The reply to what was asked, made of the one to `name`.
    fn lead_to(&self, name: &Name, step: Reply) -> Reply {
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
            // An upstream may vouch for its records, not for the alias before them.
            reply.authentic = step.authentic;
        }
        for section in Section::ALL {
            reply.push_all_from(section, Owner::Name(target), &step);
        }
        reply
    }
}
