use std::path::Path;

use super::*;
use crate::{
    metrics::Metrics,
    plugin::{
        Chain, Outcome, Resolved, SharedResources,
        testing::{self, TestBlock},
    },
    reply::{Section, Why},
    wire::{Class, Rcode, Type},
};

const ZONE: &str = "@ 60 SOA ns admin 1 2 3 4 5\nwww 60 A 192.0.2.1\nout 60 CNAME www.other.test.\n\
                    *.w 60 A 192.0.2.2\n";

/// The configuration of a block.
fn config(text: &str) -> Config {
    let read = testing::read(text, "example.test.", parse);
    read.unwrap().0
}

fn build(config: &Config) -> Result<Plugin, String> {
    build_with(&SharedResources::default(), config)
}

fn build_with(resources: &SharedResources, config: &Config) -> Result<Plugin, String> {
    testing::build(resources, &Metrics::new(), |build| {
        let built = config.build(build);
        assert_eq!(build.offers.zones.len(), usize::from(built.is_ok()));
        built.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    })
}

/// The result for a query: `pass`, or code, reason and the types of the answer.
async fn ask(plugin: &Plugin, name: &str, rtype: Type) -> String {
    let test_block = TestBlock::new(Vec::new());
    let mut query = testing::query(name, rtype);
    let mut reply = Reply::default();
    let reply =
        match testing::inbound(plugin).on_query(&test_block.context(), &mut query, &mut reply) {
            Step::Pass => return "pass".to_owned(),
            Step::Answer => reply,
            Step::Wait(pending) => match pending.await {
                Resolved::Answer(reply) => reply,
                _ => panic!("the alias is answered in any case"),
            },
            Step::Drop | Step::Forward(_) => panic!("nothing is dropped or forwarded"),
        };
    let types = reply.section(Section::Answer).iter();
    let types: Vec<_> = types.map(|record| record.rtype.to_string()).collect();
    format!("{} {:?} {}", reply.rcode, reply.why, types.join(" "))
}

#[tokio::test]
async fn a_zone_answers_for_its_names_and_passes_others() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ZONE).unwrap();
    let path = file.path().display();
    let plugin = build(&config(&format!("file {path}"))).unwrap();
    for (name, rtype, wanted) in [
        ("www.example.test", Type::A, "NOERROR ZoneRecord A"),
        ("www.example.test", Type::TXT, "NOERROR ZoneNoData "),
        ("no.example.test", Type::A, "NXDOMAIN NoSuchName "),
        ("www.other.test", Type::A, "pass"),
        ("example.test", Type::AXFR, "REFUSED TransferRefused "),
        // The server of the test refuses every query.
        ("out.example.test", Type::A, "NOERROR ZoneRecord CNAME"),
    ] {
        assert_eq!(ask(&plugin, name, rtype).await, wanted, "{name} {rtype}");
    }
    let mut other_class = testing::query("www.example.test", Type::A);
    other_class.question.class = Class::CH;
    let test_block = TestBlock::new(Vec::new());
    let step = testing::inbound(&plugin).on_query(
        &test_block.context(),
        &mut other_class,
        &mut Reply::default(),
    );
    assert!(matches!(step, Step::Pass));
    // No plugin follows: the name is in no zone of this server.
    let chain = Chain::new(vec![plugin]);
    let mut reply = Reply::default();
    let mut query = testing::query("www.other.test", Type::A);
    let walk = chain.walk(&test_block.context(), &mut query, &mut reply);
    assert!(matches!(walk, Outcome::Done));
    assert_eq!((reply.rcode, reply.why), (Rcode::REFUSED, Why::NoZone));
}

#[tokio::test]
async fn names_that_do_not_exist_fall_through_if_configured() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ZONE).unwrap();
    let path = file.path().display();
    let text = format!("file {path} {{\nfallthrough a.example.test w.example.test\n}}");
    let plugin = build(&config(&text)).unwrap();
    for (name, wanted) in [
        ("b.a.example.test", "pass"),
        ("b.example.test", "NXDOMAIN NoSuchName "),
        ("w.example.test", "pass"),
        ("a.w.example.test", "NOERROR ZoneRecord A"),
    ] {
        assert_eq!(ask(&plugin, name, Type::A).await, wanted, "{name}");
    }
}

