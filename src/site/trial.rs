//! A configuration built on trial: what a start would find in the files that it names.
//!
//! Every plugin is built as for a start, on a runtime that never runs: what a plugin spawns, and so
//! every connection, stays undone. What it logs meanwhile is caught; what it refuses is told with
//! its place. No listener is opened, and no cluster is asked: that there is none here is no fault.

use std::{fmt::Write, sync::Arc};

use parking_lot::Mutex;
use tracing::{Event, Level, Subscriber, field::Visit};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

use super::{Surroundings, identity, shared_tls};
use crate::{
    admin,
    cluster::SourceError,
    config::{Config, ServerBlock},
    corefile::{Diagnostic, Directive, Word},
    metrics::Metrics,
    plain,
    plugin::{BuildError, Parts},
    tls::Files,
};

/// Builds `config` and gives what is wrong with the files that it names: errors where a start
/// fails, warnings where it only says so.
pub fn trial(config: &Config, default_port: u16) -> Vec<Diagnostic> {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("the files that are named cannot be tried: {error}");
            return vec![Diagnostic::warning(message)];
        }
    };
    // A second install changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let told = Told::default();
    let subscriber = tracing_subscriber::registry().with(told.clone());
    let mut found = Vec::new();
    tracing::subscriber::with_default(subscriber, || {
        let _entered = runtime.enter();
        let parts = Parts::default();
        let metrics = Metrics::new();
        for block in &config.blocks {
            let mut trial = Trial {
                block,
                told: &told,
                found: &mut found,
            };
            trial.plugins(default_port, &parts, &metrics);
            trial.certificates(&parts);
        }
        let clash = shared_tls::find(config, default_port);
        found.extend(clash.map(|clash| clash.diagnostic()));
    });
    runtime.shutdown_background();
    found
}

struct Trial<'a> {
    block: &'a ServerBlock,
    told: &'a Told,
    found: &'a mut Vec<Diagnostic>,
}

impl Trial<'_> {
    fn plugins(&mut self, default_port: u16, parts: &Parts, metrics: &Arc<Metrics>) {
        let block = self.block;
        super::warn_of_root(block);
        self.tell_warnings(uses(block, "root").last());
        let surroundings = Surroundings::of(block, default_port);
        let mut build = surroundings.build(parts, metrics);
        // What is built hands on what others ask for, and must live as long as they are tried.
        let mut built = Vec::new();
        let mut lacking = false;
        for place in block.building_order() {
            let (word, setup) = &block.plugins[place];
            let outcome = setup.build(&mut build);
            let before = block.plugins[..place].iter();
            let nth = before.filter(|(other, _)| other == word).count();
            let directive = uses(block, word).nth(nth);
            self.tell_warnings(directive);
            match outcome {
                Ok(plugin) => built.push(plugin),
                Err(error) => {
                    // What lacks an offer fails for want of it, and that is told already.
                    let follows = lacking && error.source.is_none();
                    if !follows && !is_elsewhere(&error) {
                        self.found.push(refusal(&error, directive));
                    }
                    lacking |= setup.offers();
                }
            }
        }
    }

    fn certificates(&mut self, parts: &Parts) {
        // A look must not begin to write a key log.
        let files = self.block.settings.listening.tls.clone();
        let files = files.map(|files| Files {
            key_log: None,
            ..files
        });
        if let Some(files) = files
            && let Err(error) = identity(&files, parts)
        {
            self.found
                .push(refusal(&error, uses(self.block, "tls").next()));
        }
        for page in self.block.pages() {
            let word = page.page.plugin();
            if let Some(file) = &page.tls
                && let Err(error) = admin::check_tls(file)
            {
                let message = format!("plugin/{word}: {error}");
                self.found.push(at(
                    Diagnostic::error(message),
                    uses(self.block, word).next(),
                ));
            }
        }
    }

    fn tell_warnings(&mut self, directive: Option<&Directive>) {
        for line in self.told.take() {
            let name = directive.map_or("", |directive| directive.name.as_str());
            let warning = Diagnostic::warning(line).in_plugin(name);
            self.found.push(at(warning, directive));
        }
    }
}

fn uses<'a>(block: &'a ServerBlock, word: &'a str) -> impl Iterator<Item = &'a Directive> {
    let uses = block.directives.iter();
    uses.filter(move |directive| directive.name == word)
}

/// Whether it failed only because this machine is not in the cluster.
fn is_elsewhere(error: &BuildError) -> bool {
    let source = error.source.as_ref().and_then(|it| it.downcast_ref());
    matches!(
        source,
        Some(SourceError::NoCluster | SourceError::InCluster(_))
    )
}

/// The error with all of its causes, at the line of the directive that names what it is about.
fn refusal(error: &BuildError, directive: Option<&Directive>) -> Diagnostic {
    let mut message = error.to_string();
    if let Some(source) = &error.source {
        let _ = write!(message, ": {}", plain::chain(source));
    }
    at(Diagnostic::error(message), directive)
}

/// Points at the word that the message is about: a file that both name, else the directive.
fn at(diagnostic: Diagnostic, directive: Option<&Directive>) -> Diagnostic {
    let Some(directive) = directive else {
        return diagnostic;
    };
    let lines = directive.properties().iter();
    let lines = lines.flat_map(|line| &line.words[1..]);
    let message = &diagnostic.message;
    let is_named = |word: &&Word| {
        let is_path = word.contains(['/', '.']) && message.contains(word.as_str());
        word.len() > 2 && (is_path || stands_alone(message, word))
    };
    let named = directive.arguments.iter().chain(lines).find(is_named);
    let place = named.unwrap_or(&directive.name).place;
    diagnostic.at(place)
}

/// Whether a word is in a text by itself and not as a part of another one.
fn stands_alone(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let behind = text[at + word.len()..].chars().next();
        before.is_some_and(|it| matches!(it, ' ' | '"' | '/'))
            && behind.is_none_or(|it| matches!(it, ':' | ' ' | '"' | ','))
    })
}

/// What is logged from warnings on.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl<S: Subscriber> Layer<S> for Told {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= Level::WARN {
            let mut message = Message(String::new());
            event.record(&mut message);
            self.0.lock().push(message.0);
        }
    }
}

/// The text of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests;
