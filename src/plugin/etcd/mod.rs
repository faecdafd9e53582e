//! `etcd`: names that are kept in etcd, in the form that SkyDNS made.
//!
//! `www.example.org` is the key `/skydns/org/example/www`, its value a JSON object with a host, a
//! port, a text; keys below it are more of the same. `parse` is the Corefile's form, `client` asks
//! etcd, `service` is what a value says, and `answer` makes records of it.

mod answer;
mod client;
mod parse;
mod service;

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

pub use parse::parse;

use super::{Build, BuildError, Context, OnQuery, Plugin, Resolved, Setup, Step, ZoneList};
use crate::{
    hooks,
    query::Query,
    reply::{Reply, Why},
    tls::ClientFiles,
    wire::{Name, NameRef, Rcode},
};
use answer::{BUDGET, Lookup};
use client::Client;
use service::Leases;

/// The Corefile's word.
const NAME: &str = "etcd";

/// How long all that one question needs may take: less than resolvers wait.
const PATIENCE: Duration = Duration::from_secs(4);

/// What the directive says.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose names are kept there.
    pub zones: ZoneList,
    /// Where in etcd they are.
    pub path: String,
    /// The servers, asked one after the other.
    pub endpoints: Vec<Endpoint>,
    /// Name and password.
    pub credentials: Option<(String, String)>,
    /// Files for TLS.
    pub tls: ClientFiles,
    /// Seconds that an answer about a leased key may be kept: at least, and at most.
    pub lease_ttl: (u32, u32),
    /// Which names go on to the next plugin where there is no key.
    pub fallthrough: ZoneList,
    /// Whether addresses of a zone's top that are not at `apex.dns` are those of the whole zone.
    pub apex_fallback: bool,
}

/// A server of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it is spoken to over TLS.
    pub secure: bool,
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let secure = self.endpoints.iter().any(|endpoint| endpoint.secure);
        let tls = secure.then(|| self.tls.load()).transpose();
        let tls = tls.map_err(|source| BuildError {
            plugin: NAME,
            action: "TLS".to_owned(),
            source: Some(source.into()),
        })?;
        Ok(Plugin::from(Etcd {
            zones: self.zones.clone(),
            fallthrough: self.fallthrough.clone(),
            store: Arc::new(Store {
                client: Client::new(self, tls.as_ref(), build.runtime),
                path: self.path.clone(),
                apex_fallback: self.apex_fallback,
                leases: Leases {
                    least: self.lease_ttl.0,
                    most: self.lease_ttl.1,
                },
            }),
        }))
    }
}

/// Where keys are looked up.
struct Store {
    client: Client,
    path: String,
    apex_fallback: bool,
    leases: Leases,
}

/// The plugin.
struct Etcd {
    zones: ZoneList,
    fallthrough: ZoneList,
    store: Arc<Store>,
}

hooks!(Etcd, NAME => on_query);

impl OnQuery for Etcd {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, _: &mut Reply) -> Step {
        let lower = query.question.lower;
        let Some(zone) = zone_of(&self.zones, lower.as_ref()) else {
            return Step::Pass;
        };
        let falls_through = self.fallthrough.covers(lower.as_ref());
        let lookup = Lookup {
            store: Arc::clone(&self.store),
            zone,
            query: query.clone(),
            door: Arc::clone(context.door),
            block: Arc::clone(context.block),
            budget: BUDGET.into(),
        };
        Step::Wait(Box::pin(async move {
            let answer = timeout(PATIENCE, lookup.answer()).await;
            match answer.unwrap_or_else(|_| Some(silence())) {
                None if falls_through => Resolved::Pass,
                None => Resolved::Answer(lookup.nobody()),
                Some(reply) => Resolved::Answer(reply),
            }
        }))
    }
}

fn silence() -> Reply {
    let mut reply = Reply::failure(Rcode::SERVFAIL, Why::UpstreamTimeout);
    reply.cause = Some("etcd: i/o timeout".into());
    reply
}

/// The zone that has `name`: the longest one.
fn zone_of(zones: &ZoneList, name: NameRef<'_>) -> Option<Name> {
    let zones = zones.names().iter();
    zones
        .filter(|zone| name.is_under(zone.as_ref()))
        .max_by_key(|zone| zone.as_ref().label_count())
        .copied()
}
