//! The properties of `loadbalance`.

use std::time::Duration;

use super::{Config, OrderPolicy};
use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Property, unknown_property},
    plugin::{ParseErrors, Parsing},
};

/// Default of `reload`.
const RELOAD: Duration = Duration::from_secs(30);

/// Parses the directives of a block: the last policy applies, and networks accumulate.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut errors = ErrorList::default();
    let mut config = Config::default();
    for directive in uses {
        if let Some(policy) = errors.catch(policy(directive, parsing)) {
            config.policy = policy;
        }
        for line in directive.properties() {
            errors.catch(property(line, &mut config));
        }
    }
    errors.into_result(config)
}

/// `[round_robin | weighted FILE]`.
fn policy(directive: &Directive, parsing: &Parsing<'_>) -> Result<OrderPolicy, Diagnostic> {
    let mut arguments = directive.arguments();
    let mut policy = OrderPolicy::RoundRobin;
    if let Some(word) = arguments.next()
        && word.one_of(&[("round_robin", false), ("weighted", true)])?
    {
        policy = OrderPolicy::Weighted {
            file: parsing.path(&arguments.required("a file of weights")?.path()),
            reload: Some(RELOAD),
        };
    }
    arguments.none_left()?;
    Ok(policy)
}

fn property(line: &Property, config: &mut Config) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    match line.name().as_str() {
        "reload" => {
            let interval = arguments.interval()?;
            let OrderPolicy::Weighted { reload, .. } = &mut config.policy else {
                let error = line.name().error("unknown property 'reload'");
                return Err(error.label("only 'weighted FILE' has something to reload"));
            };
            *reload = interval;
        }
        "prefer" => {
            for word in arguments.at_least_one("a network such as 10.0.0.0/8")? {
                config.prefer.push(word.network()?);
            }
        }
        _ => return Err(unknown_property(line.name(), &["reload", "prefer"])),
    }
    arguments.none_left()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing;

    fn read(text: &str) -> Result<Config, String> {
        let read = testing::read(text, ".", parse);
        read.map(|(config, _)| config)
    }

    #[test]
    fn every_option_is_read() {
        assert_eq!(read("loadbalance").unwrap(), Config::default());
        assert_eq!(read("loadbalance round_robin").unwrap(), Config::default());
        let weighted = |reload| OrderPolicy::Weighted {
            file: "/w".into(),
            reload,
        };
        let config = read("loadbalance weighted /w").unwrap();
        assert_eq!(config.policy, weighted(Some(RELOAD)));
        let config = read(
            "loadbalance weighted /w {
                reload 10s
                prefer 10.0.0.0/8 fd00::/8
                prefer 192.0.2.0/24
            }",
        )
        .unwrap();
        assert_eq!(config.policy, weighted(Some(Duration::from_secs(10))));
        assert_eq!(config.prefer.len(), 3);
        let config = read("loadbalance weighted /w {\nreload 0\n}").unwrap();
        assert_eq!(config.policy, weighted(None));
        let config = read(
            "loadbalance weighted /a {\nprefer 10.0.0.0/8\n}\n\
             loadbalance weighted /w {\nreload 0\nprefer fd00::/8\n}",
        )
        .unwrap();
        assert_eq!((config.policy, config.prefer.len()), (weighted(None), 2));
    }

    #[test]
    fn invalid_directives_are_rejected() {
        for (text, words) in [
            ("loadbalance round_robbin", "did you mean 'round_robin'?"),
            ("loadbalance random", "expected round_robin or weighted"),
            ("loadbalance round_robin x", "takes one argument"),
            ("loadbalance weighted", "expected a file of weights"),
            ("loadbalance weighted a b", "takes 2 arguments"),
            ("loadbalance {\nreload 5s\n}", "only 'weighted FILE'"),
            ("loadbalance weighted a {\nreload 5\n}", "write 5s"),
            ("loadbalance {\nprefer\n}", "expected a network"),
            ("loadbalance {\nprefer 10.0.0.1\n}", "10.0.0.1/32"),
            (
                "loadbalance {\nprefre 10.0.0.0/8\n}",
                "did you mean 'prefer'?",
            ),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
