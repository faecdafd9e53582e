//! Objects as Protocol Buffers messages: fields can be added, and files of older versions stay readable.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use prost::{Message, Oneof};

use crate::cluster::{
    Endpoint, EndpointSlice, ExternalAddresses, ImportOrigin, Namespace, Object, ObjectRevision,
    Pod, PodLabels, Port, Protocol, Service, ServiceImport, ServiceKind,
};

/// An object of any kind.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SnapshotObject {
    #[prost(oneof = "AnyObject", tags = "1, 2, 3, 4, 5")]
    object: Option<AnyObject>,
}

#[derive(Clone, PartialEq, Oneof)]
enum AnyObject {
    #[prost(string, tag = "1")]
    Namespace(String),
    #[prost(message, tag = "2")]
    Service(ServiceMessage),
    #[prost(message, tag = "3")]
    Slice(SliceMessage),
    #[prost(message, tag = "4")]
    Pod(PodMessage),
    #[prost(message, tag = "5")]
    Import(ImportMessage),
}

#[derive(Clone, PartialEq, Message)]
struct ServiceMessage {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    /// 0: with cluster IPs, 1: headless, 2: ExternalName.
    #[prost(uint32, tag = "3")]
    kind: u32,
    /// 4 or 16 bytes each, as all addresses here.
    #[prost(bytes = "vec", repeated, tag = "4")]
    cluster_ips: Vec<Vec<u8>>,
    #[prost(string, optional, tag = "5")]
    external_name: Option<String>,
    #[prost(message, repeated, tag = "6")]
    ports: Vec<PortMessage>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    external_addresses: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "8")]
    external_names: Vec<String>,
    #[prost(uint32, tag = "9")]
    created: u32,
    #[prost(uint64, optional, tag = "10")]
    version: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct PortMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, optional, tag = "2")]
    number: Option<u32>,
    /// 0: not stated, 1: TCP, 2: UDP, 3: SCTP.
    #[prost(uint32, tag = "3")]
    protocol: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SliceMessage {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    service: String,
    #[prost(string, optional, tag = "4")]
    import: Option<String>,
    #[prost(string, tag = "5")]
    import_cluster: String,
    #[prost(message, repeated, tag = "6")]
    ports: Vec<PortMessage>,
    #[prost(message, repeated, tag = "7")]
    endpoints: Vec<EndpointMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct EndpointMessage {
    #[prost(bytes = "vec", tag = "1")]
    address: Vec<u8>,
    #[prost(bool, tag = "2")]
    ready: bool,
    #[prost(string, tag = "3")]
    hostname: String,
    #[prost(string, tag = "4")]
    pod: String,
    #[prost(string, tag = "5")]
    zone: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodMessage {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bytes = "vec", repeated, tag = "3")]
    addresses: Vec<Vec<u8>>,
    #[prost(bool, tag = "4")]
    host_network: bool,
    #[prost(message, repeated, tag = "5")]
    labels: Vec<LabelMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelMessage {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImportMessage {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bool, tag = "3")]
    headless: bool,
    #[prost(bytes = "vec", repeated, tag = "4")]
    ips: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "5")]
    ports: Vec<PortMessage>,
}

impl SnapshotObject {
    pub(super) fn of(object: &Object) -> Self {
        match object {
            Object::Namespace(object) => Self::namespace(object),
            Object::Service(object) => Self::service(object),
            Object::EndpointSlice(object, _) => Self::slice(object),
            Object::Pod(object) => Self::pod(object),
            Object::ServiceImport(object) => Self::import(object),
        }
    }

    pub(super) fn namespace(namespace: &Namespace) -> Self {
        Self::new(AnyObject::Namespace(namespace.name.to_string()))
    }

    pub(super) fn service(service: &Service) -> Self {
        let external = service.external.as_deref();
        let addresses = external.map_or(&[][..], |it| &it.addresses);
        let names = external.map_or(&[][..], |it| &it.hostnames);
        Self::new(AnyObject::Service(ServiceMessage {
            namespace: service.namespace.to_string(),
            name: service.name.to_string(),
            kind: match service.kind {
                ServiceKind::ClusterIp => 0,
                ServiceKind::Headless => 1,
                ServiceKind::ExternalName => 2,
            },
            cluster_ips: bytes_of(&service.cluster_ips),
            external_name: service.external_name.as_deref().map(str::to_owned),
            ports: messages_of(&service.ports),
            external_addresses: bytes_of(addresses),
            external_names: names.iter().map(ToString::to_string).collect(),
            created: service.revision.created,
            version: service.revision.version(),
        }))
    }

    pub(super) fn slice(slice: &EndpointSlice) -> Self {
        let import = slice.import.as_deref();
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let endpoints = slice.endpoints.iter().map(|endpoint| EndpointMessage {
            address: bytes(endpoint.address),
            ready: endpoint.ready,
            hostname: text(endpoint.hostname()),
            pod: text(endpoint.pod()),
            zone: text(endpoint.zone()),
        });
        Self::new(AnyObject::Slice(SliceMessage {
            namespace: slice.namespace.to_string(),
            name: slice.name.to_string(),
            service: slice.service.to_string(),
            import: import.map(|it| it.service.to_string()),
            import_cluster: text(import.map(|it| &*it.cluster)),
            ports: messages_of(&slice.ports),
            endpoints: endpoints.collect(),
        }))
    }

    pub(super) fn pod(pod: &Pod) -> Self {
        let labels = pod.labels.iter().flat_map(|labels| labels.iter());
        let labels = labels.map(|(key, value)| LabelMessage {
            key: key.to_owned(),
            value: value.to_owned(),
        });
        Self::new(AnyObject::Pod(PodMessage {
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
            addresses: pod.addresses().map(bytes).collect(),
            host_network: pod.host_network,
            labels: labels.collect(),
        }))
    }

