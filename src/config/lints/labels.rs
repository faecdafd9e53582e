//! Lints about metadata labels that no plugin sets: log fields would be `-`, values in expressions
//! empty, and rewrite rules without effect.

use std::sync::LazyLock;

use regex::Regex;

use super::ServerBlock;
use crate::{
    corefile::{Diagnostic, Directive, Word, nearest},
    plugin::{
        log,
        metadata::{self, Available, Publisher},
    },
};

/// A directive that reads labels: when it does, and the syntax of its references.
struct Reader {
    name: &'static str,
    available: Available,
    /// Matches a reference; its group is the label.
    pattern: fn() -> &'static Regex,
}

const READERS: [Reader; 6] = [
    reader("log", Available::OnReply, placeholder),
    reader("dnstap", Available::OnQuery, placeholder),
    reader("rewrite", Available::OnQuery, braces),
    reader("template", Available::OnQuery, field),
    reader("template", Available::OnQuery, call),
    reader("view", Available::OnQuery, call),
];

const fn reader(
    name: &'static str,
    available: Available,
    pattern: fn() -> &'static Regex,
) -> Reader {
    Reader {
        name,
        available,
        pattern,
    }
}

/// `{/LABEL}`.
fn placeholder() -> &'static Regex {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| regex(r"\{/([^{}]+)\}"));
    &PATTERN
}

/// `{PLUGIN/KEY}`.
fn braces() -> &'static Regex {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| regex(r"\{([^{}/]+/[^{}]+)\}"));
    &PATTERN
}

/// `.Meta "LABEL"`.
fn field() -> &'static Regex {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| regex("\\.Meta\\s+[\"`]([^\"`]+)[\"`]"));
    &PATTERN
}

/// `metadata('LABEL')`.
fn call() -> &'static Regex {
    static PATTERN: LazyLock<Regex> =
        LazyLock::new(|| regex(r#"\bmetadata\(\s*['"]([^'"]+)['"]\s*\)"#));
    &PATTERN
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("well-formed")
}

/// Checks one block.
pub(super) fn check(block: &ServerBlock, lints: &mut Vec<Diagnostic>) {
    let has_metadata = block.has("metadata");
    for reader in &READERS {
        for directive in block.uses(reader.name) {
            for word in words(directive) {
                let labels = (reader.pattern)().captures_iter(word);
                for label in labels.filter_map(|found| found.get(1)) {
                    let warning = if has_metadata {
                        check_label(block, reader, word, label.as_str())
                    } else {
                        let help = "add a line 'metadata' to the server block";
                        Some(unknown(word, label.as_str()).help(help))
                    };
                    lints.extend(warning);
                }
            }
        }
    }
}

/// The words of a directive that can contain label references.
fn words(directive: &Directive) -> impl Iterator<Item = &Word> {
    let lines = directive.properties().iter();
    let words = directive.arguments.iter();
    let words = words.chain(lines.flat_map(|line| &line.words));
    let words: Vec<&Word> = words.collect();
    let is_rewrite = directive.name == "rewrite";
    (0..words.len()).filter_map(move |index| {
        let word = words[index];
        // In rewrite rules, braces are labels before the word `metadata` and in EDNS option data.
        let counts = !is_rewrite
            || words
                .get(index + 1)
                .is_some_and(|next| **next == "metadata")
            || words.iter().any(|it| it.eq_ignore_ascii_case("edns0"));
        counts.then_some(word)
    })
}

fn check_label(
    block: &ServerBlock,
    reader: &Reader,
    word: &Word,
    label: &str,
) -> Option<Diagnostic> {
    if label == log::REASON && reader.name == "log" {
        // Set without `metadata`.
        return None;
    }
    let warning = unknown(word, label);
    let plugin = label.split('/').next().unwrap_or_default();
    let publishers = metadata::PUBLISHERS.iter();
    let publishers: Vec<&Publisher> = publishers
        .filter(|publisher| publisher.plugin == plugin)
        .collect();
    let Some(publisher) = publishers
        .iter()
        .find(|publisher| publisher.publishes(label))
    else {
        let keys = publishers.iter().flat_map(|publisher| publisher.labels);
        let keys = keys.copied().filter(|key| !key.ends_with('/'));
        let near = nearest(label, keys);
        return Some(
            warning
                .label("no plugin of Lodestone sets it")
                .maybe_help(near.map(|near| format!("did you mean '{near}'?"))),
        );
    };
    if !block.has(plugin) {
        let label = format!("set by '{plugin}', which is not in this block");
        return Some(warning.label(label));
    }
    (publisher.available > reader.available).then(|| {
        warning.label(format!(
            "set after the query is answered, too late for '{}'",
            reader.name
        ))
    })
}

fn unknown(word: &Word, label: &str) -> Diagnostic {
    word.warning(format!("no plugin sets the metadata label '{label}'"))
}
