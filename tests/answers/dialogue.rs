//! Queries and their replies as text, similar to `dig` output.
//!
//! ```text
//! ? NAME TYPE
//! RCODE WHY[, owner of the SOA record in the authority section]
//! a record in the answer section
//! + a record in the additional section
//! ```
//!
//! NODATA is NOERROR with an empty answer section. PASS: the plugin passes the query to the next one.

use std::{
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use lodestone::{
    cluster::{Cluster, Object, load},
    plugin::{
        Block, Chain, Context, OnQuery, Resolved, Step, SubQueryHandler, kubernetes::Kubernetes,
    },
    query::{Query, Question},
    reply::{Data, Owner, Record, Reply, Section, Why},
    wire::{Class, Name, NameRef, Rcode, Type},
    zone::{AnswerRules, ClusterLookup, ClusterView, LookupOutcome, Zones},
};

/// A `kubernetes` plugin with one cluster.
pub struct Server {
    pub cluster: Arc<Cluster>,
    pub view: Arc<ClusterView>,
    pub plugin: Kubernetes,
}

/// Settings of a [`Server`].
pub struct Setting {
    pub zones: &'static str,
    pub local: &'static [&'static str],
    pub rules: AnswerRules,
    /// Zones that serve ServiceImports.
    pub multicluster: &'static [&'static str],
    pub fallthrough: &'static [&'static str],
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            zones: "cluster.local. 0.10.in-addr.arpa. 172.in-addr.arpa. ip6.arpa.",
            local: &["10.244.0.2"],
            rules: AnswerRules::default(),
            multicluster: &[],
            fallthrough: &[],
        }
    }
}

impl Setting {
    /// A server with these settings and complete lists.
    pub fn serve(self, objects: Vec<Object>) -> Server {
        self.serve_cluster(load(objects))
    }

    pub fn serve_cluster(self, cluster: Arc<Cluster>) -> Server {
        let zones: Vec<_> = self.zones.split(' ').map(name).collect();
        let imports: Vec<_> = self.multicluster.iter().map(|zone| name(zone)).collect();
        let view = ClusterView::new(
            Arc::clone(&cluster),
            Zones::with_imports(&zones, &imports).unwrap(),
            self.rules,
            self.local
                .iter()
                .map(|text| text.parse().unwrap())
                .collect(),
        );
        let fallthrough = self.fallthrough.iter().map(|zone| name(zone)).collect();
        let view = Arc::new(view);
        Server {
            cluster,
            plugin: Kubernetes::new(Arc::clone(&view), fallthrough, Duration::ZERO),
            view,
        }
    }
}

impl Server {
    /// The plugin with this `startup_timeout`.
    pub fn waiting(&self, startup_timeout: Duration) -> Kubernetes {
        Kubernetes::new(Arc::clone(&self.view), Box::default(), startup_timeout)
    }

    /// Sends every query of a transcript and compares the replies one by one. SOA records have the
    /// cluster's serial.
    pub fn check(&self, dialogue: &str) {
        for serial in check(&self.plugin, dialogue) {
            assert_eq!(serial, self.cluster.serial());
        }
    }

    /// The complete reply, for a client without a size limit.
    pub fn ask_unlimited(&self, name: &str, rtype: &str) -> Reply {
        let mut reply = Reply::default();
        let outcome = self.view.answer(&question(name, rtype), &mut reply);
        assert!(matches!(outcome, LookupOutcome::Answered), "{outcome:?}");
        reply
    }

    /// The reply; None if the query passes to the next plugin.
    pub fn ask(&self, name: &str, rtype: &str) -> (Question, Option<Reply>) {
        let question = question(name, rtype);
        (question, ask(&self.plugin, &question))
    }
}

/// Sends every query of a transcript and compares the replies one by one. Returns the serials of all
/// SOA records.
pub fn check(plugin: &dyn OnQuery, dialogue: &str) -> Vec<u32> {
    converse(dialogue, soa, |question| ask(plugin, question))
}

/// Like [`check`], with replies from `ask`. `soa` formats an SOA record from its zone and TTL.
pub fn converse(
    dialogue: &str,
    soa: fn(&str, &str) -> String,
    ask: impl Fn(&Question) -> Option<Reply>,
) -> Vec<u32> {
    let lines = dialogue.lines().map(str::trim);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    assert!(
        lines[0].starts_with("? "),
        "a dialogue begins with a question"
    );
    let mut scribe = Scribe {
        serials: Vec::new(),
        soa,
    };
    for exchange in lines.chunk_by(|_, next| !next.starts_with("? ")) {
        let words = exchange[0].strip_prefix("? ").unwrap();
        let (name, rtype) = words.split_once(' ').unwrap();
        let question = question(name, rtype);
        let text = scribe.exchange(&question, ask(&question).as_ref());
        assert_eq!(text.trim_end(), exchange.join("\n"));
    }
    scribe.serials
}

pub fn question(name: &str, rtype: &str) -> Question {
    Question::new(self::name(name), rtype.parse().unwrap(), Class::IN)
}

/// The plugin's reply; None if it passes the query to the next plugin.
pub fn ask(plugin: &dyn OnQuery, question: &Question) -> Option<Reply> {
    ask_as(plugin, Query::internal(*question))
}

