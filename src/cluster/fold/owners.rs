//! Incremental updates of the index from addresses to entries.

use crate::cluster::shards::tag;
use crate::cluster::state::{AddressCount, AddressOwner, Cluster, ServiceKey};
use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

/// Adds an occurrence of an address in an entry: of its Service, or of an endpoint.
pub(super) fn add(cluster: &Cluster, address: IpAddr, service: bool, key: &Arc<ServiceKey>) {
    let hash = cluster.hash(address);
    let tag = tag(hash);
    let is = |it: &AddressOwner| it.tag == tag && it.key == *key;
    let known = cluster.owners.load(hash).iter().find(|it| is(it)).cloned();
    let owner = known.unwrap_or_else(|| AddressOwner {
        tag,
        count: AddressCount::default(),
        key: Arc::clone(key),
    });
    let count = owner.count.add(service);
    cluster
        .owners
        .put(hash, AddressOwner { count, ..owner }, is);
}

/// Removes an occurrence.
pub(super) fn remove(cluster: &Cluster, address: IpAddr, service: bool, key: &Arc<ServiceKey>) {
    let hash = cluster.hash(address);
    let tag = tag(hash);
    let is = |it: &AddressOwner| it.tag == tag && it.key == *key;
    let known = cluster.owners.load(hash).iter().find(|it| is(it)).cloned();
    match known {
        Some(known) if !known.count.remove(service).is_zero() => {
            let count = known.count.remove(service);
            cluster
                .owners
                .put(hash, AddressOwner { count, ..known }, is);
        }
        _ => cluster.owners.remove(hash, is),
    }
}

/// The multiset difference of `ours` and `theirs`, both sorted.
pub(super) fn difference(ours: &[IpAddr], theirs: &[IpAddr], mut each: impl FnMut(IpAddr)) {
    let mut theirs = theirs.iter().peekable();
    for our in ours {
        while theirs.next_if(|their| *their < our).is_some() {}
        match theirs.peek().map(|their| our.cmp(their)) {
            Some(Ordering::Equal) => drop(theirs.next()),
            _ => each(*our),
        }
    }
}
