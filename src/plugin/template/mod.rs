//! `template`: synthesizes answers with Go templates.
//!
//! ```text
//! template CLASS TYPE [ZONES...] {
//!     match REGEX...
//!     var NAME EXPRESSION
//!     expr EXPRESSION
//!     answer|additional|authority RECORD...
//!     rcode RCODE
//!     ederror CODE [TEXT]
//!     fallthrough [ZONES...]
//! }
//! ```
//!
//! The templates of a block are tried in order. A template for other zones, classes or types is
//! skipped. If none of its patterns matches the name, or not all of its expressions are true, the
//! question falls through or gets SERVFAIL. The first match determines the reply: each record is
//! the output of a Go template, parsed as a line of a zone file ([`Record`]). For A and AAAA
//! questions, the target of a CNAME record is resolved and appended.
//!
//! ```text
//! parse    the properties
//! pattern  regular expressions in Go's syntax
//! text     one Go template: parsed, checked by walk.rs, executed with functions.rs
//! data     the data of a template
//! counters the metrics
//! ```

mod counters;
mod data;
mod functions;
mod parse;
mod pattern;
mod text;
mod walk;

use std::{cell::LazyCell, collections::BTreeSet, pin::Pin, sync::Arc};

use regex::Regex;

pub use parse::parse;

use self::{
    counters::{Counters, FailureKind},
    data::{Match, MetadataValues},
    text::Text,
};
use super::{
    Block, Build, BuildError, Context, Describe, OnQuery, Plugin, Properties, Resolved, Setup,
    Step, ZoneList,
    alias::{self, AliasTarget},
    expression::{Expression, Facts, Value},
    metadata::Published,
};
use crate::{
    authority::text::TextRecord as Record,
    hooks,
    query::{Query, Question},
    reply::{ExtendedError, Owner, Reply, Section, Why},
    wire::{Class, Name, Rcode, Type},
};

/// The directive's name.
const NAME: &str = "template";

/// The templates of a block.
#[derive(Clone, Debug)]
pub struct Config {
    templates: Arc<[Template]>,
}

/// A parsed directive.
#[derive(Debug)]
struct Template {
    class: Class,
    rtype: Type,
    zones: ZoneList,
    /// The zones as text, for templates and metrics.
    labels: Vec<String>,
    /// At least one.
    patterns: Vec<Regex>,
    variables: Vec<(String, Expression)>,
    conditions: Vec<Expression>,
    /// By section.
    records: [Vec<Text>; 3],
    rcode: Rcode,
    error: Option<ExtendedError>,
    fallthrough: ZoneList,
    /// The fields of a match that the records use.
    uses: BTreeSet<&'static str>,
}

/// The outcome of a template for a question.
enum TemplateOutcome<'a> {
    Match(Match<'a>),
    /// The next template is tried.
    Next,
    /// The question gets SERVFAIL, with the cause if there was an error.
    Fail(Option<String>),
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(Templates {
            list: Arc::clone(&self.templates),
            published: build.offers.metadata.clone(),
            counters: Counters::new(build.metrics),
        }))
    }
}

/// The plugin.
pub struct Templates {
    list: Arc<[Template]>,
    published: Option<Arc<Published>>,
    counters: Counters,
}

hooks!(Templates, NAME => on_query; properties);

impl OnQuery for Templates {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let query = &*query;
        // Created when first used: most questions match no template.
        let name = LazyCell::new(|| query.question.lower.to_string());
        for template in self.list.iter() {
            let Some(zone) = template.covers(&query.question) else {
                continue;
            };
            let metadata = |label: &str| self.value(context.block, query, label);
            match template.find(query, &name, zone, &metadata) {
                TemplateOutcome::Match(found) => {
                    return self.answer(context, template, &found, reply);
                }
                TemplateOutcome::Next => {}
                TemplateOutcome::Fail(cause) => {
                    let why = if cause.is_some() {
                        Why::Internal
                    } else {
                        Why::NoPluginAnswered
                    };
                    reply.fail(Rcode::SERVFAIL, why);
                    reply.cause = cause.map(Into::into);
                    return Step::Answer;
                }
            }
        }
        Step::Pass
    }
}

impl Describe for Templates {
    fn properties(&self) -> Properties {
        Properties {
            other_classes: {
                let mut templates = self.list.iter();
                // A template for ANY does not request queries of other classes.
                templates.any(|template| !matches!(template.class, Class::IN | Class::ANY))
            },
            ..Properties::default()
        }
    }
}

impl Templates {
    /// The value of a metadata label for a query.
    fn value(&self, block: &Block, query: &Query, label: &str) -> Option<String> {
        self.published
            .as_ref()?
            .value(block.chain.plugins(), query, None, label)
    }

