//! Patterns of names, and their replacements.
//!
//! Except for exact names, patterns match text: the name in presentation format, in lower case,
//! with its final dot.

use std::{collections::BTreeSet, fmt::Write};

use regex::{Captures, Regex};

use crate::wire::{Name, NameError};

/// A name in lower case, and its text, which is created when first used.
pub struct Subject {
    name: Name,
    text: Option<String>,
}

impl Subject {
    /// The subject of `name`, which must be in lower case.
    pub fn new(name: Name) -> Self {
        Self { name, text: None }
    }

    fn text(&mut self) -> &str {
        self.text.get_or_insert_with(|| self.name.to_string())
    }
}

/// A pattern of names.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// This name.
    Exact(Box<Name>),
    /// Names with this prefix.
    Prefix(Box<str>),
    /// Names with this suffix.
    Suffix(Box<str>),
    /// Names that contain this text.
    Substring(Box<str>),
    /// Names that match this regular expression.
    Regex(Regex),
}

impl Pattern {
    /// Whether the name matches.
    pub fn matches(&self, subject: &mut Subject) -> bool {
        match self {
            Self::Exact(name) => **name == subject.name,
            Self::Prefix(prefix) => subject.text().starts_with(&**prefix),
            Self::Suffix(suffix) => subject.text().ends_with(&**suffix),
            Self::Substring(part) => subject.text().contains(&**part),
            Self::Regex(regex) => regex.is_match(subject.text()),
        }
    }

    /// The text with the matching part replaced, if the name matches: the complete name for an
    /// exact pattern or a regular expression.
    pub fn replace(&self, subject: &mut Subject, by: &Replacement) -> Option<String> {
        self.replace_with_metadata(subject, by, &|_| None)
    }

    /// Like [`replace`](Self::replace), with `metadata` returning the values of labels. Returns
    /// `None` if a label in `by` has no value.
    pub fn replace_with_metadata(
        &self,
        subject: &mut Subject,
        by: &Replacement,
        metadata: &dyn Fn(&str) -> Option<String>,
    ) -> Option<String> {
        let text = match self {
            Self::Exact(name) => {
                return (**name == subject.name).then(|| by.literal().to_owned());
            }
            _ => subject.text(),
        };
        match self {
            Self::Exact(_) => None,
            Self::Prefix(prefix) => {
                let rest = text.strip_prefix(&**prefix)?;
                Some(format!("{}{rest}", by.literal()))
            }
            Self::Suffix(suffix) => {
                let rest = text.strip_suffix(&**suffix)?;
                Some(format!("{rest}{}", by.literal()))
            }
            Self::Substring(part) => text
                .contains(&**part)
                .then(|| text.replace(&**part, by.literal())),
            Self::Regex(regex) => by.expand(&regex.captures(text)?, metadata),
        }
    }
}

/// The replacement of a name: text, with groups of a regular expression as `{1}` and metadata of
/// the query as `{PLUGIN/KEY}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Group(usize),
    /// A label of metadata.
    Label(Box<str>),
}

/// An error of [`Replacement::with_labels`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// The group does not exist.
    #[error("there is no group {{{0}}}")]
    Group(Box<str>),
    /// Neither a number nor a label.
    #[error("'{{{0}}}' is neither a group nor a label of metadata")]
    Neither(Box<str>),
    /// `{` without `}`.
    #[error("a '{{' is never closed")]
    Open,
    /// `}` without `{`.
    #[error("a '}}' closes nothing")]
    Closed,
}

impl Replacement {
    /// Text without groups.
    pub fn plain(text: &str) -> Self {
        Self(vec![Piece::Text(text.into())])
    }

