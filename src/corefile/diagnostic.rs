//! Errors and warnings: what is wrong, where, and what to write instead.

use std::fmt;

use super::source::{Place, Sources, Word};

/// Bytes of a message, label or help.
const LONGEST_MESSAGE: usize = 500;

/// One thing to tell the author of a Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// What is wrong. Carries the words CoreDNS uses where it has an error for the same thing.
    pub message: String,
    /// The word at fault.
    pub place: Option<Place>,
    /// Stands under the caret: what was expected.
    pub label: Option<String>,
    /// What to write instead.
    pub help: Option<String>,
    /// A second place with its own label, such as "first defined here".
    pub also: Option<Box<(Place, String)>>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Served all the same, but surely not what was meant.
    Warning,
    /// The file is refused.
    Error,
}

/// Diagnostics together with the texts that they point into. `Display` draws them all.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    /// In the order in which they were found.
    pub list: Vec<Diagnostic>,
    /// The texts.
    pub sources: Sources,
}

/// What is wrong with a directive: each of its words and lines is read, so that all is told at once.
///
/// ```
/// # use lodestone::corefile::{Diagnostic, Directive, Problems};
/// fn networks(directive: &Directive) -> Result<usize, Vec<Diagnostic>> {
///     let mut problems = Problems::default();
///     let mut networks = Vec::new();
///     for word in &directive.arguments {
///         networks.extend(problems.catch(word.network()));
///     }
///     problems.into_result(networks.len())
/// }
/// ```
#[derive(Debug, Default)]
pub struct Problems(Vec<Diagnostic>);

impl Diagnostic {
    /// An error that points nowhere yet.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, short(message))
    }

    /// A warning that points nowhere yet.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, short(message))
    }

    fn new(severity: Severity, message: String) -> Self {
        Self {
            severity,
            message,
            place: None,
            label: None,
            help: None,
            also: None,
        }
    }

    /// Points at a place.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Puts a text under the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(short(label));
        self
    }

    /// Puts "expected WHAT" under the caret; `what` reads like "a duration such as 5s".
    #[must_use]
    pub fn expected(self, what: impl fmt::Display) -> Self {
        self.label(format!("expected {what}"))
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(short(help));
        self
    }

    /// The same as [`help`](Self::help), when there is one.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.map(short).or(self.help);
        self
    }

    /// Tells that the block's key is the name of a plugin, which was meant to stand in a block.
    #[must_use]
    pub fn plugin_for_key(self, key: &Word) -> Self {
        self.also(
            key.place,
            format!("'{key}' is read as a zone: no server block is open here"),
        )
        .help(format!(
            "put '{key}' between the braces of a server block, such as: . {{ ... }}"
        ))
    }

    /// Points at a second place.
    #[must_use]
    pub fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.also = Some(Box::new((place, short(label))));
        self
    }

    /// Puts `plugin/NAME: ` before the message, as CoreDNS does for what a plugin refuses.
    #[must_use]
    pub fn in_plugin(mut self, name: &str) -> Self {
        self.message.insert_str(0, &format!("plugin/{name}: "));
        self
    }
}

impl fmt::Display for Diagnostic {
    /// The message alone; the drawing needs [`Sources`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl Problems {
    /// What was read, or nothing where that is wrong: the error is then kept.
    pub fn catch<T>(&mut self, read: Result<T, Diagnostic>) -> Option<T> {
        read.map_err(|error| self.push(error)).ok()
    }

    /// Keeps an error.
    pub fn push(&mut self, error: Diagnostic) {
        self.0.push(error);
    }

    /// Whether nothing is wrong yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, each as [`Diagnostic::in_plugin`] tells it.
    #[must_use]
    pub fn in_plugin(self, name: &str) -> Self {
        let named = self.0.into_iter().map(|one| one.in_plugin(name));
        Self(named.collect())
    }

    /// What the directive says, where nothing is wrong.
    pub fn into_result<T>(self, config: T) -> Result<T, Vec<Diagnostic>> {
        if self.is_empty() {
            Ok(config)
        } else {
            Err(self.0)
        }
    }
}

impl Extend<Diagnostic> for Problems {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, errors: I) {
        self.0.extend(errors);
    }
}

impl From<Problems> for Vec<Diagnostic> {
    fn from(problems: Problems) -> Self {
        problems.0
    }
}

impl Word {
    /// An error that points at this word.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(message).at(self.place)
    }

    /// A warning that this word, the name of a property, has no effect where it stands.
    pub fn does_nothing(&self, why: &str) -> Diagnostic {
        self.warning(format!("{self} does nothing: {why}"))
    }

    /// A warning that points at this word.
    pub fn warning(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(message).at(self.place)
    }
}

impl Diagnostics {
    /// Whether the file must be refused.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|one| one.severity == Severity::Error)
    }

    /// Draws all, coloured if asked, with an empty line between two.
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

/// Words can be as long as a file; a message is not.
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
    fn all_that_is_wrong_is_told_in_its_order() {
        let mut problems = Problems::default();
        assert_eq!(problems.catch(Ok(5)), Some(5));
        assert_eq!(Problems::default().into_result(5), Ok(5));
        let wrong = |text: &str| Err(Diagnostic::error(text));
        assert_eq!(problems.catch::<u8>(wrong("one")), None);
        assert_eq!(problems.catch::<u8>(wrong("another")), None);
        let told = problems.in_plugin("any").into_result(5).unwrap_err();
        let told: Vec<_> = told.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["plugin/any: one", "plugin/any: another"]);
    }
}
