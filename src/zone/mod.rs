//! The DNS view of the cluster: names in, records out. Pure: what the cluster is said to be and
//! the rules of the configuration decide every answer, nothing here waits or reads anything.
//!
//! ```text
//! name       what a name asks for: the grammar
//! form       the forms of names, as the grammar gives them
//! lookup     what is there: namespaces, Services, pods
//! import     what is there in multicluster zones
//! addresses  A and AAAA        srv      SRV, its weights and glue
//! alias      ExternalName      reverse  PTR        apex  SOA, NS and the fixed names
//! endpoint   endpoints, their names, which are meant
//! external   the same Services in zones for those outside of the cluster
//! meaning    what a name means, in words, for metadata
//! search     where the resolver of a pod looks names up
//! target     names that records point to      distinct  each record once
//! room       how many records are made, where not all can be sent
//! transfer   zones as a whole
//! ```

mod addresses;
mod alias;
mod apex;
mod distinct;
mod endpoint;
mod external;
mod form;
mod import;
mod lookup;
mod meaning;
mod name;
mod reverse;
mod room;
mod search;
mod srv;
mod target;
mod transfer;

use std::{net::IpAddr, sync::Arc};

pub use external::External;
pub use name::{Zone, Zones};
pub use room::Room;
pub(crate) use transfer::WholeZones;

use self::{
    form::Form,
    name::{Labels, Place},
};
use crate::{
    cluster::{Cluster, Kind},
    query::Question,
    reply::{Owner, Reply, Why},
    wire::{Name, NameRef, Rcode, Type},
};

/// The cluster's zones, ready to be asked.
pub struct View {
    cluster: Arc<Cluster>,
    zones: Zones,
    rules: Rules,
    /// Where this server is reached; see [`apex`].
    local: Box<[IpAddr]>,
}

/// What the configuration says about answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Seconds that a record may be kept.
    pub ttl: u32,
    /// Which names of pods exist.
    pub pods: PodNames,
    /// The namespaces that are shown; all where there are none.
    pub namespaces: Box<[Box<str>]>,
    /// Whether endpoints without a hostname are called by their pod's name.
    pub endpoint_pod_names: bool,
    /// Whether a Service or ServiceImport that has addresses and no ready endpoint is hidden.
    pub ignore_empty_service: bool,
    /// Whether the endpoints of a headless Service have names by topology zone.
    pub zonal: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            ttl: 5,
            pods: PodNames::Disabled,
            namespaces: Box::default(),
            endpoint_pod_names: false,
            ignore_empty_service: false,
            zonal: false,
        }
    }
}

/// Which names of pods exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNames {
    /// None.
    #[default]
    Disabled,
    /// Those of every address, whether a pod has it or not.
    Insecure,
    /// Those of pods that run.
    Verified,
}

/// What became of a question.
#[derive(Debug)]
pub enum Outcome {
    /// The name lies in none of the zones; nothing was written.
    Outside,
    /// The reply is complete: records, or none of this type (NODATA).
    Answered,
    /// The name does not exist, as far as is known. Nothing was written: whoever asks may know
    /// somebody else to ask, and otherwise completes the reply with [`Answers::deny`].
    Denied(Why),
    /// The reply has aliases that lead to this name, which the cluster does not have: its records of
    /// the type that was asked for belong behind them, or its denial.
    Alias(Box<Name>),
}

/// Zones of the cluster that can be asked: its own, or those that show it to the outside.
pub trait Answers {
    /// Answers a question of class IN into `reply`, which comes empty, with as many records as
    /// there is `room` for. Where the answer has more, the reply is [`Reply::truncated`].
    fn answer_within(
        &self,
        question: &Question,
        room: impl FnOnce() -> Room,
        reply: &mut Reply,
    ) -> Outcome;

    /// The same with every record.
    fn answer(&self, question: &Question, reply: &mut Reply) -> Outcome {
        self.answer_within(question, || Room::ALL, reply)
    }

    /// Completes the reply to a question that came out as [`Outcome::Denied`]: NXDOMAIN, or
    /// SERVFAIL where not everything is known yet, since what is not found may yet exist.
    fn deny(&self, question: &Question, why: Why, reply: &mut Reply);

    /// Whether everything is known that a denial for this reason rests on: only then is what is
    /// not found not there.
    fn knows(&self, why: Why) -> bool;
}

impl Answers for View {
    fn answer_within(
        &self,
        question: &Question,
        room: impl FnOnce() -> Room,
        reply: &mut Reply,
    ) -> Outcome {
        let records = |answer: &mut Answer<'_>, place: &Place<'_, '_>| answer.form(place.form());
        self.answer_by(question, room, reply, records, |zone, reply| {
            self.put_soa(zone, reply);
        })
    }

    fn deny(&self, question: &Question, why: Why, reply: &mut Reply) {
        self.deny_by(question, why, reply, |zone, reply| {
            self.put_soa(zone, reply);
        });
    }

