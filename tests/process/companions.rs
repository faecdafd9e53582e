//! What stands around `kubernetes` in a Corefile, from a file to an answer: `autopath`,
//! `k8s_external`, `metadata`.

use std::net::UdpSocket;

use hickory_proto::{
    op::{Message, OpCode},
    rr::RecordType,
};

use super::server::{PATIENCE, Server, exchange, free_port, page, program};

/// A Service that is reached from outside, and a pod at the address that tests ask from.
const MANIFESTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: bank}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: bank}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.80
  ports: [{name: http, port: 80}]
status:
  loadBalancer: {ingress: [{ip: 198.51.100.7}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop, labels: {app: cart-app, team: blue}}
status:
  phase: Running
  podIP: 127.0.0.1
  podIPs: [{ip: 127.0.0.1}]
";

fn names(reply: &hickory_proto::op::Message) -> String {
    let records = reply.answers.iter().map(|record| {
        let owner = record.name.to_ascii().to_lowercase();
        format!("{owner} {}", record.data)
    });
    records.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_pods_search_ends_at_its_first_question() {
    let manifests = tempfile::tempdir().unwrap();
    std::fs::write(manifests.path().join("all.yaml"), MANIFESTS).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let hosts = manifests.path().join("hosts");
    std::fs::write(&hosts, "").unwrap();
    // The world outside: one host, and a cluster of nothing that denies all other names, those of
    // this machine's search list among them.
    let world = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            hosts {} www.example {{
                192.0.2.1 www.example
            }}
            kubernetes . {{
                manifests {}
            }}
        }}",
        hosts.display(),
        empty.path().display()
    ));
    let metrics = free_port();
    let server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            prometheus 127.0.0.1:{metrics}
            forward . {}
        }}
        cluster.local:0 outside.example:0 {{
            bind 127.0.0.1
            metadata
            log . \"asked {{name}} {{/kubernetes/client-pod-name}} {{/kubernetes/namespace}} {{/kubernetes/zone}} {{/kubernetes/client-label/app}} {{/kubernetes/client-label/none}}\"
            autopath @kubernetes
            k8s_external outside.example
            kubernetes cluster.local {{
                pods verified
                manifests {}
            }}
        }}",
        world.address,
        manifests.path().display()
    ));
    let ask = |name: &str, rtype| exchange(server.address, name, rtype).expect("an answer");
    for (name, rtype, wanted) in [
        (
            "web.bank.shop.svc.cluster.local.",
            RecordType::A,
            "web.bank.shop.svc.cluster.local. web.bank.svc.cluster.local., \
             web.bank.svc.cluster.local. 10.96.0.80",
        ),
        ("web.bank.shop.svc.cluster.local.", RecordType::AAAA, ""),
        (
            "www.example.shop.svc.cluster.local.",
            RecordType::A,
            "www.example.shop.svc.cluster.local. www.example., www.example. 192.0.2.1",
        ),
        (
            "web.bank.outside.example.",
            RecordType::A,
            "web.bank.outside.example. 198.51.100.7",
        ),
    ] {
        let reply = ask(name, rtype);
        assert_eq!(
            format!("{:?}", reply.metadata.response_code),
            "NoError",
            "{name}"
        );
        assert_eq!(names(&reply), wanted);
    }
    let reply = ask("nothing.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(format!("{:?}", reply.metadata.response_code), "NXDomain");
    let line = server.line(|line| line.contains("asked web.bank.shop"));
    assert_eq!(
        line,
        "[INFO] asked web.bank.shop.svc.cluster.local. cart shop - cart-app -"
    );
    let (_, text) = page(metrics, "/metrics").unwrap();
    let series = text
        .lines()
        .find(|line| line.starts_with("coredns_autopath_success_total"));
    assert_eq!(
        series,
        Some("coredns_autopath_success_total{server=\"dns://127.0.0.1:0\"} 3")
    );
}

#[test]
fn check_tells_what_would_do_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let path = directory.path().join("Corefile");
        std::fs::write(&path, text).unwrap();
        let output = program().arg("check").arg(&path).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (passed, said) = check(". {\n autopath @kubernetes\n kubernetes cluster.local\n}\n");
    assert!(passed, "{said}");
    assert!(said.contains("'kubernetes' does not watch pods"), "{said}");
    let log = "log . \"{/kubernetes/client-label/app}\"";
    let text = format!(". {{\n metadata\n {log}\n kubernetes cluster.local\n}}\n");
    let (passed, said) = check(&text);
    assert!(passed, "{said}");
    let told = "'kubernetes/client-label/app' is never known";
    assert!(said.contains(told) && said.contains("Corefile:3"), "{said}");
    let (passed, said) = check(". {\n k8s_external example.com\n}\n");
    assert!(!passed);
    assert!(
        said.contains("no 'kubernetes' in this server block"),
        "{said}"
    );
    assert!(said.contains("Corefile:2"), "{said}");
}

#[test]
fn a_secondary_hears_of_every_zone_of_the_block() {
    let manifests = tempfile::tempdir().unwrap();
    std::fs::write(manifests.path().join("all.yaml"), MANIFESTS).unwrap();
    let secondary = UdpSocket::bind("127.0.0.1:0").unwrap();
    secondary.set_read_timeout(Some(PATIENCE)).unwrap();
    let at = secondary.local_addr().unwrap();
    let _server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            transfer {{
                to * {at}
                source 127.0.0.1
            }}
            k8s_external outside.example
            kubernetes cluster.local in-addr.arpa {{
                manifests {}
            }}
        }}",
        manifests.path().display()
    ));
    let mut told = Vec::new();
    for _ in 0..2 {
        let mut message = [0; 512];
        let (length, from) = secondary.recv_from(&mut message).expect("a NOTIFY");
        let parsed = Message::from_vec(&message[..length]).unwrap();
        assert_eq!(parsed.metadata.op_code, OpCode::Notify);
        told.push(parsed.queries[0].to_string());
        message[2] |= 0x80;
        secondary.send_to(&message[..length], from).unwrap();
    }
    told.sort();
    assert_eq!(told, ["cluster.local. IN SOA", "outside.example. IN SOA"]);
}
