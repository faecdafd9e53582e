//! The last known state of the cluster in a file, served after a restart while the API server does not answer.
//!
//! A task writes the objects every few seconds if they changed, and replaces the file atomically. While nothing
//! changes and the source has contact, it only renews the file's modification time: that is when the objects were
//! known to be current. At the start the objects are loaded before the first list; names that are not among them
//! cannot be denied until then.
//!
//! ```text
//! format   objects as Protocol Buffers messages
//! file     the file: magic, version, messages, checksum
//! ```

mod file;
mod format;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{runtime::Handle, task::JoinSet};

use self::{
    file::{Header, Reader, Writer},
    format::SnapshotObject,
};
use super::{
    event::{Kind, Object},
    fold::StateWriter,
    settings::{Backend, Settings, SnapshotSettings},
    state::{Cluster, LoadedSnapshot},
};
use crate::error_text;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read or written.
    #[error("{}", error_text::io(.0))]
    Io(#[from] io::Error),
    /// It is not a snapshot.
    #[error("it is not a snapshot of Lodestone")]
    NotSnapshot,
    /// It was written by a version with another format.
    #[error("it has format {0}, and this version reads {supported}", supported = file::FORMAT)]
    Format(u32),
    /// The checksum does not match.
    #[error("it is damaged: the checksum does not match")]
    Damaged,
    /// A message cannot be decoded, although the checksum matches.
    #[error("it is malformed: {0}")]
    Malformed(String),
    /// It was written with other settings, or for another cluster.
    #[error("it was written for another cluster or with other settings of the kubernetes block")]
    Foreign,
    /// Its modification time has not come yet.
    #[error("its time is {} s in the future", .0.as_secs())]
    Future(Duration),
    /// It exceeds the maximum size.
    #[error("it has more than {} MiB", file::MAX_SIZE >> 20)]
    TooLarge,
}

/// Difference of clocks that is tolerated.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// Contact that is older does not confirm that the objects are current. API servers send a bookmark about once a
/// minute.
const CONTACT: Duration = Duration::from_mins(2);

/// How often the modification time is renewed while nothing changes.
const RENEWAL: Duration = Duration::from_secs(30);

/// A write is followed by a pause of this many times its duration: at most 5 % of a core.
const PAUSE: u32 = 20;

/// Age after which files of other settings are removed from the directory.
const LEFT_OVER: Duration = Duration::from_hours(24);

/// The file of a source with these settings.
fn path(settings: &Settings, snapshot: &SnapshotSettings) -> PathBuf {
    let name = format!("lodestone-{}.snapshot", &fingerprint(settings)[..16]);
    snapshot.directory.join(name)
}

/// Identifies the cluster and the settings that determine which objects are kept, in hexadecimal.
fn fingerprint(settings: &Settings) -> String {
    // Destructured, so that a new setting cannot be left out.
    let Settings {
        backend,
        labels,
        namespace_labels,
        pods,
        pod_labels,
        pod_names,
        slices,
        imports,
        limits: _,
        timing: _,
        audit: _,
        snapshot: _,
    } = settings;
    let host = match backend {
        Backend::InCluster => std::env::var("KUBERNETES_SERVICE_HOST").unwrap_or_default(),
        _ => String::new(),
    };
    let text = format!(
        "{backend:?} {host} {labels:?} {namespace_labels:?} {pods} {pod_labels:?} {pod_names} {slices} {imports}"
    );
    file::hexadecimal(text.as_bytes())
}

/// The objects of a verified file, whatever cluster and settings it is of. For tests and fuzzers.
pub fn read_objects(path: &Path) -> Result<Vec<Object>, SnapshotError> {
    let (mut reader, _) = Reader::open(path)?;
    let mut objects = Vec::new();
    while let Some(object) = reader.next()? {
        objects.push(object);
    }
    Ok(objects)
}

/// Writes a file with these objects, of no cluster. For tests and fuzzers.
pub fn write_objects(path: &Path, objects: &[Object]) -> Result<(), SnapshotError> {
    let mut writer = Writer::create(path, &Header::default())?;
    for object in objects {
        writer.add(&SnapshotObject::of(object))?;
    }
    writer.finish(SystemTime::now()).map(drop)
}