#[tokio::test]
async fn a_missing_file_is_retried_and_an_invalid_one_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let text = |options: &str| format!("file {} {{\n{options}\n}}", path.display());
    let plugin = build(&config(&text(""))).unwrap();
    let failure = ask(&plugin, "www.example.test", Type::A).await;
    assert_eq!(failure, "SERVFAIL NotLoaded ");
    let error = build(&config(&text("reload 0"))).err().unwrap();
    assert!(error.contains("cannot read"), "{error}");
    for (content, wanted) in [
        ("@ 1 SOA", "db:1: SOA has 7 fields, found 0"),
        (
            "@ 1 A 192.0.2.1",
            "the zone has no SOA record for example.test.",
        ),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = build(&config(&text(""))).err().unwrap();
        assert!(error.contains("cannot serve example.test.: "), "{error}");
        assert!(error.ends_with(wanted), "{error}");
    }
}

/// A zone of this serial with one address, whose last byte is the second number; included from
/// another file if there is one.
fn write(path: &Path, serial: u32, address: u8, included: Option<&Path>) {
    let include = included.map_or_else(String::new, |it| format!("$INCLUDE {}\n", it.display()));
    let padding = "; ".repeat(usize::from(address));
    let text =
        format!("@ 1 SOA a a {serial} 1 1 1 1\nwww 1 A 192.0.2.{address}\n{include}{padding}");
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_zone_survives_a_reload_while_its_file_is_missing() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ZONE).unwrap();
    let config = config(&format!("file {}", file.path().display()));
    let resources = SharedResources::default();
    build_with(&resources, &config).unwrap();
    // A reload loads the file whatever its serial.
    let changed = ZONE.replace("www 60 A", "www 60 AAAA ::1\nx 60 A");
    std::fs::write(file.path(), changed).unwrap();
    let resources = resources.succeed();
    let plugin = build_with(&resources, &config).unwrap();
    assert_eq!(
        ask(&plugin, "www.example.test", Type::A).await,
        "NOERROR ZoneNoData "
    );
    file.close().unwrap();
    let plugin = build_with(&resources.succeed(), &config).unwrap();
    assert_eq!(
        ask(&plugin, "x.example.test", Type::A).await,
        "NOERROR ZoneRecord A"
    );
}

#[test]
fn a_zone_is_replaced_when_its_serial_changes() {
    let directory = tempfile::tempdir().unwrap();
    let (path, part) = (directory.path().join("db"), directory.path().join("part"));
    let held = Arc::new(Held::new(Name::parse("example.test").unwrap()));
    let mut changes = held.changes();
    let mut loader = ZoneLoader::new(&path, &held, false, NAME);
    assert!(matches!(
        loader.load_if_changed(),
        Err(LoadError::Unreadable { .. })
    ));
    let state = |held: &Held| {
        let zone = held.zone().unwrap();
        (zone.timers().serial, zone.records())
    };
    let mut load = |loader: &mut ZoneLoader| {
        assert!(loader.reload());
        let changed = changes.has_changed().unwrap();
        changes.mark_unchanged();
        changed
    };
    write(&path, 1, 1, None);
    assert!(load(&mut loader));
    assert!(!load(&mut loader), "nothing new");
    write(&path, 1, 2, None);
    assert!(!load(&mut loader), "the same serial");
    let mut by_time = ZoneLoader::new(&path, &held, true, NAME);
    assert!(load(&mut by_time), "taken for its time");
    // Any other serial, even an earlier one.
    write(&path, 0, 3, None);
    assert!(load(&mut loader));
    assert_eq!(state(&held), (0, 2));
    std::fs::write(&path, "@ 1 SOA a a 9 1 1 1").unwrap();
    assert!(
        !load(&mut loader),
        "what is wrong leaves the zone as it was"
    );
    std::fs::remove_file(&path).unwrap();
    assert!(!load(&mut loader));
    assert_eq!(state(&held), (0, 2));
    // Included files are checked too, even those that were missing.
    write(&path, 5, 4, Some(&part));
    assert!(!load(&mut loader));
    std::fs::write(&part, "x 1 A 192.0.2.9\n").unwrap();
    assert!(load(&mut loader));
    assert_eq!(state(&held), (5, 3));
    drop(held);
    assert!(!loader.reload(), "the zone is not in use any more");
}

#[tokio::test]
async fn the_longest_zone_answers_and_ds_is_answered_by_the_parent() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ZONE).unwrap();
    let path = file.path().display();
    let plugin = build(&config(&format!(
        "file {path} example.test sub.example.test"
    )))
    .unwrap();
    let answer = "NOERROR ZoneRecord A";
    assert_eq!(ask(&plugin, "www.sub.example.test", Type::A).await, answer);
    let denial = ask(&plugin, "sub.example.test", Type::DS).await;
    assert_eq!(denial, "NXDOMAIN NoSuchName ", "the upper zone has no cut");
    let own = ask(&plugin, "example.test", Type::DS).await;
    assert_eq!(own, "NOERROR ZoneNoData ");
}
