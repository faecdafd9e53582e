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
use directory::Directory;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::warn;

/// Quiet period before a re-read: editors and `git` write in bursts, and a file being written is
/// incomplete. A long burst delays the read to at most four periods.
const DEBOUNCE: Duration = Duration::from_millis(80);

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
    let documents = Directory::new(directory.to_owned()).read();
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
        directory: Directory::new(directory.to_owned()),
        kinds: settings.kinds(),
        settings: settings.clone(),
        events,
    };
    tasks.spawn_on(manifests.run(directory.to_owned()), runtime);
    Ok(())
}

struct Manifests {
    directory: Directory,
    kinds: Vec<Kind>,
    settings: Settings,
    events: mpsc::Sender<Event>,
}

impl Manifests {
    /// Reads after each change, until the receiver of the events is dropped.
    async fn run(mut self, path: PathBuf) {
        let changed = Arc::new(Notify::new());
        let mut watch = DirectoryWatch::open(&path, &changed);
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
                    () = changed.notified() => break,
                    _ = tick.tick() => {}
                }
                if !watch.is_open() || watch.identity != identity(&path) {
                    let last = watch.failure.take();
                    watch = DirectoryWatch::open(&path, &changed);
                    watch.log_failure(last.as_ref(), &path);
                    break;
                }
                for kind in &self.kinds {
                    if self.events.send(Event::Heartbeat(*kind)).await.is_err() {
                        return;
                    }
                }
            }
            for _ in 0..4 {
                sleep(DEBOUNCE).await;
                // A stored permit means another change in the meantime.
                if futures_util::FutureExt::now_or_never(changed.notified()).is_none() {
                    break;
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
    watcher: Option<RecommendedWatcher>,
    /// Device and inode of the directory it was opened on.
    identity: Option<(u64, u64)>,
    /// Why the watcher could not be created.
    failure: Option<String>,
}

impl DirectoryWatch {
    /// Watches the directory instead of its files: a ConfigMap volume changes by replacing the
    /// symlink `..data`, and editors rename files.
    fn open(path: &Path, changed: &Arc<Notify>) -> Self {
        let changed = Arc::clone(changed);
        let notice = move |event: notify::Result<notify::Event>| {
            // Our own reads cause access events.
            if !matches!(
                event,
                Ok(notify::Event {
                    kind: EventKind::Access(_),
                    ..
                })
            ) {
                changed.notify_one();
            }
        };
        let identity = identity(path);
        let watch = |mut watcher: RecommendedWatcher| {
            watcher.watch(path, RecursiveMode::Recursive)?;
            Ok(watcher)
        };
        let watcher = notify::recommended_watcher(notice).and_then(watch);
        let (watcher, failure) = match watcher {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(crate::plain::watch(&error))),
        };
        Self {
            watcher,
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
        self.watcher.is_some()
    }
}

/// Device and inode, to detect that the directory was replaced.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
