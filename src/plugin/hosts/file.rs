//! The table that follows the hosts file.

use std::{
    net::IpAddr,
    sync::{Arc, Weak},
    time::UNIX_EPOCH,
};

use arc_swap::ArcSwap;

use super::{
    Config, NAME,
    table::{Rules, Table},
};
use crate::{
    files::{Look, PolledFile},
    metrics::Metrics,
    wire::Name,
};

/// Octets of a file that is still read: ten times the longest blocking list.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A hosts file, and the table that follows it.
pub struct Watched {
    file: PolledFile,
    rules: Rules,
    inline: Vec<(IpAddr, Name)>,
    table: Weak<ArcSwap<Table>>,
    metrics: Arc<Metrics>,
}

impl Watched {
    /// The file of `config`, not looked at yet, which `table` is to follow. Until then, and where
    /// the file cannot be read, the table holds what it held, or the lines of the Corefile.
    pub fn new(config: &Config, table: &Arc<ArcSwap<Table>>, metrics: &Arc<Metrics>) -> Self {
        let watched = Self {
            file: PolledFile::new(&config.file, MAX_FILE),
            rules: config.rules.clone(),
            inline: config.inline.clone(),
            table: Arc::downgrade(table),
            metrics: Arc::clone(metrics),
        };
        if table.load().entries() == 0 {
            watched.publish(table, "");
        }
        watched
    }

    /// Reads the file if it has changed; false once there is nothing left to do so for. A file
    /// that cannot be read leaves what was read before.
    pub fn look(&mut self) -> bool {
        let Some(table) = self.table.upgrade() else {
            return false;
        };
        match self.file.look() {
            Look::Unchanged => {}
            Look::Read(octets, changed) => {
                // Stray octets spoil a line, not the file.
                self.publish(&table, &String::from_utf8_lossy(&octets));
                let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
                let gauge = &self.metrics.hosts.reload_timestamp_seconds;
                gauge.set(since.as_secs_f64());
            }
            Look::Failed(error) => {
                let path = self.file.path().display();
                let why = crate::plain::io(&error);
                tracing::warn!("cannot read {path}: {why}");
            }
        }
        true
    }

    /// Puts up the table of the file's text and the Corefile's lines.
    fn publish(&self, published: &ArcSwap<Table>, text: &str) {
        let mut table = Table::default();
        let path = self.file.path();
        let skipped = table.add_file(&self.rules, text);
        if let Some((line, why)) = skipped.first {
            let (path, count) = (path.display(), skipped.count);
            let counter = self.metrics.left_out_total.with_label_values(&[NAME]);
            counter.inc_by(count as u64);
            tracing::warn!("{path}: lines skipped: {count}, the first is line {line}: {why}");
        }
        for (address, name) in &self.inline {
            // By themselves they fit in a table; beside those of a file they may be too many.
            if let Err(why) = table.add(&self.rules, *address, name) {
                tracing::warn!("a line of the Corefile is left out: {why}");
            }
        }
        let entries = i64::try_from(table.entries()).unwrap_or(i64::MAX);
        let gauge = &self.metrics.hosts.entries;
        let label = path.to_string_lossy();
        gauge.with_label_values(&[&*label]).set(entries);
        published.store(Arc::new(table));
    }
}
