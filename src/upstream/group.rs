//! The upstreams of one forward: whom to ask, when to ask the next one, when to give up.
//!
//! A stub resolver gives up after five seconds, so the answer, or the word that there is none, must
//! be there before. An upstream that is silent is not waited out: after a while the next one is
//! asked beside it, and whoever answers first has answered. With a single upstream it is the same
//! one that is asked again. A refusal is seen at once and moves on at once.

use std::{
    fmt::Write,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::{
    FutureExt, StreamExt,
    future::{Either, ready},
    stream::FuturesUnordered,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{
    Failure, MAX_UPSTREAMS, Packet, Policy, Upstream, Way, patience::Patience, policy::Order,
};
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

/// One question's way through the upstreams.
struct Round<'g> {
    plan: &'g Plan,
    start: &'g Start,
    packet: &'g Arc<Packet>,
    way: Way,
}

/// One try.
struct Try {
    place: usize,
    begun: Instant,
    /// The upstream is checked because of it.
    counted: bool,
    /// Nothing has come of it yet.
    is_open: bool,
    /// How it ended, if badly.
    failure: Option<Failure>,
}

impl Round<'_> {
    /// `first` is the first try, which was made at `begun`.
    async fn run(
        &self,
        first: Pin<&mut (impl Future<Output = Result<Reply, Failure>> + Send)>,
        begun: Instant,
    ) -> Reply {
        let mut patience = self.patience(self.start.all_down);
        let mut tries: Vec<Try> = Vec::with_capacity(1);
        if self.next(&mut tries, begun).is_none() {
            return failure(Why::UpstreamUnreachable, "no forwarder defined");
        }
        let mut first = first.map(|answer| (0, answer));
        let timer = sleep_until(self.wake(patience, &tries, begun, true));
        let mut timer = std::pin::pin!(timer);
        // The usual case is one try and an answer: it needs no box and no set of futures.
        let early = tokio::select! {
            biased;
            (_, answer) = &mut first => Some(answer),
            () = &mut timer => None,
        };
        let first = match early {
            // The one that was asked has answered.
            Some(Ok(reply)) if self.is_believed(&reply, &tries) => return reply,
            Some(answer) => Either::Left(ready((0, answer))),
            None => Either::Right(first),
        };
        // Whatever came, or that time has passed, is seen again below.
        let mut running = FuturesUnordered::new();
        running.push(Either::Left(first));
        // Boxed: seldom there, and else room that every question takes.
        let mut kept: Option<Box<Reply>> = None;
        loop {
            let mut moves_on = tokio::select! {
                biased;
                Some((number, answer)) = running.next() => match answer {
                    Ok(reply) if self.is_believed(&reply, &tries) => {
                        self.count_silent(patience, &mut tries, Some(number));
                        return reply;
                    }
                    Ok(reply) => {
                        tries[number].is_open = false;
                        kept = Some(Box::new(reply));
                        tries.len() < self.start.order.len()
                    }
                    Err(failure) => {
                        self.count(&mut tries[number], &failure);
                        tries[number].is_open = false;
                        tries[number].failure = Some(failure);
                        // Who refuses every time is not asked in a tight circle.
                        tries.len() < 2 * self.start.order.len()
                    }
                },
                () = &mut timer => {
                    if Instant::now() >= begun + patience.total {
                        // It may be slow, and no more: an answer or a check has marked it up meanwhile.
                        patience = self.patience_if_up(patience);
                    }
                    let now = Instant::now();
                    let last = tries.last().map_or(begun, |one| one.begun);
                    let is_over = !self.moves_on(&tries, kept.is_some()) && now >= last + patience.last;
                    if now >= begun + patience.total || is_over {
                        break;
                    }
                    self.count_silent(patience, &mut tries, None);
                    now >= last + patience.step
                }
            };
            moves_on &= self.moves_on(&tries, kept.is_some());
            if moves_on
                && Instant::now() < begun + patience.total
                && let Some(place) = self.next(&mut tries, Instant::now())
            {
                let number = tries.len() - 1;
                running.push(Either::Right(Box::pin(self.exchange(place, number))));
            }
            if (!self.may_try(&tries) || kept.is_some()) && is_hopeless(&tries) {
                break;
            }
            let moves_on = self.moves_on(&tries, kept.is_some());
            timer
                .as_mut()
                .reset(self.wake(patience, &tries, begun, moves_on));
        }
        drop(running);
        self.count_silent(patience, &mut tries, None);
        kept.map_or_else(|| self.give_up(&tries, begun), |reply| *reply)
    }

    /// The next place to try, entered into `tries`.
    fn next(&self, tries: &mut Vec<Try>, begun: Instant) -> Option<usize> {
        let order = &self.start.order;
        let place = order.at(tries.len()).filter(|_| self.may_try(tries))?;
        tries.push(Try {
            place,
            begun,
            counted: false,
            is_open: true,
            failure: None,
        });
        Some(place)
    }

    fn may_try(&self, tries: &[Try]) -> bool {
        let limit = self.plan.max_attempts.unwrap_or(2 * self.start.order.len());
        limit == 0 || tries.len() < limit
    }

    async fn exchange(&self, place: usize, number: usize) -> (usize, Result<Reply, Failure>) {
        let upstream = &self.start.members[place].upstream;
        (number, upstream.exchange(self.packet, self.way).await)
    }

    /// When to look again if nothing comes.
    fn wake(&self, patience: Patience, tries: &[Try], begun: Instant, moves_on: bool) -> Instant {
        let deadline = begun + patience.total;
        let last = tries.last().map_or_else(Instant::now, |one| one.begun);
        let pause = if moves_on && self.may_try(tries) {
            patience.step
        } else {
            patience.last
        };
        // Those who are not found to be silent yet are then.
        let mut open = tries.iter().filter(|one| one.is_open && !one.counted);
        let silent = open.next().map(|one| one.begun + patience.step);
        (last + pause).min(deadline).min(silent.unwrap_or(deadline))
    }

    /// Whether another try may be made. With an answer in hand, if a poor one, nobody is asked twice.
    fn moves_on(&self, tries: &[Try], has_kept: bool) -> bool {
        self.may_try(tries) && (!has_kept || tries.len() < self.start.order.len())
    }

    fn patience(&self, all_down: bool) -> Patience {
        Patience::new(self.start.order.len(), self.plan.read_timeout, all_down)
    }

    /// The patience with upstreams that were all down at the start, and of which one is up now.
    fn patience_if_up(&self, patience: Patience) -> Patience {
        let Start {
            members,
            order,
            all_down,
        } = self.start;
        let mut places = (0..order.len()).filter_map(|at| order.at(at));
        if *all_down && places.any(|place| !members[place].upstream.is_down()) {
            return self.patience(false);
        }
        patience
    }

    /// Whether the reply is the answer: all are, but those of a code to fail over from while
    /// there is another upstream to ask.
    fn is_believed(&self, reply: &Reply, tries: &[Try]) -> bool {
        self.plan
            .believes(reply, tries.len(), self.start.order.len())
    }

    /// Has every upstream checked that has been silent for too long; not the one that has just answered
    /// another try, which is number `answered`.
    fn count_silent(&self, patience: Patience, tries: &mut [Try], answered: Option<usize>) {
        let answered = answered.map(|number| tries[number].place);
        for one in tries {
            let is_silent = one.is_open && one.begun.elapsed() >= patience.step;
            if is_silent && Some(one.place) != answered {
                self.count(one, &Failure::Silent);
            }
        }
    }

    fn count(&self, one: &mut Try, failure: &Failure) {
        if !one.counted && failure.blames_upstream() {
            one.counted = true;
            self.start.members[one.place].upstream.failed();
        }
    }

    /// SERVFAIL, and why: each upstream with what became of its last try.
    fn give_up(&self, tries: &[Try], begun: Instant) -> Reply {
        let is_last = |(number, one): &(usize, &Try)| {
            let mut later = tries[number + 1..].iter();
            later.all(|later| later.place != one.place)
        };
        let last = tries.iter().enumerate().filter(is_last);
        let mut ends: Vec<_> = last
            .map(|(_, one)| (one.place, one.failure.as_ref().unwrap_or(&Failure::Silent)))
            .collect();
        // Silence may have been any of the others as well: it is the reason where there is any,
        // and the last word, since patterns for CoreDNS's log look for it at the end.
        ends.sort_by_key(|(_, failure)| **failure == Failure::Silent);
        let mut why = ends
            .last()
            .map_or(Why::UpstreamUnreachable, |(_, failure)| failure.why());
        let (count, took) = (tries.len(), begun.elapsed().as_secs_f32());
        let mut text = format!("{count} tries in {took:.1} s");
        let wrong = self.packet.wrong_answers();
        if wrong > 0 {
            // One may be a stranger's or come too late: only a wrong one for each try is the reason.
            if why == Why::UpstreamTimeout && wrong >= count {
                why = Why::UpstreamMalformed;
            }
            text.push_str(", replies that do not fit the question ignored");
        }
        for (place, failure) in ends {
            let separator = if text.contains(": ") { "; " } else { ": " };
            let label = self.start.members[place].upstream.label();
            let _ = write!(text, "{separator}{label}: {failure}");
        }
        failure(why, &text)
    }
}

/// Whether nothing can come of the tries any more: what is open was asked of upstreams that have
/// failed outright since.
fn is_hopeless(tries: &[Try]) -> bool {
    tries.iter().enumerate().all(|(number, one)| {
        let since = || tries[number..].iter();
        !one.is_open || since().any(|later| later.place == one.place && later.failure.is_some())
    })
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
