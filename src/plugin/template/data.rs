//! The data of a template: a match, as values of the template library.

use std::{collections::BTreeSet, sync::Arc};

use gotmpl::Value;
use regex::Regex;

use super::text::{map, text};
use crate::{
    plugin::expression,
    query::Query,
    wire::{Class, Type},
};

/// A question that matches a template.
pub struct Match<'a> {
    /// The query.
    pub query: &'a Query,
    /// The question's name in lower case.
    pub name: &'a str,
    /// The template's zone that contains the name.
    pub zone: &'a str,
    /// The regular expression that matched.
    pub regex: &'a Regex,
    /// The groups' matches, the complete match first. A group that did not participate is empty.
    pub groups: Vec<&'a str>,
    /// Class of the template's records: the question's, unless that is ANY.
    pub class: Class,
    /// Type of the template's records: the question's, unless that is ANY.
    pub rtype: Type,
    /// The values of the `var` properties.
    pub variables: Vec<(&'a str, expression::Value)>,
}

/// Metadata values by label.
pub type MetadataValues = Arc<dyn Fn(&str) -> String + Send + Sync>;

impl Match<'_> {
    /// A group's match, by name or number.
    pub fn group(&self, wanted: &str) -> Option<&str> {
        let at = match wanted.parse::<usize>() {
            Ok(number) => number,
            Err(_) => self
                .regex
                .capture_names()
                .position(|name| name == Some(wanted))?,
        };
        self.groups.get(at).copied()
    }

    /// The root value of a template, with only the fields that it uses.
    pub fn data(
        &self,
        uses: &BTreeSet<&'static str>,
        metadata: impl Fn() -> MetadataValues,
    ) -> Value {
        let fields = uses.iter().map(|field| {
            let value = match *field {
                "Zone" => text(self.zone),
                "Name" => text(self.name),
                "Regex" => text(self.regex.as_str()),
                "Match" => Value::List(self.groups.iter().map(|group| text(group)).collect()),
                "Group" => self.groups(),
                "Class" => text(&self.class.to_string()),
                "Type" => text(&self.rtype.to_string()),
                "Message" => self.message(),
                "Question" => self.question(),
                "Remote" => text(&self.query.client.ip().to_canonical().to_string()),
                "Var" => {
                    let variables = self.variables.iter();
                    map(variables.map(|(name, value)| (Arc::from(*name), value_of(value))))
                }
                _ => meta(metadata()),
            };
            (Arc::from(*field), value)
        });
        map(fields)
    }

    fn groups(&self) -> Value {
        let numbered = self.groups.iter().enumerate();
        let numbered = numbered.map(|(at, group)| (Arc::from(at.to_string()), text(group)));
        let named = self.regex.capture_names().zip(&self.groups);
        let named = named.filter_map(|(name, group)| Some((Arc::from(name?), text(group))));
        map(numbered.chain(named))
    }

    fn question(&self) -> Value {
        let question = &self.query.question;
        map([
            ("Name".into(), text(&question.name.to_string())),
            ("Qtype".into(), Value::Uint(question.rtype.0.into())),
            ("Qclass".into(), Value::Uint(question.class.0.into())),
        ])
    }

    fn message(&self) -> Value {
        let query = self.query;
        let flags = [
            ("Response", false),
            ("Authoritative", false),
            ("Truncated", false),
            ("RecursionDesired", query.recursion_desired),
            ("RecursionAvailable", false),
            ("Zero", false),
            ("AuthenticatedData", query.authentic_data),
            ("CheckingDisabled", query.checking_disabled),
            ("Compress", false),
        ];
        let flags = flags.map(|(name, set)| (name.into(), Value::Bool(set)));
        map(flags.into_iter().chain([
            ("Id".into(), Value::Uint(query.id.into())),
            ("Opcode".into(), Value::Int(query.opcode.0.into())),
            ("Rcode".into(), Value::Int(0)),
            ("Question".into(), Value::List([self.question()].into())),
        ]))
    }
}

fn meta(metadata: MetadataValues) -> Value {
    Value::Function(Arc::new(move |arguments| {
        let [Value::String(label)] = arguments else {
            let message = "Meta takes one string".to_owned();
            return Err(gotmpl::TemplateError::Exec(message));
        };
        Ok(text(&metadata(label)))
    }))
}

/// Converts an expression's value to a template's.
fn value_of(value: &expression::Value) -> Value {
    use expression::Value as From;
    match value {
        From::Bool(value) => Value::Bool(*value),
        From::Integer(value) => Value::Int(*value),
        From::Float(value) => Value::Float(*value),
        From::String(value) => text(value),
        From::Array(values) => Value::List(values.iter().map(value_of).collect()),
        From::Map(entries) => {
            let entries = entries.iter();
            map(entries.map(|(key, value)| (Arc::from(key.as_str()), value_of(value))))
        }
        _ => Value::Nil,
    }
}
