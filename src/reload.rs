//! Detects changes of the Corefile.
//!
//! File system events are handled after they settle. In addition the file is polled, because not all
//! file systems report changes. [`crate::process`] acts on changes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use tokio::time::Instant;

use crate::{
    config::settings::ReloadSchedule,
    error_text,
    files::{self, directory_of},
};

/// Change notifications for a Corefile and its imports.
pub struct CorefileChanges {
    /// `None` if reload is not configured.
    schedule: Option<ReloadSchedule>,
    events: files::Changes,
    due: Instant,
}

impl CorefileChanges {
    /// Watches `corefile` and its imports according to `schedule`. Without a schedule or a file
    /// there are no changes.
    pub fn follow(
        corefile: Option<&Path>,
        imported: &[PathBuf],
        schedule: Option<ReloadSchedule>,
    ) -> Self {
        let schedule = schedule.filter(|_| corefile.is_some());
        let files = corefile
            .into_iter()
            .chain(imported.iter().map(PathBuf::as_path));
        let mut changes = Self {
            schedule,
            events: schedule.map_or_else(files::Changes::default, |_| watch(files)),
            due: Instant::now(),
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
        tokio::select! {
            () = tokio::time::sleep_until(self.due) => self.events.forget(),
            () = self.events.next() => {}
        }
        self.schedule_poll();
    }

    /// Schedules the next poll.
    fn schedule_poll(&mut self) {
        if let Some(ReloadSchedule { interval, jitter }) = self.schedule {
            self.due = Instant::now() + interval + jitter.mul_f64(rand::random::<f64>());
        }
    }
}

/// Watches the directories of `files`; failures are logged.
fn watch<'a>(files: impl Iterator<Item = &'a Path>) -> files::Changes {
    let changes = files::Changes::new().inspect_err(|error| {
        let why = error_text::watch(error);
        tracing::warn!(target: "plugin/reload", "changes are only polled: {why}");
    });
    let mut changes = changes.unwrap_or_default();
    let directories: BTreeSet<PathBuf> = files.map(directory_of).collect();
    for directory in directories {
        if let Err(error) = changes.watch(&directory) {
            let (directory, why) = (directory.display(), error_text::watch(&error));
            tracing::warn!(target: "plugin/reload", "changes in {directory} are only polled: {why}");
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG_INTERVAL: ReloadSchedule = ReloadSchedule {
        interval: Duration::from_mins(10),
        jitter: Duration::ZERO,
    };

    #[tokio::test]
    async fn saved_files_are_reported() {
        let directory = tempfile::tempdir().unwrap();
        let corefile = directory.path().join("Corefile");
        std::fs::write(&corefile, ".").unwrap();
        let mut changes = CorefileChanges::follow(Some(&corefile), &[], Some(LONG_INTERVAL));
        std::fs::write(&corefile, ". {\n}\n").unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
        seen.expect("the change is announced");
    }

    #[tokio::test(start_paused = true)]
    async fn polling_detects_changes_without_events() {
        let corefile = Path::new("/nowhere/Corefile");
        let mut changes = CorefileChanges::follow(Some(corefile), &[], Some(LONG_INTERVAL));
        let before = Instant::now();
        changes.next().await;
        assert_eq!(before.elapsed(), LONG_INTERVAL.interval);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_watched_without_reload() {
        let mut changes = CorefileChanges::follow(Some(Path::new("Corefile")), &[], None);
        let hour = Duration::from_hours(1);
        assert!(tokio::time::timeout(hour, changes.next()).await.is_err());
    }
}
