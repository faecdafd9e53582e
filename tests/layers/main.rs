//! Imports between the folders of `src` point one way. A circle fails here, with the files that close it.
//!
//! Two graphs are looked at. In the first a node is a top-level module (`plugin`), in the second a module
//! one level down (`plugin/cache`), compared with its siblings. What a parent and its children import of
//! each other is no circle, and code that only tests compile does not count.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod graph;
mod imports;
mod tokens;

use std::{collections::BTreeMap, fs, path::Path};

use self::{graph::Graph, imports::Tree};

/// Imports that close a circle today. To be empty: nothing may be added, and what closes no circle any
/// more has to be removed.
const ALLOWED: &[(&str, &str)] = &[
    ("plugin", "admin"),
    ("plugin", "config"),
    ("cluster/api", "cluster/source"),
    ("cluster/manifests", "cluster/source"),
    ("config/listening", "config/settings"),
    ("plugin/waiting", "plugin/chain"),
    ("server/http", "server/tcp"),
];

#[test]
fn no_circle_between_folders() {
    let tree = Tree::new(&sources(Path::new(env!("CARGO_MANIFEST_DIR"))));
    assert!(tree.imports().len() > 500, "the imports were not found");
    let mut faults = Vec::new();
    for depth in [1, 2] {
        let all = Graph::new(tree.imports(), depth);
        let mut rest = all.clone();
        let depth_of = |module: &str| module.split('/').count();
        for (from, to) in ALLOWED.iter().filter(|(from, _)| depth_of(from) == depth) {
            if !all.is_on_a_circle(from, to) {
                faults.push(format!(
                    "{from} -> {to} closes no circle: it is allowed in vain"
                ));
            }
            rest.remove(from, to);
        }
        faults.extend(rest.circles());
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn circles_are_found_and_named() {
    let found = |files: &[(&str, &str)], depth| {
        let files = files.iter();
        let files = files.map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        let tree = Tree::new(&files.collect());
        Graph::new(tree.imports(), depth).circles()
    };
    let one = ("src/a.rs", "use crate::{c::One, b::{Two, three as four}};");
    let two = (
        "src/b/mod.rs",
        "mod inner;\nfn f() { crate::c::g(\"crate::a::x\") }",
    );
    let three = ("src/c.rs", "// crate::a\npub(crate) use std::fmt;");
    let inner = ("src/b/inner.rs", "use super::super::a::{self, Five};");
    assert_eq!(found(&[one, two, three], 1), Vec::<String>::new());
    let circle = found(&[one, two, three, inner], 1);
    assert_eq!(circle.len(), 1);
    assert_eq!(
        circle[0],
        "circle: a, b\n  \
         src/a.rs -> src/b/mod.rs: Two, three\n  \
         src/b/inner.rs -> src/a.rs: Five, self"
    );

    // One of three modules, closed by a path within a function and a name that the parent re-exports.
    let parent = (
        "src/p/mod.rs",
        "mod x; mod y; mod z; pub use self::x::Shown;",
    );
    let first = (
        "src/p/x.rs",
        "fn f<'a>(a: &'a str) { super::y::g('\\'', b\"\\\"\") }",
    );
    let second = ("src/p/y.rs", "use crate::p::z;");
    let third = ("src/p/z/mod.rs", "use super::Shown; use super::Parent;");
    let circle = found(&[parent, first, second, third], 2);
    assert_eq!(circle.len(), 1, "{circle:?}");
    assert!(
        circle[0].starts_with("circle: p/x, p/y, p/z\n"),
        "{circle:?}"
    );
    assert!(
        circle[0].contains("src/p/z/mod.rs -> src/p/x.rs: Shown"),
        "{circle:?}"
    );
    assert_eq!(
        found(&[parent, first, second, third], 1),
        Vec::<String>::new()
    );

    // Only what is compiled into the program counts.
    let tested = "#[cfg(test)]\nmod tests { use super::super::x::f; }\n#[cfg(test)] mod more;";
    let second = ("src/p/y.rs", tested);
    let more = ("src/p/y/more.rs", "use crate::p::x::f;");
    assert_eq!(
        found(&[parent, first, second, more], 2),
        Vec::<String>::new()
    );
}

/// All files of `src`, by their path from `root`.
fn sources(root: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                files.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}