/// What of a snapshot a cluster begins with.
pub(super) struct OpenSnapshot {
    reader: Reader,
    header: Header,
    loaded: LoadedSnapshot,
}

/// Opens and verifies the snapshot of a source. `None` if there is none, or if it cannot be used, which is logged.
pub(super) fn open(settings: &Settings) -> Option<OpenSnapshot> {
    let path = path(settings, settings.snapshot.as_ref()?);
    match try_open(&path, settings) {
        Ok(open) => Some(open),
        Err(SnapshotError::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let path = path.display();
            tracing::warn!(target: "plugin/kubernetes", "snapshot {path} is not used: {error}");
            None
        }
    }
}

fn try_open(path: &Path, settings: &Settings) -> Result<OpenSnapshot, SnapshotError> {
    let current_at = fs::metadata(path)?.modified()?;
    if let Ok(ahead) = current_at.duration_since(SystemTime::now())
        && ahead > CLOCK_SKEW
    {
        return Err(SnapshotError::Future(ahead));
    }
    let (reader, header) = Reader::open(path)?;
    if header.fingerprint != fingerprint(settings) {
        return Err(SnapshotError::Foreign);
    }
    Ok(OpenSnapshot {
        reader,
        header,
        loaded: LoadedSnapshot {
            current_at,
            denial_age: denial_age(settings),
        },
    })
}

/// See [`LoadedSnapshot::denial_age`].
fn denial_age(settings: &Settings) -> Duration {
    let snapshot = settings.snapshot.as_ref();
    let denies = snapshot.filter(|snapshot| snapshot.denies);
    denies.map_or(Duration::ZERO, |snapshot| snapshot.max_age)
}

impl OpenSnapshot {
    /// The facts for the cluster that will serve it.
    pub(super) fn loaded(&self) -> LoadedSnapshot {
        self.loaded
    }

    /// Loads the objects into an empty state. An object that cannot be decoded is left out, with those behind it.
    pub(super) fn load(mut self, writer: &mut StateWriter) {
        let mut count = 0_u64;
        let is_complete = loop {
            match self.reader.next() {
                Ok(Some(object)) => {
                    writer.restore(object);
                    count += 1;
                }
                Ok(None) => break true,
                Err(error) => {
                    let path = self.reader.path().display();
                    tracing::warn!(
                        target: "plugin/kubernetes",
                        "snapshot {path}: {error}; objects after the first {count} are left out"
                    );
                    break false;
                }
            }
        };
        let Header {
            serial,
            published_serial,
            ..
        } = self.header;
        writer.restored(serial, published_serial, is_complete);
        let age = self.loaded.age().as_secs();
        tracing::info!(
            target: "plugin/kubernetes",
            "serving {count} objects of a snapshot, {age} s old, until the API server has listed all"
        );
    }
}

/// Starts the task that writes the snapshots of a source.
pub(super) fn start(
    settings: &Settings,
    cluster: &Arc<Cluster>,
    tasks: &mut JoinSet<()>,
    runtime: &Handle,
) {
    let Some(snapshot) = settings.snapshot.clone() else {
        return;
    };
    let task = WriteTask {
        path: path(settings, &snapshot),
        fingerprint: fingerprint(settings),
        kinds: settings.kinds(),
        interval: snapshot.interval,
        cluster: Arc::clone(cluster),
    };
    tasks.spawn_on(task.run(), runtime);
}

struct WriteTask {
    path: PathBuf,
    fingerprint: String,
    kinds: Vec<Kind>,
    interval: Duration,
    cluster: Arc<Cluster>,
}

