//! Errors and warnings: what is wrong, where, and what to write instead.

use std::fmt;

use super::drawing;
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

    /// Draws this one alone.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        drawing::draw(self, sources, colour)
    }
}

impl fmt::Display for Diagnostic {
    /// The message alone; the drawing needs [`Sources`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl Word {
    /// An error that points at this word.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(message).at(self.place)
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
}
