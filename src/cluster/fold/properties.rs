//! Whatever the way, the state depends on what there is and not on how it came about.

use super::*;
use crate::cluster::named::NamedBy;
use crate::cluster::state::Owner;
use crate::cluster::{
    Endpoint, External, ImportedFrom, Key, Namespace, Port, Protocol, ServiceKind,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// Few names and few addresses, so that they meet.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(String::from)
}

fn address() -> impl Strategy<Value = IpAddr> {
    (0..4_u8).prop_map(|last| {
        if last < 3 {
            [10, 0, 0, last].into()
        } else {
            [0, 0, 0, 0, 0, 0, 0, 1_u16].into()
        }
    })
}

fn ports() -> impl Strategy<Value = Arc<[Port]>> {
    let port = |number| Port {
        name: "p".into(),
        number: Some(number),
        protocol: Protocol::Tcp,
    };
    prop::collection::vec((80..82_u16).prop_map(port), 0..2).prop_map(Arc::from)
}

fn object() -> impl Strategy<Value = Object> {
    let key = || (name(), name());
    let endpoint = (address(), any::<bool>()).prop_map(|(address, ready)| {
        Endpoint::new(
            address,
            ready,
            ready.then_some("host"),
            Some("pod"),
            Some("zone"),
        )
    });
    prop_oneof![
        name().prop_map(|name| Object::Namespace(Namespace { name: name.into() })),
        (
            key(),
            prop::collection::vec(address(), 0..3),
            prop::collection::vec(address(), 0..2),
            ports()
        )
            .prop_map(
                |((namespace, name), addresses, external, ports)| Object::Service(Service {
                    namespace: namespace.into(),
                    name: name.into(),
                    kind: if addresses.is_empty() {
                        ServiceKind::Headless
                    } else {
                        ServiceKind::ClusterIp
                    },
                    cluster_ips: addresses.into(),
                    external_name: None,
                    ports,
                    external: (!external.is_empty()).then(|| Box::new(External {
                        addresses: external.into(),
                        hostnames: Box::default(),
                    })),
                })
            ),
        (
            key(),
            name(),
            prop::collection::vec(endpoint, 0..4),
            ports()
        )
            .prop_map(
                |((namespace, name), service, endpoints, ports)| Object::Slice(
                    Slice {
                        namespace: namespace.into(),
                        name: name.into(),
                        service: if service == "c" {
                            "".into()
                        } else {
                            service.as_str().into()
                        },
                        import: (service != "a").then(|| {
                            Box::new(ImportedFrom {
                                service: service.into(),
                                cluster: "far".into(),
                            })
                        }),
                        ports,
                        endpoints: endpoints.into(),
                    },
                    None
                )
            ),
        (key(), address(), any::<bool>()).prop_map(|((namespace, name), address, both)| {
            let (v4, v6) = match address {
                IpAddr::V4(v4) => (
                    Some(v4),
                    both.then_some([0, 0, 0, 0, 0, 0, 0, 1_u16].into()),
                ),
                IpAddr::V6(v6) => (None, Some(v6)),
            };
            Object::Pod(Pod {
                namespace: namespace.into(),
                name: name.into(),
                v4,
                v6,
                labels: None,
            })
        }),
        (key(), prop::collection::vec(address(), 0..2)).prop_map(|((namespace, name), ips)| {
            Object::Import(ServiceImport {
                namespace: namespace.into(),
                name: name.into(),
                headless: false,
                ips: ips.into(),
                ports: [].into(),
            })
        }),
    ]
}

