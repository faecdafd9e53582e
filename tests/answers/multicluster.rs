//! `multicluster`: zones with ServiceImports.

use std::sync::Arc;

use lodestone::{
    cluster::Object,
    plugin::transfer::{Config, Rule, Transfers, Whom},
    query::{Query, Request, Transport},
    zone::AnswerRules,
};

use crate::{
    dialogue::{Server, Setting, ask_as, name, question, written},
    fixture,
};

fn objects() -> Vec<Object> {
    let web = ["http/TCP/80"];
    let slice = |service: &str, name: &str, endpoints: &[&str]| {
        fixture::slice("testns", service, name, &web, endpoints)
    };
    let mut objects = fixture::cluster();
    objects.extend([
        fixture::import("testns", "shared", &["10.200.0.1", "fd00:200::1"], &web),
        fixture::import("testns", "portless", &["10.200.0.2"], &[]),
        fixture::import("hidden", "shared", &["10.200.0.3"], &web),
        fixture::import("testns", "spread", &[], &web),
        fixture::import("testns", "down", &[], &web),
        fixture::imported(
            "spread",
            "near",
            slice("", "spread-near", &["172.6.0.1 hostname=db-0", "172.6.0.2"]),
        ),
        // A slice that also belongs to a Service of this cluster.
        fixture::imported(
            "spread",
            "Far",
            slice("derived", "spread-far", &["172.6.1.1 hostname=db-0"]),
        ),
        fixture::headless("testns", "derived", &web),
        fixture::imported("spread", "", slice("", "spread-x", &["172.6.2.1"])),
        fixture::imported("down", "near", slice("", "down-a", &["172.6.3.1 unready"])),
    ]);
    objects
}

fn server() -> Server {
    let setting = Setting {
        zones: "clusterset.local. cluster.local. 172.in-addr.arpa. 10.in-addr.arpa.",
        multicluster: &["clusterset.local."],
        ..Setting::default()
    };
    setting.serve(objects())
}

/// A transfer of the multicluster zone, as text.
fn transferred(server: &Server) -> String {
    let config = Config {
        rules: vec![Rule {
            zones: [name(".")].into_iter().collect(),
            to: vec![Whom::Anyone],
            ..Rule::default()
        }],
    };
    let plugin = Transfers::new(config, vec![Arc::clone(&server.view) as _]);
    let question = question("clusterset.local.", "AXFR");
    let query = Query::new(Request {
        transport: Transport::Tcp,
        ..Request::internal(question)
    });
    written(&question, &ask_as(&plugin, query).unwrap())
}

#[test]
fn imports_with_addresses_are_answered_like_services() {
    server().check(
        "
        ? shared.testns.svc.clusterset.local. A
        NOERROR ClusterRecord
        shared.testns.svc.clusterset.local. 5 IN A 10.200.0.1
        ? shared.testns.svc.clusterset.local. AAAA
        NOERROR ClusterRecord
        shared.testns.svc.clusterset.local. 5 IN AAAA fd00:200::1
        ? _http._tcp.shared.testns.svc.Clusterset.local. SRV
        NOERROR ClusterRecord
        _http._tcp.shared.testns.svc.Clusterset.local. 5 IN SRV 0 50 80 shared.testns.svc.Clusterset.local.
        + shared.testns.svc.Clusterset.local. 5 IN A 10.200.0.1
        + shared.testns.svc.Clusterset.local. 5 IN AAAA fd00:200::1
        ? shared.testns.svc.clusterset.local. TXT
        NODATA ClusterNoData, clusterset.local.
        ? portless.testns.svc.clusterset.local. A
        NOERROR ClusterRecord
        portless.testns.svc.clusterset.local. 5 IN A 10.200.0.2
        ? _tcp.shared.testns.svc.clusterset.local. A
        NODATA ClusterNoData, clusterset.local.
        ? _smtp._tcp.shared.testns.svc.clusterset.local. SRV
        NXDOMAIN NoSuchPort, clusterset.local.
        ? db-0.near.shared.testns.svc.clusterset.local. A
        NXDOMAIN NoSuchEndpoint, clusterset.local.
        ? near.shared.testns.svc.clusterset.local. A
        NXDOMAIN NoSuchEndpoint, clusterset.local.
        ",
    );
}

