//! The one language of both sources: what a source says about the cluster, event by event.

use super::object::{Namespace, Pod, Service, ServiceImport, Slice};
use std::time::SystemTime;

/// Something a source says. Events of one kind come in order; kinds are independent.
#[derive(Clone, Debug)]
pub enum Event {
    /// A list of everything of this kind begins. What is known stays until `End`. A second
    /// `Begin` before `End` (the list failed half way and starts anew) forgets what the first
    /// attempt has listed, but not what was known.
    Begin(Kind),
    /// This object is there, as it stands here.
    Apply(Object),
    /// This object is gone, or no longer of interest.
    Delete(Kind, Key),
    /// This object is there but could not be read. What was known of it stays; it is counted.
    /// The key is told where at least that could be read.
    Skip(Kind, Option<Key>),
    /// So many parts of an object that could be read otherwise were left out; they are counted.
    LeftOut(Kind, u32),
    /// The list is complete: whatever of this kind was known and has not been applied or skipped
    /// since the last `Begin` is gone.
    End(Kind),
    /// The source is in touch and up to date with this kind, though nothing has changed.
    Alive(Kind),
}

impl Event {
    /// The kind of object that it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Begin(kind)
            | Self::Delete(kind, _)
            | Self::Skip(kind, _)
            | Self::LeftOut(kind, _)
            | Self::End(kind)
            | Self::Alive(kind) => *kind,
            Self::Apply(object) => object.kind(),
        }
    }
}

/// The kinds of object that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Namespace, v1.
    Namespace,
    /// Service, v1.
    Service,
    /// EndpointSlice, discovery.k8s.io/v1.
    Slice,
    /// Pod, v1.
    Pod,
    /// ServiceImport, multicluster.x-k8s.io.
    Import,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Namespace,
        Self::Service,
        Self::Slice,
        Self::Pod,
        Self::Import,
    ];

    /// The API group, as RBAC rules name it; empty for the core.
    pub fn group(self) -> &'static str {
        match self {
            Self::Namespace | Self::Service | Self::Pod => "",
            Self::Slice => "discovery.k8s.io",
            Self::Import => "multicluster.x-k8s.io",
        }
    }

    /// The resource's name in the API's paths, in RBAC rules, and in logs.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Service => "services",
            Self::Slice => "endpointslices",
            Self::Pod => "pods",
            Self::Import => "serviceimports",
        }
    }
}

/// Which object of a kind; the namespace of a Namespace is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace; empty for a Namespace itself.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl From<(&str, &str)> for Key {
    fn from((namespace, name): (&str, &str)) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// An object as a source has read it.
#[derive(Clone, Debug)]
pub enum Object {
    /// A Namespace.
    Namespace(Namespace),
    /// A Service.
    Service(Service),
    /// An EndpointSlice, and when the change that it reflects was made (the annotation
    /// `endpoints.kubernetes.io/last-change-trigger-time`). The time stands beside the slice: it
    /// is measured once and not kept.
    Slice(Slice, Option<SystemTime>),
    /// A Pod.
    Pod(Pod),
    /// A ServiceImport.
    Import(ServiceImport),
}

impl Object {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Service(_) => Kind::Service,
            Self::Slice(..) => Kind::Slice,
            Self::Pod(_) => Kind::Pod,
            Self::Import(_) => Kind::Import,
        }
    }

    /// Which one it is.
    pub fn key(&self) -> Key {
        let (namespace, name): (&str, &str) = match self {
            Self::Namespace(object) => ("", &object.name),
            Self::Service(object) => (&object.namespace, &object.name),
            Self::Slice(object, _) => (&object.namespace, &object.name),
            Self::Pod(object) => (&object.namespace, &object.name),
            Self::Import(object) => (&object.namespace, &object.name),
        };
        (namespace, name).into()
    }
}
