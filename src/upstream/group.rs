//! The upstreams of one forward: whom to ask, when to ask the next one, when to give up.
//!
//! A stub resolver gives up after five seconds, so the answer, or the word that there is none, must
//! be there before. An upstream that is silent is not waited out: after a while the next one is
//! asked beside it, and whoever answers first has answered. With a single upstream it is the same
//! one that is asked again. A refusal is seen at once and moves on at once.

mod round;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::oneshot, time::Instant};

use self::round::Round;
#[cfg(target_os = "linux")]
use super::patience::Patience;
use super::{Failure, MAX_UPSTREAMS, Packet, Policy, Upstream, Way, policy::Order};
use crate::{
    reply::{Reply, Why},
    wire::Rcode,
};

/// Whether, and how often, upstreams are tried for one question.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// How the first is chosen.
    pub policy: Policy,
    /// How long one upstream is given before the next is asked too; ours without one.
    pub read_timeout: Option<Duration>,
    /// Tries in all; twice the number of upstreams without one, and 0 for no limit.
    pub max_attempts: Option<usize>,
    /// Codes that are not believed while another upstream is left.
    pub failover: Box<[Rcode]>,
    /// Whether SERVFAIL is answered at once where all upstreams are down.
    pub failfast: bool,
}

/// One upstream as a forward has it.
#[derive(Clone, Debug)]
pub struct Member {
    /// The upstream, which several forwards may share.
    pub upstream: Arc<Upstream>,
    /// Questions to it come back to us: it is not asked.
    pub looping: Arc<AtomicBool>,
}

#[cfg(target_os = "linux")]
impl Member {
    fn is_up(&self) -> bool {
        !self.looping.load(Ordering::Relaxed) && !self.upstream.is_down()
    }
}

/// The upstreams of one forward. The list may be exchanged under way: questions go on with the
/// list that they began with.
#[derive(Debug)]
pub struct Group {
    members: ArcSwap<Box<[Member]>>,
    plan: Plan,
    turn: AtomicUsize,
    /// Questions for which every upstream was down and one was asked all the same.
    desperate: prometheus::IntCounter,
}

impl Group {
    /// A group; `desperate` counts the questions for which all upstreams were down.
    pub fn new(
        upstreams: Vec<Arc<Upstream>>,
        plan: Plan,
        desperate: prometheus::IntCounter,
    ) -> Self {
        Self {
            members: ArcSwap::from_pointee(members(upstreams)),
            plan,
            turn: AtomicUsize::new(0),
            desperate,
        }
    }

    /// Its members.
    pub fn members(&self) -> Arc<Box<[Member]>> {
        self.members.load_full()
    }

    /// Exchanges the list. What is known of an upstream that stays is kept.
    pub fn replace(&self, upstreams: Vec<Arc<Upstream>>) {
        let known = self.members.load_full();
        let mut list = members(upstreams);
        for member in &mut list {
            let same = |old: &&Member| Arc::ptr_eq(&old.upstream, &member.upstream);
            if let Some(old) = known.iter().find(same) {
                *member = old.clone();
            }
        }
        self.members.store(Arc::new(list));
    }

    /// Asks until one answers or there is no more point. Failures are SERVFAIL with the reason.
    pub async fn ask(self: Arc<Self>, packet: Arc<Packet>, way: Way) -> Reply {
        match self.start() {
            Ok(start) => {
                let now = Instant::now().into_std();
                self.go_on(start, &packet, way, now, None).await
            }
            Err(reply) => *reply,
        }
    }

    /// Goes on with what was begun at `begun`: the first of `start` is asked, unless it has been
    /// and `first` tells what comes of it.
    pub(super) async fn go_on(
        &self,
        start: Start,
        packet: &Arc<Packet>,
        way: Way,
        begun: std::time::Instant,
        first: Option<oneshot::Receiver<Result<Reply, Failure>>>,
    ) -> Reply {
        let round = Round {
            plan: &self.plan,
            start: &start,
            packet,
            way,
        };
        let first = async {
            match first {
                Some(first) => first.await.unwrap_or(Err(Failure::Closed)),
                None => start.first().exchange(packet, way).await,
            }
        };
        // Pinned here: each function that it went through would have room for it.
        round.run(std::pin::pin!(first), begun.into()).await
    }

