use futures_util::FutureExt;

use super::*;
use crate::{
    corefile::Word,
    metrics::Metrics,
    plugin::{
        Step, SubQueryHandler,
        testing::{self, TestBlock},
    },
};

/// Parses the templates of a block of `example.org`: the configuration and the headlines of
/// warnings, or the report of the errors.
fn read(text: &str) -> Result<(Config, Vec<String>), String> {
    testing::read(text, "example.org.", parse)
}

/// Answers internal queries with these records; `gone.test` does not exist.
struct Elsewhere(&'static [&'static str]);

impl SubQueryHandler for Elsewhere {
    fn answer(self: Arc<Self>, query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let mut reply = Reply::default();
        if query.question.lower.to_string() == "gone.test." {
            let soa = Record::parse("test. 5 SOA a. b. 1 2 3 4 5").unwrap();
            push(&mut reply, Section::Authority, &soa, &query);
            reply.rcode = Rcode::NXDOMAIN;
            reply.why = Why::Upstream;
            return Box::pin(std::future::ready(reply));
        }
        for text in self.0 {
            let record =
                Record::parse(&text.replace('@', &query.question.name.to_string())).unwrap();
            push(&mut reply, Section::Answer, &record, &query);
        }
        Box::pin(std::future::ready(reply))
    }
}

struct Tested {
    plugin: Templates,
    metrics: Arc<Metrics>,
}

impl Tested {
    fn new(text: &str) -> Self {
        let (config, _) = read(text).unwrap_or_else(|error| panic!("{error}"));
        let metrics = Metrics::new();
        let plugin = Templates {
            list: config.templates,
            published: None,
            counters: Counters::new(&metrics),
        };
        Self { plugin, metrics }
    }

    fn reply(&self, query: &mut Query) -> Option<Reply> {
        let test_block = TestBlock::new(Vec::new());
        let sub_queries: Arc<dyn SubQueryHandler> = Arc::new(Elsewhere(&["@ 30 A 192.0.2.99"]));
        let context = Context {
            sub_queries: &sub_queries,
            block: &test_block.block,
        };
        let mut reply = Reply::default();
        match self.plugin.on_query(&context, query, &mut reply) {
            Step::Answer => Some(reply),
            Step::Wait(pending) => match pending.now_or_never().unwrap() {
                Resolved::Answer(reply) => Some(reply),
                _ => panic!("a pending query is neither passed on nor dropped"),
            },
            _ => None,
        }
    }

    /// The reply as text: its code, then the records, those of other sections after a bar; `passed
    /// on` without a reply.
    fn ask(&self, name: &str, rtype: Type) -> String {
        let mut query = testing::query(name, rtype);
        let Some(reply) = self.reply(&mut query) else {
            return "passed on".to_owned();
        };
        let mut text = reply.rcode.to_string();
        for (section, bar) in Section::ALL.into_iter().zip(["", " |", " ||"]) {
            for record in reply.section(section) {
                let owner = match reply.owner(record) {
                    Owner::Question => query.original.name.to_string(),
                    Owner::Name(name) => name.to_string(),
                };
                let data = match (record.rtype, reply.data_name(record)) {
                    (_, Some(name)) => name.to_string(),
                    (Type::A, _) => {
                        let bytes: [u8; 4] = reply.data(record).try_into().unwrap();
                        std::net::Ipv4Addr::from(bytes).to_string()
                    }
                    _ => String::from_utf8_lossy(reply.data(record)).into_owned(),
                };
                let line = format!("{bar} {owner} {} {} {data}", record.ttl, record.rtype);
                text.push_str(&line);
            }
        }
        text
    }
}

