//! The tests' API server as a program, filled with Services, for measurements and experiments.
//!
//! ```text
//! cargo run --release --example apiserver -- PORT SERVICES ENDPOINTS PODS
//! ```
//!
//! Commands on standard input: `churn RATE SECONDS` changes RATE slices per second, `relist` breaks all
//! watches and compacts, `apply FILE` adds or replaces the objects of a JSON list, `delete FILE` deletes
//! them, `delay ADDRESS PROCESS RATE SECONDS` measures a DNS server that watches this one: the cost of
//! changes, and the delay until it answers with them.

#[path = "mod.rs"]
mod apiserver;
mod delay;

use apiserver::ApiServer;
use lodestone::cluster::Kind;
use serde_json::{Value, json};
use std::io::BufRead;
use std::time::{Duration, Instant};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|it| it.parse::<usize>());
    let mut next = |default| arguments.next().and_then(Result::ok).unwrap_or(default);
    let (port, services, endpoints, pods) = (next(8001), next(10_000), next(50_000), next(0));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let address = ([127, 0, 0, 1], u16::try_from(port).expect("a port")).into();
    let api = runtime.block_on(ApiServer::bind(address));
    let each = endpoints / services.max(1);
    for number in 0..50 {
        api.apply(
            Kind::Namespace,
            &json!({"metadata": meta("", &format!("team-{number}"))}),
        );
    }
    for number in 0..services {
        api.apply(Kind::Service, &service(number));
        api.apply(Kind::EndpointSlice, &slice(number, each, 0));
    }
    for number in 0..pods {
        api.apply(Kind::Pod, &pod(number));
    }
    println!(
        "{} with {services} services, {endpoints} endpoints, {pods} pods",
        api.url()
    );
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["relist"] => api.unseen(apiserver::Store::compact),
            ["churn", rate, seconds] => {
                churn(
                    &api,
                    services,
                    each,
                    rate.parse().unwrap_or(1000),
                    seconds.parse().unwrap_or(5),
                );
            }
            ["apply", file] => match each_object(file, |kind, object| api.apply(kind, object)) {
                Ok(count) => println!("applied {count} objects"),
                Err(error) => println!("cannot apply {file}: {error}"),
            },
            ["delete", file] => {
                match each_object(file, |kind, object| delete(&api, kind, object)) {
                    Ok(count) => println!("deleted {count} objects"),
                    Err(error) => println!("cannot delete {file}: {error}"),
                }
            }
            ["delay", address, process, rate, seconds] => {
                match (
                    address.parse(),
                    process.parse(),
                    rate.parse(),
                    seconds.parse(),
                ) {
                    (Ok(address), Ok(process), Ok(rate), Ok(seconds)) => {
                        let churn = || churn(&api, services, each, rate, seconds);
                        measure(&api, address, process, churn);
                    }
                    _ => println!("delay 127.0.0.1:53 PROCESS RATE SECONDS"),
                }
            }
            _ => println!("churn RATE SECONDS, delay, relist, apply FILE, or delete FILE"),
        }
    }
}

/// Cost of changes for a DNS server: without queries, and with queries for a changed Service.
fn measure(
    api: &ApiServer,
    server: std::net::SocketAddr,
    process: i32,
    churn: impl Fn() + Send + Sync,
) {
    let costly = |work: &dyn Fn()| {
        let (begun, before) = (Instant::now(), delay::cpu(process));
        work();
        let used = delay::cpu(process).saturating_sub(before);
        let share = used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
        println!("CPU {used:?}, {share:.1} % of a core");
    };
    costly(&churn);
    costly(&|| {
        std::thread::scope(|scope| {
            let changing = scope.spawn(&churn);
            match delay::measure(api, server, process, || changing.is_finished()) {
                Ok((delays, questions)) => {
                    println!("{}, {questions} questions", delay::summary(delays));
                }
                Err(error) => println!("{server}: {error}"),
            }
        });
    });
}

/// Calls `action` for each object of a JSON list whose kind is supported, and returns their number.
fn each_object(file: &str, action: impl Fn(Kind, &Value)) -> std::io::Result<usize> {
    let objects: Vec<Value> = serde_json::from_slice(&std::fs::read(file)?)?;
    let kinds = [
        ("Namespace", Kind::Namespace),
        ("Service", Kind::Service),
        ("EndpointSlice", Kind::EndpointSlice),
        ("Pod", Kind::Pod),
        ("ServiceImport", Kind::ServiceImport),
    ];
    let mut count = 0;
    for object in &objects {
        if let Some((_, kind)) = kinds.iter().find(|(name, _)| object["kind"] == *name) {
            action(*kind, object);
            count += 1;
        }
    }
    Ok(count)
}

fn delete(api: &ApiServer, kind: Kind, object: &Value) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    api.delete(kind, text("namespace"), text("name"));
}

fn churn(api: &ApiServer, services: usize, each: usize, rate: usize, seconds: usize) {
    let begun = Instant::now();
    for number in 0..rate * seconds {
        let due = Duration::from_secs_f64(number as f64 / rate as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        api.apply(
            Kind::EndpointSlice,
            &slice(number * 7919 % services, each, number + 1),
        );
    }
    println!("changed {} slices in {:?}", rate * seconds, begun.elapsed());
}

/// Metadata with the usual fields of real objects.
fn meta(namespace: &str, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": namespace,
        "uid": "3b241101-e2bb-4255-8caf-4136c566a962",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": "x"},
        "managedFields": [{
            "manager": "helm", "operation": "Update", "apiVersion": "v1",
            "time": "2026-01-02T03:04:05Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/name": {}}},
                "f:spec": {"f:internalTrafficPolicy": {}, "f:ports": {".": {}, "k:{\"port\":80}": {
                    ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}}}, "f:selector": {}}},
        }],
    })
}

fn namespace(number: usize) -> String {
    format!("team-{}", number % 50)
}

fn service(number: usize) -> Value {
    let ip = format!(
        "10.{}.{}.{}",
        96 + number / 65536,
        number / 256 % 256,
        number % 256
    );
    json!({
        "metadata": meta(&namespace(number), &format!("service-{number}")),
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "selector": {"app.kubernetes.io/name": format!("service-{number}")},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
        "status": {"loadBalancer": {}},
    })
}

fn slice(number: usize, endpoints: usize, generation: usize) -> Value {
    let name = format!("service-{number}");
    let mut metadata = meta(&namespace(number), &format!("{name}-abcde"));
    metadata["labels"]["kubernetes.io/service-name"] = json!(name);
    let endpoint = |index: usize| {
        // One endpoint of a slice changes with each generation.
        let of = if index == 0 { generation } else { 0 };
        let id = number * endpoints + index;
        let ip = format!("10.{}.{}.{}", 128 + of % 64, id / 256 % 256, id % 256);
        json!({
            "addresses": [ip],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", id % 500),
            "targetRef": {"kind": "Pod", "namespace": namespace(number),
                "name": format!("{name}-6d4cf56db6-{of:05}-{index}"), "uid": "3b241101-e2bb-4255"},
            "zone": format!("europe-west1-{}", id % 3),
        })
    };
    json!({
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

fn pod(number: usize) -> Value {
    let ip = format!(
        "10.{}.{}.{}",
        128 + number / 65536,
        number / 256 % 256,
        number % 256
    );
    let name = format!("service-{}-6d4cf56db6-{:05}", number % 10_000, number);
    json!({
        "metadata": meta(&namespace(number), &name),
        "spec": {"containers": [{"name": "main", "image": "registry.example.com/team/image:1.2.3"}],
            "nodeName": "node-7", "serviceAccountName": "default"},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]},
    })
}
