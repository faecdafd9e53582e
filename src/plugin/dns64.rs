//! `dns64`: AAAA records synthesized from A records, for clients without IPv4 (RFC 6147).
//!
//! ```text
//! dns64 [PREFIX] {
//!     prefix PREFIX
//!     translate_all
//!     allow_ipv4
//! }
//! ```
//!
//! If a query for AAAA yields no such record, and not NXDOMAIN, the A records of the name are resolved,
//! and an AAAA record is synthesized from each: the prefix with the IPv4 address embedded (RFC 6052
//! section 2.2). A NAT64 gateway of the network translates packets for such addresses to IPv4.
//!
//! Both lookups are resolved through the server itself. If they are answered synchronously, as for
//! names of the cluster, so is the query.

use std::{net::Ipv6Addr, sync::Arc};

use futures_util::FutureExt;
use ipnet::{IpNet, Ipv6Net};
use tokio::runtime::Handle;

use super::{
    Block, Build, BuildError, Context, OnQuery, ParseErrors, Parsing, Plugin, Resolved, Setup,
    Step, SubQueryHandler,
};
use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Property, Word, unknown_property},
    hooks,
    metrics::ShardedCounter,
    query::{Query, Question},
    reply::{Data, Owner, Reply, Section, Why},
    wire::{Class, Rcode, Type},
};

/// The name of the plugin in a Corefile.
const NAME: &str = "dns64";
/// The well-known prefix (RFC 6052 section 2.1), the default.
const WELL_KNOWN: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// The largest TTL of a synthesized record, in seconds, if the empty AAAA answer has no SOA record
/// (RFC 6147 section 5.1.7).
const NEGATIVE_TTL: u32 = 600;

/// The options of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The prefix that IPv4 addresses are embedded in.
    pub prefix: Ipv6Net,
    /// Whether AAAA records are synthesized even for names that have some.
    pub translate_all: bool,
    /// Whether queries received over IPv4 are translated too.
    pub allow_ipv4: bool,
}

/// Reads the directives of a block; later ones override earlier ones.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut config = Config {
        prefix: WELL_KNOWN,
        translate_all: false,
        allow_ipv4: false,
    };
    let mut errors = ErrorList::default();
    for directive in uses {
        let mut arguments = directive.arguments();
        if let Some(word) = arguments.next() {
            let prefix = errors.catch(prefix(word));
            config.prefix = prefix.unwrap_or(config.prefix);
        }
        errors.catch(arguments.none_left());
        for line in directive.properties() {
            errors.catch(property(line, &mut config));
        }
    }
    errors.in_plugin(NAME).into_result(config)
}

fn property(line: &Property, config: &mut Config) -> Result<(), Diagnostic> {
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

/// The prefix lengths of RFC 6052 section 2.2.
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
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let translated = &build.metrics.plugins.dns64_requests_translated_total;
        Ok(Plugin::from(Dns64 {
            config: *self,
            runtime: build.runtime.clone(),
            translated: translated.with(&[build.server]),
        }))
    }
}

/// The plugin.
pub struct Dns64 {
    config: Config,
    /// Runs pending lookups.
    runtime: Handle,
    /// Counts queries that were answered with synthesized records.
    translated: Arc<ShardedCounter>,
}

hooks!(Dns64, NAME => on_query);

impl OnQuery for Dns64 {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let question = &query.question;
        let is_aaaa = question.rtype == Type::AAAA && question.class == Class::IN;
        let is_ipv4 = query.client.ip().to_canonical().is_ipv4();
        // With CD and DO set, the client validates, and no signature covers synthesized records
        // (RFC 6147 section 5.5).
        let validates = query.checking_disabled && query.dnssec_ok();
        let is_not_for = is_ipv4 && !self.config.allow_ipv4;
        if !is_aaaa || query.bypass.translation || is_not_for || validates {
            return Step::Pass;
        }
        let lookup = Dns64Lookup {
            config: self.config,
            sub_queries: Arc::clone(context.sub_queries),
            block: Arc::clone(context.block),
            query: query.clone(),
            translated: Arc::clone(&self.translated),
        };
        let mut lookup = Box::pin(lookup.run());
        // A pending lookup may need the runtime (timers, sockets) at its first poll.
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

/// The lookups for one query.
struct Dns64Lookup {
    config: Config,
    sub_queries: Arc<dyn SubQueryHandler>,
    block: Arc<Block>,
    query: Query,
    translated: Arc<ShardedCounter>,
}

impl Dns64Lookup {
    async fn run(self) -> Resolved {
        let six = self.resolve(Type::AAAA).await;
        // A sub-query that a plugin dropped comes back as SERVFAIL with this reason.
        if six.rcode == Rcode::SERVFAIL && six.why == Why::Policy {
            return Resolved::Drop;
        }
        // NXDOMAIN holds for every type (RFC 6147 section 5.1.2).
        let is_enough = !self.config.translate_all && has_ipv6(&six);
        if is_enough || six.rcode == Rcode::NXDOMAIN {
            return Resolved::Answer(six);
        }
        let mut four = self.resolve(Type::A).await;
        if !has(&four, Type::A) {
            // An empty NOERROR would be cached as NODATA by the client: it is returned only if the
            // lookup for A records succeeded.
            let hides_failure = six.rcode == Rcode::NOERROR && four.rcode != Rcode::NOERROR;
            four.authentic = false;
            return Resolved::Answer(if hides_failure { four } else { six });
        }
        self.translated.inc();
        Resolved::Answer(self.synthesize(&six, &four))
    }

    async fn resolve(&self, rtype: Type) -> Reply {
        let context = Context {
            sub_queries: &self.sub_queries,
            block: &self.block,
        };
        let original = &self.query.question;
        let question = Question::new(original.name, rtype, original.class);
        context.untranslated(&self.query, question).await
    }

    /// The reply for A with each A record replaced by a synthesized AAAA record.
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

/// Whether there is an AAAA record of use to a client without IPv4: addresses in `::ffff:0:0/96` are
/// excluded (RFC 6147 section 5.1.4).
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

/// Embeds an IPv4 address in a prefix: right behind it, skipping bits 64 to 71, which are zero
/// (RFC 6052 section 2.2).
fn embed(prefix: Ipv6Net, address: [u8; 4]) -> Ipv6Addr {
    let mut bytes = prefix.network().octets();
    let start = usize::from(prefix.prefix_len()) / 8;
    let indices = (start..16).filter(|index| *index != 8);
    for (index, byte) in indices.zip(address) {
        bytes[index] = byte;
    }
    bytes.into()
}

#[cfg(test)]
mod tests;
