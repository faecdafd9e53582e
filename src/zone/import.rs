//! Names in a multicluster zone: ServiceImports, which stand for Services of several clusters
//! (Multi-Cluster Services API, "DNS specification").

use super::{
    Answer, View,
    endpoint::{Only, Selection, Sought, cluster_of, is_protocol_of},
    form::Part,
    lookup::Front,
};
use crate::{
    cluster::{EndpointSlice, Kind, ServiceEntry},
    reply::Why,
};

impl View {
    /// The endpoints of a ServiceImport that are meant.
    pub(super) fn select_imported<'a>(
        &self,
        entry: &'a ServiceEntry,
        only: Only<'a>,
    ) -> Selection<'a> {
        Selection {
            slices: &entry.imported,
            only,
            by_pod: self.rules.endpoint_pod_names,
            imported: true,
        }
    }
}

impl Answer<'_> {
    /// `SVC.NS.svc` and below, in a multicluster zone.
    pub(super) fn import(
        &mut self,
        namespace: &str,
        name: &str,
        part: Part<'_>,
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
        let front = Front::from(import);
        if !import.headless {
            if self.view.rules.ignore_empty_service && !is_imported_up(entry) {
                return Err(Why::EmptyService);
            }
            return self.import_by_addresses(front, part);
        }
        let (only, missing) = match part {
            Part::Whole => (Only::All, Why::NoReadyEndpoint),
            Part::Port(_) if !is_imported_up(entry) => return Err(Why::NoReadyEndpoint),
            Part::Port(port) => (Only::Port(port), Why::NoSuchPort),
            Part::Member { cluster, endpoint } => (
                Only::Member(cluster, Sought::new(endpoint)),
                Why::NoSuchEndpoint,
            ),
            // A cluster, or a protocol: others stand below (RFC 8020 §2).
            Part::Endpoint(label) => {
                let is_above = |slice: &EndpointSlice| {
                    let cluster = cluster_of(slice).eq_ignore_ascii_case(label);
                    (cluster || is_protocol_of(label, &*slice.ports)) && has_ready(slice)
                };
                let exists = entry.imported.iter().any(|slice| is_above(slice));
                return exists.then_some(()).ok_or(Why::NoSuchEndpoint);
            }
            Part::Zonal | Part::Near { .. } => return Err(Why::NoSuchForm),
        };
        let selection = self.view.select_imported(entry, only);
        self.by_endpoints(self.target(front), selection, missing)
    }

    /// Of type ClusterSetIP: its endpoints have no names.
    fn import_by_addresses(&mut self, front: Front<'_>, part: Part<'_>) -> Result<(), Why> {
        match part {
            Part::Whole => self.by_own_addresses(front, |_| true),
            Part::Port(port) => {
                if !front.ports.iter().any(|it| port.is(it)) {
                    return Err(Why::NoSuchPort);
                }
                self.by_own_addresses(front, |it| port.is(it));
            }
            Part::Endpoint(label) if is_protocol_of(label, front.ports) => {}
            Part::Endpoint(_) | Part::Member { .. } => return Err(Why::NoSuchEndpoint),
            Part::Zonal | Part::Near { .. } => return Err(Why::NoSuchForm),
        }
        Ok(())
    }
}

/// Whether any endpoint of a ServiceImport is ready.
pub(super) fn is_imported_up(entry: &ServiceEntry) -> bool {
    entry.imported.iter().any(|slice| has_ready(slice))
}

fn has_ready(slice: &EndpointSlice) -> bool {
    slice.ready().next().is_some()
}
