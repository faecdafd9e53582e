//! Records made of what etcd holds.

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

/// Aliases that are followed.
const MAX_ALIASES: usize = 10;
/// Names that are looked up for one question: aliases may fan out.
pub(super) const BUDGET: usize = 64;
/// Seconds that a denial may be kept.
const NEGATIVE_TTL: u32 = 30;

/// One question, and all that is needed to answer it.
pub(super) struct Lookup {
    pub(super) store: Arc<Store>,
    pub(super) zone: Name,
    pub(super) query: Query,
    pub(super) door: Arc<dyn Door>,
    pub(super) block: Arc<Block>,
    /// How often etcd may still be asked.
    pub(super) budget: AtomicUsize,
}

/// A record on its way into the reply, its data in wire form.
#[derive(Clone, Debug)]
struct Made {
    owner: Name,
    rtype: Type,
    ttl: u32,
    data: Vec<u8>,
}

#[derive(Default)]
struct Records {
    answer: Vec<Made>,
    additional: Vec<Made>,
    end: Option<DeadEnd>,
}

/// The records of a name, behind the aliases that lead to them.
struct Chain {
    made: Vec<Made>,
    /// Where there are aliases alone, why.
    end: Option<DeadEnd>,
}

/// Why a chain of aliases has no data.
enum DeadEnd {
    /// The last name is in the zone, without such a record.
    NoData,
    /// etcd did not say what the last name has.
    Failure(String),
    /// The last name is of another zone, or has no key here.
    Elsewhere(Box<Target>),
}

/// Why there are no records.
enum LocalError {
    /// There is no such key.
    Key,
    /// etcd did not say, or what it said makes no sense.
    Failure(String),
}

type Found<T> = Result<T, LocalError>;
type Waiting<'l, T> = Pin<Box<dyn Future<Output = T> + Send + 'l>>;

