//! The index from addresses to entries, kept by differences: what an event does not change is
//! not touched.

use crate::cluster::shards::tag;
use crate::cluster::state::{Cluster, EntryKey, Owner};
use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

/// Another occurrence of this address in that entry.
pub(super) fn add(cluster: &Cluster, address: IpAddr, key: &Arc<EntryKey>) {
    let hash = cluster.hash(address);
    let tag = tag(hash);
    let is = |it: &Owner| it.tag == tag && it.key == *key;
    let known = cluster.owners.load(hash).iter().find(|it| is(it)).cloned();
    let owner = match known {
        Some(known) => Owner {
            count: known.count + 1,
            ..known
        },
        None => Owner {
            tag,
            count: 1,
            key: Arc::clone(key),
        },
    };
    cluster.owners.put(hash, owner, is);
}

/// One occurrence less.
pub(super) fn remove(cluster: &Cluster, address: IpAddr, key: &Arc<EntryKey>) {
    let hash = cluster.hash(address);
    let tag = tag(hash);
    let is = |it: &Owner| it.tag == tag && it.key == *key;
    let known = cluster.owners.load(hash).iter().find(|it| is(it)).cloned();
    match known {
        Some(known) if known.count > 1 => {
            let owner = Owner {
                count: known.count - 1,
                ..known
            };
            cluster.owners.put(hash, owner, is);
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
