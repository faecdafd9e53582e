//! The documents of a manifest file: objects, with what the controllers need of them.

use super::wire::TargetPort;
use crate::cluster::endpoint::Endpoint;
use crate::cluster::event::{Key, Kind, Object};
use crate::cluster::object::{Pod, Port, Protocol, Service};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Labels, sorted by name.
pub(super) type Labels = BTreeMap<String, String>;

/// What a document declares.
pub(super) enum Document {
    /// A Namespace.
    Namespace(Object, Labels),
    /// A Service.
    Service(Box<Declared>),
    /// An EndpointSlice that some Service owns; or none, where names have no use for it.
    Slice(Option<Object>, Labels),
    /// Endpoints.
    Endpoints(Box<Endpoints>),
    /// A Pod.
    Pod(Box<Running>),
    /// A ServiceImport.
    Import(Object),
    /// Anything else that lives in this namespace: a Deployment, a ConfigMap.
    Other(String),
}

/// A Service as it was declared.
pub(super) struct Declared {
    pub service: Service,
    pub labels: Labels,
    /// It names cluster addresses, usable or not.
    pub has_address: bool,
    /// `spec.selector`; empty where it has none.
    pub selector: Labels,
    pub ports: Vec<DeclaredPort>,
    /// `spec.ipFamilies`, `IPv4` or `IPv6`.
    pub families: Vec<String>,
    /// `spec.ipFamilyPolicy` asks for both families.
    pub dual: bool,
    /// `spec.publishNotReadyAddresses`
    pub publish_not_ready: bool,
}

/// A port of a Service, and where it leads.
pub(super) struct DeclaredPort {
    pub name: String,
    pub port: u16,
    pub protocol: Option<Protocol>,
    pub target: Option<TargetPort>,
}

/// Endpoints as they were declared, in parts that share their ports.
pub(super) struct Endpoints {
    pub key: Key,
    pub labels: Labels,
    pub subsets: Vec<(Arc<[Port]>, Vec<Endpoint>)>,
}

/// A Pod, with what makes it an endpoint.
pub(super) struct Running {
    pub key: Key,
    pub labels: Labels,
    /// As it is served by address; None where it is over or has no address.
    pub pod: Option<Pod>,
    pub ready: bool,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    /// Its containers' ports by name.
    pub ports: Vec<ContainerPort>,
}

/// A port of a container.
pub(super) struct ContainerPort {
    pub name: String,
    pub number: u16,
    pub protocol: Option<Protocol>,
}

impl Document {
    /// Which object it is, by its kind and its name; None of those that names have no use for.
    pub(super) fn id(&self) -> Option<Id> {
        let (kind, key) = match self {
            Self::Namespace(object, _) | Self::Slice(Some(object), _) | Self::Import(object) => {
                (Some(object.kind()), object.key())
            }
            Self::Service(it) => {
                let Service {
                    namespace, name, ..
                } = &it.service;
                (Some(Kind::Service), (&**namespace, &**name).into())
            }
            Self::Pod(it) => (Some(Kind::Pod), it.key.clone()),
            Self::Endpoints(it) => (None, it.key.clone()),
            Self::Slice(None, _) | Self::Other(_) => return None,
        };
        Some(Id { kind, key })
    }
}

/// Which object a document is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    /// None of Endpoints.
    pub kind: Option<Kind>,
    pub key: Key,
}

/// The contents of a file.
#[derive(Default)]
pub(super) struct Contents {
    pub documents: Vec<Document>,
    pub faults: Vec<Fault>,
    /// Kinds of object that names have no use for.
    pub ignored: BTreeSet<String>,
}

/// Something in a file that cannot be used.
#[derive(Debug)]
pub(super) struct Fault {
    /// Counted from 1.
    pub line: usize,
    pub what: String,
    pub lost: Lost,
    /// The kind of object that it concerns, where it is one that is kept.
    pub kind: Option<Kind>,
}

/// What a fault costs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// So many fields.
    Fields(u32),
    /// This object.
    Object(Id),
    /// A document that does not say which object it is, or all that follows in the file.
    Unknown,
}
