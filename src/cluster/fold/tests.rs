use super::*;
use crate::cluster::{Endpoint, ObjectKey, ObjectRevision, Port, Protocol, ServiceKind};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

/// A cluster and its writer.
struct Fold {
    cluster: Arc<Cluster>,
    writer: StateWriter,
}

impl Fold {
    fn new() -> Self {
        let cluster = Arc::new(Cluster::new(&[Kind::Service, Kind::EndpointSlice]));
        Self {
            writer: StateWriter::new(Arc::clone(&cluster)),
            cluster,
        }
    }

    fn fold_all(&mut self, events: impl IntoIterator<Item = Event>) -> &mut Self {
        for event in events {
            self.writer.fold(event);
        }
        self
    }

    fn entry(&self, name: &str) -> Option<Arc<ServiceEntry>> {
        self.cluster.entry("ns", name).map(|found| found.share())
    }

    /// The addresses of an entry's endpoints.
    fn endpoints(&self, name: &str) -> Vec<String> {
        let entry = self.entry(name);
        entry
            .iter()
            .flat_map(|it| it.endpoints())
            .map(|it| it.address.to_string())
            .collect()
    }

    fn owners(&self, address: &str) -> Vec<String> {
        let owners = self.cluster.entries_at(address.parse().unwrap());
        let mut names: Vec<_> = owners.map(|entry| entry.key.name.to_string()).collect();
        names.sort();
        names
    }

    fn pods(&self, address: &str) -> Vec<String> {
        let pods = self.cluster.pods(address.parse().unwrap());
        let mut names: Vec<_> = pods.map(|pod| pod.name.to_string()).collect();
        names.sort();
        names
    }
}

fn service(name: &str, address: &str) -> Object {
    Object::Service(Service {
        namespace: "ns".into(),
        name: name.into(),
        kind: ServiceKind::ClusterIp,
        cluster_ips: [address.parse().unwrap()].into(),
        external_name: None,
        ports: [Port {
            name: "http".into(),
            number: Some(80),
            protocol: Protocol::Tcp,
        }]
        .into(),
        external: None,
        revision: crate::cluster::ObjectRevision::default(),
    })
}

fn slice(name: &str, service: &str, addresses: &[&str]) -> Object {
    let endpoint = |it: &&str| Endpoint::new(it.parse().unwrap(), true, None, Some("p"), Some("z"));
    let slice = EndpointSlice {
        namespace: "ns".into(),
        name: name.into(),
        service: service.into(),
        import: None,
        ports: [Port {
            name: "http".into(),
            number: Some(8080),
            protocol: Protocol::Tcp,
        }]
        .into(),
        endpoints: addresses.iter().map(endpoint).collect(),
    };
    Object::EndpointSlice(slice, None)
}

fn pod(name: &str, address: &str) -> Object {
    Object::Pod(Pod {
        namespace: "ns".into(),
        name: name.into(),
        v4: Some(address.parse().unwrap()),
        v6: None,
        host_network: false,
        labels: None,
    })
}

fn deleted(kind: Kind, name: &str) -> Event {
    Event::Delete(kind, ObjectKey::from(("ns", name)))
}

fn list(kind: Kind, objects: impl IntoIterator<Item = Object>) -> Vec<Event> {
    let applied = objects.into_iter().map(Event::Apply);
    [Event::ListStart(kind)]
        .into_iter()
        .chain(applied)
        .chain([Event::ListEnd(kind)])
        .collect()
}

#[test]
fn a_restarted_list_keeps_known_objects_until_it_ends_and_deletes_the_unlisted() {
    let mut fold = Fold::new();
    fold.fold_all(list(
        Kind::Service,
        [service("kept", A), service("deleted", B)],
    ));
    // The second list fails after a page with a Service that is deleted afterwards.
    fold.fold_all([
        Event::ListStart(Kind::Service),
        Event::Apply(service("brief", "10.0.0.3")),
    ]);
    fold.fold_all([Event::ListStart(Kind::Service)]);
    for name in ["kept", "deleted", "brief"] {
        assert!(
            fold.entry(name).is_some(),
            "{name} is served until the list is complete"
        );
    }
    fold.fold_all([
        Event::Apply(service("kept", A)),
        Event::ListEnd(Kind::Service),
    ]);
    assert!(fold.entry("kept").is_some());
    assert!(fold.entry("deleted").is_none());
    assert!(fold.entry("brief").is_none());
    assert_eq!(fold.owners(A), ["kept"]);
    assert!(fold.owners(B).is_empty());
    assert_eq!(fold.cluster.stats().objects(Kind::Service), 1);
}

