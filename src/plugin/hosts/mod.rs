//! hosts: answers from a hosts file and from lines of the Corefile.
//!
//! A and AAAA questions for names in the plugin's zones, PTR questions for addresses in any zone.
//! A known name without a record of the type is NODATA, without an SOA since there is no zone. An
//! unknown name falls through where that is allowed; otherwise it is SERVFAIL, as in CoreDNS: a
//! denial without an SOA would not be believed. An unknown address always falls through.
//!
//! The file is looked at every few seconds and read again when its time or size has changed; a
//! file that is gone or cannot be read leaves what was read before.

mod file;
mod parse;
mod table;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
pub use parse::parse;
use tokio::task::JoinSet;

use self::{
    file::Watched,
    table::{Rules, Table, reversed},
};
use super::{Build, BuildError, Context, Plugin, Setup, Step, ZoneList};
use crate::{
    files::poll,
    query::Query,
    reply::{Data, Reply, Section, Why},
    wire::{Name, Rcode, Type},
};

/// The Corefile's word.
const NAME: &str = "hosts";

/// The options of the plugin.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file; it need not exist yet.
    pub file: PathBuf,
    /// What of it is taken.
    pub rules: Rules,
    /// The lines of the Corefile, a name each. They come behind those of the file.
    pub inline: Vec<(IpAddr, Name)>,
    /// The TTL of every answer, in seconds.
    pub ttl: u32,
    /// How often the file is looked at; nothing for once.
    pub reload: Option<Duration>,
    /// Names here go to the next plugin where the table does not know them.
    pub fallthrough: ZoneList,
    /// So do questions for other types than addresses, though the table knows the name.
    pub unsupported_falls_through: bool,
}

/// The plugin.
pub struct Hosts {
    config: Config,
    table: Arc<ArcSwap<Table>>,
    // Ends what it holds when it goes, and goes with the plugin.
    _watching: JoinSet<()>,
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        // What was read stays across a reload, should the file be gone at that moment.
        let (file, rules, inline) = (self.file.display(), &self.rules, &self.inline);
        let key = format!("{file} {rules:?} {inline:?}");
        let empty = || Ok::<_, BuildError>(ArcSwap::default());
        let table = build.parts.keep(&key, empty)?;
        let mut watched = Watched::new(self, &table, build.metrics);
        watched.look();
        let mut watching = JoinSet::new();
        if let Some(reload) = self.reload {
            watching.spawn_on(poll(reload, move || watched.look()), build.runtime);
        }
        Ok(Arc::new(Hosts {
            config: self.clone(),
            table,
            _watching: watching,
        }))
    }
}

impl Plugin for Hosts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let lower = query.question.lower.as_ref();
        let rtype = query.question.rtype;
        let table = self.table.load();
        if rtype == Type::PTR {
            let address = reversed(lower);
            for name in address.into_iter().flat_map(|address| table.names(address)) {
                reply.answer(Type::PTR, self.config.ttl, Data::Name(name));
            }
            let is_known = !reply.section(Section::Answer).is_empty();
            return if is_known { found(reply) } else { Step::Pass };
        }
        if !self.config.rules.zones.covers(lower) {
            return Step::Pass;
        }
        let falls_through = self.config.fallthrough.covers(lower);
        let Some(addresses) = table.addresses(lower) else {
            if falls_through {
                return Step::Pass;
            }
            reply.fail(Rcode::SERVFAIL, Why::NoSuchHost);
            return Step::Answer;
        };
        match rtype {
            Type::A => {
                for address in &addresses.v4 {
                    reply.answer(Type::A, self.config.ttl, Data::A(*address));
                }
            }
            Type::AAAA => {
                for address in &addresses.v6 {
                    reply.answer(Type::AAAA, self.config.ttl, Data::Aaaa(*address));
                }
            }
            _ if falls_through && self.config.unsupported_falls_through => return Step::Pass,
            _ => {}
        }
        found(reply)
    }
}

/// The reply for a name that the table knows.
fn found(reply: &mut Reply) -> Step {
    reply.authoritative = true;
    reply.why = if reply.section(Section::Answer).is_empty() {
        Why::HostsNoData
    } else {
        Why::HostsRecord
    };
    Step::Answer
}

#[cfg(test)]
mod tests;
