//! Line numbers and syntax errors of manifests.

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;
use std::fmt;

/// A syntax error of a document.
#[derive(Debug)]
pub(super) struct SyntaxError {
    /// The 1-based line within the document, if known.
    pub line: Option<usize>,
    pub message: String,
}

/// Parses a YAML document.
pub(super) fn yaml<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, SyntaxError> {
    let options = serde_saphyr::options! {
        // YAML 1.2, as in Kubernetes: "y" is a string.
        strict_booleans: true,
        // A List may contain all objects of a cluster; the file size is bounded.
        budget: serde_saphyr::budget! { max_nodes: 5_000_000, max_events: 20_000_000 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let location = error.location();
        let line = location.and_then(|it| usize::try_from(it.line()).ok());
        // The library reports the token after a tab.
        let tab = text
            .lines()
            .position(|it| it.trim_start_matches(' ').starts_with('\t'));
        let line = match (error, tab) {
            (serde_saphyr::Error::ExternalMessage { .. }, Some(tab)) => Some(tab + 1),
            _ => line.filter(|line| *line > 0),
        };
        let at = line.and_then(|line| text.lines().nth(line.checked_sub(1)?));
        SyntaxError {
            line,
            message: format!("{}; document skipped", yaml_message(error, at)),
        }
    })
}

/// The error and what to do; the library names its own events and states.
fn yaml_message(error: &serde_saphyr::Error, line: Option<&str>) -> String {
    let line = line.unwrap_or_default();
    if line.contains("{{") {
        return "a template ({{ }}), expected YAML; render it first, for example with 'helm template'"
            .into();
    }
    let indentation = &line[..line.len() - line.trim_start().len()];
    if indentation.contains('\t') {
        return "a tab in the indentation, expected spaces".into();
    }
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or_default();
            format!("duplicate key {key:?} in a map")
        }
        serde_saphyr::Error::Eof { .. } => "unexpected end of the document".into(),
        serde_saphyr::Error::UnknownAnchor { .. } => {
            "an alias (*NAME) without a preceding anchor (&NAME)".into()
        }
        _ => "invalid YAML; check the indentation, quotes and brackets".into(),
    }
}

/// A JSON syntax error.
pub(super) fn json(error: &serde_json::Error, consequence: &str) -> String {
    let what = if error.is_eof() {
        "unexpected end of the JSON text"
    } else {
        "invalid JSON; check commas, quotes and brackets"
    };
    format!("{what} (column {}){consequence}", error.column())
}

/// The 1-based lines of paths such as `spec.ports[0].port` in a document; for a missing field, the
/// line of its nearest parent.
pub(super) fn lines(text: &str, paths: &[String]) -> Vec<Option<usize>> {
    if paths.is_empty() {
        return Vec::new();
    }
    // JSON is a subset of YAML.
    let tree = yaml::<Spanned<Tree>>(text).ok();
    let line = |path: &String| {
        let line = line_of(tree.as_ref()?, path);
        usize::try_from(line).ok().filter(|line| *line > 0)
    };
    paths.iter().map(line).collect()
}

fn line_of(root: &Spanned<Tree>, path: &str) -> u64 {
    let mut node = root;
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let next = match &node.value {
            Tree::Leaf => None,
            Tree::List(items) => rest.strip_prefix('[').and_then(|it| {
                let (number, after) = it.split_once(']')?;
                Some((items.get(number.parse::<usize>().ok()?)?, after))
            }),
            // Label keys contain dots, so the longest matching key is used.
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

/// A document as a tree of positions.
enum Tree {
    Leaf,
    List(Vec<Spanned<Tree>>),
    Map(Vec<(String, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
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
