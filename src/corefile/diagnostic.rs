//! Errors and warnings: message, source span and suggested fix.

use std::fmt;

use super::source::{Sources, Span, Word};

/// Maximum length in bytes of a message, label or help text.
const LONGEST_MESSAGE: usize = 500;

/// One error or warning about a Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file is refused.
    pub severity: Severity,
    /// What is wrong. Contains CoreDNS's message where CoreDNS has an error for the same mistake.
    pub message: String,
    /// Span of the word at fault.
    pub span: Option<Span>,
    /// Text under the caret: what was expected.
    pub label: Option<String>,
    /// Suggested fix.
    pub help: Option<String>,
    /// A second span with its own label, such as "first defined here".
    pub also: Option<Box<(Span, String)>>,
}

/// Severity of a diagnostic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Accepted, but probably a mistake.
    Warning,
    /// The file is refused.
    Error,
}

/// Diagnostics together with their source texts. `Display` renders all of them.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    /// In order of detection.
    pub list: Vec<Diagnostic>,
    /// The source texts.
    pub sources: Sources,
}

/// Collects the errors of a directive, so that one pass reports all of them.
///
/// ```
/// # use lodestone::corefile::{Diagnostic, Directive, ErrorList};
/// fn networks(directive: &Directive) -> Result<usize, Vec<Diagnostic>> {
///     let mut errors = ErrorList::default();
///     let mut networks = Vec::new();
///     for word in &directive.arguments {
///         networks.extend(errors.catch(word.network()));
///     }
///     errors.into_result(networks.len())
/// }
/// ```
#[derive(Debug, Default)]
pub struct ErrorList(Vec<Diagnostic>);

impl Diagnostic {
    /// An error without a span.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, short(message))
    }

    /// A warning without a span.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, short(message))
    }

    fn new(severity: Severity, message: String) -> Self {
        Self {
            severity,
            message,
            span: None,
            label: None,
            help: None,
            also: None,
        }
    }

    /// Sets the span.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// Sets the text under the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(short(label));
        self
    }

    /// Sets the label "expected WHAT"; `what` is a noun phrase such as "a duration such as 5s".
    #[must_use]
    pub fn expected(self, what: impl fmt::Display) -> Self {
        self.label(format!("expected {what}"))
    }

    /// Sets the suggested fix.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(short(help));
        self
    }

    /// Like [`help`](Self::help), for an optional text.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.map(short).or(self.help);
        self
    }

    /// Explains that the block's key is a plugin name, which belongs inside a block.
    #[must_use]
    pub fn plugin_for_key(self, key: &Word) -> Self {
        self.also(
            key.span,
            format!("'{key}' is read as a zone: no server block is open here"),
        )
        .help(format!(
            "put '{key}' between the braces of a server block, such as: . {{ ... }}"
        ))
    }

    /// Adds a second span.
    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.also = Some(Box::new((span, short(label))));
        self
    }

    /// Prefixes the message with `plugin/NAME: `, as CoreDNS does for errors of a plugin's parser.
    #[must_use]
    pub fn in_plugin(mut self, name: &str) -> Self {
        self.message.insert_str(0, &format!("plugin/{name}: "));
        self
    }
}

impl fmt::Display for Diagnostic {
    /// The message alone; rendering needs [`Sources`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl ErrorList {
    /// The value, or `None` after recording the error.
    pub fn catch<T>(&mut self, read: Result<T, Diagnostic>) -> Option<T> {
        read.map_err(|error| self.push(error)).ok()
    }

    /// Records an error.
    pub fn push(&mut self, error: Diagnostic) {
        self.0.push(error);
    }

    /// Whether no error was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies [`Diagnostic::in_plugin`] to each error.
    #[must_use]
    pub fn in_plugin(self, name: &str) -> Self {
        let named = self.0.into_iter().map(|one| one.in_plugin(name));
        Self(named.collect())
    }

    /// `config` if no error was recorded.
    pub fn into_result<T>(self, config: T) -> Result<T, Vec<Diagnostic>> {
        if self.is_empty() {
            Ok(config)
        } else {
            Err(self.0)
        }
    }
}

impl Extend<Diagnostic> for ErrorList {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, errors: I) {
        self.0.extend(errors);
    }
}

impl From<ErrorList> for Vec<Diagnostic> {
    fn from(errors: ErrorList) -> Self {
        errors.0
    }
}

impl Word {
    /// An error that points at this word.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(message).at(self.span)
    }

    /// A warning that this property has no effect in this context.
    pub fn does_nothing(&self, why: &str) -> Diagnostic {
        self.warning(format!("{self} does nothing: {why}"))
    }

    /// A warning that points at this word.
    pub fn warning(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(message).at(self.span)
    }
}

impl Diagnostics {
    /// Whether at least one diagnostic is an error.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|one| one.severity == Severity::Error)
    }

    /// Renders all diagnostics, separated by empty lines, with colours if `colour`.
    pub fn render(&self, colour: bool) -> String {
        let drawn: Vec<_> = self
            .list
            .iter()
            .map(|one| one.render(&self.sources, colour))
            .collect();
        drawn.join("\n\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// Truncates a text: words can be as long as a file.
fn short(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > LONGEST_MESSAGE {
        text.truncate(text.floor_char_boundary(LONGEST_MESSAGE));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_is_small_enough_to_be_returned_by_value() {
        assert!(size_of::<Diagnostic>() < 128);
    }

    #[test]
    fn all_errors_are_reported_in_order() {
        let mut errors = ErrorList::default();
        assert_eq!(errors.catch(Ok(5)), Some(5));
        assert_eq!(ErrorList::default().into_result(5), Ok(5));
        let wrong = |text: &str| Err(Diagnostic::error(text));
        assert_eq!(errors.catch::<u8>(wrong("one")), None);
        assert_eq!(errors.catch::<u8>(wrong("another")), None);
        let reported = errors.in_plugin("any").into_result(5).unwrap_err();
        let reported: Vec<_> = reported.iter().map(ToString::to_string).collect();
        assert_eq!(reported, ["plugin/any: one", "plugin/any: another"]);
    }
}
