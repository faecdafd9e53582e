//! `log`: a line for each query.
//!
//! ```text
//! log [NAMES...] [FORMAT] {
//!     class all|success|denial|error...
//! }
//! ```
//!
//! The first rule whose name the question lies under decides; later ones are not looked at.

pub mod format;

use std::sync::Arc;

use crate::{
    corefile::{Arguments, Diagnostic, Directive, Line, Problems, Word, unknown_property},
    logging::{self, Sink},
    plugin::{Block, Build, BuildError, Plugin, Setup, Written, metadata::Published},
    query::Query,
    reply::Reply,
    wire::{Name, Opcode, Rcode, Type},
};

pub use format::{COMMON, Format};

/// The rules of a server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// In the order of the file.
    pub rules: Vec<Rule>,
}

/// What is logged for the names of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The zone, in lower case.
    pub zone: Name,
    /// What the line looks like.
    pub format: Arc<Format>,
    /// Which replies are logged.
    pub classes: Classes,
}

/// A set of [`Class`]es.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes(u8);

/// How a query went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// There was an answer.
    Success = 1,
    /// There is no such name or type, and the zone vouches for that.
    Denial = 2,
    /// All else.
    Error = 4,
}

impl Classes {
    /// Every reply.
    pub const ALL: Self = Self(7);

    /// Whether the set has it.
    pub fn contains(self, class: Class) -> bool {
        self.0 & class as u8 != 0
    }
}

impl Class {
    /// The class of a reply, by what it holds as well as by its code.
    pub fn of(query: &Query, reply: &Reply) -> Self {
        let transfer = matches!(query.asked.rtype, Type::AXFR | Type::IXFR);
        if query.opcode != Opcode::QUERY || transfer {
            return Self::Error;
        }
        match reply.rcode {
            Rcode::NOERROR if reply.answers(query.asked.rtype) => Self::Success,
            Rcode::NOERROR | Rcode::NXDOMAIN if reply.has_authority(Type::SOA) => Self::Denial,
            Rcode::NOERROR => Self::Success,
            _ => Self::Error,
        }
    }
}

/// Reads every `log` of a server block.
pub fn parse(directives: &[&Directive]) -> Result<Config, Vec<Diagnostic>> {
    let mut config = Config { rules: Vec::new() };
    let mut problems = Problems::default();
    for directive in directives {
        match rules(directive) {
            Ok(rules) => config.rules.extend(rules),
            Err(found) => problems.extend(found),
        }
    }
    problems.in_plugin("log").into_result(config)
}

fn rules(directive: &Directive) -> Result<Vec<Rule>, Vec<Diagnostic>> {
    let mut words = directive.arguments().rest();
    let mut format = COMMON;
    if let [names @ .., last] = words
        && last.contains('{')
    {
        if names.is_empty() {
            let refused = last
                .error(format!("'{last}' stands where a name is expected"))
                .expected("a name, or a name and a format")
                .help(format!("write log . '{last}' to log every name so"));
            return Err(vec![refused]);
        }
        (words, format) = (names, last.as_str());
    }
    let mut problems = Problems::default();
    let zones = problems.catch(zones(words)).unwrap_or_default();
    let mut classes = 0;
    for line in directive.properties() {
        classes |= problems.catch(class(line)).unwrap_or_default();
    }
    let zones = problems.into_result(zones)?;
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

fn class(line: &Line) -> Result<u8, Diagnostic> {
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
    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let mut log = Log::new(self, logging::sink().clone());
        log.published = build.offered();
        Ok(Arc::new(log))
    }
}

/// The plugin.
pub struct Log {
    rules: Box<[Rule]>,
    sink: Sink,
    /// What `{/LABEL}` is read from.
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

impl Plugin for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn observes(&self) -> bool {
        true
    }

