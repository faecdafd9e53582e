//! What to watch and where, as comparable values: a reload keeps a source whose settings are
//! unchanged.

use super::event::Kind;
use super::selector::Selector;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools)] // independent of each other
pub struct Settings {
    /// Where objects come from.
    pub backend: Backend,
    /// `labels`: selector for Services, EndpointSlices and Pods.
    pub labels: Selector,
    /// `namespace_labels`: selector for Namespaces.
    pub namespace_labels: Selector,
    /// Watch Pods (`pods verified`).
    pub pods: bool,
    /// The keys of the Pod labels to keep; others are dropped.
    pub pod_labels: Box<[Box<str>]>,
    /// Keep the pod names of endpoints (`endpoint_pod_names`). Dropped otherwise: they are the
    /// longest part of an endpoint.
    pub pod_names: bool,
    /// Watch EndpointSlices (unless `noendpoints`).
    pub slices: bool,
    /// Watch ServiceImports (`multicluster`).
    pub imports: bool,
    /// `apiserver_qps`, `apiserver_burst`, `apiserver_max_inflight`.
    pub limits: RateLimits,
    /// Timeouts and back-off.
    pub timing: Timing,
    /// `audit`: mean time between two comparisons of what the watches have delivered with lists of names
    /// and versions; `None` is off. For API servers only.
    pub audit: Option<Duration>,
    /// `snapshot`: where the last known objects are kept for a restart.
    pub snapshot: Option<SnapshotSettings>,
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// The API server of the cluster this pod runs in.
    InCluster,
    /// `kubeconfig FILE [CONTEXT]`
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// The context; `None` is the file's `current-context`.
        context: Option<String>,
    },
    /// `endpoint URL`, with `tls CERT KEY CA`
    Endpoint {
        /// The API server's address, `http://` or `https://`.
        url: String,
        /// Certificates, if configured.
        tls: Option<ClientTls>,
    },
    /// `manifests DIR`
    Manifests {
        /// The directory.
        directory: PathBuf,
    },
}

/// `tls CERT KEY CA`: files in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientTls {
    /// The client's certificate.
    pub certificate: PathBuf,
    /// The client's key.
    pub key: PathBuf,
    /// The CA of the server's certificate.
    pub authority: PathBuf,
}

/// Client-side limits on requests to the API server. Watches are few and long, so these are rarely
/// reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RateLimits {
    /// `apiserver_qps`: requests per 1,000 seconds; 0 is unlimited.
    pub per_thousand_seconds: u64,
    /// `apiserver_burst`: requests allowed above the rate at once; 0 is treated as 1.
    pub burst: u32,
    /// `apiserver_max_inflight`: concurrent requests without a response; 0 is unlimited.
    /// Established watches do not count.
    pub in_flight: u32,
}

/// Timeouts and back-off of the API server client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Timeout for a response head, and between parts of a paged list.
    pub response: Duration,
    /// Timeout between parts of a streamed list. When it expires, the server is assumed not to
    /// support streamed lists (`sendInitialEvents`), and paged lists are used.
    pub initial: Duration,
    /// Timeout of an established watch between two events or bookmarks. API servers send a bookmark
    /// every 60 to 75 seconds, so a longer silence most likely means a dead connection behind a proxy
    /// that acknowledges TCP's probes; resuming is cheap if it does not.
    pub idle: Duration,
    /// Timeout of an audit that has found differences, for the watch to reach the version of its list:
    /// longer than `idle`, so that a dead connection has been replaced.
    pub settle: Duration,
    /// `timeoutSeconds` of a watch: a random value from this to twice this.
    pub watch: Duration,
    /// First back-off after a failure; doubles with each further failure.
    pub backoff: Duration,
    /// Maximum back-off.
    pub max_backoff: Duration,
    /// Maximum back-off while no connection is established. Shorter: these attempts cost the API server nothing,
    /// and answers are stale until one succeeds.
    pub max_connect_backoff: Duration,
}

/// `snapshot DIR [INTERVAL [MAX_AGE [deny]]]`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotSettings {
    /// The directory of the file.
    pub directory: PathBuf,
    /// Minimum time between two writes.
    pub interval: Duration,
    /// Age up to which a loaded snapshot counts as ready.
    pub max_age: Duration,
    /// Whether names that a loaded snapshot of that age lacks are denied.
    pub denies: bool,
}

impl SnapshotSettings {
    /// Default of `INTERVAL`.
    pub const INTERVAL: Duration = Duration::from_secs(5);
    /// Default of `MAX_AGE`.
    pub const MAX_AGE: Duration = Duration::from_hours(1);

    /// With default times.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            interval: Self::INTERVAL,
            max_age: Self::MAX_AGE,
            denies: false,
        }
    }
}

impl Settings {
    /// Default settings for `backend`: all kinds but Pods and ServiceImports.
    pub fn new(backend: Backend) -> Self {
        Self {
            backend,
            labels: Selector::default(),
            namespace_labels: Selector::default(),
            pods: false,
            pod_labels: Box::default(),
            pod_names: false,
            slices: true,
            imports: false,
            limits: RateLimits::default(),
            timing: Timing::default(),
            audit: Some(Duration::from_mins(10)),
            snapshot: None,
        }
    }

    /// The watched kinds. All of them must be listed before a name can be denied.
    pub fn kinds(&self) -> Vec<Kind> {
        let wanted = |kind: &Kind| match kind {
            Kind::Namespace | Kind::Service => true,
            Kind::EndpointSlice => self.slices,
            Kind::Pod => self.pods,
            Kind::ServiceImport => self.imports,
        };
        Kind::ALL.into_iter().filter(wanted).collect()
    }

    /// The selector for a kind. ServiceImports have none: the multi-cluster controller creates them,
    /// without the labels of the Services that they stand for.
    pub fn selector(&self, kind: Kind) -> Option<&Selector> {
        match kind {
            Kind::Namespace => Some(&self.namespace_labels),
            Kind::Service | Kind::EndpointSlice | Kind::Pod => Some(&self.labels),
            Kind::ServiceImport => None,
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            response: Duration::from_secs(30),
            initial: Duration::from_secs(10),
            idle: Duration::from_secs(90),
            settle: Duration::from_mins(2),
            watch: Duration::from_mins(5),
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(30),
            max_connect_backoff: Duration::from_secs(5),
        }
    }
}
