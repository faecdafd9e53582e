//! The path of a query inward and of its reply outward: for either, a slice of the plugins that have a
//! hook, and a loop.

mod reason;
mod record;
mod suspended;

use std::{sync::Arc, time::Duration};

pub(crate) use reason::attach_reason;
pub use suspended::Suspended;

use self::suspended::{Direction, PendingOn, Suspension};
use super::{
    BeforeResponse, Block, Context, Diagnose, Observer, OnQuery, OnResponse, Outcome, Plugin, Step,
    Written,
};
use crate::{
    query::Query,
    query_feed::AnsweredQuery,
    reply::{Reply, Why},
    wire::{Class, Rcode},
};

/// The plugins of a server block, in the order of [`crate::config::order`].
#[allow(clippy::struct_excessive_bools)] // independent properties of its plugins
pub struct Chain {
    plugins: Box<[Plugin]>,
    inward: Box<[Inward]>,
    outward: Box<[Outward]>,
    observers: Box<[Arc<dyn Observer>]>,
    diagnosers: Box<[Arc<dyn Diagnose>]>,
    pub(super) recursive: bool,
    /// A query that no plugin answers is refused; else it fails.
    refuses_others: bool,
    complete_answers: bool,
    /// A plugin answers classes other than IN.
    other_classes: bool,
}

/// An inbound hook, and the place of its plugin among all.
struct Inward {
    at: usize,
    name: &'static str,
    hook: Arc<dyn OnQuery>,
}

/// An outbound hook, and the place of its plugin among all.
struct Outward {
    at: usize,
    before: Option<Arc<dyn BeforeResponse>>,
    hook: Arc<dyn OnResponse>,
}

impl Chain {
    /// A chain of `plugins`, outermost first.
    pub fn new(plugins: Vec<Plugin>) -> Self {
        let any = |has: fn(&Plugin) -> bool| plugins.iter().any(has);
        // A cache answers nothing by itself, and CoreDNS has it before the plugins that serve zones.
        let mut last = plugins.iter().rev();
        let last = last.find(|plugin| !plugin.properties.caches);
        let refuses_others = last.is_none_or(|last| last.properties.zones_only);
        let inward = plugins.iter().enumerate().filter_map(|(at, plugin)| {
            Some(Inward {
                at,
                name: plugin.name,
                hook: Arc::clone(plugin.on_query.as_ref()?),
            })
        });
        let outward = plugins.iter().enumerate().filter_map(|(at, plugin)| {
            Some(Outward {
                at,
                before: plugin.before_response.clone(),
                hook: Arc::clone(plugin.on_response.as_ref()?),
            })
        });
        let observers = plugins.iter().filter_map(|plugin| plugin.observer.clone());
        let diagnosers = plugins.iter().filter_map(|plugin| plugin.diagnosis.clone());
        Self {
            diagnosers: diagnosers.collect(),
            inward: inward.collect(),
            outward: outward.collect(),
            observers: observers.collect(),
            recursive: any(|plugin| plugin.properties.recursive),
            refuses_others,
            complete_answers: any(|plugin| plugin.properties.complete_answers),
            other_classes: any(|plugin| plugin.properties.other_classes),
            plugins: plugins.into(),
        }
    }

    /// Its plugins, outermost first.
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// See [`Properties::complete_answers`](super::Properties::complete_answers).
    pub fn needs_complete_answers(&self) -> bool {
        self.complete_answers
    }

    /// Calls the inbound hooks until one answers, then the outbound hooks of the plugins before it.
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

    /// Calls the outbound hooks of the plugins before the one that answered, for a part of its reply
    /// that comes later ([`Reply::remaining`]). None of them can wait.
    pub fn amend(&self, context: &Context<'_>, query: &Query, part: &mut Reply) {
        let mut plugins = self.plugins.iter();
        let end = plugins.position(|plugin| plugin.name == part.answered_by);
        let end = end.unwrap_or(self.plugins.len());
        for outward in self.outward_of(end) {
            outward.hook.on_response(context, query, part);
        }
    }

