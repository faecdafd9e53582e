//! Probes one upstream as long as it is in use.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use rand::RngExt;
use tokio::time::{Instant, sleep, timeout};

use super::{ActiveProbe, AddressEvidence, LoopGuard, Probe, random_name};
use crate::{
    query::Question,
    upstream::{LoopState, Member, Upstream},
    wire::{Class, Name, Rcode, Type},
};

/// Delay before each of the first probes, in seconds: the stub behind the upstream, or this server, may still be
/// starting. 28 seconds in total, or until one is decided.
const FIRST_DELAYS: [u64; 7] = [0, 1, 1, 2, 4, 8, 12];

/// Delay between later probes of an upstream that is used, with a jitter of a quarter of it: a loop can appear when
/// another server's configuration changes.
const PERIOD: Duration = Duration::from_secs(30);

/// Least delay between two probes of an upstream that fails its health checks, which a loop causes too.
const FAILING_PERIOD: Duration = Duration::from_secs(5);

/// Interval at which the health of the upstream is read.
const TICK: Duration = Duration::from_secs(1);

/// Delays between probes of an upstream that is left out: the first, and the longest.
const LEFT_OUT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Timeout of one probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Probes of an upstream that are still recognized: a stub may send one again later.
const REMEMBERED: usize = 4;

/// Score at which an upstream that looped is used again: at first, and at most. Each relapse doubles it: an address
/// with several servers behind it (a Service) returns some of the probes only.
const SCORES: [u32; 2] = [ANSWER, 32 * ANSWER];

/// What an answered probe adds to the score, and one that failed at the upstream without coming back. The latter shows
/// little: the upstream may itself have left out what leads back here.
const ANSWER: u32 = 8;
const FAILURE: u32 = 1;

/// What a probe has shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProbeOutcome {
    Returned,
    Answered,
    Failed,
    Silent,
}

/// The probes of one upstream. Holds weak references only: it ends with the upstream's membership.
pub(super) struct Watch {
    guard: Weak<LoopGuard>,
    zone: Name,
    upstream: Weak<Upstream>,
    label: Arc<str>,
    loop_state: Weak<LoopState>,
    recent: VecDeque<ActiveProbe>,
    /// [`LoopState::returned`] after the last probe.
    returned: u32,
}

impl Watch {
    pub(super) fn new(guard: &Arc<LoopGuard>, zone: Name, member: &Member) -> Self {
        Self {
            guard: Arc::downgrade(guard),
            zone,
            upstream: Arc::downgrade(&member.upstream),
            label: Arc::clone(member.upstream.label()),
            loop_state: Arc::downgrade(&member.loop_state),
            recent: VecDeque::with_capacity(REMEMBERED),
            returned: 0,
        }
    }

    /// `None` if the watch is to end.
    fn upgrade(&self) -> Option<(Arc<LoopGuard>, Arc<Upstream>, Arc<LoopState>)> {
        let (guard, upstream) = (self.guard.upgrade()?, self.upstream.upgrade()?);
        Some((guard, upstream, self.loop_state.upgrade()?))
    }

    fn is_left_out(&self) -> Option<bool> {
        Some(self.loop_state.upgrade()?.is_left_out())
    }

    /// Leaves the upstream out if its address is this server's, or, if `holds`, usually leads there. Returns whether
    /// it is this server's.
    pub(super) fn check_address(&self, holds: bool) -> Option<bool> {
        let (guard, upstream, state) = self.upgrade()?;
        let address = upstream.target().address;
        let evidence = guard.addresses.evidence(address);
        match &evidence {
            AddressEvidence::Own => {
                let why = "is an address of this server";
                guard.report_loop(&state, &self.label, why, (&self.label, address.port()));
            }
            AddressEvidence::ClusterDns(why) if holds => {
                LoopGuard::hold(&state, &self.label, why);
            }
            AddressEvidence::ClusterDns(_) | AddressEvidence::None => {}
        }
        Some(evidence == AddressEvidence::Own)
    }