    fn knows(&self, why: Why) -> bool {
        let kinds: &[Kind] = match why {
            Why::NotSynced => return false,
            Why::NoSuchPod => &[Kind::Pod],
            Why::NoReadyEndpoint
            | Why::NoSuchEndpoint
            | Why::EndpointNotReady
            | Why::EmptyService
            | Why::NoSuchPort
            | Why::NoSuchAddress => &[Kind::Service, Kind::Slice],
            _ => &[Kind::Service],
        };
        // After a reload there may be kinds that were not watched before; all others are known.
        self.cluster.is_ready() && kinds.iter().all(|kind| self.cluster.knows(*kind))
    }
}

impl View {
    /// The view of `cluster` in these zones. `local` are the addresses under which this server is
    /// reached: from them follows which Service is the zones' name server.
    pub fn new(cluster: Arc<Cluster>, zones: Zones, rules: Rules, local: Box<[IpAddr]>) -> Self {
        Self {
            cluster,
            zones,
            rules,
            local,
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

    /// Answers with what `records` knows; where that is nothing, `put_soa` adds the zone's SOA.
    fn answer_by(
        &self,
        question: &Question,
        room: impl FnOnce() -> Room,
        reply: &mut Reply,
        records: impl FnOnce(&mut Answer<'_>, &Place<'_, '_>) -> Known,
        put_soa: impl FnOnce(NameRef<'_>, &mut Reply),
    ) -> Outcome {
        if !self.zones.may_hold(&question.lower) {
            return Outcome::Outside;
        }
        let labels = Labels::new(&question.name, &question.lower);
        let Some(place) = self.zones.find(&labels) else {
            return Outcome::Outside;
        };
        if matches!(question.rtype, Type::AXFR | Type::IXFR) {
            reply.fail(Rcode::REFUSED, Why::Policy);
            return Outcome::Answered;
        }
        let mut answer = Answer {
            view: self,
            rtype: question.rtype,
            zone: place.suffix(),
            owner: Owner::Question,
            asked: question.lower.as_ref(),
            room: room(),
            reply,
        };
        let outside = match records(&mut answer, &place) {
            Ok(outside) => outside,
            Err(why) => {
                reply.clear();
                return Outcome::Denied(why);
            }
        };
        if reply.truncated {
            // The answer alone is more than there is room for.
            reply.section_mut(crate::reply::Section::Additional).clear();
        }
        let is_empty = reply.section(crate::reply::Section::Answer).is_empty();
        if is_empty && !reply.truncated {
            put_soa(place.suffix(), reply);
            reply.why = Why::ClusterNoData;
        } else {
            reply.why = Why::ClusterRecord;
        }
        reply.authoritative = true;
        outside.map_or(Outcome::Answered, Outcome::Alias)
    }

    fn deny_by(
        &self,
        question: &Question,
        why: Why,
        reply: &mut Reply,
        put_soa: impl FnOnce(NameRef<'_>, &mut Reply),
    ) {
        if !self.knows(why) {
            // A failure is no statement about the zone: neither AA nor an SOA record (RFC 2308 §7.1).
            reply.fail(Rcode::SERVFAIL, Why::NotSynced);
            return;
        }
        reply.fail(Rcode::NXDOMAIN, why);
        reply.authoritative = true;
        let labels = Labels::new(&question.name, &question.lower);
        if let Some(place) = self.zones.find(&labels) {
            put_soa(place.suffix(), reply);
        }
    }
}

/// An answer in the making, for one name and type.
struct Answer<'a> {
    view: &'a View,
    rtype: Type,
    /// The zone in the spelling of the question.
    zone: NameRef<'a>,
    /// Whose records are being added.
    owner: Owner<'a>,
    /// The name that was asked for.
    asked: NameRef<'a>,
    /// What is left for records.
    room: Room,
    reply: &'a mut Reply,
}

/// That the name exists, whether it has records of the type or not, and the name outside of the
/// zones that its records go on with; or why it does not exist.
type Known = Result<Option<Box<Name>>, Why>;

impl Answer<'_> {
    /// Takes the room of an answer record of at least so many bytes of data. Without it the answer
    /// is truncated, and no further record need be made.
    fn admit(&mut self, data: usize) -> bool {
        let fits = self.room.take(room::RECORD + data);
        self.reply.truncated |= !fits;
        fits
    }

    /// Adds the records of a name of this form.
    fn form(&mut self, form: Form<'_>) -> Known {
        match form {
            Form::Apex => self.apex(),
            Form::Empty => {}
            Form::Version => self.version(),
            Form::NameServer => self.name_server(),
            Form::Namespace(namespace) => self.namespace(namespace)?,
            Form::PodNamespace(namespace) => self.pod_namespace(namespace)?,
            Form::Pod { namespace, label } => self.pod(namespace, label)?,
            Form::Service {
                namespace,
                service,
                part,
            } => return self.service(namespace, service, part),
            Form::Import {
                namespace,
                import,
                part,
            } => self.import(namespace, import, part)?,
            Form::Address(network) => self.reverse(network)?,
            Form::Unknown => return Err(Why::NoSuchForm),
        }
        Ok(None)
    }
}
