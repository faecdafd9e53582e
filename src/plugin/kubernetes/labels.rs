//! Which labels of pods are read, as `kubernetes/client-label/KEY` (see
//! [`metadata`](crate::plugin::metadata)): all others are thrown away as they come in, since the
//! labels of a pod are more than all else that is kept of it.
//!
//! Whoever reads a label names it in the Corefile, be it in a line of the log, an expression or a
//! value that is filled in. So all words of the block are looked through, whatever they are for.

use std::collections::BTreeMap;

use crate::corefile::{Diagnostic, Directive, Word};

/// What stands before the label's name.
pub(super) const PREFIX: &str = "client-label/";
/// The same in full.
const IN_FULL: &str = "kubernetes/client-label/";

/// The labels that the plugins of a block read. Without `metadata` nobody can; without `verified`
/// pods there are none, which is said to `warnings`.
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
        let warning = word.warning(format!("'{IN_FULL}{key}' is never known"));
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

/// The labels that a word names: what stands behind the prefix, as far as it can be a label's name.
fn keys(word: &str) -> impl Iterator<Item = &str> {
    let behind = word.split(IN_FULL).skip(1);
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
    fn labels_are_those_that_the_block_names() {
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
