//! Regular expressions in Go's syntax.
//!
//! Both engines are of one family (RE2), and an expression that is valid in Go has the same meaning
//! here, with two exceptions: in bracketed classes, this engine supports nested classes and set
//! operations, and it does not support `\Q...\E`. Both are translated.

use regex::Regex;

use crate::{
    corefile::{Diagnostic, Word},
    error_text,
};

/// Maximum length of an expression in bytes, as in CoreDNS.
const MAX_LENGTH: usize = 10_000;

/// Parses a regular expression.
pub fn read(word: &Word) -> Result<Regex, Diagnostic> {
    if word.len() > MAX_LENGTH {
        let message = format!("regex pattern too long: {} > {MAX_LENGTH}", word.len());
        return Err(word.error(message));
    }
    Regex::new(&translated(word)).map_err(|error| {
        let why = error_text::regex(&error);
        word.error(format!("could not parse regex: {why}"))
            .label("not a regular expression")
    })
}

/// Matches every name: the pattern of a template without `match`.
pub fn every_name() -> Regex {
    Regex::new(".*").expect("a regular expression")
}

fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    // A closing bracket that is first in a class is literal.
    let mut first = false;
    while let Some(character) = rest.chars().next() {
        let mut length = character.len_utf8();
        let was_first = std::mem::take(&mut first);
        match character {
            '\\' if !in_class && rest.starts_with("\\Q") => {
                let quoted = &rest[2..];
                let end = quoted.find("\\E").unwrap_or(quoted.len());
                out.push_str(&regex::escape(&quoted[..end]));
                rest = quoted[end..].strip_prefix("\\E").unwrap_or_default();
                continue;
            }
            '\\' => {
                length += rest[1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..length]);
            }
            '[' if !in_class => {
                in_class = true;
                first = true;
                out.push('[');
                if rest[1..].starts_with('^') {
                    out.push('^');
                    length += 1;
                }
            }
            // A named class, `[:alpha:]`.
            '[' if rest.starts_with("[:") => match rest.find(":]") {
                Some(end) => {
                    length = end + 2;
                    out.push_str(&rest[..length]);
                }
                None => out.push_str("\\["),
            },
            '[' => out.push_str("\\["),
            ']' if in_class && !was_first => {
                in_class = false;
                out.push(']');
            }
            ']' if in_class => out.push_str("\\]"),
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(character);
            }
            // The first `-` is literal at the start of the class; otherwise the second one ends a
            // range.
            '-' if in_class && rest.starts_with("--") => {
                out.push_str(if was_first { "\\-" } else { "-\\-" });
                length += usize::from(!was_first);
            }
            _ => out.push(character),
        }
        rest = &rest[length..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, matches) in [
            (
                r"^(?P<a>[^.]*)\.(?P<b>[^.]*)\.example[.]$",
                "x.y.example.",
                true,
            ),
            (r"^ip-(?<a>[0-9]+)-[0-9]+\.", "ip-10-1.", true),
            (r"^\Qa.b\E\.$", "a.b.", true),
            (r"^\Qa.b\E\.$", "axb.", false),
            (r"\Qa.b", "xa.b", true),
            // Nested classes and set operations are specific to this engine.
            (r"^[a&&b]$", "&", true),
            (r"^[[a]$", "[", true),
            (r"^[]a]+$", "a]", true),
            (r"^[^]a]$", "a", false),
            (r"^[+--]$", ",", true),
            (r"^[[:digit:]x]+$", "1x", true),
            (r"(?i)^WWW\.", "www.", true),
        ] {
            let regex = read(&Word::detached(pattern)).unwrap();
            assert_eq!(regex.is_match(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn invalid_patterns_are_rejected() {
        for (pattern, why) in [
            ("(", "unclosed group"),
            ("a{2,1}", "invalid repetition"),
            (&"a".repeat(MAX_LENGTH + 1), "too long"),
        ] {
            let error = read(&Word::detached(pattern)).unwrap_err();
            assert!(error.message.contains(why), "{}", error.message);
        }
    }
}
