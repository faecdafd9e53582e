//! The tries of one query: which upstream is asked next, when, and when there is no more point.

use std::{fmt::Write, pin::Pin, sync::Arc};

use futures_util::{
    FutureExt, StreamExt,
    future::{Either, ready},
    stream::FuturesUnordered,
};
use tokio::time::{Instant, sleep_until};

use super::{Plan, Start, failure};
use crate::{
    reply::{Reply, Why},
    upstream::{Failure, Packet, Way, patience::Patience},
};

/// The tries of one query.
pub(super) struct Round<'g> {
    pub(super) plan: &'g Plan,
    pub(super) start: &'g Start,
    pub(super) packet: &'g Arc<Packet>,
    pub(super) way: Way,
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
    pub(super) async fn run(
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
        // An open try that is not counted as silent yet is counted then.
        let mut open = tries.iter().filter(|one| one.is_open && !one.counted);
        let silent = open.next().map(|one| one.begun + patience.step);
        (last + pause).min(deadline).min(silent.unwrap_or(deadline))
    }

    /// Whether another try may be made. Once there is an answer, if a poor one, no upstream is asked twice.
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
