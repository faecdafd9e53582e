//! ExternalName Services: an alias, and what it leads to.

use std::net::IpAddr;

use super::{Answer, Answers, Known, name::Labels};
use crate::{
    cluster::Service,
    reply::{Data, Owner, Section},
    wire::{Name, NameRef, Type},
};

/// How many aliases one answer has at most.
const MAX_ALIASES: usize = 11;

impl Answer<'_> {
    /// The alias, where it or an address is asked for; and behind it what it leads to within the
    /// zones, or the name that it leads to outside of them.
    ///
    /// The alias is part of the answer even where it leads nowhere. Where it ends at a name of the
    /// zones without data of the type, their SOA record denies it (RFC 2308 section 2.2); a name that
    /// they deny is resolved outside of them, where the next plugin may know it. A target that is
    /// written as an address is answered as that address, as it is meant: no name is made of four numbers.
    pub(super) fn alias(&mut self, service: &Service) -> Known {
        let text = service.external_name.as_deref().unwrap_or_default();
        if let Ok(address) = text.parse::<IpAddr>() {
            self.address(address);
            return Ok(None);
        }
        if !matches!(self.rtype, Type::A | Type::AAAA | Type::CNAME) {
            return Ok(None);
        }
        let Ok(target) = Name::parse(text) else {
            return Ok(None);
        };
        if target.as_ref().is_root() {
            return Ok(None);
        }
        let met = |name: NameRef<'_>| name.eq_ignore_case(target.as_ref());
        let is_loop = met(self.asked) || self.aliases().any(met);
        let (data, ttl) = (Data::Name(target.as_ref()), self.view.rules.ttl);
        self.reply
            .push(Section::Answer, self.owner, Type::CNAME, ttl, data);
        let is_end = is_loop || self.aliases().count() == MAX_ALIASES;
        if is_end || self.rtype == Type::CNAME {
            return Ok(None);
        }
        self.follow(&target)
    }

    fn follow(&mut self, target: &Name) -> Known {
        let lower = target.to_lower();
        let labels = Labels::new(target, &lower);
        let Some(place) = self.view.zones.find(&labels) else {
            return Ok(Some(Box::new(*target)));
        };
        let length = self.reply.section(Section::Answer).len();
        let found = Answer {
            view: self.view,
            rtype: self.rtype,
            zone: place.suffix(),
            owner: Owner::Name(target.as_ref()),
            asked: self.asked,
            room: self.room,
            reply: &mut *self.reply,
        }
        .form(place.form());
        match found {
            // What is not known yet may exist: half an answer would deny it.
            Err(why) if !self.view.knows(why) => Err(why),
            Err(_) => Ok(Some(Box::new(*target))),
            Ok(None) if self.reply.section(Section::Answer).len() == length => {
                self.view.put_soa(place.suffix(), self.reply);
                Ok(None)
            }
            found => found,
        }
    }

    /// The names that the aliases told so far lead to.
    fn aliases(&self) -> impl Iterator<Item = NameRef<'_>> {
        let records = self.reply.section(Section::Answer).iter();
        records.filter_map(|record| self.reply.data_name(record))
    }
}
