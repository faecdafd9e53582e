//! The dashboards and alerts that people have for CoreDNS find everything that they query; those in `deploy/monitoring`
//! query what exists, and fire when they should. Checks of syntax and behaviour need `promtool` in the PATH: without it,
//! these are skipped with a message.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod apiserver;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "process/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use apiserver::ApiServer;
use hickory_proto::rr::RecordType;
use lodestone::cluster::Kind;
use serde_json::{Value, json};
use server::{PATIENCE, Server, free_port, page, question};

/// A metric and the labels by which it is selected or grouped; more than one name where the query takes the first that
/// exists.
type Queried = (&'static [&'static str], &'static [&'static str]);

/// What each source queries: read from the sources in November 2026. Without labels that Prometheus adds (`job`,
/// `instance`, `pod`, `cluster`) and the metrics of others (`up`, `kube_node_info`).
const SOURCES: &[(&str, &[Queried])] = &[
    (
        "Grafana.com 14981, CoreDNS",
        &[
            (
                &["coredns_build_info"],
                &["version", "revision", "goversion"],
            ),
            (&["coredns_cache_entries"], &["type"]),
            (&["coredns_cache_hits_total"], &["type"]),
            (&["coredns_cache_misses_total"], &[]),
            (&["coredns_dns_do_requests_total"], &["zone"]),
            (
                &["coredns_dns_request_duration_seconds_bucket"],
                &["le", "zone"],
            ),
            (&["coredns_dns_request_size_bytes_bucket"], &["le", "zone"]),
            (&["coredns_dns_requests_total"], &["server", "type", "zone"]),
            (&["coredns_dns_response_size_bytes_bucket"], &["le", "zone"]),
            (&["coredns_dns_responses_total"], &["rcode"]),
            (&["coredns_dnssec_cache_entries"], &[]),
            (&["coredns_dnssec_cache_hits_total"], &[]),
            (&["coredns_dnssec_cache_misses_total"], &[]),
            (&["coredns_forward_conn_cache_hits_total"], &[]),
            (&["coredns_forward_conn_cache_misses_total"], &[]),
            (&["coredns_forward_healthcheck_broken_total"], &[]),
            (&["coredns_forward_max_concurrent_rejects_total"], &[]),
            (
                &["coredns_forward_request_duration_seconds_bucket"],
                &["le"],
            ),
            (&["coredns_forward_requests_total"], &["to"]),
            (&["coredns_forward_responses_total"], &["rcode"]),
            (&["coredns_panics_total"], &[]),
            (&["coredns_reload_failed_total"], &[]),
            (&["go_memstats_alloc_bytes"], &[]),
            (&["process_cpu_seconds_total"], &[]),
        ],
    ),
    (
        "Grafana.com 15762, Kubernetes / System / CoreDNS (dotdc/grafana-dashboards-kubernetes)",
        &[
            (&["coredns_build_info"], &[]),
            (&["coredns_cache_entries"], &["type"]),
            (&["coredns_cache_hits_total"], &["type"]),
            (&["coredns_cache_misses_total"], &[]),
            (&["coredns_dns_request_duration_seconds_bucket"], &["le"]),
            (&["coredns_dns_request_size_bytes_bucket"], &["le"]),
            (&["coredns_dns_request_size_bytes_count"], &["proto"]),
            (&["coredns_dns_request_size_bytes_sum"], &["proto"]),
            (&["coredns_dns_requests_total"], &["proto", "type"]),
            (&["coredns_dns_response_size_bytes_bucket"], &["le"]),
            (&["coredns_dns_responses_total"], &["rcode"]),
            (
                &["coredns_proxy_request_duration_seconds_count"],
                &["proxy_name", "rcode"],
            ),
            (&["process_cpu_seconds_total"], &[]),
            (&["process_resident_memory_bytes"], &[]),
        ],
    ),
    (
        "k8s-coredns of kube-prometheus-stack (Grafana.com 12539)",
        &[
            (&["coredns_cache_size", "coredns_cache_entries"], &["type"]),
            (&["coredns_cache_hits_total"], &["type"]),
            (&["coredns_cache_misses_total"], &[]),
            (
                &[
                    "coredns_dns_request_do_count_total",
                    "coredns_dns_do_requests_total",
                ],
                &[],
            ),
            (&["coredns_dns_request_duration_seconds_bucket"], &["le"]),
            (&["coredns_dns_request_size_bytes_bucket"], &["le", "proto"]),
            (
                &[
                    "coredns_dns_request_count_total",
                    "coredns_dns_requests_total",
                ],
                &["proto", "zone"],
            ),
            (
                &[
                    "coredns_dns_request_type_count_total",
                    "coredns_dns_requests_total",
                ],
                &["type"],
            ),
            (
                &[
                    "coredns_dns_response_rcode_count_total",
                    "coredns_dns_responses_total",
                ],
                &["rcode"],
            ),
            (
                &["coredns_dns_response_size_bytes_bucket"],
                &["le", "proto"],
            ),
        ],
    ),
    (
        "dashboard of coredns-mixin (povilasv/coredns-mixin)",
        &[
            (&["coredns_build_info"], &[]),
            (&["coredns_cache_entries"], &["type"]),
            (&["coredns_cache_hits_total"], &["type"]),
            (&["coredns_cache_misses_total"], &[]),
            (
                &["coredns_dns_request_duration_seconds_bucket"],
                &["le", "server", "zone"],
            ),
            (
                &["coredns_dns_request_size_bytes_bucket"],
                &["le", "proto", "server", "zone"],
            ),
            (&["coredns_dns_requests_total"], &["type", "zone"]),
            (
                &["coredns_dns_response_size_bytes_bucket"],
                &["le", "proto", "server", "zone"],
            ),
            (&["coredns_dns_responses_total"], &["rcode"]),
            (
                &["coredns_forward_request_duration_seconds_bucket"],
                &["le", "to"],
            ),
            (&["coredns_forward_requests_total"], &["to"]),
            (&["coredns_forward_responses_total"], &["rcode"]),
            (
                &["coredns_kubernetes_dns_programming_duration_seconds_bucket"],
                &["le", "service_kind"],
            ),
            (&["coredns_panics_total"], &[]),
            (&["coredns_plugin_enabled"], &["name"]),
            (&["go_goroutines"], &[]),
            (&["process_cpu_seconds_total"], &[]),
            (&["process_resident_memory_bytes"], &[]),
        ],
    ),
    (
        "alerts of coredns-mixin",
        &[
            (
                &["coredns_dns_request_duration_seconds_bucket"],
                &["le", "server", "zone"],
            ),
            (
                &["coredns_dns_responses_total"],
                &["plugin", "rcode", "server", "view", "zone"],
            ),
            (&["coredns_forward_healthcheck_broken_total"], &[]),
            (&["coredns_forward_healthcheck_failures_total"], &["to"]),
            (
                &["coredns_forward_request_duration_seconds_bucket"],
                &["le", "rcode", "to"],
            ),
            (&["coredns_forward_responses_total"], &["rcode", "to"]),
        ],
    ),
];

