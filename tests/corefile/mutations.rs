//! For any input the parser returns a file or errors with a span, and never panics.

use lodestone::corefile::{Diagnostics, File, InMemory};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::lexical::check_places;
use super::read_with;

const GOOD: &str = r#"(snip) {
    errors
    log "a b" {$SET}
}
# a comment
.:53 tls://example.org:853, 10.0.0.0/15
{
    import snip
    health {
        lameduck 5s
    }
    kubernetes cluster.local in-addr.arpa {
        pods insecure
        fallthrough in-addr.arpa "x\"y"
    }
    import *.conf
    forward . 1.1.1.1:53 {%SET%} { max_fails 2 }
}
import more
"#;

/// Meaningful fragments to combine.
const PIECES: &[&str] = &[
    "{",
    "}",
    "\"",
    "#",
    "\\",
    "\n",
    "\r",
    "\r\n",
    " ",
    ",",
    ":",
    "(",
    ")",
    "(s) {",
    "import ",
    "import snip\n",
    "import more\n",
    "{$SET}",
    "{$NO}",
    "{%SELF%}",
    "{$",
    "\u{feff}",
    "\u{a0}",
    "é",
    "\0",
    "log\n",
    ".:53 {",
    "a..b",
    "::/0",
    ":99999",
    "health {\n",
    "*",
    "[",
];

fn loader() -> InMemory {
    InMemory::default()
        .file("a.conf", "ready\n")
        .file("more", "b.example {\n log\n}\nimport circle\n")
        .file("circle", "import tail\n")
        .file("tail", "(other) {\n errors }\n")
        .variable("SET", "value")
        .variable("SELF", "{%SELF%}")
}

/// Parses, reads all keys, renders all diagnostics, and checks all spans.
fn exercise(text: &str) {
    let rendered = |diagnostics: &Diagnostics| {
        for one in &diagnostics.list {
            let span = one.span.expect("every diagnostic points somewhere");
            assert!(diagnostics.sources.slice(span).is_some(), "{one:?}");
        }
        assert!(!diagnostics.render(true).is_empty() || diagnostics.list.is_empty());
        assert!(diagnostics.to_string().is_char_boundary(0));
    };
    let finish = |file: File| {
        check_places(&file);
        rendered(&file.warnings());
        for block in &file.blocks {
            assert!(!block.keys.is_empty());
            let list = block
                .read_keys()
                .map_or_else(|errors| errors, |keys| keys.warnings);
            rendered(&file.report(list));
            for directive in &block.directives {
                let read: Vec<_> = directive
                    .arguments
                    .iter()
                    .filter_map(|word| {
                        let zones = word.zones().err();
                        zones.or(word.duration().err()).or(word.listen().err())
                    })
                    .chain(directive.no_arguments().err())
                    .chain(directive.arguments().exactly::<3>("three words").err())
                    .chain(directive.no_body().err())
                    .collect();
                rendered(&file.report(read));
            }
        }
    };
    match read_with(text, &loader()) {
        Ok(file) => finish(file),
        Err(diagnostics) => {
            assert!(diagnostics.has_errors());
            rendered(&diagnostics);
        }
    }
}

#[test]
fn the_unchanged_file_is_good() {
    let file = read_with(GOOD, &loader()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(file.blocks.len(), 2);
    exercise(GOOD);
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        exercise(&text);
    }

    #[test]
    fn any_pieces(pieces in prop::collection::vec(select(PIECES), 0..60)) {
        exercise(&pieces.concat());
    }

    #[test]
    fn mutated_files(
        slips in prop::collection::vec((any::<Index>(), 0..8_usize, select(PIECES)), 1..6),
    ) {
        let mut runes: Vec<char> = GOOD.chars().collect();
        for (index, removed, piece) in slips {
            let at = index.index(runes.len() + 1);
            let end = (at + removed).min(runes.len());
            runes.splice(at..end, piece.chars());
        }
        exercise(&runes.into_iter().collect::<String>());
    }
}
