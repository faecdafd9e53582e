use std::{fmt::Write, time::Instant};

use super::*;
use crate::{
    metrics::Metrics,
    plugin::{
        SharedResources,
        testing::{self, TestBlock},
    },
    reply::Owner,
};

fn config(file: &str) -> Config {
    Config {
        file: file.into(),
        rules: TableRules {
            zones: ZoneList::all(),
            reverse: true,
        },
        inline: Vec::new(),
        ttl: 3600,
        reload: None,
        fallthrough: ZoneList::none(),
        unsupported_falls_through: false,
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn build(config: &Config, metrics: &Arc<Metrics>) -> Plugin {
    testing::build(&SharedResources::default(), metrics, |build| {
        config.build(build).unwrap()
    })
}

/// The outcome of a question: `pass`, or the rcode, the reason and the records.
fn ask(hosts: &Plugin, text: &str, rtype: Type) -> String {
    let test_block = TestBlock::new(Vec::new());
    let mut query = testing::query(text, rtype);
    let mut reply = Reply::default();
    match testing::inbound(hosts).on_query(&test_block.context(), &mut query, &mut reply) {
        Step::Pass => "pass".to_owned(),
        Step::Answer => {
            let mut told = format!("{} {:?}", reply.rcode, reply.why);
            assert_eq!(reply.authoritative, reply.rcode == Rcode::NOERROR);
            for record in reply.records() {
                assert!(
                    matches!(reply.owner(record), Owner::Question),
                    "the client's spelling"
                );
                let data = match (record.rtype, reply.data(record)) {
                    (Type::PTR, _) => reply.data_name(record).unwrap().to_string(),
                    (Type::A, data) => IpAddr::from(<[u8; 4]>::try_from(data).unwrap()).to_string(),
                    (_, data) => IpAddr::from(<[u8; 16]>::try_from(data).unwrap()).to_string(),
                };
                write!(told, " {} {data}", record.ttl).unwrap();
            }
            told
        }
        step => format!("{step:?}"),
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

const TEXT: &str = "192.0.2.1 a.example.org\n192.0.2.2 a.example.org\n2001:db8::1 six.example.org\n\
                    192.0.2.9 *.wild.org\n";

#[tokio::test]
async fn answers_follow_the_options() {
    type Change = fn(&mut Config);
    let file = file(TEXT);
    let plain: Change = |_| {};
    let falls: Change = |config| config.fallthrough = ZoneList::all();
    let falls_net: Change = |config| config.fallthrough = [name("net")].into_iter().collect();
    let both: Change = |config| {
        config.fallthrough = ZoneList::all();
        config.unsupported_falls_through = true;
    };
    let org: Change = |config| config.rules.zones = [name("org")].into_iter().collect();
    let no_reverse: Change = |config| config.rules.reverse = false;
    let inline: Change = |config| {
        config.ttl = 60;
        config.inline = vec![
            ([192, 0, 2, 7].into(), name("A.example.org")),
            ([192, 0, 2, 1].into(), name("a.example.org")),
        ];
    };
    let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    for (change, text, rtype, told) in [
        (
            plain,
            "a.example.org",
            Type::A,
            "NOERROR HostsRecord 3600 192.0.2.1 3600 192.0.2.2",
        ),
        (
            plain,
            "A.Example.ORG",
            Type::A,
            "NOERROR HostsRecord 3600 192.0.2.1 3600 192.0.2.2",
        ),
        (
            plain,
            "six.example.org",
            Type::AAAA,
            "NOERROR HostsRecord 3600 2001:db8::1",
        ),
        (plain, "a.example.org", Type::AAAA, "NOERROR HostsNoData"),
        (plain, "a.example.org", Type::TXT, "NOERROR HostsNoData"),
        (
            plain,
            "any.wild.org",
            Type::A,
            "NOERROR HostsRecord 3600 192.0.2.9",
        ),
        (plain, "wild.org", Type::A, "SERVFAIL NoSuchHost"),
        (plain, "other.org", Type::A, "SERVFAIL NoSuchHost"),
        (falls, "other.org", Type::A, "pass"),
        (falls, "a.example.org", Type::TXT, "NOERROR HostsNoData"),
        (falls_net, "other.org", Type::A, "SERVFAIL NoSuchHost"),
        (falls_net, "other.net", Type::A, "pass"),
        (both, "a.example.org", Type::TXT, "pass"),
        (both, "a.example.org", Type::AAAA, "NOERROR HostsNoData"),
        (org, "other.net", Type::A, "pass"),
        (
            org,
            "1.2.0.192.in-addr.arpa",
            Type::PTR,
            "NOERROR HostsRecord 3600 a.example.org.",
        ),
        (
            plain,
            six,
            Type::PTR,
            "NOERROR HostsRecord 3600 six.example.org.",
        ),
        (plain, "3.2.0.192.in-addr.arpa", Type::PTR, "pass"),
        (plain, "a.example.org", Type::PTR, "pass"),
        (no_reverse, "1.2.0.192.in-addr.arpa", Type::PTR, "pass"),
        (
            inline,
            "a.example.org",
            Type::A,
            "NOERROR HostsRecord 60 192.0.2.1 60 192.0.2.2 60 192.0.2.7",
        ),
    ] {
        let mut config = config(file.path().to_str().unwrap());
        change(&mut config);
        let hosts = build(&config, &Metrics::new());
        assert_eq!(ask(&hosts, text, rtype), told, "{text} {rtype}");
    }
}

/// Repeats the question until the answer is the expected one.
async fn becomes(hosts: &Plugin, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let told = ask(hosts, "a.org", Type::A);
        if told == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{told}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_edit_is_picked_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts");
    let metrics = Metrics::new();
    let mut config = config(path.to_str().unwrap());
    config.reload = Some(Duration::from_millis(2));
    config.inline = vec![([192, 0, 2, 7].into(), name("inline.org"))];
    let hosts = build(&config, &metrics);
    assert_eq!(ask(&hosts, "a.org", Type::A), "SERVFAIL NoSuchHost");
    let inline = "NOERROR HostsRecord 3600 192.0.2.7";
    assert_eq!(ask(&hosts, "inline.org", Type::A), inline);
    std::fs::write(&path, "192.0.2.1 a.org\n").unwrap();
    becomes(&hosts, "NOERROR HostsRecord 3600 192.0.2.1").await;
    let edited = directory.path().join("edited");
    std::fs::write(&edited, "192.0.2.20 a.org\nnonsense\n").unwrap();
    std::fs::rename(&edited, &path).unwrap();
    becomes(&hosts, "NOERROR HostsRecord 3600 192.0.2.20").await;
    assert_eq!(ask(&hosts, "inline.org", Type::A), inline);
    let label = format!("hostsfile=\"{}\"", path.display());
    let entries = format!("coredns_hosts_entries{{{label}}} 4");
    let text = metrics.encode();
    assert!(text.lines().any(|line| line == entries), "{text}");
    assert!(metrics.hosts.reload_timestamp_seconds.get() > 1e9);
}

#[tokio::test]
async fn a_table_outlives_a_reload_while_its_file_is_gone() {
    let file = file("192.0.2.9 a.org\n");
    let config = config(file.path().to_str().unwrap());
    let (resources, metrics) = (SharedResources::default(), Metrics::new());
    let build = |resources: &SharedResources| {
        testing::build(resources, &metrics, |build| config.build(build).unwrap())
    };
    let before = ask(&build(&resources), "a.org", Type::A);
    assert!(before.contains("192.0.2.9"), "{before}");
    file.close().unwrap();
    assert_eq!(ask(&build(&resources.succeed()), "a.org", Type::A), before);
}

#[test]
fn bad_lines_of_a_file_are_counted_once() {
    let file = file("192.0.2.1 good\n192.0.2 bad\n192.0.2.2\n");
    let config = config(file.path().to_str().unwrap());
    let (table, metrics) = (Arc::new(ArcSwap::<HostsTable>::default()), Metrics::new());
    let mut watched = Watched::new(&config, &table, &metrics);
    watched.look();
    watched.look();
    assert_eq!(metrics.left_out_total.with_label_values(&[NAME]).get(), 2);
}

#[test]
fn a_missing_file_leaves_the_table_unchanged() {
    let file = file(TEXT);
    let config = config(file.path().to_str().unwrap());
    let table = Arc::new(ArcSwap::<HostsTable>::default());
    let mut watched = Watched::new(&config, &table, &Metrics::new());
    watched.look();
    let first = table.load_full();
    watched.look();
    assert!(
        Arc::ptr_eq(&first, &table.load()),
        "an unchanged file is not read again"
    );
    file.close().unwrap();
    watched.look();
    assert_eq!(table.load().entries(), first.entries());
}

#[tokio::test]
async fn an_unreadable_file_is_not_fatal() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = build(&config(directory.path().to_str().unwrap()), &Metrics::new());
    assert_eq!(ask(&hosts, "a.org", Type::A), "SERVFAIL NoSuchHost");
}
