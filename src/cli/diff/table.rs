//! Prints differences: `+` added, `-` removed, `~` modified.

use std::fmt::Write;

use super::compare::{Change, Changed, Difference};
use crate::corefile::{Directive, File, Property, ServerBlock, Word};

/// All differences, one paragraph per block.
pub(super) fn written(differences: &[Difference<'_>], old: &File, new: &File) -> String {
    let paragraphs = differences.iter().map(|difference| match difference {
        Difference::Added(block) => whole_block('+', block, new),
        Difference::Removed(block) => whole_block('-', block, old),
        Difference::Changed(changed) => changed_block(changed, old, new),
    });
    paragraphs.collect::<Vec<_>>().join("\n")
}

/// An added or removed block with its directives.
fn whole_block(sign: char, block: &ServerBlock, file: &File) -> String {
    let mut text = format!(
        "{sign} {} {{    {}\n",
        keys(block),
        location(&block.keys[0], file)
    );
    for directive in &block.directives {
        for line in lines(directive) {
            let _ = writeln!(text, "{sign}     {line}");
        }
    }
    let _ = writeln!(text, "{sign} }}");
    text
}

fn changed_block(changed: &Changed<'_>, old: &File, new: &File) -> String {
    let mut text = format!(
        "~ {} {{    {} -> {}\n",
        keys(changed.new),
        location(&changed.old.keys[0], old),
        location(&changed.new.keys[0], new)
    );
    for gone in &changed.without {
        let moved_to = if gone.elsewhere {
            ", now of another block"
        } else {
            ""
        };
        let _ = writeln!(text, "-     key {}{moved_to}", gone.key);
    }
    for key in &changed.with {
        let _ = writeln!(text, "+     key {key}");
    }
    if changed.moved {
        let _ = writeln!(
            text,
            "~     stands behind another block of the same key now"
        );
    }
    for change in &changed.words {
        changed_directive(change, old, new, &mut text);
    }
    text.push_str("  }\n");
    text
}

fn changed_directive(change: &Change<'_>, old: &File, new: &File, text: &mut String) {
    match change {
        Change::Added(one) => whole_directive('+', one, new, text),
        Change::Removed(one) => whole_directive('-', one, old, text),
        Change::Reordered(one) => {
            let _ = writeln!(
                text,
                "~     {}: the same lines in another order    {}",
                one.name,
                location(&one.name, new)
            );
        }
        Change::Changed {
            old: before,
            new: after,
            head,
            without,
            with,
            reordered,
        } => {
            if *head {
                line('-', 4, &first_line(before), &before.name, old, text);
                line('+', 4, &first_line(after), &after.name, new, text);
            } else {
                line('~', 4, &first_line(after), &after.name, new, text);
            }
            for one in without {
                line('-', 8, &words(&one.words), one.name(), old, text);
            }
            for one in with {
                line('+', 8, &words(&one.words), one.name(), new, text);
            }
            if *reordered {
                text.push_str("~         the same lines in another order\n");
            }
        }
    }
}

fn whole_directive(sign: char, directive: &Directive, file: &File, text: &mut String) {
    let mut lines = lines(directive).into_iter();
    let first = lines.next().unwrap_or_default();
    line(sign, 4, &first, &directive.name, file, text);
    for rest in lines {
        let _ = writeln!(text, "{sign}     {rest}");
    }
}

fn line(sign: char, indent: usize, what: &str, at: &Word, file: &File, text: &mut String) {
    let _ = writeln!(
        text,
        "{sign} {:indent$}{what}    {}",
        "",
        location(at, file)
    );
}

/// A directive as written, with indented properties.
fn lines(directive: &Directive) -> Vec<String> {
    let first = first_line(directive);
    let properties = directive.properties();
    if properties.is_empty() {
        return vec![first];
    }
    let inner = properties
        .iter()
        .map(|line: &Property| format!("    {}", words(&line.words)));
    let first = std::iter::once(format!("{first} {{"));
    first.chain(inner).chain(["}".to_owned()]).collect()
}

fn first_line(directive: &Directive) -> String {
    let all = std::iter::once(&directive.name).chain(&directive.arguments);
    all.map(quoted).collect::<Vec<_>>().join(" ")
}

fn words(words: &[Word]) -> String {
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// A word, quoted if necessary.
fn quoted(word: &Word) -> String {
    if word.is_empty() || word.contains([' ', '\t', '\n', '"', '#']) {
        format!("\"{}\"", word.replace('"', "\\\""))
    } else {
        word.to_string()
    }
}

fn keys(block: &ServerBlock) -> String {
    words(&block.keys)
}

fn location(word: &Word, file: &File) -> String {
    let name = file.sources.name(word.span.source).unwrap_or("?");
    format!("({name}:{})", word.span.line)
}
