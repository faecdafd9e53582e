use std::{future::Future, pin::Pin};

use parking_lot::Mutex;

use super::*;
use crate::{
    edns::Options,
    hooks,
    plugin::{
        MetadataSource, Outcome, SubQueryHandler, ZoneList,
        testing::{self, TestBlock},
    },
    query::{Edns, Question},
    reply::{Data, Soa},
    wire::{Class, Type},
};

fn read(text: &str) -> Result<(Config, Vec<String>), String> {
    testing::read(text, ".", parse)
}

fn warnings(text: &str) -> Vec<String> {
    read(text).unwrap().1
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The next plugin: gives one reply to all queries, and records the last query.
#[derive(Default)]
struct Inner {
    reply: Reply,
    asked: Mutex<Option<Query>>,
}

hooks!(Inner, "inner" => on_query, metadata);

impl OnQuery for Inner {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        *self.asked.lock() = Some(query.clone());
        reply.copy_from(&self.reply);
        Step::Answer
    }
}

impl MetadataSource for Inner {
    fn metadata(&self, _: &Query, _: Option<&Reply>, label: &str) -> Option<String> {
        let known = [
            ("inner/Ns", "Team"),
            ("inner/empty", ""),
            ("inner/odd", "a..b"),
        ];
        let known = known.iter().find(|(name, _)| *name == label)?;
        Some(known.1.to_owned())
    }
}

/// Answers internal queries with this reply, and records the last question.
struct Outside(Reply, Mutex<Option<Question>>);

impl SubQueryHandler for Outside {
    fn answer(self: Arc<Self>, query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        *self.1.lock() = Some(query.question);
        Box::pin(std::future::ready(self.0.clone()))
    }
}

/// The rewritten query, and the reply after the rules.
fn walk(rules: &str, mut query: Query, inner: Reply) -> (Option<Query>, Reply) {
    let test_block = TestBlock::new(Vec::new());
    let context = test_block.context();
    through(rules, &mut query, inner, context.sub_queries)
}

fn through(
    rules: &str,
    query: &mut Query,
    inner: Reply,
    sub_queries: &Arc<dyn SubQueryHandler>,
) -> (Option<Query>, Reply) {
    let (config, _) = read(rules).unwrap();
    let rewrite = Rewrite {
        rules: config.rules,
        metadata: Some(Arc::new(Published {
            zones: ZoneList::read_or_block(&[], &[".".to_owned()]).unwrap(),
        })),
    };
    let inner = Arc::new(Inner {
        reply: inner,
        asked: Mutex::default(),
    });
    let test_block = TestBlock::new(vec![rewrite.into(), Arc::clone(&inner).into()]);
    let block = &test_block.block;
    let context = Context { sub_queries, block };
    let mut reply = Reply::default();
    match block.chain.walk(&context, query, &mut reply) {
        Outcome::Done => {}
        Outcome::Dropped => panic!("nothing here drops"),
        Outcome::Pending(waiting) => {
            let finished = futures_util::FutureExt::now_or_never(waiting.finish());
            reply = finished.unwrap().1.unwrap();
        }
    }
    let asked = inner.asked.lock().take();
    (asked, reply)
}

/// The rewritten name.
fn becomes(rules: &str, text: &str) -> String {
    let (asked, _) = walk(rules, testing::query(text, Type::A), Reply::default());
    asked.unwrap().question.name.to_string()
}

/// `OWNER TYPE NAME` of each record, the owner as the client sees it.
fn told(query: &Query, reply: &Reply) -> Vec<String> {
    let tell = |record| {
        let owner = match reply.owner(record) {
            Owner::Question => query.original.name,
            Owner::Name(name) => name.to_name(),
        };
        let target = reply.data_name(record).map(|name| name.to_string());
        let target = target.unwrap_or_default();
        format!("{owner} {} {target}", record.rtype)
            .trim()
            .to_owned()
    };
    reply.records().map(tell).collect()
}

