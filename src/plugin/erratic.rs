//! `erratic`: delays, truncates or drops responses, to test clients.
//!
//! ```text
//! erratic {
//!     drop [AMOUNT]
//!     truncate [AMOUNT]
//!     delay [AMOUNT [DURATION]]
//!     large
//! }
//! ```
//!
//! Every name has the addresses 192.0.2.53 and 2001:db8::53, and a small zone to transfer over a
//! stream; all other types fail. Each AMOUNTth query, from the first one on, is dropped, answered with
//! TC set, or delayed. No query passes to the next plugin.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{
    Build, BuildError, Context, OnQuery, ParseErrors, Parsing, Plugin, ReadinessCheck, Resolved,
    Setup, Step,
};
use crate::{
    corefile::{Arguments, Diagnostic, Directive, ErrorList, Property, Word, unknown_property},
    hooks,
    query::Query,
    reply::{Data, Owner, Reply, Section, Soa, Why},
    wire::{Name, Rcode, Type},
};

/// The name of the plugin in a Corefile.
const NAME: &str = "erratic";
/// The addresses of every name, from the documentation prefixes (RFC 5737, RFC 3849).
const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);
/// A records of a large answer, which does not fit into 512 bytes.
const LARGE: usize = 30;
/// The default amount.
const AMOUNT: u64 = 2;
/// The default delay.
const DELAY: Duration = Duration::from_millis(100);

/// The options of a block. An amount of 0 turns its fault off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Each `drop`th query is dropped.
    pub drop: u64,
    /// Each `truncate`th response is truncated.
    pub truncate: u64,
    /// Each `delay`th response is delayed.
    pub delay: u64,
    /// How long it is delayed.
    pub duration: Duration,
    /// Whether responses for A are large.
    pub large: bool,
}

/// Reads the directives of a block; later ones override earlier ones.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut config = Config::default();
    let mut drop = None;
    let mut errors = ErrorList::default();
    for directive in uses {
        errors.catch(directive.no_arguments());
        for line in directive.properties() {
            errors.catch(property(line, &mut config, &mut drop));
        }
    }
    // Without `delay`, `truncate` and `drop`, every other query is dropped.
    let otherwise = if config.delay > 0 || config.truncate > 0 {
        0
    } else {
        AMOUNT
    };
    config.drop = drop.unwrap_or(otherwise);
    errors.in_plugin(NAME).into_result(config)
}

fn property(
    line: &Property,
    config: &mut Config,
    drop: &mut Option<u64>,
) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    match line.name().as_str() {
        "drop" => *drop = amount(&mut arguments)?.or(*drop),
        "truncate" => config.truncate = amount(&mut arguments)?.unwrap_or(AMOUNT),
        "delay" => {
            config.delay = amount(&mut arguments)?.unwrap_or(AMOUNT);
            let duration = arguments.next().map(Word::duration).transpose()?;
            config.duration = duration.unwrap_or(DELAY);
        }
        "large" => config.large = true,
        _ => {
            let known = ["drop", "truncate", "delay", "large"];
            return Err(unknown_property(line.name(), &known));
        }
    }
    arguments.none_left()
}

fn amount(arguments: &mut Arguments<'_>) -> Result<Option<u64>, Diagnostic> {
    let word = arguments.next();
    word.map(|word| word.integer(0..=u64::from(i32::MAX.unsigned_abs())))
        .transpose()
}

impl Setup for Config {
    fn build(&self, _: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(Erratic {
            config: *self,
            count: AtomicU64::new(0),
        }))
    }
}

/// The plugin.
pub struct Erratic {
    config: Config,
    /// Queries so far.
    count: AtomicU64,
}

hooks!(Erratic, NAME => on_query, readiness);

impl OnQuery for Erratic {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let number = self.count.fetch_add(1, Relaxed);
        let is_turn = |amount: u64| amount > 0 && number.is_multiple_of(amount);
        let config = &self.config;
        if is_turn(config.drop) {
            return Step::Drop;
        }
        self.answer(query, is_turn(config.truncate), reply);
        if !is_turn(config.delay) || config.duration.is_zero() {
            return Step::Answer;
        }
        let (late, duration) = (std::mem::take(reply), config.duration);
        Step::Wait(Box::pin(async move {
            tokio::time::sleep(duration).await;
            Resolved::Answer(late)
        }))
    }
}

impl ReadinessCheck for Erratic {
    /// Alternates, to test readiness probes: ready after three queries, for two.
    fn is_ready(&self) -> bool {
        (3..5).contains(&self.count.load(Relaxed))
    }
}

impl Erratic {
    fn answer(&self, query: &Query, truncated: bool, reply: &mut Reply) {
        reply.why = Why::Synthesized;
        reply.authoritative = true;
        match query.question.rtype {
            Type::A => {
                let count = if self.config.large { LARGE } else { 1 };
                for _ in 0..count {
                    reply.answer(Type::A, 0, Data::A(V4));
                }
            }
            Type::AAAA => reply.answer(Type::AAAA, 0, Data::Aaaa(V6)),
            Type::AXFR if query.takes_several_messages() => {
                zone(&query.question.name, truncated, reply);
                return;
            }
            _ => return reply.fail(Rcode::SERVFAIL, Why::Synthesized),
        }
        reply.truncated = truncated;
    }
}