#[test]
fn an_object_deleted_during_a_list_is_deleted() {
    let mut fold = Fold::new();
    fold.fold_all(list(Kind::Service, [service("a", A), service("b", B)]));
    fold.fold_all([
        Event::ListStart(Kind::Service),
        Event::Apply(service("a", A)),
    ]);
    fold.fold_all([Event::Apply(service("b", B)), deleted(Kind::Service, "a")]);
    fold.fold_all([Event::ListEnd(Kind::Service)]);
    assert!(fold.entry("a").is_none());
    assert!(fold.entry("b").is_some());
}

#[test]
fn an_empty_list_deletes_the_objects_of_its_kind_only() {
    let mut fold = Fold::new();
    fold.fold_all(list(Kind::Service, [service("a", A)]));
    fold.fold_all(list(Kind::EndpointSlice, [slice("a-1", "a", &[B])]));
    fold.fold_all(list(Kind::Service, []));
    assert!(fold.entry("a").unwrap().service.is_none());
    assert_eq!(fold.owners(B), ["a"]);
    fold.fold_all(list(Kind::EndpointSlice, []));
    assert!(fold.entry("a").is_none());
    assert!(fold.owners(B).is_empty());
}

#[test]
fn an_identical_list_changes_nothing() {
    let all = || [service("a", A), service("b", B)];
    let slices = || [slice("a-1", "a", &[A, B])];
    let mut fold = Fold::new();
    fold.fold_all(list(Kind::Service, all()))
        .fold_all(list(Kind::EndpointSlice, slices()));
    let before = fold.entry("a").unwrap();
    fold.cluster.set_serial(7);
    fold.fold_all(list(Kind::Service, all()))
        .fold_all(list(Kind::EndpointSlice, slices()));
    assert!(
        Arc::ptr_eq(&before, &fold.entry("a").unwrap()),
        "the entry was replaced"
    );
    assert_eq!(fold.cluster.serial(), 7);
}

#[test]
fn an_undecodable_object_keeps_its_last_state() {
    let mut fold = Fold::new();
    fold.fold_all(list(Kind::Service, [service("a", A), service("b", B)]));
    fold.fold_all([
        Event::ListStart(Kind::Service),
        Event::SkippedObject(Kind::Service, Some(("ns", "a").into())),
    ]);
    fold.fold_all([Event::ListEnd(Kind::Service)]);
    assert!(fold.entry("a").is_some());
    assert!(fold.entry("b").is_none());
    assert_eq!(fold.cluster.stats().skipped_objects(Kind::Service), 1);
}

#[test]
fn a_slice_moved_to_another_service_leaves_the_old_one() {
    let mut fold = Fold::new();
    fold.fold_all([
        Event::Apply(slice("s", "a", &[A])),
        Event::Apply(slice("s", "b", &[A, B])),
    ]);
    assert!(fold.entry("a").is_none());
    assert_eq!(fold.endpoints("b"), [A, B]);
    assert_eq!(fold.owners(A), ["b"]);
}

#[test]
fn a_slice_and_its_service_are_added_and_deleted_in_any_order() {
    let mut fold = Fold::new();
    fold.fold_all([Event::Apply(slice("a-1", "a", &[B]))]);
    assert!(fold.entry("a").unwrap().service.is_none());
    fold.fold_all([Event::Apply(service("a", A))]);
    let entry = fold.entry("a").unwrap();
    assert!(entry.service.is_some());
    assert_eq!(entry.slices.len(), 1);
    fold.fold_all([deleted(Kind::Service, "a")]);
    assert_eq!(fold.endpoints("a"), [B]);
    assert!(fold.owners(A).is_empty());
    fold.fold_all([deleted(Kind::EndpointSlice, "a-1")]);
    assert!(fold.entry("a").is_none());
    assert!(fold.owners(B).is_empty());
    fold.fold_all([
        deleted(Kind::EndpointSlice, "a-1"),
        deleted(Kind::Service, "never"),
    ]);
}