#[test]
fn headless_imports_have_the_endpoints_of_all_clusters() {
    server().check(
        "
        ? spread.testns.svc.clusterset.local. A
        NOERROR ClusterRecord
        spread.testns.svc.clusterset.local. 5 IN A 172.6.1.1
        spread.testns.svc.clusterset.local. 5 IN A 172.6.0.1
        spread.testns.svc.clusterset.local. 5 IN A 172.6.0.2
        spread.testns.svc.clusterset.local. 5 IN A 172.6.2.1
        ? _http._tcp.spread.testns.svc.clusterset.local. SRV
        NOERROR ClusterRecord
        _http._tcp.spread.testns.svc.clusterset.local. 5 IN SRV 0 25 80 db-0.Far.spread.testns.svc.clusterset.local.
        _http._tcp.spread.testns.svc.clusterset.local. 5 IN SRV 0 25 80 db-0.near.spread.testns.svc.clusterset.local.
        _http._tcp.spread.testns.svc.clusterset.local. 5 IN SRV 0 25 80 172-6-0-2.near.spread.testns.svc.clusterset.local.
        + db-0.Far.spread.testns.svc.clusterset.local. 5 IN A 172.6.1.1
        + db-0.near.spread.testns.svc.clusterset.local. 5 IN A 172.6.0.1
        + 172-6-0-2.near.spread.testns.svc.clusterset.local. 5 IN A 172.6.0.2
        ? DB-0.far.spread.testns.svc.clusterset.local. A
        NOERROR ClusterRecord
        DB-0.far.spread.testns.svc.clusterset.local. 5 IN A 172.6.1.1
        ? db-0.near.spread.testns.svc.clusterset.local. A
        NOERROR ClusterRecord
        db-0.near.spread.testns.svc.clusterset.local. 5 IN A 172.6.0.1
        ? db-0.near.spread.testns.svc.clusterset.local. SRV
        NOERROR ClusterRecord
        db-0.near.spread.testns.svc.clusterset.local. 5 IN SRV 0 100 80 db-0.near.spread.testns.svc.clusterset.local.
        + db-0.near.spread.testns.svc.clusterset.local. 5 IN A 172.6.0.1
        ? near.spread.testns.svc.clusterset.local. A
        NODATA ClusterNoData, clusterset.local.
        ? _tcp.spread.testns.svc.clusterset.local. A
        NODATA ClusterNoData, clusterset.local.
        ? db-0.spread.testns.svc.clusterset.local. A
        NXDOMAIN NoSuchEndpoint, clusterset.local.
        ? db-9.near.spread.testns.svc.clusterset.local. A
        NXDOMAIN NoSuchEndpoint, clusterset.local.
        ? http.tcp.spread.testns.svc.clusterset.local. SRV
        NXDOMAIN NoSuchEndpoint, clusterset.local.
        ? a.db-0.near.spread.testns.svc.clusterset.local. A
        NXDOMAIN NoSuchForm, clusterset.local.
        ? down.testns.svc.clusterset.local. A
        NXDOMAIN NoReadyEndpoint, clusterset.local.
        ",
    );
}

#[test]
fn services_and_imports_are_in_separate_zones() {
    server().check(
        "
        ? svc1.testns.svc.clusterset.local. A
        NXDOMAIN NoSuchService, clusterset.local.
        ? shared.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ? shared.hidden.svc.clusterset.local. A
        NXDOMAIN NoSuchNamespace, clusterset.local.
        ? testns.svc.clusterset.local. A
        NODATA ClusterNoData, clusterset.local.
        ? portless.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        portless.testns.svc.cluster.local. 5 IN A 172.0.0.20
        ? derived.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        derived.testns.svc.cluster.local. 5 IN A 172.6.1.1
        ? 1.1.6.172.in-addr.arpa. PTR
        NOERROR ClusterRecord
        1.1.6.172.in-addr.arpa. 5 IN PTR db-0.derived.testns.svc.cluster.local.
        ? 1.0.6.172.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 172.in-addr.arpa.
        ? 1.0.200.10.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 10.in-addr.arpa.
        ? clusterset.local. NS
        NOERROR ClusterRecord
        clusterset.local. 5 IN NS ns.dns.clusterset.local.
        + ns.dns.clusterset.local. 5 IN A 10.96.0.10
        ? ns.dns.clusterset.local. A
        NOERROR ClusterRecord
        ns.dns.clusterset.local. 5 IN A 10.96.0.10
        ",
    );
}

