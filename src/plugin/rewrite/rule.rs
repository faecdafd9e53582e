//! What a rule does to a question, and to the reply.

use std::ops::RangeInclusive;

use super::{
    names::{self, Change, Pattern, Remap, Replacement, Subject},
    option::{OptionRule, Outcome, Revert},
    target::TargetRule,
};
use crate::{
    query::{Query, Question},
    reply::{Data, Owner, Record, Reply, Section},
    wire::{Class, Name, NameRef, Rcode, Type},
};

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whether no further rule is tried where this one applies.
    pub stops: bool,
    /// What it does.
    pub action: Action,
}

/// What a rule does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Asks for another name.
    Name(NameRule),
    /// Asks in another class.
    Class {
        /// Questions in this one.
        from: Class,
        /// Are asked in this one.
        to: Class,
    },
    /// Asks for another type.
    Type {
        /// Questions for this one.
        from: Type,
        /// Are asked for this one.
        to: Type,
    },
    /// Brings the TTLs of the reply into a range.
    Ttl {
        /// For questions with these names.
        names: Pattern,
        /// Seconds.
        range: RangeInclusive<u32>,
    },
    /// Gives another code.
    Rcode {
        /// For questions with these names.
        names: Pattern,
        /// Instead of this one.
        from: Rcode,
        /// This one.
        to: Rcode,
    },
    /// Leads an alias elsewhere.
    Cname(TargetRule),
    /// Changes the query's EDNS options.
    Option(OptionRule),
}

/// Asking for another name.
#[derive(Clone, Debug)]
pub struct NameRule {
    /// Questions with these names.
    pub names: Pattern,
    /// Are asked with this one.
    pub to: Replacement,
    /// Names in the reply that lie under the name that was looked up become names under the one
    /// that was asked for.
    pub restores: bool,
    /// How other owners of records change.
    pub owners: Vec<Change>,
    /// How names in records' data change.
    pub values: Vec<Change>,
}

/// What became of a question at a rule.
pub enum Ruling {
    /// The rule is for others.
    Ignored,
    /// It was applied; something may be left to do with the reply.
    Applied(Option<Applied>),
    /// It was to be asked with this name, which is none.
    NoName(String),
}

/// That a rule was applied, and what it must know of it afterwards.
#[derive(Debug)]
pub struct Applied {
    /// Which one.
    pub rule: usize,
    note: Note,
}

#[derive(Debug)]
enum Note {
    Nothing,
    /// How names that lie under the new one are restored.
    Restores(Change),
    Option(Revert),
}

impl Rule {
    /// Applies the rule, which is the `at`th, to a question. `subject` is the question's name.
    pub fn ask(
        &self,
        at: usize,
        query: &mut Query,
        subject: &mut Subject,
        metadata: &dyn Fn(&Query, &str) -> Option<String>,
    ) -> Ruling {
        let applied = |note| Ruling::Applied(Some(Applied { rule: at, note }));
        let question = query.question;
        match &self.action {
            Action::Name(rule) => {
                let known = |label: &str| metadata(query, label);
                let Some(text) = rule.names.replace_knowing(subject, &rule.to, &known) else {
                    return Ruling::Ignored;
                };
                let Ok(name) = names::read(&text) else {
                    return Ruling::NoName(text);
                };
                query.question = Question::new(name, question.rtype, question.class);
                *subject = Subject::new(query.question.lower);
                if !rule.restores {
                    return applied(Note::Nothing);
                }
                applied(Note::Restores(Change::Remap(Box::new(Remap {
                    from: query.question.lower,
                    to: question.lower,
                }))))
            }
            Action::Class { from, to } if question.class == *from => {
                query.question.class = *to;
                applied(Note::Nothing)
            }
            Action::Type { from, to } if question.rtype == *from => {
                query.question.rtype = *to;
                Ruling::Applied(None)
            }
            Action::Ttl { names, .. } | Action::Rcode { names, .. } if names.matches(subject) => {
                applied(Note::Nothing)
            }
            Action::Cname(_) => applied(Note::Nothing),
            Action::Option(rule) => match rule.ask(query, metadata) {
                Outcome::Ignored => Ruling::Ignored,
                Outcome::Done => Ruling::Applied(None),
                Outcome::Reverts(revert) => applied(Note::Option(revert)),
            },
            _ => Ruling::Ignored,
        }
    }

