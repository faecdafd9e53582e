//! The exchange of one query with the upstreams of a group, as a state machine without I/O.
//!
//! The [`Engine`](super::Engine) makes the attempts that an [`Action`] asks for and reports what comes of
//! each: a reply, a failure, or that time has passed. The machine decides which upstream is tried next and
//! when, which reply is final, and when to give up with SERVFAIL. An upstream that is silent is not waited
//! out: after [`QueryTimeouts::attempt`] the next one is tried beside it, and the first reply wins. With a
//! single upstream, the same one is tried again. A failure moves on at once.

use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    AttemptReport, Failure, Packet, Upstream,
    group::{Selection, UpstreamGroup, servfail},
    timeouts::QueryTimeouts,
    transport::{STREAM_TIMEOUT, TransportPolicy},
};
use crate::{
    query::Transport,
    reply::{Reply, Why},
};

/// What an exchange is about; the same for all of its attempts.
pub(super) struct UpstreamRequest {
    pub(super) group: Arc<UpstreamGroup>,
    pub(super) packet: Arc<Packet>,
    pub(super) transport: TransportPolicy,
    /// Whether failures count against the upstream, so that it is checked. Those of a health check do not.
    pub(super) counts_failures: bool,
}

/// The state of one exchange. `L` is what carries an attempt while it is open; it is dropped when the attempt
/// ends.
pub(super) struct Exchange<L> {
    selection: Selection,
    timeouts: QueryTimeouts,
    started: Instant,
    attempts: Vec<Attempt<L>>,
    /// A reply with a failover code, used unless a better one comes. Boxed because it is rare.
    fallback: Option<Box<Reply>>,
}

/// One attempt at one upstream.
struct Attempt<L> {
    /// Index in the selection's members.
    member: usize,
    started: Instant,
    /// Counted against the upstream already.
    counted: bool,
    /// Neither a reply nor a failure yet.
    is_open: bool,
    link: Option<L>,
    failure: Option<Failure>,
    /// A truncated reply over UDP, while the complete one is fetched over TCP, and until when.
    truncated: Option<(Box<Reply>, Instant)>,
}

/// What the engine does next for an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Make the attempt with this number.
    Send(usize),
    /// Wait until [`Exchange::next_timeout`].
    Wait,
    /// The reply is final.
    Finish,
}

impl<L> Exchange<L> {
    /// An exchange with the upstreams of `selection`, whose first attempt the engine makes at once
    /// ([`Action::Send`] of 0).
    pub(super) fn new(request: &UpstreamRequest, selection: Selection, now: Instant) -> Self {
        let mut exchange = Self {
            timeouts: request.group.timeouts(&selection, selection.all_down),
            selection,
            started: now,
            attempts: Vec::with_capacity(1),
            fallback: None,
        };
        exchange.start_next(now);
        exchange
    }

    /// The upstream of an attempt.
    pub(super) fn upstream(&self, attempt: usize) -> &Arc<Upstream> {
        &self.selection.members[self.attempts[attempt].member].upstream
    }

    /// Whether an attempt goes over UDP: not if the upstream or the transport policy excludes it, nor after a
    /// truncated reply over UDP.
    pub(super) fn is_by_datagram(&self, request: &UpstreamRequest, attempt: usize) -> bool {
        request.transport != TransportPolicy::Tcp
            && self.attempts[attempt].truncated.is_none()
            && self.upstream(attempt).udp().is_some()
    }

    /// An attempt is in flight over `link`.
    pub(super) fn sent(&mut self, attempt: usize, link: L) {
        self.attempts[attempt].link = Some(link);
    }

    /// Whether an attempt waits for its reply.
    pub(super) fn is_open(&self, attempt: usize) -> bool {
        self.attempts
            .get(attempt)
            .is_some_and(|attempt| attempt.is_open)
    }

