use super::*;
use crate::cluster::{Endpoint, Key, Port, Protocol, ServiceKind};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

/// A cluster and its writer, as short to use as the tests are to read.
struct Fold {
    cluster: Arc<Cluster>,
    writer: Writer,
}

impl Fold {
    fn new() -> Self {
        let cluster = Arc::new(Cluster::new(&[Kind::Service, Kind::Slice]));
        Self {
            writer: Writer::new(Arc::clone(&cluster)),
            cluster,
        }
    }

    fn tell(&mut self, events: impl IntoIterator<Item = Event>) -> &mut Self {
        for event in events {
            self.writer.fold(event);
        }
        self
    }

    fn entry(&self, name: &str) -> Option<Arc<Entry>> {
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
        let owners = self.cluster.owners(address.parse().unwrap());
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
    })
}

fn slice(name: &str, service: &str, addresses: &[&str]) -> Object {
    let endpoint = |it: &&str| Endpoint::new(it.parse().unwrap(), true, None, Some("p"), Some("z"));
    let slice = Slice {
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
    Object::Slice(slice, None)
}

fn pod(name: &str, address: &str) -> Object {
    Object::Pod(Pod {
        namespace: "ns".into(),
        name: name.into(),
        v4: Some(address.parse().unwrap()),
        v6: None,
        labels: None,
    })
}

fn gone(kind: Kind, name: &str) -> Event {
    Event::Delete(kind, Key::from(("ns", name)))
}

fn list(kind: Kind, objects: impl IntoIterator<Item = Object>) -> Vec<Event> {
    let applied = objects.into_iter().map(Event::Apply);
    [Event::Begin(kind)]
        .into_iter()
        .chain(applied)
        .chain([Event::End(kind)])
        .collect()
}

#[test]
fn a_list_that_begins_twice_leaves_nothing_behind_and_loses_nothing() {
    let mut fold = Fold::new();
    fold.tell(list(
        Kind::Service,
        [service("kept", A), service("deleted", B)],
    ));
    // The second list fails after a page that told of a service which is then deleted as well.
    fold.tell([
        Event::Begin(Kind::Service),
        Event::Apply(service("brief", "10.0.0.3")),
    ]);
    fold.tell([Event::Begin(Kind::Service)]);
    for name in ["kept", "deleted", "brief"] {
        assert!(
            fold.entry(name).is_some(),
            "{name} is served until the list is complete"
        );
    }
    fold.tell([Event::Apply(service("kept", A)), Event::End(Kind::Service)]);
    assert!(fold.entry("kept").is_some());
    assert!(fold.entry("deleted").is_none());
    assert!(fold.entry("brief").is_none());
    assert_eq!(fold.owners(A), ["kept"]);
    assert!(fold.owners(B).is_empty());
    assert_eq!(fold.cluster.stats().objects(Kind::Service), 1);
}

#[test]
fn what_is_deleted_during_a_list_is_gone() {
    let mut fold = Fold::new();
    fold.tell(list(Kind::Service, [service("a", A), service("b", B)]));
    fold.tell([Event::Begin(Kind::Service), Event::Apply(service("a", A))]);
    fold.tell([Event::Apply(service("b", B)), gone(Kind::Service, "a")]);
    fold.tell([Event::End(Kind::Service)]);
    assert!(fold.entry("a").is_none());
    assert!(fold.entry("b").is_some());
}

#[test]
fn an_empty_list_empties_its_kind_alone() {
    let mut fold = Fold::new();
    fold.tell(list(Kind::Service, [service("a", A)]));
    fold.tell(list(Kind::Slice, [slice("a-1", "a", &[B])]));
    fold.tell(list(Kind::Service, []));
    assert!(fold.entry("a").unwrap().service.is_none());
    assert_eq!(fold.owners(B), ["a"]);
    fold.tell(list(Kind::Slice, []));
    assert!(fold.entry("a").is_none());
    assert!(fold.owners(B).is_empty());
}

#[test]
fn a_list_of_the_same_changes_nothing() {
    let all = || [service("a", A), service("b", B)];
    let slices = || [slice("a-1", "a", &[A, B])];
    let mut fold = Fold::new();
    fold.tell(list(Kind::Service, all()))
        .tell(list(Kind::Slice, slices()));
    let before = fold.entry("a").unwrap();
    fold.cluster.set_serial(7);
    fold.tell(list(Kind::Service, all()))
        .tell(list(Kind::Slice, slices()));
    assert!(
        Arc::ptr_eq(&before, &fold.entry("a").unwrap()),
        "the entry was replaced"
    );
    assert_eq!(fold.cluster.serial(), 7);
}

#[test]
fn an_object_that_cannot_be_read_stays_as_it_was() {
    let mut fold = Fold::new();
    fold.tell(list(Kind::Service, [service("a", A), service("b", B)]));
    fold.tell([
        Event::Begin(Kind::Service),
        Event::Skip(Kind::Service, Some(("ns", "a").into())),
    ]);
    fold.tell([Event::End(Kind::Service)]);
    assert!(fold.entry("a").is_some());
    assert!(fold.entry("b").is_none());
    assert_eq!(fold.cluster.stats().skipped(Kind::Service), 1);
}

#[test]
fn a_slice_that_changes_hands_leaves_its_old_service() {
    let mut fold = Fold::new();
    fold.tell([
        Event::Apply(slice("s", "a", &[A])),
        Event::Apply(slice("s", "b", &[A, B])),
    ]);
    assert!(fold.entry("a").is_none());
    assert_eq!(fold.endpoints("b"), [A, B]);
    assert_eq!(fold.owners(A), ["b"]);
}

#[test]
fn a_slice_and_its_service_come_and_go_in_any_order() {
    let mut fold = Fold::new();
    fold.tell([Event::Apply(slice("a-1", "a", &[B]))]);
    assert!(fold.entry("a").unwrap().service.is_none());
    fold.tell([Event::Apply(service("a", A))]);
    let entry = fold.entry("a").unwrap();
    assert!(entry.service.is_some());
    assert_eq!(entry.slices.len(), 1);
    fold.tell([gone(Kind::Service, "a")]);
    assert_eq!(fold.endpoints("a"), [B]);
    assert!(fold.owners(A).is_empty());
    fold.tell([gone(Kind::Slice, "a-1")]);
    assert!(fold.entry("a").is_none());
    assert!(fold.owners(B).is_empty());
    fold.tell([gone(Kind::Slice, "a-1"), gone(Kind::Service, "never")]);
}

#[test]
fn an_address_moves_between_services_in_either_order() {
    let mut fold = Fold::new();
    fold.tell([Event::Apply(service("a", A)), Event::Apply(service("b", B))]);
    fold.tell([Event::Apply(service("b", A))]);
    assert_eq!(fold.owners(A), ["a", "b"]);
    fold.tell([gone(Kind::Service, "a")]);
    assert_eq!(fold.owners(A), ["b"]);
    assert!(fold.owners(B).is_empty());
}

#[test]
fn an_address_in_two_slices_stays_when_one_is_gone() {
    let mut fold = Fold::new();
    fold.tell([
        Event::Apply(slice("a-1", "a", &[A])),
        Event::Apply(slice("a-2", "a", &[A, A])),
    ]);
    fold.tell([gone(Kind::Slice, "a-1")]);
    assert_eq!(fold.owners(A), ["a"]);
    fold.tell([Event::Apply(slice("a-2", "a", &[A]))]);
    assert_eq!(fold.owners(A), ["a"]);
    fold.tell([gone(Kind::Slice, "a-2")]);
    assert!(fold.owners(A).is_empty());
}

#[test]
fn an_address_of_a_pod_is_used_again() {
    let mut fold = Fold::new();
    fold.tell([Event::Apply(pod("old", A)), Event::Apply(pod("new", A))]);
    assert_eq!(fold.pods(A), ["new", "old"]);
    fold.tell([gone(Kind::Pod, "old")]);
    assert_eq!(fold.pods(A), ["new"]);
    assert!(fold.cluster.pod("ns", A.parse().unwrap()).is_some());
    assert!(fold.cluster.pod("other", A.parse().unwrap()).is_none());
    fold.tell([Event::Apply(pod("new", B))]);
    assert!(fold.pods(A).is_empty());
    assert_eq!(fold.pods(B), ["new"]);
}

#[test]
fn it_is_synced_when_what_is_wanted_has_been_listed() {
    let mut fold = Fold::new();
    assert_eq!(
        fold.cluster.unsynced().collect::<Vec<_>>(),
        [Kind::Service, Kind::Slice]
    );
    fold.tell([Event::Begin(Kind::Service), Event::End(Kind::Service)]);
    fold.tell([
        Event::Begin(Kind::Slice),
        Event::Apply(slice("s", "a", &[A])),
    ]);
    assert!(!fold.cluster.synced());
    fold.tell([Event::End(Kind::Slice)]);
    assert!(fold.cluster.synced());
    fold.tell([Event::Begin(Kind::Slice)]);
    assert!(
        fold.cluster.synced(),
        "it stays synced while it lists again"
    );
}

#[test]
fn the_serial_moves_with_what_answers_show() {
    let mut fold = Fold::new();
    assert_eq!(fold.cluster.serial(), 0);
    fold.tell([Event::Apply(Object::Namespace(Namespace {
        name: "ns".into(),
    }))]);
    assert!(fold.cluster.namespace("ns") && !fold.cluster.namespace("n"));
    assert!(fold.cluster.serial() > 1_700_000_000, "what is in it shows");
    fold.cluster.set_serial(7);
    fold.tell([Event::Apply(service("a", A))]);
    assert!(fold.cluster.serial() > 7);

    let unready = |addresses: &[&str]| match slice("s", "a", addresses) {
        Object::Slice(mut slice, _) => {
            let unready = |it: &&str| Endpoint::new(it.parse().unwrap(), false, None, None, None);
            slice.endpoints = addresses.iter().map(unready).collect();
            Event::Apply(Object::Slice(slice, None))
        }
        other => Event::Apply(other),
    };
    fold.tell([unready(&[A])]);
    fold.cluster.set_serial(7);
    fold.tell([unready(&[A, B])]);
    assert_eq!(
        fold.cluster.serial(),
        7,
        "no answer shows an endpoint that is not ready"
    );
    fold.tell([Event::Apply(slice("s", "a", &[A, B]))]);
    assert!(fold.cluster.serial() > 7);
}

#[test]
fn the_delay_of_a_change_is_measured_and_that_of_a_list_is_not() {
    let trigger = SystemTime::now() - std::time::Duration::from_millis(3);
    let told = |addresses: &[&str]| match slice("s", "a", addresses) {
        Object::Slice(slice, _) => Event::Apply(Object::Slice(slice, Some(trigger))),
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
    fold.tell([
        Event::Apply(service("a", A)),
        Event::Begin(Kind::Slice),
        told(&[A]),
    ]);
    fold.tell([Event::End(Kind::Slice)]);
    assert_eq!(measured(&fold), 0);
    fold.tell([told(&[A, B])]);
    assert_eq!(measured(&fold), 1);
    assert!(
        fold.cluster
            .stats()
            .programming(ServiceKind::ClusterIp)
            .sum()
            >= 0.003
    );
    assert!(fold.cluster.stats().age(Kind::Slice).is_some());
    assert!(fold.cluster.stats().age(Kind::Pod).is_none());
}

#[test]
fn a_reader_never_sees_two_states_of_one_service() {
    let mut fold = Fold::new();
    let cluster = Arc::clone(&fold.cluster);
    fold.tell([
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
        fold.tell([
            Event::Apply(slice("s", "a", &[B, B])),
            Event::Apply(slice("s", "a", &[A, A])),
        ]);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    reader.join().unwrap();
}