#[test]
fn names_are_changed_by_the_first_rule_that_applies() {
    let rules = "rewrite name Old.example new.example
        rewrite name exact second.example third.example.
        rewrite stop name prefix api. web.
        rewrite name suffix .corp .svc.cluster.local answer auto
        rewrite {
            name regex ^([^.]+)\\.([^.]+)\\.Pod\\.$ never.example
        }
        rewrite stop {
            name regex ^([^.]+)\\.([^.]+)\\.pod\\.$ {2}-{1}.Svc answer auto
        }
        rewrite continue name substring .a. .b. answer auto
        rewrite name substring .b. .c. answer auto";
    for (asked, wanted) in [
        ("OLD.example", "new.example."),
        ("x.old.example", "x.old.example."),
        ("second.example", "third.example."),
        ("api.old.example", "web.old.example."),
        ("web.shop.corp", "web.shop.svc.cluster.local."),
        ("ip.ns.pod", "ns-ip.svc."),
        ("x.a.y.a.z", "x.c.y.c.z."),
        ("other.example", "other.example."),
        (".", "."),
    ] {
        assert_eq!(becomes(rules, asked), wanted, "{asked}");
    }
}

#[test]
fn a_query_without_a_matching_rule_is_unchanged() {
    let query = testing::query("Other.example", Type::A);
    let (asked, _) = walk("rewrite name a.example b.example", query, Reply::default());
    let asked = asked.unwrap();
    assert_eq!(asked.question, asked.original, "spelling is kept");
    assert!(asked.extensions.get::<AppliedRules>().is_none());
}

#[test]
fn an_invalid_name_fails() {
    let query = testing::query("aaaaaaaaaa.example", Type::A);
    let long = "b".repeat(60);
    let rule = format!("rewrite name regex ^(.*)\\.example\\.$ {{1}}{long}.example answer auto");
    let (asked, reply) = walk(&rule, query, Reply::default());
    assert!(asked.is_none());
    assert_eq!(reply.rcode, Rcode::SERVFAIL);
    assert!(
        reply
            .cause
            .unwrap()
            .starts_with("invalid name after rewrite: aaaaaaaaaab")
    );
}

/// A reply to a question for `web.svc.local`, with names in all places.
fn names_everywhere() -> Reply {
    let mut reply = Reply::default();
    let web = name("Web.svc.local");
    let alias = name("alias.web.svc.local");
    let (other, soa) = (name("Other.svc.local"), name("ns.svc.local"));
    reply.answer(Type::CNAME, 5, Data::Name(alias.as_ref()));
    let owned = Owner::Name(alias.as_ref());
    reply.push(
        Section::Answer,
        owned,
        Type::PTR,
        5,
        Data::Name(web.as_ref()),
    );
    let explicit = Owner::Name(web.as_ref());
    reply.push(
        Section::Answer,
        explicit,
        Type::A,
        5,
        Data::A([10, 0, 0, 1].into()),
    );
    let data = Data::Soa(Soa {
        primary: soa.as_ref(),
        mailbox: soa.as_ref(),
        serial: 1,
        refresh: 2,
        retry: 3,
        expire: 4,
        minimum: 5,
    });
    let owned = Owner::Name(other.as_ref());
    reply.push(Section::Authority, owned, Type::SOA, 5, data);
    let data = Data::Srv {
        priority: 1,
        weight: 2,
        port: 3,
        target: alias.as_ref(),
    };
    reply.push(Section::Additional, owned, Type::SRV, 5, data);
    reply
}

