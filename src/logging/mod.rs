//! Log output on standard output, in CoreDNS's format, written by a thread of its own.
//!
//! `[INFO] plugin/ready: still waiting for kubernetes`: the level in brackets, the plugin if one
//! logs, the message, no time (log collectors add it). [`tracing`] events are formatted this way;
//! the query log goes to the [`Sink`] directly. With `-log-format json` each line is a [`LogRecord`]
//! with the same message.
//!
//! Logging never blocks on the output: lines go to a bounded buffer; lines that do not fit are
//! dropped, counted and reported.

mod record;
mod sink;

use std::{
    backtrace::Backtrace,
    fmt,
    io::{self, IsTerminal, Write},
    panic::{self, PanicHookInfo},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    Layer,
    filter::filter_fn,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
};

pub use record::LogRecord;
#[cfg(test)]
pub(crate) use sink::tests::Output;
pub use sink::{CAPACITY, Sink};
use sink::{LevelLabel, Style};

use crate::metrics::Metrics;

static DEBUG: AtomicBool = AtomicBool::new(false);
static STACKTRACE: AtomicBool = AtomicBool::new(false);
static FORMAT: OnceLock<Format> = OnceLock::new();

/// Format of the log, set by the flag `-log-format` for the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `[LEVEL] message`.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Format {
    /// Parses a value of the flag: `text` or `json`, in lower case.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The log of the process, on standard output.
pub fn sink() -> &'static Sink {
    static SINK: OnceLock<Sink> = OnceLock::new();
    SINK.get_or_init(|| {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let style = match format() {
            Format::Text => Style::Text { colour },
            Format::Json => Style::Json,
        };
        Sink::new(io::stdout(), CAPACITY, style)
    })
}

/// Format of the process's log.
pub fn format() -> Format {
    FORMAT.get().copied().unwrap_or_default()
}

/// Sends [`tracing`] events and panic messages to the process's log. Later calls have no effect.
pub fn install(format: Format) {
    let _ = FORMAT.set(format);
    let installed = tracing::subscriber::set_global_default(subscriber(sink().clone()));
    if installed.is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("panic");
    let location = panic.location().map(ToString::to_string);
    let location = location.unwrap_or_default();
    if STACKTRACE.load(Relaxed) {
        let stack = Backtrace::force_capture();
        tracing::error!("panic at {location}: {text}\n{stack}");
    } else {
        tracing::error!("panic at {location}: {text}");
    }
}

/// Whether panics are logged with a stack trace (`errors { stacktrace }`). Applies to the whole
/// process.
pub fn set_stacktrace(on: bool) {
    STACKTRACE.store(on, Relaxed);
}

/// Prints a fatal error on standard error, after flushing the log.
pub fn fatal(message: &str) {
    flush();
    let message = message.trim_end();
    // Unlike `eprintln!`, this does not panic if standard error is closed.
    let _ = match format() {
        Format::Text => writeln!(io::stderr(), "{message}"),
        Format::Json => {
            // The level replaces the prefix.
            let message = message.strip_prefix("error: ").unwrap_or(message);
            let mut line = Vec::new();
            LogRecord::begin(&mut line, record::FATAL, message.as_bytes(), None).end();
            writeln!(io::stderr(), "{}", String::from_utf8_lossy(&line))
        }
    };
}

/// Waits until buffered lines are written, for at most one second. Called before the process exits.
pub fn flush() {
    sink().flush(Duration::from_secs(1));
}

/// Shows or hides DEBUG lines, for the plugin `debug`.
pub fn set_debug(on: bool) {
    if DEBUG.swap(on, Relaxed) != on {
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Exports the number of dropped lines as a metric.
pub fn count_drops(metrics: &Metrics) {
    metrics.before_scrape(|metrics| {
        let counter = &metrics.log_lines_dropped_total;
        counter.inc_by(sink().dropped().saturating_sub(counter.get()));
        true
    });
}

/// The [`tracing`] subscriber: own events from INFO (or DEBUG) on, those of libraries from WARN on.
fn subscriber(sink: Sink) -> impl Subscriber + Send + Sync {
    let style = sink.style;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .fmt_fields(DefaultFields::new())
        .event_format(LineFormatter { style })
        .with_writer(SinkWriters(sink));
    tracing_subscriber::registry().with(lines.with_filter(filter_fn(is_shown)))
}

fn is_shown(metadata: &Metadata<'_>) -> bool {
    let max_level = match origin(metadata.target()) {
        // kube_client also returns its errors, which are logged with their context.
        EventOrigin::Library("kube_client") => return false,
        EventOrigin::Library(_) => Level::WARN,
        _ if DEBUG.load(Relaxed) => Level::DEBUG,
        _ => Level::INFO,
    };
    *metadata.level() <= max_level
}

/// Origin of an event, derived from its target.
#[derive(Debug, PartialEq, Eq)]
enum EventOrigin<'a> {
    Server,
    Plugin(&'a str),
    Library(&'a str),
}

/// Maps modules to the plugin names of the Corefile.
fn origin(target: &str) -> EventOrigin<'_> {
    if let Some(plugin) = target.strip_prefix("plugin/") {
        return EventOrigin::Plugin(plugin);
    }
    let mut modules = target.split("::");
    let library = modules.next().unwrap_or_default();
    if library != env!("CARGO_PKG_NAME") {
        return EventOrigin::Library(library);
    }
    match (modules.next(), modules.next()) {
        (Some("plugin"), Some(plugin)) if plugin != "chain" => EventOrigin::Plugin(plugin),
        (Some("cluster" | "zone"), _) => EventOrigin::Plugin("kubernetes"),
        (Some("upstream"), _) => EventOrigin::Plugin("forward"),
        (Some("admin"), Some(page @ ("health" | "ready"))) => EventOrigin::Plugin(page),
        (Some("reload"), _) => EventOrigin::Plugin("reload"),
        _ => EventOrigin::Server,
    }
}

/// Formats events as log lines.
struct LineFormatter {
    style: Style,
}

impl<S, N> FormatEvent<S, N> for LineFormatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let origin = origin(metadata.target());
        let Style::Text { colour } = self.style else {
            let mut message = String::new();
            if let EventOrigin::Library(library) = origin {
                message = format!("{library}: ");
            }
            context.format_fields(Writer::new(&mut message), event)?;
            let plugin = match origin {
                EventOrigin::Plugin(plugin) => Some(plugin),
                EventOrigin::Server | EventOrigin::Library(_) => None,
            };
            let level = record::level(*metadata.level());
            let mut line = Vec::new();
            LogRecord::begin(&mut line, level, message.as_bytes(), plugin).end();
            return out.write_str(&String::from_utf8_lossy(&line));
        };
        write!(out, "{} ", LevelLabel(*metadata.level(), colour))?;
        match origin {
            EventOrigin::Server => {}
            EventOrigin::Plugin(plugin) => write!(out, "plugin/{plugin}: ")?,
            EventOrigin::Library(library) => write!(out, "{library}: ")?,
        }
        context.format_fields(out, event)
    }
}