/// Queried metrics that do not exist here, and why.
const ABSENT: &[(&str, &str)] = &[
    ("coredns_dnssec_cache_entries", "no plugin dnssec"),
    ("coredns_dnssec_cache_hits_total", "no plugin dnssec"),
    ("coredns_dnssec_cache_misses_total", "no plugin dnssec"),
    ("go_goroutines", "not a Go program: process_threads"),
    (
        "go_memstats_alloc_bytes",
        "not a Go program: process_resident_memory_bytes",
    ),
];

const MANIFESTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.9, ports: [{name: http, port: 80}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_and_alerts_for_coredns_find_their_metrics() {
    let text = tokio::task::spawn_blocking(running).await.unwrap().1 + &watching().await;
    let found = series(&text);
    let mut checked = 0;
    for (source, queries) in SOURCES {
        for (names, labels) in *queries {
            let known = names.iter().find_map(|name| found.get(*name));
            let reason = ABSENT.iter().find(|(absent, _)| names.contains(absent));
            let Some(known) = known else {
                assert!(reason.is_some(), "{source}: {names:?} is not in\n{text}");
                continue;
            };
            assert!(reason.is_none(), "{names:?} exists");
            for label in *labels {
                assert!(known.contains(*label), "{source}: {names:?} has no {label}");
            }
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn metrics_have_no_lint() {
    let (_server, text) = running();
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]);
    let Some(output) = run(command, &text) else {
        return;
    };
    assert!(output.status.success(), "{}", output_text(&output));
}

#[test]
fn rules_are_valid_and_alerts_fire_when_they_should() {
    let mut command = Command::new("promtool");
    command
        .args(["check", "rules"])
        .arg("deploy/monitoring/rules.yaml");
    let Some(output) = run(command, "") else {
        return;
    };
    assert!(output.status.success(), "{}", output_text(&output));
    let mut command = Command::new("promtool");
    command
        .args(["test", "rules"])
        .arg("tests/monitoring/alerts.yaml");
    let output = run(command, "").unwrap();
    assert!(output.status.success(), "{}", output_text(&output));
}

#[test]
fn every_alert_has_a_unit_test_and_a_section_in_the_documentation() {
    let tests = read("tests/monitoring/alerts.yaml");
    let documentation = read("docs/alerts.md");
    let sections: BTreeSet<&str> = documentation
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let mut alerts = BTreeSet::new();
    for rule in rules() {
        let Some(name) = rule["alert"].as_str() else {
            continue;
        };
        assert!(tests.contains(&format!("- name: {name}\n")), "{name}");
        let runbook = format!("docs/alerts.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"], runbook);
        alerts.insert(name.to_owned());
    }
    assert!(alerts.len() > 20, "{alerts:?}");
    let alerts: BTreeSet<&str> = alerts.iter().map(String::as_str).collect();
    assert_eq!(alerts, sections);
}

#[test]
fn object_for_the_operator_has_the_rules_of_the_file() {
    let rules = read("deploy/monitoring/rules.yaml");
    let mut object = String::from(
        "# The rules of rules.yaml as an object of the Prometheus operator. Written from that file: change it there, and run\n\
         # `UPDATE=1 cargo test --test monitoring`. Set the labels that the ruleSelector of your Prometheus asks for.\n\
         apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: lodestone\n  \
         namespace: kube-system\n  labels:\n    app.kubernetes.io/name: lodestone\nspec:\n",
    );
    let (_, groups) = rules.split_once("\ngroups:\n").unwrap();
    for line in format!("groups:\n{groups}").lines() {
        let indent = if line.is_empty() { "" } else { "  " };
        writeln!(object, "{indent}{line}").unwrap();
    }
    let path = "deploy/monitoring/prometheusrule.yaml";
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, &object).unwrap();
    }
    assert!(
        read(path) == object,
        "{path} is not what rules.yaml says: see its head"
    );
    let parsed: Value = serde_saphyr::from_str(&object).unwrap();
    let of_file: Value = serde_saphyr::from_str(&rules).unwrap();
    assert_eq!(parsed["spec"], of_file);
}

