//! `minimal`: leaves out of answers what was not asked for.
//!
//! An answer with data loses its authority and additional sections. Denials, referrals and errors
//! stay whole: there these sections are what they say.

use std::sync::Arc;

use super::{Build, BuildError, Context, ParseErrors, Parsing, Plugin, Setup};
use crate::{
    corefile::Directive,
    query::Query,
    reply::{Reply, Section},
    wire::{Rcode, Type},
};

/// The Corefile's word.
const NAME: &str = "minimal";

/// The plugin, which has no options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minimal;

/// Reads the directive, which takes nothing.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Minimal, ParseErrors> {
    let checked = uses[0].bare().map(|()| Minimal);
    checked.map_err(|error| vec![error.in_plugin(NAME)])
}

impl Setup for Minimal {
    fn build(&self, _: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        Ok(Arc::new(*self))
    }
}

impl Plugin for Minimal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn asks(&self) -> bool {
        false
    }

    fn amend(&self, _: &Context<'_>, query: &Query, reply: &mut Reply) {
        if is_answer(query, reply) {
            reply.section_mut(Section::Authority).clear();
            reply.section_mut(Section::Additional).clear();
        }
    }
}

/// Whether the reply is neither a denial, nor a referral, nor an error, nor a part of a transfer.
fn is_answer(query: &Query, reply: &Reply) -> bool {
    let asked = query.asked.rtype;
    reply.rcode == Rcode::NOERROR
        && !matches!(asked, Type::AXFR | Type::IXFR)
        // Aliases that end in a denial or a referral are no answer either.
        && (reply.answers(asked)
            || !(reply.has_authority(Type::SOA) || reply.has_authority(Type::NS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plugin::testing::{self, Place},
        reply::{Data, Owner, Why},
    };

    #[test]
    fn answers_lose_what_was_not_asked_for_and_others_do_not() {
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
            Minimal.amend(&Place::new(Vec::new()).context(), &query, &mut reply);
            assert_eq!(reply.section(Section::Answer).len(), answers);
            let left = usize::from(!is_cut);
            for section in [Section::Authority, Section::Additional] {
                assert_eq!(reply.section(section).len(), left, "{rcode} {authority}");
            }
        }
    }

    #[test]
    fn it_takes_nothing() {
        for text in ["minimal x", "minimal {\na\n}"] {
            let told = testing::read(text, ".", parse).unwrap_err();
            assert!(told.contains("plugin/minimal"), "{told}");
        }
    }
}