#[test]
fn templates_give_the_output_of_go() {
    let mut query = testing::query("IP-10-1-2-30.Example.org.", Type::A);
    query.receive(|it| it.id = 4660);
    query.receive(|it| it.client = ([192, 0, 2, 1], 4000).into());
    let regex = r"^ip-(?P<a>[0-9]+)-(?P<b>[0-9]+)-([0-9]+)-(?P<d>[0-9]+)(?P<opt>x)?\.";
    let regex = pattern::read(&Word::detached(regex)).unwrap();
    let name = "ip-10-1-2-30.example.org.";
    let groups: Vec<&str> = regex
        .captures(name)
        .unwrap()
        .iter()
        .map(|group| group.map_or("", |group| group.as_str()))
        .collect();
    let list = vec![Value::String("p".to_owned()), Value::String("q".to_owned())];
    let found = Match {
        query: &query,
        name,
        zone: "example.org.",
        regex: &regex,
        groups,
        class: Class::IN,
        rtype: Type::A,
        variables: vec![
            ("n", Value::Integer(7)),
            ("s", Value::String("x y".to_owned())),
            ("yes", Value::Bool(true)),
            ("l", Value::Array(list)),
        ],
    };
    let known: BTreeSet<String> = regex
        .capture_names()
        .enumerate()
        .flat_map(|(at, name)| [Some(at.to_string()), name.map(str::to_owned)])
        .flatten()
        .collect();
    let variables = ["n", "s", "yes", "l"].map(str::to_owned);
    let scope = text::Scope {
        groups: &known,
        variables: &variables,
    };
    let metadata = || -> MetadataValues {
        Arc::new(|label| if label == "view/name" { "inner" } else { "" }.to_owned())
    };
    let rows = include_str!("go.tsv")
        .lines()
        .filter(|row| !row.starts_with('#'));
    let mut count = 0;
    for row in rows {
        let (source, wanted) = row.split_once('\t').unwrap();
        let made = Text::read(&Word::detached(source), scope).map(|text| {
            let uses = text.uses().collect();
            text.execute(&found.data(&uses, metadata))
        });
        match (wanted, made) {
            ("REFUSED", made) => assert!(made.is_err(), "{source}"),
            ("FAILS", Ok(made)) => assert!(made.is_err(), "{source}: {made:?}"),
            // A template that can never be executed is rejected earlier than in Go.
            ("FAILS", Err(_)) => {}
            (wanted, made) => {
                let made = made.unwrap_or_else(|error| panic!("{source}: {error}"));
                assert_eq!(
                    made.as_deref(),
                    Ok(wanted.strip_prefix("= ").unwrap()),
                    "{source}"
                );
            }
        }
        count += 1;
    }
    assert!(count > 60, "{count}");
}

#[test]
fn matches_are_answered_and_others_fall_through() {
    let plugin = Tested::new(
        r#"template IN A example.org {
            match "^ip-(?P<a>[0-9]+)-(?P<b>[0-9]+)[.]example[.]org[.]$"
            answer "{{ .Name }} 60 IN A 10.0.{{ .Group.a }}.{{ .Group.b }}"
            additional "ns.example.org. 60 IN A 192.0.2.53"
            authority "example.org. 60 IN NS ns.example.org."
            fallthrough deeper.example.org
        }
        template IN ANY {
            match ^gone[.] ^lost[.]
            rcode NXDOMAIN
            fallthrough
        }
        template ANY TXT other.example.org {
            answer "{{ .Zone }} 5 {{ .Class }} {{ .Type }} x"
        }"#,
    );
    for (name, rtype, wanted) in [
        (
            "IP-1-2.example.org",
            Type::A,
            "NOERROR IP-1-2.example.org. 60 A 10.0.1.2 \
             | example.org. 60 NS ns.example.org. || ns.example.org. 60 A 192.0.2.53",
        ),
        // The second template is not tried.
        ("gone.example.org", Type::A, "SERVFAIL"),
        ("gone.example.org", Type::TXT, "NXDOMAIN"),
        ("lost.deeper.example.org", Type::A, "NXDOMAIN"),
        ("found.deeper.example.org", Type::A, "passed on"),
        ("found.example.org", Type::MX, "passed on"),
        (
            "a.other.example.org",
            Type::TXT,
            "NOERROR other.example.org. 5 TXT \u{1}x",
        ),
        // An ANY question matches every type.
        ("ip-1-2.example.org", Type::ANY, "NOERROR"),
        ("example.com", Type::A, "passed on"),
    ] {
        let got = plugin.ask(name, rtype);
        let same = got == wanted || (rtype == Type::ANY && got.starts_with(wanted));
        assert!(same, "{name} {rtype}: {got}");
    }
    let text = plugin.metrics.encode();
    for line in [
        r#"coredns_template_matches_total{class="IN",server="dns://:53",type="A",view="",zone="example.org."} 3"#,
        r#"coredns_template_matches_total{class="IN",server="dns://:53",type="TXT",view="",zone="other.example.org."} 1"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn an_alias_is_followed_for_address_questions() {
    let plugin = Tested::new(
        r#"template IN ANY {
            answer "{{ .Name }} 60 CNAME elsewhere.test." "{{ .Name }} 60 A 192.0.2.1"
        }"#,
    );
    assert_eq!(
        plugin.ask("a.example.org", Type::A),
        "NOERROR a.example.org. 60 CNAME elsewhere.test. elsewhere.test. 30 A 192.0.2.99 \
         a.example.org. 60 A 192.0.2.1"
    );
    assert_eq!(
        plugin.ask("a.example.org", Type::TXT),
        "NOERROR a.example.org. 60 CNAME elsewhere.test. a.example.org. 60 A 192.0.2.1"
    );
}

