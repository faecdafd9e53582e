//! `errors`: logs a line for each query that this server failed to answer.
//!
//! ```text
//! errors [stdout] {
//!     stacktrace
//!     consolidate DURATION REGEXP [LEVEL] [show_first]
//! }
//! ```
//!
//! Not logged: error codes in responses of upstreams (SERVFAIL, NXDOMAIN, ...), refusals by an access
//! rule, and failures answered from a cache.

mod ledger;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use regex::Regex;
use tokio::{sync::Notify, task::AbortHandle};
use tracing::Level;

use self::ledger::{Ledger, LogDecision};
use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Property, unknown_property},
    hooks,
    logging::{self, Sink},
    plugin::{Build, BuildError, Context, OnResponse, ParseErrors, Parsing, Plugin, Setup},
    query::Query,
    reply::{Reply, Why},
};

/// The options of the plugin.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Whether panics of the process are logged with a stack trace.
    pub stacktrace: bool,
    /// In the order of the Corefile: the first that matches applies.
    pub consolidate: Vec<Consolidate>,
}

/// A rule for errors that are counted and summarized.
#[derive(Clone, Debug)]
pub struct Consolidate {
    /// The period after which the count is logged.
    pub period: Duration,
    /// Matches the messages of the errors.
    pub pattern: Regex,
    /// The level of the log lines.
    pub level: Level,
    /// Whether the first error of a period is logged at once.
    pub show_first: bool,
}

/// Reads the directive; a server block has at most one.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut config = Config::default();
    let mut errors = ErrorList::default();
    let mut arguments = directive.arguments();
    if let Some(word) = arguments.next() {
        let read = word.one_of(&[("stdout", ())]);
        errors.catch(read.and_then(|()| arguments.none_left()));
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
        errors.catch(outcome);
    }
    errors.in_plugin("errors").into_result(config)
}

fn consolidate(line: &Property) -> Result<Consolidate, Diagnostic> {
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
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        if self.stacktrace {
            logging::set_stacktrace(true);
        }
        let sink = logging::sink().clone();
        Ok(Plugin::from(Errors::new(self, sink, build.runtime)))
    }
}

/// The plugin.
pub struct Errors {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    ledger: Mutex<Ledger>,
    sink: Sink,
    /// Notified when the end of the next window has changed.
    opened: Notify,
}

impl Errors {
    /// Logs to `sink`; a task on `runtime` logs the summaries until the plugin is dropped.
    pub fn new(config: &Config, sink: Sink, runtime: &tokio::runtime::Handle) -> Self {
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(&config.consolidate)),
            sink,
            opened: Notify::new(),
        });
        let task = runtime.spawn(summarize(Arc::clone(&shared))).abort_handle();
        Self { shared, task }
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
        if let LogDecision::Log(level) = verdict {
            let question = &query.original;
            let (rcode, name, rtype) = (reply.rcode.0, question.lower, question.rtype);
            let text = format_args!("{rcode} {name} {rtype}: {message}");
            self.shared.sink.line(level, "errors", text);
        }
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.log_summaries(None);
    }
}

impl Shared {
    fn log_summaries(&self, now: Option<Instant>) {
        let lines = self.ledger.lock().close(now);
        for (level, text) in lines {
            self.sink.line(level, "errors", format_args!("{text}"));
        }
    }
}

/// Logs the summary of each window when it ends.
async fn summarize(shared: Arc<Shared>) {
    loop {
        let next = shared.ledger.lock().next_end();
        match next {
            None => shared.opened.notified().await,
            Some(end) => tokio::select! {
                () = shared.opened.notified() => {}
                () = tokio::time::sleep_until(end.into()) => shared.log_summaries(Some(Instant::now())),
            },
        }
    }
}

hooks!(Errors, "errors" => on_response);

impl OnResponse for Errors {
    fn on_response(&self, _: &Context<'_>, query: &Query, reply: &mut Reply) {
        let Some(default) = failure(reply.why) else {
            return;
        };
        match reply.cause.as_deref() {
            None => self.log(query, reply, default),
            // The text may quote network data: control characters must not break the log line.
            Some(cause) if cause.contains(char::is_control) => {
                self.log(query, reply, &cause.replace(char::is_control, " "));
            }
            Some(cause) => self.log(query, reply, cause),
        }
    }
}

/// The message for a failure without a cause of its own. `None` for what is not a failure of this server.
fn failure(why: Why) -> Option<&'static str> {
    Some(match why {
        // Patterns written for CoreDNS match the end of the line.
        Why::UpstreamTimeout => "no upstream answered in time: i/o timeout",
        Why::UpstreamUnreachable => "no upstream can be reached",
        Why::UpstreamMalformed => "the upstream's reply is malformed",
        Why::UpstreamTls => "TLS with the upstream could not be established",
        Why::UpstreamsDown => "no healthy proxies",
        Why::UpstreamLoop => "no upstream is left: all lead back here",
        Why::Overload => "too many queries are in flight",
        Why::LocalFailure => "this machine could not send the query",
        Why::NoPluginAnswered => "no next plugin found",
        Why::NotSynced => "the cluster's objects have not been read yet",
        Why::NotLoaded => "the zone has not been read yet",
        Why::Expired => "the copy of the zone is too old",
        Why::TooDeep => "aliases lead to aliases without end",
        Why::TooLate => "context deadline exceeded",
        Why::Internal => "internal error",
        // Answers, denials, responses of upstreams, and refusals by an access rule.
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
        | Why::TransferRefused
        | Why::EndlessAlias
        | Why::Synthesized => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        logging::Output,
        plugin::testing::{self, TestBlock},
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
    fn invalid_arguments_are_rejected() {
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
        errors.on_response(&TestBlock::new(Vec::new()).context(), &query, &mut reply);
    }

    #[tokio::test]
    async fn failures_of_ours_are_logged_and_nothing_else() {
        let output = Output::default();
        let sink = output.sink();
        let runtime = tokio::runtime::Handle::current();
        let errors = Errors::new(&Config::default(), sink.clone(), &runtime);
        fail(&errors, Why::UpstreamTimeout, None);
        fail(
            &errors,
            Why::UpstreamUnreachable,
            Some("connection\nrefused"),
        );
        fail(&errors, Why::Upstream, Some("its own SERVFAIL"));
        fail(&errors, Why::Cached, Some("logged before"));
        assert_eq!(
            output.read(&sink),
            "[ERROR] plugin/errors: 2 web.example. AAAA: no upstream answered in time: i/o timeout\n\
             [ERROR] plugin/errors: 2 web.example. AAAA: connection refused\n"
        );
    }

    #[tokio::test]
    async fn a_window_is_summarized_when_it_ends_and_when_the_plugin_is_dropped() {
        let output = Output::default();
        let sink = output.sink();
        let runtime = tokio::runtime::Handle::current();
        let config = parsed("errors {\nconsolidate 1ms timeout info\n}").unwrap();
        let errors = Errors::new(&config, sink.clone(), &runtime);
        fail(&errors, Why::UpstreamTimeout, None);
        let line = "[INFO] plugin/errors: 1 errors like 'timeout' occurred in last 1ms\n";
        while output.read(&sink).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(output.read(&sink), line);
        fail(&errors, Why::UpstreamTimeout, None);
        drop(errors);
        assert_eq!(output.read(&sink), line.repeat(2));
    }
}