    /// Like [`value`](Self::value), as a function that templates can store.
    fn metadata(&self, block: &Arc<Block>, query: &Query) -> MetadataValues {
        let Some(published) = self.published.clone() else {
            return Arc::new(|_| String::new());
        };
        let (block, query) = (Arc::clone(block), query.clone());
        Arc::new(move |label| {
            published
                .value(block.chain.plugins(), &query, None, label)
                .unwrap_or_default()
        })
    }

    /// Writes the reply of a template for a match.
    fn answer(
        &self,
        context: &Context<'_>,
        template: &Template,
        found: &Match<'_>,
        reply: &mut Reply,
    ) -> Step {
        let block = context.block;
        self.counters
            .matched(block, found.zone, found.class, found.rtype);
        reply.fail(template.rcode, Why::Synthesized);
        reply.extended_error.clone_from(&template.error);
        if template.rcode == Rcode::SERVFAIL {
            return Step::Answer;
        }
        reply.authoritative = true;
        let data = found.data(&template.uses, || self.metadata(block, found.query));
        let mut aliases = Vec::new();
        for section in Section::ALL {
            for text in &template.records[section as usize] {
                let made = text
                    .execute(&data)
                    .map_err(|error| (FailureKind::Template, error));
                let record = made.and_then(|made| {
                    let record = Record::parse(&made);
                    record.map_err(|error| (FailureKind::Record, format!("'{made}': {error}")))
                });
                match record {
                    Ok(record) => {
                        let target = push(reply, section, &record, found.query);
                        aliases.extend(target.map(|target| (reply.section(section).len(), target)));
                    }
                    Err((failure, error)) => {
                        let source = text.source();
                        self.counters.failed(block, found, section, source, failure);
                        reply.fail(Rcode::SERVFAIL, Why::Internal);
                        reply.cause = Some(format!("template \"{source}\": {error}").into());
                        return Step::Answer;
                    }
                }
            }
        }
        if aliases.is_empty() {
            return Step::Answer;
        }
        let asked = found.query.question.rtype;
        let followed = aliases.into_iter().map(|(preceding, target)| Followed {
            preceding,
            target: Box::pin(alias::resolve(context, found.query, target)),
        });
        let (made, followed) = (std::mem::take(reply), followed.collect());
        Step::Wait(Box::pin(async move {
            Resolved::Answer(follow(asked, made, followed).await)
        }))
    }
}

impl Template {
    /// The longest zone of this template that contains the question's name, if class and type
    /// match.
    fn covers(&self, question: &Question) -> Option<&str> {
        let is_class = self.class == Class::ANY
            || question.class == Class::ANY
            || self.class == question.class;
        let is_type =
            self.rtype == Type::ANY || question.rtype == Type::ANY || self.rtype == question.rtype;
        if !is_class || !is_type {
            return None;
        }
        let name = question.lower.as_ref();
        let zones = self.zones.names().iter().zip(&self.labels);
        zones
            .filter(|(zone, _)| name.is_under(zone.as_ref()))
            .max_by_key(|(zone, _)| zone.as_ref().label_count())
            .map(|(_, label)| label.as_str())
    }

