//! `errors`: a line for each query that failed here.
//!
//! ```text
//! errors [stdout] {
//!     stacktrace
//!     consolidate DURATION REGEXP [LEVEL] [show_first]
//! }
//! ```
//!
//! What an upstream says (SERVFAIL, NXDOMAIN, ...) is no failure of ours, nor is a refusal by
//! rule; a query is logged where it failed, not where the failure is answered from a cache.

mod ledger;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use regex::Regex;
use tokio::{sync::Notify, task::AbortHandle};
use tracing::Level;

use self::ledger::{Ledger, Verdict};
use crate::{
    corefile::{Diagnostic, Directive, Line, Problems, unknown_property},
    logging::{self, Sink},
    plugin::{Build, BuildError, Context, ParseErrors, Parsing, Plugin, Setup},
    query::Query,
    reply::{Reply, Why},
};

/// What to do with errors.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Whether panics, of the whole process, are logged with the stack that they came from.
    pub stacktrace: bool,
    /// In the order of the file: the first that matches decides.
    pub consolidate: Vec<Consolidate>,
}

/// Errors that are counted and told together.
#[derive(Clone, Debug)]
pub struct Consolidate {
    /// How long they are counted.
    pub period: Duration,
    /// Matches their messages.
    pub pattern: Regex,
    /// The level at which they are told.
    pub level: Level,
    /// Whether the first of them is shown at once.
    pub show_first: bool,
}

/// Reads the one `errors` of a server block.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut config = Config::default();
    let mut problems = Problems::default();
    let mut arguments = directive.arguments();
    if let Some(word) = arguments.next() {
        let read = word.one_of(&[("stdout", ())]);
        problems.catch(read.and_then(|()| arguments.none_left()));
    }
    for line in directive.properties() {
        let outcome = match line.name().as_str() {
            "stacktrace" => line.arguments().none_left().map(|()| {
                config.stacktrace = true;
            }),
            "consolidate" => consolidate(line).map(|rule| config.consolidate.push(rule)),
            _ => Err(unknown_property(
                line.name(),
                &["consolidate", "stacktrace"],
            )),
        };
        problems.catch(outcome);
    }
    problems.in_plugin("errors").into_result(config)
}

fn consolidate(line: &Line) -> Result<Consolidate, Diagnostic> {
    let levels = [
        ("warning", Level::WARN),
        ("error", Level::ERROR),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
    ];
    let mut arguments = line.arguments();
    let period = arguments.required("a duration and a pattern")?.duration()?;
    let pattern = arguments.required("a regular expression")?.regex()?;
    let mut level = Level::ERROR;
    let mut show_first = false;
    if let Some(word) = arguments.peek()
        && *word != "show_first"
    {
        level = word.one_of(&levels)?;
        arguments.next();
    }
    if let Some(word) = arguments.next() {
        word.one_of(&[("show_first", ())])?;
        show_first = true;
    }
    arguments.none_left()?;
    Ok(Consolidate {
        period,
        pattern,
        level,
        show_first,
    })
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        if self.stacktrace {
            logging::set_stacktrace(true);
        }
        let sink = logging::sink().clone();
        Ok(Arc::new(Errors::new(self, sink, build.runtime)))
    }
}

/// The plugin.
pub struct Errors {
    shared: Arc<Shared>,
    teller: AbortHandle,
}

struct Shared {
    ledger: Mutex<Ledger>,
    sink: Sink,
    /// The ledger's next window ends earlier than it did.
    opened: Notify,
}

