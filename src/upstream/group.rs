//! The upstreams of one forward, and which of them a query is sent to.

use std::{
    fmt::Write,
    sync::{Arc, atomic::AtomicUsize},
    time::Instant,
};

use arc_swap::ArcSwap;

use super::{
    LoopState, MAX_UPSTREAMS, PacketBudget, SelectionPolicy, Upstream, health, plan::Plan,
    policy::Order, timeouts::QueryTimeouts,
};
use crate::{
    reply::{Reply, Why},
    wire::Rcode,
};

/// An upstream as a member of a group.
#[derive(Clone, Debug)]
pub struct Member {
    /// The upstream, which several groups may share.
    pub upstream: Arc<Upstream>,
    /// Whether queries to it return to this server. If so, it is skipped.
    pub loop_state: Arc<LoopState>,
}

/// The upstreams of one `forward`. The list can be replaced at any time; queries in flight keep the list
/// with which they began.
#[derive(Debug)]
pub struct UpstreamGroup {
    members: ArcSwap<Box<[Member]>>,
    plan: Plan,
    turn: AtomicUsize,
    /// Counts queries for which every upstream was down.
    healthcheck_broken: Option<prometheus::IntCounter>,
    budget: Option<Arc<PacketBudget>>,
}

impl UpstreamGroup {
    /// A group; `healthcheck_broken` counts the queries for which all upstreams were down.
    pub fn new(
        upstreams: Vec<Arc<Upstream>>,
        plan: Plan,
        healthcheck_broken: prometheus::IntCounter,
    ) -> Self {
        Self {
            members: ArcSwap::from_pointee(members(upstreams)),
            plan,
            turn: AtomicUsize::new(0),
            healthcheck_broken: Some(healthcheck_broken),
            budget: None,
        }
    }

    /// With a packet budget.
    #[must_use]
    pub fn with_budget(mut self, budget: Option<Arc<PacketBudget>>) -> Self {
        self.budget = budget;
        self
    }

    /// Takes a packet of the budget, if there is one. False if it is used up.
    pub(super) fn take_packet(&self, now: Instant) -> bool {
        self.budget.as_ref().is_none_or(|budget| budget.take(now))
    }

    /// A group of one upstream for one attempt, whatever its health.
    pub(super) fn single(upstream: Arc<Upstream>) -> Self {
        let plan = Plan {
            read_timeout: Some(health::HealthCheck::LATE_TIMEOUT),
            max_attempts: Some(1),
            ..Plan::default()
        };
        Self {
            members: ArcSwap::from_pointee(members(vec![upstream])),
            plan,
            turn: AtomicUsize::new(0),
            healthcheck_broken: None,
            budget: None,
        }
    }

    /// Its members.
    pub fn members(&self) -> Arc<Box<[Member]>> {
        self.members.load_full()
    }

    /// Replaces the list. Upstreams that stay keep their state.
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

    /// How replies and failures are treated.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The timeouts of a query to these upstreams, of which all may be down. Those of an outage that may end soon
    /// are the usual ones.
    pub(super) fn timeouts(&self, selection: &Selection, all_down: bool) -> QueryTimeouts {
        let Selection { members, order, .. } = selection;
        let mut selected = (0..order.len()).filter_map(|at| order.at(at));
        let is_long =
            all_down && selected.all(|member| members[member].upstream.health.is_long_down());
        QueryTimeouts::new(order.len(), &self.plan, is_long)
    }

    /// Selects the upstreams for one query; an error is the reply to send if there is none to try.
    pub(super) fn select(&self) -> Result<Selection, Box<Reply>> {
        let members = self.members.load_full();
        let (order, all_down) = self.choose(&members)?;
        Ok(Selection {
            members,
            order,
            all_down,
        })
    }

    /// The members to try, in order, and whether they are all down. Those that failed their last check come
    /// after those that did not, whatever the policy.
    fn choose(&self, members: &[Member]) -> Result<(Order, bool), Box<Reply>> {
        let mut orders: [Order; 3] = Default::default();
        let [up, suspect, down] = &mut orders;
        for (index, member) in members.iter().enumerate() {
            if !member.loop_state.is_left_out() {
                let order = if member.upstream.is_down() {
                    &mut *down
                } else if member.upstream.is_suspect() {
                    &mut *suspect
                } else {
                    &mut *up
                };
                order.push(index);
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
            return Err(Box::new(servfail(Why::UpstreamUnreachable, text)));
        }
        if down.len() == 0 {
            return Err(Box::new(servfail(Why::UpstreamLoop, &left_out(members))));
        }
        self.healthcheck_broken
            .iter()
            .for_each(prometheus::IntCounter::inc);
        if self.plan.failfast {
            return Err(Box::new(servfail(Why::UpstreamsDown, "no healthy proxies")));
        }
        down.arrange(SelectionPolicy::Random, &self.turn);
        Ok((*down, true))
    }
}

/// Why none of the members is used: each is left out.
fn left_out(members: &[Member]) -> String {
    let mut text = String::from("no upstream is left: ");
    for (index, member) in members.iter().enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        let (label, why) = (member.upstream.label(), member.loop_state.why());
        let _ = write!(text, "{separator}{label} {why}");
    }
    text
}

fn members(upstreams: Vec<Arc<Upstream>>) -> Box<[Member]> {
    upstreams
        .into_iter()
        .take(MAX_UPSTREAMS)
        .map(|upstream| Member {
            upstream,
            loop_state: Arc::default(),
        })
        .collect()
}

/// SERVFAIL with a reason and the text of its cause.
pub(super) fn servfail(why: Why, text: &str) -> Reply {
    let mut reply = Reply::failure(Rcode::SERVFAIL, why);
    reply.cause = Some(text.into());
    reply
}

/// The upstreams that one query may be sent to, in the order of the attempts.
pub(super) struct Selection {
    pub(super) members: Arc<Box<[Member]>>,
    /// Indexes of `members`, at least one.
    pub(super) order: Order,
    /// Whether every upstream of the group is down.
    pub(super) all_down: bool,
}
