//! The log: lines on standard output that look like CoreDNS's, written by one thread of their own.
//!
//! `[INFO] plugin/ready: still waiting for kubernetes`: a level in brackets, the plugin that
//! speaks where it is one, a message, no time (whoever collects the lines adds it). Events of
//! [`tracing`] come out in this form; what is logged for each query goes to the [`Sink`] directly.
//! With `-log-format json` every line is a [`Record`] instead, with the same words in it.
//!
//! Nobody who logs ever waits for whoever reads: lines go into a bounded buffer, and what does not
//! fit is dropped, counted, and told.

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

pub use record::Record;
pub use sink::Sink;
#[cfg(test)]
pub(crate) use sink::tests::Page;
use sink::{CAPACITY, Label, Style};

use crate::metrics::Metrics;

static DEBUG: AtomicBool = AtomicBool::new(false);
static STACKTRACE: AtomicBool = AtomicBool::new(false);
static FORM: OnceLock<Form> = OnceLock::new();

/// The form of the lines: the flag `-log-format`, one for the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `[LEVEL] message`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Form {
    /// Reads a value of the flag; none but these two words, in lower case, has a meaning.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The log of the process: standard output.
pub fn sink() -> &'static Sink {
    static SINK: OnceLock<Sink> = OnceLock::new();
    SINK.get_or_init(|| {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let style = match form() {
            Form::Text => Style::Text { colour },
            Form::Json => Style::Json,
        };
        Sink::new(io::stdout(), CAPACITY, style)
    })
}

/// The form of the process's log.
pub fn form() -> Form {
    FORM.get().copied().unwrap_or_default()
}

/// Sends the events of [`tracing`], and what panics say, to the log of the process, in this form.
/// Later calls do nothing.
pub fn install(form: Form) {
    let _ = FORM.set(form);
    let installed = tracing::subscriber::set_global_default(subscriber(sink().clone()));
    if installed.is_ok() {
        panic::set_hook(Box::new(tell_panic));
    }
}

fn tell_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("panic");
    let place = panic.location().map(ToString::to_string);
    let place = place.unwrap_or_default();
    if STACKTRACE.load(Relaxed) {
        let stack = Backtrace::force_capture();
        tracing::error!("panic at {place}: {text}\n{stack}");
    } else {
        tracing::error!("panic at {place}: {text}");
    }
}

/// Whether panics are told with the stack that they came from: `errors { stacktrace }`, which
/// holds for the whole process.
pub fn set_stacktrace(on: bool) {
    STACKTRACE.store(on, Relaxed);
}

/// Says on standard error why the process ends, after everything that was logged.
pub fn fatal(message: &str) {
    flush();
    let message = message.trim_end();
    // `eprintln!` panics where standard error cannot be written, and there is no other place.
    let _ = match form() {
        Form::Text => writeln!(io::stderr(), "{message}"),
        Form::Json => {
            // The level says that it is an error.
            let message = message.strip_prefix("error: ").unwrap_or(message);
            let mut line = Vec::new();
            Record::begin(&mut line, record::FATAL, message.as_bytes(), None).end();
            writeln!(io::stderr(), "{}", String::from_utf8_lossy(&line))
        }
    };
}

/// Waits until what was logged is written, for a second at most: before the process ends.
pub fn flush() {
    sink().flush(Duration::from_secs(1));
}