    /// What carries the attempts that are still in flight.
    pub(super) fn open_links(&mut self) -> impl Iterator<Item = L> {
        self.attempts
            .iter_mut()
            .filter_map(|attempt| attempt.link.take())
    }

    /// An attempt got `reply`. On [`Action::Finish`] `reply` holds the final one.
    pub(super) fn on_reply(
        &mut self,
        request: &UpstreamRequest,
        number: usize,
        reply: &mut Reply,
        now: Instant,
    ) -> Action {
        let is_incomplete = reply.truncated
            && request.transport == TransportPolicy::UdpThenTcp
            && self.is_by_datagram(request, number);
        let attempt = &mut self.attempts[number];
        attempt.link = None;
        if is_incomplete {
            let truncated = Box::new(std::mem::take(reply));
            attempt.truncated = Some((truncated, now + STREAM_TIMEOUT));
            return Action::Send(number);
        }
        self.on_final_reply(request, number, reply, now)
    }

    /// An attempt got a reply that no further attempt by stream completes.
    fn on_final_reply(
        &mut self,
        request: &UpstreamRequest,
        number: usize,
        reply: &mut Reply,
        now: Instant,
    ) -> Action {
        let attempt = &mut self.attempts[number];
        attempt.is_open = false;
        attempt.truncated = None;
        let took = now.saturating_duration_since(attempt.started);
        let upstream = self.upstream(number);
        upstream.answered(reply, took);
        self.observe(request, number, Some(reply), now);
        let (attempts, upstreams) = (self.attempts.len(), self.selection.order.len());
        if !request.group.plan().fails_over(reply, attempts, upstreams) {
            self.count_silent(request, Some(number), now);
            return Action::Finish;
        }
        self.fallback = Some(Box::new(std::mem::take(reply)));
        let goes_on = attempts < upstreams;
        self.advance(request, goes_on, reply, now)
    }

    /// An attempt failed. On [`Action::Finish`] `reply` holds the final reply.
    pub(super) fn on_failure(
        &mut self,
        request: &UpstreamRequest,
        number: usize,
        failure: Failure,
        reply: &mut Reply,
        now: Instant,
    ) -> Action {
        let attempt = &mut self.attempts[number];
        attempt.link = None;
        if let Some((truncated, _)) = attempt.truncated.take() {
            // A truncated reply is better than none.
            *reply = *truncated;
            return self.on_final_reply(request, number, reply, now);
        }
        attempt.is_open = false;
        self.count(request, number, &failure);
        self.observe(request, number, None, now);
        self.attempts[number].failure = Some(failure);
        // Upstreams that fail every time are not retried in a tight loop.
        let goes_on = self.attempts.len() < 2 * self.selection.order.len();
        self.advance(request, goes_on, reply, now)
    }

    /// Time has passed, [`Self::next_timeout`] or more. On [`Action::Finish`] `reply` holds the final reply.
    pub(super) fn on_timeout(
        &mut self,
        request: &UpstreamRequest,
        reply: &mut Reply,
        now: Instant,
    ) -> Action {
        let is_due = |attempt: &Attempt<L>| {
            let truncated = attempt.truncated.as_ref();
            attempt.is_open && truncated.is_some_and(|(_, until)| *until <= now)
        };
        if let Some(number) = self.attempts.iter().position(is_due) {
            return self.on_failure(request, number, Failure::Silent, reply, now);
        }
        if now >= self.started + self.timeouts.total {
            // The upstreams may be slow rather than dead: a reply or a check has marked one up meanwhile.
            self.renew_timeouts(request);
        }
        let last = self.last_started();
        let is_last = !self.may_go_on();
        if now >= self.started + self.timeouts.total
            || is_last && now >= last + self.timeouts.last_attempt
        {
            return self.finish(request, reply, now);
        }
        self.count_silent(request, None, now);
        self.advance(request, now >= last + self.pause(), reply, now)
    }

