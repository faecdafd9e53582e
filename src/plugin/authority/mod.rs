//! What `file`, `auto` and `secondary` have in common: zones by name, and answers from them.
//!
//! What a zone is and how it answers is [`crate::authority`]'s. Here is which zone is asked, what is
//! said while it is not there, and the way on to names that it leads to.

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
pub use load::{Loader, Trouble};
use tokio::sync::watch;

use super::{
    Context, Pending, Resolved, Step, ZoneList, alias,
    transfer::{Changes, Transferable, changes_of},
};
use crate::{
    authority::{AnswerOptions, Outcome, Zone},
    query::{Query, Question, Transport},
    reply::{Reply, Why},
    wire::{Class, Name, NameRef, Rcode, Type},
};

/// A place for a zone, which may be empty yet.
pub struct Held {
    apex: Name,
    zone: ArcSwapOption<Zone>,
    expired: AtomicBool,
    changed: watch::Sender<()>,
}

impl Held {
    /// An empty place for the zone of this name.
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

    /// The zone, if there is one, old as it may be.
    pub fn zone(&self) -> Option<Arc<Zone>> {
        self.zone.load_full()
    }

    /// Puts up a zone, which is the newest there is.
    pub fn put(&self, zone: Zone) {
        self.zone.store(Some(Arc::new(zone)));
        self.renew();
        self.changed.send_replace(());
    }

    /// The zone is the newest there is.
    pub fn renew(&self) {
        self.expired.store(false, Ordering::Release);
    }

    /// The zone is too old to be served.
    pub fn expire(&self) {
        self.expired.store(true, Ordering::Release);
        self.changed.send_replace(());
    }

    /// Tells of every change of the zone.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The zone, if it can be served; otherwise why not.
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
pub struct Table {
    zones: HashMap<Box<[u8]>, Entry>,
}

#[derive(Clone)]
struct Entry {
    held: Arc<Held>,
    /// Names that the zone does not have go to the next plugin here.
    fallthrough: ZoneList,
}

impl Table {
    /// Puts a zone in, in the place of another one of that name.
    pub fn insert(&mut self, held: Arc<Held>, fallthrough: ZoneList) {
        let name = held.apex().as_wire().into();
        self.zones.insert(name, Entry { held, fallthrough });
    }

    /// The zones, in no order.
    pub fn zones(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.zones.values().map(|entry| &entry.held)
    }

    /// The zone of this very name.
    pub fn get(&self, name: NameRef<'_>) -> Option<&Arc<Held>> {
        self.zones.get(name.as_wire()).map(|entry| &entry.held)
    }

    /// The longest zone that has a name.
    fn find(&self, question: &Question) -> Option<&Entry> {
        let mut suffixes = std::iter::successors(Some(question.lower.as_ref()), |it| it.parent());
        let mut zones = suffixes
            .by_ref()
            .filter_map(|name| self.zones.get(name.as_wire()));
        let found = zones.next()?;
        // DS records are the upper zone's, where it is served here too (RFC 4035 §3.1.4.1).
        if question.rtype == Type::DS && found.held.apex == question.lower {
            return Some(zones.next().unwrap_or(found));
        }
        Some(found)
    }

    /// Answers from the zone that has the name.
    pub fn ask(&self, context: &Context<'_>, query: &Query, reply: &mut Reply) -> Step {
        let question = &query.question;
        if question.class != Class::IN {
            return Step::Pass;
        }
        let Some(Entry { held, fallthrough }) = self.find(question) else {
            return Step::Pass;
        };
        // Whoever may have it got it from `transfer`.
        if matches!(question.rtype, Type::AXFR | Type::IXFR) {
            reply.fail(Rcode::REFUSED, Why::Policy);
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
            Outcome::Outside => Step::Pass,
            Outcome::Denied if fallthrough.covers(question.lower.as_ref()) => {
                reply.clear();
                Step::Pass
            }
            Outcome::Answered | Outcome::Denied => Step::Answer,
            Outcome::Alias(target) => {
                Step::Wait(follow(context, query, target, (zone, want), reply))
            }
        }
    }
}

impl Table {
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

impl Transferable for Table {
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

    fn changes(&self) -> Option<Changes> {
        let zones = self.zones().map(|held| changes_of(held.changes()));
        Some(Box::pin(stream::select_all(zones)))
    }
}

/// Follows an alias out of a zone. Beside data of its target stand the zone's own name servers.
fn follow(
    context: &Context<'_>,
    query: &Query,
    target: Name,
    (zone, want): (Arc<Zone>, AnswerOptions),
    reply: &mut Reply,
) -> Pending {
    let target = alias::resolve(context, query, target);
    let mut reply = std::mem::take(reply);
    Box::pin(async move {
        let target = target.await;
        target.append_to(&mut reply);
        if target.is_dead_end() {
            target.end(&mut reply);
        } else {
            zone.authority(want, &mut reply);
        }
        Resolved::Answer(reply)
    })
}
