//! Makes records from the values in etcd.
//!
//! ```text
//! keys      the services at a name
//! aliases   addresses and texts of a name, through aliases
//! record    records in wire form
//! ```

mod aliases;
mod keys;
mod record;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, atomic::AtomicUsize},
    time::{SystemTime, UNIX_EPOCH},
};

use self::{
    aliases::DeadEnd,
    record::{WireRecord, address_of, named},
};
use super::{
    Store,
    service::{ServiceHost, SkyDnsService},
};
use crate::{
    plugin::{Block, SubQueryHandler},
    query::Query,
    reply::{Data, Owner, Reply, Section, Soa, Why},
    wire::{Name, Rcode, Type},
};

/// Calls to etcd for one query at most: aliases may fan out.
pub(super) const BUDGET: usize = 64;
/// The TTL of a denial in seconds.
const NEGATIVE_TTL: u32 = 30;

/// The lookups for one query.
pub(super) struct EtcdLookup {
    pub(super) store: Arc<Store>,
    pub(super) zone: Name,
    pub(super) query: Query,
    pub(super) sub_queries: Arc<dyn SubQueryHandler>,
    pub(super) block: Arc<Block>,
    /// Calls to etcd that are left.
    pub(super) budget: AtomicUsize,
}

#[derive(Default)]
struct Records {
    answer: Vec<WireRecord>,
    additional: Vec<WireRecord>,
    end: Option<DeadEnd>,
}

/// Why there are no records.
enum LookupError {
    /// There is no such key.
    NoKey,
    /// The call failed, or no value is readable.
    Failure(String),
}

type EtcdResult<T> = Result<T, LookupError>;

impl EtcdLookup {
    /// The reply; `None` if there is no such key.
    pub(super) async fn answer(&self) -> Option<Reply> {
        let records = match self.records().await {
            Ok(records) => records,
            Err(LookupError::NoKey) => return None,
            Err(LookupError::Failure(cause)) => {
                let mut reply = Reply::default();
                fail(&mut reply, cause);
                return Some(reply);
            }
        };
        let mut reply = ours();
        self.put(&mut reply, Section::Answer, &records.answer);
        self.put(&mut reply, Section::Additional, &records.additional);
        match records.end {
            Some(DeadEnd::Elsewhere(target)) => target.end(&mut reply),
            Some(DeadEnd::Failure(cause)) => fail(&mut reply, cause),
            Some(DeadEnd::NoData) => self.put_soa(&mut reply, Section::Authority),
            None if records.answer.is_empty() => self.put_soa(&mut reply, Section::Authority),
            None => {}
        }
        Some(reply)
    }

    /// The reply for a name that has no key. The apex of a zone exists without one: it has an SOA
    /// record.
    pub(super) fn no_key(&self) -> Reply {
        let mut reply = ours();
        if self.query.question.lower != self.zone {
            reply.rcode = Rcode::NXDOMAIN;
        }
        self.put_soa(&mut reply, Section::Authority);
        reply
    }

    async fn records(&self) -> EtcdResult<Records> {
        let question = &self.query.question;
        let (name, owner) = (question.lower, question.name);
        let only = |answer| Records {
            answer,
            ..Records::default()
        };
        match question.rtype {
            Type::A | Type::AAAA | Type::TXT => {
                let rtype = question.rtype;
                let chain = self.direct(name, owner, rtype, Vec::new()).await?;
                Ok(Records {
                    end: chain.end,
                    ..only(chain.made)
                })
            }
            Type::CNAME => self.alias(name, owner).await.map(only),
            Type::PTR => self.pointers(name, owner).await.map(only),
            Type::SRV => self.srv_records(name, owner).await,
            Type::MX => self.mails(name, owner).await,
            Type::SOA if name == self.zone => Ok(only(vec![self.soa()])),
            Type::NS if name == self.zone => self.servers(owner).await,
            // NODATA or NXDOMAIN: depends on whether the name exists.
            _ => {
                self.services_of(name, Type::A).await?;
                Ok(Records::default())
            }
        }
    }

    async fn alias(&self, name: Name, owner: Name) -> EtcdResult<Vec<WireRecord>> {
        let services = self.services(name, Type::CNAME, true).await?;
        Ok(named(services.first(), owner, Type::CNAME))
    }

    async fn pointers(&self, name: Name, owner: Name) -> EtcdResult<Vec<WireRecord>> {
        let services = self.services(name, Type::PTR, true).await?;
        let mut seen = HashSet::new();
        let each = services
            .iter()
            .filter(|service| seen.insert(service.host.clone()));
        Ok(named(each, owner, Type::PTR))
    }

