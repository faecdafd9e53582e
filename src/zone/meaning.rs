//! What a name means, in words: the metadata `kubernetes/...` of a query. Whether anything is
//! there does not matter.

use super::{
    View,
    form::{Form, Part, PortName},
    name::Labels,
};
use crate::query::Question;

/// What is said of a name that has no form.
const PARSE_ERROR: &str = "invalid query name";

impl View {
    /// What the question's name says of `key`: `kind` (`svc` or `pod`), `namespace`, `service`
    /// (of a pod's name, the pod's label), `endpoint`, `port-name` or `protocol`, in lower case;
    /// empty where the name says nothing of it. In multicluster zones also `cluster`, and with
    /// names by topology zone also `zone`. A name in the zones that has no form has a
    /// `parse-error` and nothing else. Nothing of other keys, nor of names outside of the zones.
    pub fn meaning(&self, question: &Question, key: &str) -> Option<String> {
        let labels = Labels::new(&question.name, &question.lower);
        let place = self.zones.find(&labels)?;
        let form = place.form();
        let zonal = self.rules.zonal;
        if form == Form::Unknown || !zonal && is_near(&form) {
            return (key == "parse-error").then(|| PARSE_ERROR.to_owned());
        }
        let (kind, namespace, service, part) = match form {
            Form::Namespace(namespace) => ("svc", namespace, "", Part::Whole),
            Form::PodNamespace(namespace) => ("pod", namespace, "", Part::Whole),
            Form::Pod { namespace, label } => ("pod", namespace, label, Part::Whole),
            Form::Service {
                namespace,
                service,
                part,
            }
            | Form::Import {
                namespace,
                import: service,
                part,
            } => ("svc", namespace, service, part),
            _ => ("", "", "", Part::Whole),
        };
        let (endpoint, PortName { port, protocol }) = match part {
            Part::Whole | Part::Zonal | Part::Near { .. } => ("", PortName::default()),
            Part::Endpoint(label)
            | Part::Member {
                endpoint: label, ..
            } => (label, PortName::default()),
            Part::Port(port) => ("", port),
        };
        let cluster = match part {
            Part::Member { cluster, .. } => cluster,
            _ => "",
        };
        let value = match key {
            "cluster" if self.zones.is_multicluster(place.suffix()) => cluster,
            "zone" if zonal => {
                return Some(match part {
                    Part::Near { zone, .. } => zone.text(),
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

/// Whether a name has its form by a topology zone alone.
fn is_near(form: &Form<'_>) -> bool {
    matches!(
        form,
        Form::Service {
            part: Part::Near { .. },
            ..
        }
    )
}
