//! `log`: logs a line for each query.
//!
//! ```text
//! log [NAMES...] [FORMAT] {
//!     class all|success|denial|error...
//! }
//! ```
//!
//! The first rule that contains the question's name applies. Dropped queries (`acl`, `erratic`) are
//! logged too, in class `error`.
//!
//! ```text
//! format  the format of a line
//! kind    the kind and the class of a reply
//! record  the fields of a JSON record
//! ```

pub mod format;
mod kind;
mod record;

use std::{sync::Arc, time::Duration};

use crate::{
    corefile::{Arguments, Diagnostic, Directive, ErrorList, Property, Word, unknown_property},
    hooks,
    logging::{self, Sink},
    plugin::{
        Block, Build, BuildError, MetadataSource, Observer, ParseErrors, Parsing, Plugin, Setup,
        Written, metadata::Published,
    },
    query::Query,
    reply::{ReasonText, Reply, Why},
    wire::Name,
};

pub use format::{COMMON, Format, LoggedOutcome};
pub use kind::{Class, ReplyKind};

/// The metadata labels of a reply, such as `denial` and `NODATA`.
const CLASS: &str = "log/class";
const TYPE: &str = "log/type";
/// The label of the reason of a reply without an answer.
pub const REASON: &str = "log/reason";

/// The rules of a server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// In the order of the Corefile.
    pub rules: Vec<Rule>,
}

/// The log rule for the names of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The zone, in lower case.
    pub zone: Name,
    /// The format of the line.
    pub format: Arc<Format>,
    /// Which replies are logged.
    pub classes: Classes,
}

/// A set of [`Class`]es.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes(u8);

impl Classes {
    /// Every reply.
    pub const ALL: Self = Self(7);

    /// Whether the set contains the class.
    pub fn contains(self, class: Class) -> bool {
        self.0 & class as u8 != 0
    }
}

/// Parses the directives of a server block.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut config = Config { rules: Vec::new() };
    let mut errors = ErrorList::default();
    for directive in uses {
        match rules(directive) {
            Ok(rules) => config.rules.extend(rules),
            Err(found) => errors.extend(found),
        }
    }
    errors.in_plugin("log").into_result(config)
}

fn rules(directive: &Directive) -> Result<Vec<Rule>, Vec<Diagnostic>> {
    let mut words = directive.arguments().rest();
    let mut format = COMMON;
    if let [names @ .., last] = words
        && last.contains('{')
    {
        if names.is_empty() {
            let refused = last
                .error(format!("'{last}' is not a name"))
                .expected("a name, or a name and a format")
                .help(format!("write log . '{last}' to log every name so"));
            return Err(vec![refused]);
        }
        (words, format) = (names, last.as_str());
    }
    let mut errors = ErrorList::default();
    let zones = errors.catch(zones(words)).unwrap_or_default();
    let mut classes = 0;
    for line in directive.properties() {
        classes |= errors.catch(class(line)).unwrap_or_default();
    }
    let zones = errors.into_result(zones)?;
    let format = Arc::new(Format::new(format));
    let classes = if classes == 0 {
        Classes::ALL
    } else {
        Classes(classes)
    };
    let rule = |zone| Rule {
        zone,
        format: Arc::clone(&format),
        classes,
    };
    Ok(zones.into_iter().map(rule).collect())
}

fn zones(words: &[Word]) -> Result<Vec<Name>, Diagnostic> {
    if words.is_empty() {
        return Ok(vec![Name::ROOT]);
    }
    let mut names = Vec::new();
    for word in words {
        for zone in word.zones()? {
            let name = Name::parse(zone.as_str())
                .map_err(|error| word.error(format!("'{word}' is no name: {error}")))?;
            names.push(name.to_lower());
        }
    }
    Ok(names)
}

fn class(line: &Property) -> Result<u8, Diagnostic> {
    if *line.name() != "class" {
        return Err(unknown_property(line.name(), &["class"]));
    }
    let choices = [
        ("all", Classes::ALL.0),
        ("success", Class::Success as u8),
        ("denial", Class::Denial as u8),
        ("error", Class::Error as u8),
    ];
    let mut arguments: Arguments<'_> = line.arguments();
    let words = arguments.at_least_one("all, success, denial or error")?;
    words
        .iter()
        .try_fold(0, |classes, word| Ok(classes | word.one_of(&choices)?))
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let mut log = Log::new(self, logging::sink().clone());
        log.published.clone_from(&build.offers.metadata);
        Ok(log.into())
    }
}

/// The plugin.
pub struct Log {
    rules: Box<[Rule]>,
    sink: Sink,
    /// The source of `{/LABEL}`.
    published: Option<Arc<Published>>,
}

impl Log {
    /// Logs by `config` to `sink`.
    pub fn new(config: &Config, sink: Sink) -> Self {
        Self {
            rules: config.rules.clone().into(),
            sink,
            published: None,
        }
    }
}

impl Log {
    fn log(
        &self,
        query: &Query,
        outcome: LoggedOutcome<'_>,
        reason: impl Fn() -> Option<String>,
        published: impl Fn(&str) -> Option<String>,
    ) {
        let name = query.original.lower.as_ref();
        let mut rules = self.rules.iter();
        let Some(rule) = rules.find(|rule| name.is_under(rule.zone.as_ref())) else {
            return;
        };
        let class = || match outcome {
            LoggedOutcome::Sent(reply, _) => ReplyKind::of(query, reply).class(),
            LoggedOutcome::Dropped(_) | LoggedOutcome::Pending => Class::Error,
        };
        if rule.classes == Classes::ALL || rule.classes.contains(class()) {
            self.sink.query(
                |line| {
                    let metadata = |label: &str| match label {
                        REASON => reason(),
                        _ => published(label),
                    };
                    rule.format.write(line, query, outcome, metadata);
                },
                |record| record::fields(record, query, outcome, reason()),
            );
        }
    }
}

hooks!(Log, "log" => observer, metadata);

impl Observer for Log {
    fn on_sent(&self, block: &Block, query: &Query, reply: &Reply, written: Written) {
        let outcome = LoggedOutcome::Sent(reply, written);
        let reason = || {
            let mut text = ReasonText::default();
            if !reply.lacks_answer() && reply.why != Why::EndlessAlias {
                return None;
            }
            block.chain.reason(query, reply, &mut text);
            Some(text.as_str().to_owned())
        };
        self.log(query, outcome, reason, |label| {
            let published = self.published.as_ref()?;
            published.value(block.chain.plugins(), query, Some(reply), label)
        });
    }

    fn on_dropped(&self, block: &Block, query: &Query, took: Duration) {
        self.log(
            query,
            LoggedOutcome::Dropped(took),
            || None,
            |label| {
                let published = self.published.as_ref()?;
                let own = label_of(ReplyKind::OtherError, label);
                own.or_else(|| published.value(block.chain.plugins(), query, None, label))
            },
        );
    }
}

impl MetadataSource for Log {
    fn metadata(&self, query: &Query, reply: Option<&Reply>, label: &str) -> Option<String> {
        label_of(ReplyKind::of(query, reply?), label)
    }
}

/// The value of one of this plugin's labels, for a reply of this kind.
fn label_of(kind: ReplyKind, label: &str) -> Option<String> {
    match label {
        CLASS => Some(kind.class().to_string()),
        TYPE => Some(kind.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
