//! `transfer`: zone transfers (AXFR, RFC 5936; IXFR, RFC 1995) and notifications (NOTIFY, RFC
//! 1996).
//!
//! The zones are those of other plugins ([`Offers::zones`](super::Offers::zones)). Clients that are
//! not allowed by `to` get REFUSED; queries for other zones are passed to the next plugin. No
//! history of changes is kept: an IXFR query for an older serial is answered with the complete zone
//! (RFC 1995 section 4), and over UDP, where it does not fit, with the SOA record only (section 2).
//! Secondaries listed by address are notified when a zone changes: see `notify`.

mod notify;
mod parse;

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use futures_util::{Stream, stream};
use ipnet::IpNet;
use notify::Notifier;
pub use notify::{NotifiedSerials, NotifyTiming};
pub use parse::parse;
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use super::{
    Build, BuildError, Context, Describe, OnQuery, Plugin, Properties, Setup, Step, ZoneList,
};
use crate::{
    hooks,
    query::{Query, Question, Transport},
    reply::{Reply, Why},
    wire::{Class, Name, NameRef, Rcode, Type},
};

/// The directive's name.
const NAME: &str = "transfer";

/// Maximum attempts to read a zone and its serial consistently while it changes.
const TRIES: usize = 3;

/// A source of zones that can be transferred.
///
/// A transfer must be a consistent snapshot of the zone, and any later change must increase the
/// serial (RFC 1982, [`crate::wire::is_later`]), even within the same second. A plugin that holds
/// each version of a zone as an immutable value behind an `Arc`, including the serial, satisfies
/// both.
pub trait Transferable: Send + Sync {
    /// Writes the zone with the question's name into the empty `reply`: the complete zone between
    /// two SOA records, as [`Reply::remaining`], or only the SOA record if `held` is its serial or a
    /// later one (RFC 1995 section 2). A failure is a reply too. Returns false, with nothing
    /// written, if it has no such zone.
    fn transfer(self: Arc<Self>, question: &Question, held: Option<u32>, reply: &mut Reply)
    -> bool;

    /// Its zones in lower case, with their current serials. Zones that cannot be transferred (not
    /// loaded, expired) are excluded.
    fn serials(&self) -> Vec<(Name, u32)>;

    /// The serial of one zone, named in lower case, if it is among [`serials`](Self::serials).
    /// Called for each IXFR query over UDP, so it should not enumerate all zones.
    fn serial(&self, zone: NameRef<'_>) -> Option<u32> {
        let mut serials = self.serials().into_iter();
        let (_, serial) = serials.find(|(name, _)| name.as_ref().as_wire() == zone.as_wire())?;
        Some(serial)
    }

    /// A stream with an item whenever a serial may have changed; [`serials`](Self::serials) is then
    /// read, and secondaries are notified (RFC 1996). Spurious items are harmless, and items may be
    /// merged. The stream must not keep the plugin alive, and ends with it. `None` if zones never
    /// change.
    ///
    /// A [`tokio::sync::watch`] channel becomes such a stream by [`changes_of`].
    fn changes(&self) -> Option<ZoneChanges>;
}

/// See [`Transferable::changes`].
pub type ZoneChanges = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// The changes of a channel's value.
pub fn changes_of<T: Send + Sync + 'static>(channel: watch::Receiver<T>) -> ZoneChanges {
    Box::pin(stream::unfold(channel, async |mut channel| {
        channel.changed().await.ok()?;
        Some(((), channel))
    }))
}

/// The parsed directives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// One for each directive.
    pub rules: Vec<Rule>,
}

/// The clients that may transfer zones, and the secondaries to notify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The zones.
    pub zones: ZoneList,
    /// The clients that may transfer them.
    pub to: Vec<Allowed>,
    /// The secondaries that are notified of changes.
    pub notify: Vec<SocketAddr>,
    /// `source`: the source address of notifications; by default the system's choice.
    pub source: Option<IpAddr>,
}

/// Clients that may transfer a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// `*`
    Anyone,
    /// Clients in this network.
    From(IpNet),
}

