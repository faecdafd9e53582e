//! Checks of the documents against the code and against each other.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use lodestone::config::order::{Kind, ORDER};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn readme_names_the_plugins_that_are_absent() {
    let readme = read("README.md");
    let list = readme.split("plugins that are not here: ").nth(1).unwrap();
    let list = list.split(", or an").next().unwrap();
    let listed: BTreeSet<&str> = list.split('`').skip(1).step_by(2).collect();
    let absent = |kind: &Kind| matches!(kind, Kind::Absent(_));
    let words = ORDER.iter().filter(|word| absent(&word.kind));
    assert_eq!(listed, words.map(|word| word.name).collect());
}

#[test]
fn readme_commands_are_those_of_ci() {
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
fn links_between_documents_have_a_target() {
    for name in documents() {
        let text = read(&name);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
        // Without code, in which brackets have another meaning.
        let prose: String = text.split('`').step_by(2).collect();
        let links = prose.split("](").skip(1);
        for link in links.filter_map(|it| it.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                folder.clone()
            } else {
                folder.with_file_name(file)
            };
            assert!(target.exists(), "{name}: {link}");
            if !anchor.is_empty() {
                let target = fs::read_to_string(target).unwrap();
                let mut headings = target.lines().filter_map(|line| line.strip_prefix('#'));
                let is_anchor = |heading: &str| {
                    let heading = heading.trim_start_matches('#').trim();
                    heading.to_lowercase().replace(' ', "-") == anchor
                };
                assert!(headings.any(is_anchor), "{name}: {link}");
            }
        }
    }
}

/// In the threat model: `FILE::NAME`. Its tests are tests, and what stands in capitals is a constant.
#[test]
fn limits_and_tests_of_the_threat_model_exist() {
    let text = read("docs/threat-model.md");
    let mut count = 0;
    for code in text.split('`').skip(1).step_by(2) {
        let Some((file, name)) = code.split_once(".rs::") else {
            continue;
        };
        count += 1;
        let source = read(&format!("{file}.rs"));
        let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
        let found = if name.chars().all(|it| !it.is_ascii_lowercase()) {
            source.contains(&format!("const {name}: "))
        } else if file.starts_with("tests/") || name.len() > 20 {
            source.contains(&format!("fn {name}()")) || source.contains(&format!("fn {name}(one"))
        } else {
            source.split(|it| !is_word(it)).any(|word| word == name)
        };
        assert!(found, "{code}");
    }
    assert!(count > 80, "{count}");
    // Every advisory of the table has a test, or says that there is none.
    let table = text.split("## Known attacks").nth(1).unwrap();
    for row in table.lines().filter(|line| line.starts_with("| CVE")) {
        let last = row.trim_matches('|').rsplit('|').next().unwrap().trim();
        assert!(last == "none" || last.contains(".rs::"), "{row}");
    }
}

#[test]
fn only_measurements_and_differences_name_a_version_of_coredns() {
    let named = format!("Compared with CoreDNS {}.", lodestone::COREDNS);
    assert!(read("docs/differences.md").contains(&named), "{named}");
    // Measurements belong to the version that was measured.
    let exceptions = [
        "docs/bench.md",
        "docs/differences.md",
        "docs/image.md",
        "docs/reliability.md",
    ];
    let mut pages = documents();
    pages.retain(|page| !exceptions.contains(&page.as_str()));
    assert!(pages.len() > 50);
    for page in pages {
        for version in ["CoreDNS 1.14", "CoreDNS 1.15"] {
            assert!(!read(&page).contains(version), "{page} names {version}");
        }
    }
}

#[test]
fn tables_of_differences_are_complete_and_without_duplicates() {
    let text = read("docs/differences.md");
    for section in text.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap();
        let (mut columns, mut situations) = (0, BTreeSet::new());
        for line in section.lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            if line.contains("---") || cells[0] == "situation" || cells[0] == "behaviour" {
                columns = cells.len();
                continue;
            }
            if columns == 0 {
                columns = cells.len();
                continue;
            }
            assert_eq!(cells.len(), columns, "{title}: {line}");
            assert!(
                !cells[columns - 1].is_empty(),
                "no reason in {title}: {line}"
            );
            assert!(
                situations.insert(cells[0].to_owned()),
                "twice in {title}: {line}"
            );
        }
        assert!(!situations.is_empty(), "{title} has no rows");
    }
}

