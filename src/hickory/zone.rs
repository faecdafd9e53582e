//! Zones of the cluster as hickory-server's [`ZoneHandler`]s.
//!
//! What a `Catalog` makes of them differs from Lodestone's own replies in what the trait has no form for.
//! While the objects are not listed yet, a name that is not found is REFUSED and not SERVFAIL: the catalog
//! turns other errors of an authoritative zone into NOERROR, which would deny the name. An
//! `ExternalName` Service is its CNAME record alone. Zone transfers are refused.

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use hickory_server::{
    proto::{
        op::ResponseCode,
        rr::{DNSClass, LowerName, Name, Record, RecordType, TSigResponseContext},
        serialize::binary::BinEncodable,
    },
    server::{Request, RequestInfo},
    zone_handler::{
        AuthLookup, AxfrPolicy, Catalog, LookupControlFlow, LookupError, LookupOptions,
        LookupRecords, ZoneHandler, ZoneTransfer, ZoneType,
    },
};
use tokio::runtime::Handle;

use super::record;
use crate::{
    cluster::{ClusterSource, Settings, SourceError},
    query::Question,
    reply::{Owner, Reply, Section},
    wire::{self, Class, MAX_MESSAGE, NameError, Rcode, Type},
    zone::{AnswerRules, ClusterLookup, ClusterView, Outcome, SizeBudget, Zones},
};

/// The zones of one cluster, kept up to date from its API server or from a directory of manifests for as
/// long as this or one of its zones is held.
pub struct ClusterZones {
    source: Arc<ClusterSource>,
    zones: Vec<Arc<ClusterZone>>,
}

/// Why zones cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ZonesError {
    /// A zone is not a domain name.
    #[error("'{0}' is not a domain name: {1}")]
    Name(String, NameError),
    /// There is no zone for the names of Services.
    #[error("a zone that is not a reverse zone is needed, such as cluster.local")]
    NoZone,
    /// There is no tokio runtime to watch the cluster on.
    #[error("there is no tokio runtime: call this within one")]
    NoRuntime,
    /// The settings lead to no cluster.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// One zone of a cluster.
pub struct ClusterZone {
    origin: LowerName,
    view: Arc<ClusterView>,
    /// Runs for as long as a zone that it feeds.
    _source: Arc<ClusterSource>,
}

impl ClusterZones {
    /// Starts to watch what `settings` name, for these zones: at least one for the names of Services
    /// (`cluster.local`), and reverse zones (`10.in-addr.arpa`) as wanted. Returns at once; until the objects
    /// are listed ([`Self::synced`]) what is not found is refused.
    ///
    /// `local` are the addresses of this server: the Service that has one of them as an endpoint is the name
    /// server in the NS records, and without one they are the addresses of `ns.dns.` in the zone.
    pub fn start(
        zones: &[&str],
        settings: Settings,
        rules: AnswerRules,
        local: &[IpAddr],
    ) -> Result<Self, ZonesError> {
        let parse = |zone: &&str| {
            let parsed = wire::Name::parse(zone);
            parsed.map_err(|error| ZonesError::Name((*zone).to_owned(), error))
        };
        let names = zones.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let zones = Zones::new(&names).ok_or(ZonesError::NoZone)?;
        let runtime = Handle::try_current().map_err(|_| ZonesError::NoRuntime)?;
        let source = Arc::new(ClusterSource::start(settings, &runtime)?);
        let cluster = Arc::clone(source.cluster());
        let view = Arc::new(ClusterView::new(cluster, zones, rules, local.into()));
        let zone = |name: &wire::Name| {
            let origin = record::name(name.as_ref()).unwrap_or_default();
            Arc::new(ClusterZone {
                origin: LowerName::new(&origin),
                view: Arc::clone(&view),
                _source: Arc::clone(&source),
            })
        };
        let zones = names.iter().map(zone).collect();
        Ok(Self { source, zones })
    }

    /// Waits until all objects are listed.
    pub async fn synced(&self) {
        self.source.cluster().wait_synced().await;
    }

    /// The zones, to be put into a catalog.
    pub fn zones(&self) -> &[Arc<ClusterZone>] {
        &self.zones
    }

    /// A catalog of these zones and nothing else.
    pub fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::new();
        for zone in &self.zones {
            catalog.upsert(zone.origin.clone(), vec![Arc::clone(zone) as _]);
        }
        catalog
    }
}