    /// Does to the reply what is left to do.
    pub fn amend(&self, applied: &Applied, reply: &mut Reply) {
        match (&self.action, &applied.note) {
            (Action::Name(rule), note) => {
                let restored = match note {
                    Note::Restores(change) => std::slice::from_ref(change),
                    _ => &[],
                };
                rename(reply, [restored, &rule.owners], |reply, record| {
                    let Owner::Name(owner) = reply.owner(record) else {
                        return None;
                    };
                    Some((owner.to_name(), Place::Owner))
                });
                rename(reply, [restored, &rule.values], |reply, record| {
                    let (name, before) = name_in(record.rtype, reply.data(record))?;
                    Some((name.to_name(), Place::Data { before }))
                });
            }
            (Action::Class { from, to }, _) => {
                let theirs = reply.records_mut().filter(|record| record.class == *to);
                theirs.for_each(|record| record.class = *from);
            }
            (Action::Ttl { range, .. }, _) => {
                for record in reply.records_mut() {
                    record.ttl = record.ttl.clamp(*range.start(), *range.end());
                }
            }
            (Action::Rcode { from, to, .. }, _) if reply.rcode == *from => reply.rcode = *to,
            (Action::Option(rule), Note::Option(revert)) => rule.amend(revert, reply),
            _ => {}
        }
    }

    /// What it does to aliases.
    pub fn target(&self) -> Option<&TargetRule> {
        match &self.action {
            Action::Cname(rule) => Some(rule),
            _ => None,
        }
    }

    /// Whether questions of other classes than IN mean something to it.
    pub fn changes_class(&self) -> bool {
        matches!(self.action, Action::Class { .. })
    }
}

/// Where in a record a name stands.
enum Place {
    Owner,
    Data { before: usize },
}

/// Applies changes to the name of each record that `pick` picks, all of them to each, the last one
/// first.
fn rename(
    reply: &mut Reply,
    changes: [&[Change]; 2],
    pick: impl Fn(&Reply, &Record) -> Option<(Name, Place)>,
) {
    let changes = || changes.into_iter().flatten().rev();
    if changes().next().is_none() {
        return;
    }
    for section in Section::ALL {
        for at in 0..reply.section(section).len() {
            let record = reply.section(section)[at];
            let Some((name, place)) = pick(reply, &record) else {
                continue;
            };
            let lower = name.to_lower();
            let mut changed = lower;
            for change in changes() {
                if let Some(next) = change.apply(&mut Subject::new(changed)) {
                    changed = next;
                }
            }
            // A name that did not change keeps its spelling.
            if changed == lower {
                continue;
            }
            let record = match place {
                Place::Owner => reply.with_owner(&record, changed.as_ref()),
                Place::Data { before } => {
                    let data = reply.data(&record);
                    let behind = before + name.as_wire().len();
                    let parts = [&data[..before], changed.as_wire(), &data[behind..]];
                    let data = parts.concat();
                    reply.with_data(&record, Data::Raw(&data))
                }
            };
            reply.section_mut(section)[at] = record;
        }
    }
}

/// The name in a record's data that rules can change, and how many octets stand before it.
fn name_in(rtype: Type, data: &[u8]) -> Option<(NameRef<'_>, usize)> {
    let before = match rtype {
        Type::CNAME | Type::NS | Type::PTR | Type::DNAME | Type::SOA => 0,
        Type::MX => 2,
        Type::SRV => 6,
        NAPTR => {
            // Order, preference, and three character strings (RFC 3403 §4.1).
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
