//! The values that an expression can use, each computed at its first use.

use std::cell::OnceCell;

use expr::{Context, ContextProvider, Value};

use super::FACTS;
use crate::{plugin::append_list::AppendList, query::Query};

/// Prefix of a metadata label as a key; no name of an expression begins so.
pub(super) const METADATA: &str = "metadata()";
/// Prefix of a group of a regular expression as a key.
pub(super) const GROUP: &str = "group()";
/// Prefix of a variable, whose name could begin like a keyword of the language.
pub(super) const VARIABLE: char = '_';

/// Looks up a value by name; `None` is an empty text.
type ValueLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The values for one query.
pub struct Facts<'a> {
    query: &'a Query,
    metadata: Option<ValueLookup<'a>>,
    groups: Option<ValueLookup<'a>>,
    variables: Vec<(String, Value)>,
    known: [OnceCell<Value>; FACTS.len()],
    /// Metadata and groups by key, cached at their first use.
    looked_up: AppendList<(String, Value)>,
}

impl<'a> Facts<'a> {
    /// The properties of `query`.
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

    /// Adds metadata, by label.
    #[must_use]
    pub fn with_metadata(mut self, metadata: ValueLookup<'a>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Adds the groups of a regular expression that the name matched, by name or number.
    #[cfg(feature = "template")]
    #[must_use]
    pub fn with_groups(mut self, groups: ValueLookup<'a>) -> Self {
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
        for (prefix, lookup) in [(METADATA, self.metadata), (GROUP, self.groups)] {
            if let Some(name) = key.strip_prefix(prefix) {
                let text = || lookup.and_then(|lookup| lookup(name)).unwrap_or_default();
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
        // Used only for `$env`, which is rejected at load.
        Context::default()
    }
}