/// The plugin's reply to a query with its own client, transport and EDNS.
pub fn ask_as(plugin: &dyn OnQuery, mut query: Query) -> Option<Reply> {
    let sub_queries: Arc<dyn SubQueryHandler> = Arc::new(Outside);
    let block = Arc::new(Block {
        zone: Name::ROOT,
        server: "dns://:53".into(),
        zone_label: ".".into(),
        view: "".into(),
        chain: Arc::new(Chain::new(Vec::new())),
        counters: Arc::default(),
        feed: Arc::default(),
    });
    let context = Context {
        sub_queries: &sub_queries,
        block: &block,
    };
    let mut reply = Reply::default();
    match plugin.on_query(&context, &mut query, &mut reply) {
        Step::Pass => {
            assert_eq!(reply.records().count(), 0, "a passed reply is empty");
            assert!(reply.why == Why::Unanswered && !reply.authoritative);
            None
        }
        Step::Answer => {
            reply.complete();
            Some(reply)
        }
        Step::Drop | Step::Forward(_) => panic!("dropped, or forwarded"),
        Step::Wait(pending) => match pending.now_or_never().unwrap() {
            Resolved::Answer(reply) => Some(reply),
            _ => panic!("a wait comes to an answer"),
        },
    }
}

/// A reply as text.
pub fn written(question: &Question, reply: &Reply) -> String {
    let mut scribe = Scribe {
        serials: Vec::new(),
        soa,
    };
    scribe.exchange(question, Some(reply))
}

/// Formats a reply.
struct Scribe {
    serials: Vec<u32>,
    soa: fn(&str, &str) -> String,
}

/// An SOA record of a cluster zone as text.
pub fn soa(zone: &str, ttl: &str) -> String {
    let minimum = if ttl == "300" { "3600" } else { ttl };
    format!("{zone} {ttl} IN SOA ns.dns.{zone} hostmaster.{zone} SERIAL 7200 1800 86400 {minimum}")
}

impl Scribe {
    fn exchange(&mut self, question: &Question, reply: Option<&Reply>) -> String {
        let mut out = format!("? {} {}\n", question.name, question.rtype);
        let Some(reply) = reply else {
            return out + "PASS";
        };
        // REFUSED and SERVFAIL have no data.
        let is_failure = reply.rcode == Rcode::REFUSED || reply.why == Why::NotSynced;
        assert_eq!(reply.authoritative, !is_failure);
        let answers = reply.section(Section::Answer);
        let is_empty = reply.rcode == Rcode::NOERROR && answers.is_empty();
        let rcode = if is_empty {
            "NODATA".into()
        } else {
            reply.rcode.to_string()
        };
        write!(out, "{rcode} {:?}", reply.why).unwrap();
        for record in reply.section(Section::Authority) {
            let text = self.record(question, reply, record);
            let (zone, rest) = text.split_once(' ').unwrap();
            let soa = (self.soa)(zone, rest.split_once(' ').unwrap().0);
            assert_eq!(text, soa);
            write!(out, ", {zone}").unwrap();
        }
        out.push('\n');
        for record in answers {
            writeln!(out, "{}", self.record(question, reply, record)).unwrap();
        }
        for record in reply.section(Section::Additional) {
            writeln!(out, "+ {}", self.record(question, reply, record)).unwrap();
        }
        out
    }

    fn record(&mut self, question: &Question, reply: &Reply, record: &Record) -> String {
        let owner = match reply.owner(record) {
            Owner::Question => question.name,
            Owner::Name(name) => name.to_name(),
        };
        let head = format!("{owner} {} {} {}", record.ttl, record.class, record.rtype);
        let data = reply.data(record);
        let word = |at: usize| u16::from_be_bytes(data[at..at + 2].try_into().unwrap());
        let data = match record.rtype {
            Type::A => Ipv4Addr::from(<[u8; 4]>::try_from(data).unwrap()).to_string(),
            Type::AAAA => Ipv6Addr::from(<[u8; 16]>::try_from(data).unwrap()).to_string(),
            Type::TXT => format!("{:?}", std::str::from_utf8(&data[1..]).unwrap()),
            Type::SRV => {
                let target = NameRef::from_wire(&data[6..]).unwrap();
                format!("{} {} {} {target}", word(0), word(2), word(4))
            }
            Type::SOA => {
                let primary = NameRef::from_wire(data).unwrap();
                let rest = &data[primary.as_wire().len()..];
                let mailbox = NameRef::from_wire(rest).unwrap();
                let rest = &rest[mailbox.as_wire().len()..];
                let word = |at: usize| u32::from_be_bytes(rest[at * 4..][..4].try_into().unwrap());
                self.serials.push(word(0));
                let [refresh, retry, expire, minimum] = [1, 2, 3, 4].map(word);
                format!("{primary} {mailbox} SERIAL {refresh} {retry} {expire} {minimum}")
            }
            _ => reply.data_name(record).unwrap().to_string(),
        };
        format!("{head} {data}")
    }
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Names outside of the cluster: a CNAME to a host with addresses of both families, and a host with
/// more addresses than fit in a reply.
struct Outside;

impl SubQueryHandler for Outside {
    fn answer(self: Arc<Self>, query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let mut reply = Reply::default();
        let host = name("host.example.net");
        let host = Owner::Name(host.as_ref());
        if query.question.lower == name("ghost.example.net") {
            let Owner::Name(target) = host else {
                unreachable!()
            };
            reply.answer(Type::CNAME, 60, Data::Name(target));
            match query.question.rtype {
                Type::A => {
                    let data = Data::A(Ipv4Addr::new(203, 0, 113, 1));
                    reply.push(Section::Answer, host, Type::A, 30, data);
                }
                Type::AAAA => {}
                other => panic!("unexpected query for {other}"),
            }
        } else if query.question.lower == name("many.example.net") {
            reply.answer(Type::A, 30, Data::A(Ipv4Addr::new(203, 0, 113, 2)));
            reply.truncated = true;
        } else {
            reply.fail(Rcode::NXDOMAIN, Why::Upstream);
        }
        Box::pin(std::future::ready(reply))
    }
}
