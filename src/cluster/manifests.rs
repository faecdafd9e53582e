//! The source that reads a directory of ordinary manifests, and reads it again when it changes.
//!
//! It takes the part of the whole control plane: what `kubectl apply` would store, what the API
//! server would add, and what the controllers would derive (see `manifests/controller.rs`). What
//! cannot be read costs itself: a field, a document, a file. Of an object that can no longer be read,
//! the last form that could be is served on.

mod controller;
mod directory;
mod document;
mod locate;
mod read;
mod wire;

use super::event::{Event, Kind, Object};
use super::settings::{Origin, Settings};
use super::source::SourceError;
use crate::files::Changes;
use directory::Directory;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::warn;

/// How long a directory that has taken another one's place is left alone before it is read.
const QUIET: Duration = Duration::from_millis(80);

/// How often a look is taken at whether the directory itself is still the same one.
const TICK: Duration = Duration::from_secs(1);

/// The manifests of a directory, in the order in which they count.
pub fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    directory::files(directory)
}

/// The documents of a manifest file: a bad one leaves the others readable.
pub fn documents<'a>(path: &Path, text: &'a str) -> Vec<&'a str> {
    match path.extension() {
        Some(extension) if extension == "json" => vec![text],
        _ => read::texts(text).collect(),
    }
}

/// What a directory declares at this moment, and what a cluster would derive from it: for tests
/// and one-shot uses. What cannot be read is left out.
pub fn objects(directory: &Path) -> Vec<Object> {
    let settings = Settings::new(Origin::Manifests {
        directory: directory.to_owned(),
    });
    let documents = Directory::new(directory.to_owned()).read();
    controller::objects(&documents.unwrap_or_default(), &settings)
}

/// Starts to read a directory and to watch it.
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
    /// Reads whenever something changes, until nobody listens to the events any more.
    async fn run(mut self, path: PathBuf) {
        let mut eye = Eye::open(&path);
        eye.complain(None, &path);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Some((read, objects)) = self.read().await else {
                return;
            };
            self = read;
            let left_out = self.directory.left_out().into_iter();
            for event in left_out.filter(|event| self.kinds.contains(&event.kind())) {
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
            if let Some(objects) = objects
                && self.tell(objects).await.is_none()
            {
                return;
            }
            loop {
                tokio::select! {
                    () = eye.changes.next() => break,
                    _ = tick.tick() => {}
                }
                if !eye.is_open() || eye.identity != identity(&path) {
                    let last = eye.complaint.take();
                    eye = Eye::open(&path);
                    eye.complain(last.as_ref(), &path);
                    // What has taken its place may be in the making.
                    sleep(QUIET).await;
                    break;
                }
                for kind in &self.kinds {
                    if self.events.send(Event::Alive(*kind)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Reads the directory, away from the tasks that must not wait.
    async fn read(mut self) -> Option<(Self, Option<Vec<Object>>)> {
        let read = spawn_blocking(move || {
            let documents = self.directory.read();
            let objects =
                documents.map(|documents| controller::objects(&documents, &self.settings));
            (self, objects)
        });
        read.await.ok()
    }

    /// Tells all objects, kind by kind; what has not changed costs next to nothing.
    async fn tell(&self, objects: Vec<Object>) -> Option<()> {
        let mut by_kind: [Vec<Object>; Kind::ALL.len()] = Default::default();
        for object in objects {
            by_kind[object.kind() as usize].push(object);
        }
        for kind in &self.kinds {
            let objects = std::mem::take(&mut by_kind[*kind as usize]).into_iter();
            let events = objects.map(Event::Apply).chain([Event::End(*kind)]);
            for event in [Event::Begin(*kind)].into_iter().chain(events) {
                self.events.send(event).await.ok()?;
            }
        }
        Some(())
    }
}

/// A watch on the directory.
struct Eye {
    changes: Changes,
    /// Which directory it was opened on.
    identity: Option<(u64, u64)>,
    /// Why there is no watcher.
    complaint: Option<String>,
}

impl Eye {
    fn open(path: &Path) -> Self {
        let identity = identity(path);
        let watch = |mut changes: Changes| {
            changes.watch_tree(path)?;
            Ok(changes)
        };
        let (changes, complaint) = match Changes::new().and_then(watch) {
            Ok(changes) => (changes, None),
            Err(error) => (Changes::default(), Some(crate::plain::watch(&error))),
        };
        Self {
            changes,
            identity,
            complaint,
        }
    }

    /// Says once why the directory cannot be watched.
    fn complain(&self, last: Option<&String>, path: &Path) {
        if let Some(complaint) = self.complaint.as_ref().filter(|it| Some(*it) != last) {
            warn!(
                "manifests: cannot watch {}: {complaint}; reading it every second",
                path.display()
            );
        }
    }

    fn is_open(&self) -> bool {
        self.changes.is_watching()
    }
}

/// Tells a directory from another one that has taken its place.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
