//! The `+` options of the command line.

use crate::corefile::nearest;

/// What follows an option's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Nothing: it is on, or off with `no` before the name.
    Switch,
    /// `=VALUE` is required; no `no`.
    Value,
    /// `=VALUE` or nothing, or `no` before the name.
    Optional,
    /// BIND's `dig` has it, this one does not.
    Unsupported,
}

use Argument::{Optional, Switch, Unsupported, Value};

/// All options of BIND's `dig` 9.18. Those with one meaning follow each other.
const OPTIONS: &[(&str, Argument)] = &[
    ("aaflag", Switch),
    ("aaonly", Switch),
    ("additional", Switch),
    ("adflag", Switch),
    ("all", Switch),
    ("answer", Switch),
    ("authority", Switch),
    ("badcookie", Unsupported),
    ("besteffort", Unsupported),
    ("bufsize", Optional),
    ("cdflag", Switch),
    ("class", Switch),
    ("cmd", Switch),
    ("coflag", Unsupported),
    ("comments", Switch),
    ("cookie", Optional),
    ("crypto", Unsupported),
    ("defname", Switch),
    ("dns64prefix", Unsupported),
    ("dnssec", Switch),
    ("do", Switch),
    ("domain", Value),
    ("edns", Optional),
    ("ednsflags", Unsupported),
    ("ednsnegotiation", Unsupported),
    ("ednsopt", Optional),
    ("expandaaaa", Unsupported),
    ("expire", Unsupported),
    ("fail", Switch),
    ("header-only", Unsupported),
    ("http-plain", Unsupported),
    ("http-plain-get", Unsupported),
    ("https", Unsupported),
    ("https-get", Unsupported),
    ("identify", Switch),
    ("idnin", Unsupported),
    ("idnout", Unsupported),
    ("ignore", Switch),
    ("keepalive", Unsupported),
    ("keepopen", Unsupported),
    ("multiline", Unsupported),
    ("ndots", Value),
    ("nsid", Switch),
    ("nssearch", Unsupported),
    ("onesoa", Unsupported),
    ("opcode", Unsupported),
    ("padding", Unsupported),
    ("qid", Value),
    ("qr", Switch),
    ("question", Switch),
    ("raflag", Unsupported),
    ("rdflag", Switch),
    ("recurse", Switch),
    ("retry", Value),
    ("rrcomments", Unsupported),
    ("search", Switch),
    ("short", Switch),
    ("showbadcookie", Unsupported),
    ("showsearch", Switch),
    ("split", Optional),
    ("stats", Switch),
    ("subnet", Optional),
    ("tcflag", Unsupported),
    ("tcp", Switch),
    ("time", Value),
    ("timeout", Value),
    ("tls", Unsupported),
    ("tls-ca", Unsupported),
    ("tls-certfile", Unsupported),
    ("tls-hostname", Unsupported),
    ("tls-keyfile", Unsupported),
    ("trace", Unsupported),
    ("tries", Value),
    ("ttlid", Switch),
    ("ttlunits", Switch),
    ("unknownformat", Unsupported),
    ("vc", Switch),
    ("yaml", Unsupported),
    ("zflag", Switch),
];

/// Abbreviations that are not the start of one option alone.
const ABBREVIATIONS: &[(&str, &str)] = &[
    ("aa", "aaflag"),
    ("ad", "adflag"),
    ("cd", "cdflag"),
    ("ti", "timeout"),
    ("tim", "timeout"),
    ("sho", "short"),
];

/// A `+` option as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlusOption<'a> {
    /// The full name.
    pub name: &'static str,
    /// False with `no` before the name.
    pub on: bool,
    /// What follows `=`.
    pub value: Option<&'a str>,
}

impl<'a> PlusOption<'a> {
    /// Parses the text after `+`. Names can be abbreviated where that is unambiguous. The error is a
    /// message.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let (word, value) = match text.split_once('=') {
            Some((word, value)) => (word, Some(value)),
            None => (text, None),
        };
        let lower = word.to_ascii_lowercase();
        let (found, on) = match find(&lower) {
            Some(found) => (Some(found), true),
            None => (lower.strip_prefix("no").and_then(find), false),
        };
        let invalid = || format!("Invalid option: +{text}");
        let Some((name, argument)) = found else {
            return Err(match suggestion(&lower) {
                Some(near) => format!("{}\nDid you mean +{near}?", invalid()),
                None => invalid(),
            });
        };
        match (argument, value) {
            (Unsupported, _) => Err(format!(
                "{}\nBIND's dig has this option; this one does not.",
                invalid()
            )),
            (Value, None) => Err(format!("{}\nIt needs a value: +{name}=VALUE", invalid())),
            (Value, Some(_)) if !on => Err(format!("{}\nWrite +{name}=VALUE", invalid())),
            (Switch, Some(_)) => Err(format!("{}\n+{name} takes no value", invalid())),
            _ => Ok(Self { name, on, value }),
        }
    }
}

fn find(word: &str) -> Option<(&'static str, Argument)> {
    let word = ABBREVIATIONS
        .iter()
        .find_map(|(short, name)| (*short == word).then_some(*name))
        .unwrap_or(word);
    if word.is_empty() {
        return None;
    }
    if let Some(exact) = OPTIONS.iter().find(|(name, _)| *name == word) {
        return Some(*exact);
    }
    let mut candidates = OPTIONS.iter().filter(|(name, _)| name.starts_with(word));
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Some(*only),
        _ => None,
    }
}

/// The option closest to a misspelt word, with its `no`.
fn suggestion(word: &str) -> Option<String> {
    let supported = || {
        let options = OPTIONS.iter();
        options
            .filter(|(_, argument)| *argument != Unsupported)
            .map(|(name, _)| *name)
    };
    let negated = word
        .strip_prefix("no")
        .and_then(|rest| nearest(rest, supported()));
    match negated {
        Some(near) => Some(format!("no{near}")),
        None => nearest(word, supported()).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(&'static str, bool, Option<&str>), String> {
        PlusOption::parse(text).map(|it| (it.name, it.on, it.value))
    }

    #[test]
    fn names_can_be_negated_and_abbreviated() {
        for (text, expected) in [
            ("short", ("short", true, None)),
            ("NOALL", ("all", false, None)),
            ("norec", ("recurse", false, None)),
            ("noad", ("adflag", false, None)),
            ("nocl", ("class", false, None)),
            ("nsid", ("nsid", true, None)),
            ("ndots=5", ("ndots", true, Some("5"))),
            ("do", ("do", true, None)),
            ("edns", ("edns", true, None)),
            ("noedns", ("edns", false, None)),
            ("domain=a.b", ("domain", true, Some("a.b"))),
            ("nosp", ("split", false, None)),
        ] {
            assert_eq!(parsed(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn invalid_options_are_explained() {
        for (text, expected) in [
            ("shrot", "Did you mean +short?"),
            ("norecruse", "Did you mean +norecurse?"),
            ("yaml", "BIND's dig has this option"),
            ("ndots", "It needs a value: +ndots=VALUE"),
            ("notries=3", "Write +tries=VALUE"),
            ("short=1", "+short takes no value"),
            ("", "Invalid option: +"),
            ("tr", "Invalid option: +tr"),
            ("no", "Invalid option: +no"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(OPTIONS.is_sorted_by_key(|(name, _)| *name));
    }
}