#[test]
fn an_alias_without_data_has_the_code_of_its_target() {
    let plugin = Tested::new(
        r#"template IN ANY {
            match ^both[.]
            answer "{{ .Name }} 60 CNAME gone.test." "{{ .Name }} 60 CNAME elsewhere.test."
            fallthrough
        }
        template IN ANY {
            match ^refused[.]
            answer "{{ .Name }} 60 CNAME gone.test."
            rcode REFUSED
            fallthrough
        }
        template IN ANY {
            answer "{{ .Name }} 60 CNAME gone.test."
        }"#,
    );
    let ask = |name, rtype| {
        let reply = plugin.ask(name, rtype);
        reply.split(" 5 SOA").next().unwrap().to_owned()
    };
    for (name, rtype, wanted) in [
        (
            "a.example.org",
            Type::A,
            "NXDOMAIN a.example.org. 60 CNAME gone.test. | test.",
        ),
        (
            "a.example.org",
            Type::CNAME,
            "NOERROR a.example.org. 60 CNAME gone.test.",
        ),
        (
            "refused.example.org",
            Type::A,
            "REFUSED refused.example.org. 60 CNAME gone.test.",
        ),
        (
            "both.example.org",
            Type::A,
            "NOERROR both.example.org. 60 CNAME gone.test. both.example.org. 60 CNAME \
             elsewhere.test. elsewhere.test. 30 A 192.0.2.99",
        ),
    ] {
        assert_eq!(ask(name, rtype), wanted);
    }
}

#[test]
fn variables_and_expressions_select_and_are_available() {
    let plugin = Tested::new(
        r#"template IN A {
            match "^(?P<host>[a-z]+)-(?P<n>[0-9]+)[.]"
            var n int(group('n'))
            var next n + 1
            expr n < 100 && group('host') not matches '^x'
            expr client_ip() == '127.0.0.1'
            answer "{{ .Name }} 60 A 10.0.0.{{ .Var.next }}"
        }"#,
    );
    for (name, wanted) in [
        (
            "web-7.example.org",
            "NOERROR web-7.example.org. 60 A 10.0.0.8",
        ),
        ("web-100.example.org", "SERVFAIL"),
        ("x-1.example.org", "SERVFAIL"),
        // Exceeds 64 bits.
        ("web-99999999999999999999.example.org", "SERVFAIL"),
    ] {
        assert_eq!(plugin.ask(name, Type::A), wanted, "{name}");
    }
}

#[test]
fn codes_are_answered_with_their_extended_error() {
    let plugin = Tested::new(
        "template IN A {\nmatch ^a\nrcode NXDOMAIN\nederror 15 \"not here\"\nfallthrough\n}\n\
         template IN A {\nrcode SERVFAIL\nederror 22\n}",
    );
    for (name, rcode, authoritative, code, text) in [
        ("a.example.org", Rcode::NXDOMAIN, true, 15, "not here"),
        ("b.example.org", Rcode::SERVFAIL, false, 22, ""),
    ] {
        let reply = plugin.reply(&mut testing::query(name, Type::A)).unwrap();
        assert_eq!((reply.rcode, reply.authoritative), (rcode, authoritative));
        let error = reply.extended_error.unwrap();
        assert_eq!((error.code, &*error.text), (code, text));
    }
}

#[test]
fn a_template_that_fails_is_a_failure_with_its_cause() {
    let plugin = Tested::new(
        r#"template IN A {
            match ^n-([0-9]+)
            answer "{{ .Name }} 60 A 10.0.0.{{ parseInt (index .Match 1) 10 16 }}"
        }"#,
    );
    let cause = |name: &str| {
        let reply = plugin.reply(&mut testing::query(name, Type::A)).unwrap();
        assert_eq!((reply.rcode, reply.why), (Rcode::SERVFAIL, Why::Internal));
        assert!(reply.section(Section::Answer).is_empty() && !reply.authoritative);
        reply.cause.unwrap()
    };
    assert!(cause("n-300.example.org").contains("'10.0.0.300' is not an IPv4 address"));
    assert!(cause("n-70000.example.org").contains("not a number of base 10"));
    let text = plugin.metrics.encode();
    for family in ["template_failures", "rr_failures"] {
        let line = format!(r#"coredns_template_{family}_total{{class="IN",section="answer","#);
        assert!(text.contains(&line), "{line} in {text}");
    }
}