    /// When [`Self::on_timeout`] is due if nothing else happens.
    pub(super) fn next_timeout(&self, request: &UpstreamRequest) -> Instant {
        let deadline = self.started + self.timeouts.total;
        let pause = if self.may_go_on() {
            self.pause()
        } else {
            self.timeouts.last_attempt
        };
        let mut next = deadline.min(self.last_started() + pause);
        for attempt in self.attempts.iter().filter(|attempt| attempt.is_open) {
            if let Some((_, until)) = &attempt.truncated {
                next = next.min(*until);
            } else if request.counts_failures && !attempt.counted {
                // When it counts as silent.
                next = next.min(attempt.started + self.timeouts.attempt);
            }
        }
        next
    }

    /// Each upstream that an open attempt waits for: a query that is evicted counts against it, since under
    /// a flood no attempt stays open long enough to count as silent.
    pub(super) fn count_open(&mut self, request: &UpstreamRequest) {
        for number in 0..self.attempts.len() {
            if self.attempts[number].is_open {
                self.count(request, number, &Failure::Silent);
            }
        }
    }

    /// Why the last attempt failed; `None` where it has not.
    pub(super) fn last_failure(&self) -> Option<&Failure> {
        self.attempts.last()?.failure.as_ref()
    }

    fn advance(
        &mut self,
        request: &UpstreamRequest,
        goes_on: bool,
        reply: &mut Reply,
        now: Instant,
    ) -> Action {
        if goes_on
            && self.may_go_on()
            && now < self.started + self.timeouts.total
            && let Some(number) = self.start_next(now)
        {
            return Action::Send(number);
        }
        let are_enough = self.attempts.len() >= self.timeouts.max_failures;
        if (are_enough || self.fallback.is_some()) && self.is_hopeless() {
            return self.finish(request, reply, now);
        }
        Action::Wait
    }

    fn start_next(&mut self, now: Instant) -> Option<usize> {
        let number = self.attempts.len();
        let member = self.selection.order.at(number);
        let member = member.filter(|_| self.may_try())?;
        self.attempts.push(Attempt {
            member,
            started: now,
            counted: false,
            is_open: true,
            link: None,
            failure: None,
            truncated: None,
        });
        Some(number)
    }

    /// From the last attempt to the next, while no reply has come.
    fn pause(&self) -> Duration {
        if self.attempts.len() > 1 {
            self.timeouts.retry
        } else {
            self.timeouts.attempt
        }
    }

    /// Whether the number of attempts allows another.
    fn may_try(&self) -> bool {
        self.attempts.len() < self.timeouts.max_attempts
    }

    /// Whether another attempt may be made. With a fallback reply in hand, no upstream is tried twice.
    fn may_go_on(&self) -> bool {
        let is_second_round = self.attempts.len() >= self.selection.order.len();
        self.may_try() && !(self.fallback.is_some() && is_second_round)
    }

    fn last_started(&self) -> Instant {
        let last = self.attempts.last();
        last.map_or(self.started, |attempt| attempt.started)
    }

    /// Lengthens the timeouts where every upstream was down at the start and one is up now.
    fn renew_timeouts(&mut self, request: &UpstreamRequest) {
        let Selection {
            members,
            order,
            all_down,
        } = &self.selection;
        let mut selected = (0..order.len()).filter_map(|at| order.at(at));
        if *all_down && selected.any(|member| !members[member].upstream.is_down()) {
            self.timeouts = request.group.timeouts(&self.selection, false);
        }
    }

    /// Counts the silence of every upstream that has had [`QueryTimeouts::attempt`]; not that of the one that
    /// has just answered another attempt, number `answered`.
    fn count_silent(&mut self, request: &UpstreamRequest, answered: Option<usize>, now: Instant) {
        let answered = answered.map(|number| self.attempts[number].member);
        for number in 0..self.attempts.len() {
            let attempt = &self.attempts[number];
            let waited = now.saturating_duration_since(attempt.started);
            if attempt.is_open
                && waited >= self.timeouts.attempt
                && Some(attempt.member) != answered
            {
                self.count(request, number, &Failure::Silent);
            }
        }
    }

