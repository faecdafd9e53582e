//! Names in a multicluster zone: ServiceImports, which represent Services exported by several
//! clusters (Multi-Cluster Services API, "DNS specification").

use super::{
    AnswerBuilder, ClusterView,
    endpoint::{EndpointFilter, EndpointMatcher, SelectedEndpoints, cluster_of, is_protocol_of},
    lookup::ServiceFrontend,
    name_kind::NameScope,
};
use crate::{
    cluster::{EndpointSlice, Kind, ServiceEntry},
    reply::Why,
};

impl ClusterView {
    /// A ServiceImport's endpoints that match the filter.
    pub(super) fn select_imported<'a>(
        &self,
        entry: &'a ServiceEntry,
        filter: EndpointFilter<'a>,
    ) -> SelectedEndpoints<'a> {
        SelectedEndpoints {
            slices: &entry.imported,
            filter,
            by_pod: self.rules.endpoint_pod_names,
            imported: true,
        }
    }
}

impl AnswerBuilder<'_> {
    /// `SVC.NS.svc` and below, in a multicluster zone.
    pub(super) fn import(
        &mut self,
        namespace: &str,
        name: &str,
        scope: NameScope<'_>,
    ) -> Result<(), Why> {
        self.namespace(namespace)?;
        let entry = self.view.cluster.entry(namespace, name);
        let missing = if self.view.cluster.is_listed(Kind::ServiceImport) {
            Why::NoSuchService
        } else {
            Why::NotSynced
        };
        let entry = entry.as_deref().ok_or(missing)?;
        let import = entry.import.as_deref().ok_or(missing)?;
        let front = ServiceFrontend::from(import);
        if !import.headless {
            if self.view.rules.ignore_empty_service && !has_ready_import(entry) {
                return Err(Why::EmptyService);
            }
            return self.import_by_frontend(front, scope);
        }
        let (filter, missing) = match scope {
            NameScope::All => (EndpointFilter::All, Why::NoReadyEndpoint),
            NameScope::Port(_) if !has_ready_import(entry) => return Err(Why::NoReadyEndpoint),
            NameScope::Port(port) => (EndpointFilter::Port(port), Why::NoSuchPort),
            NameScope::ClusterEndpoint { cluster, endpoint } => (
                EndpointFilter::Cluster(cluster, EndpointMatcher::new(endpoint)),
                Why::NoSuchEndpoint,
            ),
            // A cluster or a protocol label: an empty non-terminal (RFC 8020 section 2).
            NameScope::Endpoint(label) => {
                let is_above = |slice: &EndpointSlice| {
                    let cluster = cluster_of(slice).eq_ignore_ascii_case(label);
                    (cluster || is_protocol_of(label, &*slice.ports)) && has_ready(slice)
                };
                let exists = entry.imported.iter().any(|slice| is_above(slice));
                return exists.then_some(()).ok_or(Why::NoSuchEndpoint);
            }
            NameScope::ZonalParent | NameScope::Zonal { .. } => return Err(Why::NoSuchForm),
        };
        let selection = self.view.select_imported(entry, filter);
        self.by_endpoints(self.target(front), selection, missing)
    }

    /// A ServiceImport of type ClusterSetIP: its endpoints have no names.
    fn import_by_frontend(
        &mut self,
        front: ServiceFrontend<'_>,
        scope: NameScope<'_>,
    ) -> Result<(), Why> {
        match scope {
            NameScope::All => self.by_frontend(front, |_| true),
            NameScope::Port(port) => {
                if !front.ports.iter().any(|it| port.is(it)) {
                    return Err(Why::NoSuchPort);
                }
                self.by_frontend(front, |it| port.is(it));
            }
            NameScope::Endpoint(label) if is_protocol_of(label, front.ports) => {}
            NameScope::Endpoint(_) | NameScope::ClusterEndpoint { .. } => {
                return Err(Why::NoSuchEndpoint);
            }
            NameScope::ZonalParent | NameScope::Zonal { .. } => return Err(Why::NoSuchForm),
        }
        Ok(())
    }
}

/// Whether a ServiceImport has a ready endpoint.
pub(super) fn has_ready_import(entry: &ServiceEntry) -> bool {
    entry.imported.iter().any(|slice| has_ready(slice))
}

fn has_ready(slice: &EndpointSlice) -> bool {
    slice.ready().next().is_some()
}
