//! The directory that zones are loaded from.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use prometheus::IntCounter;
use regex::Regex;

use super::{Config, LoadedZones, NAME};
use crate::{
    metrics::Metrics,
    plugin::{
        ZoneList,
        authority::{Held, ZoneLoader, ZoneTable},
    },
    wire::Name,
};

/// Depth of subdirectories that are searched.
const MAX_DEPTH: usize = 8;
/// Files at most, whether they are zone files or not.
const MAX_FILES: usize = 100_000;

/// The directory, and the zones loaded from its files.
pub struct ZoneDirectory {
    path: PathBuf,
    pattern: Regex,
    template: String,
    found: BTreeMap<PathBuf, FoundFile>,
    zones: Weak<LoadedZones>,
    /// The last error of listing the directory, so that each is logged once.
    last_error: Option<String>,
    /// Counts invalid records.
    skipped: IntCounter,
    by_file: Arc<ZonesByFile>,
}

/// The zones of a directory by their files, kept across reloads: a file that the next configuration
/// cannot read at that moment leaves its zone as it was.
#[derive(Default)]
pub struct ZonesByFile(Mutex<HashMap<PathBuf, Arc<Held>>>);

impl ZonesByFile {
    /// The zone that is loaded from this file.
    fn held(&self, path: &Path, zone: Name) -> Arc<Held> {
        let mut known = self.0.lock();
        match known.get(path) {
            Some(held) if held.apex().eq_ignore_case(zone.as_ref()) => Arc::clone(held),
            _ => {
                let held = Arc::new(Held::new(zone));
                known.insert(path.to_owned(), Arc::clone(&held));
                held
            }
        }
    }

    fn retain(&self, is_there: impl Fn(&Path) -> bool) {
        self.0.lock().retain(|path, _| is_there(path));
    }
}

struct FoundFile {
    held: Arc<Held>,
    loader: ZoneLoader,
    /// The serial that was last published; `None` while the zone is not served.
    serial: Option<u32>,
}

impl ZoneDirectory {
    /// A directory that was not read yet, whose zones go to `zones`. `by_file` are the zones of an
    /// earlier configuration.
    pub fn new(
        config: &Config,
        zones: &Arc<LoadedZones>,
        by_file: Arc<ZonesByFile>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            by_file,
            skipped: metrics.left_out_total.with_label_values(&[NAME]),
            path: config.directory.clone(),
            pattern: config.pattern.clone(),
            template: config.template.clone(),
            found: BTreeMap::new(),
            zones: Arc::downgrade(zones),
            last_error: None,
        }
    }

    /// Loads new and changed files, and removes the zones of deleted ones. False once `zones` is no
    /// longer in use. A directory that cannot be read leaves the zones as they are. Blocks.
    pub fn refresh(&mut self) -> bool {
        let Some(zones) = self.zones.upgrade() else {
            return false;
        };
        let mut files = Vec::new();
        let error = list(&self.path, 0, &mut files).err();
        let error = error.map(|error| crate::error_text::io(&error));
        if let Some(error) = error
            .clone()
            .filter(|it| self.last_error.as_ref() != Some(it))
        {
            let path = self.path.display();
            tracing::warn!("cannot read the directory {path}: {error}");
        }
        self.last_error = error;
        if self.last_error.is_none() && self.update(files) {
            let mut table = ZoneTable::default();
            for found in self.found.values().filter(|it| it.serial.is_some()) {
                table.insert(Arc::clone(&found.held), ZoneList::none());
            }
            zones.table.store(Arc::new(table));
            zones.changed.send_replace(());
        }
        true
    }

    /// Updates `found` from the list of files. True if a zone was added, removed or changed.
    fn update(&mut self, files: Vec<PathBuf>) -> bool {
        let mut named: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut found = BTreeMap::new();
        let mut changed = false;
        for path in files {
            let Some(zone) = self.zone_of(&path) else {
                continue;
            };
            let known = self.found.remove(&path);
            if let Some(first) = named.get(&zone.to_string()) {
                if known.is_none_or(|known| known.serial.is_some()) {
                    let (path, first) = (path.display(), first.display());
                    tracing::warn!("{path} is left out: zone {zone} is in {first}");
                }
                let held = Arc::new(Held::new(zone));
                let loader = self.loader(&path, &held);
                let serial = None;
                found.insert(
                    path,
                    FoundFile {
                        held,
                        loader,
                        serial,
                    },
                );
                continue;
            }
            named.insert(zone.to_string(), path.clone());
            let mut one = known.unwrap_or_else(|| {
                let held = self.by_file.held(&path, zone);
                let loader = self.loader(&path, &held);
                FoundFile {
                    held,
                    loader,
                    serial: None,
                }
            });
            changed |= one.load();
            found.insert(path, one);
        }
        for gone in self.found.values().filter(|it| it.serial.is_some()) {
            changed = true;
            tracing::info!("zone {} is gone with its file", gone.held.apex());
        }
        self.by_file.retain(|path| found.contains_key(path));
        self.found = found;
        changed
    }

    fn loader(&self, path: &Path, held: &Arc<Held>) -> ZoneLoader {
        ZoneLoader::new(path, held, false, NAME).skipping_invalid(self.skipped.clone())
    }

    /// The zone of a file, in lower case, if the file's name matches the pattern.
    fn zone_of(&self, path: &Path) -> Option<Name> {
        let name = path.file_name()?.to_str()?;
        let groups = self.pattern.captures(name)?;
        let mut zone = String::new();
        groups.expand(&self.template, &mut zone);
        Some(Name::parse(&zone).ok()?.to_lower())
    }
}

impl FoundFile {
    /// Loads the file if it has changed. True if the zone's serial changed.
    fn load(&mut self) -> bool {
        self.loader.reload();
        let serial = self.held.zone().map(|zone| zone.timers().serial);
        if let (None, Some(serial)) = (self.serial, serial) {
            let (zone, file) = (self.held.apex(), self.loader.path().display());
            tracing::info!("zone {zone} from {file}: serial {serial}");
        }
        let changed = self.serial != serial;
        self.serial = serial;
        changed
    }
}

/// Lists the files in a directory and its subdirectories, sorted by name.
fn list(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = std::fs::read_dir(directory)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A mounted ConfigMap keeps its files in `..data`, with symbolic links to them beside it.
        if name.starts_with("..") {
            continue;
        }
        let Ok(metadata) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            if depth < MAX_DEPTH {
                list(&path, depth + 1, files)?;
            }
        } else if files.len() == MAX_FILES {
            let message = format!("there are more than {MAX_FILES} files");
            return Err(io::Error::other(message));
        } else {
            files.push(path);
        }
    }
    Ok(())
}
