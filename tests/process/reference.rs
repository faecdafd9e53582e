//! `kubernetes` combined with other parts of a Corefile.

use std::net::UdpSocket;

use hickory_proto::{
    op::{Edns, Message},
    rr::{RecordType, rdata::opt::EdnsOption},
};
use lodestone::cluster::Kind;
use serde_json::json;

use super::{
    apiserver::ApiServer,
    server::{PATIENCE, Server, exchange, free_port, page, question},
};

const MANIFESTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: Namespace
metadata: {name: bank, labels: {team: b}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.80, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: vault, namespace: bank}
spec: {clusterIP: 10.96.0.90, ports: [{name: http, port: 80}]}
";

/// A server with the manifests; `{}` in the Corefile is their directory.
fn serve(corefile: &str) -> (Server, tempfile::TempDir) {
    let manifests = tempfile::tempdir().unwrap();
    std::fs::write(manifests.path().join("all.yaml"), MANIFESTS).unwrap();
    let directory = manifests.path().display().to_string();
    (
        Server::start(&corefile.replace("{}", &directory)),
        manifests,
    )
}

/// Sends each query and compares a summary of the reply.
fn check(server: &Server, rows: &[(&str, RecordType, &str)]) {
    for (name, rtype, answer) in rows {
        assert_eq!(server.ask(name, *rtype), *answer, "{name} {rtype}");
    }
}

#[test]
fn ns_has_addresses_with_bind() {
    let (server, _manifests) = serve(
        ".:0 {\n    bind 127.0.0.1\n    kubernetes cluster.local {\n        manifests {}\n    }\n}\n",
    );
    check(
        &server,
        &[
            (
                "cluster.local.",
                RecordType::NS,
                "NoError ns.dns.cluster.local.",
            ),
            ("ns.dns.cluster.local.", RecordType::A, "NoError 127.0.0.1"),
            ("ns.dns.cluster.local.", RecordType::AAAA, "NoError"),
        ],
    );
}

#[test]
fn network_in_zones_is_its_reverse_zone() {
    let (server, _manifests) = serve(
        ".:0 {\n    bind 127.0.0.1\n    kubernetes cluster.local 10.96.0.0/24 {\n        manifests {}\n    }\n}\n",
    );
    check(
        &server,
        &[
            (
                "80.0.96.10.in-addr.arpa.",
                RecordType::PTR,
                "NoError web.shop.svc.cluster.local.",
            ),
            ("81.0.96.10.in-addr.arpa.", RecordType::PTR, "NXDomain"),
            // Outside of the zone, without another plugin.
            ("80.1.96.10.in-addr.arpa.", RecordType::PTR, "ServFail"),
        ],
    );
}

#[test]
fn fallthrough_without_a_next_plugin_is_servfail() {
    let (server, _manifests) = serve(
        ".:0 {\n    bind 127.0.0.1\n    kubernetes cluster.local {\n        manifests {}\n        fallthrough\n    }\n}\n",
    );
    let reply = |name| exchange(server.address, name, RecordType::A).unwrap();
    let missing = reply("none.shop.svc.cluster.local.");
    assert_eq!(format!("{:?}", missing.metadata.response_code), "ServFail");
    assert!(!missing.metadata.authoritative && missing.authorities.is_empty());
    // An existing name does not fall through, whatever the type.
    let there = exchange(
        server.address,
        "web.shop.svc.cluster.local.",
        RecordType::AAAA,
    );
    let there = there.unwrap();
    assert_eq!(format!("{:?}", there.metadata.response_code), "NoError");
    assert!(there.metadata.authoritative && there.answers.is_empty());
}

#[test]
fn excluded_namespaces_have_no_ptr_records() {
    let (server, _manifests) = serve(
        ".:0 {\n    bind 127.0.0.1\n    kubernetes cluster.local in-addr.arpa {\n        manifests {}\n        namespace_labels team=a\n    }\n}\n",
    );
    check(
        &server,
        &[
            (
                "80.0.96.10.in-addr.arpa.",
                RecordType::PTR,
                "NoError web.shop.svc.cluster.local.",
            ),
            ("90.0.96.10.in-addr.arpa.", RecordType::PTR, "NXDomain"),
            ("vault.bank.svc.cluster.local.", RecordType::A, "NXDomain"),
        ],
    );
}