    /// Text in which `{N}` is the Nth group.
    pub fn with_groups(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            literal.push_str(before);
            let number = after.split_once('}');
            let group = number.and_then(|(digits, after)| {
                let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
                let is_plain = digits == "0" || !digits.starts_with('0');
                let group = digits.parse::<usize>().ok()?;
                (is_number && is_plain && group <= LAST_GROUP).then_some((group, after))
            });
            if let Some((group, after)) = group {
                pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
                pieces.push(Piece::Group(group));
                rest = after;
            } else {
                literal.push('{');
                rest = after;
            }
        }
        literal.push_str(rest);
        pieces.push(Piece::Text(literal.into()));
        Self(pieces)
    }

    /// Text in which `{N}` is the Nth of `groups` groups, and `{PLUGIN/KEY}` a metadata label,
    /// which is case-sensitive. All other text is converted to lower case, and a missing final dot
    /// is added.
    pub fn with_labels(text: &str, groups: usize) -> Result<Self, PlaceholderError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            if literal.contains('}') {
                return Err(PlaceholderError::Closed);
            }
            let (placeholder, after) = after.split_once('}').ok_or(PlaceholderError::Open)?;
            pieces.push(Piece::Text(literal.to_ascii_lowercase().into()));
            pieces.push(Self::placeholder(placeholder, groups)?);
            rest = after;
        }
        if rest.contains('}') {
            return Err(PlaceholderError::Closed);
        }
        let mut literal = rest.to_ascii_lowercase();
        if !text.ends_with('.') {
            literal.push('.');
        }
        pieces.push(Piece::Text(literal.into()));
        Ok(Self(pieces))
    }

    fn placeholder(text: &str, groups: usize) -> Result<Piece, PlaceholderError> {
        // As in CoreDNS, `{+1}` and `{01}` are numbers.
        if let Ok(number) = text.parse::<i64>() {
            let group = usize::try_from(number)
                .ok()
                .filter(|group| *group <= groups);
            return group
                .map(Piece::Group)
                .ok_or(PlaceholderError::Group(text.into()));
        }
        match text.split_once('/') {
            Some((plugin, key)) if !plugin.is_empty() && !key.is_empty() && !text.contains('{') => {
                Ok(Piece::Label(text.into()))
            }
            _ => Err(PlaceholderError::Neither(text.into())),
        }
    }

    /// The groups used, in order, without duplicates.
    pub fn groups(&self) -> BTreeSet<usize> {
        let groups = self.0.iter().filter_map(|piece| match piece {
            Piece::Group(number) => Some(*number),
            Piece::Text(_) | Piece::Label(_) => None,
        });
        groups.collect()
    }

    fn literal(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// Expands groups and labels. A group that did not participate is empty, one that does not
    /// exist is literal text. Returns `None` if a label is unknown or empty. Values are not
    /// expanded recursively.
    fn expand(
        &self,
        found: &Captures<'_>,
        metadata: &dyn Fn(&str) -> Option<String>,
    ) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Group(number) if *number >= found.len() => {
                    let _ = write!(text, "{{{number}}}");
                }
                Piece::Group(number) => {
                    text.push_str(found.get(*number).map_or("", |group| group.as_str()));
                }
                Piece::Label(label) => {
                    let value = metadata(label).filter(|value| !value.is_empty())?;
                    text.push_str(&value.to_ascii_lowercase());
                }
            }
        }
        Some(text)
    }
}

/// Larger group numbers are literal text.
const LAST_GROUP: usize = 100;

/// Parses the result of a replacement. A doubled final dot is accepted: a group may include the
/// final dot of the name.
pub fn read(text: &str) -> Result<Name, NameError> {
    let is_doubled = text.len() > 2 && text.ends_with("..");
    Name::parse(&text[..text.len() - usize::from(is_doubled)])
}

/// A change of names in a reply.
#[derive(Clone, Debug)]
pub enum NameChange {
    /// Replaces the matching part.
    Replace(Pattern, Replacement),
    /// Moves a name, and all names under it, to another name.
    Remap(Box<Remap>),
}

/// A name, and the one that replaces it.
#[derive(Clone, Copy, Debug)]
pub struct Remap {
    /// The name, in lower case.
    pub from: Name,
    /// Its replacement.
    pub to: Name,
}

