//! `kubernetes`: the names of the cluster's objects.
//!
//! [`crate::zone`] parses names and creates records, [`crate::cluster`] maintains the state. This
//! module has the Corefile properties, fallthrough to the next plugin, and CNAME targets outside
//! the cluster.

mod exporter;
mod labels;
mod local_addresses;
mod parse;
mod removed;
mod reports;
mod stale;

use std::{
    cell::RefCell,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use parse::parse;

use super::transfer::{Transferable, ZoneChanges};
use super::{
    Build, BuildError, Context, Describe, Diagnose, MetadataSource, Offer, OnQuery, Plugin,
    Properties, ReadinessCheck, Setup, SharedResources, Startup, Step, Work, alias, random,
};
use crate::{
    cluster::{Cluster, ClusterSource, Kind, Settings, SnapshotSettings, SourceError},
    hooks,
    query::{Query, Question},
    reply::{ReasonText, Reply, Why},
    wire::{Class, Name, NameRef, Type},
    zone::{
        AnswerRules, ClusterLookup, ClusterView, DiagnosisContext, LookupOutcome, Searches,
        SizeBudget, ZoneTransfer, Zones,
    },
};

/// The directive.
const NAME: &str = "kubernetes";

/// The parsed directive.
#[derive(Clone, Debug)]
pub struct Config {
    /// The source of objects, and which of them to watch.
    pub source: Settings,
    /// The zones: as listed, or those of the block's keys.
    pub zones: Zones,
    /// The settings for answers.
    pub rules: AnswerRules,
    /// `fallthrough`: zones in which nonexistent names are passed to the next plugin; `.` is all.
    pub fallthrough: Box<[Name]>,
    /// `startup_timeout`: maximum wait for the cluster's objects at the start; zero does not wait.
    pub startup_timeout: Duration,
}

impl Config {
    /// The source that a reload replaces. Its objects are served until the new source has listed
    /// its own, so that a changed option loses no names while the API server is down. Preferably a
    /// source with the same backend; otherwise the one that served these zones before: it may be
    /// the same cluster under another address.
    fn replaced_source(
        &self,
        resources: &SharedResources,
        place: &str,
    ) -> Option<Arc<ClusterSource>> {
        let here = resources.before::<ClusterSource>(place);
        let is_same = |it: &Arc<ClusterSource>| it.settings().backend == self.source.backend;
        let same = here.clone().filter(is_same);
        same.or_else(|| resources.all_before().find(is_same))
            .or(here)
    }
}

impl Setup for Config {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::Cluster, Offer::Zones]
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        // A reload with the same settings keeps the running source.
        let key = format!("{:?}", self.source);
        let place = format!("{:?} {:?}", self.zones, build.addresses);
        let start = || {
            let before = self.replaced_source(build.resources, &place);
            let source =
                ClusterSource::replace(before.as_deref(), self.source.clone(), build.runtime)?;
            exporter::export(Arc::downgrade(source.cluster()), build.metrics);
            Ok(source)
        };
        let source = build
            .resources
            .keep(&key, start)
            .map_err(|error: SourceError| BuildError {
                plugin: NAME,
                action: "cannot watch the cluster".into(),
                source: Some(error.into()),
            })?;
        build.resources.put(&place, Arc::clone(&source));
        let view = Arc::new(ClusterView::new(
            Arc::clone(source.cluster()),
            self.zones.clone(),
            self.rules.clone(),
            local_addresses::of_listeners(build.addresses),
        ));
        build.offers.cluster = Some(Arc::clone(&view));
        build.offers.zones.push(Arc::clone(&view) as _);
        Ok(Plugin::from(Kubernetes {
            source: Some(source),
            config_hash: Some(build.metrics.reload.config_hash.clone()),
            ..Kubernetes::new(view, self.fallthrough.clone(), self.startup_timeout)
        }))
    }
}

/// Both the cluster's own zones and those of `k8s_external`.
impl<Z: ZoneTransfer> Transferable for Z {
    fn transfer(
        self: Arc<Self>,
        question: &Question,
        held: Option<u32>,
        reply: &mut Reply,
    ) -> bool {
        ZoneTransfer::transfer(&self, question, held, reply)
    }

    fn serials(&self) -> Vec<(Name, u32)> {
        ZoneTransfer::serials(self)
    }

    fn changes(&self) -> Option<ZoneChanges> {
        Some(Box::pin(self.cluster().changes()))
    }
}

/// The plugin.
pub struct Kubernetes {
    view: Arc<ClusterView>,
    fallthrough: Box<[Name]>,
    startup_timeout: Duration,
    /// The source; it stops when the last plugin that uses it is dropped.
    source: Option<Arc<ClusterSource>>,
    /// The hash of the active configuration.
    config_hash: Option<prometheus::Gauge>,
}

impl Kubernetes {
    /// A plugin that answers from `view`.
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
            config_hash: None,
        }
    }
}

hooks!(Kubernetes, NAME => on_query, metadata, diagnosis, readiness, startup; properties);

impl OnQuery for Kubernetes {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if query.question.class == Class::CH {
            return self.status(query, reply);
        }
        if query.question.rtype == Type::TXT
            && let Some(step) = self.explanation(context, query, reply)
        {
            return step;
        }
        let cluster = self.view.cluster();
        answer_query(&*self.view, cluster, context, query, reply, |name| {
            let mut zones = self.fallthrough.iter();
            zones.any(|zone| name.is_under(zone.as_ref()))
        })
    }
}

