//! What to watch and where, as values that can be compared: a reload keeps a source whose
//! settings are the same.

use super::event::Kind;
use super::selector::Selector;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a source needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools)] // independent of each other
pub struct Settings {
    /// Where the cluster is told of.
    pub origin: Origin,
    /// `labels`: which Services, EndpointSlices and Pods there are.
    pub labels: Selector,
    /// `namespace_labels`: which Namespaces there are.
    pub namespace_labels: Selector,
    /// Watch Pods: `pods verified`.
    pub pods: bool,
    /// The labels of Pods that somebody reads, by name; all others are not kept.
    pub pod_labels: Box<[Box<str>]>,
    /// Keep the names of the pods behind endpoints: `endpoint_pod_names`. Nobody else asks for
    /// them, and they are the longest part of an endpoint.
    pub pod_names: bool,
    /// Watch EndpointSlices: not `noendpoints`.
    pub slices: bool,
    /// Watch ServiceImports: `multicluster`.
    pub imports: bool,
    /// `apiserver_qps` and its kin.
    pub limits: Limits,
    /// How long to wait for what.
    pub timing: Timing,
}

/// Where the cluster is told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The cluster that this process is a pod of.
    InCluster,
    /// `kubeconfig FILE [CONTEXT]`
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// The context; None takes the file's current one.
        context: Option<String>,
    },
    /// `endpoint URL`, with `tls CERT KEY CA`
    Endpoint {
        /// The API server's address, `http://` or `https://`.
        url: String,
        /// Certificates, where they are configured.
        tls: Option<Tls>,
    },
    /// `manifests DIR`
    Manifests {
        /// The directory.
        directory: PathBuf,
    },
}

/// `tls CERT KEY CA`: files in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// The client's certificate.
    pub certificate: PathBuf,
    /// The client's key.
    pub key: PathBuf,
    /// What the server's certificate must be signed by.
    pub authority: PathBuf,
}

/// How hard the API server may be asked. Watches are few and long, so these seldom matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// `apiserver_qps`: requests started in a thousand seconds; 0 is no limit.
    pub per_thousand_seconds: u64,
    /// `apiserver_burst`: how many may come at once before the rate counts; 0 is as 1.
    pub burst: u32,
    /// `apiserver_max_inflight`: requests waiting for their answer at once; 0 is no limit. An
    /// established watch does not count.
    pub in_flight: u32,
}

/// How long to wait for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// For the head of a response, and between parts of a list.
    pub response: Duration,
    /// For the next part of a list that comes as a stream. Beyond it the server is taken to be
    /// one that does not know streamed lists, and pages are asked for.
    pub initial: Duration,
    /// For anything on an established watch. API servers send a bookmark about once a minute, so
    /// silence for longer is most likely a dead connection; to resume costs little if it is not.
    pub idle: Duration,
    /// How long the server is asked to keep a watch: at least this, at most twice as long.
    pub watch: Duration,
    /// The first pause after a failure; it doubles with each further one.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Settings {
    /// Everything of the cluster at `origin`, but Pods and imports.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            labels: Selector::default(),
            namespace_labels: Selector::default(),
            pods: false,
            pod_labels: Box::default(),
            pod_names: false,
            slices: true,
            imports: false,
            limits: Limits::default(),
            timing: Timing::default(),
        }
    }

    /// The kinds that are watched, and that must be listed before anything can be denied.
    pub fn kinds(&self) -> Vec<Kind> {
        let wanted = |kind: &Kind| match kind {
            Kind::Namespace | Kind::Service => true,
            Kind::Slice => self.slices,
            Kind::Pod => self.pods,
            Kind::Import => self.imports,
        };
        Kind::ALL.into_iter().filter(wanted).collect()
    }

    /// The selector that applies to a kind.
    pub fn selector(&self, kind: Kind) -> &Selector {
        match kind {
            Kind::Namespace => &self.namespace_labels,
            _ => &self.labels,
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            response: Duration::from_secs(30),
            initial: Duration::from_secs(10),
            idle: Duration::from_secs(150),
            watch: Duration::from_mins(5),
            pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
        }
    }
}
