//! `file`: serves zones from zone files (RFC 1035 section 5) authoritatively.
//!
//! By default a file is checked every minute and reloaded when it has changed; its zone is replaced
//! when the serial has changed. A file that is missing at the start is retried, and its zone answers
//! SERVFAIL until then. An invalid file is an error at the start, and later leaves the zone as it was.

mod parse;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use parse::parse;
use tokio::task::JoinSet;

use super::{
    Build, BuildError, Context, Describe, Offer, OnQuery, Plugin, Properties, Setup, Step,
    ZoneList,
    authority::{Held, LoadError, ZoneLoader, ZoneTable},
};
use crate::{files::poll, hooks, query::Query, reply::Reply, wire::Name};

/// The name of the plugin in a Corefile.
const NAME: &str = "file";

/// The options of the plugin.
#[derive(Clone, Debug)]
pub struct Config {
    /// One entry for each directive.
    pub files: Vec<ZoneFile>,
}

/// The options of one directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFile {
    /// The file.
    pub path: PathBuf,
    /// The zones that are loaded from it, each with the same relative names.
    pub zones: ZoneList,
    /// The interval at which it is checked; `None` for once, at the start.
    pub reload: Option<Duration>,
    /// Whether any change of the file replaces the zone, even one that leaves the serial as it was.
    pub reload_by_mtime: bool,
    /// Queries for names below these that the zone does not have pass to the next plugin.
    pub fallthrough: ZoneList,
}

impl Setup for Config {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::Zones]
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let mut table = ZoneTable::default();
        let mut watching = JoinSet::new();
        for file in &self.files {
            for zone in file.zones.names() {
                // Kept across reloads, in case the file is missing at that moment.
                let key = format!("{} {zone}", file.path.display());
                let empty = || Ok::<_, BuildError>(Held::new(*zone));
                let held = build.resources.keep(&key, empty)?;
                let mut loader = ZoneLoader::new(&file.path, &held, file.reload_by_mtime, NAME);
                match (loader.load_if_changed(), file.reload) {
                    (Ok(()), _) => {}
                    (Err(error @ LoadError::Unreadable { .. }), Some(reload)) => {
                        let stand = if held.zone().is_some() {
                            "the zone stays as it is"
                        } else {
                            "the zone fails until it is there"
                        };
                        tracing::warn!("{error}; {stand}, and it is tried again in {reload:?}");
                    }
                    (Err(error), _) => return Err(failed(*zone, error)),
                }
                if let Some(reload) = file.reload {
                    watching.spawn_on(poll(reload, move || loader.reload()), build.runtime);
                }
                table.insert(held, file.fallthrough.clone());
            }
        }
        let zones = Arc::new(table);
        build.offers.zones.push(Arc::clone(&zones) as _);
        Ok(Plugin::from(File {
            zones,
            _watching: watching,
        }))
    }
}

fn failed(zone: Name, error: LoadError) -> BuildError {
    BuildError {
        plugin: NAME,
        action: format!("cannot serve {zone}"),
        source: Some(error.into()),
    }
}

/// The plugin.
pub struct File {
    zones: Arc<ZoneTable>,
    // Aborts the tasks when the plugin is dropped.
    _watching: JoinSet<()>,
}

hooks!(File, NAME => on_query; properties);

impl OnQuery for File {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        self.zones.answer(context, query, reply)
    }
}

impl Describe for File {
    fn properties(&self) -> Properties {
        Properties {
            zones_only: true,
            ..Properties::default()
        }
    }
}

#[cfg(test)]
mod tests;
