//! kubeadm's Corefile (`Corefile.example`) with an API server and an upstream.

use std::time::Instant;

use hickory_proto::rr::RecordType;
use lodestone::cluster::Kind;
use serde_json::json;

use super::{
    apiserver::ApiServer,
    server::{PATIENCE, Server, free_port, page},
};

const EXAMPLE: &str = include_str!("../../Corefile.example");

/// The example with other ports, upstream and API server.
pub fn corefile(ports: [u16; 3], api: &str, upstream: &str) -> String {
    let [health, ready, metrics] = ports;
    [
        (".:53 {", ".:0 {\n    bind 127.0.0.1".to_owned()),
        ("    health {", format!("    health 127.0.0.1:{health} {{")),
        ("    ready\n", format!("    ready 127.0.0.1:{ready}\n")),
        (
            "        pods insecure",
            format!("        endpoint {api}\n        pods insecure"),
        ),
        (
            "prometheus :9153",
            format!("prometheus 127.0.0.1:{metrics}"),
        ),
        ("/etc/resolv.conf", upstream.to_owned()),
    ]
    .into_iter()
    .fold(EXAMPLE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the example has no '{from}'");
        text.replace(from, &to)
    })
}

#[test]
fn kubeadm_corefile_serves_the_cluster_and_forwards_other_names() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let api = runtime.block_on(ApiServer::start());
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "payroll"}}));
    api.apply(
        Kind::Service,
        &json!({
            "metadata": {"name": "web-service", "namespace": "payroll"},
            "spec": {"clusterIPs": ["10.96.42.10"], "ports": [{"name": "http", "port": 80}]},
        }),
    );
    let upstream = Server::start(
        ".:0 {\n    bind 127.0.0.1\n    hosts {\n        198.51.100.7 www.example.net\n    }\n}\n",
    );
    let ports = [free_port(), free_port(), free_port()];
    let server = Server::start(&corefile(ports, &api.url(), &upstream.address.to_string()));

    let (status, body) = page(ports[1], "/ready").unwrap();
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "OK"));
    for (name, rtype, answer) in [
        (
            "web-service.payroll.svc.cluster.local.",
            RecordType::A,
            "NoError 10.96.42.10",
        ),
        (
            "web-service.payroll.svc.cluster.",
            RecordType::A,
            "ServFail",
        ),
        (
            "no-service.payroll.svc.cluster.local.",
            RecordType::A,
            "NXDomain",
        ),
        (
            "10-1-2-3.payroll.pod.cluster.local.",
            RecordType::A,
            "NoError 10.1.2.3",
        ),
        (
            "10.42.96.10.in-addr.arpa.",
            RecordType::PTR,
            "NoError web-service.payroll.svc.cluster.local.",
        ),
        ("www.example.net.", RecordType::A, "NoError 198.51.100.7"),
    ] {
        assert_eq!(server.ask(name, rtype), answer, "{name}");
    }

    let slice = json!({
        "metadata": {"name": "web-1", "namespace": "payroll",
            "labels": {"kubernetes.io/service-name": "web-service"}},
        "endpoints": [{"addresses": ["10.244.1.10"], "hostname": "web-1"}],
        "ports": [{"name": "http", "port": 8080}],
    });
    api.apply(Kind::EndpointSlice, &slice);
    let name = "web-1.web-service.payroll.svc.cluster.local.";
    // The update takes a moment to arrive; other tests measure it.
    let patience = Instant::now() + PATIENCE;
    while server.ask(name, RecordType::A) != "NoError 10.244.1.10" {
        assert!(Instant::now() < patience, "the slice is never seen");
    }
    let metrics = page(ports[2], "/metrics").unwrap().1;
    for line in [
        "coredns_plugin_enabled{name=\"kubernetes\",server=\"dns://127.0.0.1:0\",view=\"\",zone=\".\"} 1",
        "coredns_dns_responses_total{plugin=\"forward\",rcode=\"NOERROR\",server=\"dns://127.0.0.1:0\",view=\"\",zone=\".\"} 1",
    ] {
        assert!(
            metrics.lines().any(|it| it == line),
            "no {line} in\n{metrics}"
        );
    }
}