#[test]
fn an_address_moves_between_services_in_either_order() {
    let mut fold = Fold::new();
    fold.fold_all([Event::Apply(service("a", A)), Event::Apply(service("b", B))]);
    fold.fold_all([Event::Apply(service("b", A))]);
    assert_eq!(fold.owners(A), ["a", "b"]);
    fold.fold_all([deleted(Kind::Service, "a")]);
    assert_eq!(fold.owners(A), ["b"]);
    assert!(fold.owners(B).is_empty());
}

#[test]
fn an_address_in_two_slices_stays_indexed_until_both_are_deleted() {
    let mut fold = Fold::new();
    fold.fold_all([
        Event::Apply(slice("a-1", "a", &[A])),
        Event::Apply(slice("a-2", "a", &[A, A])),
    ]);
    fold.fold_all([deleted(Kind::EndpointSlice, "a-1")]);
    assert_eq!(fold.owners(A), ["a"]);
    fold.fold_all([Event::Apply(slice("a-2", "a", &[A]))]);
    assert_eq!(fold.owners(A), ["a"]);
    fold.fold_all([deleted(Kind::EndpointSlice, "a-2")]);
    assert!(fold.owners(A).is_empty());
}

#[test]
fn pods_that_share_an_address_over_time_are_all_found_until_deleted() {
    let mut fold = Fold::new();
    fold.fold_all([Event::Apply(pod("old", A)), Event::Apply(pod("new", A))]);
    assert_eq!(fold.pods(A), ["new", "old"]);
    fold.fold_all([deleted(Kind::Pod, "old")]);
    assert_eq!(fold.pods(A), ["new"]);
    assert!(fold.cluster.pod("ns", A.parse().unwrap()).is_some());
    assert!(fold.cluster.pod("other", A.parse().unwrap()).is_none());
    fold.fold_all([Event::Apply(pod("new", B))]);
    assert!(fold.pods(A).is_empty());
    assert_eq!(fold.pods(B), ["new"]);
}

#[test]
fn the_cluster_is_synced_once_all_wanted_kinds_are_listed() {
    let mut fold = Fold::new();
    assert_eq!(
        fold.cluster.unsynced().collect::<Vec<_>>(),
        [Kind::Service, Kind::EndpointSlice]
    );
    fold.fold_all([
        Event::ListStart(Kind::Service),
        Event::ListEnd(Kind::Service),
    ]);
    fold.fold_all([
        Event::ListStart(Kind::EndpointSlice),
        Event::Apply(slice("s", "a", &[A])),
    ]);
    assert!(!fold.cluster.synced());
    fold.fold_all([Event::ListEnd(Kind::EndpointSlice)]);
    assert!(fold.cluster.synced());
    fold.fold_all([Event::ListStart(Kind::EndpointSlice)]);
    assert!(
        fold.cluster.synced(),
        "it stays synced while it lists again"
    );
}

#[test]
fn the_serial_changes_only_with_changes_visible_in_answers() {
    let mut fold = Fold::new();
    assert_eq!(fold.cluster.serial(), 0);
    fold.fold_all([Event::Apply(Object::Namespace(Namespace {
        name: "ns".into(),
    }))]);
    assert!(fold.cluster.namespace("ns") && !fold.cluster.namespace("n"));
    assert!(
        fold.cluster.serial() > 1_700_000_000,
        "a namespace is visible in answers"
    );
    fold.cluster.set_serial(7);
    fold.fold_all([Event::Apply(service("a", A))]);
    assert!(fold.cluster.serial() > 7);

    let unready = |addresses: &[&str]| match slice("s", "a", addresses) {
        Object::EndpointSlice(mut slice, _) => {
            let unready = |it: &&str| Endpoint::new(it.parse().unwrap(), false, None, None, None);
            slice.endpoints = addresses.iter().map(unready).collect();
            Event::Apply(Object::EndpointSlice(slice, None))
        }
        other => Event::Apply(other),
    };
    fold.fold_all([unready(&[A])]);
    fold.cluster.set_serial(7);
    fold.fold_all([unready(&[A, B])]);
    assert_eq!(
        fold.cluster.serial(),
        7,
        "no answer shows an endpoint that is not ready"
    );
    fold.fold_all([Event::Apply(slice("s", "a", &[A, B]))]);
    assert!(fold.cluster.serial() > 7);
}

