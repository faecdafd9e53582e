//! Determines which pod labels to keep for `kubernetes/client-label/KEY` (see
//! [`metadata`](crate::plugin::metadata)). All others are dropped when decoded: labels are larger
//! than the other kept fields of a pod.
//!
//! A label is used by name in the Corefile: in a log format, an expression or a template. So all
//! arguments of all directives in the block are searched.

use std::collections::BTreeMap;

use crate::corefile::{Diagnostic, Directive, Word};

/// Prefix of the metadata key, without `kubernetes/`.
pub(super) const PREFIX: &str = "client-label/";
/// The full prefix of the metadata key.
const FULL_PREFIX: &str = "kubernetes/client-label/";

/// The labels used in a block. None without the `metadata` plugin; without `pods verified` they are
/// unknown, which adds warnings.
pub(super) fn read(
    neighbours: &[Directive],
    verified: bool,
    warnings: &mut Vec<Diagnostic>,
) -> Box<[Box<str>]> {
    if !neighbours.iter().any(|one| one.name == "metadata") {
        return Box::default();
    }
    let mut named = BTreeMap::new();
    for word in neighbours.iter().flat_map(words) {
        for key in keys(word) {
            named.entry(key).or_insert(word);
        }
    }
    if verified {
        return named.into_keys().map(Into::into).collect();
    }
    for (key, word) in named {
        let warning = word.warning(format!("'{FULL_PREFIX}{key}' is never known"));
        let label = "'kubernetes' does not watch pods";
        let help = "add 'pods verified' to the kubernetes block";
        warnings.push(warning.label(label).help(help));
    }
    Box::default()
}

fn words(directive: &Directive) -> impl Iterator<Item = &Word> {
    let lines = directive.properties().iter();
    let arguments = directive.arguments.iter();
    arguments.chain(lines.flat_map(|line| &line.words))
}

/// The label keys in an argument: the text after each prefix, up to a character that is invalid in
/// keys.
fn keys(word: &str) -> impl Iterator<Item = &str> {
    let behind = word.split(FULL_PREFIX).skip(1);
    let is_part = |at: char| at.is_ascii_alphanumeric() || matches!(at, '.' | '_' | '-' | '/');
    let keys = behind.map(move |text| text.split(|at| !is_part(at)).next().unwrap_or_default());
    keys.filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corefile::{self, Memory};

    fn labels(text: &str, verified: bool) -> (String, usize) {
        let text = format!(".:53 {{\n{text}\n}}\n");
        let known = ["metadata", "log", "rewrite", "kubernetes"];
        let file = corefile::parse("Corefile", &text, &known, &Memory::default()).unwrap();
        let mut warnings = Vec::new();
        let read = read(&file.blocks[0].directives, verified, &mut warnings);
        (read.join(" "), warnings.len())
    }

    #[test]
    fn labels_used_in_the_block_are_found() {
        let text = r#"metadata
            log . "{remote} {/kubernetes/client-label/app} {/kubernetes/client-pod-name}"
            log . "{/kubernetes/client-label/app}{/kubernetes/client-label/app.kubernetes.io/name}"
            rewrite name regex (.*) {1}.{kubernetes/client-label/zone}.b metadata answer auto
            rewrite {
                x "metadata('kubernetes/client-label/team') == 'a'" {kubernetes/client-label/}
            }"#;
        let (read, warnings) = labels(text, true);
        assert_eq!(
            (&*read, warnings),
            ("app app.kubernetes.io/name team zone", 0)
        );
        assert_eq!(labels(text, false), (String::new(), 4));
        let unread = text.replace("metadata\n", "");
        assert_eq!(labels(&unread, true), (String::new(), 0));
        assert_eq!(labels("metadata\nlog", true), (String::new(), 0));
    }
}
