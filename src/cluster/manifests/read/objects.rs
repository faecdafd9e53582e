//! Parsing of the fields that the emulated controllers need of Services, Pods and Endpoints.

use super::ObjectReader;
use crate::cluster::decode::field::ApiField;
use crate::cluster::decode::{self, ToObject, wire};
use crate::cluster::endpoint::Endpoint;
use crate::cluster::event::{Object, ObjectKey};
use crate::cluster::invalid::InvalidFields;
use crate::cluster::manifests::document::{
    DeclaredContainerPort, DeclaredEndpoints, DeclaredPod, DeclaredPort, DeclaredService, Document,
};
use crate::cluster::manifests::locate::SyntaxError;
use crate::cluster::manifests::wire::{self as own, LabelSet};

impl ObjectReader<'_, '_> {
    pub(super) fn service(
        &self,
        labels: LabelSet,
        invalid: &mut InvalidFields,
    ) -> Result<Result<Document, String>, SyntaxError> {
        let wire = self.decode::<wire::Service<'_>>()?;
        let service = match wire.to_object(invalid) {
            Ok(Some(Object::Service(service))) => service,
            Ok(_) => return Ok(Err("not a Service".into())),
            Err(why) => return Ok(Err(why)),
        };
        let extra = self.decode::<own::ServiceExtra<'_>>()?;
        let none = own::ServiceSpec::default();
        // Errors in the fields common to both types are already reported.
        let spec = extra.spec.given().unwrap_or(&none);
        let policy = spec.ip_family_policy.get(&"spec.ipFamilyPolicy", invalid);
        let families = spec.ip_families.each(&"spec.ipFamilies", invalid);
        let families = families.map(|(_, family)| family.to_string()).collect();
        let not_ready = &spec.publish_not_ready_addresses;
        let not_ready = not_ready.get(&"spec.publishNotReadyAddresses", invalid);
        let mut ports = Vec::new();
        for (number, it) in spec
            .ports
            .each(&"spec.ports", &mut InvalidFields::default())
        {
            let path = format_args!("spec.ports[{number}].targetPort");
            let target = it.target_port.get(&path, invalid);
            let Some(port) = it.port.given() else {
                continue;
            };
            if !matches!(it.target_port, ApiField::Invalid(_)) {
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
            texts.filter_map(ApiField::text).any(is_address)
        });
        Ok(Ok(Document::Service(Box::new(DeclaredService {
            service,
            labels,
            has_address,
            selector: spec.selector.selector(&"spec.selector", invalid),
            ports,
            families,
            dual: policy.is_some_and(|policy| **policy != *"SingleStack"),
            publish_not_ready: not_ready.copied().unwrap_or_default(),
        }))))
    }

    pub(super) fn pod(
        &self,
        key: ObjectKey,
        labels: LabelSet,
        invalid: &mut InvalidFields,
    ) -> Result<Result<Document, String>, SyntaxError> {
        let pod = match self.convert::<wire::Pod<'_>>(invalid)? {
            Ok(Some(Object::Pod(pod))) => Some(pod),
            Ok(_) => None,
            Err(why) => return Ok(Err(why)),
        };
        let extra = self.decode::<own::PodExtra<'_>>()?;
        let (no_spec, no_status) = (own::PodSpec::default(), own::PodStatus::default());
        let spec = extra.spec.get(&"spec", invalid).unwrap_or(&no_spec);
        let status = extra.status.given().unwrap_or(&no_status);
        let conditions = status.conditions.each(&"status.conditions", invalid);
        let conditions: Vec<_> = conditions.map(|(_, condition)| condition).collect();
        let mut ready = conditions.iter();
        let ready = ready.find(|condition| condition.r#type.text() == Some("Ready"));
        let mut ports = Vec::new();
        for (number, container) in spec.containers.each(&"spec.containers", invalid) {
            let path = format_args!("spec.containers[{number}].ports");
            for (number, it) in container.ports.each(&path, invalid) {
                let port = format_args!("{path}[{number}].containerPort");
                let port = it.container_port.get(&port, invalid);
                let protocol = format_args!("{path}[{number}].protocol");
                let protocol = it.protocol.get(&protocol, invalid);
                let name = it.name.get(&format_args!("{path}[{number}].name"), invalid);
                ports.extend(port.zip(name).map(|(port, name)| DeclaredContainerPort {
                    name: name.to_string(),
                    number: *port,
                    protocol: protocol.copied(),
                }));
            }
        }
        Ok(Ok(Document::Pod(Box::new(DeclaredPod {
            key,
            labels,
            pod,
            // A manifest without conditions is treated as ready: an address is enough.
            ready: conditions.is_empty()
                || ready.is_some_and(|it| it.status.text() == Some("True")),
            hostname: decode::label(&spec.hostname, &"spec.hostname", invalid).map(str::to_owned),
            subdomain: decode::label(&spec.subdomain, &"spec.subdomain", invalid)
                .map(str::to_owned),
            ports,
        }))))
    }

    pub(super) fn endpoints(
        &self,
        key: ObjectKey,
        labels: LabelSet,
        invalid: &mut InvalidFields,
    ) -> Result<Document, SyntaxError> {
        let wire = self.decode::<own::Endpoints<'_>>()?;
        let mut subsets = Vec::new();
        for (number, subset) in wire.subsets.each(&"subsets", invalid) {
            let at = format!("subsets[{number}]");
            let mut endpoints = Vec::new();
            for (list, ready, path) in [
                (&subset.addresses, true, "addresses"),
                (&subset.not_ready_addresses, false, "notReadyAddresses"),
            ] {
                let path = format!("{at}.{path}");
                for (number, it) in list.each(&path, invalid) {
                    let at = format!("{path}[{number}]");
                    let ip_path = format!("{at}.ip");
                    let ip = it.ip.get(&ip_path, invalid);
                    let ip = ip.and_then(|ip| decode::address(ip, &ip_path, invalid));
                    let hostname = decode::label(&it.hostname, &format!("{at}.hostname"), invalid);
                    let target = it.target_ref.get(&format!("{at}.targetRef"), invalid);
                    let target = target.filter(|target| target.kind.text() == Some("Pod"));
                    let pod = target.and_then(|target| target.name.text());
                    endpoints.extend(ip.map(|ip| Endpoint::new(ip, ready, hostname, pod, None)));
                }
            }
            let ports = decode::ports(&subset.ports, &format!("{at}.ports"), invalid);
            subsets.push((ports, endpoints));
        }
        Ok(Document::Endpoints(Box::new(DeclaredEndpoints {
            key,
            labels,
            subsets,
        })))
    }
}
