//! A walk through a chain that is suspended at a plugin, until a reply of upstreams or a sub-query is there.

use std::{future, sync::Arc};

use tokio::time::timeout_at;

use super::{Block, Context, Door, Pending, Resolved, chain::Walk};
use crate::{
    query::Query,
    reply::{Reply, Why},
    upstream::{Ask, Permit},
    wire::Rcode,
};

/// A walk that stands at a plugin which waits.
pub struct Waiting {
    door: Arc<dyn Door>,
    block: Arc<Block>,
    /// In a place of its own: it holds four names of 256 octets each, and the futures that it goes
    /// through would each have room for it, and for a second one while it is moved.
    query: Box<Query>,
    at: usize,
    way: Way,
    pending: Option<Awaited>,
    /// Its slot among the pending queries of the server, where it has one.
    permit: Option<Permit>,
}

/// Which way a walk goes that waits.
#[derive(Clone, Copy)]
pub(super) enum Way {
    In,
    Out,
}

/// What a walk waits for.
pub(super) enum Awaited {
    /// Upstreams, which whoever has the wait may ask in a way of its own.
    Upstreams(Box<Ask>),
    /// Something else.
    Other(Pending),
}

/// What a wait has come to; an answer is in the reply.
enum Came {
    Answer,
    Pass,
    Drop,
}

impl Waiting {
    pub(super) fn at(
        context: &Context<'_>,
        query: &Query,
        at: usize,
        way: Way,
        pending: Awaited,
    ) -> Walk {
        Walk::Waiting(Box::new(Self {
            door: Arc::clone(context.door),
            block: Arc::clone(context.block),
            query: Box::new(query.clone()),
            at,
            way,
            pending: Some(pending),
            permit: None,
        }))
    }

    /// What it waits for, as a group of a [`PendingLimit`](crate::upstream::PendingLimit): the plugin.
    pub fn group(&self) -> usize {
        std::ptr::from_ref(&self.block.chain.plugins()[self.at]).addr()
    }

    /// Has the walk hold a slot to its end; an eviction ends what it waits for.
    pub fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// Ends what it waits for with `reply`, which goes outward like any other.
    pub fn end(&mut self, reply: &mut Reply) -> Walk {
        self.pending = None;
        self.go_on(&Came::Answer, reply)
    }

    /// The query that waits.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// Hands out what upstreams are to be asked, where that is all that is waited for: whoever takes
    /// it asks them, and then either says what they replied ([`Self::heard`]) or gives it back.
    pub fn take_ask(&mut self) -> Option<Box<Ask>> {
        if self.query.deadline.is_some() {
            return None;
        }
        match self.pending.take() {
            Some(Awaited::Upstreams(mut ask)) => {
                if let Some(permit) = &self.permit {
                    ask.ends_with(permit.eviction());
                }
                Some(ask)
            }
            other => {
                self.pending = other;
                None
            }
        }
    }

    /// Takes back what [`Self::take_ask`] has handed out.
    pub fn put_ask(&mut self, ask: Box<Ask>) {
        self.pending = Some(Awaited::Upstreams(ask));
    }

    /// Goes on with what the upstreams have replied; the reply is complete in the same place where
    /// the walk is done.
    pub fn heard(&mut self, reply: &mut Reply) -> Walk {
        let asked = self.query.question.rtype;
        let came = if self.block.chain.plugins()[self.at].on_upstream_reply(asked, reply) {
            Came::Answer
        } else {
            Came::Pass
        };
        self.go_on(&came, reply)
    }

    fn go_on(&mut self, came: &Came, reply: &mut Reply) -> Walk {
        let context = Context {
            door: &self.door,
            block: &self.block,
        };
        let (chain, query, at) = (&self.block.chain, &mut *self.query, self.at);
        let mut walk = match (came, self.way) {
            (Came::Drop, _) => Walk::Dropped,
            (Came::Pass, _) => {
                reply.clear();
                chain.inward(&context, query, reply, at + 1)
            }
            (Came::Answer, Way::In) => {
                reply.answered_by = chain.plugins()[at].name;
                reply.recursion_available |= chain.recursive;
                chain.outward(&context, query, reply, at)
            }
            (Came::Answer, Way::Out) => {
                if let Some(hook) = &chain.plugins()[at].on_response {
                    hook.on_response(&context, query, reply);
                }
                chain.outward(&context, query, reply, at)
            }
        };
        if let Walk::Waiting(next) = &mut walk {
            next.permit = self.permit.take();
        }
        walk
    }

    /// Waits to the end of the walk: the query as it became, and its reply, if one is to be sent.
    pub async fn finish(mut self: Box<Self>) -> (Box<Query>, Option<Reply>) {
        loop {
            let resolved = match self.pending() {
                None => Resolved::Drop,
                Some(pending) => self.wait(pending).await,
            };
            let mut reply = Reply::default();
            let came = match resolved {
                Resolved::Answer(answer) => {
                    reply = answer;
                    Came::Answer
                }
                Resolved::Pass => Came::Pass,
                Resolved::Drop => Came::Drop,
            };
            match self.go_on(&came, &mut reply) {
                Walk::Done => return (self.query, Some(reply)),
                Walk::Dropped => return (self.query, None),
                Walk::Waiting(next) => self = next,
            }
        }
    }

    /// Waits until `pending` is over, the query's time is, or the query is evicted.
    async fn wait(&mut self, mut pending: Pending) -> Resolved {
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
        // Boxed: a query without a deadline does not carry the timer.
        let within = Box::pin(timeout_at(deadline.into(), &mut pending));
        let resolved = tokio::select! {
            biased;
            reply = evicted => Ok(Resolved::Answer(reply)),
            resolved = within => resolved,
        };
        resolved.unwrap_or_else(|_| {
            self.keep_late(pending);
            Resolved::Answer(Reply::failure(Rcode::SERVFAIL, Why::TooLate))
        })
    }

    /// Waits on without the client where a cache can keep the answer: it is there for the next one.
    fn keep_late(&mut self, pending: Pending) {
        if matches!(self.way, Way::Out) || !self.block.chain.has_cache_before(self.at) {
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
            door: Arc::clone(&self.door),
            block: Arc::clone(&self.block),
            query,
            at: self.at,
            way: self.way,
            pending: Some(Awaited::Other(Box::pin(answer))),
            permit: self.permit.take(),
        });
        spawn_rest(rest);
    }

    /// What is waited for, as a future; nothing where it was handed out and never came back.
    fn pending(&mut self) -> Option<Pending> {
        Some(match self.pending.take()? {
            Awaited::Other(pending) => pending,
            Awaited::Upstreams(ask) => {
                let block = Arc::clone(&self.block);
                let at = self.at;
                let asked = self.query.question.rtype;
                Box::pin(async move {
                    let mut reply = ask.answer().await;
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

/// Drives a walk to its end. A function of its own, since it is begun within such a walk.
fn spawn_rest(rest: Box<Waiting>) {
    tokio::spawn(async move { drop(rest.finish().await) });
}