#[test]
fn the_delay_of_watch_events_is_measured_and_that_of_list_items_is_not() {
    let trigger = SystemTime::now() - std::time::Duration::from_millis(3);
    let triggered = |addresses: &[&str]| match slice("s", "a", addresses) {
        Object::EndpointSlice(slice, _) => {
            Event::Apply(Object::EndpointSlice(slice, Some(trigger)))
        }
        other => Event::Apply(other),
    };
    let mut fold = Fold::new();
    let measured = |fold: &Fold| -> u64 {
        let stats = fold.cluster.stats();
        stats
            .programming(ServiceKind::ClusterIp)
            .counts()
            .iter()
            .sum()
    };
    fold.fold_all([
        Event::Apply(service("a", A)),
        Event::ListStart(Kind::EndpointSlice),
        triggered(&[A]),
    ]);
    fold.fold_all([Event::ListEnd(Kind::EndpointSlice)]);
    assert_eq!(measured(&fold), 0);
    fold.fold_all([triggered(&[A, B])]);
    assert_eq!(measured(&fold), 1);
    assert!(
        fold.cluster
            .stats()
            .programming(ServiceKind::ClusterIp)
            .sum()
            >= 0.003
    );
    assert!(fold.cluster.stats().age(Kind::EndpointSlice).is_some());
    assert!(fold.cluster.stats().age(Kind::Pod).is_none());
}

#[test]
fn a_reader_never_sees_a_half_applied_change() {
    let mut fold = Fold::new();
    let cluster = Arc::clone(&fold.cluster);
    fold.fold_all([
        Event::Apply(service("a", A)),
        Event::Apply(slice("s", "a", &[A, A])),
    ]);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let reader = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let entry = cluster.entry("ns", "a").expect("it is always there");
            let mut addresses = entry.endpoints().map(|it| it.address.to_string());
            let (first, second) = (addresses.next().unwrap(), addresses.next().unwrap());
            assert_eq!(first, second, "a slice is half changed");
        }
    });
    for _ in 0..2000 {
        fold.fold_all([
            Event::Apply(slice("s", "a", &[B, B])),
            Event::Apply(slice("s", "a", &[A, A])),
        ]);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    reader.join().unwrap();
}

#[test]
fn a_version_that_changes_nothing_else_is_shown_without_a_change_of_the_state() {
    let mut fold = Fold::new();
    let of = |created, version| {
        let Object::Service(service) = service("web", A) else {
            unreachable!()
        };
        let revision = ObjectRevision::new(created, Some(version));
        Event::Apply(Object::Service(Service {
            revision,
            ..service
        }))
    };
    let shown = |fold: &Fold| {
        let entry = fold.entry("web").unwrap();
        let revision = &entry.service.as_ref().unwrap().revision;
        (revision.created, revision.version())
    };
    fold.fold_all([of(5, 7)]);
    fold.cluster.set_serial(1);
    let before = fold.entry("web").unwrap();
    fold.fold_all([of(5, 8)]);
    assert_eq!(shown(&fold), (5, Some(8)));
    assert_eq!(fold.cluster.serial(), 1);
    let after = fold.entry("web").unwrap();
    assert!(Arc::ptr_eq(&before, &after), "published anew");
    // Deleted and created anew while the connection was down.
    fold.fold_all([of(6, 9)]);
    assert_eq!(shown(&fold), (6, Some(9)));
}
