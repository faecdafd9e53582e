//! Shared by `file`, `auto` and `secondary`: zones by name, and answers from them.
//!
//! [`crate::authority`] holds a zone's data and answers from it. This module selects the zone, answers
//! SERVFAIL while it is not loaded or has expired, and resolves aliases that lead out of it.

mod load;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use futures_util::stream;
pub use load::{LoadError, ZoneLoader};
use tokio::sync::watch;

use super::{
    Context, Step, ZoneList, alias,
    transfer::{Transferable, ZoneChanges, changes_of},
};
use crate::{
    authority::{AnswerOptions, AnswerOutcome, Zone},
    query::{Query, Question, Transport},
    reply::{Reply, Why},
    wire::{Class, Name, NameRef, Rcode, Type},
};

/// A zone that may not be loaded yet, and is replaced at each load.
pub struct Held {
    apex: Name,
    zone: ArcSwapOption<Zone>,
    expired: AtomicBool,
    changed: watch::Sender<()>,
}

impl Held {
    /// The zone of this name, not loaded yet.
    pub fn new(apex: Name) -> Self {
        Self {
            apex: apex.to_lower(),
            zone: ArcSwapOption::empty(),
            expired: AtomicBool::new(false),
            changed: watch::Sender::new(()),
        }
    }

    /// The zone's name, in lower case.
    pub fn apex(&self) -> NameRef<'_> {
        self.apex.as_ref()
    }

    /// The zone if it is loaded, whether expired or not.
    pub fn zone(&self) -> Option<Arc<Zone>> {
        self.zone.load_full()
    }

    /// Replaces the zone, and clears its expiry.
    pub fn put(&self, zone: Zone) {
        self.zone.store(Some(Arc::new(zone)));
        self.renew();
        self.changed.send_replace(());
    }

    /// Clears the expiry: the zone was confirmed to be current.
    pub fn renew(&self) {
        self.expired.store(false, Ordering::Release);
    }

    /// Marks the zone as expired: it is not served until it is replaced or renewed.
    pub fn expire(&self) {
        self.expired.store(true, Ordering::Release);
        self.changed.send_replace(());
    }

    /// Is notified of every change of the zone.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The zone if it can be served; otherwise the reason why not.
    fn served(&self) -> Result<Arc<Zone>, Why> {
        let zone = self.zone().ok_or(Why::NotLoaded)?;
        if self.expired.load(Ordering::Acquire) {
            return Err(Why::Expired);
        }
        Ok(zone)
    }
}

/// Zones by name.
#[derive(Default)]
pub struct ZoneTable {
    zones: HashMap<Box<[u8]>, Entry>,
}

#[derive(Clone)]
struct Entry {
    held: Arc<Held>,
    /// Queries for names below these that the zone does not have pass to the next plugin.
    fallthrough: ZoneList,
}

impl ZoneTable {
    /// Inserts a zone, replacing one of the same name.
    pub fn insert(&mut self, held: Arc<Held>, fallthrough: ZoneList) {
        let name = held.apex().as_wire().into();
        self.zones.insert(name, Entry { held, fallthrough });
    }

    /// The zones, in no particular order.
    pub fn zones(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.zones.values().map(|entry| &entry.held)
    }

    /// The zone of exactly this name.
    pub fn get(&self, name: NameRef<'_>) -> Option<&Arc<Held>> {
        self.zones.get(name.as_wire()).map(|entry| &entry.held)
    }

    /// The longest zone that contains the question's name.
    fn find(&self, question: &Question) -> Option<&Entry> {
        let mut suffixes = std::iter::successors(Some(question.lower.as_ref()), |it| it.parent());
        let mut zones = suffixes
            .by_ref()
            .filter_map(|name| self.zones.get(name.as_wire()));
        let found = zones.next()?;
        // DS records belong to the parent zone, if that is served here too (RFC 4035 section 3.1.4.1).
        if question.rtype == Type::DS && found.held.apex == question.lower {
            return Some(zones.next().unwrap_or(found));
        }
        Some(found)
    }

    /// Answers from the longest zone that contains the name.
    pub fn answer(&self, context: &Context<'_>, query: &Query, reply: &mut Reply) -> Step {
        let question = &query.question;
        if question.class != Class::IN {
            return Step::Pass;
        }
        let Some(Entry { held, fallthrough }) = self.find(question) else {
            return Step::Pass;
        };
        // Permitted transfers were answered by the plugin `transfer`, which stands before this one.
        if matches!(question.rtype, Type::AXFR | Type::IXFR) {
            reply.fail(Rcode::REFUSED, Why::TransferRefused);
            return Step::Answer;
        }
        let zone = match held.served() {
            Ok(zone) => zone,
            Err(why) => {
                reply.fail(Rcode::SERVFAIL, why);
                reply.cause = Some(format!("zone {}", held.apex()).into());
                return Step::Answer;
            }
        };
        let want = AnswerOptions {
            dnssec: query.dnssec_ok(),
            everything: query.transport != Transport::Udp,
        };
        match zone.answer(question, want, reply) {
            AnswerOutcome::Outside => Step::Pass,
            AnswerOutcome::Denied if fallthrough.covers(question.lower.as_ref()) => {
                reply.clear();
                Step::Pass
            }
            AnswerOutcome::Answered | AnswerOutcome::Denied => Step::Answer,
            AnswerOutcome::Alias(target) => {
                // Beside data of the target stand the zone's own name servers.
                let beside = move |reply: &mut Reply| zone.authority(want, reply);
                Step::Wait(alias::follow(context, query, target, reply, beside))
            }
        }
    }
}

impl ZoneTable {
    /// See [`Transferable::transfer`].
    pub fn write_transfer(
        &self,
        question: &Question,
        serial: Option<u32>,
        reply: &mut Reply,
    ) -> bool {
        let Some(held) = self.get(question.lower.as_ref()) else {
            return false;
        };
        match held.served() {
            Ok(zone) => zone.transfer(serial, reply),
            Err(why) => reply.fail(Rcode::SERVFAIL, why),
        }
        true
    }
}

impl Transferable for ZoneTable {
    fn transfer(
        self: Arc<Self>,
        question: &Question,
        serial: Option<u32>,
        reply: &mut Reply,
    ) -> bool {
        self.write_transfer(question, serial, reply)
    }

    fn serials(&self) -> Vec<(Name, u32)> {
        let zones = self.zones();
        zones
            .filter_map(|held| Some((held.apex, held.served().ok()?.timers().serial)))
            .collect()
    }

    fn serial(&self, zone: NameRef<'_>) -> Option<u32> {
        Some(self.get(zone)?.served().ok()?.timers().serial)
    }

    fn changes(&self) -> Option<ZoneChanges> {
        let zones = self.zones().map(|held| changes_of(held.changes()));
        Some(Box::pin(stream::select_all(zones)))
    }
}
