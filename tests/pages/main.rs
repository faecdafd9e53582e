//! Checks of the plugin pages, `docs/plugins/NAME.md`, against the program.
//!
//! Each example is read by `lodestone check`. For each `console` block after an example, a process serves the
//! example and the block's `dig` commands are run. The form of a page is described in [`page`], the changes to
//! an example before it is served in [`served`].
//!
//! Without `dig`, the `console` blocks are skipped with a message.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../dig/mod.rs"]
mod dig;
mod page;
mod served;
mod transcript;

use std::{fs, path::Path, sync::Mutex, thread};

use lodestone::config::{
    order::{Kind, ORDER},
    unsupported,
};

use page::Page;
use served::ExampleDirectory;

/// Supported directives without a page. Remove a directive from this list when its page is written.
const WITHOUT_PAGE: &[&str] = &[];

/// Pages checked concurrently: most of the time is waiting.
const AT_A_TIME: usize = 4;

#[test]
fn every_supported_directive_has_a_page() {
    let pages = Page::all();
    let has_page = |name: &str| pages.iter().any(|page| page.name == name);
    for word in ORDER {
        let listed = WITHOUT_PAGE.contains(&word.name);
        match (&word.kind, has_page(word.name)) {
            (Kind::Absent(_), true) => panic!("{} has a page and does not work", word.name),
            (Kind::Absent(_), false) => assert!(!listed, "{} does not work", word.name),
            (_, true) => assert!(
                !listed,
                "{} has a page: remove it from WITHOUT_PAGE",
                word.name
            ),
            (_, false) => assert!(listed, "write docs/plugins/{}.md", word.name),
        }
    }
    for page in &pages {
        let known = ORDER.iter().any(|word| word.name == page.name) || page.name == "import";
        assert!(
            known,
            "docs/plugins/{}.md is the page of no word",
            page.name
        );
    }
}

#[test]
fn table_of_plugins_is_complete_and_correct() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugins");
    let table = fs::read_to_string(root.join("README.md")).unwrap();
    let cell = |line: &str, number: usize| {
        let cell = line.split(" | ").nth(number).unwrap_or_default();
        cell.trim_matches([' ', '|']).to_owned()
    };
    let rows: Vec<(String, String)> = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
        .map(|line| (cell(line, 0), cell(line, 2)))
        .filter(|(word, _)| !word.is_empty())
        .collect();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row.0.split('`').nth(1).unwrap())
        .collect();
    let mut expected: Vec<&str> = ORDER
        .iter()
        .map(|word| word.name)
        .chain(["import"])
        .collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for ((cell, here), name) in rows.iter().zip(names) {
        let is_left_out = unsupported::find(name).is_some();
        assert_eq!(here.starts_with("no: "), is_left_out, "{name}: {here}");
        let link = format!("({name}.md)");
        assert_eq!(cell.contains(&link), !is_left_out, "{name}: {cell}");
        let word = ORDER.iter().find(|word| word.name == name);
        let works = word.is_some_and(|word| !matches!(word.kind, Kind::Absent(_)));
        let listed = WITHOUT_PAGE.contains(&name);
        assert!(
            !works || listed || root.join(format!("{name}.md")).exists(),
            "{name}"
        );
    }
}

#[test]
fn every_page_has_the_required_sections() {
    for page in Page::all() {
        page.check_parts();
    }
}

#[test]
fn every_metric_of_a_page_is_in_the_source() {
    let mut source = String::new();
    read_all(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut source,
    );
    for page in Page::all() {
        for family in page.metrics() {
            assert!(
                source.contains(&format!("\"{family}\"")),
                "docs/plugins/{}.md: nothing in the source is called {family}",
                page.name
            );
        }
    }
}

#[test]
fn every_example_is_accepted() {
    each_page(|page| {
        for example in page.examples() {
            let example_directory = ExampleDirectory::new(&page, &example);
            let output = example_directory.check();
            if !output.status.success() {
                return Err(format!(
                    "docs/plugins/{}.md, line {}: this example is refused\n{}",
                    page.name,
                    example.line,
                    String::from_utf8_lossy(&output.stderr)
                ));
            }
        }
        Ok(())
    });
}

#[test]
fn every_console_block_matches_the_output() {
    if !dig::is_here() {
        return;
    }
    each_page(|page| {
        for example in page.examples() {
            let Some(console) = &example.console else {
                continue;
            };
            let at = format!("docs/plugins/{}.md, line {}", page.name, console.line);
            let example_directory = ExampleDirectory::new(&page, &example);
            let served = example_directory
                .serve()
                .map_err(|error| format!("{at}: {error}"))?;
            let shuffled = example.corefile.contains("loadbalance");
            for step in
                transcript::steps(&console.text).map_err(|error| format!("{at}: {error}"))?
            {
                let output = dig::shell(&served.line(&step.line));
                let shown = transcript::shown(&served.as_written(&output), shuffled);
                let promised = transcript::shown(&step.output, shuffled);
                if shown != promised {
                    return Err(format!(
                        "{at}:\n$ {}\nthe page shows:\n{}\ndig shows:\n{}\n",
                        step.line,
                        promised.join("\n"),
                        shown.join("\n")
                    ));
                }
            }
        }
        Ok(())
    });
}

/// Runs `what` on every page, and panics with all errors.
fn each_page(what: impl Fn(Page) -> Result<(), String> + Sync) {
    let pages = Mutex::new(Page::all());
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let page = pages.lock().unwrap().pop();
                    let Some(page) = page else { return };
                    if let Err(error) = what(page) {
                        wrong.lock().unwrap().push(error);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Appends every Rust source below a directory.
fn read_all(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|it| it == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}
