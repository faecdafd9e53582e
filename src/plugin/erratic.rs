//! `erratic`: answers late, in part or not at all, to try clients with.
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
//! Every name has the addresses 192.0.2.53 and 2001:db8::53, and over a stream a small zone; all
//! other types fail. Each AMOUNTth query, from the first one on, is dropped, is told that its answer
//! is cut, or waits. Nobody behind this plugin is asked.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{Build, BuildError, Context, ParseErrors, Parsing, Plugin, Resolved, Setup, Step};
use crate::{
    corefile::{Arguments, Diagnostic, Directive, Line, Problems, Word, unknown_property},
    query::Query,
    reply::{Data, Owner, Reply, Section, Soa, Why},
    wire::{Name, Rcode, Type},
};

/// The Corefile's word.
const NAME: &str = "erratic";
/// The addresses of every name, from the networks of examples (RFC 5737, RFC 3849).
const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);
/// A records of a large answer, which does not fit into 512 octets.
const LARGE: usize = 30;
/// Where no amount is said.
const AMOUNT: u64 = 2;
/// Where no duration is said.
const DELAY: Duration = Duration::from_millis(100);

/// What the directives of a block say. An amount of 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Every how manyeth query is dropped.
    pub drop: u64,
    /// Every how manyeth answer is cut.
    pub truncate: u64,
    /// Every how manyeth query waits.
    pub delay: u64,
    /// How long it waits.
    pub duration: Duration,
    /// Whether answers about A are large.
    pub large: bool,
}

/// Reads the directives of a block, as one.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut config = Config::default();
    let mut drop = None;
    let mut problems = Problems::default();
    for directive in uses {
        problems.catch(directive.no_arguments());
        for line in directive.properties() {
            problems.catch(property(line, &mut config, &mut drop));
        }
    }
    // Whoever asks for nothing else gets every other query dropped.
    let otherwise = if config.delay > 0 || config.truncate > 0 {
        0
    } else {
        AMOUNT
    };
    config.drop = drop.unwrap_or(otherwise);
    problems.in_plugin(NAME).into_result(config)
}

fn property(line: &Line, config: &mut Config, drop: &mut Option<u64>) -> Result<(), Diagnostic> {
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
    fn build(&self, _: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        Ok(Arc::new(Erratic {
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

impl Plugin for Erratic {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
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

    /// Now it is and now it is not, to try those who ask: after three queries, for two.
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

/// A small zone of this name; without its end where it is cut.
fn zone(apex: &Name, truncated: bool, reply: &mut Reply) {
    // The longest names have no room for servers below them.
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
        plugin::testing::{self, Place},
        query::Transport,
    };

    fn erratic(text: &str) -> Erratic {
        let (config, _) = testing::read(text, ".", parse).unwrap();
        Erratic {
            config,
            count: AtomicU64::new(0),
        }
    }

    /// What becomes of four queries for A: dropped, late, cut, or answered with so many records.
    fn four(text: &str) -> Vec<String> {
        let plugin = erratic(text);
        let ask = |_| {
            let mut reply = Reply::default();
            let mut query = testing::query("example.org", Type::A);
            match plugin.ask(&Place::new(Vec::new()).context(), &mut query, &mut reply) {
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
                plugin.ask(
                    &Place::new(Vec::new()).context(),
                    &mut query,
                    &mut Reply::default(),
                );
                ready
            })
            .collect();
        assert_eq!(readiness, [false, false, false, true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_answered_in_the_end() {
        let plugin = erratic("erratic {\ndelay 1 3s\n}");
        let start = tokio::time::Instant::now();
        let mut query = testing::query(".", Type::AAAA);
        let step = plugin.ask(
            &Place::new(Vec::new()).context(),
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
            query.transport = transport;
            let mut reply = Reply::default();
            erratic(text).ask(&Place::new(Vec::new()).context(), &mut query, &mut reply);
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
    fn mistakes_are_pointed_at() {
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
