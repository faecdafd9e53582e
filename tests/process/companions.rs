//! `autopath`, `k8s_external` and `metadata` beside `kubernetes`, from the Corefile to the answer.

use std::net::UdpSocket;

use hickory_proto::{
    op::{Message, OpCode},
    rr::RecordType,
};

use super::server::{PATIENCE, Server, exchange, free_port, page, program};

/// A Service with an external address, and a pod at the tests' client address.
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
fn autopath_answers_the_first_query_of_a_search() {
    let manifests = tempfile::tempdir().unwrap();
    std::fs::write(manifests.path().join("all.yaml"), MANIFESTS).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let hosts = manifests.path().join("hosts");
    std::fs::write(&hosts, "").unwrap();
    // Names outside: one host, and an empty cluster that denies all other names, including those of
    // this machine's search list.
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
fn check_warns_of_options_without_effect() {
    let directory = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let path = directory.path().join("Corefile");
        std::fs::write(&path, text).unwrap();
        let output = program().arg("check").arg(&path).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (passed, output) = check(". {\n autopath @kubernetes\n kubernetes cluster.local\n}\n");
    assert!(passed, "{output}");
    assert!(
        output.contains("'kubernetes' does not watch pods"),
        "{output}"
    );
    let log = "log . \"{/kubernetes/client-label/app}\"";
    let text = format!(". {{\n metadata\n {log}\n kubernetes cluster.local\n}}\n");
    let (passed, output) = check(&text);
    assert!(passed, "{output}");
    let expected = "'kubernetes/client-label/app' is never known";
    assert!(
        output.contains(expected) && output.contains("Corefile:3"),
        "{output}"
    );
    let (passed, output) = check(". {\n k8s_external example.com\n}\n");
    assert!(!passed);
    assert!(
        output.contains("no 'kubernetes' in this server block"),
        "{output}"
    );
    assert!(output.contains("Corefile:2"), "{output}");
}

#[test]
fn secondary_is_notified_of_every_zone_of_the_block() {
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
    let mut notified = Vec::new();
    for _ in 0..2 {
        let mut message = [0; 512];
        let (length, from) = secondary.recv_from(&mut message).expect("a NOTIFY");
        let parsed = Message::from_vec(&message[..length]).unwrap();
        assert_eq!(parsed.metadata.op_code, OpCode::Notify);
        notified.push(parsed.queries[0].to_string());
        message[2] |= 0x80;
        secondary.send_to(&message[..length], from).unwrap();
    }
    notified.sort();
    assert_eq!(
        notified,
        ["cluster.local. IN SOA", "outside.example. IN SOA"]
    );
}
