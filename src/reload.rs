//! Detects changes of the Corefile.
//!
//! File system events are handled after they settle. In addition the file is polled, because not
//! all file systems report changes. [`crate::life`] acts on changes.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::mpsc, time::Instant};

use crate::{config::settings::Reload, plain};

/// Quiet period before a change is handled: an editor's save or a ConfigMap update is several
/// events within a few milliseconds.
const QUIET_PERIOD: Duration = Duration::from_millis(100);

/// Maximum delay: another file in the same directory, such as a log, may change continuously.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Change notifications for a Corefile and its imports.
pub struct Changes {
    /// `None` if reload is not configured.
    schedule: Option<Reload>,
    events: mpsc::Receiver<()>,
    due: Instant,
    /// Time of the first unhandled event.
    first_event: Option<Instant>,
    /// Watches until it is dropped.
    _watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Watches `corefile` and its imports according to `schedule`. Without a schedule or a file
    /// there are no changes.
    pub fn follow(corefile: Option<&Path>, imported: &[PathBuf], schedule: Option<Reload>) -> Self {
        // Capacity 1 suffices: the message only signals that something changed.
        let (sender, events) = mpsc::channel(1);
        let schedule = schedule.filter(|_| corefile.is_some());
        let files = corefile
            .into_iter()
            .chain(imported.iter().map(PathBuf::as_path));
        let watcher = schedule.and_then(|_| watch(files, sender));
        let mut changes = Self {
            schedule,
            events,
            due: Instant::now(),
            first_event: None,
            _watcher: watcher,
        };
        changes.schedule_poll();
        changes
    }

    /// Completes when the Corefile should be read again.
    ///
    /// Cancel-safe: no change is lost.
    pub async fn next(&mut self) {
        if self.schedule.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.due) => {
                    self.schedule_poll();
                    self.first_event = None;
                    return;
                }
                // Without a watcher the channel is closed and only the timer applies.
                Some(()) = self.events.recv() => {
                    let now = Instant::now();
                    let first = *self.first_event.get_or_insert(now);
                    self.due = (now + QUIET_PERIOD).min(first + MAX_DELAY);
                }
            }
        }
    }

    /// Schedules the next poll.
    fn schedule_poll(&mut self) {
        if let Some(Reload { interval, jitter }) = self.schedule {
            self.due = Instant::now() + interval + jitter.mul_f64(rand::random::<f64>());
        }
    }
}

/// Watches the directories of `files`, not the files: a ConfigMap volume changes by replacing the
/// symlink `..data`, and editors replace files by renaming.
fn watch<'a>(
    files: impl Iterator<Item = &'a Path>,
    sender: mpsc::Sender<()>,
) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full channel already holds the notification.
            let _ = sender.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(handler)
        .inspect_err(|error| {
            let why = plain::watch(error);
            tracing::warn!(target: "plugin/reload", "changes are only polled: {why}");
        })
        .ok()?;
    let mut directories: Vec<PathBuf> = files.map(directory_of).collect();
    directories.sort();
    directories.dedup();
    for directory in directories {
        if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive) {
            let (directory, why) = (directory.display(), plain::watch(&error));
            tracing::warn!(target: "plugin/reload", "changes in {directory} are only polled: {why}");
        }
    }
    Some(watcher)
}

fn directory_of(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_owned();
    }
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_INTERVAL: Reload = Reload {
        interval: Duration::from_mins(10),
        jitter: Duration::ZERO,
    };

    #[tokio::test]
    async fn saved_files_are_reported() {
        let directory = tempfile::tempdir().unwrap();
        let corefile = directory.path().join("Corefile");
        std::fs::write(&corefile, ".").unwrap();
        let mut changes = Changes::follow(Some(&corefile), &[], Some(LONG_INTERVAL));
        std::fs::write(&corefile, ". {\n}\n").unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
        seen.expect("the change is announced");
    }

    #[tokio::test(start_paused = true)]
    async fn polling_detects_changes_without_events() {
        let corefile = Path::new("/nowhere/Corefile");
        let mut changes = Changes::follow(Some(corefile), &[], Some(LONG_INTERVAL));
        let before = Instant::now();
        changes.next().await;
        assert_eq!(before.elapsed(), LONG_INTERVAL.interval);
    }

    #[tokio::test(start_paused = true)]
    async fn continuous_events_are_reported_after_the_maximum_delay() {
        let (sender, events) = mpsc::channel(1);
        let mut changes = Changes {
            schedule: Some(LONG_INTERVAL),
            events,
            due: Instant::now() + LONG_INTERVAL.interval,
            first_event: None,
            _watcher: None,
        };
        let restless = tokio::spawn(async move {
            while sender.send(()).await.is_ok() {
                tokio::time::sleep(QUIET_PERIOD / 2).await;
            }
        });
        let before = Instant::now();
        changes.next().await;
        assert_eq!(before.elapsed(), MAX_DELAY);
        restless.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_watched_without_reload() {
        let mut changes = Changes::follow(Some(Path::new("Corefile")), &[], None);
        let hour = Duration::from_hours(1);
        assert!(tokio::time::timeout(hour, changes.next()).await.is_err());
    }
}
