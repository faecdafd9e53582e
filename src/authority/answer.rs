//! Answers from a zone (RFC 1034 section 4.3.2; wildcards RFC 4592, DNAME RFC 6672, DNSSEC RFC 4035
//! section 3.1).

use super::{
    key::SortKey,
    zone::{NodeMatch, RecordSet, Zone},
};
use crate::{
    query::Question,
    reply::{Data, Owner, Reply, Section, Why},
    wire::{Name, NameRef, Rcode, Type},
};

pub(super) const NSEC: Type = Type(47);

/// Maximum number of CNAME and DNAME records followed within the zone per query.
const MAX_ALIASES: usize = 8;

/// Options of a query that affect the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerOptions {
    /// Include DNSSEC records (the DO flag, RFC 3225).
    pub dnssec: bool,
    /// For type ANY, include all record sets; otherwise only one (RFC 8482 section 4.1).
    pub everything: bool,
}

/// The outcome of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // a name is copied, not allocated
pub enum Outcome {
    /// The name is not in this zone; the reply is unchanged.
    Outside,
    /// The reply is complete.
    Answered,
    /// The name does not exist, or is an empty non-terminal: the reply is a complete denial, unless
    /// the caller passes the query on.
    Denied,
    /// The reply ends with a CNAME record to a name that is not in this zone.
    Alias(Name),
}

impl Zone {
    /// Answers a query into the empty `reply`.
    pub fn answer(
        &self,
        question: &Question,
        options: AnswerOptions,
        reply: &mut Reply,
    ) -> Outcome {
        let Some(key) = SortKey::new(question.lower.as_ref(), self.apex()) else {
            return Outcome::Outside;
        };
        reply.authoritative = true;
        reply.why = Why::ZoneRecord;
        let mut answer = ZoneAnswer {
            zone: self,
            rtype: question.rtype,
            options,
            reply,
        };
        answer.follow(question.name, &key)
    }
}

/// An answer under construction.
pub(super) struct ZoneAnswer<'a> {
    pub(super) zone: &'a Zone,
    pub(super) rtype: Type,
    pub(super) options: AnswerOptions,
    pub(super) reply: &'a mut Reply,
}

/// The result of looking up one name of a CNAME chain.
enum NextStep {
    Done(Outcome),
    Follow(Name),
}

