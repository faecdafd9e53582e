//! The process with an API server, and its metrics.

use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use lodestone::cluster::Kind;
use serde_json::json;

use super::{
    apiserver::ApiServer,
    server::{PATIENCE, Server, free_port, page},
};

fn slice(addresses: &[&str], trigger: Option<&str>) -> serde_json::Value {
    json!({
        "metadata": {
            "name": "a-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "a"},
            "annotations": trigger.map(|it| json!({"endpoints.kubernetes.io/last-change-trigger-time": it})),
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": addresses, "conditions": {"ready": true}}],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_objects_and_api_requests() {
    let api = ApiServer::start().await;
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    let service = |name: &str, address: &str| json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterIP": address}});
    api.apply(Kind::Service, &service("a", "10.0.0.1"));
    api.apply(Kind::Service, &service("b", "10.0.0.2"));
    api.apply(
        Kind::Service,
        &json!({"metadata": {"name": "c", "namespace": "ns"}, "spec": 7}),
    );
    api.apply(Kind::Service, &service("d", "no address"));
    api.apply(Kind::EndpointSlice, &slice(&["10.1.0.1"], None));
    let (port, url) = (free_port(), api.url());
    let corefile = format!(
        ".:0 {{\n    bind 127.0.0.1\n    kubernetes cluster.local {{\n        endpoint {url}\n    }}\n    prometheus 127.0.0.1:{port}\n}}\n"
    );
    let server = tokio::task::spawn_blocking(move || Server::start(&corefile));
    let server = server.await.unwrap();
    api.apply(
        Kind::EndpointSlice,
        &slice(&["10.1.0.1", "10.1.0.2"], Some("2026-01-02T03:04:05Z")),
    );
    let host = url.strip_prefix("http://").unwrap();
    let expected = [
        r#"lodestone_cluster_objects{kind="namespaces"} 1"#.to_owned(),
        r#"lodestone_cluster_objects{kind="services"} 3"#.to_owned(),
        r#"lodestone_cluster_objects{kind="endpointslices"} 1"#.to_owned(),
        r#"lodestone_cluster_age_seconds{kind="services"} 0."#.to_owned(),
        r#"lodestone_cluster_skipped_objects_total{kind="services"} 1"#.to_owned(),
        r#"lodestone_cluster_skipped_fields_total{kind="services"} 1"#.to_owned(),
        r#"coredns_kubernetes_dns_programming_duration_seconds_count{service_kind="cluster_ip"} 1"#
            .to_owned(),
        format!(
            r#"coredns_kubernetes_rest_client_requests_total{{code="200",host="{host}",method="GET"}} 3"#
        ),
        format!(
            r#"coredns_kubernetes_rest_client_request_duration_seconds_count{{host="{host}",verb="GET"}} 3"#
        ),
        format!(
            r#"coredns_kubernetes_rest_client_rate_limiter_duration_seconds_count{{host="{host}",verb="GET"}} 3"#
        ),
    ];
    let begun = Instant::now();
    loop {
        let text = page(port, "/metrics").unwrap().1;
        let missing = expected.iter().filter(|it| !text.contains(*it));
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{missing:#?}\n{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let name = "a.ns.svc.cluster.local.";
    assert_eq!(server.ask(name, RecordType::A), "NoError 10.0.0.1");
}

/// A Corefile with `kubernetes`, these options, and `/ready`.
fn corefile(ready: u16, options: &str) -> String {
    let zones = "cluster.local in-addr.arpa";
    format!(
        ".:0 {{\n    bind 127.0.0.1\n    kubernetes {zones} {{\n        {options}\n        \
         startup_timeout 200ms\n    }}\n    ready 127.0.0.1:{ready}\n}}\n"
    )
}

fn fill(api: &ApiServer, service: &str) {
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    let metadata = json!({"name": service, "namespace": "ns"});
    let object = json!({"metadata": metadata, "spec": {"clusterIP": "10.0.0.1"}});
    api.apply(Kind::Service, &object);
    api.apply(Kind::EndpointSlice, &slice(&["10.1.0.1"], None));
    let pod = json!({
        "metadata": {"name": "p", "namespace": "ns"},
        "status": {"phase": "Running", "podIP": "10.1.0.1"},
    });
    api.apply(Kind::Pod, &pod);
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_without_an_api_server_keeps_known_objects() {
    let api = ApiServer::start().await;
    fill(&api, "a");
    let url = api.url();
    let ready = free_port();
    let options = |rest: &str| corefile(ready, &format!("endpoint {url}\n        {rest}"));
    let first = options("pods insecure");
    let server = tokio::task::spawn_blocking(move || Server::start(&first));
    let server = server.await.unwrap();
    let ask = |name: &str| server.ask(&format!("{name}.cluster.local."), RecordType::A);
    assert_eq!(ask("a.ns.svc"), "NoError 10.0.0.1");
    assert_eq!(ask("10-9-9-9.ns.pod"), "NoError 10.9.9.9");
    assert_eq!(page(ready, "/ready").unwrap().1, "OK");
    let body = page(ready, "/ready?verbose").unwrap().1;
    let shown: Vec<_> = body
        .lines()
        .filter_map(|it| it.split(" ago").next())
        .collect();
    assert_eq!(shown.len(), 4, "{body}");
    for (line, wanted) in shown
        .iter()
        .zip(["OK", "namespaces 1", "services 1", "endpointslices 1"])
    {
        assert_eq!(line.split(", last contact ").next(), Some(wanted), "{body}");
    }
    drop(api);
    let elsewhere = format!("http://127.0.0.1:{}", free_port());
    for changed in [
        options("pods verified\n        ttl 30"),
        options("pods verified\n        labels app"),
        options("namespaces ns\n        endpoint_pod_names"),
        corefile(ready, &format!("endpoint {elsewhere}")),
        options("pods verified"),
    ] {
        server.edit(&changed);
        server.signal("USR1");
        server.line(|line| line == "[INFO] Reloading complete");
        assert_eq!(ask("a.ns.svc"), "NoError 10.0.0.1", "{changed}");
        assert_eq!(ask("nothing.ns.svc"), "NXDomain", "{changed}");
        assert_eq!(
            server.ask("1.0.0.10.in-addr.arpa.", RecordType::PTR),
            "NoError a.ns.svc.cluster.local."
        );
        assert_eq!(
            server.ask("9.9.9.10.in-addr.arpa.", RecordType::PTR),
            "NXDomain"
        );
        let (status, body) = page(ready, "/ready").unwrap();
        assert!(status.contains(" 200 "), "{changed}\n{status} {body}");
        // Pods were not watched before and are unknown.
        if changed.contains("pods verified") {
            assert_eq!(ask("10-9-9-9.ns.pod"), "ServFail", "{changed}");
            assert_eq!(ask("10-1-0-1.ns.pod"), "ServFail", "{changed}");
        }
    }
    // The API server is back with other objects, which replace those served.
    let api = ApiServer::bind(url.strip_prefix("http://").unwrap().parse().unwrap()).await;
    fill(&api, "b");
    let begun = Instant::now();
    while ask("a.ns.svc") != "NXDomain" || ask("10-1-0-1.ns.pod") != "NoError 10.1.0.1" {
        assert!(
            begun.elapsed() < PATIENCE,
            "the new objects are never served"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ask("b.ns.svc"), "NoError 10.0.0.1");
    assert_eq!(ask("10-9-9-9.ns.pod"), "NXDomain");
}

#[test]
fn requests_without_a_response_are_counted_as_errors() {
    let (port, api) = (free_port(), free_port());
    let _server = Server::start(&format!(
        ".:0 {{\n    bind 127.0.0.1\n    kubernetes cluster.local {{\n        endpoint http://127.0.0.1:{api}\n        startup_timeout 0s\n    }}\n    prometheus 127.0.0.1:{port}\n}}\n"
    ));
    let expected = format!(
        r#"coredns_kubernetes_rest_client_requests_total{{code="<error>",host="127.0.0.1:{api}",method="GET"}} "#
    );
    let begun = Instant::now();
    while !page(port, "/metrics").unwrap().1.contains(&expected) {
        assert!(begun.elapsed() < PATIENCE, "no {expected}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
