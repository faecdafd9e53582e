//! Events: the common interface of both sources (API server, manifests directory) to the state.

use super::object::{EndpointSlice, Namespace, Pod, Service, ServiceImport};
use std::time::SystemTime;

/// An event of a source. Events of one kind are ordered; kinds are independent of each other.
#[derive(Clone, Debug)]
pub enum Event {
    /// Start of a full list of this kind. Known objects stay until `ListEnd`. A second `ListStart`
    /// before `ListEnd` (the list failed and restarts) discards what the first attempt confirmed,
    /// not the known objects.
    ListStart(Kind),
    /// The object exists, in this state.
    Apply(Object),
    /// The object was deleted, or no longer matches.
    Delete(Kind, ObjectKey),
    /// The object exists but could not be decoded: its last known state stays, and the failure is
    /// counted. The key is present if at least the metadata could be decoded.
    SkippedObject(Kind, Option<ObjectKey>),
    /// Number of invalid fields skipped in an object that was otherwise decoded; counted.
    SkippedFields(Kind, u32),
    /// The list is complete: known objects of this kind that were neither applied nor skipped since
    /// the last `ListStart` are deleted.
    ListEnd(Kind),
    /// The source is connected and up to date for this kind, without a change.
    Heartbeat(Kind),
}

impl Event {
    /// The kind of object concerned.
    pub fn kind(&self) -> Kind {
        match self {
            Self::ListStart(kind)
            | Self::Delete(kind, _)
            | Self::SkippedObject(kind, _)
            | Self::SkippedFields(kind, _)
            | Self::ListEnd(kind)
            | Self::Heartbeat(kind) => *kind,
            Self::Apply(object) => object.kind(),
        }
    }
}

/// The kinds of object that may be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Namespace, v1.
    Namespace,
    /// Service, v1.
    Service,
    /// EndpointSlice, discovery.k8s.io/v1.
    EndpointSlice,
    /// Pod, v1.
    Pod,
    /// ServiceImport, multicluster.x-k8s.io.
    ServiceImport,
}

impl Kind {
    /// All kinds, in discriminant order.
    pub const ALL: [Self; 5] = [
        Self::Namespace,
        Self::Service,
        Self::EndpointSlice,
        Self::Pod,
        Self::ServiceImport,
    ];

    /// The API group, as RBAC rules name it; empty for the core.
    pub fn group(self) -> &'static str {
        match self {
            Self::Namespace | Self::Service | Self::Pod => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::ServiceImport => "multicluster.x-k8s.io",
        }
    }

    /// The resource name in API paths, RBAC rules and logs.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::Pod => "pods",
            Self::ServiceImport => "serviceimports",
        }
    }
}

/// The key of an object within its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace; empty for a Namespace object.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl From<(&str, &str)> for ObjectKey {
    fn from((namespace, name): (&str, &str)) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// A decoded object.
#[derive(Clone, Debug)]
pub enum Object {
    /// A Namespace.
    Namespace(Namespace),
    /// A Service.
    Service(Service),
    /// An EndpointSlice, and the time of the change that triggered it (annotation
    /// `endpoints.kubernetes.io/last-change-trigger-time`). The time is measured once and not
    /// stored, so it is not part of the slice.
    EndpointSlice(EndpointSlice, Option<SystemTime>),
    /// A Pod.
    Pod(Pod),
    /// A ServiceImport.
    ServiceImport(ServiceImport),
}

impl Object {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(..) => Kind::EndpointSlice,
            Self::Pod(_) => Kind::Pod,
            Self::ServiceImport(_) => Kind::ServiceImport,
        }
    }

    /// The key.
    pub fn key(&self) -> ObjectKey {
        let (namespace, name): (&str, &str) = match self {
            Self::Namespace(object) => ("", &object.name),
            Self::Service(object) => (&object.namespace, &object.name),
            Self::EndpointSlice(object, _) => (&object.namespace, &object.name),
            Self::Pod(object) => (&object.namespace, &object.name),
            Self::ServiceImport(object) => (&object.namespace, &object.name),
        };
        (namespace, name).into()
    }
}