impl ClusterZone {
    fn answer(&self, name: &Name, rtype: RecordType) -> LookupControlFlow<AuthLookup> {
        let wire = name.to_bytes().ok();
        let Some(Ok(name)) = wire.map(|wire| wire::Name::from_wire(&wire)) else {
            return refused();
        };
        let question = Question::new(name, Type(rtype.into()), Class::IN);
        // More than any message takes is not made; hickory-server cuts the rest and sets TC.
        let budget = || SizeBudget::new(MAX_MESSAGE, |count| rand::random_range(..count.max(1)));
        let mut reply = Reply::default();
        match self.view.answer_within(&question, budget, &mut reply) {
            Outcome::Answered | Outcome::Alias(_) => found(&question, &reply),
            Outcome::Denied(why) if self.view.can_deny(why) => {
                LookupControlFlow::Continue(Err(ResponseCode::NXDomain.into()))
            }
            Outcome::Denied(_) | Outcome::Outside => refused(),
        }
    }
}

fn refused() -> LookupControlFlow<AuthLookup> {
    LookupControlFlow::Break(Err(ResponseCode::Refused.into()))
}

/// What the cluster has under a name that exists.
fn found(question: &Question, reply: &Reply) -> LookupControlFlow<AuthLookup> {
    if reply.rcode != Rcode::NOERROR {
        return refused();
    }
    let (Some(answers), Some(additionals)) = (
        records(question, reply, Section::Answer),
        records(question, reply, Section::Additional),
    ) else {
        return refused();
    };
    if answers.is_empty() {
        return LookupControlFlow::Continue(Err(LookupError::for_name_exists()));
    }
    let additionals = (!additionals.is_empty()).then_some(LookupRecords::Section(additionals));
    let answers = LookupRecords::Section(answers);
    LookupControlFlow::Continue(Ok(AuthLookup::answers(answers, additionals)))
}

fn records(question: &Question, reply: &Reply, section: Section) -> Option<Vec<Record>> {
    let section = reply.section(section).iter();
    let records = section.map(|it| {
        let owner = match reply.owner(it) {
            Owner::Question => question.name.as_ref(),
            Owner::Name(name) => name,
        };
        record::record(owner, it.rtype, it.class, it.ttl, reply.data(it))
    });
    records.collect()
}

#[async_trait]
impl ZoneHandler for ClusterZone {
    fn zone_type(&self) -> ZoneType {
        ZoneType::Primary
    }

    fn axfr_policy(&self) -> AxfrPolicy {
        AxfrPolicy::Deny
    }

    fn origin(&self) -> &LowerName {
        &self.origin
    }

    async fn lookup(
        &self,
        name: &LowerName,
        rtype: RecordType,
        _request_info: Option<&RequestInfo<'_>>,
        _lookup_options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        self.answer(name, rtype)
    }

    async fn search(
        &self,
        request: &Request,
        _lookup_options: LookupOptions,
    ) -> (LookupControlFlow<AuthLookup>, Option<TSigResponseContext>) {
        let result = match request.request_info() {
            Ok(info) if info.query.query_class() == DNSClass::IN => {
                // As spelled by the client, so that its owner names are.
                let asked = info.query.original();
                self.answer(asked.name(), asked.query_type())
            }
            Ok(_) => refused(),
            Err(error) => LookupControlFlow::Break(Err(error)),
        };
        (result, None)
    }

    async fn nsec_records(
        &self,
        _name: &LowerName,
        _lookup_options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        LookupControlFlow::Skip
    }

    async fn zone_transfer(
        &self,
        _request: &Request,
        _lookup_options: LookupOptions,
        _now: u64,
    ) -> Option<(
        Result<ZoneTransfer, LookupError>,
        Option<TSigResponseContext>,
    )> {
        Some((Err(ResponseCode::Refused.into()), None))
    }

    #[cfg(feature = "hickory-dnssec")]
    async fn nsec3_records(
        &self,
        _info: hickory_server::zone_handler::Nsec3QueryInfo<'_>,
        _lookup_options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        LookupControlFlow::Skip
    }

    #[cfg(feature = "hickory-dnssec")]
    fn nx_proof_kind(&self) -> Option<&hickory_server::dnssec::NxProofKind> {
        None
    }
}
