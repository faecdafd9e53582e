//! The mistakes, each with the text that names its cause.

use std::path::Path;

use hickory_proto::rr::{DNSClass, RecordType};

use super::{
    client::{Learnt, ask, ask_in},
    server::{Server, program},
    upstream, world,
};

/// Payload of usual clients.
pub const PAYLOAD: Option<u16> = Some(1232);

/// A name, a type, and the RCODE, INFO-CODE and beginning of the text of the reply.
pub type Row<'a> = (&'a str, RecordType, &'a str, u16, &'a str);

pub fn check(server: &Server, rows: &[Row<'_>]) {
    let mut wrong = Vec::new();
    for (name, rtype, rcode, code, text) in rows {
        let learnt = ask(server.address, name, *rtype, PAYLOAD);
        let is_right = matches!(&learnt, Learnt { rcode: r, error: Some((c, t)), .. }
            if r == rcode && c == code && t.starts_with(text) && t.len() <= 100);
        if !is_right {
            wrong.push(format!(
                "{name} {rtype}: {learnt:?}, not {rcode} {code} {text}"
            ));
        }
        let plain = ask(server.address, name, *rtype, None);
        if plain.error.is_some() || plain.rcode != learnt.rcode {
            wrong.push(format!("{name} {rtype} without EDNS: {plain:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

pub fn cluster(options: &str, others: &str) -> (Server, tempfile::TempDir) {
    let manifests = world::manifests();
    let server = Server::start(&text(manifests.path(), options, others));
    (server, manifests)
}

/// A Corefile with options of `kubernetes` and other directives.
pub fn text(manifests: &Path, options: &str, others: &str) -> String {
    let directory = manifests.display();
    format!(
        ".:0 {{
            bind 127.0.0.1
            kubernetes cluster.local in-addr.arpa {{
                manifests {directory}
                {options}
            }}
            {others}
        }}\n"
    )
}

/// Names under the zone that do not exist, or have no record of the type.
pub const UNDER_THE_ZONE: &[Row<'static>] = &[
    // 1: a namespace misspelt.
    (
        "web-service.payrol.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"namespace "payrol" not found; nearest: "payroll""#,
    ),
    // 2: a Service misspelt.
    (
        "web-servcie.payroll.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"service "web-servcie" not found in namespace "payroll"; nearest: "web-service""#,
    ),
    // 3: a Service of another namespace.
    (
        "web-service.shop.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"service "web-service" not found in namespace "shop"; exists in namespace "payroll""#,
    ),
    // 4: Service and namespace swapped.
    (
        "payroll.web-service.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"namespace "web-service" not found; swapped: web-service.payroll"#,
    ),
    // 5: a headless Service without a ready endpoint.
    (
        "starting.shop.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"headless service "starting": 0 of 2 endpoints ready"#,
    ),
    // 6: an endpoint that is not ready.
    (
        "db-1.db.shop.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"endpoint "db-1" of service "db" is not ready"#,
    ),
    // 7: an endpoint that does not exist.
    (
        "db-9.db.shop.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"service "db" has no endpoint "db-9": 1 of 2 endpoints ready"#,
    ),
    // 8: a port that does not exist.
    (
        "_https._tcp.web-service.payroll.svc.cluster.local.",
        RecordType::SRV,
        "NXDOMAIN",
        0,
        r#"service "web-service" has no port _https._tcp; has _http._tcp, _metrics._tcp"#,
    ),
    // 9: the wrong protocol.
    (
        "_sql._udp.db.shop.svc.cluster.local.",
        RecordType::SRV,
        "NXDOMAIN",
        0,
        r#"service "db" has no port _sql._udp; has _sql._tcp"#,
    ),
    // 10: a port without a name.
    (
        "_http._tcp.front.default.svc.cluster.local.",
        RecordType::SRV,
        "NXDOMAIN",
        0,
        r#"service "front" has no port _http._tcp; none of its ports has a name"#,
    ),
    // 11: `svc` omitted.
    (
        "web-service.payroll.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "svc is missing; complete: web-service.payroll.svc.cluster.local.",
    ),
    // 12: a search list's product that is no name of a Service.
    (
        "www.shop.example.com.default.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "no Service, endpoint, port or pod has a name of this form",
    ),
    // 13: a pod by an address that none has.
    (
        "10-244-9-9.shop.pod.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#"no running pod of namespace "shop" has the address 10.244.9.9"#,
    ),
    // 14: a pod by its name.
    (
        "db-0.shop.pod.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        r#""db-0" is no address with dashes, as in 10-244-1-7"#,
    ),
    // 15: an address without a name.
    (
        "9.9.244.10.in-addr.arpa.",
        RecordType::PTR,
        "NXDOMAIN",
        0,
        "no Service or endpoint has the address 10.244.9.9",
    ),
    // 16: an address family that the Service does not have.
    (
        "web-service.payroll.svc.cluster.local.",
        RecordType::AAAA,
        "NOERROR",
        0,
        r#"service "web-service" has no IPv6 address"#,
    ),
    // 17: a namespace alone.
    (
        "payroll.svc.cluster.local.",
        RecordType::A,
        "NOERROR",
        0,
        r#""payroll" is a namespace: put a name in front of it"#,
    ),
    // 18: an ExternalName whose target does not exist.
    (
        "partner.shop.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "target api.example.com.: answer of upstream 127.0.0.1:",
    ),
    // 19: the same within the cluster.
    (
        "inside.shop.svc.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "target web.payroll.svc.cluster.local.: service \"web\" not found in namespace",
    ),
];

const COMPLETE: &str =
    "name without the search list; complete: web-service.payroll.svc.cluster.local.";

/// Names outside the zone, and names of pods while these are disabled.
pub const WITHOUT_THE_ZONE: &[Row<'static>] = &[
    // 20 to 22: without the search list, or with a part of it.
    (
        "web-service.payroll.",
        RecordType::A,
        "NXDOMAIN",
        0,
        COMPLETE,
    ),
    (
        "web-service.payroll.svc.",
        RecordType::A,
        "NXDOMAIN",
        0,
        COMPLETE,
    ),
    (
        "web-service.payroll.svc.cluster.",
        RecordType::A,
        "NXDOMAIN",
        0,
        COMPLETE,
    ),
    // 23: a Service's name alone.
    (
        "front.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "name without the search list; complete: front.default.svc.cluster.local.",
    ),
    // 24: names of pods that the configuration disables.
    (
        "10-244-1-5.shop.pod.cluster.local.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "names of pods are disabled (option pods: insecure or verified)",
    ),
    // 25: a name of the outside world that does not exist.
    (
        "www.example.com.",
        RecordType::A,
        "NXDOMAIN",
        0,
        "answer of upstream 127.0.0.1:",
    ),
];

#[test]
fn names_of_the_cluster_that_do_not_exist() {
    let upstream = upstream::denying();
    let (server, _manifests) = cluster("pods verified", &format!("forward . {upstream}"));
    check(&server, UNDER_THE_ZONE);
}

#[test]
fn names_of_the_cluster_without_its_zone() {
    let upstream = upstream::denying();
    let (server, _manifests) = cluster("", &format!("forward . {upstream}"));
    check(&server, WITHOUT_THE_ZONE);
}

#[test]
fn twenty_five_mistakes_are_explained_step_by_step() {
    let upstream = upstream::denying();
    let manifests = world::manifests();
    assert_eq!(UNDER_THE_ZONE.len() + WITHOUT_THE_ZONE.len(), 25);
    for (options, rows) in [("pods verified", UNDER_THE_ZONE), ("", WITHOUT_THE_ZONE)] {
        let others = format!("forward . {upstream}");
        let corefile = manifests.path().join("Corefile");
        std::fs::write(&corefile, text(manifests.path(), options, &others)).unwrap();
        for (name, rtype, rcode, _, reason) in rows {
            let output = program()
                .args(["explain", name, "--type", &rtype.to_string(), "--conf"])
                .arg(&corefile)
                .output()
                .unwrap();
            let shown = String::from_utf8(output.stdout).unwrap();
            let wanted = format!("{rcode}: {reason}");
            assert!(shown.contains(&wanted), "{name}: {shown}, not {wanted}");
            let plugin = if shown.contains("upstream 127.0.0.1") {
                "forward "
            } else {
                "kubernetes "
            };
            assert!(shown.contains(plugin), "{name}: {shown}");
            assert_eq!(output.status.code(), Some(1), "{name}: {shown}");
        }
    }
}

#[test]
fn servers_that_do_not_answer() {
    let silent = upstream::silent();
    let to = silent.local_addr().unwrap();
    let (server, _manifests) = cluster("", &format!("cache\nforward . {to}"));
    // Twice: the second answer is from the cache.
    for _ in 0..2 {
        check(
            &server,
            &[(
                "www.example.com.",
                RecordType::A,
                "SERVFAIL",
                22,
                "upstream: 3 tries in 3.",
            )],
        );
    }
    let to = upstream::closed();
    let (server, _manifests) = cluster("", &format!("forward . {to}"));
    let learnt = ask(server.address, "www.example.com.", RecordType::A, PAYLOAD);
    let (code, text) = learnt.error.unwrap();
    assert_eq!((learnt.rcode.as_str(), code), ("SERVFAIL", 23));
    assert!(
        text.ends_with(&format!("{to}: connection refused")),
        "{text}"
    );
}

#[test]
fn names_that_this_server_does_not_serve() {
    let (server, _manifests) = cluster("", "acl example.org {\nblock\n}");
    check(
        &server,
        &[
            ("www.example.org.", RecordType::A, "REFUSED", 15, ""),
            (
                "www.example.com.",
                RecordType::A,
                "SERVFAIL",
                0,
                "no plugin of the server block answers this name",
            ),
        ],
    );
    let address = server.address;
    let hesiod = ask_in(
        address,
        "a.cluster.local.",
        RecordType::A,
        DNSClass::HS,
        PAYLOAD,
    );
    let (code, _) = hesiod.error.unwrap();
    assert_eq!((hesiod.rcode.as_str(), code), ("REFUSED", 21));
}

#[test]
fn objects_that_are_not_listed_yet() {
    let to = upstream::closed();
    let server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            kubernetes cluster.local {{
                endpoint http://{to}
                startup_timeout 0s
            }}
        }}\n"
    ));
    let learnt = ask(
        server.address,
        "web.shop.svc.cluster.local.",
        RecordType::A,
        PAYLOAD,
    );
    let (code, text) = learnt.error.unwrap();
    assert_eq!((learnt.rcode.as_str(), code), ("SERVFAIL", 14));
    let wanted =
        "objects of the cluster not listed yet: namespaces, services, endpointslices; started";
    assert!(text.starts_with(wanted), "{text}");
}

