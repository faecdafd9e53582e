//! The option lines of `template`.

use std::collections::BTreeSet;

use super::{
    Config, NAME, Template, pattern,
    text::{Scope, Text},
};
use crate::{
    authority::text::TextRecord as Record,
    corefile::{Arguments, Diagnostic, Directive, Line, Problems, Word, nearest, unknown_property},
    plugin::{
        ParseErrors, Parsing, ZoneList,
        expression::{self, Expression},
    },
    reply::{ExtendedError, Section},
    wire::{Class, Rcode, Type},
};

const PROPERTIES: [&str; 10] = [
    "match",
    "var",
    "expr",
    "answer",
    "additional",
    "authority",
    "rcode",
    "ederror",
    "fallthrough",
    "upstream",
];

/// Octets of an extended error's text that are sent.
const EXTRA_TEXT: usize = 200;

/// Reads the directives of a block: each is a template, tried in this order.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut problems = Problems::default();
    let mut templates = Vec::new();
    for directive in uses {
        let template = template(directive, parsing, &mut problems);
        templates.extend(problems.catch(template));
    }
    let templates = templates.into();
    problems.in_plugin(NAME).into_result(Config { templates })
}

/// Reads one template. ParseErrors of its lines go to `problems`.
fn template(
    directive: &Directive,
    parsing: &mut Parsing<'_>,
    problems: &mut Problems,
) -> Result<Template, Diagnostic> {
    let mut arguments = directive.arguments();
    let class = class(arguments.required("a class, IN or ANY")?)?;
    let rtype = rtype(arguments.required("a type, such as A, or ANY")?)?;
    let zones = ZoneList::read_or_block(arguments.rest(), parsing.zones)?;
    let mut reader = Reader {
        template: Template {
            class,
            rtype,
            labels: zones.names().iter().map(ToString::to_string).collect(),
            zones,
            patterns: Vec::new(),
            variables: Vec::new(),
            conditions: Vec::new(),
            records: Default::default(),
            rcode: Rcode::NOERROR,
            error: None,
            fallthrough: ZoneList::none(),
            uses: BTreeSet::new(),
        },
        groups: BTreeSet::from(["0".to_owned()]),
        variables: Vec::new(),
        warnings: parsing.warnings,
    };
    // The groups of all patterns are known before a template names one.
    let (patterns, others): (Vec<&Line>, Vec<&Line>) = directive
        .properties()
        .iter()
        .partition(|line| *line.name() == "match");
    for line in patterns.into_iter().chain(others) {
        problems.catch(reader.property(line));
    }
    let mut template = reader.template;
    if template.patterns.is_empty() {
        template.patterns.push(pattern::every_name());
    }
    Ok(template)
}

