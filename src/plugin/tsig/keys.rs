//! Key files, in the format of BIND's `named.conf`:
//!
//! ```text
//! key "transfer.example." {
//!     algorithm hmac-sha256;
//!     secret "X28hl0BOfAL5G0jsmJWSacrwn7YRm2f6U5brnzwWEus=";
//! };
//! ```
//!
//! The algorithm is parsed and ignored: as in CoreDNS, the signer of a query chooses it.

use std::{fs::File, io, io::Read, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::Secret;
use crate::wire::Name;

/// Maximum size of a file in bytes.
const LIMIT: u64 = 1 << 20;

/// An error in a file, with its line.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct KeyFileError {
    pub(super) line: usize,
    what: String,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> io::Result<String> {
    crate::files::not_a_pipe(path)?;
    let mut text = String::new();
    File::open(path)?
        .take(LIMIT + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        let message = format!("it has more than {LIMIT} bytes");
        return Err(io::Error::other(message));
    }
    Ok(text)
}

/// Parses a secret in base64.
pub(super) fn secret(text: &str) -> Option<Secret> {
    let bytes = STANDARD.decode(text).ok()?;
    (!bytes.is_empty()).then(|| Secret(bytes.into()))
}

/// Parses the keys of a file, in order.
pub(super) fn parse(text: &str) -> Result<Vec<(Name, Secret)>, KeyFileError> {
    let mut tokens = tokens(text)?.into_iter().peekable();
    let mut keys = Vec::new();
    let error_at = |line: usize, what: String| KeyFileError { line, what };
    while let Some((at, token)) = tokens.next() {
        let mut line = at;
        if token == ";" {
            continue;
        }
        if token != "key" {
            return Err(error_at(
                at,
                format!("'{token}' found where 'key' is expected"),
            ));
        }
        let mut next = |expected: &str| {
            let found = tokens.next().ok_or_else(|| {
                error_at(line, format!("the file ends where {expected} is expected"))
            })?;
            line = found.0;
            Ok(found.1)
        };
        let name = next("the name of a key")?;
        let name = Name::parse(name)
            .map_err(|error| error_at(at, format!("'{name}' is no name of a key: {error}")))?;
        let brace = next("'{'")?;
        if brace != "{" {
            return Err(error_at(
                at,
                format!("'{brace}' found where '{{' is expected"),
            ));
        }
        let mut found = None;
        loop {
            match next("'secret', 'algorithm' or '}'")? {
                "}" => break,
                ";" => {}
                "algorithm" => drop(next("an algorithm")?),
                "secret" => {
                    let read = secret(next("a secret")?);
                    // The secret itself is not shown.
                    let wrong = || error_at(at, format!("the secret of '{name}' is not base64"));
                    found = Some(read.ok_or_else(wrong)?);
                }
                other => {
                    let expected = "where 'secret', 'algorithm' or '}' is expected";
                    return Err(error_at(at, format!("'{other}' found {expected}")));
                }
            }
        }
        let missing = || error_at(at, format!("the key '{name}' has no secret"));
        keys.push((name.to_lower(), found.ok_or_else(missing)?));
    }
    Ok(keys)
}

/// Splits a file into words, quoted strings, braces and semicolons, each with its line; comments
/// are skipped.
fn tokens(text: &str) -> Result<Vec<(usize, &str)>, KeyFileError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let unended = |what: &str| KeyFileError {
            line,
            what: format!("{what} does not end"),
        };
        let Some(first) = rest.chars().next() else {
            return Ok(tokens);
        };
        let length = if rest.starts_with('#') || rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, behind)| behind);
            continue;
        } else if let Some(comment) = rest.strip_prefix("/*") {
            let ended = comment.split_once("*/");
            rest = ended.ok_or_else(|| unended("a comment"))?.1;
            continue;
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let ended = quoted.split_once('"');
            let (inside, behind) = ended.ok_or_else(|| unended("a quoted string"))?;
            tokens.push((line, inside));
            rest = behind;
            continue;
        } else if "{};".contains(first) {
            1
        } else {
            let is_end = |at: char| at.is_whitespace() || "{};\"".contains(at);
            rest.find(is_end).unwrap_or(rest.len())
        };
        tokens.push((line, &rest[..length]));
        rest = &rest[length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_bind_writes_them() {
        let text = "# a comment
            key \"Transfer.example.\" { algorithm hmac-sha256; secret \"c2VjcmV0\"; };
            // another
            key other{secret \"b3RoZXI=\";}; /* key none
            */
            key third {
                secret dGhpcmQ=;
            }";
        let keys = parse(text).unwrap();
        let keys: Vec<_> = keys
            .iter()
            .map(|(name, secret)| (name.to_string(), &*secret.0))
            .collect();
        let expected: [(String, &[u8]); 3] = [
            ("transfer.example.".into(), b"secret"),
            ("other.".into(), b"other"),
            ("third.".into(), b"third"),
        ];
        assert_eq!(keys, expected);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn errors_are_reported_with_their_line() {
        for (text, line, what) in [
            ("\nzone x { };", 2, "'zone' found where 'key' is expected"),
            (
                "key",
                1,
                "the file ends where the name of a key is expected",
            ),
            ("key a..b { };", 1, "'a..b' is no name of a key"),
            ("key a\n", 1, "the file ends where '{' is expected"),
            ("key a x", 1, "'x' found where '{' is expected"),
            ("key a {", 1, "the file ends where 'secret'"),
            ("key a { };", 1, "the key 'a.' has no secret"),
            ("\n\nkey a { secret \"?\"; };", 3, "is not base64"),
            ("key a { secret \"\"; };", 1, "is not base64"),
            ("key a { secrets x; };", 1, "'secrets' found where"),
            ("key \"a { };", 1, "a quoted string does not end"),
            ("\n/* key", 2, "a comment does not end"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
