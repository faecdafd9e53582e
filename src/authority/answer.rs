//! A question to a zone (RFC 1034 §4.3.2; wildcards RFC 4592, DNAME RFC 6672, DNSSEC RFC 4035 §3.1).

use super::{
    key::Key,
    zone::{Place, Set, Zone},
};
use crate::{
    query::Question,
    reply::{Data, Owner, Reply, Section, Why},
    wire::{Name, NameRef, Rcode, Type},
};

pub(super) const NSEC: Type = Type(47);

/// Aliases that are followed within the zone for one question.
const MAX_ALIASES: usize = 8;

/// What the client wants besides the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The DNSSEC records that go with the answer.
    pub dnssec: bool,
    /// For ANY, everything there is at the name; otherwise one set of it (RFC 8482 §4.1).
    pub everything: bool,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // a name is copied, not allocated
pub enum Outcome {
    /// The name is not of this zone; nothing was written.
    Outside,
    /// The reply is complete.
    Answered,
    /// There is nothing at that name: the reply is a complete denial, unless others are asked.
    Denied,
    /// The reply leads to another name, which this zone does not have.
    Alias(Name),
}

impl Zone {
    /// Answers a question into `reply`, which comes empty.
    pub fn answer(&self, question: &Question, want: Want, reply: &mut Reply) -> Outcome {
        let Some(key) = Key::new(question.lower.as_ref(), self.apex()) else {
            return Outcome::Outside;
        };
        reply.authoritative = true;
        reply.why = Why::ZoneRecord;
        let mut answering = Answering {
            zone: self,
            rtype: question.rtype,
            want,
            reply,
        };
        answering.follow(question.name, &key)
    }
}

/// A reply in the making.
pub(super) struct Answering<'a> {
    pub(super) zone: &'a Zone,
    pub(super) rtype: Type,
    pub(super) want: Want,
    pub(super) reply: &'a mut Reply,
}

/// Where one name leads.
enum Step {
    Done(Outcome),
    To(Name),
}