/// What a source may do.
#[derive(Clone, Debug)]
enum Step {
    Apply(Object),
    Delete(Kind, Key),
    /// A list of these objects of one kind, after attempts that broke off.
    List {
        kind: Kind,
        broken: Vec<Vec<Object>>,
        whole: Vec<Object>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || prop::sample::select(Kind::ALL.to_vec());
    let objects = || prop::collection::vec(object(), 0..12);
    prop_oneof![
        6 => object().prop_map(Step::Apply),
        3 => (kind(), name(), name()).prop_map(|(kind, namespace, name)| {
            let namespace = if kind == Kind::Namespace { "" } else { &namespace };
            Step::Delete(kind, (namespace, &*name).into())
        }),
        1 => (kind(), prop::collection::vec(objects(), 0..2), objects()).prop_map(
            |(kind, mut broken, mut whole)| {
                broken.iter_mut().chain([&mut whole]).for_each(|it| it.retain(|it| it.kind() == kind));
                Step::List { kind, broken, whole }
            }
        ),
    ]
}

/// Everything that readers can see, in a form that compares.
fn picture(cluster: &Cluster) -> Vec<BTreeSet<String>> {
    fn set<T: Debug>(all: impl Iterator<Item = T>) -> BTreeSet<String> {
        all.map(|it| format!("{it:?}")).collect()
    }
    let addresses = || {
        (0..4).map(|last| match last {
            0..3 => IpAddr::from([10, 0, 0, last]),
            _ => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]),
        })
    };
    let address_of = |it: &Owner| addresses().find(|one| tag(cluster.hash(*one)) == it.tag);
    vec![
        set(cluster.namespaces()),
        set(cluster.entries()),
        set(cluster
            .owners
            .iter()
            .map(|it| (address_of(&it), it.count, it.key))),
        // By address, so that one that is found under an address it no longer has shows.
        set(addresses().flat_map(|address| {
            let pods = cluster.pods(address);
            pods.map(move |pod| (address, pod))
        })),
        [cluster.pods.iter().count().to_string()].into(),
        named(cluster),
    ]
}

/// The index of named addresses, of all namespaces and of each. It is also what the entries hold.
fn named(cluster: &Cluster) -> BTreeSet<String> {
    let mut index = BTreeSet::new();
    let mut entries = BTreeSet::new();
    let ranges = || {
        let v4 = IpAddr::from([0; 4])..=IpAddr::from([255; 4]);
        let v6 = IpAddr::from([0; 16])..=IpAddr::from([255; 16]);
        [v4, v6]
    };
    for by in NamedBy::ALL {
        for range in ranges() {
            let all = cluster.named().range(by, range.clone());
            index.extend(all.map(|it| format!("{by:?} {it}")));
            for here in cluster.named_in.iter() {
                let all = here.named.range(by, range.clone());
                index.extend(all.map(|it| format!("{} {by:?} {it}", here.namespace)));
            }
        }
    }
    for entry in cluster.entries() {
        let mut add = |by: NamedBy, address: IpAddr| {
            entries.insert(format!("{by:?} {address}"));
            entries.insert(format!("{} {by:?} {address}", entry.key.namespace));
        };
        let service = entry.service.as_deref();
        let external = service.and_then(|it| it.external.as_deref());
        let is_exposed =
            service.is_some_and(|it| it.kind == ServiceKind::Headless && it.external.is_none());
        for address in service.iter().flat_map(|it| &it.cluster_ips) {
            add(NamedBy::Inside, *address);
        }
        for address in external.iter().flat_map(|it| &it.addresses) {
            add(NamedBy::External, *address);
        }
        for endpoint in entry.endpoints().filter(|it| it.ready) {
            add(NamedBy::Inside, endpoint.address);
            if is_exposed {
                add(NamedBy::Headless, endpoint.address);
            }
        }
    }
    assert_eq!(index, entries);
    index
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_way_leads_to_the_state_of_what_there_is(steps in prop::collection::vec(step(), 0..40)) {
        // Few buckets, so that many things share one.
        let cluster = Arc::new(Cluster::with_buckets(&[], 1));
        let mut writer = Writer::new(Arc::clone(&cluster));
        let mut there: BTreeMap<(Kind, Key), Object> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Apply(object) => {
                    there.insert((object.kind(), object.key()), object.clone());
                    writer.fold(Event::Apply(object));
                }
                Step::Delete(kind, key) => {
                    there.remove(&(kind, key.clone()));
                    writer.fold(Event::Delete(kind, key));
                }
                Step::List { kind, broken, whole } => {
                    there.retain(|key, _| key.0 != kind);
                    for objects in broken {
                        writer.fold(Event::Begin(kind));
                        for object in objects {
                            writer.fold(Event::Apply(object));
                        }
                    }
                    writer.fold(Event::Begin(kind));
                    for object in whole {
                        there.insert((kind, object.key()), object.clone());
                        writer.fold(Event::Apply(object));
                    }
                    writer.fold(Event::End(kind));
                }
            }
        }
        let loaded = Arc::new(Cluster::with_buckets(&[], 1));
        let mut writer = Writer::new(Arc::clone(&loaded));
        for object in there.into_values() {
            writer.fold(Event::Apply(object));
        }
        prop_assert_eq!(picture(&cluster), picture(&loaded));
        for kind in Kind::ALL {
            prop_assert_eq!(cluster.stats().objects(kind), loaded.stats().objects(kind));
        }
    }
}
