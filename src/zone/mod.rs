//! The DNS view of the cluster. Pure functions: every answer follows from the cluster state and the
//! configuration; nothing waits or performs I/O.
//!
//! ```text
//! name       parses names: the grammar         name_kind  the kinds of names
//! lookup     namespaces, Services, pods        import     ServiceImports, in multicluster zones
//! addresses  A and AAAA records                srv        SRV records, weights, glue
//! alias      ExternalName Services             reverse    PTR records
//! apex       SOA and NS records, fixed names   endpoint   endpoint names and selection
//! external   k8s_external zones                metadata   metadata of a query
//! search     search lists of pods              target     target names of records
//! distinct   deduplication                     budget     response size
//! diagnosis  texts: why a name has no answer   nearest    similar names
//! object     texts: what a name stands for
//! transfer   zone transfers
//! ```

mod addresses;
mod alias;
mod apex;
mod budget;
mod diagnosis;
mod distinct;
mod endpoint;
mod external;
mod import;
mod lookup;
mod metadata;
mod name;
mod name_kind;
mod nearest;
mod object;
mod reverse;
mod search;
mod srv;
mod target_name;
mod transfer;

use std::{net::IpAddr, sync::Arc};

pub use budget::SizeBudget;
pub use diagnosis::{DiagnosisContext, Hints};
pub use external::ExternalView;
pub use name::{ServedZone, Zones};
pub use nearest::Searches;
pub(crate) use transfer::ZoneTransfer;

use self::{
    name::{SplitName, ZoneMatch},
    name_kind::NameKind,
};
use crate::{
    cluster::{Cluster, Kind},
    query::Question,
    reply::{Owner, Reply, Why},
    wire::{Name, NameRef, Rcode, Type},
};

/// The zones of a `kubernetes` plugin.
pub struct ClusterView {
    cluster: Arc<Cluster>,
    zones: Zones,
    rules: AnswerRules,
    /// The addresses of this server; see [`apex`].
    local_addresses: Box<[IpAddr]>,
}

/// The settings for answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRules {
    /// TTL of records in seconds.
    pub ttl: u32,
    /// Which pod names exist.
    pub pods: PodNames,
    /// The served namespaces; all if empty.
    pub namespaces: Box<[Box<str>]>,
    /// Whether endpoints without a hostname are named by their pod.
    pub endpoint_pod_names: bool,
    /// Whether Services and ServiceImports with cluster IPs but without ready endpoints are hidden.
    pub ignore_empty_service: bool,
    /// Whether headless Services have names by topology zone.
    pub zonal: bool,
    /// What texts about missing names may name.
    pub hints: Hints,
}

impl Default for AnswerRules {
    fn default() -> Self {
        Self {
            ttl: 5,
            pods: PodNames::Disabled,
            namespaces: Box::default(),
            endpoint_pod_names: false,
            ignore_empty_service: false,
            zonal: false,
            hints: Hints::default(),
        }
    }
}

/// Which pod names exist (`pods`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNames {
    /// None.
    #[default]
    Disabled,
    /// Those of all addresses, whether a pod has them or not.
    Insecure,
    /// Those of running pods.
    Verified,
}

/// The outcome of a lookup.
#[derive(Debug)]
pub enum LookupOutcome {
    /// The name is in none of the zones; the reply is unchanged.
    Outside,
    /// The reply is complete: records, or NODATA.
    Answered,
    /// The name does not exist, or is not known to exist. The reply is unchanged: the caller either
    /// passes the query on, or completes the reply with [`ClusterLookup::deny`].
    Denied(Why),
    /// The reply has CNAME records up to this name, which is not in the cluster: the caller appends
    /// its records of the queried type, or its denial.
    Alias(Box<Name>),
}

/// Lookup in zones of the cluster: [`ClusterView`] or [`ExternalView`].
pub trait ClusterLookup {
    /// Answers a query of class IN into the empty `reply`, within the size budget. If records are
    /// omitted, the reply is [`Reply::truncated`].
    fn answer_within(
        &self,
        question: &Question,
        budget: impl FnOnce() -> SizeBudget,
        reply: &mut Reply,
    ) -> LookupOutcome;

