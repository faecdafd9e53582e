//! The source that reads a directory of Kubernetes manifests, and re-reads it when it changes.
//!
//! It emulates the control plane: the objects that `kubectl apply` would store, the API server's
//! defaults, and the objects that controllers derive (see `manifests/controller.rs`). An error
//! affects only its field, document or file. An object that has become unreadable keeps its last
//! valid state.

mod controller;
mod directory;
mod document;
mod locate;
mod read;
mod wire;

use super::error::SourceError;
use super::event::{Event, Kind, Object};
use super::settings::{Backend, Settings};
use crate::files::Changes;
use directory::ManifestDirectory;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::warn;

/// Delay before reading a directory that replaced another one: it may be incomplete.
const SETTLE: Duration = Duration::from_millis(80);

/// Interval of checking whether the directory was replaced.
const TICK: Duration = Duration::from_secs(1);

/// The manifest files of a directory, in the order in which they are applied.
pub fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    directory::files(directory)
}

/// Splits a manifest file into documents, so that a malformed one leaves the others readable.
pub fn documents<'a>(path: &Path, text: &'a str) -> Vec<&'a str> {
    match path.extension() {
        Some(extension) if extension == "json" => vec![text],
        _ => read::texts(text).collect(),
    }
}

/// The objects that a directory declares, and those derived from them, for tests and one-shot
/// tools. Unreadable parts are skipped.
pub fn objects(directory: &Path) -> Vec<Object> {
    let settings = Settings::new(Backend::Manifests {
        directory: directory.to_owned(),
    });
    let documents = ManifestDirectory::new(directory.to_owned()).read();
    controller::objects(&documents.unwrap_or_default(), &settings)
}

/// Starts reading and watching a directory.
pub(super) fn start(
    directory: &Path,
    settings: &Settings,
    events: mpsc::Sender<Event>,
    tasks: &mut JoinSet<()>,
    runtime: &Handle,
) -> Result<(), SourceError> {
    std::fs::read_dir(directory)
        .map_err(|error| SourceError::Directory(directory.to_owned(), error))?;
    let manifests = Manifests {
        directory: ManifestDirectory::new(directory.to_owned()),
        kinds: settings.kinds(),
        settings: settings.clone(),
        events,
    };
    tasks.spawn_on(manifests.run(directory.to_owned()), runtime);
    Ok(())
}

struct Manifests {
    directory: ManifestDirectory,
    kinds: Vec<Kind>,
    settings: Settings,
    events: mpsc::Sender<Event>,
}

impl Manifests {
    /// Reads after each change, until the receiver of the events is dropped.
    async fn run(mut self, path: PathBuf) {
        let mut watch = DirectoryWatch::open(&path);
        watch.log_failure(None, &path);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Some((read, objects)) = self.read().await else {
                return;
            };
            self = read;
            let skipped = self.directory.take_skipped().into_iter();
            for event in skipped.filter(|event| self.kinds.contains(&event.kind())) {
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
            if let Some(objects) = objects
                && self.send_all(objects).await.is_none()
            {
                return;
            }
            loop {
                tokio::select! {
                    () = watch.changes.next() => break,
                    _ = tick.tick() => {}
                }
                if !watch.is_open() || watch.identity != identity(&path) {
                    let last = watch.failure.take();
                    watch = DirectoryWatch::open(&path);
                    watch.log_failure(last.as_ref(), &path);
                    sleep(SETTLE).await;
                    break;
                }
                for kind in &self.kinds {
                    if self.events.send(Event::Heartbeat(*kind)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Reads the directory on a blocking thread.
    async fn read(mut self) -> Option<(Self, Option<Vec<Object>>)> {
        let read = spawn_blocking(move || {
            let documents = self.directory.read();
            let objects =
                documents.map(|documents| controller::objects(&documents, &self.settings));
            (self, objects)
        });
        read.await.ok()
    }

    /// Sends all objects as one list per kind; unchanged objects cost next to nothing.
    async fn send_all(&self, objects: Vec<Object>) -> Option<()> {
        let mut by_kind: [Vec<Object>; Kind::ALL.len()] = Default::default();
        for object in objects {
            by_kind[object.kind() as usize].push(object);
        }
        for kind in &self.kinds {
            let objects = std::mem::take(&mut by_kind[*kind as usize]).into_iter();
            let events = objects.map(Event::Apply).chain([Event::ListEnd(*kind)]);
            for event in [Event::ListStart(*kind)].into_iter().chain(events) {
                self.events.send(event).await.ok()?;
            }
        }
        Some(())
    }
}

/// A file system watch on the directory.
struct DirectoryWatch {
    changes: Changes,
    /// Device and inode of the directory it was opened on.
    identity: Option<(u64, u64)>,
    /// Why the watcher could not be created.
    failure: Option<String>,
}

impl DirectoryWatch {
    fn open(path: &Path) -> Self {
        let identity = identity(path);
        let watch = |mut changes: Changes| {
            changes.watch_tree(path)?;
            Ok(changes)
        };
        let (changes, failure) = match Changes::new().and_then(watch) {
            Ok(changes) => (changes, None),
            Err(error) => (Changes::default(), Some(crate::error_text::watch(&error))),
        };
        Self {
            changes,
            identity,
            failure,
        }
    }

    /// Logs once why the directory cannot be watched.
    fn log_failure(&self, last: Option<&String>, path: &Path) {
        if let Some(failure) = self.failure.as_ref().filter(|it| Some(*it) != last) {
            warn!(
                "manifests: cannot watch {}: {failure}; polling it every second",
                path.display()
            );
        }
    }

    fn is_open(&self) -> bool {
        self.changes.is_watching()
    }
}

/// Device and inode, to detect that the directory was replaced.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
