//! ExternalName Services (DNS specification section 2.5): a CNAME record, followed by the records
//! of its target if that is in the cluster's zones.

use std::net::IpAddr;

use super::{AnswerBuilder, ClusterLookup, LookupResult, name::SplitName};
use crate::{
    cluster::Service,
    reply::{Data, Owner, Section, Why},
    wire::{Name, NameRef, Type},
};

/// Maximum number of CNAME records in an answer.
const MAX_ALIASES: usize = 11;

impl AnswerBuilder<'_> {
    /// Adds the CNAME record for a query of type CNAME, A or AAAA, and follows it. Returns the
    /// target's name if it has to be resolved outside the zones.
    ///
    /// The CNAME record is added even if its target cannot be resolved. If the target is in the
    /// zones but has no data of the type, their SOA record is added (RFC 2308 section 2.2). If the
    /// target does not exist in the zones, it is resolved outside: the next plugin may know it. An
    /// IP address as target is answered with an A or AAAA record.
    pub(super) fn alias(&mut self, service: &Service) -> LookupResult {
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
        let equals_target = |name: NameRef<'_>| name.eq_ignore_case(target.as_ref());
        let is_loop = equals_target(self.qname) || self.aliases().any(equals_target);
        let (data, ttl) = (Data::Name(target.as_ref()), self.view.rules.ttl);
        self.reply
            .push(Section::Answer, self.owner, Type::CNAME, ttl, data);
        let is_end = is_loop || self.aliases().count() == MAX_ALIASES;
        if self.rtype == Type::CNAME {
            return Ok(None);
        }
        if is_end {
            self.reply.why = Why::EndlessAlias;
            return Ok(None);
        }
        self.follow(&target)
    }

    fn follow(&mut self, target: &Name) -> LookupResult {
        let lower = target.to_lower();
        let labels = SplitName::new(target, &lower);
        let Some(matched) = self.view.zones.find(&labels) else {
            return Ok(Some(Box::new(*target)));
        };
        let length = self.reply.section(Section::Answer).len();
        let found = AnswerBuilder {
            view: self.view,
            rtype: self.rtype,
            zone: matched.suffix(),
            owner: Owner::Name(target.as_ref()),
            qname: self.qname,
            budget: self.budget,
            reply: &mut *self.reply,
        }
        .add_records(matched.kind());
        match found {
            // An unlisted kind may contain the target: a partial answer would deny it.
            Err(why) if !self.view.can_deny(why) => Err(why),
            Err(_) => Ok(Some(Box::new(*target))),
            Ok(None) if self.reply.section(Section::Answer).len() == length => {
                self.view.put_soa(matched.suffix(), self.reply);
                Ok(None)
            }
            found => found,
        }
    }

    /// The targets of the CNAME records added so far.
    fn aliases(&self) -> impl Iterator<Item = NameRef<'_>> {
        let records = self.reply.section(Section::Answer).iter();
        records.filter_map(|record| self.reply.data_name(record))
    }
}