#[test]
fn ignore_empty_service_denies_imports_without_ready_endpoints() {
    let web = ["http/TCP/80"];
    let slice = |import: &str, endpoint: &str| {
        let slice = fixture::slice("testns", "", import, &web, &[endpoint]);
        fixture::imported(import, "near", slice)
    };
    let mut objects = fixture::cluster();
    for (name, address) in [
        ("up", "10.200.1.1"),
        ("down", "10.200.1.2"),
        ("bare", "10.200.1.3"),
    ] {
        objects.push(fixture::import("testns", name, &[address], &web));
    }
    objects.extend([slice("up", "172.6.0.1"), slice("down", "172.6.0.2 unready")]);
    let setting = Setting {
        zones: "clusterset.local. cluster.local.",
        multicluster: &["clusterset.local."],
        rules: AnswerRules {
            ignore_empty_service: true,
            ..AnswerRules::default()
        },
        ..Setting::default()
    };
    let server = setting.serve(objects);
    server.check(
        "
        ? up.testns.svc.clusterset.local. A
        NOERROR ClusterRecord
        up.testns.svc.clusterset.local. 5 IN A 10.200.1.1
        ? down.testns.svc.clusterset.local. A
        NXDOMAIN EmptyService, clusterset.local.
        ? _http._tcp.down.testns.svc.clusterset.local. SRV
        NXDOMAIN EmptyService, clusterset.local.
        ? bare.testns.svc.clusterset.local. TXT
        NXDOMAIN EmptyService, clusterset.local.
        ",
    );
    let zone = transferred(&server);
    let has = |name: &str| zone.contains(&format!("{name}.testns.svc.clusterset.local. 5 IN A"));
    assert_eq!(["up", "down", "bare"].map(has), [true, false, false]);
}

#[test]
fn transfer_has_the_names_that_are_answered() {
    let sent = transferred(&server());
    let sent: Vec<&str> = sent.lines().skip(3).collect();
    let expected = [
        "clusterset.local. 5 IN NS ns.dns.clusterset.local.",
        "ns.dns.clusterset.local. 5 IN A 10.96.0.10",
        "portless.testns.svc.clusterset.local. 5 IN A 10.200.0.2",
        "shared.testns.svc.clusterset.local. 5 IN A 10.200.0.1",
        "shared.testns.svc.clusterset.local. 5 IN AAAA fd00:200::1",
        "shared.testns.svc.clusterset.local. 5 IN SRV 0 100 80 shared.testns.svc.clusterset.local.",
        "_http._tcp.shared.testns.svc.clusterset.local. 5 IN SRV 0 100 80 shared.testns.svc.clusterset.local.",
        "spread.testns.svc.clusterset.local. 5 IN A 172.6.1.1",
        "db-0.Far.spread.testns.svc.clusterset.local. 5 IN A 172.6.1.1",
        "_http._tcp.spread.testns.svc.clusterset.local. 5 IN SRV 0 100 80 db-0.Far.spread.testns.svc.clusterset.local.",
        "spread.testns.svc.clusterset.local. 5 IN A 172.6.0.1",
        "db-0.near.spread.testns.svc.clusterset.local. 5 IN A 172.6.0.1",
        "_http._tcp.spread.testns.svc.clusterset.local. 5 IN SRV 0 50 80 db-0.near.spread.testns.svc.clusterset.local.",
        "spread.testns.svc.clusterset.local. 5 IN A 172.6.0.2",
        "172-6-0-2.near.spread.testns.svc.clusterset.local. 5 IN A 172.6.0.2",
        "_http._tcp.spread.testns.svc.clusterset.local. 5 IN SRV 0 50 80 172-6-0-2.near.spread.testns.svc.clusterset.local.",
        "spread.testns.svc.clusterset.local. 5 IN A 172.6.2.1",
    ];
    assert_eq!(sent[..sent.len() - 1], expected);
}
