//! file: serves zones from zone files (RFC 1035 §5), with authority.
//!
//! A file is looked at every minute and read again when it has changed; its zone is taken when its
//! serial has. A file that is missing at the start is waited for, and its zone fails meanwhile; one
//! that is wrong is refused at the start, and leaves the zone as it was later.

mod parse;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use parse::parse;
use tokio::task::JoinSet;

use super::{
    Build, BuildError, Context, Plugin, Setup, Step, ZoneList,
    authority::{Held, Loader, Table, Trouble},
    transfer::Offer,
};
use crate::{files::poll, query::Query, reply::Reply, wire::Name};

/// The Corefile's word.
const NAME: &str = "file";

/// What the directives say.
#[derive(Clone, Debug)]
pub struct Config {
    /// One for each directive.
    pub files: Vec<ZoneFile>,
}

/// One directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFile {
    /// The file.
    pub path: PathBuf,
    /// The zones that it is read for, each with the same relative names.
    pub zones: ZoneList,
    /// How often it is looked at; nothing for once.
    pub reload: Option<Duration>,
    /// Whether whatever is new is taken, not only what has another serial.
    pub reload_by_mtime: bool,
    /// Names here go to the next plugin where the zone does not have them.
    pub fallthrough: ZoneList,
}

impl Setup for Config {
    fn offers(&self) -> bool {
        true
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let mut table = Table::default();
        let mut watching = JoinSet::new();
        for file in &self.files {
            for zone in file.zones.names() {
                // What was read stays across a reload, should the file be gone at that moment.
                let key = format!("{} {zone}", file.path.display());
                let empty = || Ok::<_, BuildError>(Held::new(*zone));
                let held = build.parts.keep(&key, empty)?;
                let mut loader = Loader::new(&file.path, &held, file.reload_by_mtime, NAME);
                match (loader.look(), file.reload) {
                    (Ok(()), _) => {}
                    (Err(trouble @ Trouble::Unreadable { .. }), Some(reload)) => {
                        let stand = if held.zone().is_some() {
                            "the zone stays as it is"
                        } else {
                            "the zone fails until it is there"
                        };
                        tracing::warn!("{trouble}; {stand}, and it is tried again in {reload:?}");
                    }
                    (Err(trouble), _) => return Err(failed(*zone, trouble)),
                }
                if let Some(reload) = file.reload {
                    watching.spawn_on(poll(reload, move || loader.look_again()), build.runtime);
                }
                table.insert(held, file.fallthrough.clone());
            }
        }
        let zones = Arc::new(table);
        build.offered.push(Arc::new(Offer(Arc::clone(&zones) as _)));
        Ok(Arc::new(File {
            zones,
            _watching: watching,
        }))
    }
}

fn failed(zone: Name, trouble: Trouble) -> BuildError {
    BuildError {
        plugin: NAME,
        action: format!("cannot serve {zone}"),
        source: Some(trouble.into()),
    }
}

/// The plugin.
pub struct File {
    zones: Arc<Table>,
    // Ends what it holds when it goes, and goes with the plugin.
    _watching: JoinSet<()>,
}

impl Plugin for File {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        self.zones.ask(context, query, reply)
    }

    fn refuses_others(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
