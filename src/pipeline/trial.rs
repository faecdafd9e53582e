//! Trial build: checks the files that a configuration names, for `lodestone check` and `doctor`.
//!
//! Builds every plugin as at start, on a runtime that is never driven: spawned tasks, and thus
//! connections, never run. Log lines are captured, errors are reported with their span. No listener
//! is opened and no cluster is contacted.

use std::{any::Any, fmt::Write, sync::Arc};

use parking_lot::Mutex;
use tracing::{Event, Level, Subscriber, field::Visit};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

use super::{BuildInputs, identity, shared_tls};
use crate::{
    admin,
    cluster::{Backend, SourceError, manifests},
    config::{Config, ServerBlock},
    corefile::{Diagnostic, Directive, Word},
    error_text,
    metrics::Metrics,
    plugin::{BuildError, Setup, SharedResources, kubernetes},
    tls::ServerFiles,
};

/// Builds `config` and returns the problems of its files: errors where a start would fail, warnings
/// where it would log one. The start may be on another machine, in a pod of the cluster.
pub fn trial(config: &Config, default_port: u16) -> Vec<Diagnostic> {
    build(config, default_port, false)
}

/// Like [`trial`], for a start on this machine.
pub fn trial_here(config: &Config, default_port: u16) -> Vec<Diagnostic> {
    build(config, default_port, true)
}

fn build(config: &Config, default_port: u16, is_here: bool) -> Vec<Diagnostic> {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("cannot check the referenced files: {error}");
            return vec![Diagnostic::warning(message)];
        }
    };
    // A repeated install has no effect.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let log = CapturedLog::default();
    let subscriber = tracing_subscriber::registry().with(log.clone());
    let mut diagnostics = Vec::new();
    tracing::subscriber::with_default(subscriber, || {
        let _entered = runtime.enter();
        let resources = SharedResources::default();
        let metrics = Metrics::new();
        for block in &config.blocks {
            let mut trial = Trial {
                block,
                log: &log,
                is_here,
                diagnostics: &mut diagnostics,
            };
            trial.plugins(default_port, &resources, &metrics);
            trial.certificates(&resources);
        }
        let conflict = shared_tls::find(config, default_port);
        diagnostics.extend(conflict.map(|conflict| conflict.diagnostic()));
    });
    runtime.shutdown_background();
    diagnostics
}

struct Trial<'a> {
    block: &'a ServerBlock,
    log: &'a CapturedLog,
    /// Whether the start is on this machine.
    is_here: bool,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Trial<'_> {
    fn plugins(&mut self, default_port: u16, resources: &SharedResources, metrics: &Arc<Metrics>) {
        let block = self.block;
        super::warn_of_root(block);
        self.report_warnings("root", uses(block, "root").count().saturating_sub(1));
        let inputs = BuildInputs::of(block, default_port);
        let mut build = inputs.build(resources, metrics);
        // Built plugins provide services to later ones and must live until all are built.
        let mut built = Vec::new();
        let mut dependency_failed = false;
        for index in block.building_order() {
            let (word, setup) = &block.plugins[index];
            let outcome = setup.build(&mut build);
            if outcome.is_ok() {
                read_manifests(&**setup);
            }
            let before = block.plugins[..index].iter();
            let nth = before.filter(|(other, _)| other == word).count();
            self.report_warnings(word, nth);
            match outcome {
                Ok(plugin) => built.push(plugin),
                Err(error) => {
                    // Fails because a plugin on which it depends failed, which was reported
                    // already.
                    let is_consequence = dependency_failed && error.source.is_none();
                    let is_elsewhere = !self.is_here && is_outside_cluster(&error);
                    if !is_consequence && !is_elsewhere {
                        self.diagnostics
                            .push(build_error(&error, self.block, word, nth));
                    }
                    dependency_failed |= !setup.offers().is_empty();
                }
            }
        }
    }

    fn certificates(&mut self, resources: &SharedResources) {
        // The trial must not write to a key log.
        let files = self.block.settings.listening.tls.clone();
        let files = files.map(|files| ServerFiles {
            key_log: None,
            ..files
        });
        if let Some(files) = files
            && let Err(error) = identity(&files, resources)
        {
            self.diagnostics
                .push(build_error(&error, self.block, "tls", 0));
        }
        for page in self.block.pages() {
            let word = page.page.plugin();
            if let Some(file) = &page.tls
                && let Err(error) = admin::check_tls(file)
            {
                let error = Diagnostic::error(format!("plugin/{word}: {error}"));
                self.diagnostics.push(at(error, self.block, word, 0));
            }
        }
    }

    /// The warnings logged by the directive `word`, at its use number `nth`.
    fn report_warnings(&mut self, word: &str, nth: usize) {
        for line in self.log.take() {
            let warning = Diagnostic::warning(line).in_plugin(word);
            self.diagnostics.push(at(warning, self.block, word, nth));
        }
    }
}

