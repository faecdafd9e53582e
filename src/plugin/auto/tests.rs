use std::{fs, path::Path};

use super::*;
use crate::{
    metrics::Metrics,
    plugin::testing::{self, TestBlock},
    wire::{Rcode, Type},
};

fn config(directory: &Path) -> Config {
    let text = format!(
        "auto example.test {{\ndirectory {}\n}}",
        directory.display()
    );
    testing::read(&text, ".", parse).unwrap().0
}

fn write(path: &Path, serial: u32) {
    let text = format!("@ 1 SOA a a {serial} 1 1 1 1\nwww 1 A 192.0.2.1\n; {serial}\n");
    fs::write(path, text).unwrap();
}

/// The zones with their serials, in order.
fn zones(zones: &LoadedZones) -> Vec<String> {
    let serials = zones.serials().into_iter();
    let mut lines: Vec<_> = serials
        .map(|(zone, serial)| format!("{zone} {serial}"))
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn zones_come_and_go_with_their_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let served = Arc::new(LoadedZones {
        table: ArcSwap::default(),
        changed: watch::Sender::new(()),
    });
    let mut changes = served.changed.subscribe();
    let mut watched = ZoneDirectory::new(
        &config(directory.path()),
        &served,
        Arc::default(),
        &Metrics::new(),
    );
    write(&path("db.a.example.test"), 1);
    write(&path("readme"), 1);
    fs::create_dir(path("more")).unwrap();
    write(&path("more/db.B.example.test"), 1);
    fs::write(path("db.bad.example.test"), "nothing").unwrap();
    assert!(watched.refresh());
    assert_eq!(zones(&served), ["a.example.test. 1", "b.example.test. 1"]);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert!(watched.refresh());
    assert!(!changes.has_changed().unwrap(), "nothing new");
    write(&path("db.a.example.test"), 22);
    fs::remove_file(path("more/db.B.example.test")).unwrap();
    write(&path("db.bad.example.test"), 3);
    assert!(watched.refresh());
    assert_eq!(
        zones(&served),
        ["a.example.test. 22", "bad.example.test. 3"]
    );
    assert!(changes.has_changed().unwrap());
    // The first file in the order of names is used until it is deleted.
    write(&path("more/db.a.example.test"), 444);
    assert!(watched.refresh());
    assert_eq!(zones(&served).len(), 2);
    fs::remove_file(path("db.a.example.test")).unwrap();
    assert!(watched.refresh());
    assert_eq!(
        zones(&served),
        ["a.example.test. 444", "bad.example.test. 3"]
    );
    // A directory that cannot be read leaves the zones as they are.
    let elsewhere = directory.path().with_extension("away");
    fs::rename(directory.path(), &elsewhere).unwrap();
    assert!(watched.refresh());
    assert_eq!(zones(&served).len(), 2);
    fs::rename(&elsewhere, directory.path()).unwrap();
    drop(served);
    assert!(!watched.refresh());
}

#[test]
fn an_invalid_record_is_skipped_and_an_invalid_file_leaves_the_zone_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db.example.test");
    let served = Arc::new(LoadedZones {
        table: ArcSwap::default(),
        changed: watch::Sender::new(()),
    });
    let metrics = Metrics::new();
    let mut watched =
        ZoneDirectory::new(&config(directory.path()), &served, Arc::default(), &metrics);
    let mut look = |text: &str| {
        fs::write(&path, text).unwrap();
        assert!(watched.refresh() && watched.refresh());
        let found = served
            .table
            .load()
            .zones()
            .next()
            .and_then(|held| held.zone());
        let records = found.map_or(0, |zone| zone.records());
        (
            zones(&served),
            records,
            metrics.left_out_total.with_label_values(&[NAME]).get(),
        )
    };
    let soa = |serial| format!("@ 1 SOA a a {serial} 1 1 1 1\n");
    let one = vec!["example.test. 1".to_owned()];
    let two = vec!["example.test. 2".to_owned()];
    let three = vec!["example.test. 3".to_owned()];
    let good = "b 1 A 192.0.2.1\n";
    assert_eq!(look(&format!("{}{good}a 1 A none\n", soa(1))), (one, 2, 1));
    assert_eq!(
        look(&format!("{}{good}a 1 NOPE\nc 1 A x\n", soa(2))),
        (two.clone(), 2, 3)
    );
    // A file without a zone or cut off within a record leaves the served zone as it was.
    assert_eq!(look("nothing\n"), (two.clone(), 2, 4));
    assert_eq!(look(""), (two.clone(), 2, 4));
    assert_eq!(look(&format!("{}a 1 A 192", soa(3))), (two, 2, 4));
    assert_eq!(
        look(&format!("{}{good}c 1 A 192.0.2.2\n", soa(3))),
        (three, 3, 4)
    );
}

#[test]
fn a_zone_survives_a_reload_while_its_file_is_invalid() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db.example.test");
    let known: Arc<ZonesByFile> = Arc::default();
    let look = || {
        let served = Arc::new(LoadedZones {
            table: ArcSwap::default(),
            changed: watch::Sender::new(()),
        });
        let known = Arc::clone(&known);
        ZoneDirectory::new(&config(directory.path()), &served, known, &Metrics::new()).refresh();
        zones(&served)
    };
    write(&path, 1);
    assert_eq!(look(), ["example.test. 1"]);
    fs::write(&path, "").unwrap();
    assert_eq!(look(), ["example.test. 1"]);
    write(&path, 2);
    assert_eq!(look(), ["example.test. 2"]);
    fs::remove_file(&path).unwrap();
    assert_eq!(look(), [""; 0]);
}

#[test]
fn names_within_the_zones_are_answered_and_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory.path().join("db.test"), 1);
    let config = config(directory.path());
    let zones = Arc::new(LoadedZones {
        table: ArcSwap::default(),
        changed: watch::Sender::new(()),
    });
    ZoneDirectory::new(&config, &zones, Arc::default(), &Metrics::new()).refresh();
    let auto = Auto {
        within: config.zones,
        zones,
        _watching: JoinSet::new(),
    };
    let test_block = TestBlock::new(Vec::new());
    let mut reply = Reply::default();
    let mut ask = |name| {
        auto.on_query(
            &test_block.context(),
            &mut testing::query(name, Type::A),
            &mut reply,
        )
    };
    assert!(matches!(ask("www.test"), Step::Pass));
    assert!(matches!(ask("www.example.test"), Step::Answer));
    assert_eq!(reply.rcode, Rcode::NXDOMAIN);
}
