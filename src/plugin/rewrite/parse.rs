//! The Corefile's form of rules.
//!
//! ```text
//! rewrite [continue|stop] FIELD ...
//! rewrite [continue|stop] {
//!     FIELD ...
//! }
//! ```
//!
//! A block is one rule: its lines are joined. Words of the language itself are read in any case.

use std::ops::RangeInclusive;

use regex::Regex;

use super::{
    Config, NAME,
    names::{Change, Pattern, Replacement},
    option::{Deed, OptionRule, Source, Variable},
    rule::{Action, NameRule, Rule},
    target::TargetRule,
};
use crate::{
    corefile::{Arguments, Diagnostic, Directive, Line, Word},
    edns::Options,
    wire::{Class, Name, Rcode, Type},
};

/// Octets of a regular expression at most.
const MAX_PATTERN: usize = 10_000;
/// The longest TTL (RFC 2181 §8).
const MAX_TTL: u32 = 0x7FFF_FFFF;

/// Reads the directives of a block, each of which is a rule. `neighbours` are all directives of the
/// block.
pub fn parse(
    uses: &[&Directive],
    neighbours: &[Directive],
    warnings: &mut Vec<Diagnostic>,
) -> Result<Config, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut rules = Vec::new();
    let has_metadata = neighbours.iter().any(|one| one.name == "metadata");
    for directive in uses {
        let mut reading = Reading {
            has_metadata,
            warnings: &mut *warnings,
        };
        match reading.rule(directive) {
            Ok(rule) => rules.push(rule),
            Err(error) => errors.push(error.in_plugin(NAME)),
        }
    }
    if errors.is_empty() {
        Ok(Config {
            rules: rules.into(),
        })
    } else {
        Err(errors)
    }
}

/// The reading of a rule.
struct Reading<'w> {
    has_metadata: bool,
    warnings: &'w mut Vec<Diagnostic>,
}

/// How names are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Prefix,
    Suffix,
    Substring,
    Regex,
}

const KINDS: [(&str, Kind); 5] = [
    ("exact", Kind::Exact),
    ("prefix", Kind::Prefix),
    ("suffix", Kind::Suffix),
    ("substring", Kind::Substring),
    ("regex", Kind::Regex),
];

/// What a rule is about.
#[derive(Clone, Copy)]
enum Field {
    Name,
    Class,
    Type,
    Ttl,
    Rcode,
    Cname,
    Edns0,
}

const FIELDS: [(&str, Field); 7] = [
    ("name", Field::Name),
    ("class", Field::Class),
    ("type", Field::Type),
    ("ttl", Field::Ttl),
    ("rcode", Field::Rcode),
    ("cname", Field::Cname),
    ("edns0", Field::Edns0),
];

