//! auto: serves a zone for every zone file of a directory, the zone's name taken from the file's.
//!
//! The directory is looked at every minute: files that come bring zones, files that go take theirs
//! away, and those that change are read again as by `file`. A record that cannot be read is left out,
//! with a line in the log. A file without a zone when it comes brings none; one that becomes so leaves
//! its zone as it was.

mod directory;
mod parse;

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
pub use parse::parse;
use regex::Regex;
use tokio::{sync::watch, task::JoinSet};

use self::directory::{Directory, ZonesByFile};
use super::{
    Build, BuildError, Context, Plugin, Setup, Step, ZoneList,
    authority::Table,
    transfer::{Changes, Offer, Transferable, changes_of},
};
use crate::{
    files::poll,
    query::{Query, Question},
    reply::Reply,
    wire::{Name, NameRef},
};

/// The Corefile's word.
const NAME: &str = "auto";

/// The options of the plugin.
#[derive(Clone, Debug)]
pub struct Config {
    /// Only names in these are answered.
    pub zones: ZoneList,
    /// Where the files are.
    pub directory: PathBuf,
    /// What the names of zone files are like.
    pub pattern: Regex,
    /// What of a file's name is the zone's: `${1}` stands for the first group of the pattern.
    pub template: String,
    /// How often the directory is looked at; nothing for once.
    pub reload: Option<Duration>,
}

impl Setup for Config {
    fn offers(&self) -> bool {
        true
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let zones = Arc::new(Zones {
            table: ArcSwap::default(),
            changed: watch::Sender::new(()),
        });
        let (pattern, template) = (&self.pattern, &self.template);
        let key = format!("{} {pattern} {template}", self.directory.display());
        let known = build
            .parts
            .keep(&key, || Ok::<_, BuildError>(ZonesByFile::default()))?;
        let mut directory = Directory::new(self, &zones, known, build.metrics);
        directory.look();
        let mut watching = JoinSet::new();
        if let Some(reload) = self.reload {
            watching.spawn_on(poll(reload, move || directory.look()), build.runtime);
        }
        build.offered.push(Arc::new(Offer(Arc::clone(&zones) as _)));
        Ok(Arc::new(Auto {
            within: self.zones.clone(),
            zones,
            _watching: watching,
        }))
    }
}

/// The plugin.
pub struct Auto {
    within: ZoneList,
    zones: Arc<Zones>,
    // Ends what it holds when it goes, and goes with the plugin.
    _watching: JoinSet<()>,
}

/// The zones of the files that are there.
struct Zones {
    table: ArcSwap<Table>,
    changed: watch::Sender<()>,
}

impl Plugin for Auto {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if !self.within.covers(query.question.lower.as_ref()) {
            return Step::Pass;
        }
        self.zones.table.load().ask(context, query, reply)
    }

    fn refuses_others(&self) -> bool {
        true
    }
}

impl Transferable for Zones {
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

    fn changes(&self) -> Option<Changes> {
        Some(changes_of(self.changed.subscribe()))
    }
}

#[cfg(test)]
mod tests;
