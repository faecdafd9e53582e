//! A running source: its watch tasks, the fold task, and the state that they maintain.

use super::error::SourceError;
use super::event::Event;
use super::fold::{self, StateWriter};
use super::settings::{Backend, Settings};
use super::state::Cluster;
use super::{api, manifests, snapshot};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Capacity of the event channel. An EndpointSlice with 100 endpoints takes some 10 kB in the
/// channel, so this bounds it to a few megabytes.
const EVENT_CAPACITY: usize = 256;

/// A running source. Dropping it stops its tasks; the state stays readable.
pub struct ClusterSource {
    settings: Settings,
    cluster: Arc<Cluster>,
    /// Aborts its tasks when it is dropped.
    _tasks: JoinSet<()>,
}

impl ClusterSource {
    /// Starts watching and returns immediately, with an empty, unsynced state.
    pub fn start(settings: Settings, runtime: &Handle) -> Result<Self, SourceError> {
        Self::replace(None, settings, runtime)
    }

    /// Starts a source that replaces `before` after a reload. The objects of `before` are served
    /// until this source has listed its own, kind by kind, with the first complete list of each.
    /// Kinds that `before` did not watch, or all of them if it was not ready, stay unlisted until
    /// then.
    pub fn replace(
        before: Option<&Self>,
        settings: Settings,
        runtime: &Handle,
    ) -> Result<Self, SourceError> {
        let kinds = settings.kinds();
        let before = before.map(|before| &*before.cluster);
        let before = before.filter(|before| before.is_ready());
        let snapshot = before
            .is_none()
            .then(|| snapshot::open(&settings))
            .flatten();
        let cluster = Arc::new(match (before, &snapshot) {
            (Some(before), _) => Cluster::replacing(before, &kinds),
            (None, Some(snapshot)) => Cluster::restored(snapshot.loaded(), &kinds),
            (None, None) => Cluster::new(&kinds),
        });
        let (receiver, mut tasks) = Self::events(&settings, &cluster, runtime)?;
        let mut writer = StateWriter::new(Arc::clone(&cluster));
        writer.keep_pod_names(settings.pod_names);
        if let Some(before) = before {
            writer.inherit(before, &kinds);
        }
        if let Some(snapshot) = snapshot {
            snapshot.load(&mut writer);
        }
        snapshot::start(&settings, &cluster, &mut tasks, runtime);
        tasks.spawn_on(fold::run(writer, receiver), runtime);
        Ok(Self {
            settings,
            cluster,
            _tasks: tasks,
        })
    }

    /// The events of a source, without a fold: measures the source alone. The tasks stop when the
    /// returned set is dropped; requests are counted in `cluster`.
    pub fn events(
        settings: &Settings,
        cluster: &Arc<Cluster>,
        runtime: &Handle,
    ) -> Result<(mpsc::Receiver<Event>, JoinSet<()>), SourceError> {
        let (sender, receiver) = mpsc::channel::<Event>(EVENT_CAPACITY);
        let mut tasks = JoinSet::new();
        if let Backend::Manifests { directory } = &settings.backend {
            manifests::start(directory, settings, sender, &mut tasks, runtime)?;
        } else {
            api::start(settings, cluster, &sender, &mut tasks, runtime)?;
        }
        Ok((receiver, tasks))
    }

    /// The state that the source maintains.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The settings that the source was started with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
