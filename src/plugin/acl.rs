//! `acl`: access control by client network and record type.
//!
//! ```text
//! acl [ZONES...] {
//!     allow|block|filter|drop [type TYPE...] [net NETWORK...]
//! }
//! ```
//!
//! The lines of a directive are tried in order; the first one that matches the query's type and the
//! client's address decides. `allow` passes the query to the next plugin and ends the search.
//! `block` answers REFUSED, `filter` answers NOERROR without records, `drop` sends no response.
//! If no line matches, the next directive whose zones contain the name is tried. A query that
//! matches no line passes.
//!
//! A `block` or `filter` response carries an extended error (RFC 8914) if the query had an OPT
//! record.

use std::{net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    Block, Build, BuildError, Context, OnQuery, ParseErrors, Parsing, Plugin, Setup, Step,
    ZoneList, append_list::PerServer,
};
use crate::{
    corefile::{Arguments, Diagnostic, Directive, ErrorList, Word, nearest},
    hooks,
    metrics::{Metrics, ShardedCounter},
    query::Query,
    reply::{ExtendedError, Reply, Why},
    wire::{Rcode, Type},
};

/// The name of the plugin in a Corefile.
const NAME: &str = "acl";

/// The extended errors of `block` and `filter` (RFC 8914 sections 4.16 and 4.18).
const BLOCKED: u16 = 15;
const FILTERED: u16 = 17;

/// The rules of a server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    rules: Arc<[Rule]>,
}

/// One directive: its zones and its lines.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    zones: ZoneList,
    policies: Vec<AclLine>,
}

/// One line: an action and the queries that it applies to.
#[derive(Debug, PartialEq, Eq)]
struct AclLine {
    action: AclAction,
    /// `None` matches every type.
    types: Option<Vec<Type>>,
    /// `None` matches every address.
    networks: Option<Networks>,
}

/// What is done with a matching query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AclAction {
    Allow,
    Block,
    Filter,
    Drop,
}

const ACTIONS: [(&str, AclAction); 4] = [
    ("allow", AclAction::Allow),
    ("block", AclAction::Block),
    ("filter", AclAction::Filter),
    ("drop", AclAction::Drop),
];

/// A set of networks: sorted and disjoint, so that only the last one that begins at or before an
/// address can contain it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Networks {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

/// Reads the directives of a block. A directive without zones of its own applies to those of the server
/// block.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut errors = ErrorList::default();
    let mut rules = Vec::new();
    for directive in uses {
        let zones = directive.arguments().rest();
        let zones = errors.catch(ZoneList::read_or_block(zones, parsing.zones));
        let mut policies = Vec::new();
        for line in directive.properties() {
            policies.extend(errors.catch(policy(line.name(), line.arguments())));
        }
        rules.extend(zones.map(|zones| Rule { zones, policies }));
    }
    let rules = rules.into();
    errors.in_plugin(NAME).into_result(Config { rules })
}

fn policy(name: &Word, mut arguments: Arguments<'_>) -> Result<AclLine, Diagnostic> {
    let lower = name.to_lowercase();
    let Some((_, action)) = ACTIONS.iter().find(|(word, _)| *word == lower) else {
        let near = nearest(&lower, ACTIONS.map(|(word, _)| word));
        return Err(name
            .error(format!("unexpected token \"{name}\""))
            .expected("allow, block, filter or drop")
            .maybe_help(near.map(|near| format!("did you mean '{near}'?"))));
    };
    // A second section of a kind adds to the first; a '*' in any of them matches everything.
    let (mut types, mut networks) = (None, None);
    let (mut every_type, mut every_network) = (false, false);
    while let Some(section) = arguments.next() {
        let is_types = match section.to_lowercase().as_str() {
            "type" => true,
            "net" => false,
            _ => {
                return Err(section
                    .error(format!("unexpected token \"{section}\""))
                    .expected("type or net"));
            }
        };
        let mut count = 0;
        while let Some(word) = arguments.peek().filter(|word| !is_section(word)) {
            arguments.next();
            count += 1;
            match (is_types, *word == "*") {
                (true, true) => every_type = true,
                (false, true) => every_network = true,
                (true, false) => types.get_or_insert_with(Vec::new).push(rtype(word)?),
                (false, false) => networks.get_or_insert_with(Vec::new).push(network(word)?),
            }
        }
        if count == 0 {
            let what = if is_types {
                "a record type"
            } else {
                "a network"
            };
            let message = format!("no token specified in \"{section}\" section");
            return Err(section
                .error(message)
                .expected(format!("{what} behind it, or *")));
        }
    }
    Ok(AclLine {
        action: *action,
        types: types.filter(|_| !every_type),
        networks: networks.filter(|_| !every_network).map(Networks::new),
    })
}

