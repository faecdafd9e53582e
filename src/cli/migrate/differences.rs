//! The table of differences from CoreDNS: docs/differences.md with a condition for each row, which decides whether
//! the row is about a Corefile. A test compares `differences.tsv` with the document.
//!
//! Columns: heading, condition, situation, CoreDNS, Lodestone. A condition is a list of alternatives, separated by `|`,
//! each of which is a list of terms that all hold, separated by `+`:
//!
//! ```text
//! always            any Corefile
//! NAME              the directive is used
//! NAME/WORDS        the directive is used with these words as an argument, or at the beginning of an option line; a
//!                   word that ends in // or .conf is part of an argument
//! key:SCHEME        a server block has a key of this scheme
//! env:NAME          the container has this variable
//! pod:hostNetwork   the pod uses the node's network
//! !CONDITION        the row is shown like one that names an option
//! ```

use serde::Serialize;

use crate::corefile::{Directive, File, Span};

const TABLE: &str = include_str!("differences.tsv");

/// A heading of docs/differences.md whose rows are no differences.
const SAME: &str = "Same as CoreDNS, where a difference may be expected";

/// A row of the table that is about a Corefile.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Heading in docs/differences.md.
    pub heading: &'static str,
    /// First column there.
    pub situation: &'static str,
    /// What CoreDNS does.
    pub coredns: &'static str,
    /// What Lodestone does.
    pub lodestone: &'static str,
    /// Whether the Corefile has something that the row names, beside the plugin that the heading is about.
    pub is_specific: bool,
    /// Where, as `FILE:LINE`.
    pub at: Vec<String>,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    heading: &'static str,
    condition: &'static str,
    situation: &'static str,
    coredns: &'static str,
    lodestone: &'static str,
}

impl Row {
    /// Whether it is a difference: it has columns for both, and they are not the same.
    fn is_difference(&self) -> bool {
        self.heading != SAME && !self.coredns.is_empty()
    }
}

fn rows() -> impl Iterator<Item = Row> {
    TABLE.lines().filter_map(|line| {
        let mut cells = line.split('\t');
        Some(Row {
            heading: cells.next()?,
            condition: cells.next()?,
            situation: cells.next()?,
            coredns: cells.next()?,
            lodestone: cells.next()?,
        })
    })
}

/// What conditions are about.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The Corefile with its imports.
    pub file: &'a File,
    /// Whether the pod uses the node's network.
    pub is_host_network: bool,
    /// Whether the container has `GOMEMLIMIT`.
    pub has_memory_variable: bool,
}

impl Facts<'_> {
    /// The rows that are about the Corefile, in the order of the document.
    pub fn differences(&self) -> Vec<Difference> {
        let rows = rows().filter(Row::is_difference);
        rows.filter_map(|row| {
            let (matters, condition) = match row.condition.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, row.condition),
            };
            let mut spans = Vec::new();
            let mut is_specific = matters;
            let mut holds = false;
            for alternative in condition.split('|') {
                let terms: Vec<&str> = alternative.split('+').collect();
                let found: Option<Vec<Vec<Span>>> =
                    terms.iter().map(|term| self.term(term)).collect();
                let Some(found) = found else { continue };
                holds = true;
                is_specific |= terms.len() > 1 || terms.iter().any(|it| it.contains(['/', ':']));
                spans.extend(found.into_iter().flatten());
            }
            let mut at: Vec<String> = spans.into_iter().map(|span| self.line(span)).collect();
            at.dedup();
            holds.then_some(Difference {
                heading: row.heading,
                situation: row.situation,
                coredns: row.coredns,
                lodestone: row.lodestone,
                is_specific,
                at,
            })
        })
        .collect()
    }

    /// Whether a row is about a directive of the Corefile.
    pub fn is_in_table(&self, name: &str) -> bool {
        rows().filter(Row::is_difference).any(|row| {
            let terms = row.condition.trim_start_matches('!').split(['|', '+']);
            let mut own = terms.filter(|term| term.split('/').next() == Some(name));
            own.any(|term| self.term(term).is_some())
        })
    }

    /// Where a term holds first, as `FILE:LINE`.
    pub fn line_of(&self, term: &str) -> Option<String> {
        let spans = self.term(term)?;
        spans.first().map(|span| self.line(*span))
    }

    /// Where a term holds: `None` if it does not.
    fn term(&self, term: &str) -> Option<Vec<Span>> {
        if let Some((kind, what)) = term
            .split_once(':')
            .filter(|(_, what)| !what.starts_with("//"))
        {
            let holds = match kind {
                "key" => {
                    let keys = self.file.blocks.iter().flat_map(|block| &block.keys);
                    let scheme = format!("{what}://");
                    let keys = keys.filter(|key| key.starts_with(&scheme));
                    let spans: Vec<Span> = keys.map(|key| key.span).collect();
                    return (!spans.is_empty()).then_some(spans);
                }
                "env" => self.has_memory_variable,
                _ => self.is_host_network,
            };
            return holds.then(Vec::new);
        }
        if term == "always" {
            return Some(Vec::new());
        }
        let (name, words) = match term.split_once('/') {
            Some((name, words)) => (name, Some(words)),
            None => (term, None),
        };
        let directives = self.file.blocks.iter().flat_map(|block| &block.directives);
        let uses = directives.filter(|directive| directive.name == *name);
        let spans: Vec<Span> = match words {
            None => uses.map(|directive| directive.name.span).collect(),
            Some(words) => uses
                .flat_map(|directive| with_words(directive, words))
                .collect(),
        };
        (!spans.is_empty()).then_some(spans)
    }

    fn line(&self, span: Span) -> String {
        let file = self.file.sources.name(span.source).unwrap_or("?");
        format!("{file}:{}", span.line)
    }
}

