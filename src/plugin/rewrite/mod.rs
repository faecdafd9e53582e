//! `rewrite`: modifies queries on the way to the other plugins, and the replies to them.
//!
//! ```text
//! names   patterns of names, and their replacements
//! rule    applies rules to queries, and reverts them in replies
//! target  replaces CNAME targets in replies, and resolves the new ones
//! option  rules for EDNS options
//! parse   parses the directives
//! ```
//!
//! Rules are tried in the order of the Corefile, up to the first one that applies without
//! `continue`. Applied rules are recorded with the query ([`Query::extensions`]) and reverted in
//! the reply in reverse order.
//!
//! The reply always repeats the original question, and records that answer it have its name as
//! owner: [`Owner::Question`] is that name, however the question was rewritten. So `answer` rules
//! concern the other names in a reply.

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
    rule::{Applied, Rule, RuleOutcome},
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

/// The directive's name.
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

/// The rules applied to a query, in order.
#[derive(Debug)]
struct AppliedRules {
    /// The rewritten name in lower case, if it differs from the original one.
    name: Option<Name>,
    rules: Vec<Applied>,
}

impl Extension for AppliedRules {}

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
            match rule.apply(at, query, &mut subject, &metadata) {
                RuleOutcome::Ignored => continue,
                RuleOutcome::Applied(step) => steps.extend(step),
                RuleOutcome::NoName(text) => {
                    query.question = query.original;
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
            query.extensions.insert(AppliedRules { name, rules: steps });
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
        let applied = query.extensions.get::<AppliedRules>()?;
        let steps = applied.rules.iter().rev();
        let rules = steps.filter_map(|step| self.rules[step.rule].target());
        target::follow(rules, context, query, reply)
    }
}

impl OnResponse for Rewrite {
    fn on_response(&self, _: &Context<'_>, query: &Query, reply: &mut Reply) {
        let Some(applied) = query.extensions.get::<AppliedRules>() else {
            return;
        };
        if let Some(name) = &applied.name {
            restore_owners(name, reply);
        }
        for step in applied.rules.iter().rev() {
            self.rules[step.rule].on_response(step, reply);
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

/// Changes the owner of records of the rewritten name to the original name.
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
