//! `cancel`: whoever waits for an answer waits no longer than so.
//!
//! ```text
//! cancel [TIMEOUT]
//! ```
//!
//! The plugin says when the time of a query is over. What is still waited for then, an upstream
//! or a question of another plugin, is given up, and the reply is SERVFAIL. What is answered at
//! once is not touched.

use std::{sync::Arc, time::Duration};

use super::{Build, BuildError, Context, ParseErrors, Parsing, Plugin, Setup, Step};
use crate::{
    corefile::{Diagnostic, Directive, Problems},
    query::Query,
    reply::Reply,
};

/// The Corefile's word.
const NAME: &str = "cancel";

/// Just longer than a resolver waits.
const TIMEOUT: Duration = Duration::from_millis(5001);

/// How long a query may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// From the reading of the query.
    pub timeout: Duration,
}

/// Reads all uses of a block, of which the last counts.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Cancel, ParseErrors> {
    let mut timeout = TIMEOUT;
    let mut problems = Problems::default();
    for directive in uses {
        timeout = problems.catch(one(directive)).unwrap_or(timeout);
    }
    problems.in_plugin(NAME).into_result(Cancel { timeout })
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
    fn build(&self, _: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        Ok(Arc::new(*self))
    }
}

impl Plugin for Cancel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, _: &Context<'_>, query: &mut Query, _: &mut Reply) -> Step {
        let deadline = query.received.checked_add(self.timeout);
        // What a plugin asks is over with the question that it is asked for.
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
            testing::{self, Place},
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

    /// Answers after a while.
    struct Slow(Duration);

    impl Plugin for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        fn ask(&self, _: &Context<'_>, _: &mut Query, _: &mut Reply) -> Step {
            let pause = tokio::time::sleep(self.0);
            Step::Wait(Box::pin(async move {
                pause.await;
                Resolved::Answer(Reply::default())
            }))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_gets_a_failure() {
        for (pause, rcode) in [(10, Rcode::NOERROR), (500, Rcode::SERVFAIL)] {
            let timeout = Duration::from_millis(100);
            let slow = Slow(Duration::from_millis(pause));
            let place = Place::new(vec![Arc::new(Cancel { timeout }), Arc::new(slow)]);
            let mut query = testing::query("a.example", Type::A);
            query.received = tokio::time::Instant::now().into_std();
            let chain = &place.block.chain;
            let mut reply = Reply::default();
            let walk = chain.walk(&place.context(), &mut query, &mut reply);
            let Outcome::Pending(waiting) = walk else {
                panic!("it waits");
            };
            let begun = tokio::time::Instant::now();
            let reply = waiting.finish().await.1.unwrap();
            assert_eq!(reply.rcode, rcode);
            assert_eq!(reply.why == Why::TooLate, rcode == Rcode::SERVFAIL);
            assert!(begun.elapsed() < Duration::from_millis(200));
        }
    }
}
