//! One Go template: parsed and checked at load, executed for each query.
//!
//! The template library resolves fields and functions only during execution, has no methods,
//! accepts a missing `{{end}}`, and prints `<no value>` for a missing group where Go prints
//! nothing. So the text is checked first ([`unbalanced`]), then the parse tree ([`walk`]), and some
//! functions are replaced ([`super::functions`]).

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

/// Name of the main template in the library.
const MAIN: &str = "record";
/// Maximum length of a template in bytes.
const MAX_LENGTH: usize = 10_000;
/// Maximum number of loop iterations per record.
const MAX_ITERATIONS: u64 = 1000;

/// A compiled template.
pub struct Text {
    template: Template,
    source: String,
    uses: BTreeSet<&'static str>,
}

/// The names that a template may use.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The groups of the regular expressions: their numbers and names.
    pub groups: &'a BTreeSet<String>,
    /// The variables of the `var` properties.
    pub variables: &'a [String],
}

impl Text {
    /// Parses a template.
    pub fn read(word: &Word, scope: Scope<'_>) -> Result<Self, Diagnostic> {
        if word.len() > MAX_LENGTH {
            let message = format!("the template is longer than {MAX_LENGTH} bytes");
            return Err(word.error(message));
        }
        if word.trim().is_empty() {
            return Err(word
                .error("an empty template is not a record")
                .expected("a record, such as \"{{ .Name }} 60 IN A 192.0.2.1\""));
        }
        if let Some((position, what)) = unbalanced(word) {
            let error = Diagnostic::error(format!("could not compile template: {what}"));
            return Err(error.at(word.part(position)));
        }
        let read = Template::new(MAIN).parse(word);
        let read = read.map_err(|error| refuse(word, &error))?;
        let defined: BTreeSet<String> = read.templates().iter().map(ToString::to_string).collect();
        let mut uses = BTreeSet::new();
        let mut template = Template::new(MAIN)
            .func("index", index)
            .func("parseInt", parse_int)
            .max_range_iters(MAX_ITERATIONS);
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

    /// The source text of the template.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The fields of the root value that it uses.
    pub fn uses(&self) -> impl Iterator<Item = &'static str> {
        self.uses.iter().copied()
    }

    /// Executes the template with `data` as root value; returns its output.
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

/// Converts an error of the library to a diagnostic.
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
    let span = match line {
        1 => word.part(at..(at + 1).min(word.len())),
        _ => word.span,
    };
    diagnostic.at(span).label("here")
}

/// Finds a block without `{{end}}`, or an `{{end}}` without a block, and returns its position and
/// the error: the library accepts both.
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

/// Length of an action: up to the first `}}` outside of quotes and comments.
fn end_of_action(action: &str) -> usize {
    let bytes = action.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (quote, byte) {
            (Some(b'"' | b'\''), b'\\') => at += 1,
            (Some(open), _) if byte == open => quote = None,
            (None, b'"' | b'`' | b'\'') => quote = Some(byte),
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

/// Creates a map value of the library.
pub fn map(entries: impl IntoIterator<Item = (Arc<str>, Value)>) -> Value {
    Value::Map(Arc::new(entries.into_iter().collect::<BTreeMap<_, _>>()))
}

/// Creates a string value of the library.
pub fn text(text: &str) -> Value {
    Value::String(text.into())
}
