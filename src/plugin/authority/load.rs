//! A zone from a file, read again when that has changed.

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
    files::{Look, PolledFile, Stamp},
};

/// Octets of a zone file, with all that it includes, that are still read.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A zone file, and the place of the zone that follows it.
pub struct Loader {
    file: PolledFile,
    /// What it included when it was last read.
    included: Vec<Seen>,
    held: Weak<Held>,
    /// Whether whatever is new is taken, not only what has another serial.
    by_time: bool,
    /// Nothing was read yet: what is in the place is of an earlier configuration.
    is_new: bool,
    /// The plugin that reads it, for the log.
    plugin: &'static str,
    /// Where records are counted that cannot be read and are left out. None: such a file is refused.
    left_out: Option<IntCounter>,
}

/// What is wrong with a zone file.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It cannot be read; it may come.
    #[error("cannot read {}: {}", path.display(), crate::plain::io(error))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is no zone file.
    #[error(transparent)]
    Text(#[from] TextError),
    /// It is the file of no zone.
    #[error("{}: {error}", path.display())]
    NoZone {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

/// A file as it was when it was included.
struct Seen {
    path: PathBuf,
    stamp: Option<Stamp>,
}

impl Seen {
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

impl Loader {
    /// A file that nobody has looked at yet, for the zone in this place.
    pub fn new(path: &Path, held: &Arc<Held>, by_time: bool, plugin: &'static str) -> Self {
        Self {
            file: PolledFile::new(path, MAX_FILE),
            included: Vec::new(),
            held: Arc::downgrade(held),
            by_time,
            is_new: true,
            plugin,
            left_out: None,
        }
    }

    /// The same file, of which single records that cannot be read are left out, and counted here.
    #[must_use]
    pub fn leaving_out(self, counter: IntCounter) -> Self {
        Self {
            left_out: Some(counter),
            ..self
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads the file if it has changed, and puts its zone up; trouble leaves the zone as it was,
    /// and is told once for each change of the file. Blocks.
    pub fn look(&mut self) -> Result<(), Trouble> {
        let Some(held) = self.held.upgrade() else {
            return Ok(());
        };
        if self.included.iter().any(Seen::has_changed) {
            self.file.forget();
        }
        match self.file.look() {
            Look::Unchanged => Ok(()),
            Look::Failed(error) => Err(Trouble::Unreadable {
                path: self.path().to_owned(),
                error,
            }),
            Look::Read(octets, _) => {
                let zone = self.read(&held, &octets)?;
                self.put(&held, zone);
                Ok(())
            }
        }
    }

    /// The same in the background; false once there is nobody left to do so for.
    pub fn look_again(&mut self) -> bool {
        if let Err(trouble) = self.look()
            && let Some(held) = self.held.upgrade()
        {
            let zone = held.apex();
            self.log(
                Level::ERROR,
                &format!("zone {zone} stays as it is: {trouble}"),
            );
        }
        self.held.strong_count() > 0
    }

    /// Logs in the name of the plugin that reads the file.
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

    fn read(&mut self, held: &Held, octets: &[u8]) -> Result<Zone, Trouble> {
        let path = self.path().to_owned();
        let mut builder = ZoneBuilder::new(held.apex().to_name());
        let mut left = MAX_FILE.saturating_sub(octets.len() as u64);
        self.included.clear();
        let included = &mut self.included;
        let mut include = |from: &str, name: &str| {
            let path = Path::new(from).parent().unwrap_or(Path::new("")).join(name);
            included.push(Seen::now(&path));
            match PolledFile::new(&path, left).look() {
                Look::Read(octets, _) => {
                    left -= octets.len() as u64;
                    Ok((path.to_string_lossy().into_owned(), octets))
                }
                Look::Failed(error) => Err(crate::plain::io(&error)),
                Look::Unchanged => Err("it cannot be read".to_owned()),
            }
        };
        let name = path.to_string_lossy();
        let faults = match self.left_out {
            Some(_) => OnInvalid::Skip,
            None => OnInvalid::Reject,
        };
        let SkippedRecords {
            out_of_zone: outside,
            invalid: faulty,
        } = text::read(&mut builder, &name, octets, faults, &mut include)?;
        if let (Some(first), Some(counter)) = (&faulty.first, &self.left_out) {
            counter.inc_by(faulty.count as u64);
            let text = format!(
                "records of zone {} that cannot be read are left out: {}, the first at {first}",
                held.apex(),
                faulty.count,
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
        let failed = |error: crate::authority::InvalidRecord| Trouble::NoZone {
            path,
            error: format!("{error} for {}", held.apex()),
        };
        builder.finish().map_err(failed)
    }
}
