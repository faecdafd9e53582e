//! The objects of a directory of manifests, as far as the guide needs them.
//!
//! Addresses and endpoints come from [`crate::cluster`], which also supplies what the manifests
//! leave to a cluster. It does not keep Service types or file order, so those are read here again.
//! Unreadable files are listed, not an error.

use crate::cluster::{self, Cluster, Object};
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use tracing::subscriber::{NoSubscriber, with_default};

/// The objects of a directory, in file order.
#[derive(Debug, Default)]
pub struct Objects {
    /// Number of Namespaces.
    pub namespaces: usize,
    /// Services of every type.
    pub services: Vec<Service>,
    /// Pods with an address.
    pub pods: Vec<Pod>,
    /// Unreadable files, relative to the directory.
    pub unread: Vec<String>,
    /// Files with some unreadable documents.
    pub partly: Vec<String>,
}

/// A Service.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its kind in terms of DNS.
    pub kind: Kind,
    /// Its cluster IPs; empty if headless.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Whether it has a selector; otherwise its endpoints are managed manually.
    pub selects: bool,
    /// Its endpoints, ready or not.
    pub endpoints: Vec<Endpoint>,
}

/// Kinds of Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Has a cluster IP.
    ClusterIp,
    /// Without a cluster IP.
    Headless,
    /// Also reachable at these ports of every node.
    NodePort(Vec<i32>),
    /// Also reachable at this external address or name, once assigned.
    LoadBalancer(Option<String>),
    /// A CNAME to this name.
    ExternalName(String),
}

/// A port of a Service.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name, if any.
    pub name: Option<String>,
    /// Its number.
    pub number: i32,
    /// The protocol in lower case, as in SRV names.
    pub protocol: String,
}

/// A Pod with an address.
#[derive(Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its first address.
    pub address: IpAddr,
}

/// An endpoint of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its label below the Service's name.
    pub label: String,
    /// Its address.
    pub address: IpAddr,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether the label is a host name, as for pods of a StatefulSet.
    pub named: bool,
}

impl Objects {
    /// Reads a directory.
    pub fn read(directory: &Path) -> std::io::Result<Self> {
        let mut objects = Self::default();
        for path in cluster::manifests::files(directory)? {
            let text = fs::read_to_string(&path).ok();
            let (mut read, mut failed) = (0, usize::from(text.is_none()));
            let text = text.unwrap_or_default();
            for document in cluster::manifests::documents(&path, &text) {
                match documents(document) {
                    Some(values) => {
                        read += values.len();
                        for value in values {
                            objects.add(value, "");
                        }
                    }
                    None => failed += 1,
                }
            }
            if failed > 0 {
                let name = path.strip_prefix(directory).unwrap_or(&path);
                let list = if read == 0 {
                    &mut objects.unread
                } else {
                    &mut objects.partly
                };
                list.push(name.display().to_string());
            }
        }
        // Suppresses the source's log lines about unreadable files: the server logs them too.
        let served = with_default(NoSubscriber::default(), || {
            cluster::manifests::objects(directory)
        });
        objects.complete(served);
        Ok(objects)
    }

    /// Whether there are no objects to show.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.pods.is_empty()
    }

    /// Adds a Service, or the items of a list. Items of a typed list may omit their kind: `of`.
    fn add(&mut self, mut value: Value, of: &str) {
        let kind = value["kind"].as_str().unwrap_or(of).to_owned();
        if kind == "Service" {
            if let Some(service) = service(&value) {
                // A repeated declaration replaces the earlier one.
                self.services
                    .retain(|it| (&it.namespace, &it.name) != (&service.namespace, &service.name));
                self.services.push(service);
            }
        } else if let Some(of) = kind.strip_suffix("List")
            && let Value::Array(items) = value["items"].take()
        {
            for item in items {
                self.add(item, of);
            }
        }
    }

    /// Adds addresses and endpoints from the served objects.
    fn complete(&mut self, served: Vec<Object>) {
        self.pods = served.iter().filter_map(pod).collect();
        let cluster = cluster::load(served);
        self.namespaces = cluster.namespaces().count();
        // Services that are not served are left out.
        self.services
            .retain_mut(|service| service.complete(&cluster).is_some());
    }
}

