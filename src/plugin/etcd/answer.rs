//! Makes records from the values in etcd.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    Store,
    service::{Host, Service, grouped, is_wild, parts},
};
use crate::{
    plugin::{
        Block, Context, Door,
        alias::{self, Target},
    },
    query::Query,
    reply::{Data, Owner, Reply, Section, Soa, Why},
    wire::{Name, Rcode, Type},
};

/// Aliases that are followed in a chain.
const MAX_ALIASES: usize = 10;
/// Calls to etcd for one query at most: aliases may fan out.
pub(super) const BUDGET: usize = 64;
/// The TTL of a denial in seconds.
const NEGATIVE_TTL: u32 = 30;

/// The lookups for one query.
pub(super) struct Lookup {
    pub(super) store: Arc<Store>,
    pub(super) zone: Name,
    pub(super) query: Query,
    pub(super) door: Arc<dyn Door>,
    pub(super) block: Arc<Block>,
    /// Calls to etcd that are left.
    pub(super) budget: AtomicUsize,
}

/// A record for the reply, with its data in wire form.
#[derive(Clone, Debug)]
struct WireRecord {
    owner: Name,
    rtype: Type,
    ttl: u32,
    data: Vec<u8>,
}

#[derive(Default)]
struct Records {
    answer: Vec<WireRecord>,
    additional: Vec<WireRecord>,
    end: Option<DeadEnd>,
}

/// A chain of aliases and the records of its last name.
struct Chain {
    made: Vec<WireRecord>,
    /// The reason, if there are aliases only.
    end: Option<DeadEnd>,
}

/// Why a chain of aliases has no data.
enum DeadEnd {
    /// The last name is in the zone, without such a record.
    NoData,
    /// The lookup of the last name failed.
    Failure(String),
    /// The last name is of another zone, or has no key here.
    Elsewhere(Box<Target>),
}

/// Why there are no records.
enum LookupError {
    /// There is no such key.
    NoKey,
    /// The call failed, or no value is readable.
    Failure(String),
}

type LookupResult<T> = Result<T, LookupError>;
type BoxFuture<'l, T> = Pin<Box<dyn Future<Output = T> + Send + 'l>>;

impl Lookup {
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

    async fn records(&self) -> LookupResult<Records> {
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

    /// The services of a name, for address lookups: at the apex of the zone those of the key `apex.dns`,
    /// or without that key those of the entire zone unless `no_apex_fallback` is set.
    async fn services_of(&self, name: Name, rtype: Type) -> LookupResult<Vec<Service>> {
        if name == self.zone
            && rtype != Type::TXT
            && let Some(apex) = below("apex.dns", self.zone)
        {
            match self.services(apex, rtype, false).await {
                Err(LookupError::NoKey) if self.store.apex_fallback => {}
                found => return found,
            }
        }
        self.services(name, rtype, false).await
    }

    /// The services at a name and below it, or only at it if `exact`. Unreadable values are left out; if
    /// there are no others, the lookup fails, because the name may have data.
    async fn services(&self, name: Name, rtype: Type, exact: bool) -> LookupResult<Vec<Service>> {
        let parts = parts(name.as_ref()).ok_or(LookupError::NoKey)?;
        if self.budget.fetch_sub(1, Ordering::Relaxed) == 0 {
            // The counter wrapped around: the budget stays exhausted.
            self.budget.store(0, Ordering::Relaxed);
            return Err(LookupError::Failure(
                "aliases lead to too many keys".to_owned(),
            ));
        }
        let known = parts.iter().position(|part| is_wild(part));
        let wild = known.is_some();
        let mut path = self.store.path.clone();
        for part in &parts[..known.unwrap_or(parts.len())] {
            path.push('/');
            path.push_str(part);
        }
        let client = &self.store.client;
        let fail =
            |error: crate::upstream::RpcError| LookupError::Failure(format!("etcd: {error}"));
        let mut values = Vec::new();
        if !exact {
            values = client.get(&format!("{path}/"), true).await.map_err(fail)?;
        }
        if values.is_empty() {
            values = client.get(&path, false).await.map_err(fail)?;
        }
        if values.is_empty() {
            return Err(LookupError::NoKey);
        }
        let mut leases = HashMap::new();
        let mut seen = HashSet::new();
        let mut services = Vec::new();
        let (mut readable, mut unreadable) = (0, None);
        for one in &values {
            if wild && !self.fits(&one.key, &parts) {
                continue;
            }
            let mut service = match Service::read(one) {
                Ok(service) => service,
                Err(why) => {
                    self.store.unreadable.report(one, &why);
                    unreadable = Some(why);
                    continue;
                }
            };
            readable += 1;
            if !seen.insert(service.clone()) {
                continue;
            }
            let mut left = None;
            if one.lease != 0 {
                let known = leases.get(&one.lease).copied();
                left = if let Some(known) = known {
                    known
                } else {
                    // A lease that cannot be looked up does not bound the TTL.
                    let left = client.time_to_live(one.lease).await.ok();
                    leases.insert(one.lease, left);
                    left
                };
            }
            service.ttl = self.store.leases.ttl(service.ttl, left);
            if !service.host.is_empty() || (rtype == Type::TXT && !service.text.is_empty()) {
                services.push(service);
            }
        }
        match unreadable {
            Some(why) if readable == 0 => Err(LookupError::Failure(why)),
            _ => Ok(grouped(services)),
        }
    }

    /// Whether a key matches a name with wildcard labels.
    fn fits(&self, key: &[u8], parts: &[String]) -> bool {
        let Some(below) = key.strip_prefix(self.store.path.as_bytes()) else {
            return false;
        };
        let below = String::from_utf8_lossy(below);
        let mut key_parts = below.split('/').skip(1);
        parts.iter().all(|part| {
            key_parts
                .next()
                .is_some_and(|own| is_wild(part) || own == part)
        })
    }

    /// Addresses or texts, and the aliases to them. An alias without data is omitted, unless there is
    /// nothing else.
    fn direct(
        &self,
        name: Name,
        owner: Name,
        rtype: Type,
        aliases: Vec<Name>,
    ) -> BoxFuture<'_, LookupResult<Chain>> {
        Box::pin(async move {
            let mut made = Vec::new();
            let mut dead_end = None;
            let mut seen = HashSet::new();
            for service in self.services_of(name, rtype).await? {
                let own = |data| WireRecord {
                    owner,
                    rtype,
                    ttl: service.ttl,
                    data,
                };
                match (service.host(), rtype) {
                    (Host::Address(IpAddr::V4(ip)), Type::A)
                        if seen.insert(service.host.clone()) =>
                    {
                        made.push(own(ip.octets().to_vec()));
                    }
                    (Host::Address(IpAddr::V6(ip)), Type::AAAA)
                        if seen.insert(service.host.clone()) =>
                    {
                        made.push(own(ip.octets().to_vec()));
                    }
                    (Host::Text, Type::TXT) if seen.insert(service.text.clone()) => {
                        made.push(own(strings(&service.text)));
                    }
                    (Host::Name, _) => {
                        match self.follow(name, owner, &service, rtype, &aliases).await {
                            Some(chain) if chain.end.is_none() => made.extend(chain.made),
                            Some(chain) => drop(dead_end.get_or_insert(chain)),
                            None => {}
                        }
                    }
                    _ => {}
                }
            }
            Ok(match dead_end {
                Some(chain) if made.is_empty() => chain,
                _ => Chain { made, end: None },
            })
        })
    }

