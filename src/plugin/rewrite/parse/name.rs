//! Rules that change names: those of questions, with their answers, and the targets of aliases.

use super::{
    RuleParser,
    words::{KINDS, Kind, full_name, text_of, with_groups, with_labels},
};
use crate::{
    corefile::{Arguments, Diagnostic},
    plugin::rewrite::{
        names::{NameChange, Pattern, Replacement},
        rule::{NameRule, RuleAction},
        target::TargetRule,
    },
};

impl RuleParser<'_> {
    /// `[KIND] FROM TO [metadata] [answers]`.
    pub(super) fn name(&mut self, words: &mut Arguments<'_>) -> Result<RuleAction, Diagnostic> {
        let kind = if words.left() > 2 {
            words.required("a kind of match")?.one_of_any_case(&KINDS)?
        } else {
            Kind::Exact
        };
        let from = words.required("a name, and the one that replaces it")?;
        let to = words.required("the replacement of the name")?;
        let names = self.pattern(kind, from)?;
        let labels = words.peek().filter(|word| **word == "metadata");
        if let Some(word) = labels {
            words.next();
            if kind != Kind::Regex {
                let error = word.error("metadata is only supported for regex name rules");
                return Err(error.help("write: name regex FROM TO metadata"));
            }
        }
        let replacement = match (&names, kind) {
            (Pattern::Regex(regex), _) if labels.is_some() => with_labels(regex, to)?,
            (Pattern::Regex(regex), _) => with_groups(regex, to, self.warnings)?,
            (_, Kind::Exact) => Replacement::plain(&full_name(to)?.to_string()),
            _ => Replacement::plain(&text_of(to)),
        };
        let mut rule = NameRule {
            names,
            to: replacement,
            restores: kind == Kind::Exact,
            owners: Vec::new(),
            values: Vec::new(),
        };
        let answers = answers(words, &mut rule, self.warnings)?;
        if answers.auto {
            // A suffix rule can be reverted in all names with the suffix.
            if kind == Kind::Suffix {
                let back = NameChange::Replace(
                    Pattern::Suffix(text_of(to).into()),
                    Replacement::plain(&text_of(from)),
                );
                rule.owners.insert(0, back.clone());
                rule.values.insert(0, back);
            } else {
                rule.restores = true;
            }
        } else if kind != Kind::Exact && !answers.owners {
            let warning = from.warning("names in answers are not rewritten");
            self.warnings.push(
                warning
                    .label("CoreDNS would even answer with another name than the queried one")
                    .help("add 'answer auto' to the rule"),
            );
        }
        Ok(RuleAction::Name(rule))
    }
}

/// Which answer rules a name rule has.
struct Answers {
    auto: bool,
    owners: bool,
}

/// Parses any number of `[answer] auto`, `[answer] name FROM TO` and `[answer] value FROM TO`; the
/// first one requires the word `answer`.
fn answers(
    words: &mut Arguments<'_>,
    rule: &mut NameRule,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Answers, Diagnostic> {
    let mut auto = None;
    let mut owners = None;
    let mut is_first = true;
    while let Some(word) = words.next() {
        let word = match word.as_str() {
            "answer" => words.required("auto, name or value")?,
            _ if is_first => {
                let error = word.error("expected 'answer' or the end of the rule");
                return Err(error.expected("answer auto, answer name or answer value; metadata"));
            }
            _ => word,
        };
        is_first = false;
        match word.as_str() {
            "auto" => auto = Some(word),
            "name" => {
                rule.owners.push(answer(words, warnings)?);
                owners = Some(word);
            }
            "value" => rule.values.push(answer(words, warnings)?),
            _ => {
                let error = word.error(format!("invalid type '{word}' for an answer rule"));
                return Err(error.expected("auto, name or value"));
            }
        }
    }
    if let (Some(auto), Some(owners)) = (auto, owners) {
        let error = owners.error("'answer auto' cannot be combined with 'answer name'");
        return Err(error.also(auto.span, "auto is here"));
    }
    Ok(Answers {
        auto: auto.is_some(),
        owners: owners.is_some(),
    })
}

fn answer(
    words: &mut Arguments<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<NameChange, Diagnostic> {
    let from = words.required("a regular expression, and its replacement")?;
    let to = words.required("a replacement")?;
    let regex = from.regex()?;
    let to = with_groups(&regex, to, warnings)?;
    Ok(NameChange::Replace(Pattern::Regex(regex), to))
}

/// `[KIND] FROM TO`. Prefixes, suffixes and substrings are matched without adding a final dot.
pub(super) fn cname(
    words: &mut Arguments<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<RuleAction, Diagnostic> {
    let what = "a target, and the one that replaces it";
    let kind = if words.left() > 2 {
        words.required(what)?.one_of_any_case(&KINDS)?
    } else {
        Kind::Exact
    };
    let from = words.required(what)?;
    let to = words.required("the replacement of the target")?;
    let part = || from.to_ascii_lowercase().into_boxed_str();
    let plain = || Replacement::plain(&to.to_ascii_lowercase());
    let (targets, to) = match kind {
        Kind::Exact => {
            let to = Replacement::plain(&full_name(to)?.to_string());
            (Pattern::Exact(full_name(from)?.into()), to)
        }
        Kind::Prefix => (Pattern::Prefix(part()), plain()),
        Kind::Suffix => (Pattern::Suffix(part()), plain()),
        Kind::Substring => (Pattern::Substring(part()), plain()),
        Kind::Regex => {
            let regex = from.regex()?;
            let to = with_groups(&regex, to, warnings)?;
            (Pattern::Regex(regex), to)
        }
    };
    Ok(RuleAction::Cname(TargetRule { targets, to }))
}
