//! Kubernetes label selectors: `app=web,tier in (a, b),!canary`.
//!
//! The API server evaluates them; here they are validated when a configuration is read, and
//! evaluated for manifests.

use std::fmt;
use std::str::FromStr;

/// A parsed selector; an empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    text: Box<str>,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Requirement {
    key: Box<str>,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Operator {
    Exists,
    Absent,
    In(Vec<Box<str>>),
    /// Also selects objects without the label.
    NotIn(Vec<Box<str>>),
}

/// Why a selector is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a label selector: {0}")]
pub struct SelectorError(String);

impl Selector {
    /// Whether an object with these labels matches.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = label(&requirement.key);
            let among = |values: &[Box<str>]| {
                value.is_some_and(|value| values.iter().any(|it| **it == *value))
            };
            match &requirement.operator {
                Operator::Exists => value.is_some(),
                Operator::Absent => value.is_none(),
                Operator::In(values) => among(values),
                Operator::NotIn(values) => !among(values),
            }
        })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The text as configured.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let text = text.trim();
        let mut requirements = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (one, more) = split_requirement(rest);
            requirements.push(one.trim().parse()?);
            if more.is_some_and(|more| more.trim().is_empty()) {
                return Err(SelectorError("it ends in a comma".into()));
            }
            rest = more.unwrap_or_default();
        }
        Ok(Self {
            text: text.into(),
            requirements,
        })
    }
}

impl FromStr for Requirement {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if let Some(key) = text.strip_prefix('!') {
            return Ok(Self {
                key: read_key(key)?,
                operator: Operator::Absent,
            });
        }
        if let Some((key, value)) = text.split_once('=') {
            let value = value.strip_prefix('=').unwrap_or(value);
            let values = vec![read_value(value)?];
            return Ok(match key.strip_suffix('!') {
                Some(key) => Self {
                    key: read_key(key)?,
                    operator: Operator::NotIn(values),
                },
                None => Self {
                    key: read_key(key)?,
                    operator: Operator::In(values),
                },
            });
        }
        let Some((head, values)) = text.split_once('(') else {
            return Ok(Self {
                key: read_key(text)?,
                operator: Operator::Exists,
            });
        };
        let Some(values) = values.strip_suffix(')') else {
            return Err(SelectorError(format!(
                "{text:?} lacks its closing parenthesis"
            )));
        };
        let values = values
            .split(',')
            .map(read_value)
            .collect::<Result<_, _>>()?;
        let words: Vec<_> = head.split_whitespace().collect();
        match words[..] {
            [key, "in"] => Ok(Self {
                key: read_key(key)?,
                operator: Operator::In(values),
            }),
            [key, "notin"] => Ok(Self {
                key: read_key(key)?,
                operator: Operator::NotIn(values),
            }),
            _ => Err(SelectorError(format!(
                "expected KEY in (...) or KEY notin (...), found {text:?}"
            ))),
        }
    }
}

/// The first requirement, up to a comma outside parentheses, and the text after the comma.
fn split_requirement(text: &str) -> (&str, Option<&str>) {
    let mut within = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => within = true,
            b')' => within = false,
            b',' if !within => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

/// A label key: an optional DNS prefix and a slash, then a name of at most 63 bytes.
fn read_key(key: &str) -> Result<Box<str>, SelectorError> {
    let key = key.trim();
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    if name.is_empty()
        || !is_label_text(name)
        || !key.bytes().all(|it| is_label_byte(it) || it == b'/')
    {
        return Err(SelectorError(format!("{key:?} is not a label's key")));
    }
    Ok(key.into())
}

fn read_value(value: &str) -> Result<Box<str>, SelectorError> {
    let value = value.trim();
    if !is_label_text(value) {
        return Err(SelectorError(format!("{value:?} is not a label's value")));
    }
    Ok(value.into())
}

fn is_label_text(text: &str) -> bool {
    let end = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && end(bytes.first())
        && end(bytes.last())
        && bytes.iter().all(|byte| is_label_byte(*byte))
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_match_as_in_the_api_server() {
        let labels = [("app", "web"), ("tier", "a"), ("example.com/x", "")];
        for (selector, selects) in [
            ("", true),
            ("app=web", true),
            ("app == web , tier!=b", true),
            ("app=db", false),
            ("tier in (a, b)", true),
            ("tier notin (a)", false),
            ("absent notin (a)", true),
            ("absent!=a", true),
            ("app", true),
            ("!app", false),
            ("!absent,example.com/x=", true),
            ("app=web,tier in (b,c)", false),
        ] {
            let read: Selector = selector.parse().unwrap();
            let label = |key: &str| labels.iter().find(|it| it.0 == key).map(|it| it.1);
            assert_eq!(read.matches(label), selects, "{selector}");
        }
    }

    #[test]
    fn malformed_selectors_are_rejected() {
        for bad in [
            "a=b,", ",", "a in b", "a in (b", "=b", "a=b c", "a of (b)", "!", "-a", "a=b)",
        ] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }
}
