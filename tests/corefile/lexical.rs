//! Words and their spans.

use lodestone::corefile::{Directive, File, InMemory, Word};

use super::read_with;

/// All words of a file, including keys.
pub fn words(file: &File) -> Vec<&Word> {
    let mut words = Vec::new();
    for block in &file.blocks {
        words.extend(&block.keys);
        for Directive {
            name,
            arguments,
            body,
        } in &block.directives
        {
            words.push(name);
            words.extend(arguments);
            words.extend(
                body.iter()
                    .flat_map(|body| &body.lines)
                    .flat_map(|line| &line.words),
            );
        }
    }
    words
}

/// The text of a word's span equals the word, and its line and column are those of its first byte.
pub fn check_places(file: &File) {
    let keys: Vec<_> = file.blocks.iter().flat_map(|block| &block.keys).collect();
    for word in words(file) {
        let is_key = keys.iter().any(|key| std::ptr::eq(*key, word));
        let text = file.sources.text(word.span.source).unwrap();
        let raw = file.sources.slice(word.span).unwrap();
        let before = &text[..word.span.start as usize];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        assert_eq!(
            (word.span.line as usize, word.span.column as usize),
            (line, column),
            "{word}"
        );
        let read = raw.replace('\r', "");
        if read.contains("{$") || read.contains("{%") {
            continue; // the text comes from a variable's value
        }
        if word.quoted {
            let inner = raw
                .strip_prefix('"')
                .and_then(|raw| raw.strip_suffix('"'))
                .unwrap();
            // A key's comma is excluded, except within quotes.
            let inner = inner.strip_suffix(',').filter(|_| is_key).unwrap_or(inner);
            // Unescaping is the only difference: compared without backslashes and quotes.
            let plain = |text: &str| text.replace(['\\', '"'], "");
            assert_eq!(plain(inner), plain(word));
        } else {
            assert_eq!(read, word.as_str());
        }
    }
}

#[test]
fn every_span_yields_its_word() {
    let loader = InMemory::default()
        .file("keys.conf", "b.example,\nc.example")
        .file("props.conf", "ttl 5 # x\n\tfallthrough \"é\nü\" x")
        .variable("Z", "zone.example");
    let texts = [
        ". {\nlog\n}\n",
        "\u{feff}é.example:53 tls://ü {\r\n\tlog \"a b\" \"c\\\"d\" e#f g\r\n\u{a0}errors\r\n}\r\n",
        "a.example,\nimport keys.conf\n{\nhosts \"multi\nline\" x {\nimport props.conf\n}\n}\n",
        "(s) {\nlog x # y\n}\n{$Z} x{$Z}y {\nimport s\nimport s\nlog {$Z} z\n}\n",
        ". {\rlog\r x\ry {\r$Z}}\n",
        "a,b,\nc, {$Z}:53 {\n}",
        "\"a b,\" \"c\\\",\" \"d\" {\nlog \"e,\"\n}",
    ];
    for text in texts {
        let file = read_with(text, &loader).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert!(words(&file).len() > 1, "{text}");
        check_places(&file);
    }
}

#[test]
fn spans_of_keys_exclude_the_comma() {
    let file = read_with("a.example, b {\n}", &InMemory::default()).unwrap();
    assert_eq!(
        file.sources.slice(file.blocks[0].keys[0].span),
        Some("a.example")
    );
    assert_eq!(
        file.sources.slice(file.blocks[0].span),
        Some("a.example, b")
    );
}

#[test]
fn line_ends_make_no_difference() {
    let text = "# x\na.example {\n    hosts inline {\n        10.0.0.1 a # b\n    }\n}\n";
    let plain = read_with(text, &InMemory::default()).unwrap();
    let variants = [
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        text.replace(' ', "\u{a0}"),
        text.replace(' ', "\t\u{2003}"),
        text.trim_end().to_owned(),
        text.replace('\n', "\n\n \n"),
    ];
    for variant in variants {
        let other = read_with(&variant, &InMemory::default()).unwrap();
        assert_eq!(plain.blocks, other.blocks, "{variant:?}");
        assert!(other.warnings.is_empty());
    }
}

#[test]
fn invalid_utf8_becomes_replacement_characters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Corefile");
    std::fs::write(&path, b". {\nlog \xff\xfe\n}\n").unwrap();
    let text = lodestone::corefile::Loader::read(&lodestone::corefile::Disk, &path).unwrap();
    let file = read_with(&text, &InMemory::default()).unwrap();
    assert_eq!(
        file.blocks[0].directives[0].arguments[0],
        "\u{fffd}\u{fffd}"
    );
}