#[test]
fn names_in_replies_are_restored() {
    let other = "Other.svc.local. SOA";
    let srv = "Other.svc.local. SRV";
    for (rule, wanted) in [
        (
            "rewrite name asked.example web.svc.local",
            [
                "Asked.example. CNAME alias.asked.example.",
                "alias.asked.example. PTR asked.example.",
                "Asked.example. A",
                other,
                srv,
            ],
        ),
        (
            "rewrite name regex ^asked\\.example\\.$ web.svc.local answer auto",
            [
                "Asked.example. CNAME alias.asked.example.",
                "alias.asked.example. PTR asked.example.",
                "Asked.example. A",
                other,
                srv,
            ],
        ),
        (
            "rewrite name regex ^asked\\.example\\.$ web.svc.local",
            [
                "Asked.example. CNAME alias.web.svc.local.",
                "alias.web.svc.local. PTR Web.svc.local.",
                "Asked.example. A",
                other,
                srv,
            ],
        ),
        (
            "rewrite name regex ^(asked)\\.example\\.$ web.svc.local \
             answer name (.*)\\.web\\.svc\\.local {1}.there \
             value ^web\\.(.*) x.{1} answer value ^alias w.{0}",
            [
                "Asked.example. CNAME w.alias.",
                "alias.there. PTR x.svc.local.",
                "Asked.example. A",
                other,
                srv,
            ],
        ),
    ] {
        let mut query = testing::query("Asked.example", Type::A);
        let test_block = TestBlock::new(Vec::new());
        let context = test_block.context();
        let inner = names_everywhere();
        let (_, reply) = through(rule, &mut query, inner, context.sub_queries);
        assert_eq!(told(&query, &reply), wanted, "{rule}");
    }
}

#[test]
fn a_suffix_is_restored_in_every_name_that_has_it() {
    let rule = "rewrite name suffix .corp .svc.local answer auto";
    let mut query = testing::query("WEB.corp", Type::A);
    let test_block = TestBlock::new(Vec::new());
    let context = test_block.context();
    let (asked, reply) = through(rule, &mut query, names_everywhere(), context.sub_queries);
    assert_eq!(asked.unwrap().question.name, name("web.svc.local"));
    let wanted = [
        "WEB.corp. CNAME alias.web.corp.",
        "alias.web.corp. PTR web.corp.",
        "WEB.corp. A",
        "other.corp. SOA",
        "other.corp. SRV",
    ];
    assert_eq!(told(&query, &reply), wanted);
    let srv = reply.section(Section::Additional)[0];
    let data = reply.data(&srv);
    assert_eq!(&data[..6], [0, 1, 0, 2, 0, 3]);
    assert_eq!(&data[6..], name("alias.web.corp").as_wire());
    let soa = reply.section(Section::Authority)[0];
    let data = reply.data(&soa);
    let primary = name("ns.corp");
    assert!(data.starts_with(primary.as_wire()));
    let mailbox = name("ns.svc.local");
    assert!(data[primary.as_wire().len()..].starts_with(mailbox.as_wire()));
    assert!(data.ends_with(&[0, 0, 0, 5]));
}

#[test]
fn several_rules_are_reverted_in_reverse_order() {
    let rules = "rewrite continue name a.example b.example
        rewrite name b.example web.svc.local";
    let mut query = testing::query("a.example", Type::A);
    let test_block = TestBlock::new(Vec::new());
    let context = test_block.context();
    let (asked, reply) = through(rules, &mut query, names_everywhere(), context.sub_queries);
    assert_eq!(asked.unwrap().question.name, name("web.svc.local"));
    assert_eq!(told(&query, &reply)[1], "alias.a.example. PTR a.example.");
}

#[test]
fn the_name_of_a_naptr_follows_its_strings() {
    let rule = "rewrite name suffix .corp .svc.local answer auto";
    let texts = b"\0\x01\0\x02\x01s\x03SIP\0";
    let data = [&texts[..], name("a.svc.local").as_wire()].concat();
    let mut inner = Reply::default();
    inner.answer(Type(35), 5, Data::Raw(&data));
    inner.answer(Type(35), 5, Data::Raw(&texts[..7]));
    let (_, reply) = walk(rule, testing::query("web.corp", Type(35)), inner);
    let records = reply.section(Section::Answer);
    let wanted = [&texts[..], name("a.corp").as_wire()].concat();
    assert_eq!(reply.data(&records[0]), wanted);
    assert_eq!(reply.data(&records[1]), &texts[..7], "unchanged");
}

