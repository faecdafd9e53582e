//! A question that upstreams are to be asked: what a plugin hands out, and whoever drives the query
//! sees to.
//!
//! There are two ways to have it answered. [`Ask::answer`] is a future and does everything: other
//! upstreams, other transports, second tries. An [`Asker`](super::Asker) is for the usual case, in
//! which the first upstream answers a datagram: it needs no scheduler, and where the case turns out
//! to be another, it gives the question back with its first try still open, to be gone on with by
//! the future.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::oneshot;

use super::{
    Failure, Packet, Upstream, Way,
    flight::{Flights, Lead},
    group::{Group, Start},
};
use crate::reply::Reply;

/// A question, and whom to ask.
pub struct Ask {
    /// The upstreams.
    group: Arc<Group>,
    /// The questions that are under way there.
    flights: Arc<Flights>,
    /// The question.
    pub(super) packet: Arc<Packet>,
    /// How it is sent.
    way: Way,
    /// Its place among those that wait.
    place: Place,
    /// It has been begun.
    begun: Option<Begun>,
}

/// A question whose first try is under way.
pub(super) struct Begun {
    lead: Lead,
    start: Start,
    at: Instant,
    /// The first try has been silent for so long then that there is to be a second.
    overdue: Instant,
    /// What comes of the first try, where the future goes on with it.
    first: Option<oneshot::Receiver<Result<Reply, Failure>>>,
}

/// A place among the questions under way, which goes with this.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes a place in `count`; nothing where `limit` of them are taken.
    pub fn take(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let place = Self(Arc::clone(count));
        (count.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ask {
    /// A question to be asked of `group`, once with all the same ones in `flights`.
    pub fn new(
        group: Arc<Group>,
        flights: Arc<Flights>,
        packet: Packet,
        way: Way,
        place: Place,
    ) -> Self {
        Self {
            group,
            flights,
            packet: Arc::new(packet),
            way,
            place,
            begun: None,
        }
    }

    /// Asks, and waits until one answers or there is no more point: then the reply is SERVFAIL with
    /// the reason.
    pub async fn answer(self) -> Reply {
        let Self {
            group,
            flights,
            packet,
            way,
            place: _place,
            begun,
        } = self;
        let Some(begun) = begun else {
            let flight = flights.join(packet.key(way), || group.ask(packet, way));
            return flight.await;
        };
        let Begun {
            lead,
            start,
            at,
            overdue: _,
            first,
        } = begun;
        let reply = group.go_on(start, &packet, way, at, first).await;
        lead.land(&reply);
        reply
    }
}

/// What an [`Asker`](super::Asker) needs.
#[cfg(target_os = "linux")]
impl Ask {
    /// Begins it, if all is as usual: a datagram is enough, nobody looks on, nobody is asking the
    /// same, and an upstream is up. Says who is to be asked.
    pub(super) fn begin(&mut self, now: Instant) -> Option<&Arc<Upstream>> {
        let is_usual = self.way == Way::Datagram && self.packet.witness().is_none();
        if !is_usual || self.begun.is_some() || !self.group.is_up() {
            return None;
        }
        let lead = self.flights.lead(self.packet.key(self.way))?;
        let start = self.group.start().ok()?;
        let overdue = now + self.group.patience(&start).step;
        let begun = self.begun.insert(Begun {
            lead,
            start,
            at: now,
            overdue,
            first: None,
        });
        let upstream = begun.start.first();
        upstream.datagrams().is_some().then_some(upstream)
    }

    /// Whether the first try has been silent for so long that there is to be a second.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let begun = self.begun.as_ref();
        begun.is_some_and(|begun| begun.overdue <= now)
    }

    /// Its one try was answered: whether that is the answer.
    pub(super) fn is_answered_by(&self, reply: &Reply) -> bool {
        let begun = self.begun.as_ref();
        begun.is_some_and(|begun| self.group.is_believed(&begun.start, reply))
    }

    /// It is over: others that ask the same are told.
    pub(super) fn answered(self, reply: &Reply) {
        if let Some(begun) = self.begun {
            begun.lead.land(reply);
        }
    }

    /// The future is to go on with it, and hears by the sender what comes of the first try.
    pub(super) fn go_on(&mut self) -> oneshot::Sender<Result<Reply, Failure>> {
        let (tell, told) = oneshot::channel();
        if let Some(begun) = &mut self.begun {
            begun.first = Some(told);
        }
        tell
    }

    /// When it was asked, and of whom.
    pub(super) fn asked(&self) -> Option<(Instant, &Arc<Upstream>)> {
        let begun = self.begun.as_ref()?;
        Some((begun.at, begun.start.first()))
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Ask({:?})", self.packet)
    }
}
