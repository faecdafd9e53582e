//! Rarer mistakes, and texts that depend on the client.

use hickory_proto::rr::RecordType;

use super::{
    client::ask,
    mistakes::{PAYLOAD, Row, check, cluster, text},
    server::Server,
    upstream, world,
};

/// The mistakes.
const RARE: &[Row<'static>] = &[
    (
        "x.db-0.db.shop.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"no name is below the endpoint "db-0" of service "db""#,
    ),
    (
        "a.b.c.db.shop.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"names below service "db" are ENDPOINT or _PORT._PROTOCOL"#,
    ),
    (
        "x.db-7.db.shop.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"names below service "db" are ENDPOINT or _PORT._PROTOCOL"#,
    ),
    (
        "web-service.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "namespace and svc are missing; complete: web-service.payroll.svc.cluster.local.",
    ),
    (
        "_http.web-service.payroll.svc.cluster.local.",
        RecordType::SRV,
        "NXDOMAIN",
        0,
        "protocol is missing; complete: _http._tcp.web-service.payroll.svc.cluster.local.",
    ),
    (
        "_web.web-service.payroll.svc.cluster.local.",
        RecordType::SRV,
        "NXDOMAIN",
        0,
        r#"port "_web" without protocol; has _http._tcp, _metrics._tcp"#,
    ),
    (
        "web-service.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "namespace is missing; complete: web-service.payroll.svc.cluster.local.",
    ),
    (
        "web-service.payroll.svc.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "svc is doubled; complete: web-service.payroll.svc.cluster.local.",
    ),
    (
        "payroll.svc.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "svc is doubled",
    ),
    (
        "web-service.payroll.svc.clster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "zone clster.local. is not served; nearest: cluster.local.",
    ),
    (
        "10-244-1-5.shop.pod.cluster.lcoal.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "zone cluster.lcoal. is not served; nearest: cluster.local.",
    ),
    (
        "web-service.payroll.svc.other.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "answer of upstream 127.0.0.1:",
    ),
    (
        "ring.shop.svc.cluster.local.",
        RecordType::A,
        "NOERROR",
        0,
        "ExternalName loop: ring.shop -> circle.payroll -> ring.shop",
    ),
    (
        "cluster.local.",
        RecordType::AXFR,
        "REFUSED",
        18,
        "zone transfers need TCP, and the client in the option `to` of the plugin transfer",
    ),
    // Labels that are not UTF-8.
    (
        "\\195x.payroll.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"service "\195x" not found in namespace "payroll""#,
    ),
    (
        "web.\\255.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"namespace "\255" not found"#,
    ),
    (
        "\\195.db.shop.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"service "db" has no endpoint "\195""#,
    ),
    (
        "_\\195._tcp.db.shop.svc.cluster.local.",
        RecordType::SRV,
        "NXDOMAIN",
        0,
        r#"service "db" has no port _\195._tcp; has _sql._tcp"#,
    ),
    (
        "\\195.shop.pod.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#""\195" is no address with dashes"#,
    ),
];

#[test]
fn rarer_mistakes_have_a_text_of_their_own() {
    let upstream = upstream::denying();
    let (server, _manifests) = cluster("pods verified", &format!("forward . {upstream}"));
    check(&server, RARE);
}

#[test]
fn a_misspelt_zone_is_named_without_an_upstream_too() {
    let (server, _manifests) = cluster("", "");
    check(
        &server,
        &[(
            "web-service.payroll.svc.clster.local.",
            RecordType::A,
            "SERVFAIL",
            0,
            "zone clster.local. is not served; nearest: cluster.local.",
        )],
    );
}

#[test]
fn the_address_of_a_node_is_in_no_namespace() {
    let elsewhere = "web-service.shop.svc.cluster.local.";
    let alone = "web-service.svc.cluster.local.";
    for (host_network, wanted) in [
        (
            false,
            [
                r#"service "web-service" not found in namespace "shop"; exists in namespace "payroll""#,
                "namespace is missing; complete: web-service.payroll.svc.cluster.local.",
            ],
        ),
        (
            true,
            [
                r#"service "web-service" not found in namespace "shop""#,
                r#"namespace "web-service" not found"#,
            ],
        ),
    ] {
        let manifests = world::manifests();
        let pod = manifests.path().join("client.yaml");
        std::fs::write(pod, world::client(host_network)).unwrap();
        let options = "pods verified\nhints namespace";
        let server = Server::start(&text(manifests.path(), options, ""));
        let texts = [elsewhere, alone].map(|name| {
            let learnt = ask(server.address, name, RecordType::A, PAYLOAD);
            learnt.error.unwrap().1
        });
        assert_eq!(texts, wanted, "{host_network}");
    }
}
