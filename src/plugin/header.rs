//! `header`: sets and clears flags of queries and of replies.
//!
//! ```text
//! header {
//!     query|response set|clear FLAG...
//! }
//! ```
//!
//! For queries only RD has an effect: it sets the RD bit of forwarded queries. The client's own RD
//! bit is unchanged, since the reply repeats it (RFC 1035 section 4.1.1).

use super::{
    Build, BuildError, Context, OnQuery, OnResponse, ParseErrors, Parsing, Plugin, Setup, Step,
};
use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Property},
    hooks,
    query::Query,
    reply::Reply,
};

/// The directive's name.
const NAME: &str = "header";

/// The plugin and its parsed directive: the value that each flag is set to, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    query_rd: Option<bool>,
    aa: Option<bool>,
    ra: Option<bool>,
    rd: Option<bool>,
}

/// A flag that can be changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    Authoritative,
    RecursionAvailable,
    RecursionDesired,
}

const FLAGS: [(&str, Flag); 3] = [
    ("aa", Flag::Authoritative),
    ("ra", Flag::RecursionAvailable),
    ("rd", Flag::RecursionDesired),
];

/// Parses the directives of a block. The first one with a rule applies.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Header, ParseErrors> {
    let mut used = None;
    let mut header = Header::default();
    let mut errors = ErrorList::default();
    for directive in uses {
        errors.catch(directive.no_arguments());
        if let Some(first) = used {
            let warning = directive.name.warning("only the first 'header' counts");
            parsing
                .warnings
                .push(warning.also(first, "this one").in_plugin(NAME));
            continue;
        }
        for line in directive.properties() {
            used = Some(directive.name.span);
            errors.catch(rule(line, &mut header, parsing.warnings));
        }
    }
    if let (None, [directive, ..]) = (used, uses)
        && errors.is_empty()
    {
        let error = directive.name.error("there is no rule");
        errors.push(error.expected("lines such as 'response set aa' in a block"));
    }
    errors.in_plugin(NAME).into_result(header)
}

/// `query|response set|clear FLAG...`, all in any case.
fn rule(
    line: &Property,
    header: &mut Header,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let directions = [("query", true), ("response", false)];
    let is_query = line.name().one_of_any_case(&directions)?;
    let mut arguments = line.arguments();
    let action = arguments.required("set or clear")?;
    let state = Some(action.one_of_any_case(&[("set", true), ("clear", false)])?);
    for word in arguments.at_least_one("a flag: aa, ra or rd")? {
        match (is_query, word.one_of_any_case(&FLAGS)?) {
            (true, Flag::RecursionDesired) => header.query_rd = state,
            (true, _) => {
                let warning = word.warning(format!("'{word}' means nothing in a query"));
                warnings.push(warning.label("this has no effect").in_plugin(NAME));
            }
            (false, Flag::Authoritative) => header.aa = state,
            (false, Flag::RecursionAvailable) => header.ra = state,
            (false, Flag::RecursionDesired) => header.rd = state,
        }
    }
    Ok(())
}

impl Setup for Header {
    fn build(&self, _: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(*self))
    }
}

hooks!(Header, NAME => on_query, on_response);

impl OnQuery for Header {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, _: &mut Reply) -> Step {
        if let Some(set) = self.query_rd {
            query.onward_recursion = set;
        }
        Step::Pass
    }
}

impl OnResponse for Header {
    fn on_response(&self, _: &Context<'_>, _: &Query, reply: &mut Reply) {
        let Self { aa, ra, rd, .. } = *self;
        reply.authoritative = aa.unwrap_or(reply.authoritative);
        reply.recursion_available = ra.unwrap_or(reply.recursion_available);
        reply.recursion_desired = rd.or(reply.recursion_desired);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plugin::testing::{self, TestBlock},
        wire::Type,
    };

    fn read(text: &str) -> Result<(Header, usize), String> {
        let read = testing::read(text, ".", parse);
        read.map(|(header, warnings)| (header, warnings.len()))
    }

    #[test]
    fn the_last_line_for_a_flag_applies() {
        let (header, warned) = read(
            "header {
                Response SET AA ra rd
                response clear ra
                query clear rd
            }",
        )
        .unwrap();
        assert_eq!(warned, 0);
        let test_block = TestBlock::new(Vec::new());
        let mut query = testing::query("example.org", Type::A);
        let mut reply = Reply::default();
        reply.recursion_available = true;
        header.on_query(&test_block.context(), &mut query, &mut reply);
        assert!(!query.onward_recursion);
        assert!(query.recursion_desired, "the client's RD bit is unchanged");
        header.on_response(&test_block.context(), &query, &mut reply);
        assert!(reply.authoritative && !reply.recursion_available);
        assert_eq!(reply.recursion_desired, Some(true));
    }

    #[test]
    fn flags_without_a_rule_are_left_alone() {
        let (header, _) = read("header {\nresponse set aa\n}").unwrap();
        let test_block = TestBlock::new(Vec::new());
        let mut query = testing::query("example.org", Type::A);
        let mut reply = Reply::default();
        reply.recursion_available = true;
        header.on_query(&test_block.context(), &mut query, &mut reply);
        header.on_response(&test_block.context(), &query, &mut reply);
        assert!(query.onward_recursion);
        assert!(reply.recursion_available && reply.recursion_desired.is_none());
    }

    #[test]
    fn the_first_directive_with_a_rule_counts() {
        let text = "header {\n}\nheader {\nresponse set aa\n}\nheader {\nresponse clear aa\n}";
        let (header, warned) = read(text).unwrap();
        assert_eq!((header.aa, warned), (Some(true), 1));
        let (header, warned) = read("header {\nquery set aa rd\n}").unwrap();
        assert_eq!((header.query_rd, warned), (Some(true), 1));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, words) in [
            ("header", "there is no rule"),
            ("header {\n}", "there is no rule"),
            ("header x {\nresponse set aa\n}", "takes no argument"),
            ("header {\nanswer set aa\n}", "expected query or response"),
            ("header {\nresponse\n}", "expected set or clear"),
            ("header {\nresponse put aa\n}", "expected set or clear"),
            ("header {\nresponse set\n}", "expected a flag"),
            ("header {\nresponse set tc\n}", "expected aa, ra or rd"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
