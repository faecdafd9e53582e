//! `local`: answers queries for names of the local host, which should not have left the client (RFC
//! 6761 section 6.3).
//!
//! ```text
//! local {
//!     localhost_prefix on|off
//! }
//! ```
//!
//! Answers `localhost` and all names under it (RFC 6761 section 6.3), names that begin with
//! `localhost.` (products of a resolver's search list), and the reverse zones 0, 127 and
//! 255.in-addr.arpa (RFC 6303 section 4.2, RFC 1912 section 4.1).

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{Build, BuildError, Context, OnQuery, ParseErrors, Parsing, Plugin, Setup, Step};
use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Property, unknown_property},
    hooks,
    metrics::ShardedCounter,
    query::Query,
    reply::{Data, Owner, Reply, Section, Soa, Why},
    wire::{Class, Name, NameRef, Rcode, Type},
};

/// The directive's name.
const NAME: &str = "local";
/// TTL of all records in seconds: a week.
const TTL: u32 = 604_800;
/// The zones, in lower case.
const ZONES: [&str; 4] = [
    "localhost.",
    "0.in-addr.arpa.",
    "127.in-addr.arpa.",
    "255.in-addr.arpa.",
];

/// The parsed directives of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether names that begin with `localhost.` are answered.
    pub prefix: bool,
}

/// Parses the directives of a block as one.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut config = Config { prefix: true };
    let mut errors = ErrorList::default();
    for directive in uses {
        errors.catch(directive.no_arguments());
        for line in directive.properties() {
            config.prefix = errors.catch(prefix(line)).unwrap_or(config.prefix);
        }
    }
    errors.in_plugin(NAME).into_result(config)
}

fn prefix(line: &Property) -> Result<bool, Diagnostic> {
    if *line.name() != "localhost_prefix" {
        return Err(unknown_property(line.name(), &["localhost_prefix"]));
    }
    let [word] = line.arguments().exactly("on or off")?;
    word.one_of(&[("on", true), ("off", false)])
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let asked = &build.metrics.plugins.local_localhost_requests_total;
        Ok(Plugin::from(Local::new(*self, asked.with(&[]))))
    }
}

/// The plugin.
pub struct Local {
    config: Config,
    zones: [Name; ZONES.len()],
    loopback: Name,
    mailbox: Name,
    /// Counts questions for names under `localhost` or beginning with it.
    asked: Arc<ShardedCounter>,
}

impl Local {
    fn new(config: Config, asked: Arc<ShardedCounter>) -> Self {
        let name = |text: &str| Name::parse(text).expect("a name");
        Self {
            config,
            zones: ZONES.map(name),
            loopback: name("1.0.0.127.in-addr.arpa."),
            mailbox: name("root.localhost."),
            asked,
        }
    }

    fn localhost(&self) -> &Name {
        &self.zones[0]
    }

    /// Whether a name is below `localhost`, or has it as its first label.
    fn is_localhosts(&self, name: NameRef<'_>) -> bool {
        let localhost = self.localhost().as_ref();
        let labels = name.label_count();
        let begins = || name.labels().next() == localhost.labels().next();
        labels > 1 && (name.is_under(localhost) || (self.config.prefix && begins()))
    }

    /// Writes the loopback address of the type, if there is one; returns whether there is.
    fn addresses(rtype: Type, reply: &mut Reply) -> bool {
        let data = match rtype {
            Type::A => Data::A(Ipv4Addr::LOCALHOST),
            Type::AAAA => Data::Aaaa(Ipv6Addr::LOCALHOST),
            _ => return false,
        };
        reply.answer(rtype, TTL, data);
        true
    }

    fn soa(&self) -> Data<'_> {
        Data::Soa(Soa {
            primary: self.localhost().as_ref(),
            mailbox: self.mailbox.as_ref(),
            serial: 1,
            refresh: 0,
            retry: 0,
            expire: 0,
            minimum: TTL,
        })
    }

    /// Writes the answer for the apex of a zone, if there is one; returns whether there is.
    fn apex(&self, rtype: Type, reply: &mut Reply) -> bool {
        match rtype {
            Type::SOA => reply.answer(rtype, TTL, self.soa()),
            Type::NS => reply.answer(rtype, TTL, Data::Name(self.localhost().as_ref())),
            _ => return false,
        }
        true
    }
}

hooks!(Local, NAME => on_query);