impl NameChange {
    /// The changed name, if it differs.
    pub fn apply(&self, subject: &mut Subject) -> Option<Name> {
        let changed = match self {
            Self::Replace(pattern, by) => read(&pattern.replace(subject, by)?).ok()?,
            Self::Remap(remap) => {
                let labels = subject.name.as_ref().strip(remap.from.as_ref())?;
                Name::from_labels(labels, remap.to.as_ref()).ok()?
            }
        };
        (changed != subject.name).then_some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn replaced(pattern: &Pattern, text: &str, by: &str) -> Option<String> {
        let by = Replacement::with_groups(by);
        let mut subject = Subject::new(name(text));
        let replaced = pattern.replace(&mut subject, &by);
        assert_eq!(replaced.is_some(), pattern.matches(&mut subject), "{text}");
        replaced
    }

    #[test]
    fn each_kind_replaces_the_matching_part() {
        let regex = |text| Pattern::Regex(Regex::new(text).unwrap());
        for (pattern, text, by, wanted) in [
            (Pattern::Exact(name("a.b").into()), "a.b", "c.", Some("c.")),
            (Pattern::Exact(name("a.b").into()), "x.a.b", "c.", None),
            (Pattern::Prefix("a.".into()), "a.b", "c.", Some("c.b.")),
            (Pattern::Prefix("a.".into()), "aa.b", "c.", None),
            (
                Pattern::Suffix(".b.".into()),
                "x.a.b",
                ".c.d.",
                Some("x.a.c.d."),
            ),
            (Pattern::Suffix("b.".into()), "x.ab", "c.", Some("x.ac.")),
            (Pattern::Suffix(".b.".into()), "b", "c.", None),
            (
                Pattern::Substring("a.".into()),
                "xa.ya.b",
                "z.",
                Some("xz.yz.b."),
            ),
            (Pattern::Substring("c.".into()), "a.b", "z.", None),
            (
                regex(r"^(.*)\.(a|b)\.(c)?"),
                "x.y.b.d",
                "{2}-{1}.{3}{0}e{4}",
                Some("b-x.y.x.y.b.e{4}"),
            ),
            (regex(r"\.org$"), "a.org", "x", None),
            (regex(r"\.org\.$"), "a.org", "x{y}{01}{", Some("x{y}{01}{")),
        ] {
            assert_eq!(replaced(&pattern, text, by).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn labels_expand_to_metadata() {
        let pattern = Pattern::Regex(Regex::new(r"^([^.]*)\.(x)?").unwrap());
        let becomes = |by: &str| {
            let by = Replacement::with_labels(by, 2).unwrap();
            pattern.replace_with_metadata(&mut Subject::new(name("web.example")), &by, &|label| {
                match label {
                    "kubernetes/Ns" => Some("{1}.Team".to_owned()),
                    "a/b/c" => Some("deep.".to_owned()),
                    "none/empty" => Some(String::new()),
                    _ => None,
                }
            })
        };
        for (by, wanted) in [
            ("{1}.{kubernetes/Ns}.SVC", Some("web.{1}.team.svc.")),
            ("{a/b/c}", Some("deep..")),
            ("{0}{2}x.", Some("web.x.")),
            ("{+1}.{01}.", Some("web.web.")),
            ("plain", Some("plain.")),
            ("{1}.{kubernetes/ns}.svc", None),
            ("{1}.{none/empty}.svc", None),
        ] {
            assert_eq!(becomes(by).as_deref(), wanted, "{by}");
        }
        for (by, wanted) in [
            ("{3}.b", PlaceholderError::Group("3".into())),
            ("{-1}.b", PlaceholderError::Group("-1".into())),
            ("{}.b", PlaceholderError::Neither("".into())),
            ("{a}", PlaceholderError::Neither("a".into())),
            ("{/a}", PlaceholderError::Neither("/a".into())),
            ("{a/}", PlaceholderError::Neither("a/".into())),
            ("{{a/b}}", PlaceholderError::Neither("{a/b".into())),
            ("a.{a/b", PlaceholderError::Open),
            ("a}.{1}", PlaceholderError::Closed),
            ("{1}}", PlaceholderError::Closed),
        ] {
            assert_eq!(Replacement::with_labels(by, 2), Err(wanted), "{by}");
        }
    }

    #[test]
    fn a_remap_respects_label_boundaries() {
        let remap = NameChange::Remap(Box::new(Remap {
            from: name("b.c"),
            to: name("x"),
        }));
        let applied = |text| remap.apply(&mut Subject::new(name(text)));
        assert_eq!(applied("b.c"), Some(name("x")));
        assert_eq!(applied("a.b.c"), Some(name("a.x")));
        assert_eq!(applied("ab.c"), None);
        assert_eq!(applied("c"), None);
    }

    #[test]
    fn a_change_to_an_invalid_name_has_no_effect() {
        let change = NameChange::Replace(Pattern::Suffix("b.".into()), Replacement::plain("..c."));
        assert_eq!(change.apply(&mut Subject::new(name("a.b"))), None);
    }
}