impl Errors {
    /// Logs to `sink`; summaries are told by a task of `runtime` that ends with the plugin.
    pub fn new(config: &Config, sink: Sink, runtime: &tokio::runtime::Handle) -> Self {
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(&config.consolidate)),
            sink,
            opened: Notify::new(),
        });
        let teller = runtime.spawn(tell(Arc::clone(&shared))).abort_handle();
        Self { shared, teller }
    }

    fn log(&self, query: &Query, reply: &Reply, message: &str) {
        let now = Instant::now();
        let (verdict, opened) = {
            let mut ledger = self.shared.ledger.lock();
            let before = ledger.next_end();
            let verdict = ledger.note(now, message);
            (verdict, ledger.next_end() != before)
        };
        if opened {
            self.shared.opened.notify_one();
        }
        if let Verdict::Show(level) = verdict {
            let question = &query.asked;
            let (rcode, name, rtype) = (reply.rcode.0, question.lower, question.rtype);
            let text = format_args!("{rcode} {name} {rtype}: {message}");
            self.shared.sink.line(level, "errors", text);
        }
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        self.teller.abort();
        self.shared.tell(None);
    }
}

impl Shared {
    fn tell(&self, now: Option<Instant>) {
        let lines = self.ledger.lock().close(now);
        for (level, text) in lines {
            self.sink.line(level, "errors", format_args!("{text}"));
        }
    }
}

/// Tells each window's count when it ends.
async fn tell(shared: Arc<Shared>) {
    loop {
        let next = shared.ledger.lock().next_end();
        match next {
            None => shared.opened.notified().await,
            Some(end) => tokio::select! {
                () = shared.opened.notified() => {}
                () = tokio::time::sleep_until(end.into()) => shared.tell(Some(Instant::now())),
            },
        }
    }
}

impl Plugin for Errors {
    fn name(&self) -> &'static str {
        "errors"
    }

    fn asks(&self) -> bool {
        false
    }

    fn amend(&self, _: &Context<'_>, query: &Query, reply: &mut Reply) {
        let Some(default) = failure(reply.why) else {
            return;
        };
        match reply.cause.as_deref() {
            None => self.log(query, reply, default),
            // The text may quote what came over the network: a line stays one line.
            Some(cause) if cause.contains(char::is_control) => {
                self.log(query, reply, &cause.replace(char::is_control, " "));
            }
            Some(cause) => self.log(query, reply, cause),
        }
    }
}

