//! Applies rules to queries, and reverts them in replies.

use std::ops::RangeInclusive;

use super::{
    names::{self, NameChange, Pattern, Remap, Replacement, Subject},
    option::{OptionOutcome, OptionRule, Revert},
    target::TargetRule,
};
use crate::{
    query::{Query, Question},
    reply::{Data, Owner, Record, Reply, Section},
    wire::{Class, Name, NameRef, Rcode, Type},
};

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whether no further rule is tried once this one applies.
    pub stops: bool,
    /// The action.
    pub action: RuleAction,
}

/// The action of a rule.
#[derive(Clone, Debug)]
pub enum RuleAction {
    /// Rewrites the name.
    Name(NameRule),
    /// Rewrites the class.
    Class {
        /// The class that is replaced.
        from: Class,
        /// The replacement.
        to: Class,
    },
    /// Rewrites the type.
    Type {
        /// The type that is replaced.
        from: Type,
        /// The replacement.
        to: Type,
    },
    /// Clamps the TTLs of the reply to a range.
    Ttl {
        /// Names of the questions.
        names: Pattern,
        /// The range, in seconds.
        range: RangeInclusive<u32>,
    },
    /// Replaces the response code.
    Rcode {
        /// Names of the questions.
        names: Pattern,
        /// The code that is replaced.
        from: Rcode,
        /// The replacement.
        to: Rcode,
    },
    /// Replaces the target of a CNAME record.
    Cname(TargetRule),
    /// Changes the query's EDNS options.
    Option(OptionRule),
}

/// A rule that rewrites names.
#[derive(Clone, Debug)]
pub struct NameRule {
    /// Names of the questions.
    pub names: Pattern,
    /// The replacement.
    pub to: Replacement,
    /// Whether names in the reply under the rewritten name are moved under the original one.
    pub restores: bool,
    /// Changes of other owner names.
    pub owners: Vec<NameChange>,
    /// Changes of names in record data.
    pub values: Vec<NameChange>,
}

/// The outcome of a rule for a query.
pub enum RuleOutcome {
    /// The rule does not apply.
    Ignored,
    /// The rule was applied, and may have to be reverted in the reply.
    Applied(Option<Applied>),
    /// The rewritten name is invalid; this is its text.
    NoName(String),
}

/// An applied rule, with the state needed for the reply.
#[derive(Debug)]
pub struct Applied {
    /// Index of the rule.
    pub rule: usize,
    revertible: Revertible,
}

#[derive(Debug)]
enum Revertible {
    Nothing,
    /// Restores names under the rewritten one.
    Restores(NameChange),
    Option(Revert),
}

impl Rule {
    /// Applies the rule with index `at` to a query. `subject` is its current name.
    pub fn apply(
        &self,
        at: usize,
        query: &mut Query,
        subject: &mut Subject,
        metadata: &dyn Fn(&Query, &str) -> Option<String>,
    ) -> RuleOutcome {
        let applied = |revertible| {
            RuleOutcome::Applied(Some(Applied {
                rule: at,
                revertible,
            }))
        };
        let question = query.question;
        match &self.action {
            RuleAction::Name(rule) => {
                let known = |label: &str| metadata(query, label);
                let Some(text) = rule.names.replace_with_metadata(subject, &rule.to, &known) else {
                    return RuleOutcome::Ignored;
                };
                let Ok(name) = names::read(&text) else {
                    return RuleOutcome::NoName(text);
                };
                query.question = Question::new(name, question.rtype, question.class);
                *subject = Subject::new(query.question.lower);
                if !rule.restores {
                    return applied(Revertible::Nothing);
                }
                applied(Revertible::Restores(NameChange::Remap(Box::new(Remap {
                    from: query.question.lower,
                    to: question.lower,
                }))))
            }
            RuleAction::Class { from, to } if question.class == *from => {
                query.question.class = *to;
                applied(Revertible::Nothing)
            }
            RuleAction::Type { from, to } if question.rtype == *from => {
                query.question.rtype = *to;
                RuleOutcome::Applied(None)
            }
            RuleAction::Ttl { names, .. } | RuleAction::Rcode { names, .. }
                if names.matches(subject) =>
            {
                applied(Revertible::Nothing)
            }
            RuleAction::Cname(_) => applied(Revertible::Nothing),
            RuleAction::Option(rule) => match rule.apply(query, metadata) {
                OptionOutcome::Ignored => RuleOutcome::Ignored,
                OptionOutcome::Done => RuleOutcome::Applied(None),
                OptionOutcome::Reverts(revert) => applied(Revertible::Option(revert)),
            },
            _ => RuleOutcome::Ignored,
        }
    }

