//! Emulation of the control plane: defaults, cluster IPs, EndpointSlices.
//!
//! * Objects without a namespace are in `default`. A namespace exists if it is declared or used;
//!   `default` and `kube-system` always exist.
//! * A Service that needs a cluster IP and specifies none gets one from 10.96.0.0/12 (or
//!   fd00:10:96::/112), derived from its name: the same on every machine and after every edit,
//!   unless two names collide; then the alphabetically later one gets the next free address.
//! * A Service with a selector and no slice of its own gets slices of the Pods that match it.
//! * A Service without a selector and no slice of its own gets slices of the Endpoints of the same
//!   name, as the EndpointSlice mirroring controller creates them.

use super::document::{DeclaredEndpoints, DeclaredPod, DeclaredPort, DeclaredService, Document};
use super::wire::TargetPort;
use crate::cluster::endpoint::Endpoint;
use crate::cluster::event::{Object, ObjectKey};
use crate::cluster::object::{
    EndpointSlice, Namespace, PodLabels, Port, Protocol, Service, ServiceKind,
};
use crate::cluster::settings::Settings;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Label set by the StatefulSet controller; its value is the pod's name.
const STATEFULSET_POD_NAME: &str = "statefulset.kubernetes.io/pod-name";

/// Label set by the API server; its value is the namespace's name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// All objects of the emulated cluster that match the selectors. If two documents declare one
/// object, the later wins, as with `kubectl apply`.
pub(super) fn objects(all: &[Arc<Document>], settings: &Settings) -> Vec<Object> {
    let documents = || all.iter().map(|document| &**document);
    let selected = |labels: &BTreeMap<String, String>| {
        settings
            .labels
            .matches(|name| labels.get(name).map(String::as_str))
    };
    let mut services: BTreeMap<ObjectKey, &DeclaredService> = BTreeMap::new();
    let mut pods: BTreeMap<ObjectKey, &DeclaredPod> = BTreeMap::new();
    let mut others: BTreeMap<ObjectKey, (Object, bool)> = BTreeMap::new();
    let mut mirrored: BTreeMap<ObjectKey, &DeclaredEndpoints> = BTreeMap::new();
    for document in documents() {
        match document {
            Document::Service(it) => {
                let key = (
                    namespace_or_default(&it.service.namespace),
                    &*it.service.name,
                )
                    .into();
                services.insert(key, it);
            }
            Document::Pod(it) => {
                pods.insert(in_namespace_key(&it.key), it);
            }
            Document::Endpoints(it) => {
                mirrored.insert(in_namespace_key(&it.key), it);
            }
            Document::EndpointSlice(Some(Object::EndpointSlice(slice, _)), labels) => {
                let slice = EndpointSlice {
                    namespace: namespace_or_default(&slice.namespace).into(),
                    ..slice.clone()
                };
                let object = Object::EndpointSlice(slice, None);
                others.insert(object.key(), (object, selected(labels)));
            }
            _ => {}
        }
    }
    let owned: HashSet<(&str, &str)> = others
        .values()
        .filter_map(|it| match &it.0 {
            Object::EndpointSlice(slice, _) => Some((&*slice.namespace, &*slice.service)),
            _ => None,
        })
        .collect();

    let mut objects = namespaces(all, settings);
    let addresses = cluster_addresses(&services);
    for (key, declared) in &services {
        if !selected(&declared.labels) {
            continue;
        }
        let service = Service {
            namespace: (&*key.namespace).into(),
            cluster_ips: addresses.get(key).cloned().unwrap_or_default().into(),
            ..declared.service.clone()
        };
        if owned.contains(&(&key.namespace, &key.name)) {
        } else if !declared.selector.is_empty() {
            objects.extend(slices(&service, declared, &pods));
        } else if let Some(it) = mirrored.get(key).filter(|it| selected(&it.labels)) {
            objects.extend(mirror(&service, it));
        }
        objects.push(Object::Service(service));
    }
    objects.extend(others.into_values().filter(|it| it.1).map(|it| it.0));
    for (key, declared_pod) in pods.iter().filter(|it| selected(&it.1.labels)) {
        let served = declared_pod.pod.clone();
        objects.extend(served.map(|mut pod| {
            pod.namespace = (&*key.namespace).into();
            let label = |name: &str| declared_pod.labels.get(name).map(String::as_str);
            pod.labels = PodLabels::pick(&settings.pod_labels, label);
            Object::Pod(pod)
        }));
    }
    objects.extend(documents().filter_map(|document| match document {
        Document::ServiceImport(Object::ServiceImport(import)) => {
            let mut import = import.clone();
            import.namespace = namespace_or_default(&import.namespace).into();
            Some(Object::ServiceImport(import))
        }
        _ => None,
    }));
    objects
}

