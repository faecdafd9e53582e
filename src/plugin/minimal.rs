//! `minimal`: removes the authority and additional sections from answers.
//!
//! Denials, referrals and errors are unchanged, since these sections carry their meaning: the SOA
//! record of a denial (RFC 2308 section 2), the NS records of a referral.

use super::{Build, BuildError, Context, OnResponse, ParseErrors, Parsing, Plugin, Setup};
use crate::{
    corefile::Directive,
    hooks,
    query::Query,
    reply::{Reply, Section},
    wire::{Rcode, Type},
};

/// The directive's name.
const NAME: &str = "minimal";

/// The plugin, which has no options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minimal;

/// Parses the directive, which has no arguments.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Minimal, ParseErrors> {
    let checked = uses[0].bare().map(|()| Minimal);
    checked.map_err(|error| vec![error.in_plugin(NAME)])
}

impl Setup for Minimal {
    fn build(&self, _: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(*self))
    }
}

hooks!(Minimal, NAME => on_response);

impl OnResponse for Minimal {
    fn on_response(&self, _: &Context<'_>, query: &Query, reply: &mut Reply) {
        if is_answer(query, reply) {
            reply.section_mut(Section::Authority).clear();
            reply.section_mut(Section::Additional).clear();
        }
    }
}

/// Whether the reply is an answer: not a denial, a referral, an error or part of a zone transfer.
fn is_answer(query: &Query, reply: &Reply) -> bool {
    let asked = query.original.rtype;
    reply.rcode == Rcode::NOERROR
        && !matches!(asked, Type::AXFR | Type::IXFR)
        // CNAME chains that end in a denial or a referral are not answers either.
        && (reply.answers(asked)
            || !(reply.has_authority(Type::SOA) || reply.has_authority(Type::NS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plugin::testing::{self, TestBlock},
        reply::{Data, Owner, Why},
    };

    #[test]
    fn only_answers_lose_their_other_sections() {
        for (rcode, asked, answers, authority, is_cut) in [
            // Records of another type: aliases.
            (Rcode::NOERROR, Type::AAAA, 1, Type::SOA, false),
            (Rcode::NOERROR, Type::AAAA, 1, Type::NS, false),
            (Rcode::NOERROR, Type::AAAA, 1, Type::TXT, true),
            (Rcode::NOERROR, Type::ANY, 1, Type::NS, true),
            (Rcode::NOERROR, Type::A, 1, Type::NS, true),
            (Rcode::NOERROR, Type::A, 1, Type::SOA, true),
            (Rcode::NOERROR, Type::A, 0, Type::NS, false),
            (Rcode::NOERROR, Type::A, 0, Type::SOA, false),
            (Rcode::NOERROR, Type::A, 0, Type::TXT, true),
            (Rcode::NXDOMAIN, Type::A, 1, Type::SOA, false),
            (Rcode::SERVFAIL, Type::A, 0, Type::TXT, false),
            (Rcode::NOERROR, Type::AXFR, 1, Type::NS, false),
        ] {
            let mut reply = Reply::failure(rcode, Why::Upstream);
            let address = Data::A([192, 0, 2, 1].into());
            for _ in 0..answers {
                reply.answer(Type::A, 5, address);
            }
            reply.push(Section::Authority, Owner::Question, authority, 5, address);
            reply.push(Section::Additional, Owner::Question, Type::A, 5, address);
            let query = testing::query("example.org", asked);
            Minimal.on_response(&TestBlock::new(Vec::new()).context(), &query, &mut reply);
            assert_eq!(reply.section(Section::Answer).len(), answers);
            let left = usize::from(!is_cut);
            for section in [Section::Authority, Section::Additional] {
                assert_eq!(reply.section(section).len(), left, "{rcode} {authority}");
            }
        }
    }

    #[test]
    fn it_has_no_arguments() {
        for text in ["minimal x", "minimal {\na\n}"] {
            let report = testing::read(text, ".", parse).unwrap_err();
            assert!(report.contains("plugin/minimal"), "{report}");
        }
    }
}