    /// Applies the rule to the reply.
    pub fn on_response(&self, applied: &Applied, reply: &mut Reply) {
        match (&self.action, &applied.revertible) {
            (RuleAction::Name(rule), revertible) => {
                let restored = match revertible {
                    Revertible::Restores(change) => std::slice::from_ref(change),
                    _ => &[],
                };
                rename(reply, [restored, &rule.owners], |reply, record| {
                    let Owner::Name(owner) = reply.owner(record) else {
                        return None;
                    };
                    Some((owner.to_name(), NamePosition::Owner))
                });
                rename(reply, [restored, &rule.values], |reply, record| {
                    let (name, before) = name_in(record.rtype, reply.data(record))?;
                    Some((name.to_name(), NamePosition::Data { before }))
                });
            }
            (RuleAction::Class { from, to }, _) => {
                let theirs = reply.records_mut().filter(|record| record.class == *to);
                theirs.for_each(|record| record.class = *from);
            }
            (RuleAction::Ttl { range, .. }, _) => {
                for record in reply.records_mut() {
                    record.ttl = record.ttl.clamp(*range.start(), *range.end());
                }
            }
            (RuleAction::Rcode { from, to, .. }, _) if reply.rcode == *from => reply.rcode = *to,
            (RuleAction::Option(rule), Revertible::Option(revert)) => rule.revert(revert, reply),
            _ => {}
        }
    }

    /// Its rule for CNAME targets, if it is one.
    pub fn target(&self) -> Option<&TargetRule> {
        match &self.action {
            RuleAction::Cname(rule) => Some(rule),
            _ => None,
        }
    }

    /// Whether it applies to classes other than IN.
    pub fn changes_class(&self) -> bool {
        matches!(self.action, RuleAction::Class { .. })
    }
}

/// Position of a name in a record.
enum NamePosition {
    Owner,
    Data { before: usize },
}

/// Applies all changes, the last one first, to the name that `pick` returns for each record.
fn rename(
    reply: &mut Reply,
    changes: [&[NameChange]; 2],
    pick: impl Fn(&Reply, &Record) -> Option<(Name, NamePosition)>,
) {
    let changes = || changes.into_iter().flatten().rev();
    if changes().next().is_none() {
        return;
    }
    for section in Section::ALL {
        for at in 0..reply.section(section).len() {
            let record = reply.section(section)[at];
            let Some((name, position)) = pick(reply, &record) else {
                continue;
            };
            let lower = name.to_lower();
            let mut changed = lower;
            for change in changes() {
                if let Some(next) = change.apply(&mut Subject::new(changed)) {
                    changed = next;
                }
            }
            // An unchanged name keeps its case.
            if changed == lower {
                continue;
            }
            let record = match position {
                NamePosition::Owner => reply.with_owner(&record, changed.as_ref()),
                NamePosition::Data { before } => {
                    let data = reply.data(&record);
                    let end = before + name.as_wire().len();
                    let parts = [&data[..before], changed.as_wire(), &data[end..]];
                    let data = parts.concat();
                    reply.with_data(&record, Data::Raw(&data))
                }
            };
            reply.section_mut(section)[at] = record;
        }
    }
}

/// The name in a record's data that rules can change, and its offset in bytes.
fn name_in(rtype: Type, data: &[u8]) -> Option<(NameRef<'_>, usize)> {
    let before = match rtype {
        Type::CNAME | Type::NS | Type::PTR | Type::DNAME | Type::SOA => 0,
        Type::MX => 2,
        Type::SRV => 6,
        NAPTR => {
            // Order, preference, and three character strings (RFC 3403 section 4.1).
            let mut at = 4;
            for _ in 0..3 {
                at += 1 + usize::from(*data.get(at)?);
            }
            at
        }
        _ => return None,
    };
    let name = NameRef::from_wire(data.get(before..)?).ok()?;
    Some((name, before))
}

const NAPTR: Type = Type(35);
