//! The walk of a question inward and of its reply outward: a slice and a loop.

use std::{sync::Arc, time::Duration};

use super::{
    Block, Context, Plugin, Step, Written,
    suspended::{Direction, PendingOn, Suspended, Suspension},
};
use crate::{
    query::Query,
    reply::{Reply, Why},
    wire::Rcode,
};

/// The word of the plugin that keeps upstreams' answers.
pub(super) const CACHE: &str = "cache";

/// The plugins of a server block, in the order of [`super::order`].
#[allow(clippy::struct_excessive_bools)] // what its plugins are asked once, independent of each other
pub struct Chain {
    plugins: Box<[Arc<dyn Plugin>]>,
    /// Those that have something to do on the way in, and on the way out.
    asked: Box<[Turn]>,
    amending: Box<[Turn]>,
    observers: Box<[Arc<dyn Plugin>]>,
    pub(super) recurses: bool,
    refuses_others: bool,
    follows: bool,
    needs_whole_answers: bool,
}

/// A plugin, and its place among all of them.
struct Turn {
    at: usize,
    plugin: Arc<dyn Plugin>,
}

/// The outcome of a walk, or of a part of it.
#[derive(Debug)]
pub enum Outcome<P> {
    /// The reply is complete.
    Done,
    /// Nothing is sent.
    Dropped,
    /// The walk is suspended at a plugin that waits for something.
    Pending(P),
}

impl Chain {
    /// A chain of `plugins`, outermost first.
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        let recurses = plugins.iter().any(|plugin| plugin.recurses());
        let follows = plugins.iter().any(|plugin| plugin.follows());
        let needs_whole_answers = plugins.iter().any(|plugin| plugin.needs_whole_answers());
        let observers = plugins.iter().filter(|plugin| plugin.observes());
        // A cache does not answer by itself. CoreDNS has it before those that serve zones.
        let mut last = plugins.iter().rev().filter(|plugin| plugin.name() != CACHE);
        let refuses_others = last.next().is_none_or(|last| last.refuses_others());
        let turns = |has_part: &dyn Fn(&dyn Plugin) -> bool| {
            let turns = plugins.iter().enumerate().map(|(at, plugin)| Turn {
                at,
                plugin: Arc::clone(plugin),
            });
            turns.filter(|turn| has_part(&*turn.plugin)).collect()
        };
        Self {
            asked: turns(&|plugin| plugin.asks()),
            amending: turns(&|plugin| plugin.amends() || plugin.follows()),
            observers: observers.cloned().collect(),
            plugins: plugins.into(),
            recurses,
            refuses_others,
            follows,
            needs_whole_answers,
        }
    }

    /// Its plugins, outermost first.
    pub fn plugins(&self) -> &[Arc<dyn Plugin>] {
        &self.plugins
    }

    /// Whether a plugin of it needs answers whole: see [`Plugin::needs_whole_answers`].
    pub fn needs_whole_answers(&self) -> bool {
        self.needs_whole_answers
    }

    /// Asks the plugins one after the other and lets those that passed amend the reply.
    pub fn walk(
        &self,
        context: &Context<'_>,
        query: &mut Query,
        reply: &mut Reply,
    ) -> Outcome<Box<Suspended>> {
        reply.clear();
        match self.inward(context, query, reply, 0) {
            Outcome::Done => Outcome::Done,
            Outcome::Dropped => Outcome::Dropped,
            Outcome::Pending(at) => Outcome::Pending(Suspended::new(context, query, at)),
        }
    }

    /// Lets the plugins before the one that answered amend a part of its reply that comes later
    /// ([`Reply::rest`]). None of them can wait for anything.
    pub fn amend(&self, context: &Context<'_>, query: &Query, part: &mut Reply) {
        let mut plugins = self.plugins.iter();
        let end = plugins.position(|plugin| plugin.name() == part.answered_by);
        let end = end.unwrap_or(self.plugins.len());
        let turns = self.amending.iter().rev();
        for Turn { plugin, .. } in turns.skip_while(|turn| turn.at >= end) {
            plugin.amend(context, query, part);
        }
    }

    /// Tells the plugins that observe that a reply was sent. The server calls this once for each
    /// reply to a client, of whatever transport, after it was written; never for a sub-query.
    pub fn wrote(&self, block: &Block, query: &Query, reply: &Reply, written: Written) {
        for plugin in &self.observers {
            plugin.wrote(block, query, reply, written);
        }
    }

    /// The same where nothing is sent: [`Step::Drop`].
    pub fn dropped(&self, block: &Block, query: &Query, took: Duration) {
        for plugin in &self.observers {
            plugin.dropped(block, query, took);
        }
    }

    pub(super) fn inward(
        &self,
        context: &Context<'_>,
        query: &mut Query,
        reply: &mut Reply,
        from: usize,
    ) -> Outcome<Suspension> {
        for &Turn { at, ref plugin } in self.asked.iter().skip_while(|turn| turn.at < from) {
            match plugin.ask(context, query, reply) {
                Step::Pass => {}
                Step::Answer => {
                    reply.answered_by = plugin.name();
                    reply.recursion_available |= self.recurses;
                    return self.outward(context, query, reply, at);
                }
                Step::Drop => return Outcome::Dropped,
                Step::Forward(query) => return inward_at(at, PendingOn::Upstream(query)),
                Step::Wait(pending) => return inward_at(at, PendingOn::Future(pending)),
            }
        }
        // A block without plugins refuses, and one that ends with zones; any other whose plugins all
        // passed has failed to do its work.
        if self.refuses_others {
            reply.fail(Rcode::REFUSED, Why::NoZone);
        } else {
            reply.fail(Rcode::SERVFAIL, Why::NobodyAnswered);
        }
        reply.recursion_available |= self.recurses;
        self.outward(context, query, reply, self.plugins.len())
    }

    /// Amends the reply by every plugin before `end`, innermost first.
    pub(super) fn outward(
        &self,
        context: &Context<'_>,
        query: &Query,
        reply: &mut Reply,
        end: usize,
    ) -> Outcome<Suspension> {
        let turns = self.amending.iter().rev();
        for &Turn { at, ref plugin } in turns.skip_while(|turn| turn.at >= end) {
            if self.follows
                && let Some(pending) = plugin.follow(context, query, reply)
            {
                return Outcome::Pending(Suspension {
                    plugin: at,
                    direction: Direction::Outward,
                    pending: Some(PendingOn::Future(pending)),
                });
            }
            plugin.amend(context, query, reply);
        }
        Outcome::Done
    }
}

fn inward_at(plugin: usize, pending: PendingOn) -> Outcome<Suspension> {
    Outcome::Pending(Suspension {
        plugin,
        direction: Direction::Inward,
        pending: Some(pending),
    })
}

#[cfg(test)]
mod tests;