#[test]
fn known_names_are_served_without_an_api_server() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let api = runtime.block_on(ApiServer::start());
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    api.apply(
        Kind::Service,
        &json!({"metadata": {"name": "a", "namespace": "ns"}, "spec": {"clusterIP": "10.0.0.1"}}),
    );
    let (ready, url) = (free_port(), api.url());
    let server = Server::start(&format!(
        ".:0 {{\n    bind 127.0.0.1\n    errors\n    ready 127.0.0.1:{ready}\n    kubernetes cluster.local {{\n        endpoint {url}\n    }}\n}}\n"
    ));
    let rows = [
        ("a.ns.svc.cluster.local.", RecordType::A, "NoError 10.0.0.1"),
        ("b.ns.svc.cluster.local.", RecordType::A, "NXDomain"),
    ];
    check(&server, &rows);
    drop(api);
    drop(runtime);
    // The watches have ended and cannot be restarted.
    let address = url.strip_prefix("http://").unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
    server.line(|line| line.contains("plugin/kubernetes"));
    check(&server, &rows);
    assert_eq!(page(ready, "/ready").unwrap().0, "HTTP/1.1 200 OK");
}

#[test]
fn ra_is_set_if_the_block_forwards() {
    let (server, _manifests) = serve(
        "cluster.local:0 {\n    bind 127.0.0.1\n    kubernetes {\n        manifests {}\n    }\n    forward . 127.0.0.1:9\n}\nother.local:0 {\n    bind 127.0.0.1\n    kubernetes {\n        manifests {}\n    }\n}\n",
    );
    for (name, available) in [
        ("web.shop.svc.cluster.local.", true),
        ("none.shop.svc.cluster.local.", true),
        ("web.shop.svc.other.local.", false),
        ("none.shop.svc.other.local.", false),
    ] {
        let reply = exchange(server.address, name, RecordType::A).unwrap();
        assert_eq!(reply.metadata.recursion_available, available, "{name}");
        assert!(reply.metadata.authoritative);
    }
}

#[test]
fn ds_query_goes_to_the_block_of_the_parent_zone() {
    let (server, _manifests) = serve(
        "local:0 {\n    bind 127.0.0.1\n    kubernetes {\n        manifests {}\n    }\n}\ncluster.local:0 {\n    bind 127.0.0.1\n    kubernetes {\n        manifests {}\n    }\n}\n",
    );
    for (rtype, zone) in [
        (RecordType::DS, "local."),
        (RecordType::TXT, "cluster.local."),
    ] {
        let reply = exchange(server.address, "cluster.local.", rtype).unwrap();
        let owner = reply.authorities[0].name.to_string();
        assert_eq!(owner, zone, "{rtype}");
    }
}

/// A query with an OPT record.
fn ask_edns(server: &Server, name: &str, edns: Edns) -> Message {
    let mut message = Message::from_vec(&question(4711, name, RecordType::A)).unwrap();
    message.edns = Some(edns);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server.address).unwrap();
    socket.send(&message.to_vec().unwrap()).unwrap();
    let mut bytes = vec![0; 65_535];
    let length = socket.recv(&mut bytes).unwrap();
    Message::from_vec(&bytes[..length]).unwrap()
}

#[test]
fn opt_record_has_the_server_size_and_no_echoed_options() {
    let (server, _manifests) = serve(
        ".:0 {\n    bind 127.0.0.1\n    kubernetes cluster.local {\n        manifests {}\n    }\n}\n",
    );
    for (size, dnssec_ok) in [(512, false), (4096, true), (65_535, false)] {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        edns.set_dnssec_ok(dnssec_ok);
        // NSID, EXPIRE, COOKIE and PADDING.
        for code in [3_u16, 9, 10, 12] {
            edns.options_mut()
                .insert(EdnsOption::Unknown(code, vec![1; 8]));
        }
        let reply = ask_edns(&server, "web.shop.svc.cluster.local.", edns);
        assert_eq!(reply.answers.len(), 1);
        let edns = reply.edns.expect("an OPT record");
        assert_eq!(edns.max_payload(), 1232);
        assert_eq!(edns.version(), 0);
        assert_eq!(edns.flags().dnssec_ok, dnssec_ok);
        assert!(edns.options().as_ref().is_empty());
    }
}
