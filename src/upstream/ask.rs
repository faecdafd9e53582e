//! A question that upstreams are to be asked: what a plugin hands out, and whoever drives the query
//! sees to.
//!
//! There are two ways to have it answered. [`Ask::answer`] is a future and does everything: other
//! upstreams, other transports, second tries. An [`Asker`](super::Asker) is for the usual case, in
//! which the first upstream answers a datagram: it needs no scheduler, and where the case turns out
//! to be another, it gives the question back with its first try still open, to be gone on with by
//! the future.

use std::{fmt, sync::Arc, time::Instant};

use tokio::sync::oneshot;

use super::{
    Eviction, Failure, Packet, Permit, Upstream, Way,
    flight::{Flights, Joined, Lead},
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
    /// Its slot among the pending queries of the plugin.
    permit: Permit,
    /// Whether the query that it is for has been evicted by the server.
    evicted: Eviction,
    state: State,
}

/// How far it has come.
enum State {
    New,
    /// Somebody is asking the same.
    Joined(Joined),
    Begun(Begun),
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

impl Ask {
    /// A question to be asked of `group`, once with all the same ones in `flights`.
    pub fn new(
        group: Arc<Group>,
        flights: Arc<Flights>,
        packet: Packet,
        way: Way,
        permit: Permit,
    ) -> Self {
        Self {
            group,
            flights,
            packet: Arc::new(packet),
            way,
            permit,
            evicted: Eviction::default(),
            state: State::New,
        }
    }

    /// Has it given back by an [`Asker`](super::Asker) where this happens.
    pub fn ends_with(&mut self, evicted: Eviction) {
        self.evicted = evicted;
    }

    /// Asks, and waits until one answers or there is no more point: then the reply is SERVFAIL with
    /// the reason. An eviction ends the wait.
    pub async fn answer(self) -> Reply {
        let Self {
            group,
            flights,
            packet,
            way,
            permit,
            evicted: _,
            state,
        } = self;
        let asked = match &state {
            State::Begun(begun) => Some(Arc::clone(begun.start.first())),
            State::New | State::Joined(_) => None,
        };
        let answer = async {
            let joined = match state {
                State::New => None,
                State::Joined(joined) => Some(joined),
                State::Begun(begun) => {
                    let (start, at, first) = (begun.start, begun.at, begun.first);
                    let reply = group.go_on(start, &packet, way, at, first).await;
                    begun.lead.land(&reply);
                    return reply;
                }
            };
            let work = || Arc::clone(&group).ask(Arc::clone(&packet), way);
            flights.reply(packet.key(way), joined, work).await
        };
        tokio::select! {
            biased;
            reply = permit.evicted() => {
                // Under a flood, no try would ever be silent for long enough.
                if let Some(upstream) = asked {
                    upstream.failed();
                }
                reply
            }
            reply = answer => reply,
        }
    }
}

/// What an [`Asker`](super::Asker) needs.
#[cfg(target_os = "linux")]
impl Ask {
    /// Begins it, if all is as usual: a datagram is enough, nobody looks on, nobody is asking the
    /// same, and an upstream is up. Says who is to be asked.
    pub(super) fn begin(&mut self, now: Instant) -> Option<&Arc<Upstream>> {
        let is_usual = self.way == Way::Datagram && self.packet.witness().is_none();
        if !is_usual || !matches!(self.state, State::New) || !self.group.is_up() {
            return None;
        }
        let lead = match self.flights.lead(self.packet.key(self.way)) {
            Ok(lead) => lead,
            // At once: by the time that somebody waits for it, its leader may have landed.
            Err(joined) => {
                self.state = State::Joined(joined);
                return None;
            }
        };
        let start = self.group.start().ok()?;
        let overdue = now + self.group.patience(&start).step;
        self.state = State::Begun(Begun {
            lead,
            start,
            at: now,
            overdue,
            first: None,
        });
        let upstream = self.begun()?.start.first();
        upstream.datagrams().is_some().then_some(upstream)
    }

    /// Whether the first try has been silent for so long that there is to be a second.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.begun().is_some_and(|begun| begun.overdue <= now)
    }

    /// Whether it has been evicted.
    pub(super) fn is_evicted(&self) -> bool {
        self.permit.is_evicted() || self.evicted.has_happened()
    }

    /// Its one try was answered: whether that is the answer.
    pub(super) fn is_answered_by(&self, reply: &Reply) -> bool {
        let begun = self.begun();
        begun.is_some_and(|begun| self.group.is_believed(&begun.start, reply))
    }

    /// It is over: others that ask the same are told.
    pub(super) fn answered(self, reply: &Reply) {
        if let State::Begun(begun) = self.state {
            begun.lead.land(reply);
        }
    }

    /// The future is to go on with it, and hears by the sender what comes of the first try.
    pub(super) fn go_on(&mut self) -> oneshot::Sender<Result<Reply, Failure>> {
        let (tell, told) = oneshot::channel();
        if let State::Begun(begun) = &mut self.state {
            begun.first = Some(told);
        }
        tell
    }

    /// When it was asked, and of whom.
    pub(super) fn asked(&self) -> Option<(Instant, &Arc<Upstream>)> {
        let begun = self.begun()?;
        Some((begun.at, begun.start.first()))
    }

    fn begun(&self) -> Option<&Begun> {
        match &self.state {
            State::Begun(begun) => Some(begun),
            State::New | State::Joined(_) => None,
        }
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Ask({:?})", self.packet)
    }
}