/// Reads the manifests of a `kubernetes` plugin, as its task does after the start: their mistakes are logged.
fn read_manifests(setup: &dyn Setup) {
    let setup: &dyn Any = setup;
    let plugin: Option<&kubernetes::Config> = setup.downcast_ref();
    if let Some(Backend::Manifests { directory }) = plugin.map(|plugin| &plugin.source.backend) {
        manifests::objects(directory);
    }
}

fn uses<'a>(block: &'a ServerBlock, word: &'a str) -> impl Iterator<Item = &'a Directive> {
    let uses = block.directives.iter();
    uses.filter(move |directive| directive.name == word)
}

/// Whether the error is only that this machine is not in the cluster.
fn is_outside_cluster(error: &BuildError) -> bool {
    let source = error.source.as_ref().and_then(|it| it.downcast_ref());
    matches!(
        source,
        Some(SourceError::NoCluster | SourceError::InCluster(_))
    )
}

/// The error with its chain of causes, at the directive or the word concerned.
fn build_error(error: &BuildError, block: &ServerBlock, word: &str, nth: usize) -> Diagnostic {
    let mut message = error.to_string();
    if let Some(source) = &error.source {
        let _ = write!(message, ": {}", error_text::chain(source));
    }
    at(Diagnostic::error(message), block, word, nth)
}

/// Sets the span: the argument that the message mentions, otherwise the directive `word` at its use number
/// `nth`. Uses that are merged into one plugin are all searched.
fn at(diagnostic: Diagnostic, block: &ServerBlock, word: &str, nth: usize) -> Diagnostic {
    let Some(directive) = uses(block, word).nth(nth) else {
        return diagnostic;
    };
    let words = |directive: &'_ Directive| {
        let lines = directive.properties().iter();
        let lines = lines.flat_map(|line| line.words[1..].to_vec());
        let arguments = directive.arguments.iter().cloned();
        arguments.chain(lines).collect::<Vec<_>>()
    };
    let message = &diagnostic.message;
    let is_named = |word: &Word| {
        let is_path = word.contains(['/', '.']) && message.contains(word.as_str());
        word.len() > 2 && (is_path || contains_word(message, word))
    };
    let candidates = std::iter::once(directive).chain(uses(block, word));
    let named = candidates.flat_map(words).find(is_named);
    let span = named.map_or(directive.name.span, |word| word.span);
    diagnostic.at(span)
}

/// Whether `word` occurs in `text` delimited as a word.
fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let behind = text[at + word.len()..].chars().next();
        before.is_some_and(|it| matches!(it, ' ' | '"' | '/'))
            && behind.is_none_or(|it| matches!(it, ':' | ' ' | '"' | ','))
    })
}

/// Captured log events of level WARN and above.
#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<String>>>);

impl CapturedLog {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl<S: Subscriber> Layer<S> for CapturedLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= Level::WARN {
            let mut message = MessageVisitor(String::new());
            event.record(&mut message);
            self.0.lock().push(message.0);
        }
    }
}

/// The message of an event.
struct MessageVisitor(String);

impl Visit for MessageVisitor {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests;
