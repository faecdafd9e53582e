//! Where the resolver of a pod looks names up: the first domains of its search list, which are made
//! of its namespace and the cluster's zone.

use std::{net::IpAddr, sync::Arc};

use super::{View, name::Labels};
use crate::{cluster::Pod, query::Question, wire::Name};

impl View {
    /// The domains in which the resolver at `client` looks for a name of this zone's pods:
    /// `NS.svc.ZONE`, `svc.ZONE`, `ZONE`, the zone spelled as in the question. Nothing where the
    /// question lies in no zone, or where it is not known who asks.
    pub fn search_list(&self, question: &Question, client: IpAddr) -> Option<[Name; 3]> {
        let labels = Labels::new(&question.name, &question.lower);
        let zone = self.zones.find(&labels)?.suffix();
        let namespace = self.namespace_of(client)?;
        let services = Name::from_labels([b"svc".as_slice()], zone).ok()?;
        let own = Name::from_labels([namespace.as_bytes()], services.as_ref()).ok()?;
        Some([own, services, zone.to_name()])
    }

    /// The pod at an address; nothing where several share it, or none is known.
    pub fn client(&self, client: IpAddr) -> Option<Arc<Pod>> {
        let mut pods = self.cluster.pods(client.to_canonical());
        let only = pods.next()?;
        pods.next().is_none().then_some(only)
    }

    /// The namespace of the pods at an address. Pods that share their node's address may be of
    /// several: then nobody can tell which of them asks.
    fn namespace_of(&self, client: IpAddr) -> Option<Arc<str>> {
        let mut pods = self.cluster.pods(client.to_canonical());
        let namespace = Arc::clone(&pods.next()?.namespace);
        pods.all(|pod| pod.namespace == namespace)
            .then_some(namespace)
    }
}
