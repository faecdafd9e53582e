//! What the controllers need of Services, Pods and Endpoints, beyond what names need.

use super::Part;
use crate::cluster::decode::field::Field;
use crate::cluster::decode::{self, Slim, wire};
use crate::cluster::endpoint::Endpoint;
use crate::cluster::event::{Key, Object};
use crate::cluster::flaw::Flaws;
use crate::cluster::manifests::document::{
    ContainerPort, Declared, DeclaredPort, Document, Endpoints, Labels, Running,
};
use crate::cluster::manifests::locate::Syntax;
use crate::cluster::manifests::wire as own;

impl Part<'_, '_> {
    pub(super) fn service(
        &self,
        labels: Labels,
        flaws: &mut Flaws,
    ) -> Result<Result<Document, String>, Syntax> {
        let wire = self.decode::<wire::Service<'_>>()?;
        let service = match wire.slim(flaws) {
            Ok(Some(Object::Service(service))) => service,
            Ok(_) => return Ok(Err("it is no Service".into())),
            Err(why) => return Ok(Err(why)),
        };
        let extra = self.decode::<own::ServiceExtra<'_>>()?;
        let none = own::ServiceSpec::default();
        // What is wrong with the parts that the Service itself has is known already.
        let spec = extra.spec.given().unwrap_or(&none);
        let policy = spec.ip_family_policy.get(&"spec.ipFamilyPolicy", flaws);
        let families = spec.ip_families.each(&"spec.ipFamilies", flaws);
        let families = families.map(|(_, family)| family.to_string()).collect();
        let not_ready = &spec.publish_not_ready_addresses;
        let not_ready = not_ready.get(&"spec.publishNotReadyAddresses", flaws);
        let mut ports = Vec::new();
        for (number, it) in spec.ports.each(&"spec.ports", &mut Flaws::default()) {
            let path = format_args!("spec.ports[{number}].targetPort");
            let target = it.target_port.get(&path, flaws);
            let Some(port) = it.port.given() else {
                continue;
            };
            if !matches!(it.target_port, Field::Invalid(_)) {
                ports.push(DeclaredPort {
                    name: it.name.text().unwrap_or_default().to_owned(),
                    port: *port,
                    protocol: it.protocol.given().copied(),
                    target: target.cloned(),
                });
            }
        }
        let wire_spec = wire.spec.given();
        let is_address = |text: &str| !text.is_empty() && text != "None";
        let has_address = wire_spec.is_some_and(|spec| {
            let many = spec.cluster_ips.given().into_iter().flatten();
            let texts = many.chain([&spec.cluster_ip]);
            texts.filter_map(Field::text).any(is_address)
        });
        Ok(Ok(Document::Service(Box::new(Declared {
            service,
            labels,
            has_address,
            selector: spec.selector.selector(&"spec.selector", flaws),
            ports,
            families,
            dual: policy.is_some_and(|policy| **policy != *"SingleStack"),
            publish_not_ready: not_ready.copied().unwrap_or_default(),
        }))))
    }

    pub(super) fn pod(
        &self,
        key: Key,
        labels: Labels,
        flaws: &mut Flaws,
    ) -> Result<Result<Document, String>, Syntax> {
        let pod = match self.slim::<wire::Pod<'_>>(flaws)? {
            Ok(Some(Object::Pod(pod))) => Some(pod),
            Ok(_) => None,
            Err(why) => return Ok(Err(why)),
        };
        let extra = self.decode::<own::PodExtra<'_>>()?;
        let (no_spec, no_status) = (own::PodSpec::default(), own::PodStatus::default());
        let spec = extra.spec.get(&"spec", flaws).unwrap_or(&no_spec);
        let status = extra.status.given().unwrap_or(&no_status);
        let conditions = status.conditions.each(&"status.conditions", flaws);
        let conditions: Vec<_> = conditions.map(|(_, condition)| condition).collect();
        let mut ready = conditions.iter();
        let ready = ready.find(|condition| condition.r#type.text() == Some("Ready"));
        let mut ports = Vec::new();
        for (number, container) in spec.containers.each(&"spec.containers", flaws) {
            let path = format_args!("spec.containers[{number}].ports");
            for (number, it) in container.ports.each(&path, flaws) {
                let port = format_args!("{path}[{number}].containerPort");
                let port = it.container_port.get(&port, flaws);
                let protocol = format_args!("{path}[{number}].protocol");
                let protocol = it.protocol.get(&protocol, flaws);
                let name = it.name.get(&format_args!("{path}[{number}].name"), flaws);
                ports.extend(port.zip(name).map(|(port, name)| ContainerPort {
                    name: name.to_string(),
                    number: *port,
                    protocol: protocol.copied(),
                }));
            }
        }
        Ok(Ok(Document::Pod(Box::new(Running {
            key,
            labels,
            pod,
            // A manifest written by hand has no conditions; an address is enough.
            ready: conditions.is_empty()
                || ready.is_some_and(|it| it.status.text() == Some("True")),
            hostname: decode::label(&spec.hostname, &"spec.hostname", flaws).map(str::to_owned),
            subdomain: decode::label(&spec.subdomain, &"spec.subdomain", flaws).map(str::to_owned),
            ports,
        }))))
    }

    pub(super) fn endpoints(
        &self,
        key: Key,
        labels: Labels,
        flaws: &mut Flaws,
    ) -> Result<Document, Syntax> {
        let wire = self.decode::<own::Endpoints<'_>>()?;
        let mut subsets = Vec::new();
        for (number, subset) in wire.subsets.each(&"subsets", flaws) {
            let at = format!("subsets[{number}]");
            let mut endpoints = Vec::new();
            for (list, ready, path) in [
                (&subset.addresses, true, "addresses"),
                (&subset.not_ready_addresses, false, "notReadyAddresses"),
            ] {
                let path = format!("{at}.{path}");
                for (number, it) in list.each(&path, flaws) {
                    let at = format!("{path}[{number}]");
                    let ip_path = format!("{at}.ip");
                    let ip = it.ip.get(&ip_path, flaws);
                    let ip = ip.and_then(|ip| decode::address(ip, &ip_path, flaws));
                    let hostname = decode::label(&it.hostname, &format!("{at}.hostname"), flaws);
                    let target = it.target_ref.get(&format!("{at}.targetRef"), flaws);
                    let target = target.filter(|target| target.kind.text() == Some("Pod"));
                    let pod = target.and_then(|target| target.name.text());
                    endpoints.extend(ip.map(|ip| Endpoint::new(ip, ready, hostname, pod, None)));
                }
            }
            let ports = decode::ports(&subset.ports, &format!("{at}.ports"), flaws);
            subsets.push((ports, endpoints));
        }
        Ok(Document::Endpoints(Box::new(Endpoints {
            key,
            labels,
            subsets,
        })))
    }
}