#[test]
fn rules_and_the_dashboard_query_metrics_that_exist() {
    // The table of all families, which a unit test holds against the code.
    let table = read("src/metrics/tests.rs");
    let mut known: BTreeSet<String> = table.split('"').map(str::to_owned).collect();
    known.insert("up".to_owned());
    let mut expressions = dashboard_expressions();
    for rule in rules() {
        if let Some(recorded) = rule["record"].as_str() {
            known.insert(recorded.to_owned());
        }
        expressions.push(rule["expr"].as_str().unwrap().to_owned());
    }
    let mut count = 0;
    for expression in &expressions {
        for name in metric_names(expression) {
            let family = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            assert!(
                known.contains(name) || known.contains(family),
                "{name} in {expression}"
            );
            count += 1;
        }
    }
    assert!(count > 90, "{count}");
}

#[test]
fn dashboard_is_complete_and_its_queries_are_valid() {
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels.iter().map(|it| it["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let shown: String = panels
        .iter()
        .filter_map(|panel| panel["description"].as_str())
        .collect();
    for rule in rules() {
        // There is nothing to plot when nothing is scraped.
        if let Some(name) = rule["alert"]
            .as_str()
            .filter(|name| *name != "LodestoneDown")
        {
            assert!(shown.contains(name), "{name} belongs to no panel");
        }
    }
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, expression) in dashboard_expressions().iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "5m");
        let expression = serde_json::to_string(&expression).unwrap();
        writeln!(rules, "  - record: panel_{number}\n    expr: {expression}").unwrap();
    }
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(file.path(), rules).unwrap();
    let mut command = Command::new("promtool");
    command.args(["check", "rules"]).arg(file.path());
    if let Some(output) = run(command, "") {
        assert!(output.status.success(), "{}", output_text(&output));
    }
}

