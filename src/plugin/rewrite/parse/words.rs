//! Parses the words of rules: names and parts of them, patterns, replacements.

use regex::Regex;

use crate::{
    corefile::{Diagnostic, Word},
    plugin::rewrite::names::{PlaceholderError, Replacement},
    wire::Name,
};

/// How names are matched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Exact,
    Prefix,
    Suffix,
    Substring,
    Regex,
}

/// The keywords.
pub(super) const KINDS: [(&str, Kind); 5] = [
    ("exact", Kind::Exact),
    ("prefix", Kind::Prefix),
    ("suffix", Kind::Suffix),
    ("substring", Kind::Substring),
    ("regex", Kind::Regex),
];

/// A part of a name for matching: in lower case, with a final dot.
pub(super) fn text_of(word: &Word) -> String {
    let mut text = word.to_ascii_lowercase();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

/// Parses a complete name, in lower case.
pub(super) fn full_name(word: &Word) -> Result<Name, Diagnostic> {
    let name = Name::parse(word).map_err(|error| {
        let refused = word.error(format!("'{word}' is no name"));
        refused.label(error.to_string())
    });
    Ok(name?.to_lower())
}

/// Parses the replacement for matches of `regex`, which may use its groups.
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
    // CoreDNS compares only the number of groups used with the number of groups, and starts if it
    // is not larger.
    if used.len() > groups {
        return Err(to.error(message).label(label));
    }
    let warning = to.warning(message).label(label);
    warnings.push(warning.help("it is literal text"));
    Ok(replacement)
}

/// Like [`with_groups`], and may use metadata labels. Placeholders that are neither are rejected.
pub(super) fn with_labels(regex: &Regex, to: &Word) -> Result<Replacement, Diagnostic> {
    let groups = regex.captures_len() - 1;
    Replacement::with_labels(to, groups).map_err(|error| {
        let refused = to.error(error.to_string());
        match error {
            PlaceholderError::Group(_) => refused.label(count_of(groups)),
            PlaceholderError::Neither(_) => {
                refused.expected("a group such as {1}, or a label such as {kubernetes/namespace}")
            }
            PlaceholderError::Open | PlaceholderError::Closed => {
                refused.help("with 'metadata' braces are only for groups and labels")
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
