//! Random clusters and histories, from few names and addresses, so that they collide.

use std::net::IpAddr;

use lodestone::{
    cluster::Kind,
    zone::{AnswerRules, PodNames},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{
    source::SourceEvent,
    world::{Endpoint, Import, Key, Port, Service, Slice, Thing, World},
};

pub const NAMESPACES: &[&str] = &["a", "b", "svc"];
pub const SERVICES: &[&str] = &["web", "db", "pod", "tcp"];
/// Addresses of endpoints and pods; one may also belong to a Service.
pub const ADDRESSES: &[&str] = &[
    "10.1.0.1",
    "10.1.0.2",
    "10.1.0.3",
    "10.2.0.1",
    "10.0.0.1",
    "fd00::1",
    "fd00::2",
    "fd00:1::",
    "192.0.2.1",
];
/// Cluster addresses, unique per Service as in the API server: see [`cluster_ips`].
pub const CLUSTER_ADDRESSES: &[&str] = &["10.0.0.0", "10.0.0.1", "10.0.1.2", "fd01::", "fd01::102"];
/// Names; one is also an address with dashes, one a protocol.
pub const HOSTNAMES: &[&str] = &["web-0", "web-1", "tcp", "10-1-0-1"];
/// Host names; one is not a label.
pub const PODS: &[&str] = &["pod-a", "web-0", "pod.b"];

/// Topology zones; one has two labels.
pub const TOPOLOGY_ZONES: &[&str] = &["z1", "Z2", "z1.east"];
/// Clusters of imported endpoints; one has no name.
pub const CLUSTERS: &[&str] = &["east", "West", "tcp", ""];

const TARGETS: &[&str] = &[
    "z1.prefer._zone.db.a.svc.cluster.local",
    "web.a.svc.clusterset.local",
    "web-0.East.db.a.svc.clusterset.local",
    "web.a.svc.cluster.local",
    "DB.a.svc.Cluster.LOCAL.",
    "pod.b.svc.cluster.local",
    "web.b.svc.cluster.local",
    "tcp.svc.svc.cluster.local",
    "none.a.svc.cluster.local",
    "web-0.db.a.svc.cluster.local",
    "_http._tcp.web.a.svc.cluster.local",
    "10-1-0-1.a.pod.cluster.local",
    "ns.dns.cluster.local",
    "cluster.local",
    "www.Example.net",
    "1.0.0.10.in-addr.arpa",
    "192.0.2.7",
    "fd00::7",
    "a..b",
    "",
];

pub const KINDS: [Kind; 5] = Kind::ALL;

pub fn rules() -> impl Strategy<Value = AnswerRules> {
    let pods = select(vec![
        PodNames::Disabled,
        PodNames::Insecure,
        PodNames::Verified,
    ]);
    let namespaces = select(vec![&[][..], &[], &["a", "svc"], &["b", "absent"]]);
    let ttl = select(vec![5, 0, 3600]);
    (pods, namespaces, ttl, any::<[bool; 3]>()).prop_map(
        |(pods, namespaces, ttl, [by_pod, empty, zonal])| AnswerRules {
            zonal,
            ttl,
            pods,
            namespaces: namespaces.iter().map(|it| Box::from(*it)).collect(),
            endpoint_pod_names: by_pod,
            ignore_empty_service: empty,
            ..AnswerRules::default()
        },
    )
}

/// The server's own addresses.
pub fn local() -> impl Strategy<Value = Vec<IpAddr>> {
    vec(address(), 0..3)
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(ADDRESSES).prop_map(|text| text.parse().unwrap())
}

fn ports(is_slice: bool) -> impl Strategy<Value = Vec<Port>> {
    let number = select(vec![Some(80), Some(443), Some(53), None]);
    let port = (
        select(vec!["http", "dns", ""]),
        number,
        select(vec!["tcp", "udp", ""]),
    );
    let port = port.prop_map(move |(name, number, protocol)| Port {
        name,
        // A Service port has a number.
        number: number.or((!is_slice).then_some(8080)),
        protocol,
    });
    vec(port, 0..4)
}

/// A random subset of the addresses reserved for a Service.
fn cluster_ips((namespace, name): &Key, choice: u8) -> Vec<IpAddr> {
    let at = |of: &[&str], name: &str| of.iter().position(|it| *it == name).unwrap();
    let (ns, service) = (at(NAMESPACES, namespace), at(SERVICES, name));
    let v4: IpAddr = format!("10.0.{ns}.{service}").parse().unwrap();
    let v6 = format!("fd01::{ns}{service:02}").parse().unwrap();
    let other = format!("10.0.{}.{service}", ns + 100).parse().unwrap();
    match choice {
        0 => vec![],
        1 => vec![v6],
        2 => vec![v4, v6],
        3 => vec![v6, v4],
        4 => vec![other],
        _ => vec![v4],
    }
}

fn key(names: &'static [&'static str]) -> impl Strategy<Value = Key> {
    let pair = (select(NAMESPACES), select(names));
    pair.prop_map(|(namespace, name)| (namespace.into(), name.into()))
}

