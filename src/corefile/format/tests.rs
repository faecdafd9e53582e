use proptest::prelude::*;

use super::*;
use crate::corefile::{InMemory, parse};

const PLUGINS: &[&str] = &["errors", "log", "cache", "hosts", "forward"];

fn formatted(text: &str) -> String {
    format("Corefile", text, PLUGINS).unwrap_or_else(|wrong| panic!("{text:?}\n{wrong}"))
}

#[test]
fn texts_are_formatted_canonically() {
    for (text, expected) in [
        ("", ""),
        ("# alone", "# alone\n"),
        ("\n\n# a\n\n\n# b\n\n", "# a\n\n# b\n"),
        (
            ".:53   {\nerrors\n\n\n\tcache  30 {\n success 9\n\t}\n\n   }\n",
            ".:53 {\n    errors\n\n    cache 30 {\n        success 9\n    }\n}\n",
        ),
        (
            "a {\n\n# first\nlog # why\n\n}\nb{ {\n}\n# end",
            "a {\n    # first\n    log # why\n}\n\nb{ {\n}\n# end\n",
        ),
        (
            "a\n{\nlog\n}\r\nb,\r\nc # note\n# more\n{\r\n}",
            "a {\n    log\n}\n\nb,\nc {\n    # note\n    # more\n}\n",
        ),
        (
            ".\nlog\ncache 30 {\n}\n",
            ".\n    log\n    cache 30 {\n    }\n",
        ),
        (
            "hosts {\n1.2.3.4 a\n}\nlog",
            "hosts {\n    1.2.3.4 a\n}\n\nlog\n",
        ),
        (
            ". {\nlog#x errors\nlog#y\n}\n",
            ". {\n    log#x errors\n    log #y\n}\n",
        ),
        (
            ". {\nlog \"a\n  b\"   c\n}\n",
            ". {\n    log \"a\n  b\" c\n}\n",
        ),
        (
            "(s) {\n log\n}\n\n\n\n. {\n\nimport s\n\n# c\n}",
            "(s) {\n    log\n}\n\n. {\n    import s\n\n    # c\n}\n",
        ),
        ("import x\n.\nlog\n", "import x\n    .\n    log\n"),
        ("import x\nlog\ncache\n", "import x\nlog\ncache\n"),
        ("a {\n} # c\nb {\n}\n", "a {\n} # c\n\nb {\n}\n"),
    ] {
        let found = formatted(text);
        assert_eq!(found, expected, "{text:?}");
        assert_eq!(formatted(&found), found, "{text:?}");
    }
}

#[test]
fn texts_that_cannot_be_lexed_are_refused_with_their_span() {
    let wrong = format("Corefile", ". {\n log \"a\n}\n", PLUGINS).unwrap_err();
    assert_eq!(wrong.list[0].span.unwrap().line, 2);
}

/// Arbitrary sequences of Corefile fragments.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just(" "),
        4 => Just("\n"),
        1 => Just("\n\n\n"),
        2 => Just(" {\n"),
        2 => Just("}\n"),
        1 => Just("{"),
        1 => Just("}"),
        1 => Just("# c\n"),
        1 => Just("#"),
        1 => Just("\r"),
        1 => Just("\r\n"),
        1 => Just("\t"),
        1 => Just("\u{a0}"),
        1 => Just("\""),
        1 => Just("\"a b\""),
        1 => Just("\"a\\\"\nb\""),
        3 => Just("log"),
        3 => Just("errors"),
        2 => Just("cache 30"),
        2 => Just(".:53"),
        1 => Just("a,"),
        1 => Just("(s)"),
        1 => Just("import s"),
        1 => Just("{$NONE}"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn formatting_is_idempotent_and_keeps_the_words(text in text()) {
        let Ok(once) = format("Corefile", &text, PLUGINS) else {
            // Only unclosed quotes are refused.
            let mut sources = Sources::default();
            let id = sources.add("Corefile", &text);
            let wrong = lex(id, &text).diagnostics;
            prop_assert!(wrong.iter().any(|one| one.severity == Severity::Error), "{text:?}");
            return Ok(());
        };
        let twice = format("Corefile", &once, PLUGINS).unwrap();
        prop_assert_eq!(&once, &twice);
        let read = |text: &str| {
            let loader = InMemory::default();
            let read = parse("Corefile", text, PLUGINS, &loader);
            read.map(|file| file.blocks).ok()
        };
        prop_assert_eq!(read(&text), read(&once), "{:?}", once);
        // All comments are kept.
        let comments = |text: &str| text.matches("# c").count();
        prop_assert_eq!(comments(&text), comments(&once));
    }
}