impl Reading<'_> {
    fn rule(&mut self, directive: &Directive) -> Result<Rule, Diagnostic> {
        let mut words = vec![directive.name.clone()];
        words.extend_from_slice(&directive.arguments);
        if directive.arguments.len() < 2 {
            let lines = directive.properties().iter();
            words.extend(lines.flat_map(|line| line.words.clone()));
        } else if let Some(body) = &directive.body {
            let error = Diagnostic::error("a rule stands on its line or in its block");
            return Err(error
                .at(body.open)
                .label("this block would not be read")
                .help("write 'rewrite stop {' or take the block away"));
        }
        let line = Line { words };
        let mut words = line.arguments();
        let mut stops = true;
        let modes = [("continue", false), ("stop", true)];
        if let Some(word) = words.peek()
            && let Some((_, mode)) = modes
                .iter()
                .find(|(mode, _)| word.eq_ignore_ascii_case(mode))
        {
            stops = *mode;
            words.next();
        }
        let field = words.required("what to rewrite: name, class, type, ttl, ...")?;
        if field.eq_ignore_ascii_case("answer") {
            let error = field.error("response rewrites must begin with a name rule");
            return Err(error.help("write 'name FROM TO' before it, and all of it as one rule"));
        }
        let action = match any_case(field, &FIELDS)? {
            Field::Name => self.name(&mut words)?,
            Field::Class => class(&mut words)?,
            Field::Type => self.rtype(field, &mut words)?,
            Field::Ttl => self.ttl(&mut words)?,
            Field::Rcode => self.rcode(&mut words)?,
            Field::Cname => cname(&mut words, self.warnings)?,
            Field::Edns0 => self.edns0(&mut words)?,
        };
        words.none_left()?;
        Ok(Rule { stops, action })
    }

    /// `[KIND] FROM TO [answers]`.
    fn name(&mut self, words: &mut Arguments<'_>) -> Result<Action, Diagnostic> {
        let kind = if words.left() > 2 {
            any_case(words.required("a kind of match")?, &KINDS)?
        } else {
            Kind::Exact
        };
        let from = words.required("a name, and the one to ask for instead")?;
        let to = words.required("the name to ask for instead")?;
        let names = self.pattern(kind, from)?;
        let replacement = match (&names, kind) {
            (Pattern::Regex(regex), _) => with_groups(regex, to, self.warnings)?,
            (_, Kind::Exact) => Replacement::plain(&whole(to)?.to_string()),
            _ => Replacement::plain(&text_of(to)),
        };
        let mut rule = NameRule {
            names,
            to: replacement,
            restores: kind == Kind::Exact,
            owners: Vec::new(),
            values: Vec::new(),
        };
        let answers = answers(words, &mut rule, self.warnings)?;
        if answers.auto {
            // Of a suffix it is known what became of every name that has it.
            if kind == Kind::Suffix {
                let back = Change::Replace(
                    Pattern::Suffix(text_of(to).into()),
                    Replacement::plain(&text_of(from)),
                );
                rule.owners.insert(0, back.clone());
                rule.values.insert(0, back);
            } else {
                rule.restores = true;
            }
        } else if kind != Kind::Exact && !answers.owners {
            let warning = from.warning("names inside the answers are left as they were found");
            self.warnings.push(
                warning
                    .label("CoreDNS would even answer with another name than was asked for")
                    .help("add 'answer auto' to the rule"),
            );
        }
        Ok(Action::Name(rule))
    }

    /// What `[KIND] NAME` of other rules says; the name is in front of `behind` more words.
    fn names(
        &mut self,
        words: &mut Arguments<'_>,
        behind: usize,
        what: &str,
    ) -> Result<Pattern, Diagnostic> {
        let kind = if words.left() > behind + 1 {
            any_case(words.required(what)?, &KINDS)?
        } else {
            Kind::Exact
        };
        let name = words.required(what)?;
        self.pattern(kind, name)
    }

    fn pattern(&mut self, kind: Kind, word: &Word) -> Result<Pattern, Diagnostic> {
        let text = text_of(word);
        if matches!(kind, Kind::Prefix | Kind::Substring) && text != word.to_ascii_lowercase() {
            let warning = word.warning(format!("only whole labels match: '{text}'"));
            self.warnings.push(
                warning
                    .label("a final dot belongs to it")
                    .help("use 'regex' for a part of a label"),
            );
        }
        Ok(match kind {
            Kind::Exact => Pattern::Exact(whole(word)?),
            Kind::Prefix => Pattern::Prefix(text.into()),
            Kind::Suffix => Pattern::Suffix(text.into()),
            Kind::Substring => Pattern::Substring(text.into()),
            Kind::Regex => {
                let regex = regex(word)?;
                if misses_the_dot(word) {
                    let warning = word.warning("this never matches: a name ends in a dot");
                    let help = word.replace('$', r"\.$");
                    self.warnings.push(warning.help(format!("write {help}")));
                }
                Pattern::Regex(regex)
            }
        })
    }

    fn rtype(&mut self, field: &Word, words: &mut Arguments<'_>) -> Result<Action, Diagnostic> {
        let [from, to] = words.exactly("a type, and the one to ask for instead")?;
        let read = |word: &Word| {
            let unknown = |_| word.error(format!("invalid type '{word}'"));
            word.parse::<Type>()
                .map_err(unknown)
                .map_err(|error| error.expected("a record type such as AAAA"))
        };
        let (from_type, to) = (read(from)?, read(to)?);
        // Whatever records there are answer a question for any.
        if from_type != Type::ANY && from_type != to {
            let warning = from.warning(format!("clients that ask for {from_type} get none"));
            let label = format!("the answer has records of type {to}, which they do not take");
            let warning = warning.label(label).also(field.place, "in this rule");
            self.warnings.push(warning);
        }
        Ok(Action::Type {
            from: from_type,
            to,
        })
    }

    fn ttl(&mut self, words: &mut Arguments<'_>) -> Result<Action, Diagnostic> {
        let names = self.names(words, 1, "a name and a TTL")?;
        let word = words.required("a TTL: SECONDS, MIN-MAX, MIN- or -MAX")?;
        let range = ttl_range(word).ok_or_else(|| {
            let error = word.error(format!("invalid TTL '{word}'"));
            error.expected(format!("SECONDS, MIN-MAX, MIN- or -MAX, up to {MAX_TTL}"))
        })?;
        Ok(Action::Ttl { names, range })
    }

    fn rcode(&mut self, words: &mut Arguments<'_>) -> Result<Action, Diagnostic> {
        let names = self.names(words, 2, "a name, a response code, and another")?;
        let [from, to] = words.exactly("a response code, and the one to give instead")?;
        Ok(Action::Rcode {
            names,
            from: rcode(from)?,
            to: rcode(to)?,
        })
    }

    /// `local|nsid|subnet set|append|replace|unset ... [revert]`.
    fn edns0(&mut self, words: &mut Arguments<'_>) -> Result<Action, Diagnostic> {
        let kinds = [
            ("local", None),
            ("nsid", Some(Options::NSID)),
            ("subnet", Some(Options::SUBNET)),
        ];
        let deeds = [
            ("set", Deed::Set),
            ("append", Deed::Append),
            ("replace", Deed::Replace),
            ("unset", Deed::Unset),
        ];
        let kind = any_case(words.required("local, nsid or subnet")?, &kinds)?;
        let deed = any_case(words.required("set, append, replace or unset")?, &deeds)?;
        let mut rule = OptionRule {
            deed,
            code: kind.unwrap_or_default(),
            data: Source::Fixed(Box::default()),
            reverts: false,
        };
        let is_set = deed != Deed::Unset;
        match kind {
            Some(Options::SUBNET) if is_set => {
                let what = "lengths of IPv4 and IPv6 prefixes such as 24 56";
                rule.data = Source::Subnet {
                    v4: words.required(what)?.integer(0..=32)?,
                    v6: words.required(what)?.integer(0..=128)?,
                };
            }
            Some(_) => {}
            None => {
                rule.code = option_code(words.required("an option's code")?)?;
                if is_set {
                    let what = "text, 0x and hexadecimal digits, or a variable such as {client_ip}";
                    let word = words.required(what)?;
                    // The last word alone is never data.
                    if *word == "revert" && words.left() == 0 {
                        return Err(word.error("there is nothing to say").expected(what));
                    }
                    rule.data = self.data(word)?;
                }
            }
        }
        if is_set && let Some(word) = words.next() {
            word.one_of(&[("revert", ())])?;
            rule.reverts = true;
        }
        Ok(Action::Option(rule))
    }

    fn data(&mut self, word: &Word) -> Result<Source, Diagnostic> {
        let variable = word
            .strip_prefix('{')
            .and_then(|word| word.strip_suffix('}'));
        if let Some(variable) = variable {
            return self.variable(word, variable).map(Source::Variable);
        }
        let data: Box<[u8]> = match word.strip_prefix("0x") {
            None => word.as_bytes().into(),
            Some(digits) => unhex(digits).ok_or_else(|| {
                let error = word.error("these are no hexadecimal digits");
                error.expected("an even number of them, such as 0xffee")
            })?,
        };
        if data.len() + 4 > Options::MAX {
            let most = Options::MAX - 4;
            return Err(word.error(format!("an option has at most {most} octets")));
        }
        Ok(Source::Fixed(data))
    }

    fn variable(&mut self, word: &Word, name: &str) -> Result<Variable, Diagnostic> {
        Ok(match name {
            "qname" => Variable::Name,
            "qtype" => Variable::Type,
            "client_ip" => Variable::ClientAddress,
            "client_port" => Variable::ClientPort,
            "protocol" => Variable::Protocol,
            "server_ip" => Variable::ServerAddress,
            "server_port" => Variable::ServerPort,
            label if is_label(label) => {
                if !self.has_metadata {
                    let warning = word.warning("nothing is known under this label");
                    self.warnings.push(
                        warning
                            .label("the rule does nothing")
                            .help("add a line 'metadata' to the server block"),
                    );
                }
                Variable::Metadata(label.into())
            }
            _ => {
                let error = word.error(format!("unsupported variable name '{word}'"));
                return Err(error.expected(
                    "{qname}, {qtype}, {client_ip}, {client_port}, {protocol}, {server_ip}, \
                     {server_port}, or a label of metadata such as {kubernetes/namespace}",
                ));
            }
        })
    }
}

