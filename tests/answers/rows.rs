//! Further cases of the DNS specification, with objects as manifests.

use lodestone::{
    cluster::manifests,
    reply::Section,
    wire::Rcode,
    zone::{AnswerRules, PodNames},
};

use crate::{
    dialogue::{Server, Setting},
    fixture,
};

/// A server with the objects of these manifests.
fn serve(setting: Setting, text: &str) -> Server {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("objects.yaml"), text).unwrap();
    setting.serve(manifests::objects(directory.path()))
}

fn server() -> Server {
    Setting::default().serve(fixture::cluster())
}

#[test]
fn node_port_and_load_balancer_answer_as_cluster_ip() {
    let server = serve(
        Setting {
            zones: "cluster.local. in-addr.arpa.",
            ..Setting::default()
        },
        "
apiVersion: v1
kind: Service
metadata: {name: node, namespace: shop}
spec: {type: NodePort, clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1],
  ports: [{name: http, port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {type: LoadBalancer, clusterIP: 10.0.0.2, clusterIPs: [10.0.0.2],
  externalIPs: [192.0.2.9], ports: [{name: http, port: 80}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.8}, {hostname: lb.example.net}]}}
",
    );
    server.check(
        "
        ? node.shop.svc.cluster.local. A
        NOERROR ClusterRecord
        node.shop.svc.cluster.local. 5 IN A 10.0.0.1
        ? _http._tcp.node.shop.svc.cluster.local. SRV
        NOERROR ClusterRecord
        _http._tcp.node.shop.svc.cluster.local. 5 IN SRV 0 100 80 node.shop.svc.cluster.local.
        + node.shop.svc.cluster.local. 5 IN A 10.0.0.1
        ? front.shop.svc.cluster.local. A
        NOERROR ClusterRecord
        front.shop.svc.cluster.local. 5 IN A 10.0.0.2
        ? front.shop.svc.cluster.local. CNAME
        NODATA ClusterNoData, cluster.local.
        ? 2.0.0.10.in-addr.arpa. PTR
        NOERROR ClusterRecord
        2.0.0.10.in-addr.arpa. 5 IN PTR front.shop.svc.cluster.local.
        ? 9.2.0.192.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, in-addr.arpa.
        ? 8.2.0.192.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, in-addr.arpa.
        ",
    );
}

#[test]
fn endpoint_without_a_ready_condition_is_ready() {
    let server = serve(
        Setting::default(),
        "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-a, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints:
- {addresses: [172.0.0.1], hostname: silent}
- {addresses: [172.0.0.2], hostname: leaving, conditions: {ready: true, serving: false, terminating: true}}
- {addresses: [172.0.0.3], hostname: waiting, conditions: {ready: false, serving: true}}
ports: [{name: sql, port: 5432, protocol: TCP}]
",
    );
    server.check(
        "
        ? db.shop.svc.cluster.local. A
        NOERROR ClusterRecord
        db.shop.svc.cluster.local. 5 IN A 172.0.0.1
        db.shop.svc.cluster.local. 5 IN A 172.0.0.2
        ? leaving.db.shop.svc.cluster.local. A
        NOERROR ClusterRecord
        leaving.db.shop.svc.cluster.local. 5 IN A 172.0.0.2
        ? waiting.db.shop.svc.cluster.local. A
        NXDOMAIN EndpointNotReady, cluster.local.
        ? _sql._tcp.db.shop.svc.cluster.local. SRV
        NOERROR ClusterRecord
        _sql._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 50 5432 silent.db.shop.svc.cluster.local.
        _sql._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 50 5432 leaving.db.shop.svc.cluster.local.
        + silent.db.shop.svc.cluster.local. 5 IN A 172.0.0.1
        + leaving.db.shop.svc.cluster.local. 5 IN A 172.0.0.2
        ",
    );
}

#[test]
fn fqdn_slices_are_ignored() {
    let server = serve(
        Setting::default(),
        "
apiVersion: v1
kind: Service
metadata: {name: far, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: far-a, namespace: shop, labels: {kubernetes.io/service-name: far}}
addressType: FQDN
endpoints: [{addresses: [www.example.net]}]
ports: [{name: http, port: 80, protocol: TCP}]
",
    );
    server.check(
        "
        ? far.shop.svc.cluster.local. A
        NXDOMAIN NoReadyEndpoint, cluster.local.
        ? far.shop.svc.cluster.local. CNAME
        NXDOMAIN NoReadyEndpoint, cluster.local.
        ",
    );
}

