//! `auto`: serves a zone for every zone file of a directory; the file's name yields the zone's name.
//!
//! The directory is listed every minute by default: new files add zones, deleted files remove theirs,
//! and changed files are reloaded as by `file`. Invalid records are skipped and logged. A new file
//! that holds no zone adds none; a served zone stays as it was while its file holds none.

mod directory;
mod parse;

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
pub use parse::parse;
use regex::Regex;
use tokio::{sync::watch, task::JoinSet};

use self::directory::{ZoneDirectory, ZonesByFile};
use super::{
    Build, BuildError, Context, Describe, Offer, OnQuery, Plugin, Properties, Setup, Step,
    ZoneList,
    authority::ZoneTable,
    transfer::{Transferable, ZoneChanges, changes_of},
};
use crate::{
    files::poll,
    hooks,
    query::{Query, Question},
    reply::Reply,
    wire::{Name, NameRef},
};

/// The name of the plugin in a Corefile.
const NAME: &str = "auto";

/// The options of the plugin.
#[derive(Clone, Debug)]
pub struct Config {
    /// Only names in these zones are answered.
    pub zones: ZoneList,
    /// The directory of the files.
    pub directory: PathBuf,
    /// The pattern that the names of zone files match.
    pub pattern: Regex,
    /// Makes the zone's name: `${1}` stands for the first group of the pattern.
    pub template: String,
    /// The interval at which the directory is listed; `None` for once, at the start.
    pub reload: Option<Duration>,
}

impl Setup for Config {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::Zones]
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let zones = Arc::new(LoadedZones {
            table: ArcSwap::default(),
            changed: watch::Sender::new(()),
        });
        let (pattern, template) = (&self.pattern, &self.template);
        let key = format!("{} {pattern} {template}", self.directory.display());
        let known = build
            .resources
            .keep(&key, || Ok::<_, BuildError>(ZonesByFile::default()))?;
        let mut directory = ZoneDirectory::new(self, &zones, known, build.metrics);
        directory.refresh();
        let mut watching = JoinSet::new();
        if let Some(reload) = self.reload {
            watching.spawn_on(poll(reload, move || directory.refresh()), build.runtime);
        }
        build.offers.zones.push(Arc::clone(&zones) as _);
        Ok(Plugin::from(Auto {
            within: self.zones.clone(),
            zones,
            _watching: watching,
        }))
    }
}

/// The plugin.
pub struct Auto {
    within: ZoneList,
    zones: Arc<LoadedZones>,
    // Aborts the task when the plugin is dropped.
    _watching: JoinSet<()>,
}

/// The zones that are served now.
struct LoadedZones {
    table: ArcSwap<ZoneTable>,
    changed: watch::Sender<()>,
}

hooks!(Auto, NAME => on_query; properties);

impl OnQuery for Auto {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if !self.within.covers(query.question.lower.as_ref()) {
            return Step::Pass;
        }
        self.zones.table.load().answer(context, query, reply)
    }
}

impl Describe for Auto {
    fn properties(&self) -> Properties {
        Properties {
            zones_only: true,
            ..Properties::default()
        }
    }
}

impl Transferable for LoadedZones {
    fn transfer(
        self: Arc<Self>,
        question: &Question,
        held: Option<u32>,
        reply: &mut Reply,
    ) -> bool {
        self.table.load().write_transfer(question, held, reply)
    }

    fn serials(&self) -> Vec<(Name, u32)> {
        self.table.load().serials()
    }

    fn serial(&self, zone: NameRef<'_>) -> Option<u32> {
        self.table.load().serial(zone)
    }

    fn changes(&self) -> Option<ZoneChanges> {
        Some(changes_of(self.changed.subscribe()))
    }
}

#[cfg(test)]
mod tests;
