//! Labels of metadata that nothing makes: a line of the log then has `-` in their place, an
//! expression an empty text, and a rule does nothing.

use std::sync::LazyLock;

use regex::Regex;

use super::ServerBlock;
use crate::{
    corefile::{Diagnostic, Directive, Word, nearest},
    plugin::metadata::{self, Maker, Moment},
};

/// A word that reads labels, when it does, and how they stand in its words.
struct Reader {
    name: &'static str,
    moment: Moment,
    /// Its one group is the label.
    form: fn() -> &'static Regex,
}

const READERS: [Reader; 6] = [
    reader("log", Moment::Answered, placeholder),
    reader("dnstap", Moment::Asked, placeholder),
    reader("rewrite", Moment::Asked, braces),
    reader("template", Moment::Asked, field),
    reader("template", Moment::Asked, call),
    reader("view", Moment::Asked, call),
];

const fn reader(name: &'static str, moment: Moment, form: fn() -> &'static Regex) -> Reader {
    Reader { name, moment, form }
}

/// `{/LABEL}`.
fn placeholder() -> &'static Regex {
    static FORM: LazyLock<Regex> = LazyLock::new(|| regex(r"\{/([^{}]+)\}"));
    &FORM
}

/// `{PLUGIN/KEY}`.
fn braces() -> &'static Regex {
    static FORM: LazyLock<Regex> = LazyLock::new(|| regex(r"\{([^{}/]+/[^{}]+)\}"));
    &FORM
}

/// `.Meta "LABEL"`.
fn field() -> &'static Regex {
    static FORM: LazyLock<Regex> = LazyLock::new(|| regex("\\.Meta\\s+[\"`]([^\"`]+)[\"`]"));
    &FORM
}

/// `metadata('LABEL')`.
fn call() -> &'static Regex {
    static FORM: LazyLock<Regex> =
        LazyLock::new(|| regex(r#"\bmetadata\(\s*['"]([^'"]+)['"]\s*\)"#));
    &FORM
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("well-formed")
}

/// Looks at one block.
pub(super) fn look(block: &ServerBlock, found: &mut Vec<Diagnostic>) {
    let has_metadata = block.has("metadata");
    for reader in &READERS {
        for directive in block.uses(reader.name) {
            for word in words(directive) {
                let labels = (reader.form)().captures_iter(word);
                for label in labels.filter_map(|found| found.get(1)) {
                    let warning = if has_metadata {
                        doubt(block, reader, word, label.as_str())
                    } else {
                        let help = "add a line 'metadata' to the server block";
                        Some(unknown(word, label.as_str()).help(help))
                    };
                    found.extend(warning);
                }
            }
        }
    }
}

/// The words of a directive that labels are read in.
fn words(directive: &Directive) -> impl Iterator<Item = &Word> {
    let lines = directive.properties().iter();
    let words = directive.arguments.iter();
    let words = words.chain(lines.flat_map(|line| &line.words));
    let words: Vec<&Word> = words.collect();
    let is_rewrite = directive.name == "rewrite";
    (0..words.len()).filter_map(move |place| {
        let word = words[place];
        // In a rule, braces are labels in front of the word `metadata` and in the data of options.
        let counts = !is_rewrite
            || words
                .get(place + 1)
                .is_some_and(|next| **next == "metadata")
            || words.iter().any(|it| it.eq_ignore_ascii_case("edns0"));
        counts.then_some(word)
    })
}

fn doubt(block: &ServerBlock, reader: &Reader, word: &Word, label: &str) -> Option<Diagnostic> {
    let warning = unknown(word, label);
    let plugin = label.split('/').next().unwrap_or_default();
    let makers = metadata::MAKERS.iter();
    let makers: Vec<&Maker> = makers.filter(|maker| maker.plugin == plugin).collect();
    let Some(maker) = makers.iter().find(|maker| maker.makes(label)) else {
        let keys = makers.iter().flat_map(|maker| maker.labels);
        let keys = keys.copied().filter(|key| !key.ends_with('/'));
        let near = nearest(label, keys);
        return Some(
            warning
                .label("nothing in Lodestone makes it")
                .maybe_help(near.map(|near| format!("did you mean '{near}'?"))),
        );
    };
    if !block.has(plugin) {
        let label = format!("'{plugin}' makes it, which is not in this block");
        return Some(warning.label(label));
    }
    (maker.moment > reader.moment).then(|| {
        warning.label(format!(
            "it is known once a query is answered, after '{}' has read it",
            reader.name
        ))
    })
}

fn unknown(word: &Word, label: &str) -> Diagnostic {
    word.warning(format!("nothing is known under the label '{label}'"))
}