/// What to say of a failure that comes without words of its own; nothing for what is none.
fn failure(why: Why) -> Option<&'static str> {
    Some(match why {
        // The end of it is what existing patterns look for.
        Why::UpstreamTimeout => "no upstream answered in time: i/o timeout",
        Why::UpstreamUnreachable => "no upstream can be reached",
        Why::UpstreamMalformed => "the upstream's reply makes no sense",
        Why::UpstreamTls => "no trust in the upstream could be established",
        Why::UpstreamsDown => "no healthy proxies",
        Why::UpstreamLoop => "every upstream leads back here",
        Why::Overload => "too many questions are under way at once",
        Why::LocalFailure => "this machine could not send the question",
        Why::NobodyAnswered => "no next plugin found",
        Why::NotSynced => "the cluster's objects have not been read yet",
        Why::NotLoaded => "the zone has not been read yet",
        Why::Expired => "the copy of the zone is too old",
        Why::TooDeep => "aliases lead to aliases without end",
        Why::TooLate => "context deadline exceeded",
        Why::Internal => "internal error",
        // Answers, denials, other servers' words and refusals by rule.
        Why::Unanswered
        | Why::ClusterRecord
        | Why::ClusterNoData
        | Why::NoSuchForm
        | Why::NoSuchNamespace
        | Why::NoSuchService
        | Why::NoReadyEndpoint
        | Why::NoSuchEndpoint
        | Why::EndpointNotReady
        | Why::EmptyService
        | Why::NoSuchPort
        | Why::NoSuchPod
        | Why::NotExternal
        | Why::NoSuchAddress
        | Why::HostsRecord
        | Why::HostsNoData
        | Why::NoSuchHost
        | Why::ZoneRecord
        | Why::ZoneNoData
        | Why::NoSuchName
        | Why::Delegated
        | Why::Upstream
        | Why::Cached
        | Why::Stale
        | Why::NoZone
        | Why::Malformed
        | Why::NotServed
        | Why::Policy
        | Why::Synthesized => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        logging::Page,
        plugin::testing::{self, Place},
        wire::{Rcode, Type},
    };

    fn parsed(text: &str) -> Result<Config, Vec<String>> {
        testing::headlines(text, ".", parse).map(|(config, _)| config)
    }

    #[test]
    fn lines_of_a_corefile() {
        assert!(parsed("errors").unwrap().consolidate.is_empty());
        let config = parsed(
            "errors stdout {\nstacktrace\nconsolidate 5m \".* i/o timeout$\" warning\n\
             consolidate 30s x show_first\nconsolidate 1s y debug show_first\n}",
        )
        .unwrap();
        assert!(config.stacktrace);
        let rules: Vec<_> = config
            .consolidate
            .iter()
            .map(|rule| {
                (
                    rule.period.as_secs(),
                    rule.pattern.as_str(),
                    rule.level,
                    rule.show_first,
                )
            })
            .collect();
        assert_eq!(
            rules,
            [
                (300, ".* i/o timeout$", Level::WARN, false),
                (30, "x", Level::ERROR, true),
                (1, "y", Level::DEBUG, true)
            ]
        );
    }

    #[test]
    fn what_is_refused() {
        for (text, wanted) in [
            ("errors stderr", "unknown value 'stderr'"),
            ("errors stdout stdout", "Wrong argument count"),
            ("errors {\nconsolidate 5m\n}", "Wrong argument count"),
            ("errors {\nconsolidate 5 x\n}", "missing unit"),
            ("errors {\nconsolidate 5m (\n}", "not a regular expression"),
            (
                "errors {\nconsolidate 5m x fatal\n}",
                "unknown value 'fatal'",
            ),
            (
                "errors {\nconsolidate 5m x show_first error\n}",
                "Wrong argument count",
            ),
            ("errors {\nconsolidated 5m x\n}", "unknown property"),
            ("errors {\nstacktrace on\n}", "Wrong argument count"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(refused[0].contains(wanted), "{text}: {refused:?}");
        }
    }

    fn fail(errors: &Errors, why: Why, cause: Option<&str>) {
        let query = testing::query("Web.example.", Type::AAAA);
        let mut reply = Reply::failure(Rcode::SERVFAIL, why);
        reply.cause = cause.map(Into::into);
        errors.amend(&Place::new(Vec::new()).context(), &query, &mut reply);
    }

    #[tokio::test]
    async fn failures_of_ours_are_logged_and_nothing_else() {
        let page = Page::default();
        let sink = page.sink();
        let runtime = tokio::runtime::Handle::current();
        let errors = Errors::new(&Config::default(), sink.clone(), &runtime);
        fail(&errors, Why::UpstreamTimeout, None);
        fail(
            &errors,
            Why::UpstreamUnreachable,
            Some("connection\nrefused"),
        );
        fail(&errors, Why::Upstream, Some("its own SERVFAIL"));
        fail(&errors, Why::Cached, Some("told before"));
        assert_eq!(
            page.read(&sink),
            "[ERROR] plugin/errors: 2 web.example. AAAA: no upstream answered in time: i/o timeout\n\
             [ERROR] plugin/errors: 2 web.example. AAAA: connection refused\n"
        );
    }

    #[tokio::test]
    async fn a_window_is_told_when_it_ends_and_when_the_plugin_goes() {
        let page = Page::default();
        let sink = page.sink();
        let runtime = tokio::runtime::Handle::current();
        let config = parsed("errors {\nconsolidate 1ms timeout info\n}").unwrap();
        let errors = Errors::new(&config, sink.clone(), &runtime);
        fail(&errors, Why::UpstreamTimeout, None);
        let line = "[INFO] plugin/errors: 1 errors like 'timeout' occurred in last 1ms\n";
        while page.read(&sink).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(page.read(&sink), line);
        fail(&errors, Why::UpstreamTimeout, None);
        drop(errors);
        assert_eq!(page.read(&sink), line.repeat(2));
    }
}