impl Rule {
    fn allows(&self, client: IpAddr) -> bool {
        self.to.iter().any(|allowed| match allowed {
            Allowed::Anyone => true,
            Allowed::From(network) => network.contains(&client),
        })
    }
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let mut transfers = Transfers::new(self.clone(), build.offers.zones.clone());
        let key = format!("{:?}", self.rules);
        let none = || Ok::<_, BuildError>(NotifiedSerials::default());
        let notified = build.resources.keep_own(&key, none)?;
        transfers.notify(&notified, NotifyTiming::default(), build.runtime);
        Ok(transfers.into())
    }
}

/// The plugin.
pub struct Transfers {
    rules: Arc<[Rule]>,
    sources: Arc<[Arc<dyn Transferable>]>,
    /// One task per notified secondary; aborted when the plugin is dropped.
    notifying: JoinSet<()>,
}

impl Transfers {
    /// Transfers of the zones of `sources`.
    pub fn new(config: Config, sources: Vec<Arc<dyn Transferable>>) -> Self {
        Self {
            rules: config.rules.into(),
            sources: sources.into(),
            notifying: JoinSet::new(),
        }
    }

    /// Starts notifying the secondaries of serials that are not in `notified` yet.
    pub fn notify(
        &mut self,
        notified: &Arc<NotifiedSerials>,
        timing: NotifyTiming,
        runtime: &Handle,
    ) {
        for (number, rule) in self.rules.iter().enumerate() {
            for to in &rule.notify {
                let notifier = Notifier {
                    to: *to,
                    rule: number,
                    rules: Arc::clone(&self.rules),
                    sources: Arc::clone(&self.sources),
                    notified: Arc::clone(notified),
                    timing,
                };
                self.notifying.spawn_on(notifier.run(), runtime);
            }
        }
    }
}

impl Transfers {
    /// Answers with only the SOA record: a secondary with an older serial retries over TCP (RFC
    /// 1995 section 2).
    fn answer_serial(&self, question: &Question, reply: &mut Reply) {
        let zone = question.lower.as_ref();
        for source in &*self.sources {
            // With the current serial as the held one, `transfer` writes only the SOA record.
            // Retried if the zone changes in between.
            for _ in 0..TRIES {
                let serial = source.serial(zone).unwrap_or_default();
                reply.clear();
                if !Arc::clone(source).transfer(question, Some(serial), reply) {
                    break;
                }
                if reply.remaining.is_none() {
                    return;
                }
            }
        }
        reply.clear();
        reply.fail(Rcode::REFUSED, Why::TransferRefused);
    }
}

/// Index of the rule for a name: the one with the longest zone that contains it, the first of equal
/// ones.
fn rule(rules: &[Rule], name: NameRef<'_>) -> Option<usize> {
    let rules = rules.iter().enumerate().rev();
    let matching = rules.filter_map(|(at, rule)| Some((rule.zones.longest_over(name)?, at)));
    matching.max_by_key(|(labels, _)| *labels).map(|(_, at)| at)
}

hooks!(Transfers, NAME => on_query; properties);

impl Describe for Transfers {
    fn properties(&self) -> Properties {
        Properties {
            transfers: true,
            ..Properties::default()
        }
    }
}

impl OnQuery for Transfers {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let question = &query.question;
        let is_transfer = matches!(question.rtype, Type::AXFR | Type::IXFR);
        if !is_transfer || question.class != Class::IN {
            return Step::Pass;
        }
        let over_udp = query.transport == Transport::Udp;
        let Some(rule) = rule(&self.rules, question.lower.as_ref()) else {
            if over_udp {
                reply.fail(Rcode::REFUSED, Why::TransferRefused);
                return Step::Answer;
            }
            return Step::Pass;
        };
        let rule = &self.rules[rule];
        // A dual-stack socket has IPv4 clients as IPv4-mapped addresses.
        let client = query.client.ip().to_canonical();
        let is_incremental = question.rtype == Type::IXFR;
        if over_udp && !is_incremental || !rule.allows(client) {
            reply.fail(Rcode::REFUSED, Why::TransferRefused);
            return Step::Answer;
        }
        if is_incremental && query.held_serial.is_none() {
            reply.fail(Rcode::FORMERR, Why::Malformed);
            return Step::Answer;
        }
        if over_udp {
            self.answer_serial(question, reply);
            return Step::Answer;
        }
        let held = query.held_serial.filter(|_| is_incremental);
        for source in &*self.sources {
            if Arc::clone(source).transfer(question, held, reply) {
                return Step::Answer;
            }
        }
        Step::Pass
    }
}