    pub(super) fn import(import: &ServiceImport) -> Self {
        Self::new(AnyObject::Import(ImportMessage {
            namespace: import.namespace.to_string(),
            name: import.name.to_string(),
            headless: import.headless,
            ips: bytes_of(&import.ips),
            ports: messages_of(&import.ports),
        }))
    }

    fn new(object: AnyObject) -> Self {
        Self {
            object: Some(object),
        }
    }

    /// The object; `None` if it is of a kind that this version does not know.
    ///
    /// # Errors
    /// A field has an impossible value.
    pub(super) fn into_object(self) -> Result<Option<Object>, String> {
        let Some(object) = self.object else {
            return Ok(None);
        };
        Ok(Some(match object {
            AnyObject::Namespace(name) => Object::Namespace(Namespace { name: name.into() }),
            AnyObject::Service(service) => Object::Service(service.into_object()?),
            AnyObject::Slice(slice) => Object::EndpointSlice(slice.into_object()?, None),
            AnyObject::Pod(pod) => Object::Pod(pod.into_object()?),
            AnyObject::Import(import) => Object::ServiceImport(import.into_object()?),
        }))
    }
}

impl ServiceMessage {
    fn into_object(self) -> Result<Service, String> {
        let external = ExternalAddresses {
            addresses: addresses_of(&self.external_addresses)?,
            hostnames: self.external_names.into_iter().map(Into::into).collect(),
        };
        let has_external = external != ExternalAddresses::default();
        Ok(Service {
            namespace: self.namespace.into(),
            name: self.name.into(),
            kind: match self.kind {
                0 => ServiceKind::ClusterIp,
                1 => ServiceKind::Headless,
                2 => ServiceKind::ExternalName,
                kind => return Err(format!("a Service of kind {kind}")),
            },
            cluster_ips: addresses_of(&self.cluster_ips)?,
            external_name: self.external_name.map(Into::into),
            ports: ports_of(self.ports)?,
            external: has_external.then(|| Box::new(external)),
            revision: ObjectRevision::new(self.created, self.version),
        })
    }
}

impl SliceMessage {
    fn into_object(self) -> Result<EndpointSlice, String> {
        let import = self.import.map(|service| {
            Box::new(ImportOrigin {
                service: service.into(),
                cluster: self.import_cluster.into(),
            })
        });
        let endpoints = self.endpoints.iter().map(|endpoint| {
            let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Ok(Endpoint::new(
                address(&endpoint.address)?,
                endpoint.ready,
                named(&endpoint.hostname).as_deref(),
                named(&endpoint.pod).as_deref(),
                named(&endpoint.zone).as_deref(),
            ))
        });
        let endpoints = endpoints.collect::<Result<Vec<_>, String>>()?;
        Ok(EndpointSlice {
            namespace: self.namespace.into(),
            name: self.name.into(),
            service: self.service.into(),
            import,
            ports: ports_of(self.ports)?,
            endpoints: endpoints.into(),
        })
    }
}

impl PodMessage {
    fn into_object(self) -> Result<Pod, String> {
        let (mut v4, mut v6) = (None, None);
        for bytes in &self.addresses {
            match address(bytes)? {
                IpAddr::V4(address) => v4 = Some(address),
                IpAddr::V6(address) => v6 = Some(address),
            }
        }
        let labels = self.labels.into_iter();
        let labels = labels.map(|label| (label.key.into(), label.value.into()));
        Ok(Pod {
            namespace: self.namespace.into(),
            name: self.name.into(),
            v4,
            v6,
            host_network: self.host_network,
            labels: PodLabels::new(labels),
        })
    }
}

impl ImportMessage {
    fn into_object(self) -> Result<ServiceImport, String> {
        Ok(ServiceImport {
            namespace: self.namespace.into(),
            name: self.name.into(),
            headless: self.headless,
            ips: addresses_of(&self.ips)?,
            ports: ports_of(self.ports)?,
        })
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn bytes_of(addresses: &[IpAddr]) -> Vec<Vec<u8>> {
    addresses.iter().copied().map(bytes).collect()
}

fn address(bytes: &[u8]) -> Result<IpAddr, String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(bytes).into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => Ok(Ipv6Addr::from(bytes).into()),
        Err(_) => Err(format!("an address of {} bytes", bytes.len())),
    }
}

fn addresses_of(list: &[Vec<u8>]) -> Result<Box<[IpAddr]>, String> {
    list.iter().map(|bytes| address(bytes)).collect()
}

fn messages_of(ports: &[Port]) -> Vec<PortMessage> {
    let ports = ports.iter().map(|port| PortMessage {
        name: port.name.to_string(),
        number: port.number.map(u32::from),
        protocol: match port.protocol {
            Protocol::Unstated => 0,
            Protocol::Tcp => 1,
            Protocol::Udp => 2,
            Protocol::Sctp => 3,
        },
    });
    ports.collect()
}

fn ports_of(messages: Vec<PortMessage>) -> Result<Arc<[Port]>, String> {
    let ports = messages.into_iter().map(|port| {
        let number = port.number.map(u16::try_from).transpose();
        Ok(Port {
            name: port.name.into(),
            number: number.map_err(|_| "a port above 65,535".to_owned())?,
            protocol: match port.protocol {
                0 => Protocol::Unstated,
                1 => Protocol::Tcp,
                2 => Protocol::Udp,
                3 => Protocol::Sctp,
                protocol => return Err(format!("a port of protocol {protocol}")),
            },
        })
    });
    ports.collect::<Result<Vec<_>, String>>().map(Into::into)
}