impl MetadataSource for Kubernetes {
    fn metadata(&self, query: &Query, _: Option<&Reply>, label: &str) -> Option<String> {
        let key = label.strip_prefix("kubernetes/")?;
        let client = query.client.ip();
        match key {
            "client-namespace" => Some(self.view.client(client)?.namespace.to_string()),
            "client-pod-name" => Some(self.view.client(client)?.name.to_string()),
            _ if key.starts_with(labels::PREFIX) => {
                let pod = self.view.client(client)?;
                pod.label(&key[labels::PREFIX.len()..]).map(str::to_owned)
            }
            _ => self.view.metadata(&query.original, key),
        }
    }
}

impl Describe for Kubernetes {
    fn properties(&self) -> Properties {
        Properties {
            server_names: true,
            ..Properties::default()
        }
    }
}

thread_local! {
    /// Created with the first denial that has a reader.
    static SEARCHES: RefCell<Option<Searches>> = const { RefCell::new(None) };
}

impl Diagnose for Kubernetes {
    fn diagnose(&self, query: &Query, reply: &Reply, text: &mut ReasonText) -> bool {
        let now = query.received;
        SEARCHES.with_borrow_mut(|searches| {
            let mut within = DiagnosisContext {
                client: query.client.ip(),
                now,
                searches: searches.get_or_insert_with(|| Searches::new(now)),
            };
            self.view
                .diagnose(&query.question, reply, &mut within, text)
        })
    }

    fn object(&self, query: &Query) -> Option<String> {
        self.view.describe(&query.question, SystemTime::now())
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<IpAddr> {
        self.view.cluster().address_of_pod(namespace, name)
    }

    fn caution(&self, query: &Query) -> Option<String> {
        self.view.caution(&query.question)
    }

    fn search_list(&self, namespace: &str) -> Vec<Name> {
        self.view.search_domains(namespace)
    }
}

impl Kubernetes {
    /// Age up to which a snapshot counts as ready.
    fn max_age(&self) -> Duration {
        let settings = self.source.as_ref().map(|source| source.settings());
        let snapshot = settings.and_then(|settings| settings.snapshot.as_ref());
        snapshot.map_or(SnapshotSettings::MAX_AGE, |snapshot| snapshot.max_age)
    }
}

impl ReadinessCheck for Kubernetes {
    fn is_ready(&self) -> bool {
        let cluster = self.view.cluster();
        cluster.is_ready()
            && cluster
                .snapshot()
                .is_none_or(|it| it.age() <= self.max_age())
    }

    fn details(&self) -> Vec<String> {
        reports::resources(self.view.cluster())
    }
}

impl Startup for Kubernetes {
    fn started(&self) -> Option<Work> {
        let limit = self.startup_timeout;
        let cluster = Arc::clone(self.view.cluster());
        if limit.is_zero() || cluster.synced() {
            return None;
        }
        // What is known is better than silence.
        if cluster.snapshot().is_some() && self.is_ready() {
            return None;
        }
        // Keeps the source running for the remaining plugins if this start is abandoned.
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
                        "not listed under the new configuration after {limit:?}: {missing}; still \
                         serving the previous objects"
                    );
                } else {
                    tracing::warn!(
                        target: "plugin/kubernetes",
                        "starting with incomplete cluster state: not listed after {limit:?}: {missing}"
                    );
                }
            }
        }))
    }
}

/// Answers a query from zones of the cluster. A nonexistent name is passed to the next plugin if
/// `falls_through` holds for it, but not before all kinds concerned are listed: cluster names must
/// not be resolved elsewhere.
pub(super) fn answer_query(
    zones: &impl ClusterLookup,
    cluster: &Cluster,
    context: &Context<'_>,
    query: &Query,
    reply: &mut Reply,
    falls_through: impl FnOnce(NameRef<'_>) -> bool,
) -> Step {
    let question = &query.question;
    if question.class != Class::IN {
        return Step::Pass;
    }
    match zones.answer_within(question, || size_budget(context, query), reply) {
        LookupOutcome::Outside => Step::Pass,
        LookupOutcome::Answered => {
            stale::mark(cluster, reply);
            Step::Answer
        }
        LookupOutcome::Denied(why) => {
            let is_listed = zones.can_deny(why);
            let mut known_absent =
                is_listed || (why != Why::NotSynced && cluster.snapshot_denies());
            if known_absent && falls_through(question.lower.as_ref()) {
                if is_listed {
                    return Step::Pass;
                }
                // Another plugin might know the name: by a snapshot, it is neither denied nor passed on.
                known_absent = false;
            }
            zones.deny(question, why, known_absent, reply);
            stale::mark(cluster, reply);
            Step::Answer
        }
        LookupOutcome::Alias(target) => {
            let snapshot = cluster.snapshot();
            let mark = move |reply: &mut Reply| {
                if let Some(snapshot) = snapshot {
                    stale::mark_by(snapshot, reply);
                }
            };
            Step::Wait(alias::follow(context, query, *target, reply, mark))
        }
    }
}

/// The size budget of an answer: the client's response size, or unlimited if another plugin selects
/// from the full answer.
fn size_budget(context: &Context<'_>, query: &Query) -> SizeBudget {
    if context.block.chain.needs_complete_answers() {
        SizeBudget::UNLIMITED
    } else {
        SizeBudget::new(query.record_room(), random::index)
    }
}