#[test]
fn types_classes_ttls_and_codes_are_changed() {
    let rules = "rewrite continue type ANY HINFO
        rewrite continue class CH IN
        rewrite continue ttl example. 7
        rewrite continue ttl suffix .example. 10-20
        rewrite continue ttl regex ^least 100-
        rewrite continue ttl prefix most. -1
        rewrite continue rcode regex . NXDOMAIN REFUSED
        rewrite continue rcode nothing.example 5 NOERROR";
    let ask = |text: &str, rcode| {
        let mut query = testing::query(text, Type::ANY);
        query.receive(|it| it.original.class = Class::CH);
        query.question.class = Class::CH;
        let mut inner = Reply::failure(rcode, Why::Upstream);
        for ttl in [0, 15, 1000] {
            inner.answer(Type::A, ttl, Data::A([10, 0, 0, 1].into()));
        }
        let (asked, reply) = walk(rules, query, inner);
        let asked = asked.unwrap().question;
        assert_eq!((asked.rtype, asked.class), (Type::HINFO, Class::IN));
        assert!(reply.records().all(|record| record.class == Class::CH));
        let ttls: Vec<_> = reply.records().map(|record| record.ttl).collect();
        (ttls, reply.rcode)
    };
    for (text, ttls) in [
        ("Example", vec![7, 7, 7]),
        ("a.example", vec![10, 15, 20]),
        ("least", vec![100, 100, 1000]),
        ("most.x", vec![0, 1, 1]),
        ("other", vec![0, 15, 1000]),
    ] {
        assert_eq!(ask(text, Rcode::NOERROR), (ttls, Rcode::NOERROR), "{text}");
    }
    assert_eq!(ask("other", Rcode::NXDOMAIN).1, Rcode::REFUSED);
    assert_eq!(ask("nothing.example", Rcode::REFUSED).1, Rcode::NOERROR);
    assert_eq!(ask("nothing.example", Rcode::SERVFAIL).1, Rcode::SERVFAIL);
}

#[test]
fn a_replaced_target_is_resolved() {
    let alias = |reply: &mut Reply, owner: Owner<'_>, target: &str| {
        let target = name(target);
        let data = Data::Name(target.as_ref());
        reply.push(Section::Answer, owner, Type::CNAME, 5, data);
    };
    let mut inner = Reply::failure(Rcode::NXDOMAIN, Why::Upstream);
    alias(&mut inner, Owner::Question, "one.example");
    let one = name("one.example");
    alias(&mut inner, Owner::Name(one.as_ref()), "Web.cdn.example");
    let web = name("web.cdn.example");
    let address = Data::A([192, 0, 2, 1].into());
    inner.push(
        Section::Answer,
        Owner::Name(web.as_ref()),
        Type::A,
        5,
        address,
    );
    let mut found = Reply::failure(Rcode::NOERROR, Why::ClusterRecord);
    found.answer(Type::A, 5, Data::A([10, 0, 0, 1].into()));
    for (rule, target) in [
        ("rewrite cname web.cdn.example. there.local", "there.local."),
        (
            "rewrite cname exact Web.CDN.example there.local.",
            "there.local.",
        ),
        ("rewrite cname prefix web. x.", "x.cdn.example."),
        ("rewrite cname suffix .cdn.example. .local.", "web.local."),
        ("rewrite cname substring .cdn. .", "web.example."),
        ("rewrite cname regex ^(.*)\\.cdn\\. {1}.{1}", "web.web."),
        (
            "rewrite continue cname other. x.\nrewrite cname web.cdn.example there.local",
            "there.local.",
        ),
    ] {
        let sub_queries = Arc::new(Outside(found.clone(), Mutex::default()));
        let as_handler: Arc<dyn SubQueryHandler> = Arc::clone(&sub_queries) as _;
        let mut query = testing::query("asked.example", Type::A);
        let (_, reply) = through(rule, &mut query, inner.clone(), &as_handler);
        let again = sub_queries.1.lock().unwrap();
        assert_eq!(again.name.to_string(), target, "{rule}");
        assert_eq!(again.rtype, Type::A);
        let wanted = [
            "asked.example. CNAME one.example.".to_owned(),
            format!("one.example. CNAME {target}"),
            format!("{target} A"),
        ];
        assert_eq!(told(&query, &reply), wanted, "{rule}");
        assert_eq!(reply.rcode, Rcode::NOERROR);
        assert_eq!((reply.why, reply.answered_by), (Why::Upstream, "inner"));
    }
    let sub_queries: Arc<dyn SubQueryHandler> = Arc::new(Outside(found, Mutex::default()));
    let mut query = testing::query("asked.example", Type::A);
    let rule = "rewrite cname other. x.";
    let (_, reply) = through(rule, &mut query, inner.clone(), &sub_queries);
    assert_eq!(told(&query, &reply), told(&query, &inner));
}

