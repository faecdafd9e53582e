//! The directory that zones come from.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use prometheus::IntCounter;
use regex::Regex;

use super::{Config, NAME, Zones};
use crate::{
    metrics::Metrics,
    plugin::{
        ZoneList,
        authority::{Held, Loader, Table},
    },
    wire::Name,
};

/// Directories within directories that are still looked into.
const MAX_DEPTH: usize = 8;
/// Files that are looked at, whether they are zone files or not.
const MAX_FILES: usize = 100_000;

/// The directory, and the zones that were found in it.
pub struct Directory {
    path: PathBuf,
    pattern: Regex,
    template: String,
    found: BTreeMap<PathBuf, Found>,
    zones: Weak<Zones>,
    /// What was last said to be wrong with the directory.
    trouble: Option<String>,
    /// Counts records that cannot be read.
    left_out: IntCounter,
    known: Arc<ZonesByFile>,
}

/// The zones of a directory by their files, for the next configuration: what it cannot read at that
/// moment stays as it was.
#[derive(Default)]
pub struct ZonesByFile(Mutex<HashMap<PathBuf, Arc<Held>>>);

impl ZonesByFile {
    /// The place of a zone that comes from this file.
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

    fn keep(&self, is_there: impl Fn(&Path) -> bool) {
        self.0.lock().retain(|path, _| is_there(path));
    }
}

struct Found {
    held: Arc<Held>,
    loader: Loader,
    /// The serial that others were told of.
    serial: Option<u32>,
}

impl Directory {
    /// A directory that was not read yet, for these zones. `known` are those of an earlier
    /// configuration.
    pub fn new(
        config: &Config,
        zones: &Arc<Zones>,
        known: Arc<ZonesByFile>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            known,
            left_out: metrics.left_out_total.with_label_values(&[NAME]),
            path: config.directory.clone(),
            pattern: config.pattern.clone(),
            template: config.template.clone(),
            found: BTreeMap::new(),
            zones: Arc::downgrade(zones),
            trouble: None,
        }
    }

    /// Takes up what has come, gone or changed; false once there is nobody left to do so for. A
    /// directory that cannot be read leaves the zones as they are. Blocks.
    pub fn look(&mut self) -> bool {
        let Some(zones) = self.zones.upgrade() else {
            return false;
        };
        let mut files = Vec::new();
        let trouble = list(&self.path, 0, &mut files).err();
        let trouble = trouble.map(|error| crate::plain::io(&error));
        if let Some(trouble) = trouble
            .clone()
            .filter(|it| self.trouble.as_ref() != Some(it))
        {
            let path = self.path.display();
            tracing::warn!("cannot read the directory {path}: {trouble}");
        }
        self.trouble = trouble;
        if self.trouble.is_none() && self.update(files) {
            let mut table = Table::default();
            for found in self.found.values().filter(|it| it.serial.is_some()) {
                table.insert(Arc::clone(&found.held), ZoneList::none());
            }
            zones.table.store(Arc::new(table));
            zones.changed.send_replace(());
        }
        true
    }

    /// Brings what was found up to date with the files that are there; whether anything changed.
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
                    Found {
                        held,
                        loader,
                        serial,
                    },
                );
                continue;
            }
            named.insert(zone.to_string(), path.clone());
            let mut one = known.unwrap_or_else(|| {
                let held = self.known.held(&path, zone);
                let loader = self.loader(&path, &held);
                Found {
                    held,
                    loader,
                    serial: None,
                }
            });
            changed |= one.look();
            found.insert(path, one);
        }
        for gone in self.found.values().filter(|it| it.serial.is_some()) {
            changed = true;
            tracing::info!("zone {} is gone with its file", gone.held.apex());
        }
        self.known.keep(|path| found.contains_key(path));
        self.found = found;
        changed
    }

    fn loader(&self, path: &Path, held: &Arc<Held>) -> Loader {
        Loader::new(path, held, false, NAME).leaving_out(self.left_out.clone())
    }

    /// The zone that a file is for, in lower case, if it is a zone file by its name.
    fn zone_of(&self, path: &Path) -> Option<Name> {
        let name = path.file_name()?.to_str()?;
        let groups = self.pattern.captures(name)?;
        let mut zone = String::new();
        groups.expand(&self.template, &mut zone);
        Some(Name::parse(&zone).ok()?.to_lower())
    }
}

impl Found {
    /// Reads the file if it has changed; whether the zone did.
    fn look(&mut self) -> bool {
        self.loader.look_again();
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

/// Lists the files in a directory and below it, in the order of their names.
fn list(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = std::fs::read_dir(directory)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // What a mounted ConfigMap keeps its files in; links beside it lead to them.
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
