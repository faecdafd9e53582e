//! The index of addresses that have names, kept by differences.

use super::owners::difference;
use crate::cluster::named::{Named, NamedBy, NamedIn};
use crate::cluster::object::{Service, ServiceKind, Slice};
use crate::cluster::shards::{Found, Tagged, tag};
use crate::cluster::state::Cluster;
use std::net::IpAddr;
use std::sync::Arc;

/// What a change gives names to and takes them from.
#[derive(Default)]
pub(super) struct Renamed {
    changes: Vec<(NamedBy, Vec<IpAddr>, Vec<IpAddr>)>,
}

impl Renamed {
    /// A Service changes, which has these ready endpoints.
    pub(super) fn service(
        old: Option<&Service>,
        new: Option<&Service>,
        ready: impl Fn() -> Vec<IpAddr>,
    ) -> Self {
        let mut renamed = Self::default();
        let cluster = |it: Option<&Service>| it.map_or(Vec::new(), |it| it.cluster_ips.to_vec());
        renamed.add(NamedBy::Inside, cluster(old), cluster(new));
        let external = |it: Option<&Service>| {
            let external = it.and_then(|it| it.external.as_deref());
            external.map_or(Vec::new(), |external| external.addresses.to_vec())
        };
        renamed.add(NamedBy::External, external(old), external(new));
        match (old.is_some_and(is_exposed), new.is_some_and(is_exposed)) {
            (false, true) => renamed.add(NamedBy::Headless, Vec::new(), ready()),
            (true, false) => renamed.add(NamedBy::Headless, ready(), Vec::new()),
            _ => {}
        }
        renamed
    }

    /// A slice of this Service changes.
    pub(super) fn slice(
        service: Option<&Service>,
        old: Option<&Slice>,
        new: Option<&Slice>,
    ) -> Self {
        let mut renamed = Self::default();
        let ready = |it: Option<&Slice>| -> Vec<IpAddr> {
            let ready = it.into_iter().flat_map(Slice::ready);
            ready.map(|endpoint| endpoint.address).collect()
        };
        if service.is_some_and(is_exposed) {
            renamed.add(NamedBy::Headless, ready(old), ready(new));
        }
        renamed.add(NamedBy::Inside, ready(old), ready(new));
        renamed
    }

    fn add(&mut self, by: NamedBy, mut old: Vec<IpAddr>, mut new: Vec<IpAddr>) {
        old.sort_unstable();
        new.sort_unstable();
        let (mut lost, mut won) = (Vec::new(), Vec::new());
        difference(&old, &new, |it| lost.push(it));
        difference(&new, &old, |it| won.push(it));
        if !lost.is_empty() || !won.is_empty() {
            self.changes.push((by, lost, won));
        }
    }

    /// Adds what has won a name, before readers see the change itself.
    pub(super) fn before(&self, cluster: &Cluster, namespace: &Arc<str>) {
        if self.changes.iter().all(|(_, _, won)| won.is_empty()) {
            return;
        }
        let hash = cluster.hash(&**namespace);
        let known = cluster.named_in(namespace);
        let here = known.as_ref().map(Found::share);
        let here = here.unwrap_or_else(|| {
            let new = Arc::new(NamedIn {
                namespace: Arc::clone(namespace),
                named: Named::default(),
            });
            let tagged = Tagged::new(hash, Arc::clone(&new));
            cluster.named_in.put(hash, tagged, |_| false);
            new
        });
        for (by, _, won) in &self.changes {
            cluster.named.change(*by, won, &[]);
            here.named.change(*by, won, &[]);
        }
    }

    /// Takes away what has lost its name, once readers see the change.
    pub(super) fn after(&self, cluster: &Cluster, namespace: &Arc<str>) {
        let Some(here) = cluster.named_in(namespace).map(|it| it.share()) else {
            return;
        };
        for (by, lost, _) in &self.changes {
            cluster.named.change(*by, &[], lost);
            here.named.change(*by, &[], lost);
        }
        if here.named.is_empty() {
            let hash = cluster.hash(&**namespace);
            let tag = tag(hash);
            let is = |it: &Tagged<NamedIn>| it.tag == tag && *it.namespace == **namespace;
            cluster.named_in.remove(hash, is);
        }
    }
}

/// Whether a Service's endpoints may have names outside of the cluster.
fn is_exposed(service: &Service) -> bool {
    service.kind == ServiceKind::Headless && service.external.is_none()
}
