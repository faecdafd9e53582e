//! Search lists of pods: the first domains, which the kubelet derives from the pod's namespace and
//! the cluster domain (`dnsPolicy: ClusterFirst`).

use std::{net::IpAddr, sync::Arc};

use super::{ClusterView, name::SplitName};
use crate::{cluster::Pod, query::Question, wire::Name};

impl ClusterView {
    /// The search domains of the pod at `client`: `NS.svc.ZONE`, `svc.ZONE`, `ZONE`, the zone
    /// spelled as in the query. `None` if the query is outside the zones, or the pod is unknown.
    pub fn search_list(&self, question: &Question, client: IpAddr) -> Option<[Name; 3]> {
        let labels = SplitName::new(&question.name, &question.lower);
        let zone = self.zones.find(&labels)?.suffix();
        let namespace = self.namespace_of(client)?;
        let services = Name::from_labels([b"svc".as_slice()], zone).ok()?;
        let own = Name::from_labels([namespace.as_bytes()], services.as_ref()).ok()?;
        Some([own, services, zone.to_name()])
    }

    /// The search domains of pods in `namespace`, for the primary zone. Empty if the namespace is no label.
    pub fn search_domains(&self, namespace: &str) -> Vec<Name> {
        let zone = *self.zones.primary();
        let services = Name::from_labels([b"svc".as_slice()], zone.as_ref());
        let own = services
            .as_ref()
            .map(|services| Name::from_labels([namespace.as_bytes()], services.as_ref()));
        match (own, services) {
            (Ok(Ok(own)), Ok(services)) => vec![own, services, zone],
            _ => Vec::new(),
        }
    }

    /// The pod at an address; `None` if it is unknown or shared by several pods.
    pub fn client(&self, client: IpAddr) -> Option<Arc<Pod>> {
        let mut pods = self.cluster.pods(client.to_canonical());
        let pod = pods.next()?;
        pods.next().is_none().then_some(pod)
    }

    /// The namespace of the pods at an address; `None` if pods that share it (host network) are in
    /// different namespaces.
    pub(super) fn namespace_of(&self, client: IpAddr) -> Option<Arc<str>> {
        let mut pods = self.cluster.pods(client.to_canonical());
        let namespace = Arc::clone(&pods.next()?.namespace);
        pods.all(|pod| pod.namespace == namespace)
            .then_some(namespace)
    }

    /// Like [`Self::namespace_of`], but `None` for the address of a node too: it is that of all pods there which
    /// use the host network, whatever their namespaces, and of the node's own programs.
    pub(super) fn namespace_of_pod(&self, client: IpAddr) -> Option<Arc<str>> {
        let mut pods = self.cluster.pods(client.to_canonical());
        let is_of_node = pods.any(|pod| pod.host_network);
        (!is_of_node).then(|| self.namespace_of(client)).flatten()
    }
}
