//! Property tests: the state depends only on the existing objects, not on the history of events.

use super::*;
use crate::cluster::address_index::AddressRole;
use crate::cluster::state::AddressOwner;
use crate::cluster::{
    Endpoint, ExternalAddresses, ImportOrigin, Namespace, ObjectKey, Port, Protocol, ServiceKind,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// Few names and addresses, so that objects collide.
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
                    external: (!external.is_empty()).then(|| Box::new(ExternalAddresses {
                        addresses: external.into(),
                        hostnames: Box::default(),
                    })),
                    revision: crate::cluster::ObjectRevision::default(),
                })
            ),
        (
            key(),
            name(),
            prop::collection::vec(endpoint, 0..4),
            ports()
        )
            .prop_map(|((namespace, name), service, endpoints, ports)| {
                Object::EndpointSlice(
                    EndpointSlice {
                        namespace: namespace.into(),
                        name: name.into(),
                        service: if service == "c" {
                            "".into()
                        } else {
                            service.as_str().into()
                        },
                        import: (service != "a").then(|| {
                            Box::new(ImportOrigin {
                                service: service.into(),
                                cluster: "far".into(),
                            })
                        }),
                        ports,
                        endpoints: endpoints.into(),
                    },
                    None,
                )
            }),
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
                host_network: false,
                labels: None,
            })
        }),
        (key(), prop::collection::vec(address(), 0..2)).prop_map(|((namespace, name), ips)| {
            Object::ServiceImport(ServiceImport {
                namespace: namespace.into(),
                name: name.into(),
                headless: false,
                ips: ips.into(),
                ports: [].into(),
            })
        }),
    ]
}

/// An action of a source.
#[derive(Clone, Debug)]
enum SourceAction {
    Apply(Object),
    Delete(Kind, ObjectKey),
    /// A complete list of one kind, after aborted attempts.
    List {
        kind: Kind,
        broken: Vec<Vec<Object>>,
        whole: Vec<Object>,
    },
}

fn step() -> impl Strategy<Value = SourceAction> {
    let kind = || prop::sample::select(Kind::ALL.to_vec());
    let objects = || prop::collection::vec(object(), 0..12);
    prop_oneof![
        6 => object().prop_map(SourceAction::Apply),
        3 => (kind(), name(), name()).prop_map(|(kind, namespace, name)| {
            let namespace = if kind == Kind::Namespace { "" } else { &namespace };
            SourceAction::Delete(kind, (namespace, &*name).into())
        }),
        1 => (kind(), prop::collection::vec(objects(), 0..2), objects()).prop_map(
            |(kind, mut broken, mut whole)| {
                broken.iter_mut().chain([&mut whole]).for_each(|it| it.retain(|it| it.kind() == kind));
                SourceAction::List { kind, broken, whole }
            }
        ),
    ]
}

/// Everything visible to readers, in comparable form.
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
    let address_of = |it: &AddressOwner| addresses().find(|one| tag(cluster.hash(*one)) == it.tag);
    vec![
        set(cluster.namespaces()),
        set(cluster.entries()),
        set(cluster
            .owners
            .iter()
            .map(|it| (address_of(&it), it.count, it.key))),
        // By address, so that a pod found under an address it no longer has is detected.
        set(addresses().flat_map(|address| {
            let pods = cluster.pods(address);
            pods.map(move |pod| (address, pod))
        })),
        [cluster.pods.iter().count().to_string()].into(),
        named(cluster),
    ]
}

/// The address index, of all namespaces and of each. Must equal the addresses in the entries.
fn named(cluster: &Cluster) -> BTreeSet<String> {
    let mut index = BTreeSet::new();
    let mut entries = BTreeSet::new();
    let ranges = || {
        let v4 = IpAddr::from([0; 4])..=IpAddr::from([255; 4]);
        let v6 = IpAddr::from([0; 16])..=IpAddr::from([255; 16]);
        [v4, v6]
    };
    for by in AddressRole::ALL {
        for range in ranges() {
            let all = cluster.addresses().range(by, range.clone());
            index.extend(all.map(|it| format!("{by:?} {it}")));
            for here in cluster.namespace_addresses.iter() {
                let all = here.index.range(by, range.clone());
                index.extend(all.map(|it| format!("{} {by:?} {it}", here.namespace)));
            }
        }
    }
    for entry in cluster.entries() {
        let mut add = |by: AddressRole, address: IpAddr| {
            entries.insert(format!("{by:?} {address}"));
            entries.insert(format!("{} {by:?} {address}", entry.key.namespace));
        };
        let service = entry.service.as_deref();
        let external = service.and_then(|it| it.external.as_deref());
        let is_exposed =
            service.is_some_and(|it| it.kind == ServiceKind::Headless && it.external.is_none());
        for address in service.iter().flat_map(|it| &it.cluster_ips) {
            add(AddressRole::Internal, *address);
        }
        for address in external.iter().flat_map(|it| &it.addresses) {
            add(AddressRole::External, *address);
        }
        for endpoint in entry.endpoints().filter(|it| it.ready) {
            add(AddressRole::Internal, endpoint.address);
            if is_exposed {
                add(AddressRole::Headless, endpoint.address);
            }
        }
    }
    assert_eq!(index, entries);
    index
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_history_yields_the_state_of_the_existing_objects(steps in prop::collection::vec(step(), 0..40)) {
        // Few buckets, so that elements share them.
        let cluster = Arc::new(Cluster::with_buckets(&[], 1));
        let mut writer = StateWriter::new(Arc::clone(&cluster));
        let mut there: BTreeMap<(Kind, ObjectKey), Object> = BTreeMap::new();
        for step in steps {
            match step {
                SourceAction::Apply(object) => {
                    there.insert((object.kind(), object.key()), object.clone());
                    writer.fold(Event::Apply(object));
                }
                SourceAction::Delete(kind, key) => {
                    there.remove(&(kind, key.clone()));
                    writer.fold(Event::Delete(kind, key));
                }
                SourceAction::List { kind, broken, whole } => {
                    there.retain(|key, _| key.0 != kind);
                    for objects in broken {
                        writer.fold(Event::ListStart(kind));
                        for object in objects {
                            writer.fold(Event::Apply(object));
                        }
                    }
                    writer.fold(Event::ListStart(kind));
                    for object in whole {
                        there.insert((kind, object.key()), object.clone());
                        writer.fold(Event::Apply(object));
                    }
                    writer.fold(Event::ListEnd(kind));
                }
            }
        }
        let loaded = Arc::new(Cluster::with_buckets(&[], 1));
        let mut writer = StateWriter::new(Arc::clone(&loaded));
        for object in there.into_values() {
            writer.fold(Event::Apply(object));
        }
        prop_assert_eq!(picture(&cluster), picture(&loaded));
        for kind in Kind::ALL {
            prop_assert_eq!(cluster.stats().objects(kind), loaded.stats().objects(kind));
        }
    }
}
