//! How a diagnostic looks: message, file:line:column, the line, a caret, what to write instead.
//!
//! The renderer gets only the lines it shall show, and of very long lines only a window: its effort
//! grows with the text it is given, and a broken file may well be one line of megabytes.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::diagnostic::{Diagnostic, Severity};
use super::source::{Place, Sources};

/// Lines between two marks that are still drawn together.
const NEAR: u32 = 30;
/// Bytes of text that are drawn whole.
const LONGEST: usize = 4096;
/// Bytes on both sides of a mark in a window on a longer line.
const MARGIN: usize = 60;

/// A place to underline.
#[derive(Clone, Copy)]
struct Mark<'a> {
    kind: AnnotationKind,
    place: Place,
    label: Option<&'a str>,
}

impl Diagnostic {
    /// Draws this one alone, without a line end behind it.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        draw(self, sources, colour)
    }
}

fn draw(diagnostic: &Diagnostic, sources: &Sources, colour: bool) -> String {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()));
    let marks = marks(diagnostic);
    if let Some(text) = lines(sources, &marks) {
        group = group.element(snippet(sources, text, &marks));
    } else {
        for mark in &marks {
            group = one_mark(group, sources, *mark);
        }
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

fn marks(diagnostic: &Diagnostic) -> Vec<Mark<'_>> {
    let label = diagnostic.label.as_deref();
    let kind = AnnotationKind::Primary;
    let main = diagnostic.place.map(|place| Mark { kind, place, label });
    let also = diagnostic.also.as_deref().map(|(place, label)| {
        let kind = AnnotationKind::Context;
        Mark {
            kind,
            place: *place,
            label: Some(label),
        }
    });
    main.into_iter().chain(also).collect()
}

/// A stretch of a text.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    start: usize,
    line: u32,
}

/// The lines that all marks are on, if they are few and of one text.
fn lines<'a>(sources: &'a Sources, marks: &[Mark<'_>]) -> Option<Part<'a>> {
    let first = marks.iter().min_by_key(|mark| mark.place.start)?.place;
    let last = marks.iter().max_by_key(|mark| mark.place.end)?.place;
    if first.source != last.source || last.line.abs_diff(first.line) > NEAR {
        return None;
    }
    let text = sources.text(first.source)?;
    let start = line_start(text, first.start as usize)?;
    let end = line_end(text, last.end as usize)?;
    let short = end - start <= LONGEST;
    short.then(|| Part {
        text: &text[start..end],
        start,
        line: first.line,
    })
}

fn snippet<'a>(
    sources: &'a Sources,
    part: Part<'a>,
    marks: &[Mark<'a>],
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let annotations = marks.iter().map(|mark| {
        let (start, end) = (mark.place.start as usize, mark.place.end as usize);
        let end = end.min(part.start + part.text.len());
        mark.kind
            .span(start - part.start..end - part.start)
            .label(mark.label)
    });
    let name = marks
        .first()
        .and_then(|mark| sources.name(mark.place.source));
    Snippet::source(part.text)
        .line_start(part.line as usize)
        .path(name)
        .annotations(annotations)
}

/// A mark by itself, in its first line or a window on that.
fn one_mark<'a>(group: Group<'a>, sources: &'a Sources, mark: Mark<'a>) -> Group<'a> {
    let place = mark.place;
    let bounds = || {
        let text = sources.text(place.source)?;
        let start = line_start(text, place.start as usize)?;
        Some((text, start, line_end(text, place.start as usize)?))
    };
    let Some((text, start, end)) = bounds() else {
        return group;
    };
    if end - start <= LONGEST {
        let part = Part {
            text: &text[start..end],
            start,
            line: place.line,
        };
        return group.element(snippet(sources, part, &[mark]));
    }
    let from = (place.start as usize).saturating_sub(MARGIN).max(start);
    let from = text.floor_char_boundary(from);
    let to = (place.end as usize).min(place.start as usize + MARGIN) + MARGIN;
    let to = text.floor_char_boundary(to.min(end));
    let part = Part {
        text: &text[from..to],
        start: from,
        line: place.line,
    };
    // The window's own columns are not the line's: the place is told apart from it.
    let name = sources.name(place.source).unwrap_or_default();
    let origin = Origin::path(name)
        .line(place.line as usize)
        .char_column(place.column as usize);
    group
        .element(origin)
        .element(snippet(sources, part, &[mark]).path(None::<&str>))
}

fn line_start(text: &str, at: usize) -> Option<usize> {
    Some(text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1))
}

fn line_end(text: &str, at: usize) -> Option<usize> {
    Some(at + text.get(at..)?.lines().next().unwrap_or_default().len())
}

#[cfg(test)]
mod tests {
    use super::super::{Diagnostic, Memory, parse};

    #[test]
    fn a_long_line_is_shown_through_a_window() {
        let text = format!(
            ". {{\nlog {}{{$NO}} {}\n}}\n",
            "é ".repeat(5000),
            "x".repeat(9000)
        );
        let error = parse("Corefile", &text, &["log"], &Memory::default()).unwrap_err();
        let drawn = error.to_string();
        assert!(drawn.contains("--> Corefile:2:10005\n"), "{drawn}");
        assert!(
            drawn.contains("^^^^^ expected a variable that is set"),
            "{drawn}"
        );
        assert!(drawn.len() < 1000, "{drawn}");
    }

    #[test]
    fn a_long_word_is_cut_in_the_message() {
        let text = "x".repeat(100_000);
        assert!(Diagnostic::error(text).message.len() < 600);
    }

    #[test]
    fn a_word_over_many_lines_is_marked_in_its_first() {
        let text = format!(". {{\n\"x{}\"\n}}\n", "long line\n".repeat(1000));
        let error = parse("Corefile", &text, &["log"], &Memory::default()).unwrap_err();
        let drawn = error.list[0].render(&error.sources, false);
        assert!(drawn.contains("2 | \"xlong line\n"), "{drawn}");
        assert!(drawn.len() < 3000, "{drawn}");
    }
}