fn namespace_or_default(namespace: &str) -> &str {
    if namespace.is_empty() {
        "default"
    } else {
        namespace
    }
}

fn in_namespace_key(key: &ObjectKey) -> ObjectKey {
    (namespace_or_default(&key.namespace), &*key.name).into()
}

fn namespaces(all: &[Arc<Document>], settings: &Settings) -> Vec<Object> {
    let none = BTreeMap::new();
    let mut names = BTreeMap::from([("default", &none), ("kube-system", &none)]);
    for document in all {
        let used = match &**document {
            Document::Namespace(Object::Namespace(namespace), labels) => {
                names.insert(&*namespace.name, labels);
                continue;
            }
            Document::Service(it) => &it.service.namespace,
            Document::EndpointSlice(Some(Object::EndpointSlice(slice, _)), _) => &slice.namespace,
            Document::Pod(it) => &*it.key.namespace,
            Document::Endpoints(it) => &*it.key.namespace,
            Document::ServiceImport(Object::ServiceImport(import)) => &import.namespace,
            Document::Other(namespace) => namespace,
            _ => continue,
        };
        names.entry(namespace_or_default(used)).or_insert(&none);
    }
    let selected = names.into_iter().filter(|(name, labels)| {
        settings.namespace_labels.matches(|label| match label {
            NAMESPACE_NAME => Some(name),
            _ => labels.get(label).map(String::as_str),
        })
    });
    selected
        .map(|(name, _)| Object::Namespace(Namespace { name: name.into() }))
        .collect()
}

/// The cluster IPs of all Services that have any: as declared, or derived.
fn cluster_addresses(
    services: &BTreeMap<ObjectKey, &DeclaredService>,
) -> BTreeMap<ObjectKey, Vec<IpAddr>> {
    let declared = services.values().flat_map(|it| &it.service.cluster_ips);
    let mut taken: HashSet<IpAddr> = declared.copied().collect();
    let mut addresses = BTreeMap::new();
    for (key, it) in services {
        if it.service.kind != ServiceKind::ClusterIp {
            continue;
        }
        let mut own = it.service.cluster_ips.to_vec();
        // An invalid address is not replaced with another one.
        if own.is_empty() && !it.has_address {
            let (v4, v6) = families(it, &own);
            let number = fnv(&key.namespace) ^ fnv(&key.name).rotate_left(16);
            let free = |address: fn(u32) -> IpAddr, taken: &mut HashSet<IpAddr>| {
                // The loop ends: there are more addresses than Services in a directory.
                (0..=u32::MAX)
                    .map(|step| address(number.wrapping_add(step)))
                    .find(|it| taken.insert(*it))
            };
            own.extend(if v4 {
                free(derived_v4, &mut taken)
            } else {
                None
            });
            own.extend(if v6 {
                free(derived_v6, &mut taken)
            } else {
                None
            });
        }
        addresses.insert(key.clone(), own);
    }
    addresses
}

/// In 10.96.0.0/12, above its first 256 addresses, which are often assigned manually.
fn derived_v4(number: u32) -> IpAddr {
    let first = u32::from(Ipv4Addr::new(10, 96, 1, 0));
    let room = (1 << 20) - 256 - 1;
    Ipv4Addr::from(first + number % room).into()
}

/// In fd00:10:96::/112, above its first 256 addresses.
fn derived_v6(number: u32) -> IpAddr {
    let last = 256 + number % (65536 - 256);
    let last = u16::try_from(last).unwrap_or(u16::MAX);
    Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, last).into()
}

