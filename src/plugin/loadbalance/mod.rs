//! loadbalance: changes the order of records, so that clients that take the first spread.
//!
//! `round_robin` shuffles the addresses and the MX records of each section; `weighted` moves one
//! address to the front, chosen by the weights of a file. CNAME records stay in front and in order,
//! since some stub resolvers read no further than the first address. Only NOERROR replies are
//! touched, and no zone transfer, whose order has a meaning.
//!
//! Of an answer that the client does not take whole, `kubernetes` makes a part alone, which begins at
//! an endpoint drawn at random: what is shuffled is that part. `weighted` and `prefer` choose among all
//! addresses, so that with them all are made.
//!
//! Records are moved, never their data.

mod parse;
mod weights;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use ipnet::IpNet;
pub use parse::parse;
use tokio::task::JoinSet;

use self::weights::{Watched, Weights};
use super::{Build, BuildError, Context, Plugin, Setup, random};
use crate::{
    files::poll,
    query::Query,
    reply::{Owner, Record, Reply, Section},
    wire::{Rcode, Type},
};

/// The Corefile's word.
const NAME: &str = "loadbalance";

/// The options of the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// How the order is chosen.
    pub policy: Policy,
    /// Addresses in these networks come before the others, those of the first network first.
    pub prefer: Vec<IpNet>,
}

/// How the order is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Any order is as likely as any other.
    #[default]
    RoundRobin,
    /// The first address is chosen by its weight.
    Weighted {
        /// Where the weights are.
        file: PathBuf,
        /// How often the file is looked at; nothing for once.
        reload: Option<Duration>,
    },
}

/// The plugin.
pub struct LoadBalance {
    prefer: Vec<IpNet>,
    weights: Option<Arc<ArcSwap<Weights>>>,
    // Ends what it holds when it goes, and goes with the plugin.
    _watching: JoinSet<()>,
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let mut watching = JoinSet::new();
        let mut weights = None;
        if let Policy::Weighted { file, reload } = &self.policy {
            // What was read stays across a reload, should the file be gone at that moment.
            let empty = || Ok::<_, BuildError>(ArcSwap::default());
            let published = build.parts.keep(&file.to_string_lossy(), empty)?;
            let mut watched = Watched::new(file, &published);
            watched.start(reload.is_some())?;
            if let Some(reload) = reload {
                watching.spawn_on(poll(*reload, move || watched.look()), build.runtime);
            }
            weights = Some(published);
        }
        Ok(Arc::new(LoadBalance {
            prefer: self.prefer.clone(),
            weights,
            _watching: watching,
        }))
    }
}

impl Plugin for LoadBalance {
    fn name(&self) -> &'static str {
        NAME
    }

    fn asks(&self) -> bool {
        false
    }

    fn needs_whole_answers(&self) -> bool {
        self.weights.is_some() || !self.prefer.is_empty()
    }

    fn amend(&self, _: &Context<'_>, query: &Query, reply: &mut Reply) {
        let asked = query.asked.rtype;
        if reply.rcode != Rcode::NOERROR || asked == Type::AXFR || asked == Type::IXFR {
            return;
        }
        for section in [Section::Answer, Section::Additional] {
            if reply.section(section).len() < 2 {
                continue;
            }
            // Out of the reply while its data are looked at; taking it costs nothing.
            let mut records = std::mem::take(reply.section_mut(section));
            self.order(query, reply, &mut records);
            *reply.section_mut(section) = records;
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
                if matches!(query.asked.rtype, Type::A | Type::AAAA | Type::SRV) {
                    first_by_weight(&weights.load(), query, reply, addresses);
                }
            }
        }
        if !self.prefer.is_empty() {
            // Stable: among those of a network and among the others the order just made holds.
            addresses.sort_by_key(|record| self.rank(reply, record));
        }
    }

    /// Which preferred network is the first that the record's address is in; behind all of them
    /// where none is.
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

/// Brings records in order of their kind: CNAMEs, all others, addresses, mail exchanges. Gives the
/// last two groups.
fn group(records: &mut [Record]) -> [&mut [Record]; 2] {
    let rank = |record: &Record| match record.rtype {
        Type::CNAME => 0,
        Type::A | Type::AAAA => 2,
        Type::MX => 3,
        _ => 1,
    };
    // Nearly always it is the order already; sorting more than a few would allocate.
    if !records.is_sorted_by_key(rank) {
        records.sort_by_key(rank);
    }
    let first = records.partition_point(|record| rank(record) < 2);
    let behind = &mut records[first..];
    let count = behind.partition_point(|record| rank(record) == 2);
    let (addresses, exchanges) = behind.split_at_mut(count);
    [addresses, exchanges]
}

/// Exchanges the first address for one chosen by weight: what is chosen is the place in front, not
/// the order of the rest.
fn first_by_weight(weights: &Weights, query: &Query, reply: &Reply, addresses: &mut [Record]) {
    let weight = |record: &Record| {
        let address = address(reply, record)?;
        Some(u64::from(match reply.owner(record) {
            Owner::Question => weights.of(query.asked.lower.as_ref(), address),
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
