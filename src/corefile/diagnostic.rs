//! Errors and warnings, and how they are drawn: message, file:line:column, the line, a caret.

use std::fmt;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::source::{Place, Sources, Word};

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
        Self::new(Severity::Error, message.into())
    }

    /// A warning that points nowhere yet.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
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
        self.label = Some(label.into());
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
        self.help = Some(help.into());
        self
    }

    /// The same as [`help`](Self::help), when there is one.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Points at a second place.
    #[must_use]
    pub fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.also = Some(Box::new((place, label.into())));
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
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let marks = self.marks();
        let together = marks.len() == 2 && near(marks[0].place, marks[1].place);
        let groups = if together {
            vec![&marks[..]]
        } else {
            marks.chunks(1).collect()
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()));
        for marks in groups {
            if let Some(snippet) = snippet(sources, marks) {
                group = group.element(snippet);
            }
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    fn marks(&self) -> Vec<Mark<'_>> {
        let main = self.place.map(|place| Mark {
            kind: AnnotationKind::Primary,
            place,
            label: self.label.as_deref(),
        });
        let also = self.also.as_deref().map(|(place, label)| Mark {
            kind: AnnotationKind::Context,
            place: *place,
            label: Some(label),
        });
        main.into_iter().chain(also).collect()
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

#[derive(Clone, Copy)]
struct Mark<'a> {
    kind: AnnotationKind,
    place: Place,
    label: Option<&'a str>,
}

/// Whether two places fit in one drawing.
fn near(one: Place, other: Place) -> bool {
    one.source == other.source && one.line.abs_diff(other.line) <= 30
}

/// The lines that the marks are on. Only those are handed to the renderer, which would otherwise
/// walk the whole text for each diagnostic.
fn snippet<'a>(sources: &'a Sources, marks: &[Mark<'a>]) -> Option<Snippet<'a, Annotation<'a>>> {
    let first = marks.iter().min_by_key(|mark| mark.place.start)?.place;
    let last = marks.iter().map(|mark| mark.place.end as usize).max()?;
    let text = sources.text(first.source)?;
    let start = text
        .get(..first.start as usize)?
        .rfind('\n')
        .map_or(0, |newline| newline + 1);
    let rest = text.get(last..)?.lines().next().unwrap_or_default();
    let end = last + rest.len();
    let shift = |mark: &Mark<'a>| {
        let place = mark.place.range();
        let annotation = mark.kind.span(place.start - start..place.end - start);
        annotation.label(mark.label)
    };
    Some(
        Snippet::source(&text[start..end])
            .line_start(first.line as usize)
            .path(sources.name(first.source))
            .annotations(marks.iter().map(shift)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_is_small_enough_to_be_returned_by_value() {
        assert!(size_of::<Diagnostic>() < 128);
    }
}
