//! `secondary`: serves zones that are transferred from other servers (RFC 1034 section 4.3.5).
//!
//! A zone is transferred completely (AXFR). It is refreshed by the timers of its SOA record, and
//! when one of its masters sends a NOTIFY (RFC 1996). It is kept across a reload with the same
//! masters. Before the first transfer, and once it has expired, its names get SERVFAIL.

mod copy;
mod fetch;
mod parse;

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

pub use parse::parse;

use self::copy::SecondaryZone;
use super::{
    Build, BuildError, Context, Describe, Offer, OnNotify, OnQuery, Plugin, Properties, Setup,
    Step, ZoneList, authority::ZoneTable,
};
use crate::{
    hooks,
    query::Query,
    reply::Reply,
    wire::{Class, Rcode, Type},
};

/// The directive's name.
const NAME: &str = "secondary";

/// The parsed directives.
#[derive(Clone, Debug)]
pub struct Config {
    /// One for each directive.
    pub copies: Vec<Copies>,
}

/// One directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    /// The zones that are copied.
    pub zones: ZoneList,
    /// The masters, tried in order.
    pub masters: Vec<SocketAddr>,
    /// `fallthrough`: zones in which nonexistent names are passed to the next plugin.
    pub fallthrough: ZoneList,
}

impl Setup for Config {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::Zones]
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let mut table = ZoneTable::default();
        let mut copies = Vec::new();
        for group in &self.copies {
            for zone in group.zones.names() {
                let masters: Arc<[SocketAddr]> = group.masters.as_slice().into();
                let key = format!("{zone} {masters:?}");
                let start =
                    || Ok::<_, Infallible>(SecondaryZone::start(*zone, masters, build.runtime));
                let Ok(copy) = build.resources.keep(&key, start);
                table.insert(Arc::clone(copy.held()), group.fallthrough.clone());
                copies.push(copy);
            }
        }
        let zones = Arc::new(table);
        build.offers.zones.push(Arc::clone(&zones) as _);
        Ok(Plugin::from(Secondary { zones, copies }))
    }
}

/// The plugin.
pub struct Secondary {
    zones: Arc<ZoneTable>,
    copies: Vec<Arc<SecondaryZone>>,
}

hooks!(Secondary, NAME => on_query, on_notify; properties);

impl OnQuery for Secondary {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        self.zones.answer(context, query, reply)
    }
}

impl OnNotify for Secondary {
    fn on_notify(&self, query: &mut Query) -> Option<Rcode> {
        let question = &query.question;
        if question.rtype != Type::SOA || question.class != Class::IN {
            return None;
        }
        let apex = question.lower.as_ref();
        let of_zone = |copy: &&Arc<SecondaryZone>| copy.held().apex().as_wire() == apex.as_wire();
        let copy = self.copies.iter().find(of_zone)?;
        Some(copy.notified(query.client.ip().to_canonical()))
    }
}

impl Describe for Secondary {
    fn properties(&self) -> Properties {
        Properties {
            zones_only: true,
            ..Properties::default()
        }
    }
}

#[cfg(test)]
mod tests;