struct Reader<'a> {
    template: Template,
    groups: BTreeSet<String>,
    variables: Vec<String>,
    warnings: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn property(&mut self, line: &Line) -> Result<(), Diagnostic> {
        let mut arguments = line.arguments();
        match line.name().as_str() {
            "match" => self.patterns(arguments.at_least_one("a regular expression")?)?,
            "var" => self.variable(&mut arguments)?,
            "expr" => {
                let words = arguments.at_least_one("an expression")?;
                let scope = expression::Scope {
                    variables: &self.variables,
                    groups: true,
                };
                let condition = Expression::read_condition(words, scope, self.warnings)?;
                self.template.conditions.push(condition);
            }
            "answer" => self.records(Section::Answer, &mut arguments)?,
            "additional" => self.records(Section::Additional, &mut arguments)?,
            "authority" => self.records(Section::Authority, &mut arguments)?,
            "rcode" => {
                let word = arguments.required("a response code, such as NXDOMAIN")?;
                self.template.rcode = word.parse().map_err(|_| {
                    word.error(format!("unknown rcode {word}"))
                        .expected("a response code such as NXDOMAIN")
                })?;
            }
            "ederror" => self.extended_error(&mut arguments)?,
            "fallthrough" => self.template.fallthrough = ZoneList::read_or_all(arguments.rest())?,
            "upstream" => {
                let why = "aliases are always followed";
                self.warnings.push(arguments.without_effect(why));
            }
            _ => return Err(unknown_property(line.name(), &PROPERTIES)),
        }
        arguments.none_left()
    }

    fn patterns(&mut self, words: &[Word]) -> Result<(), Diagnostic> {
        for word in words {
            let regex = pattern::read(word)?;
            self.groups
                .extend((0..regex.captures_len()).map(|number| number.to_string()));
            self.groups
                .extend(regex.capture_names().flatten().map(str::to_owned));
            self.template.patterns.push(regex);
        }
        Ok(())
    }

    fn variable(&mut self, arguments: &mut Arguments<'_>) -> Result<(), Diagnostic> {
        let name = arguments.required("a name and an expression")?;
        if !expression::is_name(name) {
            return Err(name
                .error(format!("invalid variable name \"{name}\""))
                .expected("letters, digits and _, no digit first"));
        }
        if expression::is_taken(name) {
            let message = format!("variable name \"{name}\" is reserved");
            return Err(name.error(message).label("means something in expressions"));
        }
        let words = arguments.at_least_one("an expression")?;
        let scope = expression::Scope {
            variables: &self.variables,
            groups: true,
        };
        let value = Expression::read(words, scope)?;
        if !self.variables.iter().any(|known| name == known.as_str()) {
            self.variables.push(name.to_string());
        }
        self.template.variables.push((name.to_string(), value));
        Ok(())
    }

    fn records(
        &mut self,
        section: Section,
        arguments: &mut Arguments<'_>,
    ) -> Result<(), Diagnostic> {
        for word in arguments.at_least_one("a template of a record, in quotes")? {
            let scope = Scope {
                groups: &self.groups,
                variables: &self.variables,
            };
            let text = Text::read(word, scope).map_err(|error| explain_split(word, error))?;
            self.template.uses.extend(text.uses());
            if let Some(why) = self.template.try_out(&text) {
                let warning = word.warning("this makes no record, so that queries fail");
                self.warnings.push(warning.label(why));
            }
            self.template.records[section as usize].push(text);
        }
        Ok(())
    }

    fn extended_error(&mut self, arguments: &mut Arguments<'_>) -> Result<(), Diagnostic> {
        let code = arguments.required("a code (RFC 8914), such as 15")?;
        let code = code.integer(0..=u16::MAX)?;
        let text = arguments.next();
        if let Some(long) = text.filter(|text| text.len() > EXTRA_TEXT) {
            let warning = long.warning("the text of the extended error is cut");
            self.warnings
                .push(warning.label(format!("more than {EXTRA_TEXT} octets")));
        }
        self.template.error = Some(ExtendedError {
            code,
            text: text.map_or("", Word::as_str).into(),
        });
        Ok(())
    }
}

/// A template that was not put in quotes comes as many words, the first of which ends early.
fn explain_split(word: &Word, error: Diagnostic) -> Diagnostic {
    let is_split = !word.quoted && word.contains("{{") && !word.contains("}}");
    error.maybe_help(is_split.then(|| "put the record in quotes".to_owned()))
}

fn class(word: &Word) -> Result<Class, Diagnostic> {
    word.parse().map_err(|_| {
        word.error(format!("invalid query class {word}"))
            .expected("IN, CH, HS or ANY")
    })
}

fn rtype(word: &Word) -> Result<Type, Diagnostic> {
    const USUAL: [&str; 11] = [
        "A", "AAAA", "ANY", "CNAME", "HTTPS", "MX", "NS", "PTR", "SOA", "SRV", "TXT",
    ];
    word.parse().map_err(|_| {
        let near = nearest(word, USUAL);
        word.error(format!("invalid RR class {word}"))
            .expected("a record type, or ANY")
            .maybe_help(near.map(|near| format!("did you mean '{near}'?")))
    })
}

impl Template {
    /// Why a template makes no record, where that does not depend on a query.
    fn try_out(&self, text: &Text) -> Option<String> {
        const FIXED: [&str; 6] = ["Zone", "Name", "Class", "Type", "Remote", "Question"];
        if !text.uses().all(|used| FIXED.contains(&used)) {
            return None;
        }
        let made = self.sample(text);
        made.and_then(|made| Record::parse(&made).map_err(|why| format!("'{made}': {why}")))
            .err()
    }
}