fn service() -> impl Strategy<Value = (Key, Thing)> {
    prop_oneof![
        3 => (key(SERVICES), 0..9_u8, ports(false)).prop_map(|(key, choice, ports)| {
            let ips = cluster_ips(&key, choice);
            (key, Thing::Service(Service::Cluster(ips, ports)))
        }),
        3 => (key(SERVICES), ports(false))
            .prop_map(|(key, ports)| (key, Thing::Service(Service::Headless(ports)))),
        2 => (key(SERVICES), select(TARGETS))
            .prop_map(|(key, target)| (key, Thing::Service(Service::External(target.into())))),
    ]
}

fn slice() -> impl Strategy<Value = (Key, Thing)> {
    let endpoint = (
        address(),
        prop::bool::weighted(0.8),
        option::of(select(HOSTNAMES)),
        option::of(select(PODS)),
        option::of(select(TOPOLOGY_ZONES)),
    );
    let endpoint = endpoint.prop_map(|(address, ready, hostname, pod, zone)| Endpoint {
        address,
        ready,
        hostname,
        pod,
        zone,
    });
    // Most belong to a Service, some to a ServiceImport, a few to both.
    let owner = prop_oneof![
        6 => (Just(true), Just(false)),
        3 => (Just(false), Just(true)),
        1 => (Just(true), Just(true)),
    ];
    let owners = (owner, select(SERVICES), select(SERVICES), select(CLUSTERS)).prop_map(
        |((is_owned, is_imported), service, import, cluster)| {
            let service = if is_owned { service } else { "" };
            (service, is_imported.then_some((import, cluster)))
        },
    );
    let slice = (owners, ports(true), vec(endpoint, 0..5));
    (key(&["s0", "s1", "s2", "s3"]), slice).prop_map(|(key, (owners, ports, endpoints))| {
        let (service, import) = owners;
        let slice = Slice {
            service: service.into(),
            import,
            ports,
            endpoints,
        };
        (key, Thing::Slice(slice))
    })
}

fn pod() -> impl Strategy<Value = (Key, Thing)> {
    let addresses = prop_oneof![
        address().prop_map(|address| vec![address]),
        select(&["10.1.0.1", "10.1.0.2"][..])
            .prop_map(|v4| vec![v4.parse().unwrap(), "fd00::1".parse().unwrap()]),
    ];
    (key(&["p0", "p1"]), addresses).prop_map(|(key, addresses)| (key, Thing::Pod(addresses)))
}

fn import() -> impl Strategy<Value = (Key, Thing)> {
    prop_oneof![
        (key(SERVICES), vec(address(), 0..3), ports(false)).prop_map(|(key, mut ips, ports)| {
            ips.sort_unstable();
            ips.dedup();
            (key, Thing::Import(Import::Addresses(ips, ports)))
        }),
        (key(SERVICES), ports(false))
            .prop_map(|(key, ports)| (key, Thing::Import(Import::Headless(ports)))),
    ]
}

/// Any object.
fn thing() -> impl Strategy<Value = (Key, Thing)> {
    let namespace =
        select(NAMESPACES).prop_map(|it| ((String::new(), it.into()), Thing::Namespace));
    prop_oneof![2 => namespace, 5 => service(), 6 => slice(), 2 => pod(), 2 => import()]
}

/// A cluster.
pub fn world() -> impl Strategy<Value = World> {
    vec(thing(), 0..60).prop_map(|things| {
        let mut world = World::default();
        for (key, thing) in things {
            world.put(key, thing);
        }
        world
    })
}

/// A step of a source. The numbers choose among the objects at that time.
#[derive(Clone, Debug)]
enum Step {
    Change(Key, Thing),
    /// A duplicate event, as after a resumed watch.
    Twice(Key, Thing),
    Delete(Kind, u8),
    /// An unreadable object.
    Unreadable(Kind, u8),
    Alive(Kind),
    List(Kind, Vec<Listed>),
}

