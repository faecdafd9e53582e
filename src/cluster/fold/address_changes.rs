//! Incremental updates of the address index.

use super::owners::difference;
use crate::cluster::address_index::{AddressIndex, AddressRole, NamespaceAddresses};
use crate::cluster::object::{EndpointSlice, Service, ServiceKind};
use crate::cluster::shards::{BucketRef, Tagged, tag};
use crate::cluster::state::Cluster;
use std::net::IpAddr;
use std::sync::Arc;

/// The addresses that lose and gain a name by a change, per role.
#[derive(Default)]
pub(super) struct AddressChanges {
    changes: Vec<(AddressRole, Vec<IpAddr>, Vec<IpAddr>)>,
}

impl AddressChanges {
    /// For a change of a Service with these ready endpoints.
    pub(super) fn service(
        old: Option<&Service>,
        new: Option<&Service>,
        ready: impl Fn() -> Vec<IpAddr>,
    ) -> Self {
        let mut changes = Self::default();
        let cluster = |it: Option<&Service>| it.map_or(Vec::new(), |it| it.cluster_ips.to_vec());
        changes.add(AddressRole::Internal, cluster(old), cluster(new));
        let external = |it: Option<&Service>| {
            let external = it.and_then(|it| it.external.as_deref());
            external.map_or(Vec::new(), |external| external.addresses.to_vec())
        };
        changes.add(AddressRole::External, external(old), external(new));
        match (old.is_some_and(is_exposed), new.is_some_and(is_exposed)) {
            (false, true) => changes.add(AddressRole::Headless, Vec::new(), ready()),
            (true, false) => changes.add(AddressRole::Headless, ready(), Vec::new()),
            _ => {}
        }
        changes
    }

    /// For a change of an EndpointSlice of this Service.
    pub(super) fn slice(
        service: Option<&Service>,
        old: Option<&EndpointSlice>,
        new: Option<&EndpointSlice>,
    ) -> Self {
        let mut changes = Self::default();
        let ready = |it: Option<&EndpointSlice>| -> Vec<IpAddr> {
            let ready = it.into_iter().flat_map(EndpointSlice::ready);
            ready.map(|endpoint| endpoint.address).collect()
        };
        if service.is_some_and(is_exposed) {
            changes.add(AddressRole::Headless, ready(old), ready(new));
        }
        changes.add(AddressRole::Internal, ready(old), ready(new));
        changes
    }

    fn add(&mut self, by: AddressRole, mut old: Vec<IpAddr>, mut new: Vec<IpAddr>) {
        old.sort_unstable();
        new.sort_unstable();
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        difference(&old, &new, |it| removed.push(it));
        difference(&new, &old, |it| added.push(it));
        if !removed.is_empty() || !added.is_empty() {
            self.changes.push((by, removed, added));
        }
    }

    /// Adds gained addresses, before readers see the change itself.
    pub(super) fn before(&self, cluster: &Cluster, namespace: &Arc<str>) {
        if self.changes.iter().all(|(_, _, added)| added.is_empty()) {
            return;
        }
        let hash = cluster.hash(&**namespace);
        let known = cluster.namespace_addresses(namespace);
        let here = known.as_ref().map(BucketRef::share);
        let here = here.unwrap_or_else(|| {
            let new = Arc::new(NamespaceAddresses {
                namespace: Arc::clone(namespace),
                index: AddressIndex::default(),
            });
            let tagged = Tagged::new(hash, Arc::clone(&new));
            cluster.namespace_addresses.put(hash, tagged, |_| false);
            new
        });
        for (by, _, added) in &self.changes {
            cluster.addresses.change(*by, added, &[]);
            here.index.change(*by, added, &[]);
        }
    }

    /// Removes lost addresses, after readers see the change.
    pub(super) fn after(&self, cluster: &Cluster, namespace: &Arc<str>) {
        let Some(here) = cluster.namespace_addresses(namespace).map(|it| it.share()) else {
            return;
        };
        for (by, removed, _) in &self.changes {
            cluster.addresses.change(*by, &[], removed);
            here.index.change(*by, &[], removed);
        }
        if here.index.is_empty() {
            let hash = cluster.hash(&**namespace);
            let tag = tag(hash);
            let is =
                |it: &Tagged<NamespaceAddresses>| it.tag == tag && *it.namespace == **namespace;
            cluster.namespace_addresses.remove(hash, is);
        }
    }
}

/// Whether the Service's endpoints may have names in `k8s_external` zones.
fn is_exposed(service: &Service) -> bool {
    service.kind == ServiceKind::Headless && service.external.is_none()
}
