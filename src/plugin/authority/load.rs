//! A zone loaded from a file, reloaded when the file has changed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use prometheus::IntCounter;
use tracing::Level;

use super::Held;
use crate::{
    authority::{
        Zone, ZoneBuilder,
        text::{self, OnInvalid, OutOfZone, SkippedRecords, TextError},
    },
    files::{FileCheck, PolledFile, Stamp},
};

/// Bytes of a zone file, with all files that it includes, at most.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A zone file, and the zone that is loaded from it.
pub struct ZoneLoader {
    file: PolledFile,
    /// The files that it included when it was last read.
    included: Vec<IncludedFile>,
    held: Weak<Held>,
    /// Whether any change of the file replaces the zone, even one that leaves the serial as it was.
    by_time: bool,
    /// Nothing was read yet: a zone in `held` was loaded by an earlier configuration.
    is_new: bool,
    /// The plugin that loads it, for the log target.
    plugin: &'static str,
    /// Counts invalid records, which are skipped. `None`: a file with an invalid record is rejected.
    skipped: Option<IntCounter>,
}

/// Why a zone file could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read, perhaps not yet.
    #[error("cannot read {}: {}", path.display(), crate::error_text::io(error))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not in zone file format.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Its records are not a zone.
    #[error("{}: {error}", path.display())]
    NoZone {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

/// An included file, with its stamp at the time.
struct IncludedFile {
    path: PathBuf,
    stamp: Option<Stamp>,
}

impl IncludedFile {
    fn now(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            stamp: Stamp::of(path),
        }
    }

    fn has_changed(&self) -> bool {
        Stamp::of(&self.path) != self.stamp
    }
}

impl ZoneLoader {
    /// A loader of the zone in `held`, which has not read the file yet.
    pub fn new(path: &Path, held: &Arc<Held>, by_time: bool, plugin: &'static str) -> Self {
        Self {
            file: PolledFile::new(path, MAX_FILE),
            included: Vec::new(),
            held: Arc::downgrade(held),
            by_time,
            is_new: true,
            plugin,
            skipped: None,
        }
    }

    /// Skips invalid records of the file and counts them in `counter`.
    #[must_use]
    pub fn skipping_invalid(self, counter: IntCounter) -> Self {
        Self {
            skipped: Some(counter),
            ..self
        }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Loads the zone if the file has changed. An error leaves the zone as it was, and is returned
    /// once for each change of the file. Blocks.
    pub fn load_if_changed(&mut self) -> Result<(), LoadError> {
        let Some(held) = self.held.upgrade() else {
            return Ok(());
        };
        if self.included.iter().any(IncludedFile::has_changed) {
            self.file.forget();
        }
        match self.file.check() {
            FileCheck::Unchanged => Ok(()),
            FileCheck::Failed(error) => Err(LoadError::Unreadable {
                path: self.path().to_owned(),
                error,
            }),
            FileCheck::Read(bytes, _) => {
                let zone = self.read(&held, &bytes)?;
                self.put(&held, zone);
                Ok(())
            }
        }
    }

    /// Like `load_if_changed`, but logs an error. False once the zone is no longer in use.
    pub fn reload(&mut self) -> bool {
        if let Err(error) = self.load_if_changed()
            && let Some(held) = self.held.upgrade()
        {
            let zone = held.apex();
            self.log(
                Level::ERROR,
                &format!("zone {zone} stays as it is: {error}"),
            );
        }
        self.held.strong_count() > 0
    }

    /// Logs with the target of the plugin that loads the file.
    fn log(&self, level: Level, text: &str) {
        match (self.plugin, level) {
            ("auto", Level::ERROR) => tracing::error!(target: "plugin/auto", "{text}"),
            ("auto", Level::WARN) => tracing::warn!(target: "plugin/auto", "{text}"),
            ("auto", _) => tracing::info!(target: "plugin/auto", "{text}"),
            (_, Level::ERROR) => tracing::error!(target: "plugin/file", "{text}"),
            (_, Level::WARN) => tracing::warn!(target: "plugin/file", "{text}"),
            (_, _) => tracing::info!(target: "plugin/file", "{text}"),
        }
    }

    fn put(&mut self, held: &Held, zone: Zone) {
        let is_new = std::mem::replace(&mut self.is_new, false);
        let (name, file) = (held.apex(), self.path().display());
        let serial = zone.timers().serial;
        if let Some(old) = held.zone() {
            if old.is_same(&zone) {
                return;
            }
            if old.timers().serial == serial && !self.by_time && !is_new {
                let text = format!(
                    "{file} has changed and its serial has not: zone {name} stays as it was; raise \
                     the serial {serial}"
                );
                return self.log(Level::WARN, &text);
            }
            let text = format!("zone {name} read again from {file}: serial {serial}");
            self.log(Level::INFO, &text);
        }
        held.put(zone);
    }

    fn read(&mut self, held: &Held, bytes: &[u8]) -> Result<Zone, LoadError> {
        let path = self.path().to_owned();
        let mut builder = ZoneBuilder::new(held.apex().to_name());
        let mut left = MAX_FILE.saturating_sub(bytes.len() as u64);
        self.included.clear();
        let included = &mut self.included;
        let mut include = |from: &str, name: &str| {
            let path = Path::new(from).parent().unwrap_or(Path::new("")).join(name);
            included.push(IncludedFile::now(&path));
            match PolledFile::new(&path, left).check() {
                FileCheck::Read(bytes, _) => {
                    left -= bytes.len() as u64;
                    Ok((path.to_string_lossy().into_owned(), bytes))
                }
                FileCheck::Failed(error) => Err(crate::error_text::io(&error)),
                FileCheck::Unchanged => Err("it cannot be read".to_owned()),
            }
        };
        let name = path.to_string_lossy();
        let on_invalid = match self.skipped {
            Some(_) => OnInvalid::Skip,
            None => OnInvalid::Reject,
        };
        let SkippedRecords {
            out_of_zone: outside,
            invalid,
        } = text::read(&mut builder, &name, bytes, on_invalid, &mut include)?;
        if let (Some(first), Some(counter)) = (&invalid.first, &self.skipped) {
            counter.inc_by(invalid.count as u64);
            let text = format!(
                "records of zone {} that cannot be read are left out: {}, the first at {first}",
                held.apex(),
                invalid.count,
            );
            self.log(Level::WARN, &text);
        }
        let OutOfZone { count, first } = outside;
        if let Some((file, line)) = first {
            let zone = held.apex();
            let text = format!(
                "records that lie outside of zone {zone} are left out: {count}, the first at \
                 {file}:{line}"
            );
            self.log(Level::WARN, &text);
        }
        let failed = |error: crate::authority::InvalidRecord| LoadError::NoZone {
            path,
            error: format!("{error} for {}", held.apex()),
        };
        builder.finish().map_err(failed)
    }
}