/// A small zone of this name; without its final SOA record if `truncated`.
fn zone(apex: &Name, truncated: bool, reply: &mut Reply) {
    // Names of 255 bytes have no names below them.
    let below = |label: &[u8]| Name::from_labels([label], apex.as_ref()).unwrap_or(*apex);
    let servers = [below(b"b"), below(b"a")];
    let mailbox = below(b"noc");
    let soa = Data::Soa(Soa {
        primary: servers[1].as_ref(),
        mailbox: mailbox.as_ref(),
        serial: 2_018_050_825,
        refresh: 7200,
        retry: 3600,
        expire: 1_209_600,
        minimum: 3600,
    });
    reply.answer(Type::SOA, 0, soa);
    for server in &servers {
        reply.answer(Type::NS, 0, Data::Name(server.as_ref()));
    }
    for server in &servers {
        let owner = Owner::Name(server.as_ref());
        reply.push(Section::Answer, owner, Type::AAAA, 0, Data::Aaaa(V6));
    }
    if !truncated {
        reply.answer(Type::SOA, 0, soa);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plugin::testing::{self, TestBlock},
        query::Transport,
    };

    fn erratic(text: &str) -> Erratic {
        let (config, _) = testing::read(text, ".", parse).unwrap();
        Erratic {
            config,
            count: AtomicU64::new(0),
        }
    }

    /// The results of four queries for A: dropped, late, cut, or the number of records.
    fn four(text: &str) -> Vec<String> {
        let plugin = erratic(text);
        let ask = |_| {
            let mut reply = Reply::default();
            let mut query = testing::query("example.org", Type::A);
            match plugin.on_query(
                &TestBlock::new(Vec::new()).context(),
                &mut query,
                &mut reply,
            ) {
                Step::Drop => "dropped".to_owned(),
                Step::Forward(_) | Step::Wait(_) => "late".to_owned(),
                Step::Answer if reply.truncated => "cut".to_owned(),
                Step::Answer => reply.section(Section::Answer).len().to_string(),
                Step::Pass => "passed on".to_owned(),
            }
        };
        (0..4).map(ask).collect()
    }

    #[test]
    fn queries_are_treated_in_turns() {
        for (text, wanted) in [
            ("erratic", ["dropped", "1", "dropped", "1"]),
            ("erratic {\nlarge\n}", ["dropped", "30", "dropped", "30"]),
            ("erratic {\ndrop 3\n}", ["dropped", "1", "1", "dropped"]),
            ("erratic {\ndrop 0\n}", ["1", "1", "1", "1"]),
            ("erratic {\ntruncate\n}", ["cut", "1", "cut", "1"]),
            ("erratic {\ndelay 3 1ms\n}", ["late", "1", "1", "late"]),
            ("erratic {\ndelay 2 0s\n}", ["1", "1", "1", "1"]),
            (
                "erratic {\ndrop 2\ntruncate 3\n}",
                ["dropped", "1", "dropped", "cut"],
            ),
        ] {
            assert_eq!(four(text), wanted, "{text}");
        }
    }

    #[test]
    fn it_is_ready_for_a_while() {
        let plugin = erratic("erratic {\ndrop 0\n}");
        let readiness: Vec<bool> = (0..6)
            .map(|_| {
                let ready = plugin.is_ready();
                let mut query = testing::query(".", Type::A);
                plugin.on_query(
                    &TestBlock::new(Vec::new()).context(),
                    &mut query,
                    &mut Reply::default(),
                );
                ready
            })
            .collect();
        assert_eq!(readiness, [false, false, false, true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_query_is_answered() {
        let plugin = erratic("erratic {\ndelay 1 3s\n}");
        let start = tokio::time::Instant::now();
        let mut query = testing::query(".", Type::AAAA);
        let step = plugin.on_query(
            &TestBlock::new(Vec::new()).context(),
            &mut query,
            &mut Reply::default(),
        );
        let Step::Wait(pending) = step else {
            panic!("{step:?}");
        };
        let Resolved::Answer(reply) = pending.await else {
            panic!("an answer was made");
        };
        assert_eq!(reply.section(Section::Answer).len(), 1);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[test]
    fn zones_end_unless_they_are_cut() {
        let types = |text: &str, transport| {
            let mut query = testing::query("example.org", Type::AXFR);
            query.receive(|it| it.transport = transport);
            let mut reply = Reply::default();
            erratic(text).on_query(
                &TestBlock::new(Vec::new()).context(),
                &mut query,
                &mut reply,
            );
            let records = reply.section(Section::Answer).iter();
            (
                reply.rcode,
                records.map(|record| record.rtype).collect::<Vec<_>>(),
            )
        };
        let part = [Type::SOA, Type::NS, Type::NS, Type::AAAA, Type::AAAA];
        let mut whole = part.to_vec();
        whole.push(Type::SOA);
        let (quiet, cut) = ("erratic {\ndrop 0\n}", "erratic {\ntruncate 1\n}");
        assert_eq!(types(quiet, Transport::Tcp), (Rcode::NOERROR, whole));
        assert_eq!(types(cut, Transport::Tcp), (Rcode::NOERROR, part.to_vec()));
        assert_eq!(types(quiet, Transport::Udp), (Rcode::SERVFAIL, vec![]));
    }

    #[test]
    fn errors_name_the_expected_words() {
        for (text, words) in [
            ("erratic x", "takes no argument"),
            ("erratic {\ndrop -1\n}", "out of range"),
            ("erratic {\ndrop a\n}", "not a number"),
            ("erratic {\ndelay 2 100\n}", "100"),
            ("erratic {\ntruncate 2 3\n}", "takes one argument"),
            ("erratic {\ndrap 2\n}", "did you mean 'drop'?"),
        ] {
            let error = testing::read(text, ".", parse).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