impl ZoneAnswer<'_> {
    /// Follows the CNAME chain from the queried name, as far as it is within the zone.
    fn follow(&mut self, asked: Name, key: &SortKey) -> Outcome {
        let mut owner = Owner::Question;
        let mut matched = self.zone.find(key.as_bytes());
        let mut name = asked;
        for _ in 0..=MAX_ALIASES {
            let target = match self.step(&name, owner, &matched) {
                // The CNAME records on the way are an answer.
                NextStep::Done(_) if matches!(owner, Owner::Name(_)) => return Outcome::Answered,
                NextStep::Done(outcome) => return outcome,
                NextStep::Follow(target) => target,
            };
            let lower = target.to_lower();
            let Some(key) = SortKey::new(lower.as_ref(), self.zone.apex()) else {
                return Outcome::Alias(target);
            };
            if self.is_loop(&asked, target.as_ref()) {
                self.authority();
                return Outcome::Answered;
            }
            matched = self.zone.find(key.as_bytes());
            name = target;
            owner = Owner::Name(name.as_ref());
            // Names without data here are resolved by other plugins.
            if !self.has_data(&matched) {
                return Outcome::Alias(target);
            }
        }
        self.authority();
        Outcome::Answered
    }

    /// Whether the zone has records for a name, by itself, a wildcard or a delegation.
    fn has_data(&self, matched: &NodeMatch) -> bool {
        matched.exact.is_some()
            || self.zone.cut(matched.encloser).is_some()
            || self.wildcard(matched).is_some()
    }

    /// Whether a CNAME chain loops back to `target`.
    fn is_loop(&self, asked: &Name, target: NameRef<'_>) -> bool {
        let answers = self.reply.section(Section::Answer);
        answers.iter().any(|record| {
            let owner = match self.reply.owner(record) {
                Owner::Question => asked.as_ref(),
                Owner::Name(name) => name,
            };
            record.rtype == Type::CNAME && owner.eq_ignore_case(target)
        })
    }

    fn step(&mut self, name: &Name, owner: Owner<'_>, matched: &NodeMatch) -> NextStep {
        if let Some(cut) = self.zone.cut(matched.encloser) {
            let is_at = matched.exact == Some(cut);
            let ends = cut > 0 && self.zone.set(cut, Type::NS).is_some();
            // DS records at a zone cut belong to the parent zone (RFC 4035 section 3.1.4.1).
            if ends && !(is_at && self.rtype == Type::DS) {
                return NextStep::Done(self.refer(cut));
            }
            if !ends && !is_at {
                return self.redirect(name, owner, cut);
            }
        }
        if let Some(node) = matched.exact {
            return self.answer_from(owner, node, None);
        }
        if let Some(wildcard) = self.wildcard(matched) {
            return self.answer_from(owner, wildcard, Some(matched));
        }
        self.deny(matched);
        NextStep::Done(Outcome::Denied)
    }

    /// The wildcard node that matches a nonexistent name (RFC 4592 section 3.3).
    fn wildcard(&self, matched: &NodeMatch) -> Option<usize> {
        match matched.exact {
            Some(_) => None,
            None => self.zone.child(matched.encloser, b"*")?.exact,
        }
    }

    /// Answers from a node: the name's own, or a wildcard that matches the nonexistent name
    /// `missing`.
    fn answer_from(
        &mut self,
        owner: Owner<'_>,
        node: usize,
        missing: Option<&NodeMatch>,
    ) -> NextStep {
        let zone = self.zone;
        let before = self.reply.section(Section::Answer).len();
        match self.rtype {
            Type::ANY => self.any(owner, node),
            Type::RRSIG => {
                for set in zone.sets(node) {
                    self.signatures(Section::Answer, owner, set);
                }
            }
            rtype => {
                // An NSEC record may coexist with a CNAME record (RFC 4035 section 2.5).
                if !matches!(rtype, Type::CNAME | NSEC)
                    && let Some(set) = zone.set(node, Type::CNAME)
                {
                    self.put(Section::Answer, owner, set);
                    self.prove_missing(missing);
                    let mut targets = zone.data(set.records);
                    let target = targets.next().and_then(|data| Name::from_wire(data).ok());
                    return target.map_or(NextStep::Done(Outcome::Answered), NextStep::Follow);
                }
                if let Some(set) = zone.set(node, rtype) {
                    self.put(Section::Answer, owner, set);
                }
            }
        }
        if self.reply.section(Section::Answer).len() > before {
            self.complete(node);
            self.prove_missing(missing);
        } else {
            self.no_data(node, missing);
            // An empty non-terminal may have records in other plugins.
            if missing.is_none() && zone.sets(node).is_empty() {
                return NextStep::Done(Outcome::Denied);
            }
        }
        NextStep::Done(Outcome::Answered)
    }

    fn any(&mut self, owner: Owner<'_>, node: usize) {
        let zone = self.zone;
        // NSEC and RRSIG records are not chosen for ANY unless there are no others.
        let is_plain =
            |set: &&RecordSet| !set.is_empty() && !matches!(set.rtype, NSEC | Type::RRSIG);
        let sets = zone.sets(node);
        if self.options.everything {
            for set in sets.iter().filter(|set| !set.is_empty()) {
                self.put(Section::Answer, owner, set);
            }
        } else if let Some(set) = sets.iter().find(is_plain) {
            self.put(Section::Answer, owner, set);
        }
    }

    /// Adds a referral to the child zone at `cut`.
    fn refer(&mut self, cut: usize) -> Outcome {
        let zone = self.zone;
        let owner = zone.owner(cut);
        // CNAME records on the way are authoritative; the referral is not.
        self.reply.authoritative = !self.reply.section(Section::Answer).is_empty();
        self.reply.why = Why::Delegated;
        if let Some(set) = zone.set(cut, Type::NS) {
            self.records(Section::Authority, Owner::Name(owner), set);
            if self.options.dnssec {
                match zone.set(cut, Type::DS) {
                    Some(keys) => self.put(Section::Authority, Owner::Name(owner), keys),
                    None => self.nsec(cut),
                }
            }
            self.addresses_of(set);
        }
        Outcome::Answered
    }

    /// Substitutes a name by the DNAME record at `cut` (RFC 6672 section 3).
    fn redirect(&mut self, name: &Name, owner: Owner<'_>, cut: usize) -> NextStep {
        let zone = self.zone;
        let Some(set) = zone.set(cut, Type::DNAME) else {
            return NextStep::Done(Outcome::Answered);
        };
        let above = zone.owner(cut);
        self.put(Section::Answer, Owner::Name(above), set);
        let target = zone.data(set.records).next();
        let target = target.and_then(|data| NameRef::from_wire(data).ok());
        let labels = name.as_ref().strip(above);
        let (Some(target), Some(labels)) = (target, labels) else {
            return NextStep::Done(Outcome::Answered);
        };
        let Ok(target) = Name::from_labels(labels, target) else {
            self.reply.rcode = Rcode::YXDOMAIN;
            return NextStep::Done(Outcome::Answered);
        };
        let data = Data::Name(target.as_ref());
        self.reply
            .push(Section::Answer, owner, Type::CNAME, set.ttl, data);
        if self.rtype == Type::CNAME {
            self.authority();
            return NextStep::Done(Outcome::Answered);
        }
        NextStep::Follow(target)
    }

    /// Adds a record set, with its signatures for DNSSEC clients.
    pub(super) fn put(&mut self, section: Section, owner: Owner<'_>, set: &RecordSet) {
        self.records(section, owner, set);
        if self.options.dnssec {
            self.signatures(section, owner, set);
        }
    }

    pub(super) fn records(&mut self, section: Section, owner: Owner<'_>, set: &RecordSet) {
        for data in self.zone.data(set.records) {
            let data = Data::Raw(data);
            self.reply.push(section, owner, set.rtype, set.ttl, data);
        }
    }

    pub(super) fn signatures(&mut self, section: Section, owner: Owner<'_>, set: &RecordSet) {
        for data in self.zone.data(set.signatures) {
            let data = Data::Raw(data);
            let ttl = set.signature_ttl;
            self.reply.push(section, owner, Type::RRSIG, ttl, data);
        }
    }
}

#[cfg(test)]
mod tests;
