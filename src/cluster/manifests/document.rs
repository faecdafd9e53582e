//! The documents of a manifest file: objects, with the fields that the emulated controllers need.

use super::wire::{LabelSet, TargetPort};
use crate::cluster::endpoint::Endpoint;
use crate::cluster::event::{Kind, Object, ObjectKey};
use crate::cluster::object::{Pod, Port, Protocol, Service};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A document.
pub(super) enum Document {
    /// A Namespace.
    Namespace(Object, LabelSet),
    /// A Service.
    Service(Box<DeclaredService>),
    /// An EndpointSlice, or `None` if DNS has no use for it.
    EndpointSlice(Option<Object>, LabelSet),
    /// Endpoints.
    Endpoints(Box<DeclaredEndpoints>),
    /// A Pod.
    Pod(Box<DeclaredPod>),
    /// A ServiceImport.
    ServiceImport(Object),
    /// Any other kind, with its namespace.
    Other(String),
}

/// A declared Service.
pub(super) struct DeclaredService {
    pub service: Service,
    pub labels: LabelSet,
    /// Whether it specifies cluster IPs, valid or not.
    pub has_address: bool,
    /// `spec.selector`; empty if absent.
    pub selector: LabelSet,
    pub ports: Vec<DeclaredPort>,
    /// `spec.ipFamilies`, `IPv4` or `IPv6`.
    pub families: Vec<String>,
    /// Whether `spec.ipFamilyPolicy` requests both families.
    pub dual: bool,
    /// `spec.publishNotReadyAddresses`
    pub publish_not_ready: bool,
}

/// A port of a Service with its target.
pub(super) struct DeclaredPort {
    pub name: String,
    pub port: u16,
    pub protocol: Option<Protocol>,
    pub target: Option<TargetPort>,
}

/// Declared Endpoints: subsets with common ports.
pub(super) struct DeclaredEndpoints {
    pub key: ObjectKey,
    pub labels: LabelSet,
    pub subsets: Vec<(Arc<[Port]>, Vec<Endpoint>)>,
}

/// A declared Pod, with the fields that make it an endpoint.
pub(super) struct DeclaredPod {
    pub key: ObjectKey,
    pub labels: LabelSet,
    /// The reduced Pod; `None` if it has ended or has no address.
    pub pod: Option<Pod>,
    pub ready: bool,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    /// Named ports of its containers.
    pub ports: Vec<DeclaredContainerPort>,
}

/// A port of a container.
pub(super) struct DeclaredContainerPort {
    pub name: String,
    pub number: u16,
    pub protocol: Option<Protocol>,
}

impl Document {
    /// The identity of the object; `None` if DNS has no use for it.
    pub(super) fn id(&self) -> Option<ObjectId> {
        let (kind, key) = match self {
            Self::Namespace(object, _)
            | Self::EndpointSlice(Some(object), _)
            | Self::ServiceImport(object) => (Some(object.kind()), object.key()),
            Self::Service(it) => {
                let Service {
                    namespace, name, ..
                } = &it.service;
                (Some(Kind::Service), (&**namespace, &**name).into())
            }
            Self::Pod(it) => (Some(Kind::Pod), it.key.clone()),
            Self::Endpoints(it) => (None, it.key.clone()),
            Self::EndpointSlice(None, _) | Self::Other(_) => return None,
        };
        Some(ObjectId { kind, key })
    }
}

/// The identity of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ObjectId {
    /// `None` for Endpoints.
    pub kind: Option<Kind>,
    pub key: ObjectKey,
}

/// The content of a file.
#[derive(Default)]
pub(super) struct ParsedFile {
    pub documents: Vec<Document>,
    pub errors: Vec<ManifestError>,
    /// Kinds without use for DNS.
    pub ignored: BTreeSet<String>,
}

/// An error in a file.
#[derive(Debug)]
pub(super) struct ManifestError {
    /// 1-based line number.
    pub line: usize,
    pub message: String,
    pub impact: Impact,
    /// The kind of the object, if it is a watched kind.
    pub kind: Option<Kind>,
}

/// What an error affects.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Impact {
    /// Number of fields skipped.
    Fields(u32),
    /// This object is skipped.
    Object(ObjectId),
    /// A document of unknown identity, or the rest of the file.
    Unknown,
}
