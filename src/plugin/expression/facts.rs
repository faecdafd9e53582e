//! What an expression can ask of a query, each found out when it is first asked.

use std::cell::OnceCell;

use expr::{Context, ContextProvider, Value};

use super::FACTS;
use crate::{plugin::append_list::AppendList, query::Query};

/// What stands before a label of metadata where it is asked for; no name of an expression begins so.
pub(super) const METADATA: &str = "metadata()";
/// What stands before a group of a regular expression.
pub(super) const GROUP: &str = "group()";
/// What stands before the name of a variable, which could begin like a word of the language.
pub(super) const VARIABLE: char = '_';

/// Tells what is known under a name: nothing is an empty text.
type Tell<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What is known of one query.
pub struct Facts<'a> {
    query: &'a Query,
    metadata: Option<Tell<'a>>,
    groups: Option<Tell<'a>>,
    variables: Vec<(String, Value)>,
    known: [OnceCell<Value>; FACTS.len()],
    /// Values by name, once they were asked for.
    looked_up: AppendList<(String, Value)>,
}

impl<'a> Facts<'a> {
    /// Those of `query` itself.
    pub fn new(query: &'a Query) -> Self {
        Self {
            query,
            metadata: None,
            groups: None,
            variables: Vec::new(),
            known: [const { OnceCell::new() }; FACTS.len()],
            looked_up: AppendList::default(),
        }
    }

    /// With what plugins know, by label.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Tell<'a>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// With the groups of a regular expression that the name matched, by name or number.
    #[cfg(feature = "template")]
    #[must_use]
    pub fn with_groups(mut self, groups: Tell<'a>) -> Self {
        self.groups = Some(groups);
        self
    }

    /// Sets a variable for the expressions that follow.
    pub fn set(&mut self, name: &str, value: Value) {
        self.variables.push((format!("{VARIABLE}{name}"), value));
    }

    fn fact(&self, name: &str) -> Value {
        let query = self.query;
        let text = |text: String| Value::String(text);
        match name {
            "bufsize" => Value::Integer(i64::try_from(query.payload()).unwrap_or(i64::MAX)),
            "class" => text(query.question.class.to_string()),
            "client_ip" => text(query.client.ip().to_canonical().to_string()),
            "do" => Value::Bool(query.dnssec_ok()),
            "id" => Value::Integer(query.id.into()),
            "name" => text(query.question.lower.to_string()),
            "opcode" => Value::Integer(query.opcode.0.into()),
            "port" => text(query.client.port().to_string()),
            "proto" => text(query.transport.label().to_owned()),
            "server_ip" => text(query.local.ip().to_canonical().to_string()),
            "server_port" => text(query.local.port().to_string()),
            "size" => Value::Integer(i64::try_from(query.size).unwrap_or(i64::MAX)),
            _ => text(query.question.rtype.to_string()),
        }
    }
}

impl ContextProvider for Facts<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        if let Some(at) = FACTS.iter().position(|fact| *fact == key) {
            return Some(self.known[at].get_or_init(|| self.fact(key)));
        }
        for (before, tell) in [(METADATA, self.metadata), (GROUP, self.groups)] {
            if let Some(name) = key.strip_prefix(before) {
                let text = || tell.and_then(|tell| tell(name)).unwrap_or_default();
                let found = self.looked_up.find_or_append(
                    |(known, _)| known == key,
                    || (key.to_owned(), Value::String(text())),
                );
                return Some(&found.1);
            }
        }
        let mut variables = self.variables.iter();
        variables
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    fn to_context(&self) -> Context {
        // Only `$env` asks for it, which is refused at load.
        Context::default()
    }
}