/// A step during a list.
#[derive(Clone, Copy, Debug)]
enum Listed {
    /// The next object is listed.
    Next,
    /// It was deleted unseen and is not in the list.
    Gone,
    /// It cannot be read.
    Unreadable,
    /// An object, listed or not, is deleted before the list ends.
    Delete(u8),
    /// The list fails and restarts.
    Again,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || select(&KINDS[..]);
    let listed = prop_oneof![
        20 => Just(Listed::Next),
        1 => Just(Listed::Gone),
        1 => Just(Listed::Unreadable),
        1 => any::<u8>().prop_map(Listed::Delete),
        1 => Just(Listed::Again),
    ];
    prop_oneof![
        12 => thing().prop_map(|(key, thing)| Step::Change(key, thing)),
        1 => thing().prop_map(|(key, thing)| Step::Twice(key, thing)),
        4 => (kind(), any::<u8>()).prop_map(|(kind, which)| Step::Delete(kind, which)),
        1 => (kind(), any::<u8>()).prop_map(|(kind, which)| Step::Unreadable(kind, which)),
        1 => kind().prop_map(Step::Alive),
        2 => (kind(), vec(listed, 0..16)).prop_map(|(kind, course)| Step::List(kind, course)),
    ]
}

/// The events of a source from its start. Each kind starts with a list and continues independently: one kind
/// may be listed while others change.
pub fn history() -> impl Strategy<Value = Vec<SourceEvent>> {
    (world(), vec(step(), 0..50), any::<u64>()).prop_map(|(world, steps, seed)| {
        let mut queues = KINDS.map(|kind| {
            let mut course = Course::new(kind, world.of(kind));
            for step in &steps {
                course.take(step);
            }
            course.events.into_iter()
        });
        let mut dice = crate::questions::Dice::new(seed);
        let mut events = Vec::new();
        while queues.iter().any(|queue| queue.len() > 0) {
            events.extend(queues[dice.roll(KINDS.len())].next());
        }
        events
    })
}

/// The part of a history for one kind.
struct Course {
    kind: Kind,
    events: Vec<SourceEvent>,
    /// The existing objects.
    there: World,
}

impl Course {
    fn new(kind: Kind, objects: Vec<(Key, Thing)>) -> Self {
        let mut course = Self {
            kind,
            events: vec![SourceEvent::ListStart(kind)],
            there: World::default(),
        };
        for (key, thing) in objects {
            course.apply(key, thing);
        }
        course.events.push(SourceEvent::ListEnd(kind));
        course
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Change(key, thing) if thing.kind() == self.kind => {
                self.apply(key.clone(), thing.clone());
            }
            Step::Twice(key, thing) if thing.kind() == self.kind => {
                self.apply(key.clone(), thing.clone());
                self.apply(key.clone(), thing.clone());
            }
            Step::Delete(kind, which) if *kind == self.kind => self.delete(*which),
            Step::Unreadable(kind, which) if *kind == self.kind => {
                let there = self.there.of(*kind);
                if let Some((key, _)) = there.get(usize::from(*which) % there.len().max(1)) {
                    self.events.push(SourceEvent::Skip(*kind, key.clone()));
                }
            }
            Step::Alive(kind) if *kind == self.kind => {
                self.events.push(SourceEvent::Heartbeat(*kind));
            }
            Step::List(kind, course) if *kind == self.kind => self.list(course),
            _ => {}
        }
    }

    fn apply(&mut self, key: Key, thing: Thing) {
        self.there.put(key.clone(), thing.clone());
        self.events.push(SourceEvent::Apply(key, thing));
    }

    /// Deletes an existing object, and sometimes a nonexistent one.
    fn delete(&mut self, which: u8) {
        let there = self.there.of(self.kind);
        let absent = ("a".to_owned(), "absent".to_owned());
        let key = there.get(usize::from(which) % (there.len() + 1));
        let key = key.map_or(absent, |(key, _)| key.clone());
        self.there.remove(self.kind, &key);
        self.events.push(SourceEvent::Delete(self.kind, key));
    }

    fn list(&mut self, course: &[Listed]) {
        self.events.push(SourceEvent::ListStart(self.kind));
        let mut rest = self.there.of(self.kind);
        for listed in course {
            match (listed, rest.pop()) {
                (Listed::Again, _) => {
                    self.events.push(SourceEvent::ListStart(self.kind));
                    rest = self.there.of(self.kind);
                }
                (Listed::Delete(which), next) => {
                    rest.extend(next);
                    self.delete(*which);
                    let there = self.there.of(self.kind);
                    rest.retain(|(key, _)| there.iter().any(|(known, _)| known == key));
                }
                (Listed::Next, Some((key, thing))) => {
                    self.events.push(SourceEvent::Apply(key, thing));
                }
                (Listed::Gone, Some((key, _))) => self.there.remove(self.kind, &key),
                (Listed::Unreadable, Some((key, _))) => {
                    self.events.push(SourceEvent::Skip(self.kind, key));
                }
                (_, None) => {}
            }
        }
        let rest = rest
            .into_iter()
            .map(|(key, thing)| SourceEvent::Apply(key, thing));
        self.events.extend(rest);
        self.events.push(SourceEvent::ListEnd(self.kind));
    }
}