    /// Runs until the upstream is no longer a member of its group, or the configuration is replaced.
    pub(super) async fn run(mut self) {
        if self.first_probes().await.is_some() {
            self.later_probes().await;
        }
    }

    /// Probes quickly until an outcome is decided. An upstream that is held because of its address is used if none
    /// is: nothing shows that it loops.
    async fn first_probes(&mut self) -> Option<()> {
        let mut outcome = ProbeOutcome::Silent;
        for delay in FIRST_DELAYS {
            sleep(Duration::from_secs(delay)).await;
            // With the address each time: the cluster's objects may be listed by now.
            outcome = self.outcome(true).await?;
            if matches!(outcome, ProbeOutcome::Returned | ProbeOutcome::Answered) {
                break;
            }
        }
        if outcome != ProbeOutcome::Returned {
            LoopGuard::release(&*self.loop_state.upgrade()?, &self.label);
        }
        Some(())
    }

    /// Probes until the watch ends.
    async fn later_probes(&mut self) -> Option<()> {
        let (mut score, mut required) = (0, SCORES[0]);
        let mut delay = LEFT_OUT[0];
        loop {
            if self.is_left_out()? {
                sleep(delay).await;
            } else {
                self.pause().await?;
            }
            match self.outcome(false).await? {
                ProbeOutcome::Returned => {
                    score = 0;
                    delay = (delay * 2).min(LEFT_OUT[1]);
                }
                ProbeOutcome::Answered => {
                    score += ANSWER;
                    delay = LEFT_OUT[0];
                }
                ProbeOutcome::Failed => score += FAILURE,
                ProbeOutcome::Silent => {}
            }
            if !self.is_left_out()? {
                score = 0;
            } else if score >= required {
                score = 0;
                required = (required * 2).min(SCORES[1]);
                LoopGuard::release(&*self.loop_state.upgrade()?, &self.label);
            }
        }
    }

    /// Waits for the next probe of an upstream that is used.
    async fn pause(&self) -> Option<()> {
        let period = PERIOD.mul_f64(rand::rng().random_range(0.75..=1.25));
        let begun = Instant::now();
        loop {
            sleep(TICK).await;
            let (_, upstream, state) = self.upgrade()?;
            let waited = begun.elapsed();
            let is_failing = upstream.is_suspect() && waited >= FAILING_PERIOD;
            if waited >= period || is_failing || state.is_left_out() {
                return Some(());
            }
        }
    }

    async fn outcome(&mut self, holds: bool) -> Option<ProbeOutcome> {
        if self.check_address(holds)? {
            return Some(ProbeOutcome::Returned);
        }
        self.probe().await
    }

    async fn probe(&mut self) -> Option<ProbeOutcome> {
        // A name of its own: a stub may have cached the response to the last one.
        let name = random_name(&self.zone);
        let (guard, upstream, state) = self.upgrade()?;
        drop(state);
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(guard.add(Probe {
            name,
            upstream: Arc::clone(&self.label),
            loop_state: Weak::clone(&self.loop_state),
        }));
        drop(guard);
        let question = Question::new(name, Type::HINFO, Class::IN);
        let answer = timeout(PROBE_TIMEOUT, upstream.probe(&question, true)).await;
        let returned = self.loop_state.upgrade()?.returned();
        if std::mem::replace(&mut self.returned, returned) != returned {
            return Some(ProbeOutcome::Returned);
        }
        Some(match answer {
            Ok(Ok(reply)) if is_final(reply.rcode) => ProbeOutcome::Answered,
            Ok(Ok(_)) => ProbeOutcome::Failed,
            _ => ProbeOutcome::Silent,
        })
    }
}

/// Whether a server that answers with this rcode has not forwarded the query to one that failed.
fn is_final(rcode: Rcode) -> bool {
    matches!(
        rcode,
        Rcode::NOERROR | Rcode::NXDOMAIN | Rcode::REFUSED | Rcode::NOTIMP
    )
}
