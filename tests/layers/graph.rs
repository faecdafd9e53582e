//! Imports folded to folders, and the circles among them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use crate::imports::Import;

/// Which folder imports which, and the imports that say so.
#[derive(Clone)]
pub(crate) struct Graph {
    arrows: BTreeMap<(String, String), Vec<Import>>,
}

impl Graph {
    /// Folds modules to their first `depth` words. Only siblings are compared, so that a module and what
    /// is above or below it are not.
    pub(crate) fn new(imports: &[Import], depth: usize) -> Self {
        let mut arrows: BTreeMap<_, Vec<Import>> = BTreeMap::new();
        for import in imports {
            let (from, to) = (&import.from.0, &import.to.0);
            if from.len() < depth || to.len() < depth {
                continue;
            }
            let are_siblings = from[..depth - 1] == to[..depth - 1];
            if are_siblings && from[..depth] != to[..depth] {
                let arrow = (from[..depth].join("/"), to[..depth].join("/"));
                arrows.entry(arrow).or_default().push(import.clone());
            }
        }
        Self { arrows }
    }

    /// Forgets that `from` imports `to`.
    pub(crate) fn remove(&mut self, from: &str, to: &str) {
        self.arrows.remove(&(from.to_owned(), to.to_owned()));
    }

    /// Whether `from` imports `to` and can be reached from it.
    pub(crate) fn is_on_a_circle(&self, from: &str, to: &str) -> bool {
        let arrow = (from.to_owned(), to.to_owned());
        self.arrows.contains_key(&arrow) && self.reached(to).contains(from)
    }

    /// The circles, each with the files that close it.
    pub(crate) fn circles(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        let nodes: BTreeSet<&str> = self.arrows.keys().map(|(from, _)| from.as_str()).collect();
        for start in nodes {
            let back = |node: &&str| self.reached(node).contains(start);
            let circle: BTreeSet<_> = self.reached(start).into_iter().filter(back).collect();
            if circle.contains(start) && seen.insert(circle.clone()) {
                circles.push(self.describe(&circle));
            }
        }
        circles
    }

    /// What can be reached from `start`, itself only by a circle.
    fn reached<'a>(&'a self, start: &'a str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut pending = vec![start];
        while let Some(node) = pending.pop() {
            for to in self.imported_by(node) {
                if reached.insert(to) {
                    pending.push(to);
                }
            }
        }
        reached
    }

    fn imported_by<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a str> {
        let arrows = self.arrows.range((node.to_owned(), String::new())..);
        let own = arrows.take_while(move |((from, _), _)| from == node);
        own.map(|((_, to), _)| to.as_str())
    }

    fn describe(&self, circle: &BTreeSet<&str>) -> String {
        let members: Vec<_> = circle.iter().copied().collect();
        let mut text = format!("circle: {}", members.join(", "));
        let within = |arrow: &(String, String)| {
            circle.contains(arrow.0.as_str()) && circle.contains(arrow.1.as_str())
        };
        for (_, imports) in self.arrows.iter().filter(|(arrow, _)| within(arrow)) {
            let mut names: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
            for import in imports {
                let files = (&import.from.1, &import.to.1);
                names.entry(files).or_default().insert(import.name.as_str());
            }
            for ((from, to), names) in names {
                let names: Vec<_> = names.into_iter().collect();
                let _ = write!(text, "\n  {from} -> {to}: {}", names.join(", "));
            }
        }
        text
    }
}
