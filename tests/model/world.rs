//! The objects of a cluster, in plain maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lodestone::cluster::{self, Kind, Object, Protocol, ServiceKind};

/// Namespace and name; the namespace of a Namespace is empty.
pub type Key = (String, String);

/// All objects.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub namespaces: BTreeSet<Key>,
    pub services: BTreeMap<Key, Service>,
    pub slices: BTreeMap<Key, Slice>,
    pub pods: BTreeMap<Key, Pod>,
    pub imports: BTreeMap<Key, Import>,
}

#[derive(Clone, Debug)]
pub enum Service {
    Cluster(Vec<IpAddr>, Vec<Port>),
    Headless(Vec<Port>),
    External(String),
}

/// A ServiceImport: of type ClusterSetIP, or headless.
#[derive(Clone, Debug)]
pub enum Import {
    Addresses(Vec<IpAddr>, Vec<Port>),
    Headless(Vec<Port>),
}

#[derive(Clone, Debug)]
pub struct Slice {
    /// Empty if it belongs to no Service.
    pub service: String,
    /// Its ServiceImport and source cluster.
    pub import: Option<(&'static str, &'static str)>,
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: IpAddr,
    pub ready: bool,
    pub hostname: Option<&'static str>,
    pub pod: Option<&'static str>,
    /// The topology zone.
    pub zone: Option<&'static str>,
}

/// A port; its protocol is in lower case, and empty if not set.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: &'static str,
    pub number: Option<u16>,
    pub protocol: &'static str,
}

/// The addresses of a pod, at most one of each family.
pub type Pod = Vec<IpAddr>;

/// One object.
#[derive(Clone, Debug)]
pub enum Thing {
    Namespace,
    Service(Service),
    Slice(Slice),
    Pod(Pod),
    Import(Import),
}

impl World {
    pub fn put(&mut self, key: Key, thing: Thing) {
        match thing {
            Thing::Namespace => drop(self.namespaces.insert(key)),
            Thing::Service(it) => drop(self.services.insert(key, it)),
            Thing::Slice(it) => drop(self.slices.insert(key, it)),
            Thing::Pod(it) => drop(self.pods.insert(key, it)),
            Thing::Import(it) => drop(self.imports.insert(key, it)),
        }
    }

    pub fn remove(&mut self, kind: Kind, key: &Key) {
        match kind {
            Kind::Namespace => drop(self.namespaces.remove(key)),
            Kind::Service => drop(self.services.remove(key)),
            Kind::EndpointSlice => drop(self.slices.remove(key)),
            Kind::Pod => drop(self.pods.remove(key)),
            Kind::ServiceImport => drop(self.imports.remove(key)),
        }
    }

    /// All objects of a kind.
    pub fn of(&self, kind: Kind) -> Vec<(Key, Thing)> {
        fn all<T: Clone>(map: &BTreeMap<Key, T>, thing: fn(T) -> Thing) -> Vec<(Key, Thing)> {
            let pair = |(key, it): (&Key, &T)| (key.clone(), thing(it.clone()));
            map.iter().map(pair).collect()
        }
        let namespace = |key: &Key| (key.clone(), Thing::Namespace);
        match kind {
            Kind::Namespace => self.namespaces.iter().map(namespace).collect(),
            Kind::Service => all(&self.services, Thing::Service),
            Kind::EndpointSlice => all(&self.slices, Thing::Slice),
            Kind::Pod => all(&self.pods, Thing::Pod),
            Kind::ServiceImport => all(&self.imports, Thing::Import),
        }
    }

    /// All objects, as events for the server.
    pub fn objects(&self) -> Vec<Object> {
        let all = Kind::ALL.into_iter().flat_map(|kind| self.of(kind));
        all.map(|(key, thing)| thing.object(&key)).collect()
    }
}

impl Thing {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace => Kind::Namespace,
            Self::Service(_) => Kind::Service,
            Self::Slice(_) => Kind::EndpointSlice,
            Self::Pod(_) => Kind::Pod,
            Self::Import(_) => Kind::ServiceImport,
        }
    }

    /// The object as an event for the server.
    pub fn object(&self, (namespace, name): &Key) -> Object {
        let (namespace, name) = (&**namespace, &**name);
        match self {
            Self::Namespace => Object::Namespace(cluster::Namespace { name: name.into() }),
            Self::Service(service) => {
                let (kind, ips, target, ports): (_, &[IpAddr], _, &[Port]) = match service {
                    Service::Cluster(ips, ports) => (ServiceKind::ClusterIp, ips, None, ports),
                    Service::Headless(ports) => (ServiceKind::Headless, &[], None, ports),
                    Service::External(target) => {
                        (ServiceKind::ExternalName, &[], Some(target), &[])
                    }
                };
                Object::Service(cluster::Service {
                    namespace: namespace.into(),
                    name: name.into(),
                    kind,
                    cluster_ips: ips.into(),
                    external_name: target.map(|target| target.as_str().into()),
                    ports: ports.iter().map(port).collect(),
                    external: None,
                    revision: lodestone::cluster::ObjectRevision::default(),
                })
            }
            Self::Slice(slice) => {
                let endpoint = |it: &Endpoint| {
                    cluster::Endpoint::new(it.address, it.ready, it.hostname, it.pod, it.zone)
                };
                let import = slice
                    .import
                    .map(|(service, cluster)| cluster::ImportOrigin {
                        service: service.into(),
                        cluster: cluster.into(),
                    });
                let slice = cluster::EndpointSlice {
                    import: import.map(Box::new),
                    namespace: namespace.into(),
                    name: name.into(),
                    service: slice.service.as_str().into(),
                    ports: slice.ports.iter().map(port).collect(),
                    endpoints: slice.endpoints.iter().map(endpoint).collect(),
                };
                Object::EndpointSlice(slice, None)
            }
            Self::Pod(addresses) => {
                let mut pod = cluster::Pod {
                    namespace: namespace.into(),
                    name: name.into(),
                    v4: None,
                    v6: None,
                    host_network: false,
                    labels: None,
                };
                for address in addresses {
                    match address {
                        IpAddr::V4(v4) => pod.v4 = Some(*v4),
                        IpAddr::V6(v6) => pod.v6 = Some(*v6),
                    }
                }
                Object::Pod(pod)
            }
            Self::Import(import) => {
                let (ips, ports): (&[IpAddr], _) = match import {
                    Import::Addresses(ips, ports) => (ips, ports),
                    Import::Headless(ports) => (&[], ports),
                };
                Object::ServiceImport(cluster::ServiceImport {
                    namespace: namespace.into(),
                    name: name.into(),
                    headless: matches!(import, Import::Headless(_)),
                    ips: ips.into(),
                    ports: ports.iter().map(port).collect(),
                })
            }
        }
    }
}

fn port(port: &Port) -> cluster::Port {
    cluster::Port {
        name: port.name.into(),
        number: port.number,
        protocol: match port.protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "" => Protocol::Unstated,
            other => panic!("no protocol: {other}"),
        },
    }
}
