//! `cancel`: sets a deadline for each query.
//!
//! ```text
//! cancel [TIMEOUT]
//! ```
//!
//! A query that is still pending at its deadline, on an upstream or on a sub-query of another plugin,
//! is cancelled and answered with SERVFAIL. Queries that are answered synchronously are not affected.

use std::time::Duration;

use super::{Build, BuildError, Context, OnQuery, ParseErrors, Parsing, Plugin, Setup, Step};
use crate::{
    corefile::{Diagnostic, Directive, ErrorList},
    hooks,
    query::Query,
    reply::Reply,
};

/// The name of the plugin in a Corefile.
const NAME: &str = "cancel";

/// Just longer than the timeout of a stub resolver (5 s).
const TIMEOUT: Duration = Duration::from_millis(5001);

/// The plugin, with its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// Counted from the receipt of the query.
    pub timeout: Duration,
}

/// Reads the directives of a block, of which the last one is used.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Cancel, ParseErrors> {
    let mut timeout = TIMEOUT;
    let mut errors = ErrorList::default();
    for directive in uses {
        timeout = errors.catch(one(directive)).unwrap_or(timeout);
    }
    errors.in_plugin(NAME).into_result(Cancel { timeout })
}

fn one(directive: &Directive) -> Result<Duration, Diagnostic> {
    directive.no_body()?;
    let mut arguments = directive.arguments();
    let timeout = match arguments.next() {
        None => TIMEOUT,
        Some(word) => {
            let timeout = word.duration()?;
            if timeout.is_zero() {
                return Err(word
                    .error(format!("'{word}' leaves no time at all"))
                    .expected("a duration such as 5s"));
            }
            timeout
        }
    };
    arguments.none_left()?;
    Ok(timeout)
}

impl Setup for Cancel {
    fn build(&self, _: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(*self))
    }
}

hooks!(Cancel, NAME => on_query);

impl OnQuery for Cancel {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, _: &mut Reply) -> Step {
        let deadline = query.received.checked_add(self.timeout);
        // A sub-query inherits the deadline of the query that caused it.
        query.deadline = match (query.deadline, deadline) {
            (Some(known), Some(own)) => Some(known.min(own)),
            (known, own) => known.or(own),
        };
        Step::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plugin::{
            Outcome, Resolved,
            testing::{self, TestBlock},
        },
        reply::Why,
        wire::{Rcode, Type},
    };

    fn read(text: &str) -> Result<Cancel, String> {
        testing::read(text, ".", parse).map(|(cancel, _)| cancel)
    }

    #[test]
    fn a_time_is_read() {
        let timeout = |text: &str| read(text).unwrap().timeout;
        assert_eq!(timeout("cancel"), Duration::from_millis(5001));
        assert_eq!(timeout("cancel 250ms"), Duration::from_millis(250));
        for (line, words) in [
            ("cancel 0s", "no time at all"),
            ("cancel -1s", "negative"),
            ("cancel 5", "missing unit"),
            ("cancel 1s 2s", "Wrong argument count"),
        ] {
            let drawn = read(line).unwrap_err();
            assert!(drawn.contains(words), "{drawn}");
            assert!(drawn.contains("plugin/cancel: "), "{drawn}");
        }
    }

    /// Answers after a delay.
    struct Slow(Duration);

    hooks!(Slow, "slow" => on_query);

    impl OnQuery for Slow {
        fn on_query(&self, _: &Context<'_>, _: &mut Query, _: &mut Reply) -> Step {
            let pause = tokio::time::sleep(self.0);
            Step::Wait(Box::pin(async move {
                pause.await;
                Resolved::Answer(Reply::default())
            }))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_is_pending_at_its_deadline_fails() {
        for (pause, rcode) in [(10, Rcode::NOERROR), (500, Rcode::SERVFAIL)] {
            let timeout = Duration::from_millis(100);
            let slow = Slow(Duration::from_millis(pause));
            let test_block = TestBlock::new(vec![Cancel { timeout }.into(), slow.into()]);
            let mut query = testing::query("a.example", Type::A);
            query.receive(|it| it.received = tokio::time::Instant::now().into_std());
            let chain = &test_block.block.chain;
            let mut reply = Reply::default();
            let walk = chain.walk(&test_block.context(), &mut query, &mut reply);
            let Outcome::Pending(waiting) = walk else {
                panic!("not pending");
            };
            let begun = tokio::time::Instant::now();
            let reply = waiting.finish().await.1.unwrap();
            assert_eq!(reply.rcode, rcode);
            assert_eq!(reply.why == Why::TooLate, rcode == Rcode::SERVFAIL);
            assert!(begun.elapsed() < Duration::from_millis(200));
        }
    }
}