#[test]
fn a_failure_of_the_new_target_is_returned() {
    let target = name("old.example");
    let mut inner = Reply::failure(Rcode::NOERROR, Why::Upstream);
    inner.answer(Type::CNAME, 5, Data::Name(target.as_ref()));
    let mut failed = Reply::failure(Rcode::SERVFAIL, Why::UpstreamTimeout);
    failed.cause = Some("no answer".into());
    let sub_queries: Arc<dyn SubQueryHandler> = Arc::new(Outside(failed, Mutex::default()));
    let mut query = testing::query("asked.example", Type::A);
    let (_, reply) = through(
        "rewrite cname old.example new.example",
        &mut query,
        inner,
        &sub_queries,
    );
    assert_eq!(
        (reply.rcode, reply.why),
        (Rcode::SERVFAIL, Why::UpstreamTimeout)
    );
    assert_eq!(reply.cause.as_deref(), Some("no answer"));
}

/// The options of the forwarded query, and those of the reply, to which the next plugin copies the
/// options of the query.
fn options(rules: &str, own: &[(u16, &[u8])]) -> (Options, Options) {
    let mut query = testing::query("Web.example", Type::AAAA);
    query.receive(|it| it.client = "192.0.2.77:4321".parse().unwrap());
    query.receive(|it| it.local = "[2001:db8::1]:53".parse().unwrap());
    query.receive(|it| {
        it.edns = Some(Edns {
            udp_payload: 1232,
            version: 0,
            dnssec_ok: false,
            wants_nsid: own.iter().any(|(code, _)| *code == Options::NSID),
            is_padded: false,
        });
    });
    for (code, data) in own.iter().filter(|(code, _)| *code != Options::NSID) {
        assert!(query.options.push(*code, data));
    }
    let (asked, _) = walk(rules, query.clone(), Reply::default());
    let asked = asked.unwrap().options;
    let mut inner = Reply::default();
    inner.options.copy_from(&asked);
    let (_, reply) = walk(rules, query, inner);
    (asked, reply.options)
}