/// Lets [`tracing`] write to a sink, one event per write.
struct SinkWriters(Sink);

struct SinkWriter<'a>(&'a Sink);

impl<'a> MakeWriter<'a> for SinkWriters {
    type Writer = SinkWriter<'a>;

    fn make_writer(&'a self) -> SinkWriter<'a> {
        SinkWriter(&self.0)
    }
}

impl Write for SinkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes.strip_suffix(b"\n").unwrap_or(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{sink::tests::Output, *};

    #[test]
    fn events_have_the_format_of_coredns() {
        let page = Output::default();
        let sink = page.sink();
        tracing::subscriber::with_default(subscriber(sink.clone()), || {
            tracing::info!(target: "plugin/ready", "still waiting for {}", "kubernetes");
            tracing::warn!(target: "lodestone::upstream::pool", to = "10.0.0.1:53", "is down");
            tracing::error!(target: "lodestone::cli", "cannot start");
            tracing::debug!(target: "lodestone::cli", "not shown");
            tracing::info!(target: "kube::client", "not shown");
            tracing::warn!(target: "kube::client", "lost");
        });
        sink.line(Level::ERROR, "errors", format_args!("2 a. A: x"));
        sink.line(Level::DEBUG, "errors", format_args!("not shown"));
        assert_eq!(
            page.read(&sink),
            "[INFO] plugin/ready: still waiting for kubernetes\n\
             [WARNING] plugin/forward: is down to=\"10.0.0.1:53\"\n\
             [ERROR] cannot start\n\
             [WARNING] kube: lost\n\
             [ERROR] plugin/errors: 2 a. A: x\n"
        );
    }

    #[test]
    fn records_have_the_message_of_text_lines() {
        let page = Output::default();
        let sink = page.records();
        tracing::subscriber::with_default(subscriber(sink.clone()), || {
            tracing::warn!(target: "lodestone::upstream::pool", to = "10.0.0.1:53", "is\ndown");
            tracing::info!(target: "lodestone::cli", "one");
            tracing::error!(target: "kube::client", "lost");
        });
        sink.line(Level::ERROR, "errors", format_args!("2 a. A: x"));
        sink.line(Level::DEBUG, "errors", format_args!("not shown"));
        let records: Vec<_> = page
            .read(&sink)
            .lines()
            .map(|line| {
                let (time, rest) = line.split_once(',').unwrap();
                assert!(time.starts_with(r#"{"time":"2"#), "{line}");
                rest.to_owned()
            })
            .collect();
        assert_eq!(
            records,
            [
                r#""level":"WARN","msg":"is\ndown to=\"10.0.0.1:53\"","plugin":"forward"}"#,
                r#""level":"INFO","msg":"one"}"#,
                r#""level":"ERROR","msg":"kube: lost"}"#,
                r#""level":"ERROR","msg":"2 a. A: x","plugin":"errors"}"#,
            ]
        );
    }

    #[test]
    fn modules_log_as_their_plugins() {
        for (target, wanted) in [
            ("plugin/health", EventOrigin::Plugin("health")),
            (
                "lodestone::plugin::cache::entry",
                EventOrigin::Plugin("cache"),
            ),
            ("lodestone::plugin::chain", EventOrigin::Server),
            ("lodestone::cluster::api", EventOrigin::Plugin("kubernetes")),
            ("lodestone::admin::ready", EventOrigin::Plugin("ready")),
            ("lodestone::server::udp", EventOrigin::Server),
            ("lodestone", EventOrigin::Server),
            ("hyper::proto", EventOrigin::Library("hyper")),
        ] {
            assert_eq!(origin(target), wanted, "{target}");
        }
    }
}