    fn wrote(&self, block: &Block, query: &Query, reply: &Reply, written: Written) {
        let name = query.asked.lower.as_ref();
        let mut rules = self.rules.iter();
        let Some(rule) = rules.find(|rule| name.is_under(rule.zone.as_ref())) else {
            return;
        };
        if rule.classes == Classes::ALL || rule.classes.contains(Class::of(query, reply)) {
            let metadata = |label: &str| {
                let published = self.published.as_ref()?;
                published.value_after(&block.chain, query, reply, label)
            };
            logging::with_line(|line| {
                line.extend_from_slice(b"[INFO] ");
                rule.format.write(line, query, reply, written, metadata);
                self.sink.push(line);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        corefile,
        logging::Page,
        plugin::testing::Place,
        query::Question,
        reply::{Data, Owner, Section, Soa, Why},
        wire,
    };

    fn parsed(text: &str) -> Result<Config, Vec<String>> {
        let text = format!(". {{\n{text}\n}}\n");
        let file = corefile::parse("Corefile", &text, &["log"], &corefile::Memory::default());
        let file = file.unwrap();
        let directives: Vec<_> = file.blocks[0].directives.iter().collect();
        parse(&directives).map_err(|refused| refused.into_iter().map(|one| one.message).collect())
    }

    #[test]
    fn lines_of_a_corefile() {
        let rule = |zone: &str, format: &str, classes| Rule {
            zone: Name::parse(zone).unwrap(),
            format: Arc::new(Format::new(format)),
            classes,
        };
        let all = Classes::ALL;
        for (text, wanted) in [
            ("log", vec![rule(".", COMMON, all)]),
            ("log Example.ORG", vec![rule("example.org.", COMMON, all)]),
            (
                "log a b",
                vec![rule("a.", COMMON, all), rule("b.", COMMON, all)],
            ),
            (
                "log . \"{type} {name}\"",
                vec![rule(".", "{type} {name}", all)],
            ),
            (
                "log a b {combined}",
                vec![rule("a.", "{combined}", all), rule("b.", "{combined}", all)],
            ),
            ("log {\nclass error\n}", vec![rule(".", COMMON, Classes(4))]),
            (
                "log {\nclass denial\nclass success\n}",
                vec![rule(".", COMMON, Classes(3))],
            ),
            (
                "log a {\nclass error all\n}\nlog b",
                vec![rule("a.", COMMON, all), rule("b.", COMMON, all)],
            ),
        ] {
            assert_eq!(parsed(text).unwrap().rules, wanted, "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (text, wanted) in [
            ("log {common}", "'{common}' stands where a name is expected"),
            ("log a..b", "a..b"),
            ("log {\nclass\n}", "Wrong argument count"),
            ("log {\nclass eror\n}", "unknown value 'eror'"),
            ("log {\nclasses all\n}", "unknown property 'classes'"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(
                refused.iter().any(|one| one.contains(wanted)),
                "{text}: {refused:?}"
            );
        }
        assert_eq!(parsed("log {\nclass x\nclass y\n}").unwrap_err().len(), 2);
    }

    fn question(name: &str) -> Query {
        let name = Name::parse(name).unwrap();
        Query::internal(Question::new(name, Type::A, wire::Class::IN))
    }

    fn soa(reply: &mut Reply) {
        let root = Name::ROOT;
        let soa = Soa {
            primary: root.as_ref(),
            mailbox: root.as_ref(),
            serial: 1,
            refresh: 1,
            retry: 1,
            expire: 1,
            minimum: 1,
        };
        reply.push(
            Section::Authority,
            Owner::Name(root.as_ref()),
            Type::SOA,
            5,
            Data::Soa(soa),
        );
    }

    #[test]
    fn classes_follow_what_a_reply_holds() {
        let query = question("a.");
        let mut reply = Reply::default();
        assert_eq!(Class::of(&query, &reply), Class::Success);
        soa(&mut reply);
        assert_eq!(Class::of(&query, &reply), Class::Denial);
        reply.rcode = Rcode::NXDOMAIN;
        assert_eq!(Class::of(&query, &reply), Class::Denial);
        reply.rcode = Rcode::SERVFAIL;
        assert_eq!(Class::of(&query, &reply), Class::Error);
        let bare = Reply::failure(Rcode::NXDOMAIN, Why::Upstream);
        assert_eq!(Class::of(&query, &bare), Class::Error);
        let mut answered = Reply::default();
        answered.answer(Type::A, 5, Data::A([10, 0, 0, 1].into()));
        soa(&mut answered);
        assert_eq!(Class::of(&query, &answered), Class::Success);
        // An alias that ends without data of the type is no answer.
        let mut alias = Reply::default();
        alias.answer(Type::CNAME, 5, Data::Name(Name::ROOT.as_ref()));
        assert_eq!(Class::of(&query, &alias), Class::Success);
        soa(&mut alias);
        assert_eq!(Class::of(&query, &alias), Class::Denial);
    }

    #[test]
    fn the_first_rule_for_the_name_decides() {
        let config = parsed("log quiet. {\nclass error\n}\nlog . \"{name} {rcode}\"").unwrap();
        let page = Page::default();
        let sink = page.sink();
        let log: Arc<dyn Plugin> = Arc::new(Log::new(&config, sink.clone()));
        let place = Place::new(vec![log]);
        let written = Written {
            octets: 30,
            truncated: false,
            took: Duration::from_millis(1),
        };
        for (name, rcode) in [
            ("A.quiet.", Rcode::NOERROR),
            ("b.Loud.", Rcode::NOERROR),
            ("c.quiet.", Rcode::REFUSED),
        ] {
            let reply = Reply::failure(rcode, Why::Upstream);
            let Place { block, .. } = &place;
            block.chain.wrote(block, &question(name), &reply, written);
        }
        assert_eq!(
            page.read(&sink),
            "[INFO] b.loud. NOERROR\n\
             [INFO] 127.0.0.1:0 - 0 \"A IN c.quiet. udp 0 false 512\" REFUSED qr,rd 30 0.001s\n"
        );
    }
}
