//! `log`: a line for each query.
//!
//! ```text
//! log [NAMES...] [FORMAT] {
//!     class all|success|denial|error...
//! }
//! ```
//!
//! The first rule whose name the question lies under decides; later ones are not looked at. What is
//! dropped (`acl`, `erratic`) has a line too, of the class `error`.
//!
//! ```text
//! format  what a line looks like
//! kind    the kind and the class of a reply
//! record  what a record in JSON has beside it
//! ```

pub mod format;
mod kind;
mod record;

use std::{sync::Arc, time::Duration};

use crate::{
    corefile::{Arguments, Diagnostic, Directive, Line, Problems, Word, unknown_property},
    logging::{self, Sink},
    plugin::{Block, Build, BuildError, Plugin, Setup, Written, metadata::Published},
    query::Query,
    reply::Reply,
    wire::Name,
};

pub use format::{COMMON, Format, Outcome};
pub use kind::{Class, Kind};

/// The labels of metadata that it makes once a reply is there: `denial` and `NODATA` of it.
const CLASS: &str = "log/class";
const TYPE: &str = "log/type";

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

impl Classes {
    /// Every reply.
    pub const ALL: Self = Self(7);

    /// Whether the set has it.
    pub fn contains(self, class: Class) -> bool {
        self.0 & class as u8 != 0
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

impl Log {
    fn log(&self, query: &Query, outcome: Outcome<'_>, metadata: impl Fn(&str) -> Option<String>) {
        let name = query.asked.lower.as_ref();
        let mut rules = self.rules.iter();
        let Some(rule) = rules.find(|rule| name.is_under(rule.zone.as_ref())) else {
            return;
        };
        let class = || match outcome {
            Outcome::Sent(reply, _) => Kind::of(query, reply).class(),
            Outcome::Dropped(_) | Outcome::Pending => Class::Error,
        };
        if rule.classes == Classes::ALL || rule.classes.contains(class()) {
            self.sink.query(
                |line| rule.format.write(line, query, outcome, metadata),
                |record| record::fields(record, query, outcome),
            );
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
        let outcome = Outcome::Sent(reply, written);
        self.log(query, outcome, |label| {
            let published = self.published.as_ref()?;
            published.value_after(&block.chain, query, reply, label)
        });
    }

    fn dropped(&self, block: &Block, query: &Query, took: Duration) {
        self.log(query, Outcome::Dropped(took), |label| {
            let published = self.published.as_ref()?;
            let own = label_of(Kind::OtherError, label);
            own.or_else(|| published.value(&block.chain, query, label))
        });
    }

    fn metadata_after(&self, query: &Query, reply: &Reply, label: &str) -> Option<String> {
        label_of(Kind::of(query, reply), label)
    }
}

/// What is known of a reply of this kind.
fn label_of(kind: Kind, label: &str) -> Option<String> {
    match label {
        CLASS => Some(kind.class().to_string()),
        TYPE => Some(kind.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        corefile,
        logging::Page,
        plugin::{ZoneList, testing::Place},
        query::Question,
        reply::Why,
        wire::{self, Rcode, Type},
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

    #[test]
    fn what_is_dropped_is_an_error_without_a_code() {
        let config = parsed(
            "log quiet. {\nclass success denial\n}\nlog . \"{common} {/log/class} {/log/type}\"",
        )
        .unwrap();
        let page = Page::default();
        let sink = page.sink();
        let mut log = Log::new(&config, sink.clone());
        log.published = Some(Arc::new(Published {
            zones: ZoneList::read_or_block(&[], &[".".to_owned()]).unwrap(),
        }));
        let place = Place::new(vec![Arc::new(log)]);
        for name in ["a.quiet.", "b."] {
            let Place { block, .. } = &place;
            let took = Duration::from_millis(2);
            block.chain.dropped(block, &question(name), took);
        }
        assert_eq!(
            page.read(&sink),
            "[INFO] 127.0.0.1:0 - 0 \"A IN b. udp 0 false 512\" - - 0 0.002s error OTHERERROR\n"
        );
    }

    #[test]
    fn a_record_has_the_line_and_its_fields() {
        let config = parsed("log . \"{name} \\\"{rcode}\\\"\"").unwrap();
        let page = Page::default();
        let sink = page.records();
        let place = Place::new(vec![Arc::new(Log::new(&config, sink.clone()))]);
        let Place { block, .. } = &place;
        let mut query = question("A\\\"b.");
        query.client = "[2001:db8::9]:4242".parse().unwrap();
        query.asked.rtype = Type(1234);
        query.asked.class = wire::Class(77);
        query.id = 7;
        query.size = 41;
        let reply = Reply::failure(Rcode(3841), Why::Upstream);
        let written = Written {
            octets: 30,
            truncated: false,
            took: Duration::from_micros(1500),
        };
        block.chain.wrote(block, &query, &reply, written);
        block.chain.dropped(block, &query, Duration::ZERO);
        let records = page.read(&sink);
        let asked = r#","plugin":"log","client_ip":"2001:db8::9","client_port":4242,"qname":"a\\\"b.","qtype":"TYPE1234","qclass":"CLASS77","protocol":"udp","id":7,"opcode":0,"request_size":41,"dnssec_ok":false,"bufsize":512,"rcode":"#;
        for (line, wanted) in records.lines().zip([
            format!(
                r#""level":"INFO","msg":"a\\\"b. \"3841\""{asked}"3841","response_size":30,"duration_seconds":0.0015}}"#
            ),
            format!(
                r#""level":"INFO","msg":"a\\\"b. \"-\""{asked}null,"response_size":0,"duration_seconds":0}}"#
            ),
        ]) {
            assert!(line.ends_with(&wanted), "{line}\n{wanted}");
        }
        assert_eq!(records.lines().count(), 2);
    }
}