    /// Answers with all records.
    fn answer(&self, question: &Question, reply: &mut Reply) -> LookupOutcome {
        self.answer_within(question, || SizeBudget::UNLIMITED, reply)
    }

    /// Completes a reply after [`LookupOutcome::Denied`]: NXDOMAIN if the name is `known_absent`, by
    /// [`can_deny`](Self::can_deny) or otherwise, else SERVFAIL.
    fn deny(&self, question: &Question, why: Why, known_absent: bool, reply: &mut Reply);

    /// Whether all kinds that a denial for this reason depends on have been listed.
    fn can_deny(&self, why: Why) -> bool;
}

impl ClusterLookup for ClusterView {
    fn answer_within(
        &self,
        question: &Question,
        budget: impl FnOnce() -> SizeBudget,
        reply: &mut Reply,
    ) -> LookupOutcome {
        let records = |answer: &mut AnswerBuilder<'_>, matched: &ZoneMatch<'_, '_>| {
            answer.add_records(matched.kind())
        };
        self.answer_by(question, budget, reply, records, |zone, reply| {
            self.put_soa(zone, reply);
        })
    }

    fn deny(&self, question: &Question, why: Why, known_absent: bool, reply: &mut Reply) {
        self.deny_by(question, why, known_absent, reply, |zone, reply| {
            self.put_soa(zone, reply);
        });
    }

    fn can_deny(&self, why: Why) -> bool {
        let kinds: &[Kind] = match why {
            Why::NotSynced => return false,
            Why::NoSuchPod => &[Kind::Pod],
            Why::NoReadyEndpoint
            | Why::NoSuchEndpoint
            | Why::EndpointNotReady
            | Why::EmptyService
            | Why::NoSuchPort
            | Why::NoSuchAddress => &[Kind::Service, Kind::EndpointSlice],
            _ => &[Kind::Service],
        };
        // After a reload, kinds that were not watched before are unlisted.
        self.cluster.is_ready() && kinds.iter().all(|kind| self.cluster.is_listed(*kind))
    }
}