#[test]
fn every_option_of_a_syntax_is_described() {
    let mut options = 0;
    for name in documents() {
        let Some(page) = name.strip_prefix("docs/plugins/") else {
            continue;
        };
        let text = read(&name);
        let Some(syntax) = text.split("## Syntax\n").nth(1) else {
            continue;
        };
        let syntax = syntax.split("\n## Examples").next().unwrap();
        let grammar = syntax.split("```text\n").nth(1).unwrap();
        let (grammar, described) = grammar.split_once("```\n").unwrap();
        let lines = grammar.lines().filter_map(|line| line.strip_prefix("    "));
        for option in lines.filter_map(|line| line.split([' ', '|']).next()) {
            // In capitals: a placeholder. Dots: more of the same.
            if option.starts_with(|it: char| it.is_ascii_lowercase()) {
                options += 1;
                let is_entry = |line: &str| {
                    let head = line.trim_start().strip_prefix("* ");
                    let head = head.map(|head| head.split(": ").next().unwrap_or(head));
                    head.is_some_and(|head| {
                        let mut terms = head.split('`').skip(1).step_by(2);
                        terms.any(|term| term.split([' ', '|']).next() == Some(option))
                    })
                };
                assert!(described.lines().any(is_entry), "{page}: {option}");
            }
        }
    }
    assert!(options > 140, "{options}");
}

#[test]
fn every_metric_is_described() {
    let pages: String = documents().iter().map(|page| read(page)).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics");
    let mut families = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("tests.rs") {
            continue;
        }
        let source = fs::read_to_string(path).unwrap();
        for literal in source.split('"').skip(1).step_by(2) {
            let is_family = literal.starts_with("coredns_") || literal.starts_with("lodestone_");
            let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
            if is_family && literal.chars().all(is_name) {
                families.insert(literal.to_owned());
            }
        }
    }
    assert!(families.len() > 30, "{families:?}");
    for family in families {
        assert!(pages.contains(&format!("`{family}")), "{family}");
    }
}

#[test]
fn documents_use_standard_terms() {
    for name in documents() {
        let text = read(&name).to_lowercase();
        let words: BTreeSet<&str> = text.split(|it: char| !it.is_alphanumeric()).collect();
        for term in ["octet", "octets", "whoever", "nobody", "somebody", "asker"] {
            assert!(!words.contains(term), "{name}: {term}");
        }
    }
}

#[test]
fn command_line_page_lists_every_flag_and_command() {
    let page = read("docs/command-line.md");
    let help = lodestone::cli::help();
    let (commands, flags) = help.split_once("Options:").unwrap();
    let commands = commands.split("Commands:").nth(1).unwrap().lines();
    for command in commands.filter_map(|line| line.split_whitespace().next()) {
        let is_listed =
            page.contains(&format!("| `{command} ")) || page.contains(&format!("| `{command}`"));
        assert!(is_listed || command == "help", "{command}");
    }
    let flags = flags
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--"));
    let mut count = 0;
    for flag in flags.filter(|flag| *flag != "help") {
        let flag = flag.split(['[', '=']).next().unwrap();
        assert!(page.contains(&format!("`-{flag}")), "{flag}");
        count += 1;
    }
    assert!(count >= 7, "{help}");
}

/// The documents at the top, those of `deploy/`, and the pages of `docs/`.
fn documents() -> Vec<String> {
    let mut pages = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "deploy/README.md",
        "deploy/chart/README.md",
        "deploy/overlays/replace/README.md",
    ]
    .map(str::to_owned)
    .to_vec();
    for folder in ["docs", "docs/plugins"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
        let paths = entries.map(|entry| entry.path());
        let texts = paths.filter(|path| path.extension().is_some_and(|it| it == "md"));
        let names = texts.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        pages.extend(names.map(|name| format!("{folder}/{name}")));
    }
    pages
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}
