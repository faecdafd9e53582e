//! Replaces CNAME targets in replies: the new target is resolved, and its records replace those of
//! the old one.

use super::names::{self, Pattern, Replacement, Subject};
use crate::{
    plugin::{Context, Pending, Resolved},
    query::{Query, Question},
    reply::{Data, Owner, Reply, Section},
    wire::{Name, Rcode, Type},
};

/// A rule that replaces CNAME targets.
#[derive(Clone, Debug)]
pub struct TargetRule {
    /// The targets that are replaced.
    pub targets: Pattern,
    /// The replacement.
    pub to: Replacement,
}

impl TargetRule {
    fn apply(&self, target: Name) -> Option<Name> {
        let text = self.targets.replace(&mut Subject::new(target), &self.to)?;
        let name = names::read(&text).ok()?;
        (name != target).then_some(name)
    }
}

/// Replaces the target of the first CNAME record in the answer that one of `rules` matches, if any,
/// and resolves the new target.
pub fn follow<'r>(
    rules: impl Iterator<Item = &'r TargetRule>,
    context: &Context<'_>,
    query: &Query,
    reply: &mut Reply,
) -> Option<Pending> {
    let rules: Vec<_> = rules.collect();
    let answer = reply.section(Section::Answer).iter().enumerate();
    let mut aliases = answer.filter(|(_, record)| record.rtype == Type::CNAME);
    let (at, target) = aliases.find_map(|(at, record)| {
        let target = reply.data_name(record)?.to_name().to_lower();
        let replaced = rules.iter().find_map(|rule| rule.apply(target))?;
        Some((at, replaced))
    })?;
    let asked = &query.question;
    let again = context.again(query, Question::new(target, asked.rtype, asked.class));
    let reply = std::mem::take(reply);
    Some(Box::pin(async move {
        Resolved::Answer(splice(&reply, at, &target, &again.await))
    }))
}

/// The CNAME records of `reply` up to index `at`, the last one with the new `target`, followed by
/// the records `found` for it.
fn splice(reply: &Reply, at: usize, target: &Name, found: &Reply) -> Reply {
    let mut spliced = Reply::failure(found.rcode, reply.why);
    spliced.authoritative = reply.authoritative;
    spliced.recursion_available = reply.recursion_available;
    spliced.truncated = found.truncated;
    spliced.answered_by = reply.answered_by;
    spliced.options.copy_from(&reply.options);
    if !matches!(found.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) {
        spliced.why = found.why;
        spliced.cause.clone_from(&found.cause);
        spliced.extended_error.clone_from(&found.extended_error);
    }
    let before = &reply.section(Section::Answer)[..=at];
    for record in before.iter().filter(|record| record.rtype == Type::CNAME) {
        spliced.push_from(Section::Answer, Owner::Question, reply, record);
    }
    if let Some(last) = spliced.section(Section::Answer).last().copied() {
        let last = spliced.with_data(&last, Data::Name(target.as_ref()));
        spliced.section_mut(Section::Answer).pop();
        spliced.section_mut(Section::Answer).push(last);
    }
    for section in Section::ALL {
        spliced.push_all_from(section, Owner::Name(target.as_ref()), found);
    }
    spliced
}