impl WriteTask {
    async fn run(self) {
        let is_restored = self.cluster.snapshot().is_some();
        // A partial state would deny the rest.
        self.cluster.wait_synced().await;
        if is_restored {
            tracing::info!(
                target: "plugin/kubernetes",
                "all objects are listed: the snapshot is not served any more"
            );
        }
        self.remove_left_over();
        let this = Arc::new(self);
        let mut written = None;
        let mut is_failing = false;
        loop {
            let revision = this.cluster.revision();
            let begun = Instant::now();
            let is_changed = written != Some(revision);
            let task = Arc::clone(&this);
            let done = tokio::task::spawn_blocking(move || {
                if is_changed {
                    task.write()
                } else {
                    task.renew()
                }
            });
            // It fails when the runtime shuts down.
            let Ok(done) = done.await else { return };
            match done {
                Ok(()) => {
                    written = Some(revision);
                    if std::mem::take(&mut is_failing) {
                        let path = this.path.display();
                        tracing::info!(target: "plugin/kubernetes", "snapshot {path} is written again");
                    }
                }
                Err(error) => {
                    this.cluster.stats().snapshot().failed();
                    // Also without a change: the file may have been lost.
                    written = None;
                    if !std::mem::replace(&mut is_failing, true) {
                        let path = this.path.display();
                        tracing::warn!(
                            target: "plugin/kubernetes",
                            "cannot write the snapshot {path}: {error}; retried every {:?}",
                            this.interval
                        );
                    }
                }
            }
            tokio::time::sleep(this.interval.max(begun.elapsed() * PAUSE)).await;
            if written.is_some() {
                let changed = this.cluster.wait_for_revision_after(revision);
                // On a timeout the time is renewed.
                let _ = tokio::time::timeout(RENEWAL, changed).await;
            }
        }
    }

    fn write(&self) -> Result<(), SnapshotError> {
        let header = Header {
            fingerprint: self.fingerprint.clone(),
            serial: self.cluster.serial(),
            published_serial: self.cluster.published_serial(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        // Of a later time than the objects' would claim more than is known.
        let current_at = self.current_at();
        // Pointers only: the cluster's writer waits meanwhile.
        let objects = self.cluster.consistent(Objects::collect);
        let mut writer = Writer::create(&self.path, &header)?;
        objects.each(|object| writer.add(&object))?;
        let size = writer.finish(current_at)?;
        self.cluster.stats().snapshot().written(size);
        Ok(())
    }

    /// Renews the time of the file.
    fn renew(&self) -> Result<(), SnapshotError> {
        let file = fs::File::options().append(true).open(&self.path)?;
        file.set_modified(self.current_at())?;
        Ok(())
    }

    /// When the objects were known to be current: now, unless the source has lost contact.
    fn current_at(&self) -> SystemTime {
        let now = SystemTime::now();
        let stats = self.cluster.stats();
        let ages = self.kinds.iter().filter_map(|kind| stats.age(*kind));
        let oldest = ages.max().unwrap_or_default();
        if oldest <= CONTACT {
            now
        } else {
            now.checked_sub(oldest).unwrap_or(now)
        }
    }

    /// Removes files of former settings, and temporary ones of killed processes.
    fn remove_left_over(&self) {
        let directory = self.path.parent().map(fs::read_dir);
        let entries = directory.and_then(Result::ok).into_iter().flatten();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_ours = name.starts_with("lodestone-")
                && (name.ends_with(".snapshot") || name.ends_with(file::TEMPORARY));
            let age = entry.metadata().and_then(|it| it.modified());
            let age = age.ok().and_then(|it| it.elapsed().ok());
            if is_ours && entry.path() != self.path && age.is_some_and(|age| age > LEFT_OVER) {
                // Tried again at the next start.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// All objects of a cluster.
struct Objects {
    namespaces: Vec<Arc<super::Namespace>>,
    entries: Vec<Arc<super::ServiceEntry>>,
    pods: Vec<Arc<super::Pod>>,
}

impl Objects {
    fn collect(cluster: &Cluster) -> Self {
        Self {
            namespaces: cluster.namespaces().collect(),
            entries: cluster.entries().collect(),
            pods: cluster.all_pods().collect(),
        }
    }

    fn each<E>(&self, mut each: impl FnMut(SnapshotObject) -> Result<(), E>) -> Result<(), E> {
        for namespace in &self.namespaces {
            each(SnapshotObject::namespace(namespace))?;
        }
        for entry in &self.entries {
            if let Some(service) = &entry.service {
                each(SnapshotObject::service(service))?;
            }
            if let Some(import) = &entry.import {
                each(SnapshotObject::import(import))?;
            }
            for slice in &entry.slices {
                each(SnapshotObject::slice(slice))?;
            }
            // One of a Service too is among `slices` of that Service's entry.
            let imported = entry.imported.iter();
            for slice in imported.filter(|slice| slice.service.is_empty()) {
                each(SnapshotObject::slice(slice))?;
            }
        }
        for pod in &self.pods {
            each(SnapshotObject::pod(pod))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
