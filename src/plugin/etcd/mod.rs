//! `etcd`: serves names from etcd, in the format of SkyDNS.
//!
//! `www.example.org` is the key `/skydns/org/example/www`, its value a JSON object with a host, a
//! port, a text; keys below it are further services of the name. `parse` reads the directive, `client`
//! calls etcd, `service` decodes values, `unreadable` reports those that cannot be decoded, and `answer` makes
//! records of the others.

mod answer;
mod client;
mod parse;
mod service;
mod unreadable;

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
use answer::{BUDGET, EtcdLookup};
use client::EtcdClient;
use service::Leases;
use unreadable::Unreadable;

/// The name of the plugin in a Corefile.
const NAME: &str = "etcd";

/// Timeout of a query over all its calls: less than the 5 s of stub resolvers.
const TIMEOUT: Duration = Duration::from_secs(4);

/// The options of the plugin.
#[derive(Clone, Debug)]
pub struct Config {
    /// The zones that are served.
    pub zones: ZoneList,
    /// The prefix of the keys.
    pub path: String,
    /// The servers, tried one after the other.
    pub endpoints: Vec<EtcdEndpoint>,
    /// Name and password.
    pub credentials: Option<(String, String)>,
    /// Files for TLS.
    pub tls: ClientFiles,
    /// The smallest and the largest TTL of a leased key, in seconds.
    pub lease_ttl: (u32, u32),
    /// Queries for names in these zones pass to the next plugin if there is no key.
    pub fallthrough: ZoneList,
    /// Whether the zone's apex has the addresses of the entire zone if there is no key `apex.dns`.
    pub apex_fallback: bool,
}

/// A server of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdEndpoint {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is used.
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
        let left_out = build.metrics.left_out_total.with_label_values(&[NAME]);
        Ok(Plugin::from(Etcd {
            zones: self.zones.clone(),
            fallthrough: self.fallthrough.clone(),
            store: Arc::new(Store {
                client: EtcdClient::new(self, tls.as_ref(), build.runtime),
                path: self.path.clone(),
                apex_fallback: self.apex_fallback,
                unreadable: Unreadable::new(left_out),
                leases: Leases {
                    least: self.lease_ttl.0,
                    most: self.lease_ttl.1,
                },
            }),
        }))
    }
}

/// The keys of one etcd, and the options of their lookup.
struct Store {
    client: EtcdClient,
    path: String,
    apex_fallback: bool,
    unreadable: Unreadable,
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
        let lookup = EtcdLookup {
            store: Arc::clone(&self.store),
            zone,
            query: query.clone(),
            sub_queries: Arc::clone(context.sub_queries),
            block: Arc::clone(context.block),
            budget: BUDGET.into(),
        };
        Step::Wait(Box::pin(async move {
            let answer = timeout(TIMEOUT, lookup.answer()).await;
            match answer.unwrap_or_else(|_| Some(timed_out())) {
                None if falls_through => Resolved::Pass,
                None => Resolved::Answer(lookup.no_key()),
                Some(reply) => Resolved::Answer(reply),
            }
        }))
    }
}

fn timed_out() -> Reply {
    let mut reply = Reply::failure(Rcode::SERVFAIL, Why::UpstreamTimeout);
    reply.cause = Some("etcd: i/o timeout".into());
    reply
}

/// The longest zone that contains `name`.
fn zone_of(zones: &ZoneList, name: NameRef<'_>) -> Option<Name> {
    let zones = zones.names().iter();
    zones
        .filter(|zone| name.is_under(zone.as_ref()))
        .max_by_key(|zone| zone.as_ref().label_count())
        .copied()
}
