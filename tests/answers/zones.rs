//! Several zones in one plugin, TTLs, absence of wildcards, and SRV weights.

use lodestone::{
    reply::Section,
    zone::{AnswerRules, PodNames},
};

use crate::{
    dialogue::{Server, Setting},
    fixture,
};

fn with_zones(zones: &'static str) -> Server {
    let setting = Setting {
        zones,
        ..Setting::default()
    };
    setting.serve(fixture::cluster())
}

#[test]
fn longest_matching_zone_answers() {
    with_zones("local. cluster.local. svc.cluster.local.").check(
        "
        ? svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchForm, svc.cluster.local.
        ? svc1.testns.svc.svc.cluster.local. A
        NOERROR ClusterRecord
        svc1.testns.svc.svc.cluster.local. 5 IN A 10.0.0.1
        ? testns.pod.cluster.local. A
        NXDOMAIN NoSuchPod, cluster.local.
        ? svc1.testns.svc.local. A
        NOERROR ClusterRecord
        svc1.testns.svc.local. 5 IN A 10.0.0.1
        ? other.local. A
        NXDOMAIN NoSuchForm, local.
        ? SVC.Cluster.LOCAL. SOA
        NOERROR ClusterRecord
        SVC.Cluster.LOCAL. 5 IN SOA ns.dns.SVC.Cluster.LOCAL. hostmaster.SVC.Cluster.LOCAL. SERIAL 7200 1800 86400 5
        ",
    );
}

#[test]
fn ptr_targets_are_in_the_first_zone_that_is_not_reverse() {
    with_zones("172.in-addr.arpa. other.test. cluster.local. 10.in-addr.arpa.").check(
        "
        ? 1.0.0.10.in-addr.arpa. PTR
        NOERROR ClusterRecord
        1.0.0.10.in-addr.arpa. 5 IN PTR svc1.testns.svc.other.test.
        ? 1.0.0.172.in-addr.arpa. PTR
        NOERROR ClusterRecord
        1.0.0.172.in-addr.arpa. 5 IN PTR ep1a.svc1.testns.svc.other.test.
        ? svc1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ? _http._tcp.svc1.testns.svc.other.test. SRV
        NOERROR ClusterRecord
        _http._tcp.svc1.testns.svc.other.test. 5 IN SRV 0 100 80 svc1.testns.svc.other.test.
        + svc1.testns.svc.other.test. 5 IN A 10.0.0.1
        ",
    );
}

#[test]
fn ttl_applies_to_every_record_except_dns_version() {
    for ttl in [0, 30] {
        let setting = Setting {
            rules: AnswerRules {
                ttl,
                pods: PodNames::Insecure,
                ..AnswerRules::default()
            },
            ..Setting::default()
        };
        let server = setting.serve(fixture::cluster());
        for (name, rtype) in [
            ("svc1.testns.svc.cluster.local.", "A"),
            ("svc6.testns.svc.cluster.local.", "AAAA"),
            ("_http._tcp.dual.testns.svc.cluster.local.", "SRV"),
            ("hdls1.testns.svc.cluster.local.", "A"),
            ("hdls1.testns.svc.cluster.local.", "SRV"),
            ("ep1a.svc1.testns.svc.cluster.local.", "A"),
            ("alias.testns.svc.cluster.local.", "A"),
            ("outside.testns.svc.cluster.local.", "CNAME"),
            ("10-1-2-3.testns.pod.cluster.local.", "A"),
            ("1.0.0.10.in-addr.arpa.", "PTR"),
            ("cluster.local.", "NS"),
            ("cluster.local.", "SOA"),
            ("ns.dns.cluster.local.", "A"),
            ("none.testns.svc.cluster.local.", "A"),
            ("svc1.testns.svc.cluster.local.", "MX"),
        ] {
            let (_, reply) = server.ask(name, rtype);
            let reply = reply.unwrap();
            let records = Section::ALL.map(|section| reply.section(section)).concat();
            assert!(!records.is_empty(), "{name} {rtype}");
            let all = records.iter().all(|record| record.ttl == ttl);
            assert!(all, "{name} {rtype}: {records:?}");
        }
        server.check(
            r#"
            ? dns-version.cluster.local. TXT
            NOERROR ClusterRecord
            dns-version.cluster.local. 28800 IN TXT "1.1.0"
            "#,
        );
    }
}

#[test]
fn labels_are_not_wildcards() {
    with_zones("cluster.local.").check(
        "
        ? *.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ? any.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ? svc1.*.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? *.svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ? *._tcp.svc1.testns.svc.cluster.local. SRV
        NXDOMAIN NoSuchPort, cluster.local.
        ? _any._any.svc1.testns.svc.cluster.local. SRV
        NXDOMAIN NoSuchPort, cluster.local.
        ? *.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ",
    );
}

#[test]
fn namespaces_option_is_case_sensitive() {
    let setting = Setting {
        rules: AnswerRules {
            namespaces: ["Testns".into(), "kube-system".into()].into(),
            ..AnswerRules::default()
        },
        ..Setting::default()
    };
    setting.serve(fixture::cluster()).check(
        "
        ? svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? Testns.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? kube-dns.Kube-System.svc.cluster.local. A
        NOERROR ClusterRecord
        kube-dns.Kube-System.svc.cluster.local. 5 IN A 10.96.0.10
        ",
    );
}

#[test]
fn srv_weights_add_up_to_a_hundred() {
    for (count, weight) in [
        (1, 100),
        (2, 50),
        (3, 33),
        (6, 16),
        (7, 14),
        (100, 1),
        (101, 1),
        (250, 1),
    ] {
        let addresses: Vec<_> = (0..count).map(|last| format!("172.1.0.{last}")).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        let ports = ["http/TCP/80"];
        let server = Setting::default().serve(vec![
            fixture::namespace("shop"),
            fixture::headless("shop", "web", &ports),
            fixture::slice("shop", "web", "web-a", &ports, &addresses),
        ]);
        let reply = server.ask_unlimited("_http._tcp.web.shop.svc.cluster.local.", "SRV");
        let records = reply.section(Section::Answer);
        assert_eq!(records.len(), count);
        for record in records {
            // Priority and weight come first.
            assert_eq!(reply.data(record)[..4], [0, 0, 0, weight], "{count}");
        }
    }
}
