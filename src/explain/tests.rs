use std::path::Path;

use super::*;
use crate::{
    config::{Config, Source},
    corefile::Disk,
    plugin::SharedResources,
};

/// Two clusters, each with a Service of the same name, and one of many endpoints.
fn manifests(directory: &Path) {
    let many = (0..250).map(|at| format!("- {{addresses: [10.244.1.{at}]}}\n"));
    let many: String = many.collect();
    for (name, address) in [("one", "10.96.0.1"), ("two", "10.96.0.2")] {
        let directory = directory.join(name);
        std::fs::create_dir(&directory).unwrap();
        let text = format!(
            "apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{clusterIP: {address}, ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: many, namespace: shop}}
spec: {{clusterIP: None, ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: many-1, namespace: shop, labels: {{kubernetes.io/service-name: many}}}}
addressType: IPv4
ports: [{{port: 80}}]
endpoints:
{many}---
apiVersion: v1
kind: Service
metadata: {{name: loop, namespace: shop}}
spec: {{type: ExternalName, externalName: pool.shop.svc.cluster.local}}
---
apiVersion: v1
kind: Service
metadata: {{name: pool, namespace: shop}}
spec: {{type: ExternalName, externalName: loop.shop.svc.cluster.local}}
---
apiVersion: v1
kind: Service
metadata: {{name: outside, namespace: shop}}
spec: {{type: ExternalName, externalName: www.example.com}}
"
        );
        std::fs::write(directory.join("objects.yaml"), text).unwrap();
    }
}

/// The explanation of `name` by a Corefile, in which DIR is the directory of the manifests.
async fn explain(
    text: &str,
    name: &str,
    namespace: Option<&str>,
    server: Option<&str>,
) -> Result<Explanation, RequestError> {
    let directory = tempfile::tempdir().unwrap();
    manifests(directory.path());
    let source = Source {
        name: "Corefile",
        text: &text.replace("DIR", &directory.path().display().to_string()),
        loader: &Disk,
        interfaces: &crate::interfaces::Interfaces::default(),
        default_port: 53,
    };
    let config = Config::read(&source).unwrap();
    let metrics = Metrics::new();
    let pipeline = Pipeline::build(&config, 53, SharedResources::default(), &metrics).unwrap();
    pipeline.started().await;
    let request = ExplainRequest {
        name: name.to_owned(),
        rtype: "A".to_owned(),
        namespace: namespace.map(str::to_owned),
        client: None,
        pod: None,
        server: server.map(str::to_owned),
    };
    Target::offline(&pipeline, &metrics).explain(&request).await
}

const ONE: &str = ".:1053 {\n kubernetes cluster.local {\n  manifests DIR/one\n }\n}\n";

/// A listener without the cluster before the one with it, and another cluster.
const SEVERAL: &str = "example.org:1052 {\n whoami\n}
cluster.local:1053 {\n kubernetes cluster.local {\n  manifests DIR/one\n }\n}
cluster.local:1054 {\n kubernetes cluster.local {\n  manifests DIR/two\n }\n}
.:1054 {\n whoami\n}\n";

#[tokio::test]
async fn the_listener_is_the_one_that_serves_the_name_or_the_named_one() {
    let name = "web.shop.svc.cluster.local.";
    for (server, address) in [
        (None, "10.96.0.1"),
        (Some("dns://:1053"), "10.96.0.1"),
        (Some("dns://:1054"), "10.96.0.2"),
    ] {
        let found = explain(SEVERAL, name, None, server).await.unwrap();
        let query = &found.queries[0];
        let object = query.object.as_deref().unwrap();
        assert!(
            object.contains(&format!("cluster address {address}")),
            "{server:?}: {object}"
        );
        assert!(query.answer[0].ends_with(address), "{server:?}: {query:?}");
        assert!(found.answered);
    }
    let found = explain(SEVERAL, "www.example.com.", None, None)
        .await
        .unwrap();
    let step = &found.queries[0].steps[0].action;
    assert!(step.starts_with("block \".\" of dns://:1054"), "{step}");

    let error = explain(SEVERAL, name, None, Some("dns://:99")).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "there is no listener 'dns://:99', only dns://:1052, dns://:1053, dns://:1054"
    );
}

#[tokio::test]
async fn another_transport_is_asked_if_plain_dns_does_not_serve_the_name() {
    let text = format!("https://example.com {{\n whoami\n}}\n{ONE}")
        .replace(".:1053", "cluster.local:1053");
    let found = explain(&text, "www.example.com.", None, None)
        .await
        .unwrap();
    let step = &found.queries[0].steps[0].action;
    assert!(
        step.starts_with("block \"example.com.\" of https://:443"),
        "{step}"
    );
}

#[tokio::test]
async fn a_name_that_no_block_serves_is_refused_in_a_step() {
    let text = ONE.replace(".:1053", "cluster.local:1053");
    let found = explain(&text, "www.example.com.", None, None)
        .await
        .unwrap();
    let query = &found.queries[0];
    assert_eq!(query.rcode, "REFUSED");
    assert_eq!(query.object, None);
    let step = &query.steps[0].action;
    assert_eq!(step, "no block of dns://:1053 has a zone for this name");
}

#[tokio::test]
async fn an_answer_too_large_for_udp_is_that_over_tcp() {
    let found = explain(ONE, "many", Some("shop"), None).await.unwrap();
    let query = &found.queries[0];
    assert_eq!(query.answer.len(), 250);
    let repeats = |step: &WalkStep| step.plugin == "client" && step.action.contains("over TCP");
    assert!(query.steps.iter().any(repeats), "{:?}", query.steps);
}

#[tokio::test]
async fn aliases_without_an_address_are_no_answer() {
    for (name, reason) in [
        (
            "loop",
            "ExternalName loop: loop.shop -> pool.shop -> loop.shop",
        ),
        (
            "outside",
            "the answer ends with the alias to www.example.com., which this server does not resolve",
        ),
    ] {
        let name = format!("{name}.shop.svc.cluster.local.");
        let found = explain(ONE, &name, None, None).await.unwrap();
        let query = &found.queries[0];
        assert!(!query.answer.is_empty() && !found.answered, "{found:?}");
        let text = &query.reason.as_ref().unwrap().text;
        assert_eq!(text, reason, "{name}");
    }
}
