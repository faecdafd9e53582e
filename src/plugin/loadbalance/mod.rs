//! `loadbalance`: reorders records, so that clients that use the first one are spread over all of
//! them.
//!
//! `round_robin` shuffles the addresses and the MX records of each section; `weighted` moves one
//! address to the front, chosen by the weights of a file. CNAME records stay in front and in order,
//! since some stub resolvers stop at the first address. Only NOERROR replies are reordered, and no
//! zone transfers, whose order is significant (RFC 5936 section 2.2).
//!
//! If an answer exceeds the client's size limit, `kubernetes` writes only the part that fits,
//! starting at a random endpoint; then only that part is shuffled. `weighted` and `prefer` select
//! from all addresses, so with them `kubernetes` writes complete answers.
//!
//! Record headers are moved, not their data.

mod parse;
mod weights;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use ipnet::IpNet;
pub use parse::parse;
use tokio::task::JoinSet;

use self::weights::{Watched, Weights};
use super::{Build, BuildError, Context, Describe, OnResponse, Plugin, Properties, Setup, random};
use crate::{
    files::poll,
    hooks,
    query::Query,
    reply::{Owner, Record, Reply, Section},
    wire::{Rcode, Type},
};

/// The directive's name.
const NAME: &str = "loadbalance";

/// The parsed directive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// How the order is chosen.
    pub policy: OrderPolicy,
    /// Addresses in these networks precede the others, those of the first network first.
    pub prefer: Vec<IpNet>,
}

/// How the order is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OrderPolicy {
    /// All orders are equally likely.
    #[default]
    RoundRobin,
    /// The first address is chosen by its weight.
    Weighted {
        /// The file of weights.
        file: PathBuf,
        /// The polling interval of the file; `None` reads it once.
        reload: Option<Duration>,
    },
}

/// The plugin.
pub struct LoadBalance {
    prefer: Vec<IpNet>,
    weights: Option<Arc<ArcSwap<Weights>>>,
    // Aborts the polling task when the plugin is dropped.
    _watching: JoinSet<()>,
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let mut watching = JoinSet::new();
        let mut weights = None;
        if let OrderPolicy::Weighted { file, reload } = &self.policy {
            // The weights are kept across a reload, in case the file is missing at that moment.
            let empty = || Ok::<_, BuildError>(ArcSwap::default());
            let published = build.resources.keep(&file.to_string_lossy(), empty)?;
            let mut watched = Watched::new(file, &published);
            watched.start(reload.is_some())?;
            if let Some(reload) = reload {
                watching.spawn_on(poll(*reload, move || watched.look()), build.runtime);
            }
            weights = Some(published);
        }
        Ok(Plugin::from(LoadBalance {
            prefer: self.prefer.clone(),
            weights,
            _watching: watching,
        }))
    }
}

hooks!(LoadBalance, NAME => on_response; properties);

impl OnResponse for LoadBalance {
    fn on_response(&self, _: &Context<'_>, query: &Query, reply: &mut Reply) {
        let asked = query.original.rtype;
        if reply.rcode != Rcode::NOERROR || asked == Type::AXFR || asked == Type::IXFR {
            return;
        }
        for section in [Section::Answer, Section::Additional] {
            if reply.section(section).len() < 2 {
                continue;
            }
            // Taken out, since the reply's data is read while sorting; `take` does not allocate.
            let mut records = std::mem::take(reply.section_mut(section));
            self.order(query, reply, &mut records);
            *reply.section_mut(section) = records;
        }
    }
}

impl Describe for LoadBalance {
    fn properties(&self) -> Properties {
        Properties {
            complete_answers: self.weights.is_some() || !self.prefer.is_empty(),
            ..Properties::default()
        }
    }
}

impl LoadBalance {
    fn order(&self, query: &Query, reply: &Reply, records: &mut [Record]) {
        let [addresses, exchanges] = group(records);
        match &self.weights {
            None => {
                random::shuffle(exchanges);
                random::shuffle(addresses);
            }
            Some(weights) => {
                if matches!(query.original.rtype, Type::A | Type::AAAA | Type::SRV) {
                    first_by_weight(&weights.load(), query, reply, addresses);
                }
            }
        }
        if !self.prefer.is_empty() {
            // Stable: within a network, and among the others, the order from above is kept.
            addresses.sort_by_key(|record| self.rank(reply, record));
        }
    }

    /// Index of the first preferred network that contains the record's address; their number if
    /// none does.
    fn rank(&self, reply: &Reply, record: &Record) -> usize {
        let networks = &self.prefer;
        address(reply, record)
            .and_then(|address| {
                networks
                    .iter()
                    .position(|network| network.contains(&address))
            })
            .unwrap_or(networks.len())
    }
}

/// Sorts records by kind: CNAMEs, all others, addresses, mail exchanges. Returns the last two
/// groups.
fn group(records: &mut [Record]) -> [&mut [Record]; 2] {
    let rank = |record: &Record| match record.rtype {
        Type::CNAME => 0,
        Type::A | Type::AAAA => 2,
        Type::MX => 3,
        _ => 1,
    };
    // Usually they are sorted already; the stable sort allocates for more than a few.
    if !records.is_sorted_by_key(rank) {
        records.sort_by_key(rank);
    }
    let first = records.partition_point(|record| rank(record) < 2);
    let rest = &mut records[first..];
    let count = rest.partition_point(|record| rank(record) == 2);
    let (addresses, exchanges) = rest.split_at_mut(count);
    [addresses, exchanges]
}

/// Swaps the first address with one chosen by weight. The order of the others is not weighted.
fn first_by_weight(weights: &Weights, query: &Query, reply: &Reply, addresses: &mut [Record]) {
    let weight = |record: &Record| {
        let address = address(reply, record)?;
        Some(u64::from(match reply.owner(record) {
            Owner::Question => weights.of(query.original.lower.as_ref(), address),
            Owner::Name(name) => weights.of(name.to_name().to_lower().as_ref(), address),
        }))
    };
    let weight = |record: &Record| weight(record).unwrap_or(0);
    let sum = addresses.iter().map(weight).sum();
    let mut drawn = random::below(sum);
    let chosen = addresses.iter().position(|record| {
        let weight = weight(record);
        let is_here = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        is_here
    });
    if let Some(chosen) = chosen {
        addresses.swap(0, chosen);
    }
}

fn address(reply: &Reply, record: &Record) -> Option<IpAddr> {
    let data = reply.data(record);
    match record.rtype {
        Type::A => Some(<[u8; 4]>::try_from(data).ok()?.into()),
        Type::AAAA => Some(<[u8; 16]>::try_from(data).ok()?.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