    /// An alias and the records of its target. `None` if it is no alias, or is part of a loop.
    async fn follow(
        &self,
        name: Name,
        owner: Name,
        service: &Service,
        rtype: Type,
        aliases: &[Name],
    ) -> Option<Chain> {
        let target = Name::parse(&service.host).ok()?;
        let lower = target.to_lower();
        // The services of a host include those of all names below it, so that a target above `name`
        // is a loop too.
        let leads_back = name.as_ref().is_under(lower.as_ref()) || aliases.contains(&lower);
        if leads_back || aliases.len() > MAX_ALIASES {
            return None;
        }
        let mut made = vec![WireRecord {
            owner,
            rtype: Type::CNAME,
            ttl: service.ttl,
            data: target.as_wire().to_vec(),
        }];
        if lower.as_ref().is_under(self.zone.as_ref()) {
            let mut aliases = aliases.to_vec();
            aliases.push(lower);
            let end = match self.direct(lower, target, rtype, aliases).await {
                Ok(chain) if chain.made.is_empty() => Some(DeadEnd::NoData),
                Ok(chain) => {
                    made.extend(chain.made);
                    chain.end
                }
                Err(LookupError::Failure(cause)) => Some(DeadEnd::Failure(cause)),
                // A name without a key may be answered by the next plugin.
                Err(LookupError::NoKey) => self.append(target, rtype, &mut made).await,
            };
            return Some(Chain { made, end });
        }
        let end = self.append(target, rtype, &mut made).await;
        Some(Chain { made, end })
    }

    /// Appends the records of a name that the server resolves. Returns the reason if there are none.
    async fn append(&self, name: Name, rtype: Type, made: &mut Vec<WireRecord>) -> Option<DeadEnd> {
        let target = self.elsewhere(name, rtype).await;
        made.extend(records_of(&target));
        target
            .is_dead_end()
            .then_some(DeadEnd::Elsewhere(Box::new(target)))
    }

    /// Resolves a name of another zone through the server.
    async fn elsewhere(&self, name: Name, rtype: Type) -> Target {
        let context = Context {
            door: &self.door,
            block: &self.block,
        };
        alias::resolve_as(&context, &self.query, name, rtype).await
    }

    async fn alias(&self, name: Name, owner: Name) -> LookupResult<Vec<WireRecord>> {
        let services = self.services(name, Type::CNAME, true).await?;
        Ok(named(services.first(), owner, Type::CNAME))
    }

    async fn pointers(&self, name: Name, owner: Name) -> LookupResult<Vec<WireRecord>> {
        let services = self.services(name, Type::PTR, true).await?;
        let mut seen = HashSet::new();
        let each = services
            .iter()
            .filter(|service| seen.insert(service.host.clone()));
        Ok(named(each, owner, Type::PTR))
    }

