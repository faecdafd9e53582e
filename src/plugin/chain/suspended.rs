//! A walk through a chain that is suspended at a plugin, until the upstreams' reply or a future is there.

use std::{future, sync::Arc};

use tokio::time::timeout_at;

use super::record;
use crate::{
    plugin::{Block, Context, Outcome, Pending, Resolved, SubQueryHandler},
    query::Query,
    reply::{Reply, Why},
    upstream::{Permit, UpstreamQuery},
    wire::Rcode,
};

/// A suspended walk. It owns what it needs, so it can be resumed on any thread.
pub struct Suspended {
    sub_queries: Arc<dyn SubQueryHandler>,
    block: Arc<Block>,
    query: Query,
    at: Suspension,
    /// The query's slot among the pending ones of the server, if it has one.
    permit: Option<Permit>,
}

/// Where a walk is suspended, and on what.
pub(super) struct Suspension {
    /// Index of the plugin.
    pub(super) plugin: usize,
    pub(super) direction: Direction,
    /// `None` once it has been taken.
    pub(super) pending: Option<PendingOn>,
}

/// The direction of a walk.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    Inward,
    Outward,
}

/// What a walk is suspended on.
pub(super) enum PendingOn {
    /// The reply of upstreams; the thread that holds the walk may get it by an engine of its own.
    Upstream(Box<UpstreamQuery>),
    /// A future.
    Future(Pending),
}

impl Suspended {
    pub(super) fn new(context: &Context<'_>, query: &Query, at: Suspension) -> Box<Self> {
        Box::new(Self {
            sub_queries: Arc::clone(context.sub_queries),
            block: Arc::clone(context.block),
            query: query.clone(),
            at,
            permit: None,
        })
    }

    /// Identifies what is waited for, as a group of a [`PendingLimit`](crate::upstream::PendingLimit): the
    /// plugin.
    pub fn group(&self) -> usize {
        std::ptr::from_ref(&self.block.chain.plugins()[self.at.plugin]).addr()
    }