/// FNV-1a: must be stable across versions, and need not resist attacks.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The address families of a Service: as specified, or those of its addresses, or IPv4.
fn families(declared: &DeclaredService, addresses: &[IpAddr]) -> (bool, bool) {
    let has = |family: &str| declared.families.iter().any(|it| it == family);
    if declared.dual {
        return (true, true);
    }
    if !declared.families.is_empty() {
        return (has("IPv4"), has("IPv6"));
    }
    match addresses {
        [] => (true, false),
        _ => (
            addresses.iter().any(IpAddr::is_ipv4),
            addresses.iter().any(IpAddr::is_ipv6),
        ),
    }
}

/// The slices that the EndpointSlice controller would create: one per address family and set of
/// resolved ports.
fn slices(
    service: &Service,
    declared: &DeclaredService,
    pods: &BTreeMap<ObjectKey, &DeclaredPod>,
) -> Vec<Object> {
    let (v4, v6) = families(declared, &service.cluster_ips);
    let mut parts: BTreeMap<(bool, Vec<Port>), Vec<Endpoint>> = BTreeMap::new();
    for (key, declared_pod) in pods {
        let Some(pod) = &declared_pod.pod else {
            continue;
        };
        let mut required = declared.selector.iter();
        let matches = required.all(|(name, value)| declared_pod.labels.get(name) == Some(value));
        if *key.namespace != *service.namespace || !matches {
            continue;
        }
        let ports: Vec<_> = declared
            .ports
            .iter()
            .filter_map(|it| port(it, declared_pod))
            .collect();
        for address in pod
            .addresses()
            .filter(|it| if it.is_ipv4() { v4 } else { v6 })
        {
            let endpoint = Endpoint::new(
                address,
                declared_pod.ready || declared.publish_not_ready,
                hostname(service, declared_pod),
                Some(&declared_pod.key.name),
                None,
            );
            parts
                .entry((address.is_ipv6(), ports.clone()))
                .or_default()
                .push(endpoint);
        }
    }
    let numbered = parts.into_iter().enumerate();
    numbered
        .map(|(number, ((_, ports), endpoints))| slice(service, number, ports.into(), endpoints))
        .collect()
}

/// The slices mirrored from Endpoints: one per subset.
fn mirror(service: &Service, declared: &DeclaredEndpoints) -> Vec<Object> {
    let numbered = declared.subsets.iter().enumerate();
    numbered
        .map(|(number, (ports, all))| slice(service, number, Arc::clone(ports), all.clone()))
        .collect()
}

/// A slice of a Service; `:` in the name prevents a conflict with declared slices.
fn slice(service: &Service, number: usize, ports: Arc<[Port]>, all: Vec<Endpoint>) -> Object {
    let slice = EndpointSlice {
        namespace: Arc::clone(&service.namespace),
        name: format!("{}:{number}", service.name).into(),
        service: Arc::clone(&service.name),
        import: None,
        ports,
        endpoints: all.into(),
    };
    Object::EndpointSlice(slice, None)
}

/// The pod port that a Service port targets; `None` if the pod has no port of that name.
fn port(declared: &DeclaredPort, declared_pod: &DeclaredPod) -> Option<Port> {
    // The API's default.
    let protocol = declared.protocol.unwrap_or(Protocol::Tcp);
    let number = match &declared.target {
        None | Some(TargetPort::Number(0)) => declared.port,
        Some(TargetPort::Number(number)) => *number,
        Some(TargetPort::Name(name)) => {
            let mut ports = declared_pod.ports.iter();
            ports
                .find(|it| it.name == *name && it.protocol.unwrap_or(Protocol::Tcp) == protocol)?
                .number
        }
    };
    Some(Port {
        name: (&*declared.name).into(),
        number: Some(number),
        protocol,
    })
}

/// The hostname of an endpoint: the pod's hostname if the pod's subdomain is this Service. The
/// StatefulSet controller sets both; a declared pod with only its label is treated the same.
fn hostname<'a>(service: &Service, declared_pod: &'a DeclaredPod) -> Option<&'a str> {
    let of_set = declared_pod.labels.contains_key(STATEFULSET_POD_NAME);
    let is_in_subdomain = match &declared_pod.subdomain {
        Some(subdomain) => **subdomain == *service.name,
        None => of_set && service.kind == ServiceKind::Headless,
    };
    let hostname = declared_pod
        .hostname
        .as_deref()
        .or(of_set.then_some(&*declared_pod.key.name));
    hostname.filter(|_| is_in_subdomain)
}