#[test]
fn port_and_protocol_must_match_the_same_port() {
    server().check(
        "
        ? _dns._udp.kube-dns.kube-system.svc.cluster.local. SRV
        NOERROR ClusterRecord
        _dns._udp.kube-dns.kube-system.svc.cluster.local. 5 IN SRV 0 100 53 kube-dns.kube-system.svc.cluster.local.
        + kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.10
        ? _dns._tcp.kube-dns.kube-system.svc.cluster.local. SRV
        NXDOMAIN NoSuchPort, cluster.local.
        ? _dns-tcp._udp.kube-dns.kube-system.svc.cluster.local. A
        NXDOMAIN NoSuchPort, cluster.local.
        ? _udp.kube-dns.kube-system.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ",
    );
}

#[test]
fn namespaces_and_services_may_be_called_svc_and_pod() {
    let mut objects = fixture::cluster();
    objects.extend([
        fixture::namespace("svc"),
        fixture::namespace("pod"),
        fixture::cluster_ip("svc", "pod", &["10.0.0.60"], &["http/TCP/80"]),
        fixture::cluster_ip("pod", "svc", &["10.0.0.61"], &["http/TCP/80"]),
    ]);
    Setting::default().serve(objects).check(
        "
        ? pod.svc.svc.cluster.local. A
        NOERROR ClusterRecord
        pod.svc.svc.cluster.local. 5 IN A 10.0.0.60
        ? svc.pod.svc.cluster.local. A
        NOERROR ClusterRecord
        svc.pod.svc.cluster.local. 5 IN A 10.0.0.61
        ? svc.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? svc.svc.pod.cluster.local. A
        NXDOMAIN NoSuchPod, cluster.local.
        ",
    );
}

/// Types without records in the cluster's zones, known to the server by name or not.
const OTHERS: [&str; 11] = [
    "MX",
    "HINFO",
    "ANY",
    "HTTPS",
    "SVCB",
    "DS",
    "CAA",
    "DNSKEY",
    "NAPTR",
    "TYPE65280",
    "TXT",
];

#[test]
fn other_types_are_nodata_or_nxdomain_by_existence() {
    let server = server();
    for (rcode, names) in [
        (
            Rcode::NOERROR,
            [
                "cluster.local.",
                "svc.cluster.local.",
                "pod.cluster.local.",
                "dns.cluster.local.",
                "ns.dns.cluster.local.",
                "testns.svc.cluster.local.",
                "svc1.testns.svc.cluster.local.",
                "hdls1.testns.svc.cluster.local.",
                "ep1a.svc1.testns.svc.cluster.local.",
                "_http._tcp.svc1.testns.svc.cluster.local.",
                "outside.testns.svc.cluster.local.",
                "1.0.0.10.in-addr.arpa.",
                "172.in-addr.arpa.",
            ]
            .as_slice(),
        ),
        (
            Rcode::NXDOMAIN,
            &[
                "none.cluster.local.",
                "none.svc.cluster.local.",
                "none.testns.svc.cluster.local.",
                "down.testns.svc.cluster.local.",
                "none.svc1.testns.svc.cluster.local.",
                "_none._tcp.svc1.testns.svc.cluster.local.",
                "x.outside.testns.svc.cluster.local.",
                "99.0.0.10.in-addr.arpa.",
            ],
        ),
    ] {
        for name in names {
            for rtype in OTHERS {
                let (_, reply) = server.ask(name, rtype);
                let reply = reply.unwrap();
                assert_eq!(reply.rcode, rcode, "{name} {rtype}");
                let sizes = Section::ALL.map(|section| reply.section(section).len());
                assert_eq!(sizes, [0, 1, 0], "{name} {rtype}");
            }
        }
    }
}

#[test]
fn apex_has_no_a_srv_cname_or_ptr_records() {
    let server = server();
    for zone in ["cluster.local.", "172.in-addr.arpa.", "ip6.arpa."] {
        for rtype in ["A", "AAAA", "SRV", "CNAME", "PTR"] {
            server.check(&format!("? {zone} {rtype}\nNODATA ClusterNoData, {zone}"));
        }
    }
    server.check(
        "
        ? ns.dns.cluster.local. PTR
        NODATA ClusterNoData, cluster.local.
        ? ns.dns.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ? dns-version.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? none.testns.svc.cluster.local. PTR
        NXDOMAIN NoSuchService, cluster.local.
        ? none.testns.svc.cluster.local. CNAME
        NXDOMAIN NoSuchService, cluster.local.
        ? none.testns.svc.cluster.local. NS
        NXDOMAIN NoSuchService, cluster.local.
        ",
    );
}