#[test]
fn options_are_set_added_replaced_and_removed() {
    let is = |rules: &str, own: &[(u16, &[u8])], wanted: &[(u16, &[u8])]| {
        let (asked, _) = options(rules, own);
        let asked: Vec<_> = asked.iter().collect();
        assert_eq!(asked, wanted, "{rules}");
    };
    let set = "rewrite edns0 local set 0xffee hello";
    is(set, &[], &[(0xFFEE, b"hello")]);
    is(
        set,
        &[(0xFFEE, b"x"), (1, b"y")],
        &[(0xFFEE, b"hello"), (1, b"y")],
    );
    let append = "rewrite edns0 local append 65518 0x00fF";
    is(append, &[], &[(0xFFEE, b"\x00\xFF")]);
    is(
        append,
        &[(0xFFEE, b"x")],
        &[(0xFFEE, b"x"), (0xFFEE, b"\x00\xFF")],
    );
    is(append, &[(0xFFEE, b"\x00\xFF")], &[(0xFFEE, b"\x00\xFF")]);
    let replace = "rewrite edns0 local replace 0xffee new";
    is(replace, &[], &[]);
    is(replace, &[(0xFFEE, b"x")], &[(0xFFEE, b"new")]);
    is(
        "rewrite edns0 local unset 0xffee",
        &[(0xFFEE, b"x"), (1, b"y")],
        &[(1, b"y")],
    );
    is("rewrite edns0 nsid set", &[], &[(3, b"")]);
    is("rewrite edns0 nsid replace", &[], &[]);
    is("rewrite edns0 nsid replace", &[(3, b"")], &[(3, b"")]);
    is("rewrite edns0 nsid unset", &[(3, b"")], &[]);
    is(
        "rewrite edns0 subnet set 20 56",
        &[(8, b"old")],
        &[(8, b"\0\x01\x14\0\xC0\0\0")],
    );
    is(
        "rewrite edns0 subnet append 0 0",
        &[],
        &[(8, b"\0\x01\0\0")],
    );
    is(
        "rewrite edns0 subnet append 32 0",
        &[(8, b"old")],
        &[(8, b"old")],
    );
    is("rewrite edns0 subnet unset", &[(8, b"old")], &[]);
}