    /// Whether anybody is worth asking, before anybody is chosen.
    #[cfg(target_os = "linux")]
    pub(super) fn is_up(&self) -> bool {
        let members = self.members.load();
        members.iter().any(Member::is_up)
    }

    /// How long things may take.
    #[cfg(target_os = "linux")]
    pub(super) fn patience(&self, start: &Start) -> Patience {
        Patience::new(start.order.len(), self.plan.read_timeout, start.all_down)
    }

    /// Whether what the first has replied is the answer: all is, but a code to fail over from
    /// while there is another upstream to ask.
    #[cfg(target_os = "linux")]
    pub(super) fn is_believed(&self, start: &Start, reply: &Reply) -> bool {
        self.plan.believes(reply, 1, start.order.len())
    }

    /// Chooses whom to ask.
    pub(super) fn start(&self) -> Result<Start, Box<Reply>> {
        let members = self.members.load_full();
        let (order, all_down) = self.choose(&members)?;
        Ok(Start {
            members,
            order,
            all_down,
        })
    }

    /// The members worth asking, in order, and whether they are all down. Those that failed their last
    /// check come behind those that did not, whatever the policy.
    fn choose(&self, members: &[Member]) -> Result<(Order, bool), Box<Reply>> {
        let mut orders: [Order; 3] = Default::default();
        let [up, suspect, down] = &mut orders;
        for (place, member) in members.iter().enumerate() {
            if !member.looping.load(Ordering::Relaxed) {
                let order = if member.upstream.is_down() {
                    &mut *down
                } else if member.upstream.is_suspect() {
                    &mut *suspect
                } else {
                    &mut *up
                };
                order.push(place);
            }
        }
        if up.len() + suspect.len() > 0 {
            up.arrange(self.plan.policy, &self.turn);
            suspect.arrange(self.plan.policy, &self.turn);
            up.append(suspect);
            return Ok((*up, false));
        }
        if members.is_empty() {
            let text = "no address of an upstream is known yet";
            return Err(Box::new(failure(Why::UpstreamUnreachable, text)));
        }
        if down.len() == 0 {
            let text = "every upstream leads back to this server";
            return Err(Box::new(failure(Why::UpstreamLoop, text)));
        }
        self.desperate.inc();
        if self.plan.failfast {
            return Err(Box::new(failure(Why::UpstreamsDown, "no healthy proxies")));
        }
        down.arrange(Policy::Random, &self.turn);
        Ok((*down, true))
    }
}

fn members(upstreams: Vec<Arc<Upstream>>) -> Box<[Member]> {
    upstreams
        .into_iter()
        .take(MAX_UPSTREAMS)
        .map(|upstream| Member {
            upstream,
            looping: Arc::default(),
        })
        .collect()
}

fn failure(why: Why, text: &str) -> Reply {
    let mut reply = Reply::failure(Rcode::SERVFAIL, why);
    reply.cause = Some(text.into());
    reply
}

/// Whom one question is asked of, in order.
pub(super) struct Start {
    members: Arc<Box<[Member]>>,
    /// Places of `members`, one at the least.
    order: Order,
    all_down: bool,
}

impl Start {
    /// Who is asked first.
    pub(super) fn first(&self) -> &Arc<Upstream> {
        &self.members[self.order.at(0).unwrap_or(0)].upstream
    }
}

impl Plan {
    /// Whether a reply is the answer after so many tries of so many upstreams.
    fn believes(&self, reply: &Reply, tries: usize, upstreams: usize) -> bool {
        !self.failover.contains(&reply.rcode) || tries >= upstreams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_under_way_is_small() {
        let metrics = crate::metrics::Metrics::new();
        let desperate = metrics.forward.healthcheck_broken_total.clone();
        let group = Arc::new(Group::new(Vec::new(), Plan::default(), desperate));
        let question = crate::query::Question::new(
            crate::wire::Name::ROOT,
            crate::wire::Type::NS,
            crate::wire::Class::IN,
        );
        let packet = Arc::new(Packet::probe(&question, true));
        let size = size_of_val(&group.ask(packet, Way::Datagram));
        assert!(size < 1400, "{size} octets");
    }
}
