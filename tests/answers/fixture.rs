//! Short constructors for cluster objects, and a sample cluster.

use std::{net::IpAddr, sync::Arc};

use lodestone::cluster::{
    Endpoint, EndpointSlice, ImportOrigin, Namespace, Object, Pod, Port, Protocol, Service,
    ServiceImport, ServiceKind,
};

pub fn namespace(name: &str) -> Object {
    Object::Namespace(Namespace { name: name.into() })
}

/// A Service with cluster addresses; ports are `NAME/PROTOCOL/NUMBER`.
pub fn cluster_ip(namespace: &str, name: &str, addresses: &[&str], ports: &[&str]) -> Object {
    Object::Service(Service {
        cluster_ips: addresses.iter().map(|text| address(text)).collect(),
        ..service(namespace, name, ServiceKind::ClusterIp, ports)
    })
}

pub fn headless(namespace: &str, name: &str, ports: &[&str]) -> Object {
    Object::Service(service(namespace, name, ServiceKind::Headless, ports))
}

pub fn external(namespace: &str, name: &str, target: &str) -> Object {
    Object::Service(Service {
        external_name: Some(target.into()),
        ..service(namespace, name, ServiceKind::ExternalName, &[])
    })
}

/// An EndpointSlice of the Service; endpoints are `ADDRESS [hostname=X] [pod=X] [zone=X] [unready]`.
pub fn slice(
    namespace: &str,
    service: &str,
    name: &str,
    ports: &[&str],
    endpoints: &[&str],
) -> Object {
    let slice = EndpointSlice {
        namespace: namespace.into(),
        name: name.into(),
        service: service.into(),
        import: None,
        ports: self::ports(ports),
        endpoints: endpoints.iter().map(|text| endpoint(text)).collect(),
    };
    Object::EndpointSlice(slice, None)
}

/// A ServiceImport; headless if it has no addresses.
pub fn import(namespace: &str, name: &str, addresses: &[&str], ports: &[&str]) -> Object {
    Object::ServiceImport(ServiceImport {
        namespace: namespace.into(),
        name: name.into(),
        headless: addresses.is_empty(),
        ips: addresses.iter().map(|text| address(text)).collect(),
        ports: self::ports(ports),
    })
}

/// An EndpointSlice of a ServiceImport, exported by a cluster; it belongs to no Service.
pub fn imported(import: &str, cluster: &str, slice: Object) -> Object {
    let Object::EndpointSlice(slice, trigger) = slice else {
        panic!("a slice is imported");
    };
    let import = ImportOrigin {
        service: import.into(),
        cluster: cluster.into(),
    };
    let slice = EndpointSlice {
        import: Some(Box::new(import)),
        ..slice
    };
    Object::EndpointSlice(slice, trigger)
}

pub fn pod(namespace: &str, name: &str, v4: &str, v6: Option<&str>) -> Object {
    Object::Pod(Pod {
        namespace: namespace.into(),
        name: name.into(),
        v4: Some(v4.parse().unwrap()),
        v6: v6.map(|text| text.parse().unwrap()),
        host_network: false,
        labels: None,
    })
}

fn service(namespace: &str, name: &str, kind: ServiceKind, ports: &[&str]) -> Service {
    Service {
        namespace: namespace.into(),
        name: name.into(),
        kind,
        cluster_ips: Box::default(),
        external_name: None,
        ports: self::ports(ports),
        external: None,
        revision: lodestone::cluster::ObjectRevision::default(),
    }
}

fn ports(texts: &[&str]) -> Arc<[Port]> {
    let port = |text: &&str| {
        let [name, protocol, number] = text.split('/').collect::<Vec<_>>().try_into().unwrap();
        Port {
            name: name.into(),
            number: number.parse().ok(),
            protocol: match protocol {
                "TCP" => Protocol::Tcp,
                "UDP" => Protocol::Udp,
                "SCTP" => Protocol::Sctp,
                _ => Protocol::Unstated,
            },
        }
    };
    texts.iter().map(port).collect()
}

fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split(' ');
    let address = address(words.next().unwrap());
    let (mut hostname, mut pod, mut zone, mut ready) = (None, None, None, true);
    for word in words {
        match word.split_once('=') {
            Some(("hostname", name)) => hostname = Some(name),
            Some(("pod", name)) => pod = Some(name),
            Some(("zone", name)) => zone = Some(name),
            _ => ready = word != "unready",
        }
    }
    Endpoint::new(address, ready, hostname, pod, zone)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The sample cluster of most tests.
