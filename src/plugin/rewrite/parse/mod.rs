//! Parses rules.
//!
//! ```text
//! rewrite [continue|stop] FIELD ...
//! rewrite [continue|stop] {
//!     FIELD ...
//! }
//! ```
//!
//! A block is one rule: its lines are joined. Keywords are case-insensitive.

mod edns0;
mod name;
mod words;

use std::ops::RangeInclusive;

use self::words::{KINDS, Kind, full_name, misses_the_dot, text_of};
use super::{
    Config, NAME,
    names::Pattern,
    rule::{Rule, RuleAction},
};
use crate::{
    corefile::{Arguments, Diagnostic, Directive, ErrorList, Property, Word},
    plugin::{ParseErrors, Parsing},
    wire::{Class, Rcode, Type},
};

/// The maximum TTL in seconds (RFC 2181 section 8).
const MAX_TTL: u32 = 0x7FFF_FFFF;

/// Parses the directives of a block, each of which is a rule.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut errors = ErrorList::default();
    let mut rules = Vec::new();
    for directive in uses {
        let mut parser = RuleParser {
            warnings: &mut *parsing.warnings,
        };
        rules.extend(errors.catch(parser.rule(directive)));
    }
    let rules = rules.into();
    errors.in_plugin(NAME).into_result(Config { rules })
}

/// The parser of a rule.
struct RuleParser<'w> {
    warnings: &'w mut Vec<Diagnostic>,
}

/// What a rule rewrites.
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

impl RuleParser<'_> {
    fn rule(&mut self, directive: &Directive) -> Result<Rule, Diagnostic> {
        let mut words = vec![directive.name.clone()];
        words.extend_from_slice(&directive.arguments);
        if directive.arguments.len() < 2 {
            let lines = directive.properties().iter();
            words.extend(lines.flat_map(|line| line.words.clone()));
        } else if let Some(body) = &directive.body {
            let error =
                Diagnostic::error("a rule is either on the directive's line or in its block");
            return Err(error
                .at(body.open)
                .label("this block would be ignored")
                .help("write 'rewrite stop {' or remove the block"));
        }
        let line = Property { words };
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

    /// Parses `[KIND] NAME`, followed by `more` further words.
    fn names(
        &mut self,
        words: &mut Arguments<'_>,
        more: usize,
        what: &str,
    ) -> Result<Pattern, Diagnostic> {
        let kind = if words.left() > more + 1 {
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
                    .label("a final dot is added")
                    .help("use 'regex' for a part of a label"),
            );
        }
        Ok(match kind {
            Kind::Exact => Pattern::Exact(full_name(word)?.into()),
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

    fn rtype(&mut self, field: &Word, words: &mut Arguments<'_>) -> Result<RuleAction, Diagnostic> {
        let [from, to] = words.exactly("a type, and the one that replaces it")?;
        let read = |word: &Word| {
            let unknown = |_| word.error(format!("invalid type '{word}'"));
            word.parse::<Type>()
                .map_err(unknown)
                .map_err(|error| error.expected("a record type such as AAAA"))
        };
        let (from_type, to) = (read(from)?, read(to)?);
        // An ANY question accepts records of all types.
        if from_type != Type::ANY && from_type != to {
            let warning = from.warning(format!(
                "clients that query {from_type} get no records of it"
            ));
            let label = format!("the answer has records of type {to}, which they ignore");
            let warning = warning.label(label).also(field.span, "in this rule");
            self.warnings.push(warning);
        }
        Ok(RuleAction::Type {
            from: from_type,
            to,
        })
    }

    fn ttl(&mut self, words: &mut Arguments<'_>) -> Result<RuleAction, Diagnostic> {
        let names = self.names(words, 1, "a name and a TTL")?;
        let word = words.required("a TTL: SECONDS, MIN-MAX, MIN- or -MAX")?;
        let range = ttl_range(word).ok_or_else(|| {
            let error = word.error(format!("invalid TTL '{word}'"));
            error.expected(format!("SECONDS, MIN-MAX, MIN- or -MAX, up to {MAX_TTL}"))
        })?;
        Ok(RuleAction::Ttl { names, range })
    }

    fn rcode(&mut self, words: &mut Arguments<'_>) -> Result<RuleAction, Diagnostic> {
        let names = self.names(words, 2, "a name, a response code, and another")?;
        let [from, to] = words.exactly("a response code, and the one that replaces it")?;
        Ok(RuleAction::Rcode {
            names,
            from: rcode(from)?,
            to: rcode(to)?,
        })
    }
}

fn class(words: &mut Arguments<'_>) -> Result<RuleAction, Diagnostic> {
    let [from, to] = words.exactly("a class, and the one that replaces it")?;
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
    Ok(RuleAction::Class {
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