#[test]
fn texts_name_what_hints_permits() {
    let elsewhere = "web-service.shop.svc.cluster.local.";
    let misspelt = "web-servcie.payroll.svc.cluster.local.";
    let namespace = "web-service.payrol.svc.cluster.local.";
    let texts = |options: &str| {
        let (server, _manifests) = cluster(options, "");
        [elsewhere, misspelt, namespace].map(|name| {
            let learnt = ask(server.address, name, RecordType::A, PAYLOAD);
            learnt.error.unwrap().1
        })
    };
    let not_in_shop = r#"service "web-service" not found in namespace "shop""#;
    let not_in_payroll = r#"service "web-servcie" not found in namespace "payroll""#;
    let no_namespace = r#"namespace "payrol" not found"#;
    assert_eq!(
        texts("hints namespace"),
        [
            not_in_shop.to_owned(),
            format!("{not_in_payroll}; nearest: \"web-service\""),
            no_namespace.to_owned()
        ]
    );
    assert_eq!(texts("hints none"), ["no such name"; 3].map(str::to_owned));
}

#[test]
fn a_text_never_displaces_records() {
    // The longest name, so that the reply nearly fills 512 bytes.
    let label = "a".repeat(63);
    let name = format!(
        "{label}.{label}.{label}.{}.shop.svc.cluster.local.",
        "b".repeat(30)
    );
    let (server, _manifests) = cluster("", "");
    let with = ask(server.address, &name, RecordType::A, Some(512));
    assert_eq!((with.rcode.as_str(), with.truncated), ("NXDOMAIN", false));
}
