//! `view`: restricts a server block to queries that match expressions.
//!
//! ```text
//! view NAME {
//!     expr EXPRESSION
//! }
//! ```
//!
//! Of the blocks for a zone, a query is routed to the first one whose expressions are all true
//! ([`RouteFilter`]); a block without a view accepts all queries. The plugin has no query hook.
//!
//! An expression that fails for a query, or whose value is not a boolean, counts as false.
//! `metadata()` returns values of this block's plugins, if the block has `metadata`. The view's
//! name is published as `view/name`.

use std::sync::Arc;

use super::{
    Build, BuildError, MetadataSource, ParseErrors, Parsing, Plugin, RouteFilter, Setup,
    expression::{Expression, Facts, Scope},
    metadata::Published,
};
use crate::{
    corefile::{Directive, ErrorList, unknown_property},
    hooks,
    query::Query,
    reply::Reply,
};

/// The directive's name.
pub const NAME: &str = "view";

/// The parsed directive.
#[derive(Clone, Debug)]
pub struct Config {
    name: Arc<str>,
    expressions: Arc<[Expression]>,
}

/// Parses the directive.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut errors = ErrorList::default();
    let mut expressions = Vec::new();
    let name = directive.arguments().exactly::<1>("the name of the view");
    let name = errors.catch(name).map_or("", |[name]| name.as_str());
    for line in directive.properties() {
        let read = match line.name().as_str() {
            "expr" => line
                .arguments()
                .at_least_one("an expression")
                .and_then(|words| {
                    Expression::read_condition(words, Scope::default(), parsing.warnings)
                }),
            _ => Err(unknown_property(line.name(), &["expr"])),
        };
        expressions.extend(errors.catch(read));
    }
    errors.in_plugin(NAME).into_result(Config {
        name: name.into(),
        expressions: expressions.into(),
    })
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(View {
            config: self.clone(),
            published: build.offers.metadata.clone(),
        }))
    }

    fn view(&self) -> Option<&str> {
        Some(&self.name)
    }
}

/// The plugin.
struct View {
    config: Config,
    published: Option<Arc<Published>>,
}

hooks!(View, NAME => metadata, route_filter);

impl MetadataSource for View {
    fn metadata(&self, _: &Query, _: Option<&Reply>, label: &str) -> Option<String> {
        (label == "view/name").then(|| self.config.name.to_string())
    }
}

impl RouteFilter for View {
    fn accepts(&self, plugins: &[Plugin], query: &Query) -> bool {
        let metadata = |label: &str| self.published.as_ref()?.value(plugins, query, None, label);
        let facts = Facts::new(query).with_metadata(&metadata);
        let mut expressions = self.config.expressions.iter();
        expressions.all(|expression| expression.holds(&facts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plugin::testing, wire::Type};

    fn accepts(lines: &str, query: &Query) -> bool {
        let (config, _) =
            testing::read(&format!("view inner {{\n{lines}\n}}"), ".", parse).unwrap();
        let view = View {
            config,
            published: None,
        };
        view.accepts(&[], query)
    }

    #[test]
    fn every_expression_must_hold() {
        let mut query = testing::query("WWW.Example.org", Type::A);
        query.receive(|it| it.client = ([10, 1, 2, 3], 4660).into());
        for (lines, admitted) in [
            ("", true),
            ("expr incidr(client_ip(), '10.0.0.0/8')", true),
            (
                "expr incidr(client_ip(), '10.0.0.0/8') && name() matches '^a'",
                false,
            ),
            (
                "expr name() == 'www.example.org.'\nexpr type() in ['A', 'AAAA']",
                true,
            ),
            (
                "expr name() == 'www.example.org.'\nexpr type() == 'TXT'",
                false,
            ),
            // Without `metadata`, every label is empty.
            ("expr metadata('kubernetes/client-namespace') == ''", true),
            // An expression that fails is false.
            ("expr incidr(metadata('a/b'), '10.0.0.0/8')", false),
        ] {
            assert_eq!(accepts(lines, &query), admitted, "{lines}");
        }
    }

    #[test]
    fn invalid_directives_are_rejected() {
        for (text, words) in [
            ("view", "the name of the view"),
            ("view a b", "takes one argument"),
            ("view a {\nexp name() == 'a.'\n}", "did you mean 'expr'?"),
            ("view a {\nexpr\n}", "an expression"),
            ("view a {\nexpr name() ==\n}", "no expression"),
            ("view a {\nexpr name()\n}", "not true or false"),
        ] {
            let error = testing::read(text, ".", parse).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
            assert!(error.contains("plugin/view: "), "{text}: {error}");
        }
    }

    #[test]
    fn an_expression_that_always_fails_is_warned_of() {
        let text = "view a {\nexpr incidr(name(), '10.0.0.0/8')\n}";
        let (_, warnings) = testing::read(text, ".", parse).unwrap();
        assert_eq!(warnings, ["the expression fails, which counts as false"]);
    }
}
