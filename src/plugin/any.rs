//! `any`: answers questions for records of any type with one that says that this is over (RFC 8482
//! §4.2).

use std::sync::Arc;

use super::{Build, BuildError, Context, ParseErrors, Parsing, Plugin, Setup, Step};
use crate::{
    corefile::Directive,
    query::Query,
    reply::{Data, Reply, Why},
    wire::Type,
};

/// The Corefile's word.
const NAME: &str = "any";

/// Seconds that the answer may be kept: those that CoreDNS gives.
const TTL: u32 = 8482;

/// CPU and OS of the HINFO record (RFC 1035 §3.3.2), each with its length before it.
const HINFO: &[u8] = b"\x0DANY obsoleted\x0CSee RFC 8482";

/// The plugin, which has no options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Any;

/// Reads the directive, which takes nothing.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Any, ParseErrors> {
    let checked = uses[0].bare().map(|()| Any);
    checked.map_err(|error| vec![error.in_plugin(NAME)])
}

impl Setup for Any {
    fn build(&self, _: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        Ok(Arc::new(*self))
    }
}

impl Plugin for Any {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if query.question.rtype != Type::ANY {
            return Step::Pass;
        }
        reply.why = Why::Synthesized;
        reply.answer(Type::HINFO, TTL, Data::Raw(HINFO));
        Step::Answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plugin::testing::{self, Place},
        reply::Section,
    };

    #[test]
    fn questions_for_any_type_are_answered_and_no_others() {
        let place = Place::new(Vec::new());
        let mut reply = Reply::default();
        let mut query = testing::query("Example.org", Type::ANY);
        let step = Any.ask(&place.context(), &mut query, &mut reply);
        assert!(matches!(step, Step::Answer));
        let [record] = reply.section(Section::Answer) else {
            panic!("one record");
        };
        assert_eq!((record.rtype, record.ttl), (Type::HINFO, 8482));
        let (cpu, os) = reply.data(record).split_at(14);
        assert_eq!((cpu[0], os[0]), (13, 12));
        assert_eq!(
            (&cpu[1..], &os[1..]),
            (&b"ANY obsoleted"[..], &b"See RFC 8482"[..])
        );
        assert!(!reply.authoritative);
        let mut query = testing::query("example.org", Type::HINFO);
        let step = Any.ask(&place.context(), &mut query, &mut reply);
        assert!(matches!(step, Step::Pass));
    }

    #[test]
    fn it_takes_nothing() {
        for text in ["any x", "any {\na\n}"] {
            let told = testing::read(text, ".", parse).unwrap_err();
            assert!(told.contains("plugin/any"), "{told}");
        }
    }
}
