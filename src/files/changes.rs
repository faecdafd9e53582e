//! Notifications of changes in directories, debounced.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// A change is reported once there has been no other for so long: an editor's save and a ConfigMap's
/// update are several events within a few milliseconds, and a file that is being written is incomplete.
const SETTLE: Duration = Duration::from_millis(100);

/// It is reported after so long in any case: a log file in the same directory may be written to all the
/// time.
const UNSETTLED: Duration = Duration::from_secs(1);

/// Changes in directories, as the system announces them.
#[derive(Debug, Default)]
pub struct Changes {
    announced: Arc<Notify>,
    /// When the first and the last change were announced of those that are not reported yet.
    unreported: Option<(Instant, Instant)>,
    /// None: nothing is watched, and nothing ever changes.
    watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Changes of no directory yet.
    pub fn new() -> notify::Result<Self> {
        let announced = Arc::new(Notify::new());
        let announce = Arc::clone(&announced);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is an access too. An error may mean that events were lost.
            let is_access = event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
            if !is_access {
                announce.notify_one();
            }
        })?;
        Ok(Self {
            announced,
            unreported: None,
            watcher: Some(watcher),
        })
    }

    /// Watches a directory. A single file is watched by its directory: a ConfigMap volume changes by a
    /// swap of the link `..data`, and editors replace files by renaming.
    pub fn watch(&mut self, directory: &Path) -> notify::Result<()> {
        self.add(directory, RecursiveMode::NonRecursive)
    }

    /// Watches a directory and all that are within it.
    pub fn watch_tree(&mut self, directory: &Path) -> notify::Result<()> {
        self.add(directory, RecursiveMode::Recursive)
    }

    fn add(&mut self, directory: &Path, mode: RecursiveMode) -> notify::Result<()> {
        match &mut self.watcher {
            Some(watcher) => watcher.watch(directory, mode),
            None => Ok(()),
        }
    }

    /// Whether changes are announced at all.
    pub fn is_watching(&self) -> bool {
        self.watcher.is_some()
    }

    /// Completes when something has changed and settled. May be dropped and called again without losing a
    /// change.
    pub async fn next(&mut self) {
        loop {
            let Some((first, last)) = self.unreported else {
                self.announced.notified().await;
                let now = Instant::now();
                self.unreported = Some((now, now));
                continue;
            };
            tokio::select! {
                () = sleep_until((last + SETTLE).min(first + UNSETTLED)) => {
                    self.unreported = None;
                    return;
                }
                () = self.announced.notified() => self.unreported = Some((first, Instant::now())),
            }
        }
    }

    /// Takes all changes so far for reported.
    pub fn forget(&mut self) {
        self.unreported = None;
    }
}

/// The directory by which a file or a directory is watched.
pub fn directory_of(path: &Path) -> PathBuf {
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

    #[tokio::test]
    async fn a_saved_file_is_reported_and_a_read_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "one").unwrap();
        let mut changes = Changes::new().unwrap();
        changes.watch(&directory_of(&file)).unwrap();
        std::fs::read(&file).unwrap();
        let quiet = tokio::time::timeout(SETTLE * 3, changes.next()).await;
        assert!(quiet.is_err(), "a read is no change");
        std::fs::write(&file, "two").unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
        seen.expect("the change is announced");
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_never_settles_is_reported_nevertheless() {
        let mut changes = Changes::default();
        let announced = Arc::clone(&changes.announced);
        let restless = tokio::spawn(async move {
            loop {
                announced.notify_one();
                tokio::time::sleep(SETTLE / 2).await;
            }
        });
        let before = Instant::now();
        changes.next().await;
        assert_eq!(before.elapsed(), UNSETTLED);
        restless.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_not_lost_with_a_dropped_wait() {
        let mut changes = Changes::default();
        changes.announced.notify_one();
        assert!(
            tokio::time::timeout(SETTLE / 2, changes.next())
                .await
                .is_err()
        );
        let before = Instant::now();
        changes.next().await;
        assert_eq!(before.elapsed(), SETTLE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_changes_where_nothing_is_watched() {
        let mut changes = Changes::default();
        let hour = Duration::from_hours(1);
        assert!(tokio::time::timeout(hour, changes.next()).await.is_err());
    }
}