#[test]
fn only_templates_of_other_classes_request_them() {
    for text in ["template IN A", "template ANY ANY"] {
        assert!(
            !Tested::new(text).plugin.properties().other_classes,
            "{text}"
        );
    }
    let chaos = Tested::new("template CH TXT {\nanswer \"{{ .Name }} CH TXT x\"\n}");
    assert!(chaos.plugin.properties().other_classes);
    let mut query = testing::query("example.org", Type::TXT);
    assert!(chaos.reply(&mut query).is_none());
    query.question.class = Class::CH;
    let reply = chaos.reply(&mut query).unwrap();
    assert_eq!(reply.section(Section::Answer)[0].class, Class::CH);
}

#[test]
fn errors_mark_their_word() {
    for (text, words) in [
        ("template", "expected a class, IN or ANY"),
        ("template IN", "expected a type"),
        ("template XX A", "invalid query class XX"),
        ("template IN AAA", "did you mean 'AAAA'?"),
        ("template IN A {\nansver x\n}", "did you mean 'answer'?"),
        (
            "template IN A {\nmatch (\n}",
            "could not parse regex: unclosed group",
        ),
        (
            "template IN A {\nanswer \"{{ .Nmae }} A 192.0.2.1\"\n}",
            "did you mean 'Name'?",
        ),
        (
            "template IN A {\nanswer \"{{ foo .Name }}\"\n}",
            "function \"foo\" not defined",
        ),
        (
            "template IN A {\nanswer \"{{ .Name\"\n}",
            "could not compile template: unclosed action",
        ),
        (
            "template IN A {\nanswer {{ .Name }} A 192.0.2.1\n}",
            "put the record in quotes",
        ),
        (
            "template IN A {\nanswer \"\"\n}",
            "an empty template is not a record",
        ),
        (
            "template IN A {\nmatch ^(?P<a>x)\nanswer \"{{ .Group.b }} A 192.0.2.1\"\n}",
            "no group 'b' here",
        ),
        (
            "template IN A {\nanswer \"{{ .Meta }}\"\n}",
            "expected a label",
        ),
        (
            "template IN A {\nanswer \"{{ .Var.x }}\"\n}",
            "no variable 'x' here",
        ),
        (
            "template IN A {\nvar 1x 1\n}",
            "invalid variable name \"1x\"",
        ),
        (
            "template IN A {\nvar name 1\n}",
            "variable name \"name\" is reserved",
        ),
        ("template IN A {\nvar x\n}", "expected an expression"),
        (
            "template IN A {\nexpr nam() == ''\n}",
            "did you mean 'name'?",
        ),
        ("template IN A {\nexpr name()\n}", "not true or false"),
        ("template IN A {\nrcode NOPE\n}", "unknown rcode NOPE"),
        ("template IN A {\nederror x\n}", "not a number"),
        ("template IN A {\nederror 70000\n}", "out of range"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
        assert!(error.contains("plugin/template: "), "{text}: {error}");
    }
    let caret = read("template IN A {\nanswer \"{{ .Nmae }} A 192.0.2.1\"\n}").unwrap_err();
    assert!(caret.contains("           ^^^^"), "{caret}");
}

#[test]
fn ineffective_properties_and_invalid_records_are_warned_of() {
    for (lines, wanted) in [
        ("upstream", "'upstream' does nothing"),
        (
            "answer \"{{ .Name }} 60 IN {{ .Type }} 10.0.0.300\"",
            "the output is not a record, so that queries fail",
        ),
        (
            "answer \"a\" ",
            "the output is not a record, so that queries fail",
        ),
    ] {
        let (_, warnings) = read(&format!("template IN A {{\n{lines}\n}}")).unwrap();
        assert_eq!(warnings, [wanted], "{lines}");
    }
    let quiet = "template ANY ANY {\nmatch (?P<ip>.*)[.]example\nanswer \"{{ .Name }} A {{ .Group.ip }}\"\n}";
    assert!(read(quiet).unwrap().1.is_empty());
}

#[test]
#[ignore = "a measurement"]
fn time_per_answer() {
    let text = r#"template IN A {
        match "^ip-([0-9]+)-([0-9]+)-([0-9]+)-([0-9]+)[.]"
        answer "{{ .Name }} 60 IN A {{ index .Match 1 }}.{{ index .Match 2 }}.{{ index .Match 3 }}.{{ index .Match 4 }}"
        fallthrough
    }"#;
    let plugin = Tested::new(text);
    for name in [
        "ip-10-1-2-3.example.org",
        "other.example.org",
        "example.com",
    ] {
        let start = std::time::Instant::now();
        let mut query = testing::query(name, Type::A);
        for _ in 0..100_000 {
            plugin.reply(&mut query);
        }
        println!("{name}: {:?}", start.elapsed() / 100_000);
    }
}
