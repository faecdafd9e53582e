//! The same without EDNS: `NAME.why.ZONE`, and the status of the replica.

use hickory_proto::rr::{DNSClass, RecordType};

use super::{
    client::{ask, ask_in},
    server::Server,
    upstream, world,
};

fn server(options: &str) -> (Server, tempfile::TempDir) {
    let manifests = world::manifests();
    let (directory, upstream) = (manifests.path().display(), upstream::denying());
    let server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            kubernetes cluster.local {{
                manifests {directory}
                {options}
            }}
            forward . {upstream}
        }}\n"
    ));
    (server, manifests)
}

#[test]
fn a_name_below_why_is_explained_in_a_txt_record() {
    let (server, _manifests) = server("");
    for (name, wanted) in [
        (
            "web-service.payrol.svc.cluster.local",
            r#"NXDOMAIN: namespace "payrol" not found; nearest: "payroll""#,
        ),
        (
            "web-service.payroll.svc.cluster.local",
            "NOERROR: 10.96.42.10",
        ),
        (
            "web-service.payroll",
            "NXDOMAIN: name without the search list; complete: web-service.payroll.svc.cluster.local.",
        ),
        ("n1.example.com", "NOERROR: 192.0.2.7"),
        (
            "db-1.db.shop.svc.cluster.local",
            r#"NXDOMAIN: endpoint "db-1" of service "db" is not ready"#,
        ),
    ] {
        let name = format!("{name}.why.cluster.local.");
        let learnt = ask(server.address, &name, RecordType::TXT, None);
        assert_eq!(learnt.answers, [wanted], "{name}");
        let other = ask(server.address, &name, RecordType::A, None);
        assert_eq!(
            (other.rcode.as_str(), other.answers.len()),
            ("NOERROR", 0),
            "{name}"
        );
    }
}

#[test]
fn explanations_end_with_hints_none() {
    let (server, _manifests) = server("hints none");
    let name = "web.payroll.svc.cluster.local.why.cluster.local.";
    let learnt = ask(server.address, name, RecordType::TXT, None);
    assert_eq!(learnt.rcode, "NXDOMAIN");
    let class = DNSClass::CH;
    let learnt = ask_in(
        server.address,
        "status.lodestone.",
        RecordType::TXT,
        class,
        None,
    );
    assert!(learnt.answers.is_empty(), "{learnt:?}");
}

#[test]
fn the_status_of_the_replica_is_in_class_ch() {
    let (server, _manifests) = server("");
    let class = DNSClass::CH;
    let learnt = ask_in(
        server.address,
        "status.lodestone.",
        RecordType::TXT,
        class,
        None,
    );
    let has = |beginning: &str| {
        learnt
            .answers
            .iter()
            .any(|text| text.starts_with(beginning))
    };
    for beginning in [
        concat!("version ", env!("CARGO_PKG_VERSION")),
        "configuration ",
        "cluster synced",
        "namespaces 4, last contact ",
        "services 8, last contact ",
    ] {
        assert!(has(beginning), "{beginning}: {learnt:?}");
    }
}
