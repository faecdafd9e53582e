//! Where in a manifest something stands, and what is wrong with its syntax.

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;
use std::fmt;

/// Why a document cannot be read at all.
#[derive(Debug)]
pub(super) struct Syntax {
    /// The line within the document, counted from 1, where that is known.
    pub line: Option<usize>,
    pub what: String,
}

/// Reads a YAML document.
pub(super) fn yaml<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, Syntax> {
    let options = serde_saphyr::options! {
        // A List holds as many objects as a cluster has; the file's length is bounded.
        // As YAML 1.2 and Kubernetes have them: "y" is text.
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_nodes: 5_000_000, max_events: 20_000_000 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let location = error.location();
        let line = location.and_then(|it| usize::try_from(it.line()).ok());
        // The library goes on to the next token before it finds a tab.
        let tab = text
            .lines()
            .position(|it| it.trim_start_matches(' ').starts_with('\t'));
        let line = match (error, tab) {
            (serde_saphyr::Error::ExternalMessage { .. }, Some(tab)) => Some(tab + 1),
            _ => line.filter(|line| *line > 0),
        };
        let at = line.and_then(|line| text.lines().nth(line.checked_sub(1)?));
        Syntax {
            line,
            what: format!("{}; the document is left out", yaml_fault(error, at)),
        }
    })
}

/// What is wrong, and what to do. The library names its own events and states.
fn yaml_fault(error: &serde_saphyr::Error, line: Option<&str>) -> String {
    let line = line.unwrap_or_default();
    if line.contains("{{") {
        return "a template ({{ }}), expected YAML; render it first, as with 'helm template'"
            .into();
    }
    let indentation = &line[..line.len() - line.trim_start().len()];
    if indentation.contains('\t') {
        return "a tab in the indentation, expected spaces".into();
    }
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or_default();
            format!("the key {key:?} for a second time in one map")
        }
        serde_saphyr::Error::Eof { .. } => "the end of the document, expected more".into(),
        serde_saphyr::Error::UnknownAnchor { .. } => {
            "an alias (*NAME) to an anchor (&NAME) that is not above it".into()
        }
        _ => "no YAML; look for wrong indentation and for a missing quote or bracket".into(),
    }
}

/// What is wrong with a JSON text.
pub(super) fn json(error: &serde_json::Error, cost: &str) -> String {
    let what = if error.is_eof() {
        "the end of the text, expected more JSON"
    } else {
        "no JSON; look for a missing comma, quote or bracket"
    };
    format!("{what} (column {}){cost}", error.column())
}

/// The lines, counted from 1, on which these places of a document stand. A place is a path such as
/// `spec.ports[0].port`; of one that is not there, its nearest parent counts.
pub(super) fn lines(text: &str, places: &[String]) -> Vec<Option<usize>> {
    if places.is_empty() {
        return Vec::new();
    }
    // JSON is YAML.
    let tree = yaml::<Spanned<Tree>>(text).ok();
    let line = |place: &String| {
        let line = line_of(tree.as_ref()?, place);
        usize::try_from(line).ok().filter(|line| *line > 0)
    };
    places.iter().map(line).collect()
}

fn line_of(root: &Spanned<Tree>, place: &str) -> u64 {
    let mut node = root;
    let mut rest = place;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let next = match &node.value {
            Tree::Leaf => None,
            Tree::List(items) => rest.strip_prefix('[').and_then(|it| {
                let (number, after) = it.split_once(']')?;
                Some((items.get(number.parse::<usize>().ok()?)?, after))
            }),
            // Names of labels have dots too, so the longest key that fits is the one.
            Tree::Map(entries) => {
                let fits = entries.iter().filter_map(|(key, value)| {
                    let after = rest.strip_prefix(&**key)?;
                    let ends = after.is_empty() || after.starts_with(['.', '[']);
                    ends.then_some((value, after))
                });
                fits.min_by_key(|(_, after)| after.len())
            }
        };
        let Some((child, after)) = next else { break };
        (node, rest) = (child, after);
    }
    node.referenced.line()
}

/// The shape of a document.
enum Tree {
    Leaf,
    List(Vec<Spanned<Tree>>),
    Map(Vec<(String, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}
