//! The kind of a reply, and the class that the property `class` selects.

use std::fmt;

use crate::{
    query::Query,
    reply::{Reply, Section},
    wire::{Opcode, Rcode, Type},
};

/// The kind of a reply, as in CoreDNS; `Display` writes the value of `log/type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// NOERROR.
    NoError,
    /// NXDOMAIN.
    NameError,
    /// SERVFAIL or NOTIMP.
    ServerError,
    /// NOERROR without an answer and with an SOA record (RFC 2308 section 2.2).
    NoData,
    /// NOERROR without an answer and with NS records.
    Delegation,
    /// A zone transfer, or another opcode than QUERY.
    Meta,
    /// Every other code, and dropped queries.
    OtherError,
}

/// The class of a reply; `Display` writes the value of `log/class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An answer or a referral.
    Success = 1,
    /// NXDOMAIN or NODATA.
    Denial = 2,
    /// All others.
    Error = 4,
}

impl ReplyKind {
    /// The kind of a reply, by its records and its code.
    pub fn of(query: &Query, reply: &Reply) -> Self {
        let transfer = matches!(query.original.rtype, Type::AXFR | Type::IXFR);
        if query.opcode != Opcode::QUERY || transfer {
            return Self::Meta;
        }
        match reply.rcode {
            Rcode::NOERROR if reply.answers(query.original.rtype) => Self::NoError,
            Rcode::NOERROR if reply.has_authority(Type::SOA) => Self::NoData,
            Rcode::NOERROR if is_referral(reply) => Self::Delegation,
            Rcode::NOERROR => Self::NoError,
            Rcode::NXDOMAIN => Self::NameError,
            Rcode::SERVFAIL | Rcode::NOTIMP => Self::ServerError,
            _ => Self::OtherError,
        }
    }

    /// Its class.
    pub fn class(self) -> Class {
        match self {
            Self::NoError | Self::Delegation => Class::Success,
            Self::NameError | Self::NoData => Class::Denial,
            Self::ServerError | Self::Meta | Self::OtherError => Class::Error,
        }
    }
}

fn is_referral(reply: &Reply) -> bool {
    reply.section(Section::Answer).is_empty() && reply.has_authority(Type::NS)
}

impl fmt::Display for ReplyKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoError => "NOERROR",
            Self::NameError => "NXDOMAIN",
            Self::ServerError => "SERVERERROR",
            Self::NoData => "NODATA",
            Self::Delegation => "DELEGATION",
            Self::Meta => "META",
            Self::OtherError => "OTHERERROR",
        })
    }
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Success => "success",
            Self::Denial => "denial",
            Self::Error => "error",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        query::Question,
        reply::{Data, Owner, Soa},
        wire::{self, Name},
    };

    /// A reply with this code and one record of each of these types.
    fn reply(rcode: Rcode, answer: &[Type], authority: &[Type]) -> Reply {
        let root = Name::ROOT;
        let data = |rtype| match rtype {
            Type::A => Data::A([10, 0, 0, 1].into()),
            Type::SOA => Data::Soa(Soa {
                primary: root.as_ref(),
                mailbox: root.as_ref(),
                serial: 1,
                refresh: 1,
                retry: 1,
                expire: 1,
                minimum: 1,
            }),
            _ => Data::Name(root.as_ref()),
        };
        let mut reply = Reply::default();
        reply.rcode = rcode;
        for rtype in answer {
            reply.answer(*rtype, 5, data(*rtype));
        }
        for rtype in authority {
            let owner = Owner::Name(root.as_ref());
            reply.push(Section::Authority, owner, *rtype, 5, data(*rtype));
        }
        reply
    }

    /// Compared with CoreDNS, which classes aliases without a target as errors or successes.
    #[test]
    fn kinds_follow_the_records_of_a_reply() {
        let mut query = Query::internal(Question::new(Name::ROOT, Type::A, wire::Class::IN));
        for (rcode, answer, authority, wanted) in [
            (Rcode::NOERROR, &[][..], &[][..], "success NOERROR"),
            (Rcode::NOERROR, &[Type::A], &[Type::SOA], "success NOERROR"),
            (Rcode::NOERROR, &[Type::A], &[Type::NS], "success NOERROR"),
            (Rcode::NOERROR, &[], &[Type::SOA], "denial NODATA"),
            (Rcode::NOERROR, &[], &[Type::NS], "success DELEGATION"),
            (Rcode::NOERROR, &[Type::CNAME], &[], "success NOERROR"),
            (
                Rcode::NOERROR,
                &[Type::CNAME],
                &[Type::SOA],
                "denial NODATA",
            ),
            (Rcode::NXDOMAIN, &[], &[], "denial NXDOMAIN"),
            (Rcode::NXDOMAIN, &[], &[Type::NS], "denial NXDOMAIN"),
            (Rcode::NXDOMAIN, &[], &[Type::SOA], "denial NXDOMAIN"),
            (
                Rcode::NXDOMAIN,
                &[Type::CNAME],
                &[Type::SOA],
                "denial NXDOMAIN",
            ),
            (Rcode::SERVFAIL, &[], &[Type::SOA], "error SERVERERROR"),
            (Rcode::NOTIMP, &[], &[], "error SERVERERROR"),
            (Rcode::REFUSED, &[], &[], "error OTHERERROR"),
            (Rcode::FORMERR, &[], &[], "error OTHERERROR"),
        ] {
            let kind = ReplyKind::of(&query, &reply(rcode, answer, authority));
            let found = format!("{} {kind}", kind.class());
            assert_eq!(found, wanted, "{rcode} {answer:?} {authority:?}");
        }
        query.receive(|it| it.original.rtype = Type::AXFR);
        assert_eq!(ReplyKind::of(&query, &Reply::default()), ReplyKind::Meta);
        query.receive(|it| it.original.rtype = Type::A);
        query.receive(|it| it.opcode = Opcode(4));
        assert_eq!(ReplyKind::of(&query, &Reply::default()), ReplyKind::Meta);
    }
}
