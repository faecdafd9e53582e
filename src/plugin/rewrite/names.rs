//! Which names a rule is for, and what is put in their place.
//!
//! But for whole names, all of it is text: a name in presentation form, in lower case, with its
//! final dot.

use std::{collections::BTreeSet, fmt::Write};

use regex::{Captures, Regex};

use crate::wire::{Name, NameError};

/// A name in lower case, and its text, which is made once somebody wants it.
pub struct Subject {
    name: Name,
    text: Option<String>,
}

impl Subject {
    /// That of `name`, which is in lower case.
    pub fn new(name: Name) -> Self {
        Self { name, text: None }
    }

    fn text(&mut self) -> &str {
        self.text.get_or_insert_with(|| self.name.to_string())
    }
}

/// Which names.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// This one.
    Exact(Box<Name>),
    /// Those that begin so.
    Prefix(Box<str>),
    /// Those that end so.
    Suffix(Box<str>),
    /// Those in which it occurs.
    Substring(Box<str>),
    /// Those in which it is found.
    Regex(Regex),
}

impl Pattern {
    /// Whether it is one of them.
    pub fn matches(&self, subject: &mut Subject) -> bool {
        match self {
            Self::Exact(name) => **name == subject.name,
            Self::Prefix(prefix) => subject.text().starts_with(&**prefix),
            Self::Suffix(suffix) => subject.text().ends_with(&**suffix),
            Self::Substring(part) => subject.text().contains(&**part),
            Self::Regex(regex) => regex.is_match(subject.text()),
        }
    }

    /// The text with what matches replaced, if anything does: a whole name is replaced where it is
    /// this one or has something of a regular expression in it.
    pub fn replace(&self, subject: &mut Subject, by: &Replacement) -> Option<String> {
        self.replace_knowing(subject, by, &|_| None)
    }

    /// The same, where `metadata` gives what is known under a label. Nothing is replaced where
    /// nothing is known under one of those in `by`.
    pub fn replace_knowing(
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

/// What is put in place of a name: text, with groups of a regular expression in it as `{1}`, and
/// with what is known of the query as `{PLUGIN/KEY}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Group(usize),
    /// A label of metadata.
    Label(Box<str>),
}

/// Why a text cannot be read by [`Replacement::with_labels`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// There is no such group.
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
        while let Some((before, behind)) = rest.split_once('{') {
            literal.push_str(before);
            let number = behind.split_once('}');
            let group = number.and_then(|(digits, behind)| {
                let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
                let is_plain = digits == "0" || !digits.starts_with('0');
                let group = digits.parse::<usize>().ok()?;
                (is_number && is_plain && group <= LAST_GROUP).then_some((group, behind))
            });
            if let Some((group, behind)) = group {
                pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
                pieces.push(Piece::Group(group));
                rest = behind;
            } else {
                literal.push('{');
                rest = behind;
            }
        }
        literal.push_str(rest);
        pieces.push(Piece::Text(literal.into()));
        Self(pieces)
    }

    /// Text in which `{N}` is the Nth of `groups` groups, and `{PLUGIN/KEY}` a label of metadata,
    /// exact in case; all else becomes lower case, and a final dot is added where there is none.
    pub fn with_labels(text: &str, groups: usize) -> Result<Self, Misplaced> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once('{') {
            if literal.contains('}') {
                return Err(Misplaced::Closed);
            }
            let (placeholder, behind) = behind.split_once('}').ok_or(Misplaced::Open)?;
            pieces.push(Piece::Text(literal.to_ascii_lowercase().into()));
            pieces.push(Self::placeholder(placeholder, groups)?);
            rest = behind;
        }
        if rest.contains('}') {
            return Err(Misplaced::Closed);
        }
        let mut literal = rest.to_ascii_lowercase();
        if !text.ends_with('.') {
            literal.push('.');
        }
        pieces.push(Piece::Text(literal.into()));
        Ok(Self(pieces))
    }

    fn placeholder(text: &str, groups: usize) -> Result<Piece, Misplaced> {
        // As in CoreDNS, `{+1}` and `{01}` are numbers.
        if let Ok(number) = text.parse::<i64>() {
            let group = usize::try_from(number)
                .ok()
                .filter(|group| *group <= groups);
            return group.map(Piece::Group).ok_or(Misplaced::Group(text.into()));
        }
        match text.split_once('/') {
            Some((plugin, key)) if !plugin.is_empty() && !key.is_empty() && !text.contains('{') => {
                Ok(Piece::Label(text.into()))
            }
            _ => Err(Misplaced::Neither(text.into())),
        }
    }

    /// The groups in it, each once, in order.
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

    /// The text with the groups and labels put in; a group that took no part is empty, one that
    /// there is not is text. Nothing where a label is unknown or empty. Values are not read again.
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

/// Numbers above are text.
const LAST_GROUP: usize = 100;

/// The name that a text has become. A group may have taken the name's final dot along, which then
/// stands there twice.
pub fn read(text: &str) -> Result<Name, NameError> {
    let is_doubled = text.len() > 2 && text.ends_with("..");
    Name::parse(&text[..text.len() - usize::from(is_doubled)])
}

/// A change of the names in a reply.
#[derive(Clone, Debug)]
pub enum Change {
    /// What matches is replaced.
    Replace(Pattern, Replacement),
    /// A name, and names under it, become the other one, and names under that.
    Remap(Box<Remap>),
}

/// A name, and the one that it becomes.
#[derive(Clone, Copy, Debug)]
pub struct Remap {
    /// The name, in lower case.
    pub from: Name,
    /// The other one.
    pub to: Name,
}

impl Change {
    /// The name that comes of it, where it is another.
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
    fn each_kind_replaces_its_part() {
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
    fn labels_stand_for_what_is_known() {
        let pattern = Pattern::Regex(Regex::new(r"^([^.]*)\.(x)?").unwrap());
        let becomes = |by: &str| {
            let by = Replacement::with_labels(by, 2).unwrap();
            pattern.replace_knowing(&mut Subject::new(name("web.example")), &by, &|label| {
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
            ("{3}.b", Misplaced::Group("3".into())),
            ("{-1}.b", Misplaced::Group("-1".into())),
            ("{}.b", Misplaced::Neither("".into())),
            ("{a}", Misplaced::Neither("a".into())),
            ("{/a}", Misplaced::Neither("/a".into())),
            ("{a/}", Misplaced::Neither("a/".into())),
            ("{{a/b}}", Misplaced::Neither("{a/b".into())),
            ("a.{a/b", Misplaced::Open),
            ("a}.{1}", Misplaced::Closed),
            ("{1}}", Misplaced::Closed),
        ] {
            assert_eq!(Replacement::with_labels(by, 2), Err(wanted), "{by}");
        }
    }

    #[test]
    fn a_remap_minds_labels() {
        let remap = Change::Remap(Box::new(Remap {
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
    fn a_change_that_makes_no_name_changes_nothing() {
        let change = Change::Replace(Pattern::Suffix("b.".into()), Replacement::plain("..c."));
        assert_eq!(change.apply(&mut Subject::new(name("a.b"))), None);
    }
}
