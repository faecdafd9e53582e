//! Following the Corefile: when to look at it again.
//!
//! A change that the system announces is looked at once it has settled; besides that, the file is
//! looked at every now and then, because not every file system announces changes. What is done
//! about a change is the business of [`crate::process`].

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use tokio::time::Instant;

use crate::{
    config::settings::Reload,
    files::{self, directory_of},
    plain,
};

/// Changes of a Corefile and of what it imports.
pub struct Changes {
    /// None where the Corefile is not followed.
    schedule: Option<Reload>,
    announced: files::Changes,
    due: Instant,
}

impl Changes {
    /// Follows `corefile` and the files and directories that it imports as `schedule` says;
    /// without a schedule or a file, nothing ever changes.
    pub fn follow(corefile: Option<&Path>, imported: &[PathBuf], schedule: Option<Reload>) -> Self {
        let schedule = schedule.filter(|_| corefile.is_some());
        let files = corefile
            .into_iter()
            .chain(imported.iter().map(PathBuf::as_path));
        let mut changes = Self {
            schedule,
            announced: schedule.map_or_else(files::Changes::default, |_| watch(files)),
            due: Instant::now(),
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
        tokio::select! {
            () = tokio::time::sleep_until(self.due) => self.announced.forget(),
            () = self.announced.next() => {}
        }
        self.plan();
    }

    /// Schedules the next look that no notification causes.
    fn plan(&mut self) {
        if let Some(Reload { interval, jitter }) = self.schedule {
            self.due = Instant::now() + interval + jitter.mul_f64(rand::random::<f64>());
        }
    }
}

/// Watches the directories of `files`, as far as they can be watched.
fn watch<'a>(files: impl Iterator<Item = &'a Path>) -> files::Changes {
    let changes = files::Changes::new().inspect_err(|error| {
        let why = plain::watch(error);
        tracing::warn!(target: "plugin/reload", "changes are only polled: {why}");
    });
    let mut changes = changes.unwrap_or_default();
    let directories: BTreeSet<PathBuf> = files.map(directory_of).collect();
    for directory in directories {
        if let Err(error) = changes.watch(&directory) {
            let (directory, why) = (directory.display(), plain::watch(&error));
            tracing::warn!(target: "plugin/reload", "changes in {directory} are only polled: {why}");
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    async fn without_the_setting_nothing_is_followed() {
        let mut changes = Changes::follow(Some(Path::new("Corefile")), &[], None);
        let hour = Duration::from_hours(1);
        assert!(tokio::time::timeout(hour, changes.next()).await.is_err());
    }
}