    /// Calls the observers' [`Observer::on_sent`]. The server calls this once for each reply to a
    /// client, of whatever transport, after it was written; never for a sub-query.
    pub fn wrote(&self, block: &Block, query: &Query, reply: &Reply, written: Written) {
        for observer in &self.observers {
            observer.on_sent(block, query, reply, written);
        }
        if block.feed.is_watched() {
            self.publish(block, query, reply, written.took);
        }
    }

    /// Out of line, so that it costs unwatched queries nothing.
    #[cold]
    #[inline(never)]
    fn publish(&self, block: &Block, query: &Query, reply: &Reply, took: Duration) {
        block.feed.publish(&AnsweredQuery {
            query,
            reply,
            took,
            describe: &|text| self.reason(query, reply, text),
        });
    }

    /// Calls the observers' [`Observer::on_dropped`]: see [`Step::Drop`].
    pub fn dropped(&self, block: &Block, query: &Query, took: Duration) {
        for observer in &self.observers {
            observer.on_dropped(block, query, took);
        }
    }

    /// Whether a plugin before the one at `end` keeps replies.
    fn has_cache_before(&self, end: usize) -> bool {
        let mut outer = self.plugins[..end].iter();
        outer.any(|plugin| plugin.properties.caches)
    }

    fn inward(
        &self,
        context: &Context<'_>,
        query: &mut Query,
        reply: &mut Reply,
        from: usize,
    ) -> Outcome<Suspension> {
        let recorder = query.recorder.clone();
        for &Inward { at, name, ref hook } in self.inward.iter().skip_while(|turn| turn.at < from) {
            let step = hook.on_query(context, query, reply);
            if let Some(recorder) = &recorder {
                record::step(recorder, query, name, &step, reply);
            }
            match step {
                Step::Pass => {}
                Step::Answer => {
                    reply.answered_by = name;
                    reply.recursion_available |= self.recursive;
                    return self.outward(context, query, reply, at);
                }
                Step::Drop => return Outcome::Dropped,
                Step::Forward(query) => return inward_at(at, PendingOn::Upstream(query)),
                Step::Wait(pending) => return inward_at(at, PendingOn::Future(pending)),
            }
        }
        if query.question.class != Class::IN && !self.other_classes {
            reply.fail(Rcode::REFUSED, Why::NotServed);
        } else if self.refuses_others {
            reply.fail(Rcode::REFUSED, Why::NoZone);
        } else {
            reply.fail(Rcode::SERVFAIL, Why::NoPluginAnswered);
        }
        reply.recursion_available |= self.recursive;
        self.outward(context, query, reply, self.plugins.len())
    }

    /// Calls the outbound hook of every plugin before `end`, innermost first.
    fn outward(
        &self,
        context: &Context<'_>,
        query: &Query,
        reply: &mut Reply,
        end: usize,
    ) -> Outcome<Suspension> {
        if reply.why.is_upstream_failure() {
            // Before the cache stores it, for later clients too.
            self.attach_reason(query, reply);
        }
        for outward in self.outward_of(end) {
            if let Some(before) = &outward.before
                && let Some(pending) = before.before_response(context, query, reply)
            {
                return Outcome::Pending(Suspension {
                    plugin: outward.at,
                    direction: Direction::Outward,
                    pending: Some(PendingOn::Future(pending)),
                });
            }
            let before = query.recorder.as_ref().map(|_| record::summary(reply));
            outward.hook.on_response(context, query, reply);
            if let (Some(before), Some(recorder)) = (before, &query.recorder) {
                record::change(
                    recorder,
                    query,
                    self.plugins[outward.at].name,
                    &before,
                    reply,
                );
            }
        }
        if query.edns.is_some() && reason::is_needed(reply) {
            self.attach_reason(query, reply);
        }
        Outcome::Done
    }

    fn outward_of(&self, end: usize) -> impl Iterator<Item = &Outward> {
        let outward = self.outward.iter().rev();
        outward.skip_while(move |outward| outward.at >= end)
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