/// One of a few words, whatever their case.
fn any_case<T: Copy>(word: &Word, choices: &[(&str, T)]) -> Result<T, Diagnostic> {
    let mut known = choices.iter();
    let found = known.find(|(name, _)| word.eq_ignore_ascii_case(name));
    found.map_or_else(|| word.one_of(choices), |(_, value)| Ok(*value))
}

/// A part of a name as it is compared: in lower case, and ending in a dot.
fn text_of(word: &Word) -> String {
    let mut text = word.to_ascii_lowercase();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

/// A whole name, in lower case.
fn whole(word: &Word) -> Result<Name, Diagnostic> {
    let name = Name::parse(word).map_err(|error| {
        let refused = word.error(format!("'{word}' is no name"));
        refused.label(error.to_string())
    });
    Ok(name?.to_lower())
}

fn regex(word: &Word) -> Result<Regex, Diagnostic> {
    if word.len() > MAX_PATTERN {
        let text = format!("a pattern has at most {MAX_PATTERN} octets");
        return Err(word.error(text));
    }
    Regex::new(word).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().to_owned();
        word.error(format!("not a regular expression: {reason}"))
    })
}

/// What is put in place of what `regex` finds, whose groups may be in it.
fn with_groups(
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
    let label = match groups {
        0 => "the regular expression has no groups".to_owned(),
        1 => "the regular expression has one group".to_owned(),
        many => format!("the regular expression has {many} groups"),
    };
    // CoreDNS counts how many there are, and starts where that is no more than there could be.
    if used.len() > groups {
        return Err(to.error(message).label(label));
    }
    let warning = to.warning(message).label(label);
    warnings.push(warning.help("it stands for itself"));
    Ok(replacement)
}

