//! `dns64`: IPv6 addresses made of IPv4 ones, for clients that have no IPv4 (RFC 6147).
//!
//! ```text
//! dns64 [PREFIX] {
//!     prefix PREFIX
//!     translate_all
//!     allow_ipv4
//! }
//! ```
//!
//! Where a question for AAAA is answered with no such record, and not with NXDOMAIN, the A records
//! of the name are asked for, and each is told as an AAAA record: the prefix with the IPv4 address
//! in it (RFC 6052 §2.2). A gateway of the network (NAT64) leads packets for such addresses to the
//! IPv4 ones.
//!
//! Both questions are asked of the server itself. Where they are answered there and then, as for
//! names of the cluster, nothing waits.

use std::{net::Ipv6Addr, sync::Arc};

use futures_util::FutureExt;
use ipnet::{IpNet, Ipv6Net};
use tokio::runtime::Handle;

use super::{
    Block, Build, BuildError, Context, Door, ParseErrors, Parsing, Plugin, Resolved, Setup, Step,
};
use crate::{
    corefile::{Diagnostic, Directive, Line, Problems, Word, unknown_property},
    metrics::Tally,
    query::{Query, Question},
    reply::{Data, Owner, Reply, Section, Why},
    wire::{Class, Rcode, Type},
};

/// The Corefile's word.
const NAME: &str = "dns64";
/// The prefix for whoever has none of its own (RFC 6052 §2.1).
const WELL_KNOWN: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// Seconds that an answer may be kept where no SOA record says how long it is true that there is
/// none (RFC 6147 §5.1.7).
const NEGATIVE_TTL: u32 = 600;

/// What the directives of a block say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// What IPv4 addresses are put into.
    pub prefix: Ipv6Net,
    /// Whether AAAA records that there are give way to such made of A records.
    pub translate_all: bool,
    /// Whether clients that ask over IPv4 get them too.
    pub allow_ipv4: bool,
}

/// Reads the directives of a block, as one.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut config = Config {
        prefix: WELL_KNOWN,
        translate_all: false,
        allow_ipv4: false,
    };
    let mut problems = Problems::default();
    for directive in uses {
        let mut arguments = directive.arguments();
        if let Some(word) = arguments.next() {
            let prefix = problems.catch(prefix(word));
            config.prefix = prefix.unwrap_or(config.prefix);
        }
        problems.catch(arguments.none_left());
        for line in directive.properties() {
            problems.catch(property(line, &mut config));
        }
    }
    problems.in_plugin(NAME).into_result(config)
}

fn property(line: &Line, config: &mut Config) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    match line.name().as_str() {
        "prefix" => {
            let word = arguments.required("a prefix such as 64:ff9b::/96")?;
            config.prefix = prefix(word)?;
        }
        "translate_all" => config.translate_all = true,
        "allow_ipv4" => config.allow_ipv4 = true,
        _ => {
            let known = ["prefix", "translate_all", "allow_ipv4"];
            return Err(unknown_property(line.name(), &known));
        }
    }
    arguments.none_left()
}

/// RFC 6052 section 2.2 allows these lengths and no others.
const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

fn prefix(word: &Word) -> Result<Ipv6Net, Diagnostic> {
    match word.network()? {
        IpNet::V6(prefix) if LENGTHS.contains(&prefix.prefix_len()) => Ok(prefix.trunc()),
        IpNet::V6(prefix) => Err(word
            .error(format!("invalid prefix length \"{prefix}\""))
            .expected("a length of 32, 40, 48, 56, 64 or 96 (RFC 6052)")),
        IpNet::V4(_) => Err(word
            .error("the prefix is one of IPv4")
            .expected("a prefix of IPv6 such as 64:ff9b::/96")),
    }
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let translated = &build.metrics.made.dns64_requests_translated_total;
        Ok(Arc::new(Dns64 {
            config: *self,
            runtime: build.runtime.clone(),
            translated: translated.with(&[build.server]),
        }))
    }
}

/// The plugin.
pub struct Dns64 {
    config: Config,
    /// Where a question goes on that has to wait.
    runtime: Handle,
    /// Questions that were answered with addresses made up.
    translated: Arc<Tally>,
}

