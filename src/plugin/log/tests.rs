use std::time::Duration;

use super::*;
use crate::{
    logging::Output,
    plugin::{
        ZoneList,
        testing::{self, TestBlock},
    },
    query::Question,
    reply::Why,
    wire::{self, Rcode, Type},
};

fn parsed(text: &str) -> Result<Config, Vec<String>> {
    testing::headlines(text, ".", parse).map(|(config, _)| config)
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
fn invalid_directives_are_rejected() {
    for (text, wanted) in [
        ("log {common}", "'{common}' is not a name"),
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
fn the_first_rule_for_the_name_applies() {
    let config = parsed("log quiet. {\nclass error\n}\nlog . \"{name} {rcode}\"").unwrap();
    let output = Output::default();
    let sink = output.sink();
    let test_block = TestBlock::new(vec![Log::new(&config, sink.clone()).into()]);
    let written = Written {
        size: 30,
        truncated: false,
        took: Duration::from_millis(1),
    };
    for (name, rcode) in [
        ("A.quiet.", Rcode::NOERROR),
        ("b.Loud.", Rcode::NOERROR),
        ("c.quiet.", Rcode::REFUSED),
    ] {
        let reply = Reply::failure(rcode, Why::Upstream);
        let TestBlock { block, .. } = &test_block;
        block.chain.wrote(block, &question(name), &reply, written);
    }
    assert_eq!(
        output.read(&sink),
        "[INFO] b.loud. NOERROR\n\
         [INFO] 127.0.0.1:0 - 0 \"A IN c.quiet. udp 0 false 512\" REFUSED qr,rd 30 0.001s\n"
    );
}

#[test]
fn dropped_queries_are_errors_without_a_code() {
    let config = parsed(
        "log quiet. {\nclass success denial\n}\nlog . \"{common} {/log/class} {/log/type}\"",
    )
    .unwrap();
    let output = Output::default();
    let sink = output.sink();
    let mut log = Log::new(&config, sink.clone());
    log.published = Some(Arc::new(Published {
        zones: ZoneList::read_or_block(&[], &[".".to_owned()]).unwrap(),
    }));
    let test_block = TestBlock::new(vec![log.into()]);
    for name in ["a.quiet.", "b."] {
        let TestBlock { block, .. } = &test_block;
        let took = Duration::from_millis(2);
        block.chain.dropped(block, &question(name), took);
    }
    assert_eq!(
        output.read(&sink),
        "[INFO] 127.0.0.1:0 - 0 \"A IN b. udp 0 false 512\" - - 0 0.002s error OTHERERROR\n"
    );
}

#[test]
fn a_record_has_the_line_and_its_fields() {
    let config = parsed("log . \"{name} \\\"{rcode}\\\"\"").unwrap();
    let output = Output::default();
    let sink = output.records();
    let test_block = TestBlock::new(vec![Log::new(&config, sink.clone()).into()]);
    let TestBlock { block, .. } = &test_block;
    let mut query = question("A\\\"b.");
    query.receive(|it| it.client = "[2001:db8::9]:4242".parse().unwrap());
    query.receive(|it| it.original.rtype = Type(1234));
    query.receive(|it| it.original.class = wire::Class(77));
    query.receive(|it| it.id = 7);
    query.receive(|it| it.size = 41);
    let reply = Reply::failure(Rcode(3841), Why::Upstream);
    let written = Written {
        size: 30,
        truncated: false,
        took: Duration::from_micros(1500),
    };
    block.chain.wrote(block, &query, &reply, written);
    block.chain.dropped(block, &query, Duration::ZERO);
    let records = output.read(&sink);
    let asked = r#","plugin":"log","client_ip":"2001:db8::9","client_port":4242,"qname":"a\\\"b.","qtype":"TYPE1234","qclass":"CLASS77","protocol":"udp","id":7,"opcode":0,"request_size":41,"dnssec_ok":false,"bufsize":512,"rcode":"#;
    for (line, wanted) in records.lines().zip([
        format!(
            r#""level":"INFO","msg":"a\\\"b. \"3841\""{asked}"3841","response_size":30,"duration_seconds":0.0015,"reason":"answer of an upstream server"}}"#
        ),
        format!(
            r#""level":"INFO","msg":"a\\\"b. \"-\""{asked}null,"response_size":0,"duration_seconds":0}}"#
        ),
    ]) {
        assert!(line.ends_with(&wanted), "{line}\n{wanted}");
    }
    assert_eq!(records.lines().count(), 2);
}