#[test]
fn reverse_zones_have_reverse_names_only() {
    // `10.96.0.0/24` in a Corefile.
    let setting = Setting {
        zones: "cluster.local. 0.96.10.in-addr.arpa. ip6.arpa.",
        ..Setting::default()
    };
    setting.serve(fixture::cluster()).check(
        "
        ? 10.0.96.10.in-addr.arpa. PTR
        NOERROR ClusterRecord
        10.0.96.10.in-addr.arpa. 5 IN PTR kube-dns.kube-system.svc.cluster.local.
        ? 010.0.96.10.in-addr.arpa. PTR
        NXDOMAIN NoSuchForm, 0.96.10.in-addr.arpa.
        ? x.10.0.96.10.in-addr.arpa. PTR
        NXDOMAIN NoSuchForm, 0.96.10.in-addr.arpa.
        ? 1.1.96.10.in-addr.arpa. PTR
        PASS
        ? svc.0.96.10.in-addr.arpa. A
        NXDOMAIN NoSuchForm, 0.96.10.in-addr.arpa.
        ? kube-dns.kube-system.svc.0.96.10.in-addr.arpa. A
        NXDOMAIN NoSuchForm, 0.96.10.in-addr.arpa.
        ? ns.dns.0.96.10.in-addr.arpa. A
        NOERROR ClusterRecord
        ns.dns.0.96.10.in-addr.arpa. 5 IN A 10.96.0.10
        ? 0.3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa. PTR
        NXDOMAIN NoSuchForm, ip6.arpa.
        ",
    );
}

#[test]
fn ptr_targets_are_services_and_their_endpoints() {
    // A pod without a Service has no PTR record in any mode.
    for pods in [PodNames::Insecure, PodNames::Verified] {
        let setting = Setting {
            zones: "cluster.local. 10.in-addr.arpa.",
            rules: AnswerRules {
                pods,
                ..AnswerRules::default()
            },
            ..Setting::default()
        };
        setting.serve(fixture::cluster()).check(
            "
            ? 7.0.244.10.in-addr.arpa. PTR
            NXDOMAIN NoSuchAddress, 10.in-addr.arpa.
            ? 2.0.244.10.in-addr.arpa. PTR
            NOERROR ClusterRecord
            2.0.244.10.in-addr.arpa. 5 IN PTR 10-244-0-2.kube-dns.kube-system.svc.cluster.local.
            ",
        );
    }
}

#[test]
fn pods_with_a_common_host_address_give_one_record() {
    let mut objects = fixture::cluster();
    objects.extend(["a", "b"].map(|name| fixture::pod("testns", name, "192.168.0.1", None)));
    let setting = Setting {
        rules: AnswerRules {
            pods: PodNames::Verified,
            ..AnswerRules::default()
        },
        ..Setting::default()
    };
    setting.serve(objects).check(
        "
        ? 192-168-0-1.testns.pod.cluster.local. A
        NOERROR ClusterRecord
        192-168-0-1.testns.pod.cluster.local. 5 IN A 192.168.0.1
        ? 192-168-0-1.testns.pod.cluster.local. MX
        NODATA ClusterNoData, cluster.local.
        ? 192-168-0-1.testns.pod.cluster.local. CNAME
        NODATA ClusterNoData, cluster.local.
        ? 192-168-0-1.testns.pod.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ? 192-168-0-1.empty.pod.cluster.local. A
        NXDOMAIN NoSuchPod, cluster.local.
        ? fd00-244-0-0-0-0-0-7.testns.pod.cluster.local. AAAA
        NOERROR ClusterRecord
        fd00-244-0-0-0-0-0-7.testns.pod.cluster.local. 5 IN AAAA fd00:244::7
        ",
    );
}

