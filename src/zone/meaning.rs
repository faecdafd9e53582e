//! What a name means, in words: the metadata `kubernetes/...` of a query. Whether anything is
//! there does not matter.

use super::{
    View,
    name::{Form, Labels, Part, PortName},
};
use crate::query::Question;

/// What is said of a name that has no form.
const PARSE_ERROR: &str = "invalid query name";

impl View {
    /// What the question's name says of `key`: `kind` (`svc` or `pod`), `namespace`, `service`
    /// (of a pod's name, the pod's label), `endpoint`, `port-name` or `protocol`, in lower case;
    /// empty where the name says nothing of it. A name in the zones that has no form has a
    /// `parse-error` and nothing else. Nothing of other keys, nor of names outside of the zones.
    pub fn meaning(&self, question: &Question, key: &str) -> Option<String> {
        let labels = Labels::new(&question.name, &question.lower);
        let place = self.zones.find(&labels)?;
        let form = place.form();
        if form == Form::Unknown {
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
            } => ("svc", namespace, service, part),
            _ => ("", "", "", Part::Whole),
        };
        let (endpoint, PortName { port, protocol }) = match part {
            Part::Whole => ("", PortName::default()),
            Part::Endpoint(label) => (label, PortName::default()),
            Part::Port(port) => ("", port),
        };
        let value = match key {
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
