//! One Go template: read and checked at load, executed for a query.
//!
//! The library that does both looks fields and functions up only where an execution comes by, knows
//! no methods, does not miss an `{{end}}`, and prints `<no value>` for a group that is not there
//! where Go prints nothing. So the text is looked at before ([`unbalanced`]), what the library read
//! is walked over ([`walk`]), and some functions are our own ([`super::functions`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::Arc,
};

use gotmpl::{Template, TemplateError, Value};

use super::{
    functions::{index, parse_int},
    walk::walk,
};
use crate::corefile::{Diagnostic, Word};

/// The library's name for a template's own text.
const MAIN: &str = "record";
/// Octets of the longest template.
const LONGEST: usize = 10_000;
/// How many times the bodies of all loops may run, for one record.
const MOST_ITERATIONS: u64 = 1000;

/// A template, ready to be executed.
pub struct Text {
    template: Template,
    source: String,
    uses: BTreeSet<&'static str>,
}

/// What a template may name.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The groups of the regular expressions: their numbers and names.
    pub groups: &'a BTreeSet<String>,
    /// The variables of lines `var`.
    pub variables: &'a [String],
}

impl Text {
    /// Reads a template.
    pub fn read(word: &Word, scope: Scope<'_>) -> Result<Self, Diagnostic> {
        if word.len() > LONGEST {
            let message = format!("the template is longer than {LONGEST} octets");
            return Err(word.error(message));
        }
        if word.trim().is_empty() {
            return Err(word
                .error("an empty template makes no record")
                .expected("a record, such as \"{{ .Name }} 60 IN A 192.0.2.1\""));
        }
        if let Some((place, what)) = unbalanced(word) {
            let error = Diagnostic::error(format!("could not compile template: {what}"));
            return Err(error.at(word.part(place)));
        }
        let read = Template::new(MAIN).parse(word);
        let read = read.map_err(|error| refuse(word, &error))?;
        let defined: BTreeSet<String> = read.templates().iter().map(ToString::to_string).collect();
        let mut uses = BTreeSet::new();
        let mut template = Template::new(MAIN)
            .func("index", index)
            .func("parseInt", parse_int)
            .max_range_iters(MOST_ITERATIONS);
        for name in &defined {
            let Some(mut tree) = read.lookup(name).cloned() else {
                continue;
            };
            let is_main = name == MAIN;
            uses.extend(walk(word, scope, &defined, &mut tree, is_main)?);
            template = template.add_parse_tree(name, tree);
        }
        Ok(Self {
            template,
            source: word.to_string(),
            uses,
        })
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The fields of the whole that it names.
    pub fn uses(&self) -> impl Iterator<Item = &'static str> {
        self.uses.iter().copied()
    }

    /// Executes it: what it makes of `data`, the whole.
    pub fn execute(&self, data: &Value) -> Result<String, String> {
        let made = self.template.execute_template_to_string(MAIN, data);
        made.map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, out)
    }
}

/// What to say of a text that is no template.
fn refuse(word: &Word, error: &TemplateError) -> Diagnostic {
    let (TemplateError::Parse {
        line, col, message, ..
    }
    | TemplateError::Lex {
        line, col, message, ..
    }) = error
    else {
        return word.error(format!("could not compile template: {error}"));
    };
    let diagnostic = Diagnostic::error(format!("could not compile template: {message}"));
    let at = col.saturating_sub(1).min(word.len());
    let place = match line {
        1 => word.part(at..(at + 1).min(word.len())),
        _ => word.span,
    };
    diagnostic.at(place).label("here")
}

/// The word of a block that has no `{{end}}`, or an `{{end}}` of nothing, and what to say of it: the
/// library misses neither.
fn unbalanced(text: &str) -> Option<(Range<usize>, &'static str)> {
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("{{") {
        at += found + 2;
        let action = &text[at..];
        let inner = action.trim_start_matches('-').trim_start();
        let start = at + action.len() - inner.len();
        let length = inner.bytes().take_while(u8::is_ascii_lowercase).count();
        match &inner[..length] {
            "if" | "range" | "with" | "define" | "block" => open.push(start..start + length),
            "end" if open.pop().is_none() => {
                return Some((start..start + length, "unexpected {{end}}"));
            }
            _ => {}
        }
        at += end_of_action(action);
    }
    let last = open.pop()?;
    Some((last, "this has no {{end}}"))
}

/// Where an action ends, by its first `}}` outside of quotes and comments.
fn end_of_action(action: &str) -> usize {
    let octets = action.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while let Some(&octet) = octets.get(at) {
        match (quote, octet) {
            (Some(b'"' | b'\''), b'\\') => at += 1,
            (Some(open), _) if octet == open => quote = None,
            (None, b'"' | b'`' | b'\'') => quote = Some(octet),
            (None, b'/') if action[at..].starts_with("/*") => {
                at += action[at..].find("*/").unwrap_or(0);
            }
            (None, b'}') if action[at..].starts_with("}}") => return at,
            _ => {}
        }
        at += 1;
    }
    action.len()
}

/// A map of the library's.
pub fn map(entries: impl IntoIterator<Item = (Arc<str>, Value)>) -> Value {
    Value::Map(Arc::new(entries.into_iter().collect::<BTreeMap<_, _>>()))
}

/// A text of the library's.
pub fn text(text: &str) -> Value {
    Value::String(text.into())
}
