//! Reading the hosts file, at the start and whenever it has changed.

use std::{
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;

use super::{
    Config,
    table::{Rules, Table},
};
use crate::{metrics::Metrics, wire::Name};

/// Octets of a file that is still read: a hundred times the longest blocking list.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A hosts file, and the table that follows it.
pub struct Watched {
    path: PathBuf,
    rules: Rules,
    inline: Vec<(IpAddr, Name)>,
    table: Weak<ArcSwap<Table>>,
    metrics: Arc<Metrics>,
    state: State,
}

/// What the last look showed.
#[derive(PartialEq)]
enum State {
    /// There has been none.
    New,
    /// The file of this time and size has been read.
    Read(SystemTime, u64),
    /// It could not be read, for this reason.
    Failed(String),
}

impl Watched {
    /// The file of `config`, not looked at yet, which `table` is to follow.
    pub fn new(config: &Config, table: &Arc<ArcSwap<Table>>, metrics: &Arc<Metrics>) -> Self {
        Self {
            path: config.file.clone(),
            rules: config.rules.clone(),
            inline: config.inline.clone(),
            table: Arc::downgrade(table),
            metrics: Arc::clone(metrics),
            state: State::New,
        }
    }

    /// Looks at the file every `reload`, for as long as the table is there.
    pub async fn watch(mut self, reload: Duration) {
        while self.table.strong_count() > 0 {
            tokio::time::sleep(reload).await;
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(watched) => self = watched,
                // The runtime is going down.
                Err(_) => return,
            }
        }
    }

    /// Reads the file if it has changed. A file that cannot be read is told once, and leaves what
    /// was read before.
    pub fn look(&mut self) {
        let seen = match self.metadata() {
            Ok(seen) if self.state == seen => return,
            Ok(seen) => seen,
            Err(error) => return self.fail(&error),
        };
        match self.text() {
            Ok(text) => {
                self.publish(Some(&text));
                if let State::Read(changed, _) = seen {
                    let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
                    let gauge = &self.metrics.hosts.reload_timestamp_seconds;
                    gauge.set(since.as_secs_f64());
                }
                self.state = seen;
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        let failed = State::Failed(error.to_string());
        if self.state == failed {
            return;
        }
        if self.state == State::New {
            self.publish(None);
        }
        tracing::warn!(target: "hosts", "cannot read {}: {error}", self.path.display());
        self.state = failed;
    }

    fn metadata(&self) -> io::Result<State> {
        let metadata = std::fs::metadata(&self.path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        Ok(State::Read(metadata.modified()?, metadata.len()))
    }

    fn text(&self) -> io::Result<String> {
        let mut octets = Vec::new();
        let mut file = File::open(&self.path)?.take(MAX_FILE + 1);
        let length = file.read_to_end(&mut octets)?;
        if length as u64 > MAX_FILE {
            let mebibytes = MAX_FILE / (1024 * 1024);
            return Err(io::Error::other(format!(
                "it is larger than {mebibytes} MiB"
            )));
        }
        // A line with stray octets is a bad line, not a bad file.
        Ok(String::from_utf8_lossy(&octets).into_owned())
    }

    /// Puts up the table of the file's text and the Corefile's lines.
    fn publish(&self, text: Option<&str>) {
        let Some(published) = self.table.upgrade() else {
            return;
        };
        let mut table = Table::default();
        if let Some(text) = text {
            let skipped = table.add_file(&self.rules, text);
            if let Some((line, why)) = skipped.first {
                let (path, count) = (self.path.display(), skipped.count);
                tracing::warn!(target: "hosts", "{path}: skipped {count} lines, the first is line {line}: {why}");
            }
        }
        for (address, name) in &self.inline {
            // The lines of the Corefile fit in a table; beside those of a file they may be too many.
            if let Err(why) = table.add(&self.rules, *address, name) {
                tracing::warn!(target: "hosts", "a line of the Corefile is left out: {why}");
            }
        }
        let entries = i64::try_from(table.entries()).unwrap_or(i64::MAX);
        let label = self.path.to_string_lossy();
        let gauge = &self.metrics.hosts.entries;
        gauge.with_label_values(&[&*label]).set(entries);
        published.store(Arc::new(table));
    }
}
