//! A running source: watches, the fold, and the state that they feed.

use super::event::Event;
use super::fold::{self, Writer};
use super::settings::{Origin, Settings};
use super::state::Cluster;
use super::{api, manifests};
use crate::plain;
use std::path::PathBuf;
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
    /// The environment does not say where a cluster is.
    #[error(
        "this is no pod of a cluster (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not \
         set), and no other source is given. Inside 'kubernetes {{ }}' write one of: \
         kubeconfig FILE, endpoint URL, manifests DIR"
    )]
    NoCluster,
    /// The service account's files or the environment cannot be used.
    #[error(
        "the pod's service account cannot be used: {0}. Its token, ca.crt and namespace are \
         expected in /var/run/secrets/kubernetes.io/serviceaccount (is automountServiceAccountToken \
         off?)"
    )]
    InCluster(String),
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {0}: {1}")]
    Kubeconfig(PathBuf, String),
    /// A token cannot be used, with where it is from.
    #[error("the token cannot be used: {0}: {1}")]
    Token(String, String),
    /// There is a file of certificates to prove the API server by, without any.
    #[error("the file of the certificate authority holds no certificate in PEM form")]
    Authority,
    /// A file named by `tls` holds nothing of the kind it must, or something broken.
    #[error("{0}: no usable {1} in PEM form")]
    Pem(PathBuf, &'static str),
    /// The private key is of a kind that is not known.
    #[error("the private key in {0} cannot be used: keys are {keys}", keys = crate::trust::KEYS)]
    Key(PathBuf),
    /// The endpoint's URL cannot be used.
    #[error("endpoint {0:?} is not a URL of the form https://HOST:PORT")]
    Endpoint(String),
    /// A certificate or key cannot be used.
    #[error("connection to the API server: {0}")]
    Client(String),
    /// A file that is named cannot be read.
    #[error("cannot read {}: {}", .0.display(), plain::io(.1))]
    Read(PathBuf, std::io::Error),
    /// The directory of manifests cannot be read.
    #[error("manifests: cannot read directory {}: {}", .0.display(), plain::io(.1))]
    Directory(PathBuf, std::io::Error),
}

impl Source {
    /// Starts to watch; returns at once, with a state of which nothing is known yet.
    pub fn start(settings: Settings, runtime: &Handle) -> Result<Self, SourceError> {
        Self::succeed(None, settings, runtime)
    }

    /// The same in the place of another source, whose objects are served until this one has listed
    /// its own: kind by kind, with the first whole list of each. A kind that the other one has not
    /// watched, and all of them where it knows nothing yet, are not known before they are listed.
    pub fn succeed(
        before: Option<&Self>,
        settings: Settings,
        runtime: &Handle,
    ) -> Result<Self, SourceError> {
        let kinds = settings.kinds();
        let before = before.map(|before| &*before.cluster);
        let before = before.filter(|before| before.is_ready());
        let cluster = Arc::new(match before {
            Some(before) => Cluster::succeed(before, &kinds),
            None => Cluster::new(&kinds),
        });
        let (receiver, mut tasks) = Self::events(&settings, &cluster, runtime)?;
        let mut writer = Writer::new(Arc::clone(&cluster));
        writer.keep_pod_names(settings.pod_names);
        if let Some(before) = before {
            writer.inherit(before, &kinds);
        }
        tasks.spawn_on(fold::run(writer, receiver), runtime);
        Ok(Self {
            settings,
            cluster,
            _tasks: tasks,
        })
    }

    /// What a source tells, for as long as its tasks live, and nobody who folds it: to measure the
    /// telling alone. Requests are counted in `cluster`.
    pub fn events(
        settings: &Settings,
        cluster: &Arc<Cluster>,
        runtime: &Handle,
    ) -> Result<(mpsc::Receiver<Event>, JoinSet<()>), SourceError> {
        let (sender, receiver) = mpsc::channel::<Event>(WAITING);
        let mut tasks = JoinSet::new();
        if let Origin::Manifests { directory } = &settings.origin {
            manifests::start(directory, settings, sender, &mut tasks, runtime)?;
        } else {
            api::start(settings, cluster, &sender, &mut tasks, runtime)?;
        }
        Ok((receiver, tasks))
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
