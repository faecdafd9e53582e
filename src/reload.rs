//! Following the Corefile: when to look at it again.
//!
//! A change that the system announces is looked at once it has settled; besides that, the file is
//! looked at every now and then, because not every file system announces changes. What is done
//! about a change is the business of [`crate::process`].

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::mpsc, time::Instant};

use crate::{config::settings::Reload, plain};

/// How long a change must have settled before it is looked at: an editor's save and a ConfigMap's
/// update are several events within a few milliseconds.
const SETTLE: Duration = Duration::from_millis(100);

/// How long it may take to settle: something in the same directory, a log say, may never do.
const UNSETTLED: Duration = Duration::from_secs(1);

/// Changes of a Corefile and of what it imports.
pub struct Changes {
    /// None where the Corefile is not followed.
    schedule: Option<Reload>,
    announced: mpsc::Receiver<()>,
    due: Instant,
    /// When the first change was announced since it was last looked at.
    changed: Option<Instant>,
    /// Watches as long as it lives.
    _watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Follows `corefile` and the files and directories that it imports as `schedule` says;
    /// without a schedule or a file, nothing ever changes.
    pub fn follow(corefile: Option<&Path>, imported: &[PathBuf], schedule: Option<Reload>) -> Self {
        // One is enough: it only says that something changed since it was last looked at.
        let (announce, announced) = mpsc::channel(1);
        let schedule = schedule.filter(|_| corefile.is_some());
        let files = corefile
            .into_iter()
            .chain(imported.iter().map(PathBuf::as_path));
        let watcher = schedule.and_then(|_| watch(files, announce));
        let mut changes = Self {
            schedule,
            announced,
            due: Instant::now(),
            changed: None,
            _watcher: watcher,
        };
        changes.plan();
        changes
    }

    /// Completes when the Corefile is to be looked at.
    ///
    /// May be dropped and called again without losing a change.
    pub async fn next(&mut self) {
        if self.schedule.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.due) => {
                    self.plan();
                    self.changed = None;
                    return;
                }
                // Without a watcher the channel is closed, and only the clock counts.
                Some(()) = self.announced.recv() => {
                    let now = Instant::now();
                    let first = *self.changed.get_or_insert(now);
                    self.due = (now + SETTLE).min(first + UNSETTLED);
                }
            }
        }
    }

    /// Plans the next look that nobody announces.
    fn plan(&mut self) {
        if let Some(Reload { interval, jitter }) = self.schedule {
            self.due = Instant::now() + interval + jitter.mul_f64(rand::random::<f64>());
        }
    }
}

/// Watches the directories of `files`. Directories and not files: a ConfigMap volume changes by a
/// swap of the link `..data`, and editors replace files by renaming.
fn watch<'a>(
    files: impl Iterator<Item = &'a Path>,
    announce: mpsc::Sender<()>,
) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full channel holds the same message already.
            let _ = announce.try_send(());
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

    const RARELY: Reload = Reload {
        interval: Duration::from_mins(10),
        jitter: Duration::ZERO,
    };

    #[tokio::test]
    async fn a_saved_file_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let corefile = directory.path().join("Corefile");
        std::fs::write(&corefile, ".").unwrap();
        let mut changes = Changes::follow(Some(&corefile), &[], Some(RARELY));
        std::fs::write(&corefile, ". {\n}\n").unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
        seen.expect("the change is announced");
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_counts_where_nothing_is_announced() {
        let corefile = Path::new("/nowhere/Corefile");
        let mut changes = Changes::follow(Some(corefile), &[], Some(RARELY));
        let before = Instant::now();
        changes.next().await;
        assert_eq!(before.elapsed(), RARELY.interval);
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_never_rests_is_looked_at_nevertheless() {
        let (announce, announced) = mpsc::channel(1);
        let mut changes = Changes {
            schedule: Some(RARELY),
            announced,
            due: Instant::now() + RARELY.interval,
            changed: None,
            _watcher: None,
        };
        let restless = tokio::spawn(async move {
            while announce.send(()).await.is_ok() {
                tokio::time::sleep(SETTLE / 2).await;
            }
        });
        let before = Instant::now();
        changes.next().await;
        assert_eq!(before.elapsed(), UNSETTLED);
        restless.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_setting_nothing_is_followed() {
        let mut changes = Changes::follow(Some(Path::new("Corefile")), &[], None);
        let hour = Duration::from_hours(1);
        assert!(tokio::time::timeout(hour, changes.next()).await.is_err());
    }
}