    /// Matches a question in this zone.
    fn find<'a>(
        &'a self,
        query: &'a Query,
        name: &'a str,
        zone: &'a str,
        metadata: &dyn Fn(&str) -> Option<String>,
    ) -> TemplateOutcome<'a> {
        let missed = || {
            if self.fallthrough.covers(query.question.lower.as_ref()) {
                TemplateOutcome::Next
            } else {
                TemplateOutcome::Fail(None)
            }
        };
        let Some((regex, groups)) = self.groups(name) else {
            return missed();
        };
        let question = &query.question;
        let mut found = Match {
            query,
            name,
            zone,
            regex,
            groups,
            class: specific(question.class, Class::ANY, self.class),
            rtype: specific(question.rtype, Type::ANY, self.rtype),
            variables: Vec::new(),
        };
        match self.evaluate(&found, metadata) {
            Ok(Some(variables)) => {
                found.variables = variables;
                TemplateOutcome::Match(found)
            }
            Ok(None) => missed(),
            Err(error) => TemplateOutcome::Fail(Some(error)),
        }
    }

    /// The first pattern that matches a name, and its groups.
    fn groups<'a>(&'a self, name: &'a str) -> Option<(&'a Regex, Vec<&'a str>)> {
        self.patterns.iter().find_map(|regex| {
            let captures = regex.captures(name)?;
            let groups = captures.iter();
            let groups = groups.map(|group| group.map_or("", |group| group.as_str()));
            Some((regex, groups.collect()))
        })
    }

    /// The values of the variables, or `None` if a condition is not true.
    fn evaluate<'a>(
        &'a self,
        found: &Match<'_>,
        metadata: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Vec<(&'a str, Value)>>, String> {
        let mut variables = Vec::with_capacity(self.variables.len());
        if self.variables.is_empty() && self.conditions.is_empty() {
            return Ok(Some(variables));
        }
        let groups = |group: &str| found.group(group).map(str::to_owned);
        let mut facts = Facts::new(found.query)
            .with_metadata(metadata)
            .with_groups(&groups);
        for (name, expression) in &self.variables {
            let value = expression.value(&facts);
            let value = value.map_err(|error| format!("template var {name}: {error}"))?;
            facts.set(name, value.clone());
            variables.push((name.as_str(), value));
        }
        for condition in &self.conditions {
            match condition.value(&facts) {
                Ok(Value::Bool(true)) => {}
                Ok(_) => return Ok(None),
                Err(error) => return Err(format!("template expr {condition:?}: {error}")),
            }
        }
        Ok(Some(variables))
    }

    /// The output of a text for a sample question.
    fn sample(&self, text: &Text) -> Result<String, String> {
        let zone = self.zones.names().first().copied().unwrap_or(Name::ROOT);
        let name = Name::from_labels([&b"sample"[..]], zone.as_ref()).unwrap_or(zone);
        let rtype = specific(Type::ANY, Type::ANY, self.rtype);
        let rtype = specific(rtype, Type::ANY, Type::A);
        let class = specific(self.class, Class::ANY, Class::IN);
        let query = Query::internal(Question::new(name, rtype, class));
        let every = pattern::every_name();
        let found = Match {
            query: &query,
            name: &query.question.lower.to_string(),
            zone: self.labels.first().map_or(".", String::as_str),
            regex: &every,
            groups: Vec::new(),
            class,
            rtype,
            variables: Vec::new(),
        };
        let uses = text.uses().collect();
        text.execute(&found.data(&uses, || Arc::new(|_| String::new())))
    }
}

/// The question's value, or the template's if the question's is ANY.
fn specific<T: PartialEq + Copy>(asked: T, any: T, otherwise: T) -> T {
    if asked == any { otherwise } else { asked }
}

/// Adds a record to a reply. Returns the target to resolve, for a CNAME record in an answer to an A
/// or AAAA question.
fn push(reply: &mut Reply, section: Section, record: &Record, query: &Query) -> Option<Name> {
    let question = &query.question;
    let owner = if record.owner.as_ref().eq_ignore_case(question.name.as_ref()) {
        Owner::Question
    } else {
        Owner::Name(record.owner.as_ref())
    };
    let data = crate::reply::Data::Raw(&record.data);
    reply.push(section, owner, record.rtype, record.ttl, data);
    if let Some(last) = reply.section_mut(section).last_mut() {
        last.class = record.class;
    }
    let is_followed = section == Section::Answer
        && record.rtype == Type::CNAME
        && matches!(question.rtype, Type::A | Type::AAAA);
    is_followed
        .then(|| Name::from_wire(&record.data).ok())
        .flatten()
}

/// A CNAME record whose target is being resolved.
struct Followed {
    /// Number of the template's own records that precede those of the target.
    preceding: usize,
    target: Pin<Box<dyn Future<Output = AliasTarget> + Send>>,
}

/// Inserts the records of CNAME targets, each after its alias. If none of the targets has data, the
/// first one without data determines the response code (RFC 6604 section 3).
async fn follow(asked: Type, made: Reply, followed: Vec<Followed>) -> Reply {
    let mut reply = Reply::failure(made.rcode, made.why);
    reply.authoritative = made.authoritative;
    reply.extended_error.clone_from(&made.extended_error);
    let mut copied = 0;
    let mut dead_end = None;
    for alias in followed {
        copy(&mut reply, &made, copied..alias.preceding);
        copied = alias.preceding;
        let target = alias.target.await;
        target.append_to(&mut reply);
        if target.is_dead_end() {
            dead_end.get_or_insert(target);
        }
    }
    copy(
        &mut reply,
        &made,
        copied..made.section(Section::Answer).len(),
    );
    for section in [Section::Authority, Section::Additional] {
        reply.push_all_from(section, Owner::Question, &made);
    }
    if let Some(target) = dead_end.filter(|_| !reply.answers(asked)) {
        target.end(&mut reply);
    }
    reply
}

fn copy(reply: &mut Reply, made: &Reply, range: std::ops::Range<usize>) {
    for record in &made.section(Section::Answer)[range] {
        reply.push_from(Section::Answer, Owner::Question, made, record);
    }
}

#[cfg(test)]
mod tests;
