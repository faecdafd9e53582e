//! What the guide reads of a directory of manifests: enough to choose examples and to say what
//! they show.
//!
//! This is not what is served. The served objects come from [`crate::cluster`], which keeps only
//! what names need; a guide also tells a NodePort from a LoadBalancer. Nothing here fails: a file
//! that cannot be read is named, and the lab serves the rest.

use k8s_openapi::api::core::v1::{self as core, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The objects of a directory, in the order of its files.
#[derive(Debug, Default)]
pub struct Objects {
    /// How many Namespaces there are.
    pub namespaces: usize,
    /// Services of every type.
    pub services: Vec<Service>,
    /// Pods that have an address.
    pub pods: Vec<Pod>,
    /// Endpoints from slices that somebody has written.
    slices: Vec<Slice>,
    /// Names of files that could not be read.
    pub unread: Vec<String>,
}

/// A Service.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What it is, as DNS and as a course sees it.
    pub kind: Kind,
    /// Its cluster addresses; none when headless.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    selector: BTreeMap<String, String>,
    accepts_unready: bool,
}

/// The types of Service that a course tells apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reached by its cluster address.
    ClusterIp,
    /// No address of its own.
    Headless,
    /// Reached by these ports of every node too.
    NodePort(Vec<i32>),
    /// Reached by this address or name from outside too, once the load balancer has one.
    LoadBalancer(Option<String>),
    /// Another name for this one.
    ExternalName(String),
}

/// A port of a Service.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name, if any.
    pub name: Option<String>,
    /// Its number.
    pub number: i32,
    /// The transport as names spell it.
    pub protocol: String,
}

impl From<ServicePort> for Port {
    fn from(port: ServicePort) -> Self {
        Self {
            name: port.name,
            number: port.port,
            protocol: port
                .protocol
                .map_or("tcp".to_owned(), |it| it.to_lowercase()),
        }
    }
}

/// A Pod that has an address.
#[derive(Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its addresses, the first one first.
    pub addresses: Vec<IpAddr>,
    /// Whether its readiness probe is content.
    pub ready: bool,
    labels: BTreeMap<String, String>,
    hostname: Option<String>,
    subdomain: Option<String>,
}

#[derive(Debug)]
struct Slice {
    namespace: String,
    service: String,
    endpoints: Vec<Endpoint>,
}

/// One address behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its label below the Service's name.
    pub label: String,
    /// Where it is.
    pub address: IpAddr,
    /// Whether it is served.
    pub ready: bool,
    /// Whether the label is a host name, as those of a StatefulSet's pods are.
    pub named: bool,
}

impl Objects {
    /// Reads the files of a directory, in the order of their names.
    pub fn read(directory: &Path) -> std::io::Result<Self> {
        let mut objects = Self::default();
        for path in manifests(directory)? {
            let documents = fs::read_to_string(&path)
                .ok()
                .and_then(|text| serde_saphyr::from_multiple::<Value>(&text).ok());
            let Some(documents) = documents else {
                let name = path.file_name().unwrap_or_default();
                objects.unread.push(name.to_string_lossy().into_owned());
                continue;
            };
            for document in documents {
                objects.add(document);
            }
        }
        Ok(objects)
    }

    /// Whether there is nothing to give an example of.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.pods.is_empty()
    }

    /// Takes an object up, or a list of them. What is no Service, Pod, Namespace or EndpointSlice,
    /// or is malformed, is passed over: the source of what is served has its say about it.
    fn add(&mut self, mut value: Value) {
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "Namespace" => self.namespaces += 1,
            "Service" => self.services.extend(service(value)),
            "Pod" => self.pods.extend(pod(value)),
            "EndpointSlice" => self.slices.extend(slice(value)),
            _ if kind.ends_with("List") => {
                if let Value::Array(items) = value["items"].take() {
                    for item in items {
                        self.add(item);
                    }
                }
            }
            _ => {}
        }
    }

    /// What is behind a Service: what slices say, or else the pods that its selector matches.
    pub fn endpoints(&self, service: &Service) -> Vec<Endpoint> {
        let mut written = self
            .slices
            .iter()
            .filter(|slice| slice.namespace == service.namespace && slice.service == service.name)
            .peekable();
        if written.peek().is_some() {
            return written.flat_map(|slice| slice.endpoints.clone()).collect();
        }
        self.pods
            .iter()
            .filter(|pod| service.selects(pod))
            .flat_map(|pod| pod.endpoints_of(service))
            .collect()
    }
}

impl Service {
    fn selects(&self, pod: &Pod) -> bool {
        let has = |(key, value): (&String, &String)| pod.labels.get(key) == Some(value);
        self.namespace == pod.namespace
            && !self.selector.is_empty()
            && self.selector.iter().all(has)
    }

