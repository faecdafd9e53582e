//! The upstreams of one forward, and which of them a query is sent to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{MAX_UPSTREAMS, Policy, Upstream, health, policy::Order, timeouts::Timeouts};
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

/// The upstreams of one forward. The list may be exchanged under way: questions go on with the
/// list that they began with.
#[derive(Debug)]
pub struct Group {
    members: ArcSwap<Box<[Member]>>,
    plan: Plan,
    turn: AtomicUsize,
    /// Questions for which every upstream was down and one was asked all the same.
    desperate: Option<prometheus::IntCounter>,
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
            desperate: Some(desperate),
        }
    }

    /// The group of one upstream that is sent one query, whatever its health.
    pub(super) fn single(upstream: Arc<Upstream>) -> Self {
        let plan = Plan {
            read_timeout: Some(health::Check::LATE),
            max_attempts: Some(1),
            ..Plan::default()
        };
        Self {
            members: ArcSwap::from_pointee(members(vec![upstream])),
            plan,
            turn: AtomicUsize::new(0),
            desperate: None,
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

    /// How replies and failures are treated.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The timeouts of a query to these upstreams.
    pub(super) fn timeouts(&self, selection: &Selection, all_down: bool) -> Timeouts {
        Timeouts::new(selection.order.len(), self.plan.read_timeout, all_down)
    }

    /// Selects the upstreams for one query; an error is the reply where there is none to try.
    pub(super) fn select(&self) -> Result<Selection, Box<Reply>> {
        let members = self.members.load_full();
        let (order, all_down) = self.choose(&members)?;
        Ok(Selection {
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
            return Err(Box::new(servfail(Why::UpstreamUnreachable, text)));
        }
        if down.len() == 0 {
            let text = "every upstream leads back to this server";
            return Err(Box::new(servfail(Why::UpstreamLoop, text)));
        }
        self.desperate.iter().for_each(prometheus::IntCounter::inc);
        if self.plan.failfast {
            return Err(Box::new(servfail(Why::UpstreamsDown, "no healthy proxies")));
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

impl Plan {
    /// Whether a reply has a failover code and another upstream is left after so many attempts.
    pub(super) fn fails_over(&self, reply: &Reply, attempts: usize, upstreams: usize) -> bool {
        self.failover.contains(&reply.rcode) && attempts < upstreams
    }
}
