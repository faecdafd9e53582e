use std::{collections::BTreeSet, fs::File, time::Duration};

use super::*;
use crate::cluster::{
    Endpoint, EndpointSlice, Event, ExternalAddresses, ImportOrigin, Namespace, Object,
    ObjectRevision, Pod, PodLabels, Port, Protocol, Service, ServiceImport, ServiceKind, fold,
};

fn settings(directory: &Path) -> Settings {
    Settings {
        snapshot: Some(SnapshotSettings::new(directory.to_owned())),
        pods: true,
        imports: true,
        ..Settings::new(Backend::Manifests {
            directory: "/manifests".into(),
        })
    }
}

/// One object of each kind, with every field set.
fn objects() -> Vec<Object> {
    let ports = [
        Port {
            name: "http".into(),
            number: Some(80),
            protocol: Protocol::Tcp,
        },
        Port {
            name: "".into(),
            number: None,
            protocol: Protocol::Sctp,
        },
    ];
    let ip = |text: &str| text.parse().unwrap();
    let endpoint = |address: &str, ready| {
        Endpoint::new(
            ip(address),
            ready,
            Some("db-0"),
            Some("pod"),
            Some("zone-a"),
        )
    };
    vec![
        Object::Namespace(Namespace {
            name: "shop".into(),
        }),
        Object::Service(Service {
            namespace: "shop".into(),
            name: "db".into(),
            kind: ServiceKind::Headless,
            cluster_ips: Box::new([ip("10.96.0.9"), ip("fd00::9")]),
            external_name: Some("example.com".into()),
            ports: ports.clone().into(),
            external: Some(Box::new(ExternalAddresses {
                addresses: Box::new([ip("192.0.2.1")]),
                hostnames: Box::new(["lb.example.com".into()]),
            })),
            revision: ObjectRevision::new(1_700_000_000, Some(4711)),
        }),
        Object::EndpointSlice(
            EndpointSlice {
                namespace: "shop".into(),
                name: "db-1".into(),
                service: "db".into(),
                import: Some(Box::new(ImportOrigin {
                    service: "far".into(),
                    cluster: "west".into(),
                })),
                ports: ports.clone().into(),
                endpoints: vec![endpoint("10.1.0.1", true), endpoint("fd00::1", false)].into(),
            },
            None,
        ),
        Object::Pod(Pod {
            namespace: "shop".into(),
            name: "db-0".into(),
            v4: Some([10, 1, 0, 1].into()),
            v6: Some("fd00::1".parse().unwrap()),
            host_network: true,
            labels: PodLabels::new([("app".into(), "db".into())].into_iter()),
        }),
        Object::ServiceImport(ServiceImport {
            namespace: "shop".into(),
            name: "far".into(),
            headless: true,
            ips: Box::new([ip("10.97.0.1")]),
            ports: ports.into(),
        }),
    ]
}

fn task(settings: &Settings, cluster: Arc<Cluster>) -> WriteTask {
    let snapshot = settings.snapshot.as_ref().unwrap();
    WriteTask {
        path: path(settings, snapshot),
        fingerprint: fingerprint(settings),
        kinds: settings.kinds(),
        interval: snapshot.interval,
        cluster,
    }
}

fn written(directory: &Path) -> (Settings, PathBuf) {
    let settings = settings(directory);
    let task = task(&settings, fold::load(objects()));
    task.write().unwrap();
    (settings, task.path)
}

/// All objects, as texts.
fn shown(cluster: &Cluster) -> BTreeSet<String> {
    let objects = Objects::collect(cluster);
    let mut all = BTreeSet::new();
    let collected = objects.each(|object| {
        all.insert(format!("{:?}", object.into_object().unwrap().unwrap()));
        Ok::<_, ()>(())
    });
    collected.unwrap();
    all
}