impl Answering<'_> {
    /// Goes from the question's name along its aliases, as long as they stay within the zone.
    fn follow(&mut self, asked: Name, key: &Key) -> Outcome {
        let mut owner = Owner::Question;
        let mut place = self.zone.find(key.as_octets());
        let mut name = asked;
        for _ in 0..=MAX_ALIASES {
            let target = match self.step(&name, owner, &place) {
                // What led there is an answer.
                Step::Done(_) if matches!(owner, Owner::Name(_)) => return Outcome::Answered,
                Step::Done(outcome) => return outcome,
                Step::To(target) => target,
            };
            let lower = target.to_lower();
            let Some(key) = Key::new(lower.as_ref(), self.zone.apex()) else {
                return Outcome::Alias(target);
            };
            if self.is_told(&asked, target.as_ref()) {
                self.authority();
                return Outcome::Answered;
            }
            place = self.zone.find(key.as_octets());
            name = target;
            owner = Owner::Name(name.as_ref());
            // What this zone does not have others may, who are asked in its stead.
            if !self.is_known(&place) {
                return Outcome::Alias(target);
            }
        }
        self.authority();
        Outcome::Answered
    }

    /// Whether there is something to say of a name but that it does not exist.
    fn is_known(&self, place: &Place) -> bool {
        place.exact.is_some()
            || self.zone.cut(place.encloser).is_some()
            || self.wildcard(place).is_some()
    }

    /// Whether a chain of aliases comes back to where it was.
    fn is_told(&self, asked: &Name, target: NameRef<'_>) -> bool {
        let answers = self.reply.section(Section::Answer);
        answers.iter().any(|record| {
            let owner = match self.reply.owner(record) {
                Owner::Question => asked.as_ref(),
                Owner::Name(name) => name,
            };
            record.rtype == Type::CNAME && owner.eq_ignore_case(target)
        })
    }

    fn step(&mut self, name: &Name, owner: Owner<'_>, place: &Place) -> Step {
        if let Some(cut) = self.zone.cut(place.encloser) {
            let is_at = place.exact == Some(cut);
            let ends = cut > 0 && self.zone.set(cut, Type::NS).is_some();
            // DS records at a cut are the upper zone's (RFC 4035 §3.1.4.1).
            if ends && !(is_at && self.rtype == Type::DS) {
                return Step::Done(self.refer(cut));
            }
            if !ends && !is_at {
                return self.redirect(name, owner, cut);
            }
        }
        if let Some(node) = place.exact {
            return self.tell(owner, node, None);
        }
        if let Some(wildcard) = self.wildcard(place) {
            return self.tell(owner, wildcard, Some(place));
        }
        self.deny(place);
        Step::Done(Outcome::Denied)
    }

    /// The node whose records stand for a name that does not exist (RFC 4592 §3.3).
    fn wildcard(&self, place: &Place) -> Option<usize> {
        match place.exact {
            Some(_) => None,
            None => self.zone.child(place.encloser, b"*")?.exact,
        }
    }

    /// Answers from a node: that of the name, or the wildcard's that stands for `missing`.
    fn tell(&mut self, owner: Owner<'_>, node: usize, missing: Option<&Place>) -> Step {
        let zone = self.zone;
        let told = self.reply.section(Section::Answer).len();
        match self.rtype {
            Type::ANY => self.any(owner, node),
            Type::RRSIG => {
                for set in zone.sets(node) {
                    self.signatures(Section::Answer, owner, set);
                }
            }
            rtype => {
                // An alias' own NSEC record stands beside it (RFC 4035 §2.3).
                if !matches!(rtype, Type::CNAME | NSEC)
                    && let Some(set) = zone.set(node, Type::CNAME)
                {
                    self.put(Section::Answer, owner, set);
                    self.prove_missing(missing);
                    let mut targets = zone.data(set.records);
                    let target = targets.next().and_then(|data| Name::from_wire(data).ok());
                    return target.map_or(Step::Done(Outcome::Answered), Step::To);
                }
                if let Some(set) = zone.set(node, rtype) {
                    self.put(Section::Answer, owner, set);
                }
            }
        }
        if self.reply.section(Section::Answer).len() > told {
            self.complete(node);
            self.prove_missing(missing);
        } else {
            self.no_data(node, missing);
            // A name that exists only for those below it may have records elsewhere.
            if missing.is_none() && zone.sets(node).is_empty() {
                return Step::Done(Outcome::Denied);
            }
        }
        Step::Done(Outcome::Answered)
    }

    fn any(&mut self, owner: Owner<'_>, node: usize) {
        let zone = self.zone;
        // Nobody asks ANY for the sake of signatures and denials, unless there is nothing else.
        let is_plain = |set: &&Set| !set.is_empty() && !matches!(set.rtype, NSEC | Type::RRSIG);
        let sets = zone.sets(node);
        if self.want.everything {
            for set in sets.iter().filter(|set| !set.is_empty()) {
                self.put(Section::Answer, owner, set);
            }
        } else if let Some(set) = sets.iter().find(is_plain) {
            self.put(Section::Answer, owner, set);
        }
    }

    /// A referral to the servers of the part of the zone that begins at `cut`.
    fn refer(&mut self, cut: usize) -> Outcome {
        let zone = self.zone;
        let owner = zone.owner(cut);
        // What was found on the way there is ours; the referral is not.
        self.reply.authoritative = !self.reply.section(Section::Answer).is_empty();
        self.reply.why = Why::Delegated;
        if let Some(set) = zone.set(cut, Type::NS) {
            self.records(Section::Authority, Owner::Name(owner), set);
            if self.want.dnssec {
                match zone.set(cut, Type::DS) {
                    Some(keys) => self.put(Section::Authority, Owner::Name(owner), keys),
                    None => self.nsec(cut),
                }
            }
            self.addresses_of(set);
        }
        Outcome::Answered
    }

    /// The name goes on elsewhere: below the target of the DNAME at `cut` (RFC 6672 §3).
    fn redirect(&mut self, name: &Name, owner: Owner<'_>, cut: usize) -> Step {
        let zone = self.zone;
        let Some(set) = zone.set(cut, Type::DNAME) else {
            return Step::Done(Outcome::Answered);
        };
        let above = zone.owner(cut);
        self.put(Section::Answer, Owner::Name(above), set);
        let target = zone.data(set.records).next();
        let target = target.and_then(|data| NameRef::from_wire(data).ok());
        let labels = name.as_ref().strip(above);
        let (Some(target), Some(labels)) = (target, labels) else {
            return Step::Done(Outcome::Answered);
        };
        let Ok(target) = Name::from_labels(labels, target) else {
            self.reply.rcode = Rcode::YXDOMAIN;
            return Step::Done(Outcome::Answered);
        };
        let data = Data::Name(target.as_ref());
        self.reply
            .push(Section::Answer, owner, Type::CNAME, set.ttl, data);
        if self.rtype == Type::CNAME {
            self.authority();
            return Step::Done(Outcome::Answered);
        }
        Step::To(target)
    }

    /// Adds a set, and its signatures for those who check them.
    pub(super) fn put(&mut self, section: Section, owner: Owner<'_>, set: &Set) {
        self.records(section, owner, set);
        if self.want.dnssec {
            self.signatures(section, owner, set);
        }
    }

    pub(super) fn records(&mut self, section: Section, owner: Owner<'_>, set: &Set) {
        for data in self.zone.data(set.records) {
            let data = Data::Raw(data);
            self.reply.push(section, owner, set.rtype, set.ttl, data);
        }
    }

    pub(super) fn signatures(&mut self, section: Section, owner: Owner<'_>, set: &Set) {
        for data in self.zone.data(set.signatures) {
            let data = Data::Raw(data);
            let ttl = set.signature_ttl;
            self.reply.push(section, owner, Type::RRSIG, ttl, data);
        }
    }
}

#[cfg(test)]
mod tests;
