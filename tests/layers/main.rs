//! Imports between the folders of `src` are acyclic. The error of a cycle names the files that
//! close it.
//!
//! Two graphs are checked. The nodes of the first are the top-level modules (`plugin`), those of
//! the second the modules one level below (`plugin/cache`), compared with their siblings. Imports
//! between a module and its children are ignored, and so is code compiled for tests only.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod graph;
mod imports;
mod tokens;

use std::{collections::BTreeMap, fs, path::Path};

use self::{
    graph::Graph,
    imports::Tree,
    tokens::{Token, without_tests},
};

/// Known imports that close a cycle. Nothing may be added; an import that no longer closes a cycle
/// must be removed.
const ALLOWED: &[(&str, &str)] = &[];

#[test]
fn imports_between_folders_are_acyclic() {
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
                    "{from} -> {to} is not part of a cycle: remove it from ALLOWED"
                ));
            }
            rest.remove(from, to);
        }
        faults.extend(rest.circles());
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Values and functions: no I/O, no timers, no tasks.
const PURE: &[&str] = &[
    "authority",
    "corefile",
    "edns",
    "message",
    "query",
    "reply",
    "tsig",
    "wire",
    "zone",
];

#[test]
fn pure_modules_use_no_runtime_and_no_client() {
    const CRATES: &[&str] = &["tokio", "kube", "hyper", "axum", "notify", "rustls"];
    let mut files = 0;
    for (file, source) in sources(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        let module = file["src/".len()..].split(['/', '.']).next();
        if !PURE.contains(&module.unwrap_or_default()) {
            continue;
        }
        files += 1;
        let (tokens, _) = without_tests(&source);
        let used = tokens.windows(2).find_map(|pair| match pair {
            [Token::Word(name), Token::Path] if CRATES.contains(name) => Some(*name),
            _ => None,
        });
        assert_eq!(used, None, "{file}");
    }
    assert!(files >= 2 * PURE.len(), "they were not found");
}

#[test]
fn cycles_are_detected_and_reported() {
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

    // A cycle of three modules, closed by a path within a function and a name that the parent
    // re-exports.
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

    // Code for tests is ignored.
    let tested = "#[cfg(test)]\nmod tests { use super::super::x::f; }\n#[cfg(test)] mod more;";
    let second = ("src/p/y.rs", tested);
    let more = ("src/p/y/more.rs", "use crate::p::x::f;");
    assert_eq!(
        found(&[parent, first, second, more], 2),
        Vec::<String>::new()
    );
}

/// All files of `src`, by path relative to `root`.
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
