//! The documents say what is so.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use lodestone::config::order::{Kind, ORDER};
use std::fs;
use std::path::Path;

#[test]
fn the_readme_lists_the_words_that_work() {
    let readme = read("README.md");
    let list = readme.split("* Words of a Corefile that work: ").nth(1);
    let list = list.unwrap().split("\n*").next().unwrap();
    let listed: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    let words = ORDER
        .iter()
        .filter(|word| !matches!(word.kind, Kind::Absent(_)))
        .map(|word| word.name);
    // The language's own word.
    let mut words: Vec<&str> = words.chain(["import"]).collect();
    words.sort_unstable();
    assert_eq!(listed, words);
}

#[test]
fn the_tests_of_the_readme_are_those_that_ci_runs() {
    let readme = read("README.md");
    let commands: Vec<&str> = readme.lines().filter(|it| it.starts_with("    ")).collect();
    assert_eq!(commands[0].trim(), "cargo run --release -- lab");
    let ci = read(".ci/run");
    assert!(
        ci.lines().any(|line| line == commands[1].trim()),
        "{}",
        commands[1]
    );
}

#[test]
fn links_between_documents_lead_somewhere() {
    for name in [
        "README.md",
        "deploy/README.md",
        "docs/lab.md",
        "docs/differences.md",
        "docs/check.md",
    ] {
        let text = read(name);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|it| it.split(')').next())
        {
            if !target.starts_with("http") {
                assert!(folder.with_file_name(target).exists(), "{name}: {target}");
            }
        }
    }
}

#[test]
fn one_version_of_coredns_is_compared_with() {
    let named = format!("What is compared with is CoreDNS {}.", lodestone::COREDNS);
    assert!(read("docs/differences.md").contains(&named), "{named}");
    // Figures are of the version that was measured.
    let may = ["docs/bench.md", "docs/differences.md"];
    let mut pages = vec!["README.md".to_owned(), "deploy/README.md".to_owned()];
    for folder in ["docs", "docs/plugins"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
        let paths = entries.map(|entry| entry.path());
        let texts = paths.filter(|path| path.extension().is_some_and(|it| it == "md"));
        let names = texts.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        pages.extend(names.map(|name| format!("{folder}/{name}")));
    }
    pages.retain(|page| !may.contains(&page.as_str()));
    assert!(pages.len() > 50);
    for page in pages {
        for version in ["CoreDNS 1.14", "CoreDNS 1.15"] {
            assert!(!read(&page).contains(version), "{page} names {version}");
        }
    }
}

#[test]
fn the_readme_lists_the_flags() {
    let readme = read("README.md");
    let help = lodestone::cli::help();
    let flags = help.split("Options:").nth(1).unwrap();
    let flags = flags
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--"));
    let mut count = 0;
    for flag in flags.filter(|flag| *flag != "help") {
        let flag = flag.split(['[', '=']).next().unwrap();
        assert!(readme.contains(&format!("`-{flag}")), "{flag}");
        count += 1;
    }
    assert!(count >= 7, "{help}");
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}
