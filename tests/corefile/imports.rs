//! Imports from real files: relative paths, globs, nesting, files to watch.

use std::fs;
use std::path::Path;

use lodestone::corefile::{Diagnostics, Disk, File, InMemory, MAX_FILE, parse};

use super::{KNOWN, read_with};

/// Parses `Corefile` in a directory with the given files.
fn serve(folder: &Path, files: &[(&str, &str)]) -> Result<File, Diagnostics> {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let path = folder.join("Corefile");
    let text = fs::read_to_string(&path).unwrap();
    parse(path.to_str().unwrap(), &text, KNOWN, &Disk)
}

fn names(file: &File) -> Vec<String> {
    let names = |block: &lodestone::corefile::ServerBlock| {
        let directives = block
            .directives
            .iter()
            .map(|directive| directive.name.to_string());
        directives.collect::<Vec<_>>().join(" ")
    };
    file.blocks
        .iter()
        .map(|block| format!("{} {{{}}}", block.keys[0], names(block)))
        .collect()
}

#[test]
fn a_configmap_with_overrides_and_servers() {
    let folder = tempfile::tempdir().unwrap();
    let file = serve(
        folder.path(),
        &[
            (
                "Corefile",
                ".:53 {\nerrors\nimport custom/*.override\nlog\n}\nimport custom/*.server\n",
            ),
            ("custom/b.override", "ready\n"),
            ("custom/a.override", "loop"),
            ("custom/.hidden.override", "reload\n"),
            ("custom/x.server", "a.example {\ncache\n}\nb.example {\n}\n"),
            ("custom/other", "nonsense"),
        ],
    )
    .unwrap();
    assert_eq!(
        names(&file),
        [
            ".:53 {errors reload loop ready log}",
            "a.example {cache}",
            "b.example {}"
        ]
    );
    let custom = folder.path().join("custom");
    let watched = [".hidden.override", "a.override", "b.override", "x.server"];
    let mut watched: Vec<_> = watched.iter().map(|name| custom.join(name)).collect();
    watched.insert(0, custom);
    assert_eq!(file.imported, watched);
}

#[test]
fn paths_are_relative_to_the_file_that_imports() {
    let folder = tempfile::tempdir().unwrap();
    let file = serve(
        folder.path(),
        &[
            (
                "Corefile",
                "import a/snippets\n. {\nimport a/first\nimport s\n}\n",
            ),
            ("a/first", "log\nimport b/second\n"),
            ("a/b/second", "errors\nimport ../../third\n"),
            ("third", "ready"),
            // Imports in a snippet are relative to the file that defines it.
            ("a/snippets", "(s) {\nimport b/fourth\n}\n"),
            ("a/b/fourth", "loop"),
        ],
    )
    .unwrap();
    assert_eq!(names(&file), [". {log errors ready loop}"]);
    assert_eq!(file.imported.len(), 5);
}

#[test]
fn absolute_paths_and_question_marks() {
    let folder = tempfile::tempdir().unwrap();
    let pattern = folder.path().join("c?.conf");
    let text = format!(". {{\nimport {}\n}}\n", pattern.display());
    let files = [
        ("Corefile", text.as_str()),
        ("c2.conf", "log"),
        ("c1.conf", "errors"),
    ];
    assert_eq!(
        names(&serve(folder.path(), &files).unwrap()),
        [". {errors log}"]
    );
}

#[test]
fn unreadable_imports_are_reported() {
    let cases = [
        ("import custom", "Could not import custom: is a directory"),
        ("import cust*", "is a directory"),
        (
            "import Core*",
            "maximum file import depth (100000) exceeded",
        ),
        ("import none", "File to import not found: none"),
        (
            "import custom/[ab].x",
            "Glob pattern may only contain one wildcard",
        ),
        ("import custom/[ab", "syntax error in pattern"),
        ("import big", "has more than 8 MiB"),
    ];
    for (line, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("big"), vec![b' '; MAX_FILE + 1]).unwrap();
        let text = format!(". {{\n{line}\n}}\n");
        let error = serve(folder.path(), &[("Corefile", &text), ("custom/x", "")]).unwrap_err();
        assert_eq!(error.list.len(), 1, "{error}");
        assert!(error.list[0].message.contains(expected), "{error}");
        assert_eq!(error.list[0].span.unwrap().line, 2, "{error}");
    }
}

#[test]
fn an_error_in_an_imported_file_names_that_file() {
    let folder = tempfile::tempdir().unwrap();
    let files = [("Corefile", ". {\nimport x\n}\n"), ("x", "log\n  lg\n")];
    let error = serve(folder.path(), &files).unwrap_err().to_string();
    let expected = format!(
        "error: Unknown directive 'lg'\n --> {}:2:3\n  |\n2 |   lg\n  |   ^^ expected the name of a \
         plugin\n  |\n  = help: did you mean 'log'?",
        folder.path().join("x").display()
    );
    assert_eq!(error, expected);
}

#[test]
fn standard_input_imports_from_the_working_directory() {
    let loader = InMemory::default().file("x", "log");
    let file = parse("/dev/stdin", ". {\nimport x\n}\n", KNOWN, &loader).unwrap();
    assert_eq!(names(&file), [". {log}"]);
}

#[test]
fn excessive_imports_are_an_error() {
    // Each snippet imports the previous one twice: 2^40 lines in total.
    let mut text = String::from("(s0) {\nlog\n}\n");
    for level in 1..40 {
        let below = level - 1;
        text.extend([format!(
            "(s{level}) {{\nimport s{below}\nimport s{below}\n}}\n"
        )]);
    }
    text += ". {\nimport s39\n}\n";
    let error = read_with(&text, &InMemory::default()).unwrap_err();
    assert_eq!(error.list.len(), 1, "{error}");
    assert!(
        error.list[0]
            .message
            .contains("maximum snippet import depth (10000) exceeded")
    );

    // A cycle of files is detected at the first repetition.
    let circle = InMemory::default()
        .file("a", "import b")
        .file("b", "import a");
    let error = read_with("import a\n", &circle).unwrap_err();
    assert!(
        error.list[0]
            .message
            .contains("maximum file import depth (100000) exceeded")
    );

    // A long chain does not use the call stack.
    let mut chain = InMemory::default();
    for link in 0..5_000 {
        chain = chain.file(&format!("f{link}"), &format!("import f{}", link + 1));
    }
    let file = read_with(". {\nimport f0\n}\n", &chain.file("f5000", "log")).unwrap();
    assert_eq!(names(&file), [". {log}"]);
}

#[test]
fn the_number_of_words_is_limited() {
    let mut text = format!("(s) {{\nlog {}\n}}\n. {{\n", "x ".repeat(100_000));
    text += &"import s\n".repeat(50);
    text += "}\n";
    let error = read_with(&text, &InMemory::default()).unwrap_err();
    assert_eq!(error.list.len(), 1);
    assert!(
        error.list[0].message.contains("grows to more than"),
        "{}",
        error.list[0]
    );
}
