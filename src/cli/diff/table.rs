//! Differences as people read them: `+` what is new, `-` what is gone, `~` what says something else.

use std::fmt::Write;

use super::compare::{Change, Changed, Difference};
use crate::corefile::{Directive, File, Line, ServerBlock, Word};

/// Everything, a paragraph for each block.
pub(super) fn written(differences: &[Difference<'_>], old: &File, new: &File) -> String {
    let paragraphs = differences.iter().map(|difference| match difference {
        Difference::Added(block) => whole('+', block, new),
        Difference::Removed(block) => whole('-', block, old),
        Difference::Changed(changed) => changed_block(changed, old, new),
    });
    paragraphs.collect::<Vec<_>>().join("\n")
}

/// A block that is in one file alone, with what is in it.
fn whole(sign: char, block: &ServerBlock, file: &File) -> String {
    let mut text = format!(
        "{sign} {} {{    {}\n",
        keys(block),
        place(&block.keys[0], file)
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
        place(&changed.old.keys[0], old),
        place(&changed.new.keys[0], new)
    );
    for gone in &changed.without {
        let whither = if gone.elsewhere {
            ", now of another block"
        } else {
            ""
        };
        let _ = writeln!(text, "-     key {}{whither}", gone.key);
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
        change_of_word(change, old, new, &mut text);
    }
    text.push_str("  }\n");
    text
}

fn change_of_word(change: &Change<'_>, old: &File, new: &File, text: &mut String) {
    match change {
        Change::Added(one) => all_of('+', one, new, text),
        Change::Removed(one) => all_of('-', one, old, text),
        Change::Reordered(one) => {
            let _ = writeln!(
                text,
                "~     {}: the same lines in another order    {}",
                one.name,
                place(&one.name, new)
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

fn all_of(sign: char, directive: &Directive, file: &File, text: &mut String) {
    let mut lines = lines(directive).into_iter();
    let first = lines.next().unwrap_or_default();
    line(sign, 4, &first, &directive.name, file, text);
    for rest in lines {
        let _ = writeln!(text, "{sign}     {rest}");
    }
}

fn line(sign: char, indent: usize, what: &str, at: &Word, file: &File, text: &mut String) {
    let _ = writeln!(text, "{sign} {:indent$}{what}    {}", "", place(at, file));
}

/// A directive as it is written, its lines indented.
fn lines(directive: &Directive) -> Vec<String> {
    let first = first_line(directive);
    let properties = directive.properties();
    if properties.is_empty() {
        return vec![first];
    }
    let inner = properties
        .iter()
        .map(|line: &Line| format!("    {}", words(&line.words)));
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

/// A word as a Corefile needs it.
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

fn place(word: &Word, file: &File) -> String {
    let name = file.sources.name(word.place.source).unwrap_or("?");
    format!("({name}:{})", word.place.line)
}