    /// Whether it selects pods at all; one that does not has its endpoints from elsewhere.
    pub fn has_selector(&self) -> bool {
        !self.selector.is_empty()
    }
}

impl Pod {
    fn endpoints_of(&self, service: &Service) -> impl Iterator<Item = Endpoint> {
        // The slice controller hands a hostname on only where the subdomain is the Service's name.
        let hostname = self
            .hostname
            .clone()
            .filter(|_| self.subdomain.as_ref() == Some(&service.name));
        let ready = self.ready || service.accepts_unready;
        let first = self.addresses.first().copied();
        first.into_iter().map(move |address| Endpoint {
            named: hostname.is_some(),
            label: hostname.clone().unwrap_or_else(|| dashed(address)),
            address,
            ready,
        })
    }
}

/// An address as a label: `10.0.0.1` is `10-0-0-1`.
pub fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The files of a directory that hold manifests, sorted by name.
fn manifests(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let extension = path.extension().unwrap_or_default();
        if ["yaml", "yml", "json"].iter().any(|it| extension == *it) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn service(value: Value) -> Option<Service> {
    let core::Service {
        metadata,
        spec,
        status,
    } = serde_json::from_value(value).ok()?;
    let (namespace, name) = owner(metadata.namespace, metadata.name)?;
    let spec = spec.unwrap_or_default();
    let cluster_ips = match spec.cluster_ips {
        Some(ips) if !ips.is_empty() => ips,
        _ => spec.cluster_ip.into_iter().collect(),
    };
    let ports = spec.ports.unwrap_or_default();
    let kind = match spec.type_.as_deref() {
        Some("ExternalName") => Kind::ExternalName(spec.external_name.unwrap_or_default()),
        _ if cluster_ips.first().is_some_and(|ip| ip == "None") => Kind::Headless,
        Some("NodePort") => {
            Kind::NodePort(ports.iter().filter_map(|port| port.node_port).collect())
        }
        Some("LoadBalancer") => Kind::LoadBalancer(
            status
                .and_then(|status| status.load_balancer?.ingress?.into_iter().next())
                .and_then(|ingress| ingress.ip.or(ingress.hostname)),
        ),
        _ => Kind::ClusterIp,
    };
    Some(Service {
        namespace,
        name,
        kind,
        addresses: addresses(&cluster_ips),
        ports: ports.into_iter().map(Port::from).collect(),
        selector: spec.selector.unwrap_or_default(),
        accepts_unready: spec.publish_not_ready_addresses.unwrap_or_default(),
    })
}

fn pod(value: Value) -> Option<Pod> {
    let core::Pod {
        metadata,
        spec,
        status,
    } = serde_json::from_value(value).ok()?;
    let (namespace, _) = owner(metadata.namespace, metadata.name)?;
    let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
    let written: Vec<String> = match status.pod_ips {
        Some(ips) if !ips.is_empty() => ips.into_iter().map(|it| it.ip).collect(),
        _ => status.pod_ip.into_iter().collect(),
    };
    let addresses = addresses(&written);
    (!addresses.is_empty()).then(|| Pod {
        namespace,
        addresses,
        ready: status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        labels: metadata.labels.unwrap_or_default(),
        hostname: spec.hostname.filter(|it| !it.is_empty()),
        subdomain: spec.subdomain,
    })
}

fn slice(value: Value) -> Option<Slice> {
    let slice: EndpointSlice = serde_json::from_value(value).ok()?;
    let mut labels = slice.metadata.labels.unwrap_or_default();
    let service = labels.remove("kubernetes.io/service-name")?;
    let (namespace, service) = owner(slice.metadata.namespace, Some(service))?;
    let endpoints = slice.endpoints.into_iter().flatten().flat_map(|endpoint| {
        let ready = endpoint.conditions.and_then(|it| it.ready).unwrap_or(true);
        let hostname = endpoint.hostname;
        addresses(&endpoint.addresses)
            .into_iter()
            .map(move |address| Endpoint {
                named: hostname.is_some(),
                label: hostname.clone().unwrap_or_else(|| dashed(address)),
                address,
                ready,
            })
    });
    Some(Slice {
        namespace,
        service,
        endpoints: endpoints.collect(),
    })
}

/// Namespace and name, filled in as the API server would.
fn owner(namespace: Option<String>, name: Option<String>) -> Option<(String, String)> {
    Some((namespace.unwrap_or_else(|| "default".to_owned()), name?))
}

fn addresses(texts: &[String]) -> Vec<IpAddr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
