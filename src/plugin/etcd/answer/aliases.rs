//! Addresses and texts of a name, through aliases: services whose host is a name.

use std::{collections::HashSet, future::Future, net::IpAddr, pin::Pin};

use super::{
    super::service::{ServiceHost, SkyDnsService},
    EtcdLookup, EtcdResult, LookupError,
    record::{WireRecord, address_of, records_of, strings},
};
use crate::{
    plugin::{
        Context,
        alias::{self, AliasTarget},
    },
    wire::{Name, Type},
};

/// Aliases that are followed in a chain.
const MAX_ALIASES: usize = 10;

/// A chain of aliases and the records of its last name.
pub(super) struct AliasChain {
    pub(super) made: Vec<WireRecord>,
    /// The reason, if there are aliases only.
    pub(super) end: Option<DeadEnd>,
}

/// Why a chain of aliases has no data.
pub(super) enum DeadEnd {
    /// The last name is in the zone, without such a record.
    NoData,
    /// The lookup of the last name failed.
    Failure(String),
    /// The last name is of another zone, or has no key here.
    Elsewhere(Box<AliasTarget>),
}

type BoxFuture<'l, T> = Pin<Box<dyn Future<Output = T> + Send + 'l>>;

impl EtcdLookup {
    /// Addresses or texts, and the aliases to them. An alias without data is omitted, unless there is
    /// nothing else.
    pub(super) fn direct(
        &self,
        name: Name,
        owner: Name,
        rtype: Type,
        aliases: Vec<Name>,
    ) -> BoxFuture<'_, EtcdResult<AliasChain>> {
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
                    (ServiceHost::Address(IpAddr::V4(ip)), Type::A)
                        if seen.insert(service.host.clone()) =>
                    {
                        made.push(own(ip.octets().to_vec()));
                    }
                    (ServiceHost::Address(IpAddr::V6(ip)), Type::AAAA)
                        if seen.insert(service.host.clone()) =>
                    {
                        made.push(own(ip.octets().to_vec()));
                    }
                    (ServiceHost::Text, Type::TXT) if seen.insert(service.text.clone()) => {
                        made.push(own(strings(&service.text)));
                    }
                    (ServiceHost::Name, _) => {
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
                _ => AliasChain { made, end: None },
            })
        })
    }

    /// An alias and the records of its target. `None` if it is no alias, or is part of a loop.
    async fn follow(
        &self,
        name: Name,
        owner: Name,
        service: &SkyDnsService,
        rtype: Type,
        aliases: &[Name],
    ) -> Option<AliasChain> {
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
            return Some(AliasChain { made, end });
        }
        let end = self.append(target, rtype, &mut made).await;
        Some(AliasChain { made, end })
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
    async fn elsewhere(&self, name: Name, rtype: Type) -> AliasTarget {
        let context = Context {
            sub_queries: &self.sub_queries,
            block: &self.block,
        };
        alias::resolve_as(&context, &self.query, name, rtype).await
    }

    /// The addresses of a target, for the additional section, once each.
    pub(super) async fn add_addresses(
        &self,
        service: &SkyDnsService,
        target: Name,
        known: &mut HashSet<(Name, Option<IpAddr>)>,
        out: &mut Vec<WireRecord>,
    ) {
        let address = match service.host() {
            ServiceHost::Address(address) => Some(address),
            ServiceHost::Name => None,
            ServiceHost::Text => return,
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
}
