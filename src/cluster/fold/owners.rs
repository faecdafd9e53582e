//! The index from addresses to entries, kept by differences: what an event does not change is
//! not touched.

use crate::cluster::shards::tag;
use crate::cluster::state::{Cluster, Count, EntryKey, Owner};
use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

/// Another occurrence of this address in that entry: as the Service's own, or an endpoint's.
pub(super) fn add(cluster: &Cluster, address: IpAddr, service: bool, key: &Arc<EntryKey>) {
    let hash = cluster.hash(address);
    let tag = tag(hash);
    let is = |it: &Owner| it.tag == tag && it.key == *key;
    let known = cluster.owners.load(hash).iter().find(|it| is(it)).cloned();
    let owner = known.unwrap_or_else(|| Owner {
        tag,
        count: Count::default(),
        key: Arc::clone(key),
    });
    let count = owner.count.add(service);
    cluster.owners.put(hash, Owner { count, ..owner }, is);
}

/// One occurrence less.
pub(super) fn remove(cluster: &Cluster, address: IpAddr, service: bool, key: &Arc<EntryKey>) {
    let hash = cluster.hash(address);
    let tag = tag(hash);
    let is = |it: &Owner| it.tag == tag && it.key == *key;
    let known = cluster.owners.load(hash).iter().find(|it| is(it)).cloned();
    match known {
        Some(known) if !known.count.remove(service).is_zero() => {
            let count = known.count.remove(service);
            cluster.owners.put(hash, Owner { count, ..known }, is);
        }
        _ => cluster.owners.remove(hash, is),
    }
}

/// What is in `ours` and not in `theirs`, each as many times as it is there more often. Both are
/// sorted.
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
