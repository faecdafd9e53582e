use super::super::table;
use super::*;
use crate::corefile::{InMemory, parse};

/// Output of `diff` for two texts, as files named `old` and `new`.
fn diff(old: &str, new: &str) -> String {
    let known: Vec<&str> = ORDER.iter().map(|word| word.name).collect();
    let loader = InMemory::default();
    let read = |name: &str, text: &str| parse(name, text, &known, &loader).unwrap();
    let (old, new) = (read("old", old), read("new", new));
    table::written(&compare(&old, &new, 53), &old, &new)
}

#[test]
fn equivalent_files_have_no_differences() {
    for (old, new) in [
        (
            ". {\n log\n errors\n}\n",
            ".:53 {\n    errors # c\n    log\n}\n",
        ),
        ("a b {\n log\n}\n", "B a {\n log\n}\n"),
        ("(s) {\n log\n}\n. {\n import s\n}\n", ". {\n log\n}\n"),
        (
            "a {\n log\n}\nb {\n log\n}\n",
            "b {\n log\n}\na {\n log\n}\n",
        ),
        (
            ". {\n cache {\n success 9\n denial 8\n }\n}\n",
            ". {\n cache {\n denial 8\n success 9\n }\n}\n",
        ),
        (
            ". {\n bind 1.1.1.1\n bind 2.2.2.2\n}\n",
            ". {\n bind 2.2.2.2 1.1.1.1\n}\n",
        ),
        (". {\n log \"a\"\n}\n", ". {\n log a\n}\n"),
    ] {
        assert_eq!(diff(old, new), "", "{old} {new}");
    }
}

#[test]
fn differences_are_listed_by_block() {
    for (old, new, expected) in [
        (
            ". {\n cache 30\n loop\n}\n",
            ". {\n cache 60\n log\n}\n",
            "~ . {    (old:1) -> (new:1)\n+     log    (new:3)\n-     cache 30    (old:2)\n\
             +     cache 60    (new:2)\n-     loop    (old:3)\n  }\n",
        ),
        (
            ". {\n forward . 1.1.1.1 {\n  max_fails 3\n  expire 9s\n }\n}\n",
            ". {\n forward . 1.1.1.1 {\n  expire 8s\n  max_fails 3\n }\n}\n",
            "~ . {    (old:1) -> (new:1)\n~     forward . 1.1.1.1    (new:2)\n\
             -         expire 9s    (old:4)\n+         expire 8s    (new:3)\n  }\n",
        ),
        (
            "a b {\n log\n}\n",
            "a {\n log\n}\nb c {\n log\n}\n",
            "~ a {    (old:1) -> (new:1)\n-     key dns://b.:53, now of another block\n  }\n\n\
             + b c {    (new:4)\n+     log\n+ }\n",
        ),
        (
            "a {\n hosts {\n  1.1.1.1 x\n }\n}\n. {\n log\n}\n",
            ". {\n log\n}\n",
            "- a {    (old:1)\n-     hosts {\n-         1.1.1.1 x\n-     }\n- }\n",
        ),
        (
            ". {\n forward a 1.1.1.1\n forward . 2.2.2.2\n}\n",
            ". {\n forward . 2.2.2.2\n forward a 1.1.1.1\n}\n",
            "~ . {    (old:1) -> (new:1)\n~     forward: the same lines in another order    \
             (new:2)\n  }\n",
        ),
        (
            ". {\n rewrite {\n  name a b\n  answer auto\n }\n}\n",
            ". {\n rewrite {\n  answer auto\n  name a b\n }\n}\n",
            "~ . {    (old:1) -> (new:1)\n~     rewrite    (new:2)\n\
             ~         the same lines in another order\n  }\n",
        ),
        (
            ". {\n view a {\n expr true\n }\n}\n. {\n whoami\n}\n",
            ". {\n whoami\n}\n. {\n view a {\n expr true\n }\n}\n",
            "~ . {    (old:1) -> (new:4)\n~     stands behind another block of the same key now\n  }\n",
        ),
    ] {
        assert_eq!(diff(old, new), expected, "{old} {new}");
    }
}
