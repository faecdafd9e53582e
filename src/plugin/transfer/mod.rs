//! transfer: hands whole zones to those who may have them (AXFR, RFC 5936; IXFR, RFC 1995).
//!
//! The zones are other plugins' ([`Offers::zones`](super::Offers::zones)). Whoever may not have a zone is
//! refused; what is no zone of those plugins' is left to the next plugin. There is no history of
//! changes: an IXFR question for an older serial is answered with the whole zone; over UDP, which has
//! no room for it, always with the SOA record alone. Secondaries that
//! are named by their address are told when a zone has changed: see `notify`.

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
pub use notify::{Pace, Told};
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

/// The Corefile's word.
const NAME: &str = "transfer";

/// How often a zone's serial is asked for that changes all the time.
const TRIES: usize = 3;

/// Somebody who has zones that can be told as a whole.
///
/// A zone has a serial, and its records as they stand at one moment: what is told together must
/// never have been two states of the zone, and whatever changes after it was told must give it
/// another serial, a later one (RFC 1982, [`crate::wire::is_later`]), even if that is within the
/// same second. A plugin that holds a zone as one immutable value behind an `Arc`, with the serial
/// in it, has both for nothing.
pub trait Transferable: Send + Sync {
    /// Writes the zone whose name is asked for into `reply`, which comes empty: all of it, an SOA
    /// record at either end, as [`Reply::remaining`]; or where `held` is its serial or a later one, the SOA
    /// record alone. A failure is a reply too. False, and nothing written, where the name is none of
    /// its zones'.
    fn transfer(self: Arc<Self>, question: &Question, held: Option<u32>, reply: &mut Reply)
    -> bool;

    /// Its zones, in lower case, each with its serial at present. A zone that cannot be told yet,
    /// or not any more (not loaded, expired), is not among them.
    fn serials(&self) -> Vec<(Name, u32)>;

    /// The serial of one zone, named in lower case, where it is among those. Called for a datagram, so
    /// it should not cost what all zones do.
    fn serial(&self, zone: NameRef<'_>) -> Option<u32> {
        let mut serials = self.serials().into_iter();
        let (_, serial) = serials.find(|(name, _)| name.as_ref().as_wire() == zone.as_wire())?;
        Some(serial)
    }

    /// How it tells that a serial may have changed, so that secondaries are notified (RFC 1996):
    /// with an item of this stream, after which [`serials`](Self::serials) is read. Too many items
    /// do no harm, and several may be one. The stream must not keep the plugin alive, and ends with
    /// it. None where nothing ever changes.
    ///
    /// A [`tokio::sync::watch`] channel becomes such a stream by [`changes_of`].
    fn changes(&self) -> Option<Changes>;
}

/// See [`Transferable::changes`].
pub type Changes = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// The changes that a channel tells of.
pub fn changes_of<T: Send + Sync + 'static>(channel: watch::Receiver<T>) -> Changes {
    Box::pin(stream::unfold(channel, async |mut channel| {
        channel.changed().await.ok()?;
        Some(((), channel))
    }))
}

/// What the directives say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// One for each directive.
    pub rules: Vec<Rule>,
}

/// Who may have which zones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The zones.
    pub zones: ZoneList,
    /// Who.
    pub to: Vec<Whom>,
    /// Who is told when a zone has changed.
    pub notify: Vec<SocketAddr>,
    /// The address that they are told from; the system's choice where there is none.
    pub source: Option<IpAddr>,
}

/// Who may have a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// `*`
    Anyone,
    /// Whoever asks from here.
    From(IpNet),
}

impl Rule {
    fn allows(&self, client: IpAddr) -> bool {
        self.to.iter().any(|whom| match whom {
            Whom::Anyone => true,
            Whom::From(network) => network.contains(&client),
        })
    }
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let mut transfers = Transfers::new(self.clone(), build.offers.zones.clone());
        let key = format!("{:?}", self.rules);
        let none = || Ok::<_, BuildError>(Told::default());
        let told = build.parts.keep_own(&key, none)?;
        transfers.notify(&told, Pace::default(), build.runtime);
        Ok(transfers.into())
    }
}

/// The plugin.
pub struct Transfers {
    rules: Arc<[Rule]>,
    sources: Arc<[Arc<dyn Transferable>]>,
    /// One for each secondary that is notified; they end with the plugin.
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

    /// Begins to notify the secondaries of changes, other than those that they were `told` of.
    pub fn notify(&mut self, told: &Arc<Told>, pace: Pace, runtime: &Handle) {
        for (number, rule) in self.rules.iter().enumerate() {
            for to in &rule.notify {
                let notifier = Notifier {
                    to: *to,
                    rule: number,
                    rules: Arc::clone(&self.rules),
                    sources: Arc::clone(&self.sources),
                    told: Arc::clone(told),
                    pace,
                };
                self.notifying.spawn_on(notifier.run(), runtime);
            }
        }
    }
}

impl Transfers {
    /// Answers with the SOA record alone: a secondary that holds an older serial comes again by TCP
    /// (RFC 1995 §2).
    fn answer_serial(&self, question: &Question, reply: &mut Reply) {
        let zone = question.lower.as_ref();
        for source in &*self.sources {
            // For a secondary that has the zone as it is, the SOA record is all. A zone that changes in
            // between is tried again.
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
        reply.fail(Rcode::REFUSED, Why::Policy);
    }
}

/// The number of the rule for a name: of the longest zone that has it; the first of equals.
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
                reply.fail(Rcode::REFUSED, Why::Policy);
                return Step::Answer;
            }
            return Step::Pass;
        };
        let rule = &self.rules[rule];
        // A client of an IPv4 address may come to a socket of both families.
        let client = query.client.ip().to_canonical();
        let is_incremental = question.rtype == Type::IXFR;
        if over_udp && !is_incremental || !rule.allows(client) {
            reply.fail(Rcode::REFUSED, Why::Policy);
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