impl OnQuery for Local {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let question = &query.question;
        if question.class != Class::IN {
            return Step::Pass;
        }
        let name = question.lower.as_ref();
        let rtype = question.rtype;
        // Owner of the SOA record in a denial (RFC 2308 section 2): the zone's apex, or the name
        // itself for names beginning with `localhost`.
        let mut denied_by = Owner::Question;
        let answered = if self.is_localhosts(name) {
            self.asked.inc();
            Self::addresses(rtype, reply)
        } else {
            let mut zones = self.zones.iter();
            let Some(zone) = zones.find(|zone| name.is_under(zone.as_ref())) else {
                return Step::Pass;
            };
            if question.lower == *zone {
                let is_localhost = zone == self.localhost();
                (is_localhost && Self::addresses(rtype, reply)) || self.apex(rtype, reply)
            } else {
                denied_by = Owner::Name(zone.as_ref());
                let is_loopback = question.lower == self.loopback;
                if !is_loopback {
                    reply.rcode = Rcode::NXDOMAIN;
                } else if rtype == Type::PTR {
                    reply.answer(rtype, TTL, Data::Name(self.localhost().as_ref()));
                }
                is_loopback && rtype == Type::PTR
            }
        };
        reply.why = Why::Synthesized;
        if !answered {
            reply.push(Section::Authority, denied_by, Type::SOA, TTL, self.soa());
        }
        Step::Answer
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::plugin::testing::{self, TestBlock};

    /// The code, the records and the owner of the SOA record in the authority, if there is one.
    fn ask(prefix: bool, name: &str, rtype: Type) -> String {
        let local = Local::new(Config { prefix }, Arc::default());
        let mut reply = Reply::default();
        let mut query = testing::query(name, rtype);
        match local.on_query(
            &TestBlock::new(Vec::new()).context(),
            &mut query,
            &mut reply,
        ) {
            Step::Answer => {}
            _ => return "pass".to_owned(),
        }
        let mut text = reply.rcode.to_string();
        for record in reply.records() {
            let owner = match reply.owner(record) {
                Owner::Question => "@".to_owned(),
                Owner::Name(name) => name.to_string(),
            };
            assert_eq!(record.ttl, TTL);
            write!(text, " {owner} {}", record.rtype).unwrap();
        }
        format!("{text} {}", local.asked.get())
    }

    #[test]
    fn names_of_the_local_host_are_answered() {
        for (name, rtype, wanted) in [
            ("LocalHost", Type::A, "NOERROR @ A 0"),
            ("localhost", Type::AAAA, "NOERROR @ AAAA 0"),
            ("localhost", Type::SOA, "NOERROR @ SOA 0"),
            ("localhost", Type::NS, "NOERROR @ NS 0"),
            ("localhost", Type::MX, "NOERROR @ SOA 0"),
            ("a.b.localhost", Type::A, "NOERROR @ A 1"),
            ("a.b.localhost", Type::SOA, "NOERROR @ SOA 1"),
            ("localhost.example.org", Type::AAAA, "NOERROR @ AAAA 1"),
            ("localhosts.example.org", Type::A, "pass"),
            ("a.localhost.example.org", Type::A, "pass"),
            ("127.in-addr.arpa", Type::SOA, "NOERROR @ SOA 0"),
            ("127.in-addr.arpa", Type::A, "NOERROR @ SOA 0"),
            ("1.0.0.127.in-addr.arpa", Type::PTR, "NOERROR @ PTR 0"),
            (
                "1.0.0.127.in-addr.arpa",
                Type::A,
                "NOERROR 127.in-addr.arpa. SOA 0",
            ),
            (
                "2.0.0.127.in-addr.arpa",
                Type::PTR,
                "NXDOMAIN 127.in-addr.arpa. SOA 0",
            ),
            (
                "1.2.3.255.in-addr.arpa",
                Type::PTR,
                "NXDOMAIN 255.in-addr.arpa. SOA 0",
            ),
            ("1.2.3.10.in-addr.arpa", Type::PTR, "pass"),
            (".", Type::A, "pass"),
        ] {
            assert_eq!(ask(true, name, rtype), wanted, "{name} {rtype}");
        }
        assert_eq!(ask(false, "localhost.example.org", Type::A), "pass");
        assert_eq!(ask(false, "a.localhost", Type::A), "NOERROR @ A 1");
    }

    #[test]
    fn the_prefix_can_be_turned_off() {
        let read = |text: &str| testing::read(text, ".", parse);
        assert!(read("local").unwrap().0.prefix);
        assert!(!read("local {\nlocalhost_prefix off\n}").unwrap().0.prefix);
        for (text, words) in [
            ("local x", "takes no argument"),
            ("local {\nlocalhost_prefix\n}", "expected on or off"),
            ("local {\nlocalhost_prefix no\n}", "on"),
            ("local {\nprefix on\n}", "unknown property"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