    fn count(&mut self, request: &UpstreamRequest, number: usize, failure: &Failure) {
        let attempt = &mut self.attempts[number];
        if request.counts_failures && !attempt.counted && failure.blames_upstream() {
            attempt.counted = true;
            self.upstream(number).failed();
        }
    }

    /// Reports an attempt that is over to the query's observer.
    fn observe(
        &self,
        request: &UpstreamRequest,
        number: usize,
        reply: Option<&Reply>,
        now: Instant,
    ) {
        let Some(observer) = request.packet.observer() else {
            return;
        };
        let target = self.upstream(number).target();
        let received = reply.and_then(|reply| reply.source.as_ref());
        let usual = match target.protocol.transport() {
            Transport::Udp if request.transport == TransportPolicy::Tcp => Transport::Tcp,
            usual => usual,
        };
        let started = self.attempts[number].started;
        observer.on_attempt(&AttemptReport {
            upstream: target.address,
            transport: received.map_or(usual, |received| received.over),
            started,
            duration: now.saturating_duration_since(started),
            reply,
        });
    }

    /// Whether no open attempt can be expected to succeed: each was made at an upstream that has failed
    /// outright since.
    fn is_hopeless(&self) -> bool {
        let attempts = &self.attempts;
        attempts.iter().enumerate().all(|(number, attempt)| {
            let mut later = attempts[number..].iter();
            let has_failed =
                |later: &Attempt<L>| later.member == attempt.member && later.failure.is_some();
            !attempt.is_open || later.any(has_failed)
        })
    }

    /// Ends the exchange with the fallback, or with SERVFAIL and the reason.
    fn finish(&mut self, request: &UpstreamRequest, reply: &mut Reply, now: Instant) -> Action {
        self.count_silent(request, None, now);
        *reply = match self.fallback.take() {
            Some(fallback) => *fallback,
            None => self.servfail(request, now),
        };
        Action::Finish
    }

    /// SERVFAIL with each upstream and what became of the last attempt at it.
    fn servfail(&self, request: &UpstreamRequest, now: Instant) -> Reply {
        let attempts = &self.attempts;
        let is_last = |(number, attempt): &(usize, &Attempt<L>)| {
            let mut later = attempts[number + 1..].iter();
            later.all(|later| later.member != attempt.member)
        };
        let last = attempts.iter().enumerate().filter(is_last);
        let mut ends: Vec<_> = last
            .map(|(_, one)| (one.member, one.failure.as_ref().unwrap_or(&Failure::Silent)))
            .collect();
        // Silence may hide any of the other failures: where there is any it is the reason, and stands
        // last, where log patterns for CoreDNS look for it.
        ends.sort_by_key(|(_, failure)| **failure == Failure::Silent);
        let last = ends.last();
        let mut why = last.map_or(Why::UpstreamUnreachable, |(_, failure)| failure.why());
        let count = attempts.len();
        let took = now.saturating_duration_since(self.started).as_secs_f32();
        let mut text = format!("{count} tries in {took:.1} s");
        let wrong = request.packet.wrong_answers();
        if wrong > 0 {
            // A single one may be forged or late: they are the reason only if each attempt got one.
            if why == Why::UpstreamTimeout && wrong >= count {
                why = Why::UpstreamMalformed;
            }
            text.push_str(", replies that do not fit the question ignored");
        }
        for (member, failure) in ends {
            let separator = if text.contains(": ") { "; " } else { ": " };
            let label = self.selection.members[member].upstream.label();
            let _ = write!(text, "{separator}{label}: {failure}");
        }
        servfail(why, &text)
    }
}

#[cfg(test)]
mod tests;