fn is_section(word: &Word) -> bool {
    ["type", "net"].contains(&word.to_lowercase().as_str())
}

fn rtype(word: &Word) -> Result<Type, Diagnostic> {
    word.parse().map_err(|_| {
        word.error(format!("unexpected token \"{word}\""))
            .expected("a record type, or *")
    })
}

/// A network, or an address as a network of one.
fn network(word: &Word) -> Result<IpNet, Diagnostic> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    word.parse().map_err(|_| {
        word.error(format!("illegal CIDR notation \"{word}\""))
            .expected("a network such as 10.0.0.0/8, an address, or *")
    })
}

impl Networks {
    fn new(list: Vec<IpNet>) -> Self {
        let mut networks = Self::default();
        for network in list {
            match network {
                IpNet::V4(network) => networks.v4.push(network.trunc()),
                IpNet::V6(network) => networks.v6.push(network.trunc()),
            }
        }
        networks.v4 = Ipv4Net::aggregate(&networks.v4);
        networks.v6 = Ipv6Net::aggregate(&networks.v6);
        networks.v4.sort_unstable_by_key(Ipv4Net::network);
        networks.v6.sort_unstable_by_key(Ipv6Net::network);
        networks
    }

    fn contain(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => {
                let before = self
                    .v4
                    .partition_point(|network| network.network() <= address);
                before > 0 && self.v4[before - 1].contains(&address)
            }
            IpAddr::V6(address) => {
                let before = self
                    .v6
                    .partition_point(|network| network.network() <= address);
                before > 0 && self.v6[before - 1].contains(&address)
            }
        }
    }
}

impl AclLine {
    fn is_for(&self, rtype: Type, client: IpAddr) -> bool {
        let types = self.types.as_ref();
        let networks = self.networks.as_ref();
        types.is_none_or(|types| types.contains(&rtype))
            && networks.is_none_or(|networks| networks.contain(client))
    }
}

impl Setup for Config {
    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(Acl {
            config: self.clone(),
            counters: Counters::new(build.metrics),
        }))
    }
}

/// The plugin.
pub struct Acl {
    config: Config,
    counters: Counters,
}

impl Acl {
    /// The action for a query, with the indices of the rule and of the zone that it comes from.
    fn decide(&self, query: &Query) -> (AclAction, usize, usize) {
        let client = query.client.ip().to_canonical();
        let question = &query.question;
        for (at, rule) in self.config.rules.iter().enumerate() {
            let Some(zone) = rule.zone_of(query) else {
                continue;
            };
            let mut policies = rule.policies.iter();
            if let Some(policy) = policies.find(|policy| policy.is_for(question.rtype, client)) {
                return (policy.action, at, zone);
            }
        }
        (AclAction::Allow, 0, 0)
    }
}

impl Rule {
    /// The index of the longest zone that contains the query's name.
    fn zone_of(&self, query: &Query) -> Option<usize> {
        let name = query.question.lower.as_ref();
        let zones = self.zones.names().iter().enumerate();
        zones
            .filter(|(_, zone)| name.is_under(zone.as_ref()))
            .max_by_key(|(_, zone)| zone.as_ref().label_count())
            .map(|(at, _)| at)
    }
}