impl Service {
    fn complete(&mut self, cluster: &Cluster) -> Option<()> {
        let entry = cluster.entry(&self.namespace, &self.name)?;
        self.addresses = entry.service.as_ref()?.cluster_ips.to_vec();
        let endpoints = entry.endpoints().map(|endpoint| Endpoint {
            label: endpoint
                .hostname()
                .map_or_else(|| dashed(endpoint.address), str::to_owned),
            address: endpoint.address,
            ready: endpoint.ready,
            named: endpoint.hostname().is_some(),
        });
        self.endpoints = endpoints.collect();
        Some(())
    }

    /// The ready endpoints.
    pub fn ready(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|it| it.ready)
    }

    /// The endpoints that are not ready.
    pub fn unready(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|it| !it.ready)
    }
}

/// An address as a label: `10.0.0.1` becomes `10-0-0-1`. A label must not begin or end with a
/// hyphen.
pub fn dashed(address: IpAddr) -> String {
    let mut label = address.to_string().replace(['.', ':'], "-");
    if label.ends_with('-') {
        label.push('0');
    }
    label
}

/// All documents of a file; `None` if it is not YAML.
fn documents(text: &str) -> Option<Vec<Value>> {
    let options = serde_saphyr::options! {
        // Enough for `kubectl get -o yaml` of a whole cluster.
        budget: serde_saphyr::budget! {
            max_documents: 100_000, max_nodes: 5_000_000, max_events: 20_000_000,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options).ok()
}

/// A Service as declared. Unusable fields are ignored, as in the server.
fn service(value: &Value) -> Option<Service> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (metadata, spec) = (&value["metadata"], &value["spec"]);
    let ports = spec["ports"].as_array().into_iter().flatten();
    let ports: Vec<_> = ports.filter_map(|it| Some((port(it)?, it))).collect();
    let many = spec["clusterIPs"].as_array().into_iter().flatten();
    let mut cluster_ips = many.chain([&spec["clusterIP"]]).filter_map(Value::as_str);
    let kind = match spec["type"].as_str() {
        Some("ExternalName") => Kind::ExternalName(text(&spec["externalName"]).unwrap_or_default()),
        _ if cluster_ips.next() == Some("None") => Kind::Headless,
        Some("NodePort") => {
            let ports = ports.iter();
            Kind::NodePort(
                ports
                    .filter_map(|(_, it)| number(&it["nodePort"]))
                    .collect(),
            )
        }
        Some("LoadBalancer") => {
            let first = &value["status"]["loadBalancer"]["ingress"][0];
            Kind::LoadBalancer(text(&first["ip"]).or_else(|| text(&first["hostname"])))
        }
        _ => Kind::ClusterIp,
    };
    Some(Service {
        // The API server's default.
        namespace: text(&metadata["namespace"]).unwrap_or_else(|| "default".to_owned()),
        name: text(&metadata["name"])?,
        kind,
        addresses: Vec::new(),
        ports: ports.into_iter().map(|(port, _)| port).collect(),
        selects: spec["selector"]
            .as_object()
            .is_some_and(|it| !it.is_empty()),
        endpoints: Vec::new(),
    })
}

fn port(value: &Value) -> Option<Port> {
    let protocol = value["protocol"].as_str();
    Some(Port {
        name: value["name"].as_str().map(str::to_owned),
        number: number(&value["port"])?,
        protocol: protocol.unwrap_or("TCP").to_lowercase(),
    })
}

/// A port number.
fn number(value: &Value) -> Option<i32> {
    let number = value.as_u64().and_then(|it| u16::try_from(it).ok());
    number.map(i32::from)
}

fn pod(object: &Object) -> Option<Pod> {
    let Object::Pod(pod) = object else {
        return None;
    };
    Some(Pod {
        namespace: pod.namespace.to_string(),
        address: pod.addresses().next()?,
    })
}