#[test]
fn options_can_contain_properties_of_the_query() {
    for (variable, wanted) in [
        ("{qname}", &b"Web.example."[..]),
        ("{qtype}", &[0, 28]),
        ("{client_ip}", &[192, 0, 2, 77]),
        ("{client_port}", &[0x10, 0xE1]),
        ("{protocol}", b"udp"),
        (
            "{server_ip}",
            &[0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
        ("{server_port}", &[0, 53]),
    ] {
        let rule = format!("rewrite edns0 local set 0xffee {variable}");
        assert_eq!(options(&rule, &[]).0.get(0xFFEE), Some(wanted), "{rule}");
        let rule = format!("rewrite edns0 local append 0xffee {variable}");
        let own = options(&rule, &[(0xFFEE, b"own")]).0;
        assert_eq!(own.iter().count(), 1, "an existing option is kept");
    }
    let unknown = "rewrite edns0 local set 0xffee {kubernetes/namespace}
        rewrite edns0 local set 0xffef next";
    let (asked, _) = options(unknown, &[]);
    assert_eq!(asked.iter().collect::<Vec<_>>(), [(0xFFEF, &b"next"[..])]);
}

#[test]
fn a_client_cannot_prevent_a_rule_by_filling_the_buffer() {
    let own = [(1, &[0; Options::MAX - 8][..])];
    let (asked, _) = options("rewrite edns0 local set 0xffee {client_ip}", &own);
    assert_eq!(asked.get(0xFFEE), Some(&[192, 0, 2, 77][..]));
}

#[test]
fn changes_of_options_can_be_reverted() {
    for (rule, own, wanted) in [
        ("local set 0xffee a", None, Some("a")),
        ("local set 0xffee a revert", None, None),
        ("local append 0xffee a revert", None, None),
        ("local set 0xffee a", Some("own"), Some("a")),
        ("local set 0xffee a revert", Some("own"), Some("own")),
        ("local replace 0xffee a revert", Some("own"), Some("own")),
    ] {
        let own: Vec<_> = own.iter().map(|own| (0xFFEE, own.as_bytes())).collect();
        let (_, reply) = options(&format!("rewrite edns0 {rule}"), &own);
        assert_eq!(reply.get(0xFFEE), wanted.map(str::as_bytes), "{rule}");
    }
    let (_, reply) = options("rewrite edns0 subnet set 24 56 revert", &[]);
    assert!(reply.is_empty());
}

#[test]
fn metadata_can_be_part_of_a_name() {
    for (rules, wanted) in [
        (
            "rewrite name regex ^([^.]*)\\.short\\.$ {1}.{inner/Ns}.SVC metadata answer auto",
            "web.team.svc.",
        ),
        // Unknown or empty: the rule does not apply, with 'stop' too.
        (
            "rewrite stop name regex (.*)\\.short\\. {1}.{inner/ns}.svc metadata answer auto
             rewrite name exact web.short found.",
            "found.",
        ),
        (
            "rewrite name regex (.*)\\.short\\. {1}.{inner/empty}.svc metadata answer auto",
            "Web.Short.",
        ),
        (
            "rewrite name regex nothing {inner/Ns} metadata answer auto",
            "Web.Short.",
        ),
        // Without the word, braces are text.
        (
            "rewrite name regex (.*)\\.short\\. {1}.{inner/Ns}.svc answer auto",
            "web.{inner/ns}.svc.",
        ),
        (
            "rewrite continue name regex (.*)\\.short\\. {1}.{inner/Ns} metadata answer auto
             rewrite name regex (.*)\\.team\\. {1}.{inner/Ns}.two metadata answer auto",
            "web.team.two.",
        ),
    ] {
        assert_eq!(becomes(rules, "Web.Short."), wanted, "{rules}");
    }
    let rule = "rewrite name regex (.*)\\.short\\. {1}.{inner/odd} metadata answer auto";
    let (asked, reply) = walk(
        rule,
        testing::query("web.short.", Type::A),
        Reply::default(),
    );
    assert!(asked.is_none());
    assert_eq!(reply.rcode, Rcode::SERVFAIL);
}

#[test]
fn likely_mistakes_are_warned_of() {
    for (text, wanted) in [
        ("rewrite name a.example b.example", ""),
        ("rewrite name suffix .a .b answer auto", ""),
        ("rewrite name suffix .a .b answer name a b", ""),
        (
            "rewrite name suffix .a .b",
            "names in answers are not rewritten",
        ),
        (
            "rewrite name regex a b answer value a b",
            "names in answers are not rewritten",
        ),
        (
            "rewrite name prefix a- b. answer auto",
            "only whole labels match: 'a-.'",
        ),
        ("rewrite ttl substring a 5", "only whole labels match: 'a.'"),
        ("rewrite ttl regex org$ 5", "a name ends in a dot"),
        (r"rewrite ttl regex \w$ 5", ""),
        (r"rewrite ttl regex org\.$ 5", ""),
        ("rewrite type ANY HINFO", ""),
        ("rewrite cname regex (a) {2}", "there is no group {2}"),
        (
            "rewrite type AAAA A",
            "clients that query AAAA get no records of it",
        ),
        ("rewrite name regex a {a/b}.b metadata answer auto", ""),
        (
            "rewrite name regex a {a/b}.b metadata",
            "names in answers are not rewritten",
        ),
    ] {
        let told = warnings(text);
        assert_eq!(told.is_empty(), wanted.is_empty(), "{text}: {told:?}");
        assert!(told.concat().contains(wanted), "{text}: {told:?}");
    }
}

#[test]
fn invalid_directives_are_rejected() {
    for (text, words) in [
        ("rewrite", "expected what to rewrite"),
        ("rewrite stop", "expected what to rewrite"),
        ("rewrite nme a b", "did you mean 'name'?"),
        ("rewrite answer name a b", "must begin with a name rule"),
        ("rewrite name a", "expected the replacement of the name"),
        ("rewrite name a b c", "unknown value 'a'"),
        ("rewrite name sufix a b", "did you mean 'suffix'?"),
        ("rewrite name a..b c", "no empty label"),
        ("rewrite name a b..c", "no empty label"),
        ("rewrite name regex ( b", "not a regular expression"),
        (
            "rewrite name regex (a) {2}{3}",
            "the regular expression has one group",
        ),
        ("rewrite name regex a {1} answer auto", "has no groups"),
        (
            "rewrite name regex a b auto",
            "expected 'answer' or the end",
        ),
        (
            "rewrite name regex a b answer",
            "expected auto, name or value",
        ),
        ("rewrite name regex a b answer all", "invalid type 'all'"),
        (
            "rewrite name regex a b answer name x",
            "expected a replacement",
        ),
        ("rewrite name regex a b answer name x {1}", "has no groups"),
        (
            "rewrite name regex a b answer auto name x y",
            "cannot be combined",
        ),
        (
            "rewrite name a b {\nanswer auto\n}",
            "directive's line or in its block",
        ),
        ("rewrite class IN", "expected a class"),
        ("rewrite class IN XX", "unknown value 'XX'"),
        ("rewrite class IN CH IN", "takes 3 arguments"),
        ("rewrite type A NOPE", "invalid type 'NOPE'"),
        ("rewrite ttl a", "expected a TTL"),
        ("rewrite ttl a -", "invalid TTL '-'"),
        ("rewrite ttl a 5-4", "invalid TTL '5-4'"),
        ("rewrite ttl a 5s", "invalid TTL '5s'"),
        ("rewrite ttl a +5", "invalid TTL '+5'"),
        ("rewrite ttl a 2147483648", "invalid TTL"),
        ("rewrite rcode a NXDOMAIN", "expected a response code"),
        ("rewrite rcode a NXDOMAIN 24", "'24' is no response code"),
        ("rewrite cname a", "expected the replacement of the target"),
        ("rewrite cname kind a b", "unknown value 'kind'"),
        ("rewrite edns0", "expected local, nsid or subnet"),
        ("rewrite edns0 local put 1 a", "unknown value 'put'"),
        ("rewrite edns0 local set x a", "'x' is no option code"),
        ("rewrite edns0 local set 65536 a", "no option code"),
        ("rewrite edns0 local set 1 0xabc", "an even number"),
        (
            "rewrite edns0 local set 1 {what}",
            "unsupported variable name",
        ),
        ("rewrite edns0 local set 1 a b", "unknown value 'b'"),
        ("rewrite edns0 local set 1 revert", "the option has no data"),
        ("rewrite edns0 local unset 1 a", "takes 4 arguments"),
        ("rewrite edns0 subnet set 24", "expected lengths"),
        ("rewrite edns0 subnet set 33 56", "out of range"),
        ("rewrite edns0 nsid set 1", "unknown value '1'"),
        (
            "rewrite name regex a b METADATA",
            "expected 'answer' or the end",
        ),
        (
            "rewrite name regex a b metadata metadata",
            "expected 'answer' or the end",
        ),
        (
            "rewrite name regex a b metadata answer",
            "expected auto, name or value",
        ),
        (
            "rewrite name exact a b metadata",
            "metadata is only supported for regex name rules",
        ),
        (
            "rewrite name suffix a b metadata answer auto",
            "metadata is only supported for regex name rules",
        ),
        (
            "rewrite name regex (a) {2} metadata",
            "there is no group {2}",
        ),
        (
            "rewrite name regex (a) {-1} metadata",
            "there is no group {-1}",
        ),
        (
            "rewrite name regex a {}.b metadata",
            "neither a group nor a label",
        ),
        (
            "rewrite name regex a {x}.b metadata",
            "neither a group nor a label",
        ),
        (
            "rewrite name regex a {x/y.b metadata",
            "a '{' is never closed",
        ),
        ("rewrite name regex a x}.b metadata", "a '}' closes nothing"),
    ] {
        let told = read(text).map(|_| ()).unwrap_err();
        assert!(told.contains(words), "{text}: {told}");
        assert!(told.contains("plugin/rewrite"), "{text}: {told}");
    }
}
