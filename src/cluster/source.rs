//! A running source: watches, the fold, and the state that they feed.

use super::event::Event;
use super::fold::{self, Writer};
use super::settings::{Origin, Settings};
use super::state::Cluster;
use super::{api, manifests};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How many events may wait for the fold. A slice of 100 endpoints takes some 10 kB while it
/// waits, so this bounds them to a few megabytes.
const WAITING: usize = 256;

/// A running source. It stops when it is dropped; what it has told of stays readable.
pub struct Source {
    settings: Settings,
    cluster: Arc<Cluster>,
    /// Aborts its tasks when it is dropped.
    _tasks: JoinSet<()>,
}

/// Why a source could not be started: its settings lead nowhere. What can pass by itself, such as
/// an API server that is down, is no error but waited for.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The service account's files or the environment are missing.
    #[error("not in a cluster, or without a service account: {0}")]
    InCluster(#[source] kube::config::InClusterError),
    /// The kubeconfig cannot be used.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// The endpoint's URL cannot be used.
    #[error("endpoint {0:?} is not a URL of the form https://HOST:PORT")]
    Endpoint(String),
    /// A certificate, key or token cannot be used.
    #[error("connection to the API server: {0}")]
    Client(#[source] Box<kube::Error>),
    /// A file named by `tls` cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(std::path::PathBuf, #[source] std::io::Error),
    /// The directory of manifests cannot be read.
    #[error("manifests: cannot read directory {0}: {1}")]
    Directory(std::path::PathBuf, #[source] std::io::Error),
}

impl Source {
    /// Starts to watch; returns at once, with a state of which nothing is known yet.
    pub fn start(settings: Settings, runtime: &Handle) -> Result<Self, SourceError> {
        let cluster = Arc::new(Cluster::new(&settings.kinds()));
        let (sender, receiver) = mpsc::channel::<Event>(WAITING);
        let mut tasks = JoinSet::new();
        if let Origin::Manifests { directory } = &settings.origin {
            manifests::start(directory, &settings, sender, &mut tasks, runtime)?;
        } else {
            api::start(&settings, &cluster, &sender, &mut tasks, runtime)?;
        }
        tasks.spawn_on(
            fold::run(Writer::new(Arc::clone(&cluster)), receiver),
            runtime,
        );
        Ok(Self {
            settings,
            cluster,
            _tasks: tasks,
        })
    }

    /// What the source has told of.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// With what it was started.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
