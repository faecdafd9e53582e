//! Names below a Service that exists: endpoints and ports.

use super::{BELOW_SERVICE, Diagnosis, PORT, SERVICE};
use crate::{
    cluster::{Port, ServiceEntry},
    reply::Why,
    zone::{
        endpoint::protocol,
        name_kind::{NameScope, PortName, bare},
    },
};

/// Maximum number of ports in a text.
const MAX_PORTS: usize = 4;

impl Diagnosis<'_, '_> {
    /// The Service exists, and what is asked for below it does not.
    pub(super) fn within_service(
        &mut self,
        namespace: &str,
        service: &str,
        scope: NameScope<'_>,
        why: Why,
    ) -> bool {
        let entry = self.view.cluster.entry(namespace, service);
        let Some(entry) = entry.as_deref() else {
            return false;
        };
        let may_name = self.names_objects();
        match (why, scope) {
            (Why::NoReadyEndpoint | Why::EmptyService, _) => {
                self.text.push(match why {
                    Why::EmptyService => "hidden (ignore empty_service): service ",
                    _ => "headless service ",
                });
                self.quoted(service, SERVICE);
                self.endpoints(entry);
            }
            (Why::EndpointNotReady, NameScope::Endpoint(label)) => {
                self.text.push("endpoint ");
                self.quoted(label, BELOW_SERVICE);
                self.text.push(" of service ");
                self.quoted(service, SERVICE);
                self.text.push(" is not ready");
            }
            (Why::NoSuchEndpoint, NameScope::Endpoint(label)) if label.starts_with('_') => {
                self.port_without_protocol(entry, service, label, may_name);
            }
            (Why::NoSuchEndpoint, NameScope::Endpoint(label)) => {
                self.text.push("service ");
                self.quoted(service, SERVICE);
                self.text.push(" has no endpoint ");
                self.quoted(label, BELOW_SERVICE);
                if may_name {
                    self.endpoints(entry);
                }
            }
            (Why::NoSuchPort, NameScope::Port(_)) if self.below_endpoint(entry, service) => {}
            (Why::NoSuchPort, NameScope::Port(PortName { port, protocol })) => {
                self.text.push("service ");
                self.quoted(service, SERVICE);
                self.text.push(" has no port _");
                self.port_label(port, PORT);
                self.text.push("._");
                self.port_label(protocol, BELOW_SERVICE);
                if may_name {
                    self.ports(entry);
                }
            }
            _ => return false,
        }
        true
    }

    /// Appends the name of a port or protocol, without its underscore.
    fn port_label(&mut self, text: &str, position: usize) {
        let bytes = self.bytes(text, position);
        let is_raw = text.is_empty();
        let bytes = bytes.strip_prefix(b"_").filter(|_| is_raw).unwrap_or(bytes);
        self.text.name_bytes(bytes);
    }

    /// `_PORT.SERVICE`, which has the form of an endpoint's name.
    fn port_without_protocol(
        &mut self,
        entry: &ServiceEntry,
        service: &str,
        label: &str,
        may_name: bool,
    ) {
        let mut all = all_ports(entry);
        let port = all.find(|port| may_name && port.name.eq_ignore_ascii_case(bare(label)));
        let (Some(port), Some(matched)) = (port, self.matched) else {
            self.text.push("port ");
            self.quoted(label, BELOW_SERVICE);
            self.text.push(" without protocol");
            if may_name {
                self.ports(entry);
            }
            return;
        };
        let protocol = ["_", protocol(port)].concat();
        self.text.push("protocol is missing; ");
        let labels = [label, &protocol, service, &entry.key.namespace];
        self.complete_name(&labels, matched.suffix());
    }

    /// `: 1 of 3 endpoints ready`
    fn endpoints(&mut self, entry: &ServiceEntry) {
        let (mut ready, mut all) = (0, 0);
        for endpoint in entry.endpoints() {
            all += 1;
            ready += u64::from(endpoint.ready);
        }
        self.text.push(": ");
        self.text.number(ready);
        self.text.push(" of ");
        self.text.number(all);
        self.text.push(" endpoints ready");
    }

    /// `; has _http._tcp, _metrics._tcp`
    fn ports(&mut self, entry: &ServiceEntry) {
        let mut listed: Vec<&Port> = Vec::new();
        for port in all_ports(entry) {
            let is_listed =
                |other: &&Port| other.name == port.name && protocol(other) == protocol(port);
            if port.name.is_empty() || listed.iter().any(is_listed) {
                continue;
            }
            if listed.len() == MAX_PORTS {
                return self.text.push(", ...");
            }
            self.text
                .push(if listed.is_empty() { "; has _" } else { ", _" });
            self.text.push(&port.name);
            self.text.push("._");
            self.text.push(protocol(port));
            listed.push(port);
        }
        if listed.is_empty() {
            self.text.push("; none of its ports has a name");
        }
    }
}

/// The ports of the Service, then those of its EndpointSlices.
fn all_ports(entry: &ServiceEntry) -> impl Iterator<Item = &Port> {
    let service = entry.service.as_deref();
    let of_service = service.into_iter().flat_map(|service| service.ports.iter());
    let of_slices = entry.slices.iter().flat_map(|slice| slice.ports.iter());
    of_service.chain(of_slices)
}
