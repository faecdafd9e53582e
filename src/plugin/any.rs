//! `any`: answers queries of type ANY with one synthesized HINFO record (RFC 8482 section 4.2).

use super::{Build, BuildError, Context, OnQuery, ParseErrors, Parsing, Plugin, Setup, Step};
use crate::{
    corefile::Directive,
    hooks,
    query::Query,
    reply::{Data, Reply, Why},
    wire::Type,
};

/// The name of the plugin in a Corefile.
const NAME: &str = "any";

/// The TTL of the answer in seconds, as in CoreDNS.
const TTL: u32 = 8482;

/// CPU and OS of the HINFO record, each prefixed with its length (RFC 1035 section 3.3.2).
const HINFO: &[u8] = b"\x0DANY obsoleted\x0CSee RFC 8482";

/// The plugin, which has no options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Any;

/// Reads the directive, which takes neither arguments nor properties.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Any, ParseErrors> {
    let checked = uses[0].bare().map(|()| Any);
    checked.map_err(|error| vec![error.in_plugin(NAME)])
}

impl Setup for Any {
    fn build(&self, _: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(*self))
    }
}

hooks!(Any, NAME => on_query);

impl OnQuery for Any {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
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
        plugin::testing::{self, TestBlock},
        reply::Section,
    };

    #[test]
    fn questions_for_any_type_are_answered_and_no_others() {
        let test_block = TestBlock::new(Vec::new());
        let mut reply = Reply::default();
        let mut query = testing::query("Example.org", Type::ANY);
        let step = Any.on_query(&test_block.context(), &mut query, &mut reply);
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
        let step = Any.on_query(&test_block.context(), &mut query, &mut reply);
        assert!(matches!(step, Step::Pass));
    }

    #[test]
    fn arguments_and_properties_are_rejected() {
        for text in ["any x", "any {\na\n}"] {
            let error = testing::read(text, ".", parse).unwrap_err();
            assert!(error.contains("plugin/any"), "{error}");
        }
    }
}