#[test]
fn external_name_target_is_resolved_wherever_it_is() {
    let mut objects = fixture::cluster();
    objects.extend([
        fixture::external("testns", "to-hidden", "svc1.hidden.svc.cluster.local"),
        fixture::external(
            "testns",
            "to-endpoint",
            "ep1a.svc1.testns.svc.cluster.local",
        ),
        fixture::external("testns", "to-headless", "hdls1.testns.svc.cluster.local"),
        fixture::external("testns", "to-down", "down.testns.svc.cluster.local"),
        fixture::external("testns", "to-below", "a.to-below.testns.svc.cluster.local"),
    ]);
    Setting::default().serve(objects).check(
        "
        ? to-hidden.testns.svc.cluster.local. A
        NXDOMAIN ClusterRecord
        to-hidden.testns.svc.cluster.local. 5 IN CNAME svc1.hidden.svc.cluster.local.
        ? to-endpoint.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        to-endpoint.testns.svc.cluster.local. 5 IN CNAME ep1a.svc1.testns.svc.cluster.local.
        ep1a.svc1.testns.svc.cluster.local. 5 IN A 172.0.0.1
        ? to-headless.testns.svc.cluster.local. AAAA
        NOERROR ClusterRecord
        to-headless.testns.svc.cluster.local. 5 IN CNAME hdls1.testns.svc.cluster.local.
        hdls1.testns.svc.cluster.local. 5 IN AAAA fd00:2::1
        hdls1.testns.svc.cluster.local. 5 IN AAAA fd00:3::
        ? to-down.testns.svc.cluster.local. A
        NXDOMAIN ClusterRecord
        to-down.testns.svc.cluster.local. 5 IN CNAME down.testns.svc.cluster.local.
        ? to-below.testns.svc.cluster.local. A
        NXDOMAIN ClusterRecord
        to-below.testns.svc.cluster.local. 5 IN CNAME a.to-below.testns.svc.cluster.local.
        ? to-headless.testns.svc.cluster.local. MX
        NODATA ClusterNoData, cluster.local.
        ? to-headless.testns.svc.cluster.local. PTR
        NODATA ClusterNoData, cluster.local.
        ? to-headless.testns.svc.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ",
    );
}

#[test]
fn ports_and_selector_of_an_external_name_are_ignored() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: partner, namespace: shop}
spec: {type: ExternalName, externalName: host.example.net, selector: {app: x},
  ports: [{name: http, port: 80}]}
";
    serve(Setting::default(), text).check(
        "
        ? partner.shop.svc.cluster.local. CNAME
        NOERROR ClusterRecord
        partner.shop.svc.cluster.local. 5 IN CNAME host.example.net.
        ? partner.shop.svc.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ? _http._tcp.partner.shop.svc.cluster.local. SRV
        NXDOMAIN NoSuchPort, cluster.local.
        ",
    );
}

/// From an end-to-end test of Kubernetes.
#[test]
fn service_name_may_start_with_a_digit() {
    let objects = vec![
        fixture::namespace("default"),
        fixture::cluster_ip("default", "3-tier", &["10.0.0.70"], &["http/TCP/80"]),
        fixture::cluster_ip("default", "kubernetes", &["10.0.0.71"], &["https/TCP/443"]),
    ];
    Setting::default().serve(objects).check(
        "
        ? 3-tier.default.svc.cluster.local. A
        NOERROR ClusterRecord
        3-tier.default.svc.cluster.local. 5 IN A 10.0.0.70
        ? kubernetes.default.svc.cluster.local. A
        NOERROR ClusterRecord
        kubernetes.default.svc.cluster.local. 5 IN A 10.0.0.71
        ? kubernetes.default.svc.default.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ? _https._tcp.kubernetes.default.svc.cluster.local. SRV
        NOERROR ClusterRecord
        _https._tcp.kubernetes.default.svc.cluster.local. 5 IN SRV 0 100 443 kubernetes.default.svc.cluster.local.
        + kubernetes.default.svc.cluster.local. 5 IN A 10.0.0.71
        ",
    );
}

#[test]
fn truncated_external_target_sets_tc() {
    let mut objects = fixture::cluster();
    objects.push(fixture::external("testns", "many", "many.example.net"));
    let server = Setting::default().serve(objects);
    server.check(
        "
        ? many.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        many.testns.svc.cluster.local. 5 IN CNAME many.example.net.
        many.example.net. 30 IN A 203.0.113.2
        ",
    );
    for (name, cut) in [("many", true), ("outside", false)] {
        let (_, reply) = server.ask(&format!("{name}.testns.svc.cluster.local."), "A");
        assert_eq!(reply.unwrap().truncated, cut, "{name}");
    }
}
