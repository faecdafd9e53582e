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

mod edns0;
mod name;
mod words;

use std::ops::RangeInclusive;

use self::words::{KINDS, Kind, misses_the_dot, text_of, whole};
use super::{
    Config, NAME,
    names::Pattern,
    rule::{Action, Rule},
};
use crate::{
    corefile::{Arguments, Diagnostic, Directive, Line, Problems, Word},
    plugin::{ParseErrors, Parsing},
    wire::{Class, Rcode, Type},
};

/// The longest TTL (RFC 2181 §8).
const MAX_TTL: u32 = 0x7FFF_FFFF;

/// Reads the directives of a block, each of which is a rule.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut problems = Problems::default();
    let mut rules = Vec::new();
    for directive in uses {
        let mut reading = Reading {
            warnings: &mut *parsing.warnings,
        };
        rules.extend(problems.catch(reading.rule(directive)));
    }
    let rules = rules.into();
    problems.in_plugin(NAME).into_result(Config { rules })
}

/// The reading of a rule.
struct Reading<'w> {
    warnings: &'w mut Vec<Diagnostic>,
}

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
        let action = match field.one_of_any_case(&FIELDS)? {
            Field::Name => self.name(&mut words)?,
            Field::Class => class(&mut words)?,
            Field::Type => self.rtype(field, &mut words)?,
            Field::Ttl => self.ttl(&mut words)?,
            Field::Rcode => self.rcode(&mut words)?,
            Field::Cname => name::cname(&mut words, self.warnings)?,
            Field::Edns0 => Self::edns0(&mut words)?,
        };
        words.none_left()?;
        Ok(Rule { stops, action })
    }

    /// What `[KIND] NAME` of other rules says; the name is in front of `behind` more words.
    fn names(
        &mut self,
        words: &mut Arguments<'_>,
        behind: usize,
        what: &str,
    ) -> Result<Pattern, Diagnostic> {
        let kind = if words.left() > behind + 1 {
            words.required(what)?.one_of_any_case(&KINDS)?
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
            Kind::Exact => Pattern::Exact(whole(word)?.into()),
            Kind::Prefix => Pattern::Prefix(text.into()),
            Kind::Suffix => Pattern::Suffix(text.into()),
            Kind::Substring => Pattern::Substring(text.into()),
            Kind::Regex => {
                let regex = word.regex()?;
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
}

fn class(words: &mut Arguments<'_>) -> Result<Action, Diagnostic> {
    let [from, to] = words.exactly("a class, and the one to ask in instead")?;
    let read = |word: &Word| {
        word.one_of_any_case(&[
            ("IN", Class::IN),
            ("CS", Class(2)),
            ("CH", Class::CH),
            ("HS", Class(4)),
            ("NONE", Class(254)),
            ("ANY", Class::ANY),
        ])
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