hooks!(Acl, NAME => on_query);

impl OnQuery for Acl {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let (action, rule, zone) = self.decide(query);
        let rules = &self.config.rules;
        self.counters
            .count(context.block, rules, action, rule, zone);
        let (rcode, code) = match action {
            AclAction::Allow => return Step::Pass,
            AclAction::Drop => return Step::Drop,
            AclAction::Block => (Rcode::REFUSED, BLOCKED),
            AclAction::Filter => (Rcode::NOERROR, FILTERED),
        };
        reply.fail(rcode, Why::Policy);
        reply.extended_error = Some(ExtendedError {
            code,
            text: "".into(),
        });
        Step::Answer
    }
}

/// Counters of the actions, for each server and view.
struct Counters {
    metrics: Arc<Metrics>,
    sets: PerServer<Set>,
}

struct Set {
    allowed: Arc<ShardedCounter>,
    /// For each rule and each of its zones: blocked, filtered, dropped.
    refused: Vec<Vec<[Arc<ShardedCounter>; 3]>>,
}

impl Counters {
    fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            sets: PerServer::default(),
        }
    }

    fn count(&self, block: &Block, rules: &[Rule], action: AclAction, rule: usize, zone: usize) {
        let set = self.sets.of(block, || self.make(block, rules));
        let refused = |kind: usize| &set.refused[rule][zone][kind];
        match action {
            AclAction::Allow => set.allowed.inc(),
            AclAction::Block => refused(0).inc(),
            AclAction::Filter => refused(1).inc(),
            AclAction::Drop => refused(2).inc(),
        }
    }

    fn make(&self, block: &Block, rules: &[Rule]) -> Set {
        let made = &self.metrics.plugins;
        let (server, view) = (&*block.server, &*block.view);
        let zone = |zone: &crate::wire::Name| {
            let zone = zone.to_string();
            [
                &made.acl_blocked_requests_total,
                &made.acl_filtered_requests_total,
                &made.acl_dropped_requests_total,
            ]
            .map(|family| family.with(&[server, &zone, view]))
        };
        let refused = rules.iter();
        let refused = refused.map(|rule| rule.zones.names().iter().map(zone).collect());
        Set {
            allowed: made.acl_allowed_requests_total.with(&[server, view]),
            refused: refused.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing::{self, TestBlock};

    fn read(text: &str) -> Result<Config, String> {
        testing::read(text, "example.org.", parse).map(|(config, _)| config)
    }

    fn acl(text: &str) -> (Acl, Arc<Metrics>) {
        let metrics = Metrics::new();
        let config = read(text).unwrap_or_else(|error| panic!("{error}"));
        let counters = Counters::new(&metrics);
        (Acl { config, counters }, metrics)
    }

    /// The result for a query: `pass`, `drop`, or the response code and the extended error.
    fn ask(acl: &Acl, name: &str, rtype: Type, client: &str) -> String {
        let mut query = testing::query(name, rtype);
        query.receive(|it| it.client = (client.parse::<IpAddr>().unwrap(), 4000).into());
        let mut reply = Reply::default();
        match acl.on_query(
            &TestBlock::new(Vec::new()).context(),
            &mut query,
            &mut reply,
        ) {
            Step::Pass => "pass".to_owned(),
            Step::Drop => "drop".to_owned(),
            Step::Answer => {
                assert!(reply.records().count() == 0 && !reply.authoritative);
                format!("{} {}", reply.rcode, reply.extended_error.unwrap().code)
            }
            Step::Forward(_) | Step::Wait(_) => panic!("acl is synchronous"),
        }
    }

    #[test]
    fn the_first_line_that_fits_decides() {
        let (acl, metrics) = acl("acl example.org sub.example.org {
                ALLOW net 192.0.2.7
                block type A AAAA net 192.0.2.0/24 2001:db8::/32
                Drop net 192.0.2.0/24 10.0.0.0/8 type TXT
                filter type MX
                allow
            }
            acl . {
                block net 198.51.100.1
                filter type *
            }");
        for (name, rtype, client, wanted) in [
            ("a.example.org", Type::A, "192.0.2.7", "pass"),
            ("a.example.org", Type::A, "192.0.2.8", "REFUSED 15"),
            (
                "a.example.org",
                Type::AAAA,
                "::ffff:192.0.2.8",
                "REFUSED 15",
            ),
            ("a.example.org", Type::A, "2001:db8:1::1", "REFUSED 15"),
            ("a.example.org", Type::A, "2001:db9::1", "pass"),
            ("a.example.org", Type::TXT, "10.255.255.255", "drop"),
            ("a.example.org", Type::TXT, "11.0.0.0", "pass"),
            ("a.sub.example.org", Type::MX, "11.0.0.0", "NOERROR 17"),
            // Allowed by the first directive, so the second one is not tried.
            ("a.example.org", Type::A, "198.51.100.1", "pass"),
            ("example.com", Type::A, "198.51.100.1", "REFUSED 15"),
            ("example.com", Type::A, "198.51.100.2", "NOERROR 17"),
        ] {
            assert_eq!(
                ask(&acl, name, rtype, client),
                wanted,
                "{name} {rtype} {client}"
            );
        }
        let text = metrics.encode();
        for line in [
            r#"coredns_acl_allowed_requests_total{server="dns://:53",view=""} 4"#,
            r#"coredns_acl_blocked_requests_total{server="dns://:53",view="",zone="example.org."} 3"#,
            r#"coredns_acl_blocked_requests_total{server="dns://:53",view="",zone="."} 1"#,
            r#"coredns_acl_filtered_requests_total{server="dns://:53",view="",zone="sub.example.org."} 1"#,
            r#"coredns_acl_dropped_requests_total{server="dns://:53",view="",zone="example.org."} 1"#,
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn networks_in_networks_and_beside_each_other_are_found() {
        let list = [
            "10.0.0.0/8",
            "10.1.2.3/16",
            "192.0.2.0/25",
            "192.0.2.128/25",
            "0.0.0.0/32",
        ];
        let networks = Networks::new(list.map(|text| text.parse().unwrap()).to_vec());
        for (address, found) in [
            ("10.255.0.1", true),
            ("10.1.2.3", true),
            ("9.255.255.255", false),
            ("11.0.0.0", false),
            ("192.0.2.200", true),
            ("0.0.0.0", true),
            ("0.0.0.1", false),
            ("::", false),
        ] {
            assert_eq!(
                networks.contain(address.parse().unwrap()),
                found,
                "{address}"
            );
        }
    }

    #[test]
    fn without_a_section_every_query_matches() {
        for lines in [
            "block",
            "block type *",
            "block net *",
            "block net * 10.0.0.0/8 type A *",
        ] {
            let (acl, _) = acl(&format!("acl {{\n{lines}\n}}"));
            assert_eq!(
                ask(&acl, "example.org", Type::TXT, "::1"),
                "REFUSED 15",
                "{lines}"
            );
            assert_eq!(
                ask(&acl, "example.com", Type::TXT, "::1"),
                "pass",
                "{lines}"
            );
        }
        assert_eq!(ask(&acl("acl").0, "example.org", Type::A, "::1"), "pass");
    }

    #[test]
    fn errors_name_the_expected_words() {
        for (lines, words) in [
            ("alow", "did you mean 'allow'?"),
            ("block types A", "expected type or net"),
            ("block type", "expected a record type behind it"),
            (
                "block type net 10.0.0.0/8",
                "no token specified in \"type\" section",
            ),
            ("block type NOPE", "unexpected token \"NOPE\""),
            ("block net 10.0.0.0/33", "illegal CIDR notation"),
            ("block net pods", "illegal CIDR notation"),
        ] {
            let error = read(&format!("acl {{\n{lines}\n}}")).unwrap_err();
            assert!(error.contains(words), "{lines}: {error}");
        }
    }
}