/// Where a directive has words: as an argument, or at the beginning of an option line.
fn with_words(directive: &Directive, words: &str) -> Vec<Span> {
    let is_scheme = words.ends_with("//");
    let arguments = directive
        .arguments
        .iter()
        .filter(|word| ***word == *words || is_scheme && word.starts_with(words));
    let lines = directive.properties().iter().filter(|line| {
        let mut rest = line.words.iter();
        words
            .split(' ')
            .all(|word| rest.next().is_some_and(|own| *own == *word))
    });
    let lines = lines.map(|line| line.name().span);
    arguments.map(|word| word.span).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::config::order::ORDER;

    /// Heading and cells of each row of the document, but for features that are refused.
    fn document() -> Vec<(String, Vec<String>)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/differences.md");
        let text = fs::read_to_string(path).unwrap();
        let mut rows = Vec::new();
        for section in text.split("\n## ").skip(1) {
            let heading = section.lines().next().unwrap();
            if heading == "Not supported" {
                continue;
            }
            for line in section.lines().filter(|line| line.starts_with('|')) {
                let cells: Vec<String> = line
                    .trim_matches('|')
                    .split('|')
                    .map(|cell| cell.trim().to_owned())
                    .collect();
                if !line.contains("---") && cells[0] != "situation" && cells[0] != "behaviour" {
                    rows.push((heading.to_owned(), cells));
                }
            }
        }
        rows
    }

    #[test]
    fn the_table_has_the_rows_of_the_document() {
        let document = document();
        let mut table = rows();
        for (heading, cells) in &document {
            let row = table.next();
            let about = format!(
                "{heading}: {}\nsrc/cli/migrate/differences.tsv has to have the rows of docs/differences.md, in its \
                 order; see the head of differences.rs for the second column",
                cells[0]
            );
            let row = row.unwrap_or_else(|| panic!("missing: {about}"));
            assert_eq!(
                (row.heading, row.situation),
                (&**heading, &*cells[0]),
                "{about}"
            );
            if row.is_difference() {
                assert_eq!(
                    (row.coredns, row.lodestone),
                    (&*cells[1], &*cells[2]),
                    "{about}"
                );
            }
        }
        assert!(table.next().is_none());
        assert_eq!(
            rows().count(),
            TABLE.lines().count(),
            "a line without five cells"
        );
        assert!(document.len() > 200);
    }

    #[test]
    fn conditions_name_directives() {
        for row in rows() {
            for term in row.condition.trim_start_matches('!').split(['|', '+']) {
                let name = term.split('/').next().unwrap();
                let others = ["always", "env:GOMEMLIMIT", "pod:hostNetwork"];
                let is_known = others.contains(&term)
                    || term.starts_with("key:")
                    || ORDER.iter().any(|word| word.name == name);
                assert!(is_known, "{}: {term}", row.situation);
            }
        }
    }
}