impl Plugin for Dns64 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let question = &query.question;
        let is_asked = question.rtype == Type::AAAA && question.class == Class::IN;
        let is_ipv4 = query.client.ip().to_canonical().is_ipv4();
        // It validates by itself, and no signature covers what is made up (RFC 6147 section 5.5).
        let validates = query.checking_disabled && query.dnssec_ok();
        let is_not_for = is_ipv4 && !self.config.allow_ipv4;
        if !is_asked || query.untranslated || is_not_for || validates {
            return Step::Pass;
        }
        let lookup = Lookup {
            config: self.config,
            door: Arc::clone(context.door),
            block: Arc::clone(context.block),
            query: query.clone(),
            translated: Arc::clone(&self.translated),
        };
        let mut lookup = Box::pin(lookup.go());
        // What waits may need the runtime from its first step on.
        let _inside = self.runtime.enter();
        match (&mut lookup).now_or_never() {
            Some(Resolved::Answer(found)) => {
                *reply = found;
                Step::Answer
            }
            Some(Resolved::Drop) => Step::Drop,
            Some(Resolved::Pass) => Step::Pass,
            None => Step::Wait(lookup),
        }
    }
}

/// A question that is answered here.
struct Lookup {
    config: Config,
    door: Arc<dyn Door>,
    block: Arc<Block>,
    query: Query,
    translated: Arc<Tally>,
}

impl Lookup {
    async fn go(self) -> Resolved {
        let six = self.ask(Type::AAAA).await;
        // What is to be left without an answer comes as a failure by rule.
        if six.rcode == Rcode::SERVFAIL && six.why == Why::Policy {
            return Resolved::Drop;
        }
        // That a name does not exist is true of every type (RFC 6147 §5.1.2).
        let is_enough = !self.config.translate_all && has_ipv6(&six);
        if is_enough || six.rcode == Rcode::NXDOMAIN {
            return Resolved::Answer(six);
        }
        let mut four = self.ask(Type::A).await;
        if !has(&four, Type::A) {
            // Without AAAA records the client would take the name for one without addresses, and
            // cache that: only a good answer about A records is evidence of it.
            let hides_failure = six.rcode == Rcode::NOERROR && four.rcode != Rcode::NOERROR;
            four.authentic = false;
            return Resolved::Answer(if hides_failure { four } else { six });
        }
        self.translated.inc();
        Resolved::Answer(self.synthesize(&six, &four))
    }

    async fn ask(&self, rtype: Type) -> Reply {
        let context = Context {
            door: &self.door,
            block: &self.block,
        };
        let asked = &self.query.question;
        let question = Question::new(asked.name, rtype, asked.class);
        context.untranslated(&self.query, question).await
    }

    /// The reply about A records with AAAA records in their place.
    fn synthesize(&self, six: &Reply, four: &Reply) -> Reply {
        let mut authority = six.section(Section::Authority).iter();
        let longest = authority
            .find(|record| record.rtype == Type::SOA)
            .map_or(NEGATIVE_TTL, |soa| soa.ttl);
        let mut reply = Reply::failure(four.rcode, four.why);
        reply.truncated = four.truncated;
        reply.extended_error.clone_from(&four.extended_error);
        for section in Section::ALL {
            for record in four.section(section) {
                let address = (section == Section::Answer && record.rtype == Type::A)
                    .then(|| <[u8; 4]>::try_from(four.data(record)).ok())
                    .flatten();
                let Some(address) = address else {
                    reply.push_from(section, Owner::Question, four, record);
                    continue;
                };
                let data = Data::Aaaa(embed(self.config.prefix, address));
                let ttl = record.ttl.min(longest);
                reply.push(section, four.owner(record), Type::AAAA, ttl, data);
            }
        }
        reply
    }
}

/// Whether there is an address that a client without IPv4 can use: those of `::ffff:0:0/96` are
/// IPv4 (RFC 6147 section 5.1.4).
fn has_ipv6(reply: &Reply) -> bool {
    let mut answer = reply.section(Section::Answer).iter();
    answer.any(|record| {
        let address = <[u8; 16]>::try_from(reply.data(record)).map(Ipv6Addr::from);
        record.rtype == Type::AAAA && address.is_ok_and(|ip| ip.to_ipv4_mapped().is_none())
    })
}

fn has(reply: &Reply, rtype: Type) -> bool {
    let mut answer = reply.section(Section::Answer).iter();
    answer.any(|record| record.rtype == rtype)
}

/// An IPv4 address in a prefix: right behind it, around the octet of bits 64 to 71, which is zero
/// (RFC 6052 §2.2).
fn embed(prefix: Ipv6Net, address: [u8; 4]) -> Ipv6Addr {
    let mut octets = prefix.network().octets();
    let start = usize::from(prefix.prefix_len()) / 8;
    let places = (start..16).filter(|place| *place != 8);
    for (place, octet) in places.zip(address) {
        octets[place] = octet;
    }
    octets.into()
}

#[cfg(test)]
mod tests;