#[test]
fn objects_of_all_kinds_are_kept_with_all_fields() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let before = fold::load(objects());
    task(&settings, Arc::clone(&before)).write().unwrap();
    let open = open(&settings).unwrap();
    let cluster = Arc::new(Cluster::restored(open.loaded(), &settings.kinds()));
    let mut writer = StateWriter::new(Arc::clone(&cluster));
    open.load(&mut writer);
    assert_eq!(shown(&cluster), shown(&before));
    assert_eq!(shown(&cluster).len(), 5);
    assert_eq!(cluster.serial(), before.serial());
    assert!(cluster.is_ready() && !cluster.synced());
    assert!(Kind::ALL.iter().all(|kind| !cluster.is_listed(*kind)));
    assert!(cluster.snapshot().unwrap().age() < Duration::from_mins(1));

    for kind in Kind::ALL {
        writer.fold(Event::ListStart(kind));
        writer.fold(Event::ListEnd(kind));
    }
    assert!(cluster.synced() && cluster.snapshot().is_none());
    assert_eq!(shown(&cluster).len(), 0);
}

#[test]
fn files_that_cannot_be_trusted_are_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let (settings, path) = written(directory.path());
    let good = fs::read(&path).unwrap();
    let error = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        assert!(open(&settings).is_none());
        try_open(&path, &settings).err().unwrap().to_string()
    };
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    assert!(error(&flipped).contains("damaged"));
    assert!(error(&good[..good.len() - 1]).contains("damaged"));
    assert!(error(&[&good[..], b"x"].concat()).contains("damaged"));
    assert!(error(b"").contains("not a snapshot"));
    assert!(error(&[0; 4096]).contains("not a snapshot"));
    let mut later = good.clone();
    later[b"lodestone-snapshot\n".len() + 3] = 9;
    assert!(error(&later).contains("format 9"));

    fs::write(&path, &good).unwrap();
    assert!(open(&settings).is_some());
    let tomorrow = SystemTime::now() + Duration::from_hours(24);
    let file = File::options().append(true).open(&path).unwrap();
    file.set_modified(tomorrow).unwrap();
    assert!(open(&settings).is_none());
    let why = try_open(&path, &settings).err().unwrap().to_string();
    assert!(why.contains("in the future"), "{why}");

    let mut other = settings.clone();
    other.pod_names = true;
    assert!(open(&other).is_none(), "a file of its own");
    fs::write(super::path(&other, other.snapshot.as_ref().unwrap()), &good).unwrap();
    assert!(open(&other).is_none());
}

#[test]
fn any_cut_and_any_changed_byte_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (settings, path) = written(directory.path());
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        fs::write(&path, &good[..at]).unwrap();
        assert!(try_open(&path, &settings).is_err(), "cut at {at}");
        let mut changed = good.clone();
        changed[at] = changed[at].wrapping_add(1);
        fs::write(&path, &changed).unwrap();
        assert!(try_open(&path, &settings).is_err(), "changed at {at}");
    }
}

#[test]
fn a_failed_write_keeps_the_file_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (settings, path) = written(directory.path());
    let good = fs::read(&path).unwrap();
    let header = Header::default();
    let mut writer = Writer::create(&path, &header).unwrap();
    let object = Namespace {
        name: "shop".into(),
    };
    writer.add(&SnapshotObject::namespace(&object)).unwrap();
    drop(writer); // as after an error
    assert_eq!(fs::read(&path).unwrap(), good);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

    let gone = directory.path().join("gone");
    let mut nowhere = settings;
    nowhere.snapshot = Some(SnapshotSettings::new(gone));
    assert!(task(&nowhere, fold::load([])).write().is_err());
}

#[test]
fn the_time_is_renewed_without_a_change_and_leftovers_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let (settings, path) = written(directory.path());
    let file = File::options().append(true).open(&path).unwrap();
    let old = SystemTime::now() - Duration::from_hours(48);
    file.set_modified(old).unwrap();
    let task = task(&settings, fold::load(objects()));
    task.renew().unwrap();
    let age = fs::metadata(&path).unwrap().modified().unwrap().elapsed();
    assert!(age.unwrap() < Duration::from_mins(1));

    for name in ["lodestone-0.snapshot", "lodestone-0.snapshot-new", "other"] {
        let file = File::create(directory.path().join(name)).unwrap();
        file.set_modified(old).unwrap();
    }
    task.remove_left_over();
    let left = fs::read_dir(directory.path()).unwrap();
    let left: BTreeSet<_> = left.map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(path.exists());
}