    async fn srv_records(&self, name: Name, owner: Name) -> LookupResult<Records> {
        let services = self.services(name, Type::SRV, false).await?;
        // The weights of the services of one priority add up to 100.
        let mut sums: BTreeMap<i64, i64> = BTreeMap::new();
        let weight = |service: &Service| match service.weight {
            0 => 100,
            own => own,
        };
        for service in &services {
            let sum = sums.entry(service.priority).or_default();
            *sum = sum.saturating_add(weight(service));
        }
        let mut records = Records::default();
        let (mut seen, mut known) = (HashSet::new(), HashSet::new());
        let has_port = |service: &&Service| service.port != -1 && service.host() != Host::Text;
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
            let is_name = service.host() == Host::Name;
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

    async fn mails(&self, name: Name, owner: Name) -> LookupResult<Records> {
        let services = self.services(name, Type::MX, false).await?;
        let mut records = Records::default();
        let (mut seen, mut known) = (HashSet::new(), HashSet::new());
        let is_mail = |service: &&Service| service.mail && service.host() != Host::Text;
        for service in services.iter().filter(is_mail) {
            let Some(target) = service.target(&self.store.path) else {
                continue;
            };
            let mut data = number(service.priority).to_be_bytes().to_vec();
            data.extend(target.as_wire());
            if service.host() == Host::Name || seen.insert((target, service.priority)) {
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

    /// The addresses of a target, for the additional section, once each.
    async fn add_addresses(
        &self,
        service: &Service,
        target: Name,
        known: &mut HashSet<(Name, Option<IpAddr>)>,
        out: &mut Vec<WireRecord>,
    ) {
        let address = match service.host() {
            Host::Address(address) => Some(address),
            Host::Name => None,
            Host::Text => return,
        };
        if !known.insert((target.to_lower(), address)) {
            return;
        }
        if let Some(address) = address {
            out.push(address_of(target, service.ttl, address));
            return;
        }
        let lower = target.to_lower();
        for rtype in [Type::A, Type::AAAA] {
            if lower.as_ref().is_under(self.zone.as_ref()) {
                let found = self.direct(lower, target, rtype, Vec::new()).await;
                let found = found.ok().filter(|chain| chain.end.is_none());
                out.extend(found.into_iter().flat_map(|chain| chain.made));
            } else {
                let found = records_of(&self.elsewhere(target, rtype).await).into_iter();
                // Aliases were appended with the addresses of the other family.
                out.extend(found.filter(|made| rtype == Type::A || made.rtype == Type::AAAA));
            }
        }
    }

    async fn servers(&self, owner: Name) -> LookupResult<Records> {
        let key_name = below("ns.dns", self.zone).ok_or(LookupError::NoKey)?;
        let mut records = Records::default();
        let mut seen = HashSet::new();
        for service in self.services(key_name, Type::NS, false).await? {
            let Host::Address(address) = service.host() else {
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

/// The records of a target's answer.
fn records_of(target: &Target) -> Vec<WireRecord> {
    let reply = target.found();
    let answer = reply.section(Section::Answer).iter();
    let made = answer.map(|record| WireRecord {
        owner: match reply.owner(record) {
            Owner::Question => target.name(),
            Owner::Name(owner) => owner.to_name(),
        },
        rtype: record.rtype,
        ttl: record.ttl,
        data: reply.data(record).to_vec(),
    });
    made.collect()
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

fn address_of(owner: Name, ttl: u32, address: IpAddr) -> WireRecord {
    let (rtype, data) = match address {
        IpAddr::V4(ip) => (Type::A, ip.octets().to_vec()),
        IpAddr::V6(ip) => (Type::AAAA, ip.octets().to_vec()),
    };
    WireRecord {
        owner,
        rtype,
        ttl,
        data,
    }
}

/// A record for each service whose host is a name.
fn named<'s>(
    services: impl IntoIterator<Item = &'s Service>,
    owner: Name,
    rtype: Type,
) -> Vec<WireRecord> {
    let made = services.into_iter().filter_map(|service| {
        let is_address = service.host.parse::<IpAddr>().is_ok();
        let target = Name::parse(&service.host).ok().filter(|_| !is_address)?;
        Some(WireRecord {
            owner,
            rtype,
            ttl: service.ttl,
            data: target.as_wire().to_vec(),
        })
    });
    made.collect()
}

/// A text as character strings, each prefixed with its length (RFC 1035 section 3.3).
fn strings(text: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(text.len() + 1);
    // Truncated to the size of a record (65,535 bytes, with the lengths).
    for piece in text.as_bytes()[..text.len().min(65_000)].chunks(255) {
        data.push(u8::try_from(piece.len()).expect("at most 255"));
        data.extend(piece);
    }
    if data.is_empty() {
        data.push(0);
    }
    data
}

fn number(value: i64) -> u16 {
    u16::try_from(value.clamp(0, u16::MAX.into())).expect("clamped")
}
