//! Words of rules: names and parts of them, patterns, replacements.

use regex::Regex;

use crate::{
    corefile::{Diagnostic, Word},
    plugin::rewrite::names::{Misplaced, Replacement},
    wire::Name,
};

/// How names are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Exact,
    Prefix,
    Suffix,
    Substring,
    Regex,
}

/// The words for them.
pub(super) const KINDS: [(&str, Kind); 5] = [
    ("exact", Kind::Exact),
    ("prefix", Kind::Prefix),
    ("suffix", Kind::Suffix),
    ("substring", Kind::Substring),
    ("regex", Kind::Regex),
];

/// A part of a name as it is compared: in lower case, and ending in a dot.
pub(super) fn text_of(word: &Word) -> String {
    let mut text = word.to_ascii_lowercase();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

/// A whole name, in lower case.
pub(super) fn whole(word: &Word) -> Result<Name, Diagnostic> {
    let name = Name::parse(word).map_err(|error| {
        let refused = word.error(format!("'{word}' is no name"));
        refused.label(error.to_string())
    });
    Ok(name?.to_lower())
}

/// What is put in place of what `regex` finds, whose groups may be in it.
pub(super) fn with_groups(
    regex: &Regex,
    to: &Word,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Replacement, Diagnostic> {
    let replacement = Replacement::with_groups(&text_of(to));
    let groups = regex.captures_len() - 1;
    let used = replacement.groups();
    let Some(last) = used.last().filter(|last| **last > groups) else {
        return Ok(replacement);
    };
    let message = format!("there is no group {{{last}}}");
    let label = count_of(groups);
    // CoreDNS counts how many there are, and starts where that is no more than there could be.
    if used.len() > groups {
        return Err(to.error(message).label(label));
    }
    let warning = to.warning(message).label(label);
    warnings.push(warning.help("it stands for itself"));
    Ok(replacement)
}

/// The same where labels of metadata may be in it too; it is refused for whatever would stand for
/// itself there.
pub(super) fn with_labels(regex: &Regex, to: &Word) -> Result<Replacement, Diagnostic> {
    let groups = regex.captures_len() - 1;
    Replacement::with_labels(to, groups).map_err(|error| {
        let refused = to.error(error.to_string());
        match error {
            Misplaced::Group(_) => refused.label(count_of(groups)),
            Misplaced::Neither(_) => {
                refused.expected("a group such as {1}, or a label such as {kubernetes/namespace}")
            }
            Misplaced::Open | Misplaced::Closed => {
                refused.help("with 'metadata' braces are for groups and labels alone")
            }
        }
    })
}

fn count_of(groups: usize) -> String {
    match groups {
        0 => "the regular expression has no groups".to_owned(),
        1 => "the regular expression has one group".to_owned(),
        many => format!("the regular expression has {many} groups"),
    }
}

/// Whether a pattern ends in a letter or digit and `$`.
pub(super) fn misses_the_dot(pattern: &str) -> bool {
    let Some(rest) = pattern.strip_suffix('$') else {
        return false;
    };
    let mut last = rest.chars().rev();
    last.next().is_some_and(|one| one.is_ascii_alphanumeric()) && last.next() != Some('\\')
}