/// Whether a pattern ends in a letter or digit and `$`.
fn misses_the_dot(pattern: &str) -> bool {
    let Some(rest) = pattern.strip_suffix('$') else {
        return false;
    };
    let mut last = rest.chars().rev();
    last.next().is_some_and(|one| one.is_ascii_alphanumeric()) && last.next() != Some('\\')
}

/// What the answers of a name rule say.
struct Answers {
    auto: bool,
    owners: bool,
}

/// `[answer] auto`, `[answer] name FROM TO`, `[answer] value FROM TO`, in any number; the first one
/// with the word `answer`.
fn answers(
    words: &mut Arguments<'_>,
    rule: &mut NameRule,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Answers, Diagnostic> {
    let mut auto = None;
    let mut owners = None;
    let mut is_first = true;
    while let Some(word) = words.next() {
        let word = match word.as_str() {
            "answer" => words.required("auto, name or value")?,
            _ if is_first => {
                let error = word.error("a name rule ends here, or goes on with 'answer'");
                return Err(error.expected("answer auto, answer name or answer value"));
            }
            _ => word,
        };
        is_first = false;
        match word.as_str() {
            "auto" => auto = Some(word),
            "name" => {
                rule.owners.push(answer(words, warnings)?);
                owners = Some(word);
            }
            "value" => rule.values.push(answer(words, warnings)?),
            _ => {
                let error = word.error(format!("invalid type '{word}' for an answer rule"));
                return Err(error.expected("auto, name or value"));
            }
        }
    }
    if let (Some(auto), Some(owners)) = (auto, owners) {
        let error = owners.error("'answer auto' cannot be combined with 'answer name'");
        return Err(error.also(auto.place, "auto is here"));
    }
    Ok(Answers {
        auto: auto.is_some(),
        owners: owners.is_some(),
    })
}

fn answer(words: &mut Arguments<'_>, warnings: &mut Vec<Diagnostic>) -> Result<Change, Diagnostic> {
    let from = words.required("a regular expression, and what to put in its place")?;
    let to = words.required("what to put in its place")?;
    let regex = regex(from)?;
    let to = with_groups(&regex, to, warnings)?;
    Ok(Change::Replace(Pattern::Regex(regex), to))
}

/// `[KIND] FROM TO`. Parts of names are compared as they are written.
fn cname(words: &mut Arguments<'_>, warnings: &mut Vec<Diagnostic>) -> Result<Action, Diagnostic> {
    let what = "a target, and the one to lead to instead";
    let kind = if words.left() > 2 {
        any_case(words.required(what)?, &KINDS)?
    } else {
        Kind::Exact
    };
    let from = words.required(what)?;
    let to = words.required("the target to lead to instead")?;
    let part = || from.to_ascii_lowercase().into_boxed_str();
    let plain = || Replacement::plain(&to.to_ascii_lowercase());
    let (targets, to) = match kind {
        Kind::Exact => {
            let to = Replacement::plain(&whole(to)?.to_string());
            (Pattern::Exact(whole(from)?), to)
        }
        Kind::Prefix => (Pattern::Prefix(part()), plain()),
        Kind::Suffix => (Pattern::Suffix(part()), plain()),
        Kind::Substring => (Pattern::Substring(part()), plain()),
        Kind::Regex => {
            let regex = regex(from)?;
            let to = with_groups(&regex, to, warnings)?;
            (Pattern::Regex(regex), to)
        }
    };
    Ok(Action::Cname(TargetRule { targets, to }))
}

fn class(words: &mut Arguments<'_>) -> Result<Action, Diagnostic> {
    let [from, to] = words.exactly("a class, and the one to ask in instead")?;
    let read = |word: &Word| {
        any_case(
            word,
            &[
                ("IN", Class::IN),
                ("CS", Class(2)),
                ("CH", Class::CH),
                ("HS", Class(4)),
                ("NONE", Class(254)),
                ("ANY", Class::ANY),
            ],
        )
    };
    Ok(Action::Class {
        from: read(from)?,
        to: read(to)?,
    })
}

fn rcode(word: &Word) -> Result<Rcode, Diagnostic> {
    let number = word.parse().ok().filter(|number| *number <= 23).map(Rcode);
    number.or_else(|| word.parse().ok()).ok_or_else(|| {
        let error = word.error(format!("'{word}' is no response code"));
        error.expected("a code such as NXDOMAIN, or a number up to 23")
    })
}

fn ttl_range(text: &str) -> Option<RangeInclusive<u32>> {
    let seconds = |text: &str| {
        let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
        let seconds = text.parse().ok().filter(|_| is_number)?;
        (seconds <= MAX_TTL).then_some(seconds)
    };
    let range = match text.split_once('-') {
        None => seconds(text)?..=seconds(text)?,
        Some(("", most)) => 0..=seconds(most)?,
        Some((least, "")) => seconds(least)?..=MAX_TTL,
        Some((least, most)) => seconds(least)?..=seconds(most)?,
    };
    (!range.is_empty()).then_some(range)
}

/// A code in decimal, or with `0x`, `0o` or `0b`.
fn option_code(word: &Word) -> Result<u16, Diagnostic> {
    let lower = word.to_ascii_lowercase();
    let (digits, radix) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16),
        Some("0o") => (&lower[2..], 8),
        Some("0b") => (&lower[2..], 2),
        _ => (&*lower, 10),
    };
    let is_number = digits.bytes().all(|digit| digit.is_ascii_alphanumeric());
    let code = u16::from_str_radix(digits, radix).ok();
    code.filter(|_| is_number).ok_or_else(|| {
        let error = word.error(format!("'{word}' is no option code"));
        error.expected("a number up to 65535, such as 0xffee")
    })
}

fn unhex(digits: &str) -> Option<Box<[u8]>> {
    if digits.len() % 2 != 0 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let octets = (0..digits.len()).step_by(2);
    octets
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

/// `PLUGIN/KEY`.
fn is_label(text: &str) -> bool {
    text.split_once('/')
        .is_some_and(|(plugin, key)| !plugin.is_empty() && !key.is_empty())
}