impl ClusterView {
    /// The zones of `cluster`. `local_addresses` are the addresses of this server, which determine
    /// the zones' name servers.
    pub fn new(
        cluster: Arc<Cluster>,
        zones: Zones,
        rules: AnswerRules,
        local_addresses: Box<[IpAddr]>,
    ) -> Self {
        Self {
            cluster,
            zones,
            rules,
            local_addresses,
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The zones.
    pub fn zones(&self) -> &Zones {
        &self.zones
    }

    /// What texts may name.
    pub fn hints(&self) -> Hints {
        self.rules.hints
    }

    /// The name that is to be explained, if the queried name is `NAME.why` in one of the zones.
    pub fn explained_name(&self, question: &Question) -> Option<Name> {
        if self.rules.hints == Hints::None {
            return None;
        }
        let labels = SplitName::new(&question.name, &question.lower);
        let matched = self.zones.find(&labels)?;
        let is_explained = matched.kind() == NameKind::Explained;
        is_explained.then(|| matched.explained()).flatten()
    }

    /// Answers with the records that `records` adds; if there are none, `put_soa` adds the zone's
    /// SOA record.
    fn answer_by(
        &self,
        question: &Question,
        budget: impl FnOnce() -> SizeBudget,
        reply: &mut Reply,
        records: impl FnOnce(&mut AnswerBuilder<'_>, &ZoneMatch<'_, '_>) -> LookupResult,
        put_soa: impl FnOnce(NameRef<'_>, &mut Reply),
    ) -> LookupOutcome {
        if !self.zones.may_hold(&question.lower) {
            return LookupOutcome::Outside;
        }
        let labels = SplitName::new(&question.name, &question.lower);
        let Some(matched) = self.zones.find(&labels) else {
            return LookupOutcome::Outside;
        };
        if matches!(question.rtype, Type::AXFR | Type::IXFR) {
            reply.fail(Rcode::REFUSED, Why::TransferRefused);
            return LookupOutcome::Answered;
        }
        let mut answer = AnswerBuilder {
            view: self,
            rtype: question.rtype,
            zone: matched.suffix(),
            owner: Owner::Question,
            qname: question.lower.as_ref(),
            budget: budget(),
            reply,
        };
        // Unless the records say otherwise: an endless alias.
        answer.reply.why = Why::ClusterRecord;
        let outside = match records(&mut answer, &matched) {
            Ok(outside) => outside,
            Err(why) => {
                reply.clear();
                return LookupOutcome::Denied(why);
            }
        };
        if reply.truncated {
            // The answer section alone exceeds the budget.
            reply.section_mut(crate::reply::Section::Additional).clear();
        }
        let is_empty = reply.section(crate::reply::Section::Answer).is_empty();
        if is_empty && !reply.truncated {
            put_soa(matched.suffix(), reply);
            reply.why = Why::ClusterNoData;
        }
        reply.authoritative = true;
        outside.map_or(LookupOutcome::Answered, LookupOutcome::Alias)
    }

    fn deny_by(
        &self,
        question: &Question,
        why: Why,
        known_absent: bool,
        reply: &mut Reply,
        put_soa: impl FnOnce(NameRef<'_>, &mut Reply),
    ) {
        if !known_absent {
            // A SERVFAIL response is not an authoritative denial: no AA flag and no SOA record (RFC
            // 2308 section 7.1).
            reply.fail(Rcode::SERVFAIL, Why::NotSynced);
            return;
        }
        reply.fail(Rcode::NXDOMAIN, why);
        reply.authoritative = true;
        let labels = SplitName::new(&question.name, &question.lower);
        if let Some(matched) = self.zones.find(&labels) {
            put_soa(matched.suffix(), reply);
        }
    }
}

/// An answer under construction, for one name and type.
struct AnswerBuilder<'a> {
    view: &'a ClusterView,
    rtype: Type,
    /// The zone, in the query's spelling.
    zone: NameRef<'a>,
    /// The owner of the records being added.
    owner: Owner<'a>,
    /// The queried name.
    qname: NameRef<'a>,
    /// The remaining budget.
    budget: SizeBudget,
    reply: &'a mut Reply,
}

/// `Ok` if the name exists, with or without records of the type; with the target if its CNAME
/// record leads outside the zones. `Err` with the reason if it does not exist.
type LookupResult = Result<Option<Box<Name>>, Why>;

impl AnswerBuilder<'_> {
    /// Reserves space for an answer record with `data` bytes of data at least. Returns false, and
    /// marks the reply truncated, if the budget is exhausted; the caller then stops.
    fn admit(&mut self, data: usize) -> bool {
        let fits = self.budget.take(budget::RECORD + data);
        self.reply.truncated |= !fits;
        fits
    }

    /// Adds the records of a name.
    fn add_records(&mut self, kind: NameKind<'_>) -> LookupResult {
        match kind {
            NameKind::Apex => self.apex(),
            NameKind::Empty => {}
            NameKind::Version => self.version(),
            NameKind::NameServer => self.name_server(),
            NameKind::Namespace(namespace) => self.namespace(namespace)?,
            NameKind::PodNamespace(namespace) => self.pod_namespace(namespace)?,
            NameKind::Pod { namespace, label } => self.pod(namespace, label)?,
            NameKind::Service {
                namespace,
                service,
                scope,
            } => return self.service(namespace, service, scope),
            NameKind::ServiceImport {
                namespace,
                import,
                scope,
            } => self.import(namespace, import, scope)?,
            NameKind::Address(network) => self.reverse(network)?,
            // Its TXT record is not of the cluster's data.
            NameKind::Explained if self.view.rules.hints != Hints::None => {}
            NameKind::Explained | NameKind::Unknown => return Err(Why::NoSuchForm),
        }
        Ok(None)
    }
}
