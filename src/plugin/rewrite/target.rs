//! A reply whose alias is led elsewhere: the new target is asked for, and takes the place of what
//! stood behind the old one.

use super::names::{self, Pattern, Replacement, Subject};
use crate::{
    plugin::{Context, Pending, Resolved},
    query::{Query, Question},
    reply::{Data, Owner, Reply, Section},
    wire::{Name, Rcode, Type},
};

/// Leads aliases elsewhere.
#[derive(Clone, Debug)]
pub struct TargetRule {
    /// Those with these targets.
    pub targets: Pattern,
    /// Lead here.
    pub to: Replacement,
}

impl TargetRule {
    fn apply(&self, target: Name) -> Option<Name> {
        let text = self.targets.replace(&mut Subject::new(target), &self.to)?;
        let name = names::read(&text).ok()?;
        (name != target).then_some(name)
    }
}

/// Follows the first alias of the answer that one of `rules` leads elsewhere, if any.
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
        let led = rules.iter().find_map(|rule| rule.apply(target))?;
        Some((at, led))
    })?;
    let asked = &query.question;
    let again = context.again(query, Question::new(target, asked.rtype, asked.class));
    let reply = std::mem::take(reply);
    Some(Box::pin(async move {
        Resolved::Answer(lead(&reply, at, &target, &again.await))
    }))
}

/// The aliases of `reply` up to the one at `at`, which leads to `target` now, and what was `found`
/// there.
fn lead(reply: &Reply, at: usize, target: &Name, found: &Reply) -> Reply {
    let mut led = Reply::failure(found.rcode, reply.why);
    led.authoritative = reply.authoritative;
    led.recursion_available = reply.recursion_available;
    led.truncated = found.truncated;
    led.answered_by = reply.answered_by;
    led.options.copy_from(&reply.options);
    if !matches!(found.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) {
        led.why = found.why;
        led.cause.clone_from(&found.cause);
        led.extended_error.clone_from(&found.extended_error);
    }
    let before = &reply.section(Section::Answer)[..=at];
    for record in before.iter().filter(|record| record.rtype == Type::CNAME) {
        led.push_from(Section::Answer, Owner::Question, reply, record);
    }
    if let Some(last) = led.section(Section::Answer).last().copied() {
        let last = led.with_data(&last, Data::Name(target.as_ref()));
        led.section_mut(Section::Answer).pop();
        led.section_mut(Section::Answer).push(last);
    }
    for section in Section::ALL {
        led.push_all_from(section, Owner::Name(target.as_ref()), found);
    }
    led
}
