//! The services at a name: from its keys in etcd.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

use super::{
    super::service::{SkyDnsService, grouped, is_wild, parts},
    EtcdLookup, EtcdResult, LookupError, below,
};
use crate::wire::{Name, Type};

impl EtcdLookup {
    /// The services of a name, for address lookups: at the apex of the zone those of the key `apex.dns`,
    /// or without that key those of the entire zone unless `no_apex_fallback` is set.
    pub(super) async fn services_of(
        &self,
        name: Name,
        rtype: Type,
    ) -> EtcdResult<Vec<SkyDnsService>> {
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
    pub(super) async fn services(
        &self,
        name: Name,
        rtype: Type,
        exact: bool,
    ) -> EtcdResult<Vec<SkyDnsService>> {
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
            let mut service = match SkyDnsService::read(one) {
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
}
