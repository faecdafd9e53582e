//! Environment references inside one word: `{%NAME%}` first, then `{$NAME}`.
//!
//! Values are searched for references again. There is no syntax for a default. CoreDNS reads an
//! unset variable as nothing and serves what is left; here it is an error.

use super::loader::Loader;

/// How many references one word may resolve, those in values included: ends a value that names
/// itself.
const MAX_REFERENCES: usize = 256;

/// The largest word that references may build, in bytes.
const MAX_WORD: usize = 1 << 20;

/// Why a word cannot be resolved.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// The variable does not exist.
    Unset(String),
    /// Resolving does not end; the variable is one of the circle.
    Endless(String),
}

/// Whether a word may hold a reference at all.
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
        // `{$}` and `{%%}` name nothing: they stay, and so does what follows them in this word.
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
        // The value may begin a reference together with the brace in front of it.
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
    use crate::corefile::Memory;

    #[test]
    fn references_are_replaced_in_place() {
        let loader = Memory::default()
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
            ("{$P}", "{%A%}"), // that spelling had its turn
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
    fn what_cannot_be_resolved_is_named() {
        let loader = Memory::default()
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