impl Lookup {
    /// The reply; nothing where there is no such key.
    pub(super) async fn answer(&self) -> Option<Reply> {
        let records = match self.records().await {
            Ok(records) => records,
            Err(LocalError::Key) => return None,
            Err(LocalError::Failure(cause)) => {
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

    /// The reply for a name that has no key. The top of a zone is there without one: it has an SOA
    /// record.
    pub(super) fn nobody(&self) -> Reply {
        let mut reply = ours();
        if self.query.question.lower != self.zone {
            reply.rcode = Rcode::NXDOMAIN;
        }
        self.put_soa(&mut reply, Section::Authority);
        reply
    }

    async fn records(&self) -> Found<Records> {
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
            Type::SRV => self.places(name, owner).await,
            Type::MX => self.mails(name, owner).await,
            Type::SOA if name == self.zone => Ok(only(vec![self.soa()])),
            Type::NS if name == self.zone => self.servers(owner).await,
            // Whether there is such a name.
            _ => {
                self.services_of(name, Type::A).await?;
                Ok(Records::default())
            }
        }
    }

    /// What is kept for a name, of what is asked for addresses: at the top of the zone, at a place
    /// of its own; where nothing is there, the whole zone unless the Corefile forbids it.
    async fn services_of(&self, name: Name, rtype: Type) -> Found<Vec<Service>> {
        if name == self.zone
            && rtype != Type::TXT
            && let Some(apex) = below("apex.dns", self.zone)
        {
            match self.services(apex, rtype, false).await {
                Err(LocalError::Key) if self.store.apex_fallback => {}
                found => return found,
            }
        }
        self.services(name, rtype, false).await
    }

    /// What is kept at a name and below it, or just at it.
    async fn services(&self, name: Name, rtype: Type, exact: bool) -> Found<Vec<Service>> {
        let parts = parts(name.as_ref()).ok_or(LocalError::Key)?;
        if self.budget.fetch_sub(1, Ordering::Relaxed) == 0 {
            // None is left for others either.
            self.budget.store(0, Ordering::Relaxed);
            return Err(LocalError::Failure(
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
        let fail = |error: crate::upstream::RpcError| LocalError::Failure(format!("etcd: {error}"));
        let mut kept = Vec::new();
        if !exact {
            kept = client.get(&format!("{path}/"), true).await.map_err(fail)?;
        }
        if kept.is_empty() {
            kept = client.get(&path, false).await.map_err(fail)?;
        }
        if kept.is_empty() {
            return Err(LocalError::Key);
        }
        let mut leases = HashMap::new();
        let mut seen = HashSet::new();
        let mut services = Vec::new();
        for one in &kept {
            if wild && !self.fits(&one.key, &parts) {
                continue;
            }
            let mut service = Service::read(one).map_err(LocalError::Failure)?;
            if !seen.insert(service.clone()) {
                continue;
            }
            let mut left = None;
            if one.lease != 0 {
                let known = leases.get(&one.lease).copied();
                left = if let Some(known) = known {
                    known
                } else {
                    // A lease that cannot be asked for tells nothing.
                    let told = client.time_to_live(one.lease).await.ok();
                    leases.insert(one.lease, told);
                    told
                };
            }
            service.ttl = self.store.leases.ttl(service.ttl, left);
            if !service.host.is_empty() || (rtype == Type::TXT && !service.text.is_empty()) {
                services.push(service);
            }
        }
        Ok(grouped(services))
    }

    /// Whether a key is one of a name with labels that stand for any.
    fn fits(&self, key: &[u8], parts: &[String]) -> bool {
        let Some(below) = key.strip_prefix(self.store.path.as_bytes()) else {
            return false;
        };
        let below = String::from_utf8_lossy(below);
        let mut kept = below.split('/').skip(1);
        parts
            .iter()
            .all(|part| kept.next().is_some_and(|own| is_wild(part) || own == part))
    }

    /// Addresses or texts, and the aliases that lead to them. An alias that leads nowhere is left
    /// out, unless there is nothing else.
    fn direct(
        &self,
        name: Name,
        owner: Name,
        rtype: Type,
        aliases: Vec<Name>,
    ) -> Waiting<'_, Found<Chain>> {
        Box::pin(async move {
            let mut made = Vec::new();
            let mut dead_end = None;
            let mut seen = HashSet::new();
            for service in self.services_of(name, rtype).await? {
                let own = |data| Made {
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

    /// An alias and what it leads to; nothing where it is no alias, or leads back.
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
        // A name below the host is found there again, and so would be the host.
        let leads_back = name.as_ref().is_under(lower.as_ref()) || aliases.contains(&lower);
        if leads_back || aliases.len() > MAX_ALIASES {
            return None;
        }
        let mut made = vec![Made {
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
                Err(LocalError::Failure(cause)) => Some(DeadEnd::Failure(cause)),
                // A name without a key here may be known to the next plugin.
                Err(LocalError::Key) => self.append(target, rtype, &mut made).await,
            };
            return Some(Chain { made, end });
        }
        let end = self.append(target, rtype, &mut made).await;
        Some(Chain { made, end })
    }

    /// Appends the records of a name that the server itself resolves, and gives why there are none.
    async fn append(&self, name: Name, rtype: Type, made: &mut Vec<Made>) -> Option<DeadEnd> {
        let target = self.elsewhere(name, rtype).await;
        made.extend(records_of(&target));
        target
            .is_dead_end()
            .then_some(DeadEnd::Elsewhere(Box::new(target)))
    }

    /// What the server itself answers about a name of another zone.
    async fn elsewhere(&self, name: Name, rtype: Type) -> Target {
        let context = Context {
            door: &self.door,
            block: &self.block,
        };
        alias::resolve_as(&context, &self.query, name, rtype).await
    }

    async fn alias(&self, name: Name, owner: Name) -> Found<Vec<Made>> {
        let services = self.services(name, Type::CNAME, true).await?;
        Ok(named(services.first(), owner, Type::CNAME))
    }

    async fn pointers(&self, name: Name, owner: Name) -> Found<Vec<Made>> {
        let services = self.services(name, Type::PTR, true).await?;
        let mut seen = HashSet::new();
        let each = services
            .iter()
            .filter(|service| seen.insert(service.host.clone()));
        Ok(named(each, owner, Type::PTR))
    }

    async fn places(&self, name: Name, owner: Name) -> Found<Records> {
        let services = self.services(name, Type::SRV, false).await?;
        // The weights of one priority make a hundred.
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
        let told = |service: &&Service| service.port != -1 && service.host() != Host::Text;
        for service in services.iter().filter(told) {
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
            // One place for each port, whatever its addresses.
            if is_name || seen.insert((target, service.port)) {
                records.answer.push(Made {
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

    async fn mails(&self, name: Name, owner: Name) -> Found<Records> {
        let services = self.services(name, Type::MX, false).await?;
        let mut records = Records::default();
        let (mut seen, mut known) = (HashSet::new(), HashSet::new());
        let told = |service: &&Service| service.mail && service.host() != Host::Text;
        for service in services.iter().filter(told) {
            let Some(target) = service.target(&self.store.path) else {
                continue;
            };
            let mut data = number(service.priority).to_be_bytes().to_vec();
            data.extend(target.as_wire());
            if service.host() == Host::Name || seen.insert((target, service.priority)) {
                records.answer.push(Made {
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
        out: &mut Vec<Made>,
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
                // Aliases came with the addresses of the other family.
                out.extend(found.filter(|made| rtype == Type::A || made.rtype == Type::AAAA));
            }
        }
    }

    async fn servers(&self, owner: Name) -> Found<Records> {
        let place = below("ns.dns", self.zone).ok_or(LocalError::Key)?;
        let mut records = Records::default();
        let mut seen = HashSet::new();
        for service in self.services(place, Type::NS, false).await? {
            let Host::Address(address) = service.host() else {
                let text = format!("NS record must be an IP address: {}", service.host);
                return Err(LocalError::Failure(text));
            };
            let Some(target) = service.target(&self.store.path) else {
                continue;
            };
            if seen.insert(target) {
                records.answer.push(Made {
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

    fn soa(&self) -> Made {
        let mut reply = Reply::default();
        self.put_soa(&mut reply, Section::Answer);
        let data = reply.data(&reply.section(Section::Answer)[0]).to_vec();
        Made {
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
            // Whatever changes, changes with time; a serial wraps around.
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

    fn put(&self, reply: &mut Reply, section: Section, records: &[Made]) {
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
fn records_of(target: &Target) -> Vec<Made> {
    let reply = target.found();
    let answer = reply.section(Section::Answer).iter();
    let made = answer.map(|record| Made {
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

/// Makes a failure of a reply, whose records stay.
fn fail(reply: &mut Reply, cause: String) {
    reply.rcode = Rcode::SERVFAIL;
    reply.why = Why::UpstreamUnreachable;
    reply.cause = Some(cause.into());
}

/// An empty reply of our zone.
fn ours() -> Reply {
    let mut reply = Reply::default();
    reply.authoritative = true;
    reply.why = Why::Synthesized;
    reply
}

/// `label` below `zone`, unless that is too long for a name.
fn below(label: &str, zone: Name) -> Option<Name> {
    let label = Name::parse(label).expect("well-formed");
    label.join(zone.as_ref()).ok()
}

fn address_of(owner: Name, ttl: u32, address: IpAddr) -> Made {
    let (rtype, data) = match address {
        IpAddr::V4(ip) => (Type::A, ip.octets().to_vec()),
        IpAddr::V6(ip) => (Type::AAAA, ip.octets().to_vec()),
    };
    Made {
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
) -> Vec<Made> {
    let made = services.into_iter().filter_map(|service| {
        let is_address = service.host.parse::<IpAddr>().is_ok();
        let target = Name::parse(&service.host).ok().filter(|_| !is_address)?;
        Some(Made {
            owner,
            rtype,
            ttl: service.ttl,
            data: target.as_wire().to_vec(),
        })
    });
    made.collect()
}

/// A text as character strings, each behind its length.
fn strings(text: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(text.len() + 1);
    // More than a record can hold is cut.
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
