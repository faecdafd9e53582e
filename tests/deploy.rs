//! The manifests in `deploy/` are consistent with each other and with CoreDNS's. Clusters, dashboards
//! and probes rely on the names and numbers here.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

const APP: &str = "lodestone";

#[test]
fn service_kube_dns_selects_the_pods() {
    let (deployment, service) = (one("Deployment"), one("Service"));
    assert_eq!(service["metadata"]["name"], "kube-dns");
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.10");
    assert_eq!(service["spec"]["selector"], json!({"k8s-app": "kube-dns"}));
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let own = json!({"k8s-app": "kube-dns", "app.kubernetes.io/name": APP});
    assert_eq!(*labels, own);
    // Narrower than the Service's selector, which also matches CoreDNS's pods.
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], own);
    assert_eq!(
        one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        json!({"app.kubernetes.io/name": APP})
    );
    for name in [
        "Deployment",
        "Service",
        "ConfigMap",
        "ServiceAccount",
        "PodDisruptionBudget",
    ] {
        assert_eq!(one(name)["metadata"]["namespace"], "kube-system", "{name}");
    }
}

#[test]
fn ports_match_coredns() {
    let expected = [
        ("dns", 53, "UDP"),
        ("dns-tcp", 53, "TCP"),
        ("metrics", 9153, "TCP"),
    ];
    let rows = |ports: &Value, number: &str| {
        let ports = ports.as_array().unwrap().clone();
        ports
            .into_iter()
            .map(|port| {
                let text = |key: &str| port[key].as_str().unwrap().to_owned();
                (
                    text("name"),
                    port[number].as_i64().unwrap(),
                    text("protocol"),
                )
            })
            .collect::<Vec<_>>()
    };
    let expected: Vec<_> = expected
        .map(|(name, port, protocol)| (name.to_owned(), port, protocol.to_owned()))
        .into();
    assert_eq!(rows(&container()["ports"], "containerPort"), expected);
    assert_eq!(rows(&one("Service")["spec"]["ports"], "port"), expected);
    assert_eq!(
        rows(&one("Service")["spec"]["ports"], "targetPort"),
        expected
    );
}

#[test]
fn commented_out_rule_permits_serviceimports() {
    let role = fs::read_to_string(Path::new("deploy/rbac.yaml")).unwrap();
    let with_imports = role
        .replace("  # - api", "  - api")
        .replace("  #   ", "    ");
    let rules = |text: &str| -> Vec<Value> {
        let documents = text.split("---\n");
        let documents = documents.filter_map(|text| serde_saphyr::from_str::<Value>(text).ok());
        let mut roles = documents.filter(|document| document["kind"] == "ClusterRole");
        roles.next().unwrap()["rules"].as_array().unwrap().clone()
    };
    let (plain, more) = (rules(&role), rules(&with_imports));
    assert_eq!(plain.len() + 1, more.len());
    let imports = json!({
        "apiGroups": ["multicluster.x-k8s.io"],
        "resources": ["serviceimports"],
        "verbs": ["list", "watch"],
    });
    assert_eq!(more.last(), Some(&imports));
}

#[test]
fn container_has_arguments_probes_and_security_context() {
    let (pod, container) = (pod(), container());
    for (pointer, expected) in [
        ("/args", json!(["-conf", "/etc/coredns/Corefile"])),
        ("/livenessProbe/httpGet/path", json!("/health")),
        ("/livenessProbe/httpGet/port", json!(8080)),
        ("/readinessProbe/httpGet/path", json!("/ready")),
        ("/readinessProbe/httpGet/port", json!(8181)),
        // An endpoint that terminates must stop being `serving` before lameduck ends.
        ("/readinessProbe/periodSeconds", json!(1)),
        ("/readinessProbe/failureThreshold", json!(1)),
        ("/resources/limits", json!({"memory": "170Mi"})),
        ("/securityContext/allowPrivilegeEscalation", json!(false)),
        ("/securityContext/readOnlyRootFilesystem", json!(true)),
        (
            "/securityContext/capabilities",
            json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}),
        ),
        ("/volumeMounts/0/mountPath", json!("/etc/coredns")),
    ] {
        assert_eq!(container.pointer(pointer), Some(&expected), "{pointer}");
    }
    for (pointer, expected) in [
        ("/dnsPolicy", json!("Default")),
        ("/priorityClassName", json!("system-cluster-critical")),
        ("/serviceAccountName", json!(APP)),
        ("/securityContext/runAsNonRoot", json!(true)),
        ("/securityContext/runAsUser", json!(65532)),
        (
            "/securityContext/seccompProfile/type",
            json!("RuntimeDefault"),
        ),
        ("/volumes/0/configMap/name", json!(APP)),
        (
            "/volumes/0/configMap/items",
            json!([{"key": "Corefile", "path": "Corefile"}]),
        ),
    ] {
        assert_eq!(pod.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(one("ConfigMap")["metadata"]["name"], APP);
}

#[test]
fn cluster_role_permits_list_and_watch_of_four_resources_only() {
    let role = one("ClusterRole");
    let mut rights = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        assert_eq!(rule["verbs"], json!(["list", "watch"]));
        let group = rule["apiGroups"][0].as_str().unwrap();
        assert_eq!(rule["apiGroups"].as_array().unwrap().len(), 1);
        let resources = rule["resources"].as_array().unwrap();
        rights.extend(
            resources
                .iter()
                .map(|it| format!("{group}/{}", it.as_str().unwrap())),
        );
    }
    rights.sort();
    assert_eq!(
        rights,
        [
            "/namespaces",
            "/pods",
            "/services",
            "discovery.k8s.io/endpointslices"
        ]
    );
    let binding = one("ClusterRoleBinding");
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "ServiceAccount", "name": APP, "namespace": "kube-system"}])
    );
    assert_eq!(one("ServiceAccount")["metadata"]["name"], APP);
}

