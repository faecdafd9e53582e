//! `kubernetes`: the cluster's names, from its objects.
//!
//! What a name means and which records it has is [`crate::zone`]'s; what the cluster is said to be
//! is [`crate::cluster`]'s. Here are the option lines, and the ways on: to the next plugin, or to
//! another name outside of the cluster.

mod labels;
mod local;
mod numbers;
mod parse;
mod removed;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

pub use parse::parse;

use super::transfer::{Changes, Offer, Transferable};
use super::{Build, BuildError, Context, Parts, Plugin, Setup, Step, alias, random};
use crate::{
    cluster::{Kind, Settings, Source, SourceError},
    query::{Query, Question},
    reply::Reply,
    wire::{Class, Name, NameRef},
    zone::{ClusterView, Lookup, Outcome, Rules, SizeBudget, Zones},
};

/// The Corefile's word.
const NAME: &str = "kubernetes";

/// What the directive says.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the cluster is told of, and what of it is watched.
    pub source: Settings,
    /// The zones, as listed or those of the block.
    pub zones: Zones,
    /// How they are answered.
    pub rules: Rules,
    /// Zones in which the next plugin is asked for names that do not exist; `.` stands for all.
    pub fallthrough: Box<[Name]>,
    /// How long a start waits for the cluster's objects; zero does not wait.
    pub startup_timeout: Duration,
}

impl Config {
    /// The source in whose place another one is started by a reload. Its objects are served until
    /// the new one has listed its own: while the API server is down, a changed option must cost
    /// nothing that was known. It is one of the same cluster, as far as the settings say; or else
    /// the one that fed these very zones until now, since it may be the same cluster by another
    /// address, and where it is not, its names were the answer a moment ago.
    fn before(&self, parts: &Parts, place: &str) -> Option<Arc<Source>> {
        let here = parts.before::<Source>(place);
        let is_same = |it: &Arc<Source>| it.settings().backend == self.source.backend;
        let same = here.clone().filter(is_same);
        same.or_else(|| parts.all_before().find(is_same)).or(here)
    }
}

impl Setup for Config {
    fn offers(&self) -> bool {
        true
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        // A reload that asks for the same objects of the same cluster gets the source that runs.
        let key = format!("{:?}", self.source);
        let place = format!("{:?} {:?}", self.zones, build.addresses);
        let start = || {
            let before = self.before(build.parts, &place);
            let source = Source::replace(before.as_deref(), self.source.clone(), build.runtime)?;
            numbers::show(Arc::downgrade(source.cluster()), build.metrics);
            Ok(source)
        };
        let source = build
            .parts
            .keep(&key, start)
            .map_err(|error: SourceError| BuildError {
                plugin: NAME,
                action: "cannot watch the cluster".into(),
                source: Some(error.into()),
            })?;
        build.parts.put(&place, Arc::clone(&source));
        let view = Arc::new(ClusterView::new(
            Arc::clone(source.cluster()),
            self.zones.clone(),
            self.rules.clone(),
            local::addresses(build.addresses),
        ));
        build.offered.push(Arc::clone(source.cluster()) as _);
        build.offered.push(Arc::clone(&view) as _);
        build
            .offered
            .push(Arc::new(Offer(Arc::clone(&view) as _)) as _);
        Ok(Arc::new(Kubernetes {
            source: Some(source),
            ..Kubernetes::new(view, self.fallthrough.clone(), self.startup_timeout)
        }))
    }
}

impl Transferable for ClusterView {
    fn transfer(
        self: Arc<Self>,
        question: &Question,
        held: Option<u32>,
        reply: &mut Reply,
    ) -> bool {
        Self::transfer(&self, question, held, reply)
    }

    fn serials(&self) -> Vec<(Name, u32)> {
        Self::serials(self)
    }

    fn changes(&self) -> Option<Changes> {
        Some(Box::pin(self.cluster().changes()))
    }
}