pub fn cluster() -> Vec<Object> {
    let web = ["http/TCP/80"];
    vec![
        namespace("testns"),
        namespace("empty"),
        namespace("kube-system"),
        cluster_ip("testns", "svc1", &["10.0.0.1"], &web),
        slice(
            "testns",
            "svc1",
            "svc1-a",
            &web,
            &["172.0.0.1 hostname=ep1a"],
        ),
        cluster_ip("testns", "dual", &["10.0.0.3", "fd00:1::3"], &web),
        cluster_ip("testns", "svc6", &["fd00:1::6"], &web),
        cluster_ip("testns", "noports", &["10.0.0.8"], &[]),
        cluster_ip("testns", "unnamed", &["10.0.0.9"], &["/TCP/80"]),
        slice(
            "testns",
            "noports",
            "noports-a",
            &[],
            &["172.0.0.8 unready"],
        ),
        cluster_ip("testns", "pending", &[], &web),
        headless("testns", "hdls1", &web),
        slice(
            "testns",
            "hdls1",
            "hdls1-a",
            &web,
            &[
                "172.0.0.2",
                "172.0.0.3 pod=hdls1-pod",
                "172.0.0.4 hostname=dup-name",
                "172.0.0.5 hostname=dup-name",
                "172.0.0.6 hostname=gone unready",
            ],
        ),
        // Repeats an endpoint of another slice, and adds one of the other family.
        slice(
            "testns",
            "hdls1",
            "hdls1-b",
            &web,
            &["172.0.0.2", "fd00:2::1", "fd00:3::"],
        ),
        headless("testns", "portless", &[]),
        slice("testns", "portless", "portless-a", &[], &["172.0.0.20"]),
        headless("testns", "down", &web),
        slice(
            "testns",
            "down",
            "down-a",
            &web,
            &["172.0.0.30 hostname=down-0 unready"],
        ),
        headless("testns", "never", &web),
        // Slices of a deleted Service.
        slice("testns", "deleted", "deleted-a", &web, &["172.0.0.40"]),
        // A host address shared by endpoints of several Services.
        headless("testns", "host1", &web),
        slice("testns", "host1", "host1-a", &web, &["192.168.0.1"]),
        slice("testns", "host1", "host1-b", &web, &["192.168.0.1"]),
        headless("testns", "host2", &web),
        slice(
            "testns",
            "host2",
            "host2-a",
            &web,
            &["192.168.0.1 hostname=node"],
        ),
        cluster_ip("testns", "pod", &["10.0.0.50"], &web),
        external("testns", "outside", "ghost.Example.net"),
        external("testns", "nowhere", "missing.example.net."),
        external("testns", "alias", "svc1.testns.svc.Cluster.local"),
        external("testns", "alias6", "svc6.testns.svc.cluster.local"),
        external("testns", "chain", "alias.testns.svc.cluster.local"),
        external("testns", "chain-out", "outside.testns.svc.cluster.local"),
        external("testns", "dangling", "none.testns.svc.cluster.local"),
        external("testns", "self", "self.testns.svc.cluster.local"),
        external("testns", "ping", "pong.testns.svc.cluster.local"),
        external("testns", "pong", "PING.testns.svc.cluster.local"),
        external("testns", "address", "192.0.2.7"),
        external("testns", "address6", "2001:db8::7"),
        external("testns", "nonsense", "a..b"),
        // Without a Namespace object: excluded, deleted, or not received yet.
        cluster_ip("hidden", "svc1", &["10.9.0.1"], &web),
        slice("hidden", "svc1", "svc1-a", &web, &["172.9.0.1"]),
        cluster_ip(
            "kube-system",
            "kube-dns",
            &["10.96.0.10"],
            &["dns/UDP/53", "dns-tcp/TCP/53", "metrics/TCP/9153"],
        ),
        slice(
            "kube-system",
            "kube-dns",
            "kube-dns-a",
            &["dns/UDP/53", "dns-tcp/TCP/53", "metrics/TCP/9153"],
            &["10.244.0.2"],
        ),
        pod("testns", "web-0", "10.244.0.7", Some("fd00:244::7")),
        pod("testns", "web-1", "10.244.0.8", Some("fd00:245::")),
        pod("kube-system", "coredns", "10.244.0.2", None),
    ]
}