    async fn srv_records(&self, name: Name, owner: Name) -> EtcdResult<Records> {
        let services = self.services(name, Type::SRV, false).await?;
        // The weights of the services of one priority add up to 100.
        let mut sums: BTreeMap<i64, i64> = BTreeMap::new();
        let weight = |service: &SkyDnsService| match service.weight {
            0 => 100,
            own => own,
        };
        for service in &services {
            let sum = sums.entry(service.priority).or_default();
            *sum = sum.saturating_add(weight(service));
        }
        let mut records = Records::default();
        let (mut seen, mut known) = (HashSet::new(), HashSet::new());
        let has_port =
            |service: &&SkyDnsService| service.port != -1 && service.host() != ServiceHost::Text;
        for service in services.iter().filter(has_port) {
            let Some(target) = service.target(&self.store.path) else {
                continue;
            };
            let share =
                100 * i128::from(weight(service)) / i128::from(sums[&service.priority]).max(1);
            let mut data = Vec::new();
            for word in [
                service.priority,
                share.max(1).try_into().unwrap_or(1),
                service.port,
            ] {
                data.extend(number(word).to_be_bytes());
            }
            data.extend(target.as_wire());
            let is_name = service.host() == ServiceHost::Name;
            // One SRV record for each target and port, however many addresses there are.
            if is_name || seen.insert((target, service.port)) {
                records.answer.push(WireRecord {
                    owner,
                    rtype: Type::SRV,
                    ttl: service.ttl,
                    data,
                });
            }
            self.add_addresses(service, target, &mut known, &mut records.additional)
                .await;
        }
        Ok(records)
    }

    async fn mails(&self, name: Name, owner: Name) -> EtcdResult<Records> {
        let services = self.services(name, Type::MX, false).await?;
        let mut records = Records::default();
        let (mut seen, mut known) = (HashSet::new(), HashSet::new());
        let is_mail =
            |service: &&SkyDnsService| service.mail && service.host() != ServiceHost::Text;
        for service in services.iter().filter(is_mail) {
            let Some(target) = service.target(&self.store.path) else {
                continue;
            };
            let mut data = number(service.priority).to_be_bytes().to_vec();
            data.extend(target.as_wire());
            if service.host() == ServiceHost::Name || seen.insert((target, service.priority)) {
                records.answer.push(WireRecord {
                    owner,
                    rtype: Type::MX,
                    ttl: service.ttl,
                    data,
                });
            }
            self.add_addresses(service, target, &mut known, &mut records.additional)
                .await;
        }
        Ok(records)
    }

    async fn servers(&self, owner: Name) -> EtcdResult<Records> {
        let key_name = below("ns.dns", self.zone).ok_or(LookupError::NoKey)?;
        let mut records = Records::default();
        let mut seen = HashSet::new();
        for service in self.services(key_name, Type::NS, false).await? {
            let ServiceHost::Address(address) = service.host() else {
                let text = format!("NS record must be an IP address: {}", service.host);
                return Err(LookupError::Failure(text));
            };
            let Some(target) = service.target(&self.store.path) else {
                continue;
            };
            if seen.insert(target) {
                records.answer.push(WireRecord {
                    owner,
                    rtype: Type::NS,
                    ttl: service.ttl,
                    data: target.as_wire().to_vec(),
                });
            }
            let made = address_of(target, service.ttl, address);
            records.additional.push(made);
        }
        Ok(records)
    }

    fn soa(&self) -> WireRecord {
        let mut reply = Reply::default();
        self.put_soa(&mut reply, Section::Answer);
        let data = reply.data(&reply.section(Section::Answer)[0]).to_vec();
        WireRecord {
            owner: self.zone,
            rtype: Type::SOA,
            ttl: NEGATIVE_TTL,
            data,
        }
    }

    fn put_soa(&self, reply: &mut Reply, section: Section) {
        let (Some(primary), Some(mailbox)) =
            (below("ns.dns", self.zone), below("hostmaster", self.zone))
        else {
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let soa = Soa {
            primary: primary.as_ref(),
            mailbox: mailbox.as_ref(),
            // The time as serial: it increases with every change, and wraps around (RFC 1982).
            serial: u32::try_from(now.unwrap_or_default().as_secs() & 0xFFFF_FFFF)
                .expect("what is left has 32 bits"),
            refresh: 7200,
            retry: 1800,
            expire: 86400,
            minimum: NEGATIVE_TTL,
        };
        let owner = Owner::Name(self.zone.as_ref());
        reply.push(section, owner, Type::SOA, NEGATIVE_TTL, Data::Soa(soa));
    }

    fn put(&self, reply: &mut Reply, section: Section, records: &[WireRecord]) {
        for made in records {
            let owner = if made.owner.to_lower() == self.query.question.lower {
                Owner::Question
            } else {
                Owner::Name(made.owner.as_ref())
            };
            reply.push(section, owner, made.rtype, made.ttl, Data::Raw(&made.data));
        }
    }
}

/// Turns a reply into a failure; its records stay.
fn fail(reply: &mut Reply, cause: String) {
    reply.rcode = Rcode::SERVFAIL;
    reply.why = Why::UpstreamUnreachable;
    reply.cause = Some(cause.into());
}

/// An empty authoritative reply.
fn ours() -> Reply {
    let mut reply = Reply::default();
    reply.authoritative = true;
    reply.why = Why::Synthesized;
    reply
}

/// `label` below `zone`; `None` if the name would be too long.
fn below(label: &str, zone: Name) -> Option<Name> {
    let label = Name::parse(label).expect("well-formed");
    label.join(zone.as_ref()).ok()
}

fn number(value: i64) -> u16 {
    u16::try_from(value.clamp(0, u16::MAX.into())).expect("clamped")
}
