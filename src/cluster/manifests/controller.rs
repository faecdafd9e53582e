//! What a cluster would make of the manifests: its defaults, its addresses, its EndpointSlices.
//!
//! * Objects without a namespace live in `default`. A namespace exists where it is declared or
//!   used, and `default` and `kube-system` always do.
//! * A Service that needs a cluster address and names none gets one of 10.96.0.0/12 (or
//!   fd00:10:96::/112), derived from its name: it is the same on every machine and after every
//!   edit, unless two names collide, when the later in the alphabet moves on.
//! * A Service with a selector and no slice of its own gets slices made of the Pods that match it.
//! * A Service without a selector and no slice of its own gets slices made of the Endpoints of its
//!   name, as the EndpointSlice mirroring controller makes them.

use super::document::{Declared, DeclaredPort, Document, Endpoints, Running};
use super::wire::TargetPort;
use crate::cluster::endpoint::Endpoint;
use crate::cluster::event::{Key, Object};
use crate::cluster::object::{Namespace, PodLabels, Port, Protocol, Service, ServiceKind, Slice};
use crate::cluster::settings::Settings;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// StatefulSets put it on their pods; its value is the pod's name.
const STATEFUL: &str = "statefulset.kubernetes.io/pod-name";

/// Every cluster puts it on its namespaces; its value is the namespace's name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// All objects that the cluster would have, selected as the API server would. Where two documents
/// declare one object the later counts, as with `kubectl apply`.
pub(super) fn objects(all: &[Arc<Document>], settings: &Settings) -> Vec<Object> {
    let documents = || all.iter().map(|document| &**document);
    let selected = |labels: &BTreeMap<String, String>| {
        settings
            .labels
            .matches(|name| labels.get(name).map(String::as_str))
    };
    let mut services: BTreeMap<Key, &Declared> = BTreeMap::new();
    let mut pods: BTreeMap<Key, &Running> = BTreeMap::new();
    let mut others: BTreeMap<Key, (Object, bool)> = BTreeMap::new();
    let mut mirrored: BTreeMap<Key, &Endpoints> = BTreeMap::new();
    for document in documents() {
        match document {
            Document::Service(it) => {
                let key = (at_home(&it.service.namespace), &*it.service.name).into();
                services.insert(key, it);
            }
            Document::Pod(it) => {
                pods.insert(at_home_key(&it.key), it);
            }
            Document::Endpoints(it) => {
                mirrored.insert(at_home_key(&it.key), it);
            }
            Document::Slice(Some(Object::Slice(slice, _)), labels) => {
                let slice = Slice {
                    namespace: at_home(&slice.namespace).into(),
                    ..slice.clone()
                };
                let object = Object::Slice(slice, None);
                others.insert(object.key(), (object, selected(labels)));
            }
            _ => {}
        }
    }
    let owned: HashSet<(&str, &str)> = others
        .values()
        .filter_map(|it| match &it.0 {
            Object::Slice(slice, _) => Some((&*slice.namespace, &*slice.service)),
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
    for (key, running) in pods.iter().filter(|it| selected(&it.1.labels)) {
        let served = running.pod.clone();
        objects.extend(served.map(|mut pod| {
            pod.namespace = (&*key.namespace).into();
            let label = |name: &str| running.labels.get(name).map(String::as_str);
            pod.labels = PodLabels::pick(&settings.pod_labels, label);
            Object::Pod(pod)
        }));
    }
    objects.extend(documents().filter_map(|document| match document {
        Document::Import(Object::Import(import)) => {
            let mut import = import.clone();
            import.namespace = at_home(&import.namespace).into();
            Some(Object::Import(import))
        }
        _ => None,
    }));
    objects
}

fn at_home(namespace: &str) -> &str {
    if namespace.is_empty() {
        "default"
    } else {
        namespace
    }
}

fn at_home_key(key: &Key) -> Key {
    (at_home(&key.namespace), &*key.name).into()
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
            Document::Slice(Some(Object::Slice(slice, _)), _) => &slice.namespace,
            Document::Pod(it) => &*it.key.namespace,
            Document::Endpoints(it) => &*it.key.namespace,
            Document::Import(Object::Import(import)) => &import.namespace,
            Document::Other(namespace) => namespace,
            _ => continue,
        };
        names.entry(at_home(used)).or_insert(&none);
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

/// The cluster addresses of every Service that has any: as declared, or derived.
fn cluster_addresses(services: &BTreeMap<Key, &Declared>) -> BTreeMap<Key, Vec<IpAddr>> {
    let declared = services.values().flat_map(|it| &it.service.cluster_ips);
    let mut taken: HashSet<IpAddr> = declared.copied().collect();
    let mut addresses = BTreeMap::new();
    for (key, it) in services {
        if it.service.kind != ServiceKind::ClusterIp {
            continue;
        }
        let mut own = it.service.cluster_ips.to_vec();
        // An address that cannot be used is no wish for another one.
        if own.is_empty() && !it.has_address {
            let (v4, v6) = families(it, &own);
            let number = fnv(&key.namespace) ^ fnv(&key.name).rotate_left(16);
            let free = |address: fn(u32) -> IpAddr, taken: &mut HashSet<IpAddr>| {
                // There are more addresses than a directory holds Services.
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

/// In 10.96.0.0/12, above its first 256 addresses: those are what people pick by hand.
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

/// FNV-1a: it must be the same for ever, and need not withstand anybody.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Which families a Service has: as it says, or as its addresses say, or IPv4.
fn families(declared: &Declared, addresses: &[IpAddr]) -> (bool, bool) {
    let said = |family: &str| declared.families.iter().any(|it| it == family);
    if declared.dual {
        return (true, true);
    }
    if !declared.families.is_empty() {
        return (said("IPv4"), said("IPv6"));
    }
    match addresses {
        [] => (true, false),
        _ => (
            addresses.iter().any(IpAddr::is_ipv4),
            addresses.iter().any(IpAddr::is_ipv6),
        ),
    }
}

/// The slices that the EndpointSlice controller would make: one for each family and each set of
/// ports that the named ports of the matching pods come to.
fn slices(service: &Service, declared: &Declared, pods: &BTreeMap<Key, &Running>) -> Vec<Object> {
    let (v4, v6) = families(declared, &service.cluster_ips);
    let mut parts: BTreeMap<(bool, Vec<Port>), Vec<Endpoint>> = BTreeMap::new();
    for (key, running) in pods {
        let Some(pod) = &running.pod else { continue };
        let mut wanted = declared.selector.iter();
        let matches = wanted.all(|(name, value)| running.labels.get(name) == Some(value));
        if *key.namespace != *service.namespace || !matches {
            continue;
        }
        let ports: Vec<_> = declared
            .ports
            .iter()
            .filter_map(|it| port(it, running))
            .collect();
        for address in pod
            .addresses()
            .filter(|it| if it.is_ipv4() { v4 } else { v6 })
        {
            let endpoint = Endpoint::new(
                address,
                running.ready || declared.publish_not_ready,
                hostname(service, running),
                Some(&running.key.name),
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

/// The slices of Endpoints that are declared: one for each subset.
fn mirror(service: &Service, declared: &Endpoints) -> Vec<Object> {
    let numbered = declared.subsets.iter().enumerate();
    numbered
        .map(|(number, (ports, all))| slice(service, number, Arc::clone(ports), all.clone()))
        .collect()
}

/// A slice of a Service, under a name that no slice in the directory can have.
fn slice(service: &Service, number: usize, ports: Arc<[Port]>, all: Vec<Endpoint>) -> Object {
    let slice = Slice {
        namespace: Arc::clone(&service.namespace),
        name: format!("{}:{number}", service.name).into(),
        service: Arc::clone(&service.name),
        import: None,
        ports,
        endpoints: all.into(),
    };
    Object::Slice(slice, None)
}

/// The port of a pod that a Service's port leads to; None where the pod has no port of that name.
fn port(declared: &DeclaredPort, running: &Running) -> Option<Port> {
    // The API's default.
    let protocol = declared.protocol.unwrap_or(Protocol::Tcp);
    let number = match &declared.target {
        None | Some(TargetPort::Number(0)) => declared.port,
        Some(TargetPort::Number(number)) => *number,
        Some(TargetPort::Name(name)) => {
            let mut ports = running.ports.iter();
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

/// The name that an endpoint gets below its Service: a pod's hostname, where the pod says that
/// its subdomain is this Service. A StatefulSet says both on its pods; where a manifest shows a
/// pod of one with its label alone, that is taken for the same.
fn hostname<'a>(service: &Service, running: &'a Running) -> Option<&'a str> {
    let of_set = running.labels.contains_key(STATEFUL);
    let at_home = match &running.subdomain {
        Some(subdomain) => **subdomain == *service.name,
        None => of_set && service.kind == ServiceKind::Headless,
    };
    let hostname = running
        .hostname
        .as_deref()
        .or(of_set.then_some(&*running.key.name));
    hostname.filter(|_| at_home)
}