    /// Holds a slot to the end of the walk. An eviction ends what is waited for.
    pub fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
        self.end_with_permit();
    }

    /// Has an eviction by the server end the upstream query that the walk is suspended on.
    fn end_with_permit(&mut self) {
        if let (Some(PendingOn::Upstream(query)), Some(permit)) =
            (&mut self.at.pending, &self.permit)
        {
            query.ends_with(permit.eviction());
        }
    }

    /// The suspended query.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// The block that answers it.
    pub fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Takes the query for upstreams, where the walk is suspended on one. Its reply is for [`Self::resume`].
    /// A query with a deadline stays: [`Self::finish`] replies to it in time.
    pub fn take_upstream_query(&mut self) -> Option<Box<UpstreamQuery>> {
        let has_deadline = self.query.deadline.is_some();
        let upstream = |pending: &mut PendingOn| matches!(pending, PendingOn::Upstream(_));
        match self
            .at
            .pending
            .take_if(|pending| !has_deadline && upstream(pending))?
        {
            PendingOn::Upstream(query) => Some(query),
            PendingOn::Future(_) => None,
        }
    }

    /// Goes on with the upstreams' reply. On [`Outcome::Done`] `reply` holds the final reply; on
    /// [`Outcome::Pending`] this is suspended again.
    pub fn resume(&mut self, reply: &mut Reply) -> Outcome<()> {
        let asked = self.query.question.rtype;
        if self.block.chain.plugins()[self.at.plugin].on_upstream_reply(asked, reply) {
            self.answered(reply)
        } else {
            self.passed(reply)
        }
    }

    /// Ends what is waited for with `reply`, which goes outward like any other.
    pub fn end(&mut self, reply: &mut Reply) -> Outcome<()> {
        self.at.pending = None;
        self.answered(reply)
    }

    /// The plugin has answered: the reply goes outward.
    fn answered(&mut self, reply: &mut Reply) -> Outcome<()> {
        let context = Context {
            sub_queries: &self.sub_queries,
            block: &self.block,
        };
        let (chain, at) = (&self.block.chain, self.at.plugin);
        match self.at.direction {
            Direction::Inward => {
                reply.answered_by = chain.plugins()[at].name;
                record::resolved(&self.query, reply.answered_by, reply);
                reply.recursion_available |= chain.recursive;
            }
            Direction::Outward => {
                if let Some(hook) = &chain.plugins()[at].on_response {
                    hook.on_response(&context, &self.query, reply);
                }
            }
        }
        let outcome = chain.outward(&context, &self.query, reply, at);
        self.suspend(outcome)
    }

    /// The plugin has passed the query on: the next one is asked.
    fn passed(&mut self, reply: &mut Reply) -> Outcome<()> {
        let context = Context {
            sub_queries: &self.sub_queries,
            block: &self.block,
        };
        reply.clear();
        let next = self.at.plugin + 1;
        let chain = &self.block.chain;
        let outcome = chain.inward(&context, &mut self.query, reply, next);
        self.suspend(outcome)
    }

    fn suspend(&mut self, outcome: Outcome<Suspension>) -> Outcome<()> {
        match outcome {
            Outcome::Done => Outcome::Done,
            Outcome::Dropped => Outcome::Dropped,
            Outcome::Pending(at) => {
                self.at = at;
                self.end_with_permit();
                Outcome::Pending(())
            }
        }
    }

    /// Waits to the end of the walk. Returns the query as the plugins have made it, and the reply, if one is
    /// to be sent.
    pub async fn finish(mut self: Box<Self>) -> (Box<Self>, Option<Reply>) {
        loop {
            let mut reply = Reply::default();
            let outcome = match self.wait().await {
                Resolved::Drop => Outcome::Dropped,
                Resolved::Pass => self.passed(&mut reply),
                Resolved::Answer(answer) => {
                    reply = answer;
                    self.answered(&mut reply)
                }
            };
            match outcome {
                Outcome::Done => return (self, Some(reply)),
                Outcome::Dropped => return (self, None),
                Outcome::Pending(()) => {}
            }
        }
    }

    /// Waits for the reply, the query's deadline or its eviction.
    async fn wait(&mut self) -> Resolved {
        let Some(mut pending) = self.future() else {
            // It was taken, and never came back.
            return Resolved::Drop;
        };
        let evicted = async {
            match &self.permit {
                Some(permit) => permit.evicted().await,
                None => future::pending().await,
            }
        };
        let Some(deadline) = self.query.deadline else {
            return tokio::select! {
                biased;
                reply = evicted => Resolved::Answer(reply),
                resolved = pending => resolved,
            };
        };
        // Boxed, so that a query without a deadline has no room for the timer.
        let in_time = Box::pin(timeout_at(deadline.into(), &mut pending));
        let resolved = tokio::select! {
            biased;
            reply = evicted => Ok(Resolved::Answer(reply)),
            resolved = in_time => resolved,
        };
        resolved.unwrap_or_else(|_| {
            self.wait_for_cache(pending);
            Resolved::Answer(Reply::failure(Rcode::SERVFAIL, Why::TooLate))
        })
    }

    /// Goes on without the client where a cache can store the reply.
    fn wait_for_cache(&mut self, pending: Pending) {
        let has_cache = self.block.chain.has_cache_before(self.at.plugin);
        if matches!(self.at.direction, Direction::Outward) || !has_cache {
            return;
        }
        let answer = async move {
            match pending.await {
                Resolved::Answer(reply) if reply.why == Why::Upstream => Resolved::Answer(reply),
                _ => Resolved::Drop,
            }
        };
        let mut query = self.query.clone();
        query.deadline = None;
        let rest = Box::new(Self {
            sub_queries: Arc::clone(&self.sub_queries),
            block: Arc::clone(&self.block),
            query,
            at: Suspension {
                pending: Some(PendingOn::Future(Box::pin(answer))),
                ..self.at
            },
            permit: self.permit.take(),
        });
        spawn(rest);
    }

    /// What is waited for, as a future.
    fn future(&mut self) -> Option<Pending> {
        Some(match self.at.pending.take()? {
            PendingOn::Future(pending) => pending,
            PendingOn::Upstream(query) => {
                let (block, at) = (Arc::clone(&self.block), self.at.plugin);
                let asked = self.query.question.rtype;
                Box::pin(async move {
                    let mut reply = query.reply().await;
                    if block.chain.plugins()[at].on_upstream_reply(asked, &mut reply) {
                        Resolved::Answer(reply)
                    } else {
                        Resolved::Pass
                    }
                })
            }
        })
    }
}

/// Drives a walk to its end. A function of its own, since it starts within such a walk.
fn spawn(rest: Box<Suspended>) {
    tokio::spawn(async move { drop(rest.finish().await) });
}