#[test]
fn deployed_corefile_is_the_example_with_a_snapshot() {
    let config = one("ConfigMap");
    let deployed = config["data"]["Corefile"].as_str().unwrap();
    let example = read("Corefile.example");
    // On the volume that survives a restart of the container.
    let snapshot = "            snapshot /var/lib/lodestone\n";
    assert!(deployed.contains(snapshot.trim_start()));
    let without = deployed.replace(snapshot.trim_start(), "");
    assert_eq!(words(&without), words(&example));
    let volumes = pod()["volumes"].as_array().unwrap().clone();
    assert!(
        volumes
            .iter()
            .any(|it| it["name"] == "snapshot" && it["emptyDir"].is_object())
    );
    let mounts = container()["volumeMounts"].as_array().unwrap().clone();
    let mounted = json!({"name": "snapshot", "mountPath": "/var/lib/lodestone"});
    assert!(mounts.contains(&mounted), "{mounts:?}");
    // The probes and the Service use the ports set here, or their defaults.
    assert!(deployed.contains(".:53 {"));
    assert!(deployed.contains("prometheus :9153\n"));
    // Queries are answered for this long after SIGTERM, within the grace period.
    assert!(deployed.contains("lameduck 5s\n"));
    // With the default limit of `quiet`, 20 s, and 7 s for pending queries and plugins.
    assert!(pod()["terminationGracePeriodSeconds"].as_i64().unwrap() > 27);
}

#[test]
fn image_has_the_deployments_user_and_name() {
    let file = read("deploy/Containerfile");
    assert!(file.contains("\nFROM scratch\n"));
    assert!(file.contains("\nUSER 65532:65532\n"));
    assert!(file.contains("\nENTRYPOINT [\"/lodestone\"]\n"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(container()["image"], format!("{APP}:{version}"));
}

#[test]
fn layer_has_the_permitted_capability_and_lists_the_linked_crates() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: python3 is not installed");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let (layer, sbom) = (home.path().join(name), home.path().join("sbom"));
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let made = Command::new(root().join("deploy/layer.py"))
            .args([&root().join("LICENSE"), &root().join("README.md")])
            .arg(target)
            .args([&layer, &sbom])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "{errors}");
        (fs::read(layer).unwrap(), fs::read_to_string(sbom).unwrap())
    };
    let (layer, sbom) = write("first");
    assert!(
        write("second").0 == layer,
        "the layer is not the same twice"
    );

    // Permitted and not effective: the kernel would not execute the file in a container that lacks it.
    let mut capability = b"SCHILY.xattr.security.capability=".to_vec();
    capability.extend([
        0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'\n',
    ]);
    let found = layer
        .windows(capability.len())
        .filter(|it| *it == capability);
    assert_eq!(found.count(), 1);

    let sbom: Value = serde_json::from_str(&sbom).unwrap();
    assert_eq!(sbom["metadata"]["component"]["name"], APP);
    assert_eq!(sbom["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    let components = sbom["components"].as_array().unwrap();
    let names: Vec<&str> = components
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    for name in ["kube-client", "ring", "tikv-jemalloc-sys", "rust-std"] {
        assert!(names.contains(&name), "{name} is missing");
    }
    // Of the tests, of the build, of another system.
    for name in ["criterion", "proptest", "cc", "serde_derive", "windows-sys"] {
        assert!(!names.contains(&name), "{name} is not in the program");
    }
}

/// Lines without comments, each as its words.
fn words(corefile: &str) -> Vec<Vec<&str>> {
    corefile
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|line| !line.is_empty())
        .collect()
}

fn pod() -> Value {
    one("Deployment")["spec"]["template"]["spec"].take()
}

fn container() -> Value {
    let mut pod = pod();
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    pod["containers"][0].take()
}

/// The one object of this kind in `deploy/`.
fn one(kind: &str) -> Value {
    let mut found: Vec<Value> = objects()
        .into_iter()
        .filter(|it| it["kind"] == kind)
        .collect();
    assert_eq!(found.len(), 1, "{kind}");
    found.remove(0)
}

fn objects() -> Vec<Value> {
    let mut objects = Vec::new();
    for entry in fs::read_dir(root().join("deploy")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "yaml") {
            let text = fs::read_to_string(&path).unwrap();
            objects.extend(serde_saphyr::from_multiple::<Value>(&text).unwrap());
        }
    }
    objects
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