/// A server that has answered queries of every kind, and its metrics.
fn running() -> (Server, String) {
    let directory = tempfile::tempdir().unwrap();
    let manifests = directory.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    fs::write(manifests.join("web.yaml"), MANIFESTS).unwrap();
    let [metrics, dead] = [free_port(), free_port()];
    let upstream = Server::start(
        ".:0 {
            bind 127.0.0.1
            hosts {
                192.0.2.1 www.example.org mail.example.org
            }
        }
        ",
    );
    let corefile = format!(
        ".:0 {{
            bind 127.0.0.1
            errors
            prometheus 127.0.0.1:{metrics}
            kubernetes cluster.local in-addr.arpa ip6.arpa {{
                manifests {}
                pods insecure
                fallthrough in-addr.arpa ip6.arpa
            }}
            forward dead.example. 127.0.0.1:{dead} {{
                health_check 100ms
            }}
            forward . {} {{
                force_tcp
            }}
            cache 30
            reload
            loadbalance
        }}
        ",
        manifests.display(),
        upstream.address
    );
    let server = Server::start(&corefile);
    wait_for_web(&server);
    // Over a connection too, and with the DO bit.
    let mut with_do = question(1, "web.shop.svc.cluster.local.", RecordType::A);
    with_do[11] = 1;
    with_do.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0]);
    over_tcp(server.address, &with_do);
    for (name, expected) in [
        ("web.shop.svc.cluster.local.", "NoError 10.96.0.9"),
        ("none.shop.svc.cluster.local.", "NXDomain"),
        ("www.example.org.", "NoError 192.0.2.1"),
        ("www.example.org.", "NoError 192.0.2.1"),
        // Over the connection that is open.
        ("mail.example.org.", "NoError 192.0.2.1"),
        ("x.dead.example.", "ServFail"),
    ] {
        assert_eq!(server.ask(name, RecordType::A), expected, "{name}");
    }
    // Counted some time after the reply.
    let text = metrics_with(metrics, "coredns_proxy_healthcheck_failures_total{");
    (server, text)
}

/// The metrics of a server that watches an API server, after a change.
async fn watching() -> String {
    let api = ApiServer::start().await;
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "shop"}}));
    let spec = json!({"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}]});
    let service = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
    api.apply(Kind::Service, &service);
    let metrics = free_port();
    let corefile = format!(
        ".:0 {{
            bind 127.0.0.1
            prometheus 127.0.0.1:{metrics}
            kubernetes cluster.local {{
                endpoint {}
            }}
        }}
        ",
        api.url()
    );
    let server = tokio::task::spawn_blocking(move || {
        let server = Server::start(&corefile);
        wait_for_web(&server);
        server
    });
    let server = server.await.unwrap();
    let slice = json!({
        "metadata": {
            "name": "web-1",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.1"]}],
        "ports": [{"name": "http", "port": 8080}],
    });
    api.apply(Kind::EndpointSlice, &slice);
    let text = tokio::task::spawn_blocking(move || {
        let name = "coredns_kubernetes_dns_programming_duration_seconds_count{";
        (metrics_with(metrics, name), server)
    });
    text.await.unwrap().0
}

/// Waits until the objects of the cluster are listed.
fn wait_for_web(server: &Server) {
    let begun = Instant::now();
    while server.ask("web.shop.svc.cluster.local.", RecordType::A) != "NoError 10.96.0.9" {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20));
    }
}

/// The metrics once they have this one.
fn metrics_with(port: u16, name: &str) -> String {
    let begun = Instant::now();
    loop {
        let text = page(port, "/metrics").unwrap().1;
        if text.contains(name) {
            return text;
        }
        assert!(begun.elapsed() < PATIENCE, "{name} is not in\n{text}");
        sleep(Duration::from_millis(20));
    }
}

fn over_tcp(server: SocketAddr, message: &[u8]) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = u16::try_from(message.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(message).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    assert!(u16::from_be_bytes(length) > 12);
}

/// The label names of each metric.
fn series(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found = BTreeMap::<&str, BTreeSet<&str>>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let labels = found.entry(name).or_default();
        // A value ends with a quotation mark; the next label follows a comma.
        for part in line.split("=\"").filter(|part| !part.is_empty()) {
            labels.extend(part.rsplit(['{', ',']).next());
        }
    }
    found
}

/// The words of an expression that are names of metrics.
fn metric_names(expression: &str) -> Vec<&str> {
    let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == ':';
    let words = expression.split(|it| !is_part(it));
    let starts = ["coredns_", "lodestone_", "process_", "instance"];
    words
        .filter(|word| starts.iter().any(|start| word.starts_with(start)))
        .filter(|word| *word != "instance")
        .collect()
}

fn dashboard_expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    targets
        .flatten()
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect()
}

fn rules() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&read("deploy/monitoring/rules.yaml")).unwrap();
    let groups = file["groups"].as_array().unwrap();
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap());
    rules.cloned().collect()
}

/// Runs a command with text as its input; nothing where the program is not installed.
fn run(mut command: Command, input: &str) -> Option<Output> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: promtool is not installed");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    Some(child.wait_with_output().unwrap())
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
