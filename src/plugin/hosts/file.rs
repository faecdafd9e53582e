//! Reloads the table when the hosts file changes.

use std::{
    net::IpAddr,
    sync::{Arc, Weak},
    time::UNIX_EPOCH,
};

use arc_swap::ArcSwap;

use super::{
    Config, NAME,
    table::{HostsTable, TableRules},
};
use crate::{
    files::{FileCheck, PolledFile},
    metrics::Metrics,
    wire::Name,
};

/// Maximum size of a file in bytes: ten times the longest common block list.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A polled hosts file, and the table that is rebuilt from it.
pub struct Watched {
    file: PolledFile,
    rules: TableRules,
    inline: Vec<(IpAddr, Name)>,
    table: Weak<ArcSwap<HostsTable>>,
    metrics: Arc<Metrics>,
}

impl Watched {
    /// Watches the file of `config` for `table`, without reading it yet. Until the file is read
    /// successfully, the table keeps its previous entries, or has those of the Corefile.
    pub fn new(config: &Config, table: &Arc<ArcSwap<HostsTable>>, metrics: &Arc<Metrics>) -> Self {
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

    /// Reloads the file if it has changed. Returns false once the table is no longer used. If the
    /// file cannot be read, the table keeps its entries.
    pub fn look(&mut self) -> bool {
        let Some(table) = self.table.upgrade() else {
            return false;
        };
        match self.file.check() {
            FileCheck::Unchanged => {}
            FileCheck::Read(bytes, changed) => {
                // Invalid UTF-8 invalidates a line, not the file.
                self.publish(&table, &String::from_utf8_lossy(&bytes));
                let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
                let gauge = &self.metrics.hosts.reload_timestamp_seconds;
                gauge.set(since.as_secs_f64());
            }
            FileCheck::Failed(error) => {
                let path = self.file.path().display();
                let why = crate::error_text::io(&error);
                tracing::warn!("cannot read {path}: {why}");
            }
        }
        true
    }

    /// Publishes a new table of the file's text and the Corefile's lines.
    fn publish(&self, published: &ArcSwap<HostsTable>, text: &str) {
        let mut table = HostsTable::default();
        let path = self.file.path();
        let skipped = table.add_file(&self.rules, text);
        if let Some((line, why)) = skipped.first {
            let (path, count) = (path.display(), skipped.count);
            let counter = self.metrics.left_out_total.with_label_values(&[NAME]);
            counter.inc_by(count as u64);
            tracing::warn!("{path}: lines skipped: {count}, the first is line {line}: {why}");
        }
        for (address, name) in &self.inline {
            // They are within the table's limits by themselves, but may exceed them together with
            // the file's.
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