/// Shows or hides lines of level DEBUG: what the plugin `debug` is for.
pub fn set_debug(on: bool) {
    if DEBUG.swap(on, Relaxed) != on {
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Has the metrics tell how many lines were dropped.
pub fn count_drops(metrics: &Metrics) {
    metrics.before_scrape(|metrics| {
        let counter = &metrics.log_lines_dropped_total;
        counter.inc_by(sink().dropped().saturating_sub(counter.get()));
        true
    });
}

/// What [`tracing`] is given: events of ours from INFO on (or DEBUG), of libraries from WARN on.
fn subscriber(sink: Sink) -> impl Subscriber + Send + Sync {
    let style = sink.style;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .fmt_fields(DefaultFields::new())
        .event_format(Lines { style })
        .with_writer(Lend(sink));
    tracing_subscriber::registry().with(lines.with_filter(filter_fn(is_shown)))
}

fn is_shown(metadata: &Metadata<'_>) -> bool {
    let most = match origin(metadata.target()) {
        // What it complains of comes back as an error, and is told with what it means.
        Origin::Library("kube_client") => return false,
        Origin::Library(_) => Level::WARN,
        _ if DEBUG.load(Relaxed) => Level::DEBUG,
        _ => Level::INFO,
    };
    *metadata.level() <= most
}

/// Who speaks, by the target of an event.
#[derive(Debug, PartialEq, Eq)]
enum Origin<'a> {
    Server,
    Plugin(&'a str),
    Library(&'a str),
}

/// A module is called as the Corefile calls what it does.
fn origin(target: &str) -> Origin<'_> {
    if let Some(plugin) = target.strip_prefix("plugin/") {
        return Origin::Plugin(plugin);
    }
    let mut modules = target.split("::");
    let library = modules.next().unwrap_or_default();
    if library != env!("CARGO_PKG_NAME") {
        return Origin::Library(library);
    }
    match (modules.next(), modules.next()) {
        (Some("plugin"), Some(plugin)) if plugin != "chain" => Origin::Plugin(plugin),
        (Some("cluster" | "zone"), _) => Origin::Plugin("kubernetes"),
        (Some("upstream"), _) => Origin::Plugin("forward"),
        (Some("admin"), Some(page @ ("health" | "ready"))) => Origin::Plugin(page),
        (Some("reload"), _) => Origin::Plugin("reload"),
        _ => Origin::Server,
    }
}

/// The form of a line.
struct Lines {
    style: Style,
}

impl<S, N> FormatEvent<S, N> for Lines
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
            if let Origin::Library(library) = origin {
                message = format!("{library}: ");
            }
            context.format_fields(Writer::new(&mut message), event)?;
            let plugin = match origin {
                Origin::Plugin(plugin) => Some(plugin),
                Origin::Server | Origin::Library(_) => None,
            };
            let level = record::level(*metadata.level());
            let mut line = Vec::new();
            Record::begin(&mut line, level, message.as_bytes(), plugin).end();
            return out.write_str(&String::from_utf8_lossy(&line));
        };
        write!(out, "{} ", Label(*metadata.level(), colour))?;
        match origin {
            Origin::Server => {}
            Origin::Plugin(plugin) => write!(out, "plugin/{plugin}: ")?,
            Origin::Library(library) => write!(out, "{library}: ")?,
        }
        context.format_fields(out, event)
    }
}

/// Gives [`tracing`] a writer: it writes one event at once.
struct Lend(Sink);

struct Lent<'a>(&'a Sink);

impl<'a> MakeWriter<'a> for Lend {
    type Writer = Lent<'a>;

    fn make_writer(&'a self) -> Lent<'a> {
        Lent(&self.0)
    }
}

impl Write for Lent<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.push(octets.strip_suffix(b"\n").unwrap_or(octets));
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{sink::tests::Page, *};

    #[test]
    fn events_look_like_those_of_coredns() {
        let page = Page::default();
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
    fn records_have_the_words_of_lines_without_what_has_a_key() {
        let page = Page::default();
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
    fn modules_speak_as_their_plugins() {
        for (target, wanted) in [
            ("plugin/health", Origin::Plugin("health")),
            ("lodestone::plugin::cache::entry", Origin::Plugin("cache")),
            ("lodestone::plugin::chain", Origin::Server),
            ("lodestone::cluster::api", Origin::Plugin("kubernetes")),
            ("lodestone::admin::ready", Origin::Plugin("ready")),
            ("lodestone::server::udp", Origin::Server),
            ("lodestone", Origin::Server),
            ("hyper::proto", Origin::Library("hyper")),
        ] {
            assert_eq!(origin(target), wanted, "{target}");
        }
    }
}
