//! `rewrite`: changes questions on their way in, and replies on their way out.
//!
//! ```text
//! names   which names a rule is for, and what is put in their place
//! rule    what a rule does to a question, and to the reply
//! target  a reply whose alias is led elsewhere
//! option  rules about EDNS options
//! parse   the Corefile's form
//! ```
//!
//! Rules are tried in the order of the file; the first that applies ends it, unless it says
//! `continue`. What has been done to a question is attached to it ([`Query::extensions`]) and undone
//! in the reply in the reverse order.
//!
//! The reply always carries the question as it was asked, and the records that answer it carry its
//! name: [`Owner::Question`] is that name, whatever the question has become. What the rules say
//! about answers is therefore about the other names in a reply.

mod names;
mod option;
mod parse;
mod rule;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use parse::parse;

use self::{
    names::Subject,
    rule::{Applied, Rule, Ruling},
};
use super::{
    BeforeResponse, Build, BuildError, Context, Describe, OnQuery, OnResponse, Pending, Plugin,
    Properties, Setup, Step, metadata::Published,
};
use crate::{
    hooks,
    query::{Extension, Query},
    reply::{Owner, Reply, Section, Why},
    wire::{Name, Rcode},
};

/// The Corefile's word.
const NAME: &str = "rewrite";

/// The rules of a server block.
#[derive(Clone, Debug)]
pub struct Config {
    rules: Arc<[Rule]>,
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(Rewrite {
            rules: Arc::clone(&self.rules),
            metadata: build.offers.metadata.clone(),
        }))
    }
}

/// The plugin.
struct Rewrite {
    rules: Arc<[Rule]>,
    metadata: Option<Arc<Published>>,
}

/// What was done to a question, in order.
#[derive(Debug)]
struct Trail {
    /// The name as it came to be, in lower case, where it is another than was asked.
    name: Option<Name>,
    steps: Vec<Applied>,
}

impl Extension for Trail {}

hooks!(Rewrite, NAME => on_query, before_response, on_response; properties);

impl OnQuery for Rewrite {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let before = query.question.lower;
        let metadata = |query: &Query, label: &str| {
            let published = self.metadata.as_ref()?;
            published.value(context.block.chain.plugins(), query, None, label)
        };
        let mut steps = Vec::new();
        let mut subject = Subject::new(before);
        for (at, rule) in self.rules.iter().enumerate() {
            match rule.ask(at, query, &mut subject, &metadata) {
                Ruling::Ignored => continue,
                Ruling::Applied(step) => steps.extend(step),
                Ruling::NoName(text) => {
                    query.question = query.asked;
                    reply.fail(Rcode::SERVFAIL, Why::Internal);
                    reply.cause = Some(format!("invalid name after rewrite: {text}").into());
                    return Step::Answer;
                }
            }
            if rule.stops {
                break;
            }
        }
        let name = (query.question.lower != before).then_some(query.question.lower);
        if name.is_some() || !steps.is_empty() {
            query.extensions.insert(Trail { name, steps });
        }
        Step::Pass
    }
}

impl BeforeResponse for Rewrite {
    fn before_response(
        &self,
        context: &Context<'_>,
        query: &Query,
        reply: &mut Reply,
    ) -> Option<Pending> {
        let trail = query.extensions.get::<Trail>()?;
        let steps = trail.steps.iter().rev();
        let rules = steps.filter_map(|step| self.rules[step.rule].target());
        target::follow(rules, context, query, reply)
    }
}

impl OnResponse for Rewrite {
    fn on_response(&self, _: &Context<'_>, query: &Query, reply: &mut Reply) {
        let Some(trail) = query.extensions.get::<Trail>() else {
            return;
        };
        if let Some(name) = &trail.name {
            restore_owners(name, reply);
        }
        for step in trail.steps.iter().rev() {
            self.rules[step.rule].amend(step, reply);
        }
    }
}

impl Describe for Rewrite {
    fn properties(&self) -> Properties {
        Properties {
            other_classes: self.rules.iter().any(Rule::changes_class),
            ..Properties::default()
        }
    }
}

/// Records of the name that was looked up become those of the name that was asked for.
fn restore_owners(name: &Name, reply: &mut Reply) {
    for section in Section::ALL {
        for at in 0..reply.section(section).len() {
            let record = reply.section(section)[at];
            if let Owner::Name(owner) = reply.owner(&record)
                && owner.eq_ignore_case(name.as_ref())
            {
                reply.section_mut(section)[at] = Reply::owned_by_question(&record);
            }
        }
    }
}
