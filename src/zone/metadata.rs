//! The metadata `kubernetes/...` of a query, derived from its name only: the objects need not
//! exist.

use super::{
    ClusterView,
    name::SplitName,
    name_kind::{NameKind, NameScope, PortName},
};
use crate::query::Question;

/// The `parse-error` of an invalid name.
const PARSE_ERROR: &str = "invalid query name";

impl ClusterView {
    /// The value of `key` for the queried name: `kind` (`svc` or `pod`), `namespace`, `service`
    /// (the label, for a pod name), `endpoint`, `port-name` or `protocol`, in lower case; empty if
    /// the name has no such part. In multicluster zones also `cluster`, and with `zonal` also
    /// `zone`. An invalid name has only `parse-error`. `None` for other keys, and for names outside
    /// the zones.
    pub fn metadata(&self, question: &Question, key: &str) -> Option<String> {
        let labels = SplitName::new(&question.name, &question.lower);
        let matched = self.zones.find(&labels)?;
        let name = matched.kind();
        let zonal = self.rules.zonal;
        if name == NameKind::Unknown || !zonal && is_zonal(&name) {
            return (key == "parse-error").then(|| PARSE_ERROR.to_owned());
        }
        let (kind, namespace, service, scope) = match name {
            NameKind::Namespace(namespace) => ("svc", namespace, "", NameScope::All),
            NameKind::PodNamespace(namespace) => ("pod", namespace, "", NameScope::All),
            NameKind::Pod { namespace, label } => ("pod", namespace, label, NameScope::All),
            NameKind::Service {
                namespace,
                service,
                scope,
            }
            | NameKind::ServiceImport {
                namespace,
                import: service,
                scope,
            } => ("svc", namespace, service, scope),
            _ => ("", "", "", NameScope::All),
        };
        let (endpoint, PortName { port, protocol }) = match scope {
            NameScope::All | NameScope::ZonalParent | NameScope::Zonal { .. } => {
                ("", PortName::default())
            }
            NameScope::Endpoint(label)
            | NameScope::ClusterEndpoint {
                endpoint: label, ..
            } => (label, PortName::default()),
            NameScope::Port(port) => ("", port),
        };
        let cluster = match scope {
            NameScope::ClusterEndpoint { cluster, .. } => cluster,
            _ => "",
        };
        let value = match key {
            "cluster" if self.zones.is_multicluster(matched.suffix()) => cluster,
            "zone" if zonal => {
                return Some(match scope {
                    NameScope::Zonal { zone, .. } => zone.text(),
                    _ => String::new(),
                });
            }
            "kind" => kind,
            "namespace" => namespace,
            "service" => service,
            "endpoint" => endpoint,
            "port-name" => port,
            "protocol" => protocol,
            _ => return None,
        };
        Some(value.to_owned())
    }
}

/// Whether a name is valid only with `zonal`.
fn is_zonal(name: &NameKind<'_>) -> bool {
    matches!(
        name,
        NameKind::Service {
            scope: NameScope::Zonal { .. },
            ..
        }
    )
}