/// The plugin.
pub struct Kubernetes {
    view: Arc<ClusterView>,
    fallthrough: Box<[Name]>,
    startup_timeout: Duration,
    /// Runs as long as a plugin that it feeds.
    source: Option<Arc<Source>>,
}

impl Kubernetes {
    /// A plugin that answers from `view`, whatever feeds it.
    pub fn new(
        view: Arc<ClusterView>,
        fallthrough: Box<[Name]>,
        startup_timeout: Duration,
    ) -> Self {
        Self {
            view,
            fallthrough,
            startup_timeout,
            source: None,
        }
    }
}

impl Plugin for Kubernetes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn amends(&self) -> bool {
        false
    }

    fn ask(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        ask(&*self.view, context, query, reply, |name| {
            let mut zones = self.fallthrough.iter();
            zones.any(|zone| name.is_under(zone.as_ref()))
        })
    }

    fn metadata(&self, query: &Query, label: &str) -> Option<String> {
        let key = label.strip_prefix("kubernetes/")?;
        let client = query.client.ip();
        match key {
            "client-namespace" => Some(self.view.client(client)?.namespace.to_string()),
            "client-pod-name" => Some(self.view.client(client)?.name.to_string()),
            _ if key.starts_with(labels::PREFIX) => {
                let pod = self.view.client(client)?;
                pod.label(&key[labels::PREFIX.len()..]).map(str::to_owned)
            }
            _ => self.view.metadata(&query.asked, key),
        }
    }

    fn is_ready(&self) -> bool {
        self.view.cluster().is_ready()
    }

    fn started(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let limit = self.startup_timeout;
        let cluster = Arc::clone(self.view.cluster());
        if limit.is_zero() || cluster.synced() {
            return None;
        }
        // The source is held too: a start that is given up must not stop it for those who wait.
        let source = self.source.clone();
        Some(Box::pin(async move {
            let _source = source;
            if tokio::time::timeout(limit, cluster.wait_synced())
                .await
                .is_err()
            {
                let missing: Vec<_> = cluster.unsynced().map(Kind::resource).collect();
                let missing = missing.join(", ");
                if cluster.is_ready() {
                    tracing::warn!(
                        target: "plugin/kubernetes",
                        "not listed under the new configuration after {limit:?}: {missing}; what is \
                         known from before is served on"
                    );
                } else {
                    tracing::warn!(
                        target: "plugin/kubernetes",
                        "starting without all of the cluster: not listed after {limit:?}: {missing}"
                    );
                }
            }
        }))
    }
}

/// Asks zones of the cluster. The next plugin may know a name that they deny, where the name
/// `falls_through`; but until everything is known nobody else is asked: a name of the cluster must
/// not be looked for elsewhere.
pub(super) fn ask(
    zones: &impl Lookup,
    context: &Context<'_>,
    query: &Query,
    reply: &mut Reply,
    falls_through: impl FnOnce(NameRef<'_>) -> bool,
) -> Step {
    let question = &query.question;
    if question.class != Class::IN {
        return Step::Pass;
    }
    match zones.answer_within(question, || room(context, query), reply) {
        Outcome::Outside => Step::Pass,
        Outcome::Answered => Step::Answer,
        Outcome::Denied(why) if zones.can_deny(why) && falls_through(question.lower.as_ref()) => {
            Step::Pass
        }
        Outcome::Denied(why) => {
            zones.deny(question, why, reply);
            Step::Answer
        }
        Outcome::Alias(target) => Step::Wait(alias::follow(context, query, *target, reply)),
    }
}

/// How much of an answer is made: what the client takes, or everything where a plugin chooses
/// among all of it.
fn room(context: &Context<'_>, query: &Query) -> SizeBudget {
    if context.block.chain.needs_whole_answers() {
        SizeBudget::UNLIMITED
    } else {
        SizeBudget::new(query.record_room(), random::index)
    }
}
