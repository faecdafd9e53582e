//! Environment references within a word: `{%NAME%}` first, then `{$NAME}`.
//!
//! References in values are resolved too. There is no syntax for defaults. An unset variable is an
//! error here; CoreDNS replaces it with the empty string.

use super::loader::Loader;

/// Maximum number of references resolved per word, including those in values. Ends recursion of a
/// value that refers to itself.
const MAX_REFERENCES: usize = 256;

/// Maximum length of a resolved word in bytes.
const MAX_WORD: usize = 1 << 20;

/// Why a reference cannot be resolved.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// The variable does not exist.
    Unset(String),
    /// Recursive; the variable is part of the cycle.
    Endless(String),
}

/// Whether a word contains a reference.
pub(super) fn has_reference(text: &str) -> bool {
    text.contains("{$") || text.contains("{%")
}

/// Replaces the references in a word.
pub(super) fn resolve(text: &str, loader: &dyn Loader) -> Result<String, Unresolved> {
    let mut text = text.to_owned();
    let mut budget = MAX_REFERENCES;
    replace(&mut text, "{%", "%}", loader, &mut budget)?;
    replace(&mut text, "{$", "}", loader, &mut budget)?;
    Ok(text)
}

fn replace(
    text: &mut String,
    open: &str,
    close: &str,
    loader: &dyn Loader,
    budget: &mut usize,
) -> Result<(), Unresolved> {
    let mut from = 0;
    while let Some(start) = text[from..].find(open).map(|found| from + found) {
        let inner = start + open.len();
        let Some(length) = text[inner..].find(close) else {
            return Ok(());
        };
        // `{$}` and `{%%}` have no name: they and the rest of the word stay unchanged, as in
        // CoreDNS.
        if length == 0 {
            return Ok(());
        }
        let name = text[inner..inner + length].to_owned();
        let Some(value) = loader.env(&name) else {
            return Err(Unresolved::Unset(name));
        };
        if *budget == 0 || text.len() + value.len() > MAX_WORD.max(text.len()) {
            return Err(Unresolved::Endless(name));
        }
        *budget -= 1;
        text.replace_range(start..inner + length + close.len(), &value);
        // The value may begin a new reference together with the preceding brace.
        from = start.saturating_sub(open.len());
        while !text.is_char_boundary(from) {
            from -= 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corefile::InMemory;

    #[test]
    fn references_are_replaced_in_place() {
        let loader = InMemory::default()
            .variable("A", "1")
            .variable("B", "x{$A}y")
            .variable("P", "{%A%}")
            .variable("D", "$A}")
            .variable("EMPTY", "");
        let cases = [
            ("plain", "plain"),
            ("{$A}", "1"),
            ("{%A%}", "1"),
            ("{$A}:{$A}/{%A%}", "1:1/1"),
            ("é{$A}é", "é1é"),
            ("{$B}", "x1y"),
            ("{%B%}", "x1y"),
            ("{$P}", "{%A%}"), // {%NAME%} was resolved before
            ("{{$D}", "1"),
            ("{{$A}}", "{1}"),
            ("{$EMPTY}", ""),
            ("{$}{$A}", "{$}{$A}"),
            ("{%%}{%A%}", "{%%}{%A%}"),
            ("{$A", "{$A"),
            ("{ $A }", "{ $A }"),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text, &loader).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn unresolvable_references_are_named() {
        let loader = InMemory::default()
            .variable("SELF", "{$SELF}")
            .variable("GROW", "{$GROW}{$GROW}")
            .variable("ONE", "{$TWO}")
            .variable("TWO", "-{$ONE}");
        assert_eq!(
            resolve("a{$NO}", &loader),
            Err(Unresolved::Unset("NO".into()))
        );
        assert_eq!(
            resolve("{$A:x}", &loader),
            Err(Unresolved::Unset("A:x".into()))
        );
        assert_eq!(
            resolve("{$SELF}", &loader),
            Err(Unresolved::Endless("SELF".into()))
        );
        assert_eq!(
            resolve("{$GROW}", &loader),
            Err(Unresolved::Endless("GROW".into()))
        );
        assert!(matches!(
            resolve("{$ONE}", &loader),
            Err(Unresolved::Endless(_))
        ));
    }
}
