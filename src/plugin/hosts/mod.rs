//! `hosts`: answers from a hosts file and from lines of the Corefile.
//!
//! Answers A and AAAA questions for names in the plugin's zones, and PTR questions for addresses in
//! any zone. A name in the table without a record of the type gets NODATA, without an SOA record
//! since there is no zone. A name that is not in the table falls through if that is configured;
//! otherwise it gets SERVFAIL, as in CoreDNS: resolvers do not cache a denial without an SOA record
//! (RFC 2308 section 5). An address that is not in the table always falls through.
//!
//! The file is polled every few seconds and read again when its modification time or size has
//! changed. If it is missing or unreadable, the table keeps its entries.

mod file;
mod parse;
mod table;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
pub use parse::parse;
use tokio::task::JoinSet;

use self::{
    file::Watched,
    table::{HostsTable, TableRules, reversed},
};
use super::{Build, BuildError, Context, OnQuery, Plugin, Setup, Step, ZoneList};
use crate::{
    files::poll,
    hooks,
    query::Query,
    reply::{Data, Reply, Section, Why},
    wire::{Name, Rcode, Type},
};

/// The directive's name.
const NAME: &str = "hosts";

/// The parsed directive.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file; it may not exist yet.
    pub file: PathBuf,
    /// Which entries are used.
    pub rules: TableRules,
    /// The lines of the Corefile, one entry per name. They follow those of the file.
    pub inline: Vec<(IpAddr, Name)>,
    /// The TTL of every answer, in seconds.
    pub ttl: u32,
    /// The polling interval of the file; `None` reads it once.
    pub reload: Option<Duration>,
    /// Zones in which names that are not in the table are passed to the next plugin.
    pub fallthrough: ZoneList,
    /// Whether questions for other types than A and AAAA fall through as well, for names in the
    /// table.
    pub unsupported_falls_through: bool,
}

/// The plugin.
pub struct Hosts {
    config: Config,
    table: Arc<ArcSwap<HostsTable>>,
    // Aborts the polling task when the plugin is dropped.
    _watching: JoinSet<()>,
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        // The table is kept across a reload, in case the file is missing at that moment.
        let (file, rules, inline) = (self.file.display(), &self.rules, &self.inline);
        let key = format!("{file} {rules:?} {inline:?}");
        let empty = || Ok::<_, BuildError>(ArcSwap::default());
        let table = build.resources.keep(&key, empty)?;
        let mut watched = Watched::new(self, &table, build.metrics);
        watched.look();
        let mut watching = JoinSet::new();
        if let Some(reload) = self.reload {
            watching.spawn_on(poll(reload, move || watched.look()), build.runtime);
        }
        Ok(Plugin::from(Hosts {
            config: self.clone(),
            table,
            _watching: watching,
        }))
    }
}

hooks!(Hosts, NAME => on_query);

impl OnQuery for Hosts {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
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

/// Completes the reply for a name or address in the table.
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
