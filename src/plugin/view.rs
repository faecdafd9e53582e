//! `view`: a server block for some queries of its zones and not for others.
//!
//! ```text
//! view NAME {
//!     expr EXPRESSION
//! }
//! ```
//!
//! Of the blocks for a zone, the first one gets a query whose expressions are all true for it; one
//! without a view takes every query. The choice is made where a query is routed
//! ([`Plugin::admits`]); in the chain there is nothing to do.
//!
//! An expression that fails for a query, or is neither true nor false, counts as false. What
//! `metadata()` tells is what the plugins of this block know of the query, where the block has
//! `metadata`. The view's own name is there for others as `view/name`.

use std::sync::Arc;

use super::{
    Build, BuildError, Chain, ParseErrors, Parsing, Plugin, Setup,
    expression::{Expression, Facts, Scope},
    metadata::Published,
};
use crate::{
    corefile::{Directive, Problems, unknown_property},
    query::Query,
};

/// The Corefile's word.
pub const NAME: &str = "view";

/// What the directive says.
#[derive(Clone, Debug)]
pub struct Config {
    name: Arc<str>,
    expressions: Arc<[Expression]>,
}

/// Reads the directive.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut problems = Problems::default();
    let mut expressions = Vec::new();
    let name = directive.arguments().exactly::<1>("the name of the view");
    let name = problems.catch(name).map_or("", |[name]| name.as_str());
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
        expressions.extend(problems.catch(read));
    }
    problems.in_plugin(NAME).into_result(Config {
        name: name.into(),
        expressions: expressions.into(),
    })
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        Ok(Arc::new(View {
            config: self.clone(),
            published: build.offered(),
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

impl Plugin for View {
    fn name(&self) -> &'static str {
        NAME
    }

    fn admits(&self, chain: &Chain, query: &Query) -> bool {
        let tell = |label: &str| self.published.as_ref()?.value(chain, query, label);
        let facts = Facts::new(query).with_metadata(&tell);
        let mut expressions = self.config.expressions.iter();
        expressions.all(|expression| expression.holds(&facts))
    }

    fn metadata(&self, _: &Query, label: &str) -> Option<String> {
        (label == "view/name").then(|| self.config.name.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plugin::testing, wire::Type};

    fn admits(lines: &str, query: &Query) -> bool {
        let (config, _) =
            testing::read(&format!("view inner {{\n{lines}\n}}"), ".", parse).unwrap();
        let view = View {
            config,
            published: None,
        };
        view.admits(&Chain::new(Vec::new()), query)
    }

    #[test]
    fn every_expression_must_hold() {
        let mut query = testing::query("WWW.Example.org", Type::A);
        query.client = ([10, 1, 2, 3], 4660).into();
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
            // Where nothing is published, every label is empty.
            ("expr metadata('kubernetes/client-namespace') == ''", true),
            // Failing is false.
            ("expr incidr(metadata('a/b'), '10.0.0.0/8')", false),
        ] {
            assert_eq!(admits(lines, &query), admitted, "{lines}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
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
