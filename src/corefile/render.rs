//! Renders a diagnostic: message, file:line:column, source line, caret, help.
//!
//! Only the affected lines are passed to the renderer, and only a window of very long lines: its
//! cost grows with the length of the text, and a broken file can be a single line of megabytes.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::diagnostic::{Diagnostic, Severity};
use super::source::{Sources, Span};

/// Maximum distance in lines between two spans of one excerpt.
const MAX_LINES_APART: u32 = 30;
/// Maximum length of an excerpt in bytes; longer lines are shown through a window.
const MAX_EXCERPT: usize = 4096;
/// Bytes shown on both sides of a span in such a window.
const MARGIN: usize = 60;

/// A span to underline.
#[derive(Clone, Copy)]
struct Mark<'a> {
    kind: AnnotationKind,
    span: Span,
    label: Option<&'a str>,
}

impl Diagnostic {
    /// Renders this diagnostic alone, without a trailing newline.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        render(self, sources, colour)
    }
}

fn render(diagnostic: &Diagnostic, sources: &Sources, colour: bool) -> String {
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
    let main = diagnostic.span.map(|span| Mark { kind, span, label });
    let also = diagnostic.also.as_deref().map(|(span, label)| {
        let kind = AnnotationKind::Context;
        Mark {
            kind,
            span: *span,
            label: Some(label),
        }
    });
    main.into_iter().chain(also).collect()
}

/// Consecutive lines, or a window of one line.
#[derive(Clone, Copy)]
struct Excerpt<'a> {
    text: &'a str,
    start: usize,
    line: u32,
}

/// The lines of all marks, if they are close together and in the same text.
fn lines<'a>(sources: &'a Sources, marks: &[Mark<'_>]) -> Option<Excerpt<'a>> {
    let first = marks.iter().min_by_key(|mark| mark.span.start)?.span;
    let last = marks.iter().max_by_key(|mark| mark.span.end)?.span;
    if first.source != last.source || last.line.abs_diff(first.line) > MAX_LINES_APART {
        return None;
    }
    let text = sources.text(first.source)?;
    let start = line_start(text, first.start as usize)?;
    let end = line_end(text, last.end as usize)?;
    let short = end - start <= MAX_EXCERPT;
    short.then(|| Excerpt {
        text: &text[start..end],
        start,
        line: first.line,
    })
}

fn snippet<'a>(
    sources: &'a Sources,
    excerpt: Excerpt<'a>,
    marks: &[Mark<'a>],
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let annotations = marks.iter().map(|mark| {
        let (start, end) = (mark.span.start as usize, mark.span.end as usize);
        let end = end.min(excerpt.start + excerpt.text.len());
        mark.kind
            .span(start - excerpt.start..end - excerpt.start)
            .label(mark.label)
    });
    let name = marks
        .first()
        .and_then(|mark| sources.name(mark.span.source));
    Snippet::source(excerpt.text)
        .line_start(excerpt.line as usize)
        .path(name)
        .annotations(annotations)
}

/// Renders one mark alone: its first line or a window of it.
fn one_mark<'a>(group: Group<'a>, sources: &'a Sources, mark: Mark<'a>) -> Group<'a> {
    let span = mark.span;
    let bounds = || {
        let text = sources.text(span.source)?;
        let start = line_start(text, span.start as usize)?;
        Some((text, start, line_end(text, span.start as usize)?))
    };
    let Some((text, start, end)) = bounds() else {
        return group;
    };
    if end - start <= MAX_EXCERPT {
        let excerpt = Excerpt {
            text: &text[start..end],
            start,
            line: span.line,
        };
        return group.element(snippet(sources, excerpt, &[mark]));
    }
    let from = (span.start as usize).saturating_sub(MARGIN).max(start);
    let from = text.floor_char_boundary(from);
    let to = (span.end as usize).min(span.start as usize + MARGIN) + MARGIN;
    let to = text.floor_char_boundary(to.min(end));
    let excerpt = Excerpt {
        text: &text[from..to],
        start: from,
        line: span.line,
    };
    // Columns within the window differ from those of the line: the origin is printed separately.
    let name = sources.name(span.source).unwrap_or_default();
    let origin = Origin::path(name)
        .line(span.line as usize)
        .char_column(span.column as usize);
    group
        .element(origin)
        .element(snippet(sources, excerpt, &[mark]).path(None::<&str>))
}

fn line_start(text: &str, at: usize) -> Option<usize> {
    Some(text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1))
}

fn line_end(text: &str, at: usize) -> Option<usize> {
    Some(at + text.get(at..)?.lines().next().unwrap_or_default().len())
}

#[cfg(test)]
mod tests {
    use super::super::{Diagnostic, InMemory, parse};

    #[test]
    fn long_lines_are_rendered_through_a_window() {
        let text = format!(
            ". {{\nlog {}{{$NO}} {}\n}}\n",
            "é ".repeat(5000),
            "x".repeat(9000)
        );
        let error = parse("Corefile", &text, &["log"], &InMemory::default()).unwrap_err();
        let drawn = error.to_string();
        assert!(drawn.contains("--> Corefile:2:10005\n"), "{drawn}");
        assert!(
            drawn.contains("^^^^^ expected a variable that is set"),
            "{drawn}"
        );
        assert!(drawn.len() < 1000, "{drawn}");
    }

    #[test]
    fn long_words_are_truncated_in_messages() {
        let text = "x".repeat(100_000);
        assert!(Diagnostic::error(text).message.len() < 600);
    }

    #[test]
    fn multi_line_words_are_marked_in_their_first_line() {
        let text = format!(". {{\n\"x{}\"\n}}\n", "long line\n".repeat(1000));
        let error = parse("Corefile", &text, &["log"], &InMemory::default()).unwrap_err();
        let drawn = error.list[0].render(&error.sources, false);
        assert!(drawn.contains("2 | \"xlong line\n"), "{drawn}");
        assert!(drawn.len() < 3000, "{drawn}");
    }
}
