//! The manifests in `deploy/` are consistent with each other and with CoreDNS's. Clusters, dashboards
//! and probes rely on the names and numbers here. What kustomize renders is checked where kubectl is installed;
//! `tests/deploy/validate` compares it with the API of Kubernetes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const APP: &str = "lodestone";

const OVERLAYS: [&str; 7] = [
    "behind-kube-dns",
    "new-cluster",
    "node-local",
    "replace",
    "restricted",
    "restricted-5353",
    "side-by-side",
];

#[test]
fn every_file_of_a_directory_is_rendered_or_says_that_it_is_not() {
    let overlays: BTreeSet<String> = names("deploy/overlays");
    assert_eq!(overlays, OVERLAYS.map(str::to_owned).into());
    let overlays = overlays.iter().map(|it| format!("overlays/{it}"));
    let components = names("deploy/components");
    let components = components.iter().map(|it| format!("components/{it}"));
    for directory in overlays.chain(components).chain(["base".to_owned()]) {
        let kustomization = read(&format!("deploy/{directory}/kustomization.yaml"));
        let settings: Value = serde_saphyr::from_str(&kustomization).unwrap();
        let is_component = directory.starts_with("components/");
        let kind = if is_component {
            "Component"
        } else {
            "Kustomization"
        };
        assert_eq!(settings["kind"], kind, "{directory}");
        for file in names(&format!("deploy/{directory}")) {
            let text = read(&format!("deploy/{directory}/{file}"));
            let listed = kustomization.contains(&format!("- {file}\n"))
                || kustomization.contains(&format!("[{file}]"));
            let apart = has_extension(&file, "md")
                || file == "kustomization.yaml"
                || text.contains("# Not part of the overlay.");
            assert!(listed != apart, "{directory}/{file}");
        }
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
    let service = base("Service");
    assert_eq!(rows(&service["spec"]["ports"], "port"), expected);
    // The container's ports by name.
    for port in service["spec"]["ports"].as_array().unwrap() {
        assert_eq!(port["targetPort"], port["name"]);
    }
    let kube_dns = one(&files("deploy/overlays/new-cluster"), "Service");
    assert_eq!(rows(&kube_dns["spec"]["ports"], "port"), expected);
    assert_eq!(rows(&kube_dns["spec"]["ports"], "targetPort"), expected);
    assert_eq!(kube_dns["metadata"]["name"], "kube-dns");
    assert_eq!(kube_dns["spec"]["clusterIP"], "10.96.0.10");
    assert_eq!(kube_dns["spec"]["selector"], json!({"k8s-app": "kube-dns"}));
}

#[test]
fn selectors_of_the_base_match_its_pods() {
    let own = json!({"app.kubernetes.io/name": APP});
    let deployment = base("Deployment");
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], own);
    assert_eq!(deployment["spec"]["template"]["metadata"]["labels"], own);
    assert_eq!(base("Service")["spec"]["selector"], own);
    let budget = base("PodDisruptionBudget");
    assert_eq!(budget["spec"]["selector"]["matchLabels"], own);
    for spread in pod()["topologySpreadConstraints"].as_array().unwrap() {
        assert_eq!(spread["labelSelector"]["matchLabels"], own);
    }
    // kubeadm refuses to upgrade a cluster in which two Deployments have this label.
    assert_eq!(deployment["metadata"]["labels"], own);
    for kind in ["ServiceMonitor", "PodMonitor"] {
        let monitor = one(&files("deploy/components"), kind);
        assert_eq!(monitor["spec"]["selector"]["matchLabels"], own, "{kind}");
    }
    let policy = one(&files("deploy/components"), "NetworkPolicy");
    assert_eq!(policy["spec"]["podSelector"]["matchLabels"], own);
}

#[test]
fn network_policy_permits_the_ports_that_are_served() {
    let policy = one(&files("deploy/components"), "NetworkPolicy");
    let ports = |direction: &str| -> BTreeSet<String> {
        let rules = policy["spec"][direction].as_array().unwrap().clone();
        let ports = rules
            .into_iter()
            .flat_map(|rule| rule["ports"].as_array().unwrap().clone());
        ports
            .map(|it| format!("{}/{}", it["port"], it["protocol"].as_str().unwrap()))
            .collect()
    };
    let incoming = ports("ingress");
    let container = container();
    let mut served: BTreeSet<String> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            format!(
                "{}/{}",
                it["containerPort"],
                it["protocol"].as_str().unwrap()
            )
        })
        .collect();
    for probe in ["livenessProbe", "readinessProbe"] {
        served.insert(format!("{}/TCP", container[probe]["httpGet"]["port"]));
    }
    // overlays/restricted-5353.
    served.extend(["5353/UDP", "5353/TCP"].map(str::to_owned));
    assert_eq!(incoming, served);
    let outgoing = ports("egress");
    for port in ["443/TCP", "6443/TCP", "53/UDP", "53/TCP"] {
        assert!(outgoing.contains(port), "{port}");
    }
}

#[test]
fn commented_out_rule_permits_serviceimports() {
    let role = read("deploy/base/rbac.yaml");
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
        ("/volumeMounts/0/mountPath", json!("/etc/coredns")),
    ] {
        assert_eq!(container.pointer(pointer), Some(&expected), "{pointer}");
    }
    for (pointer, expected) in [
        ("/dnsPolicy", json!("Default")),
        ("/priorityClassName", json!("system-cluster-critical")),
        ("/serviceAccountName", json!(APP)),
        ("/volumes/0/configMap/name", json!(APP)),
        (
            "/volumes/0/configMap/items",
            json!([{"key": "Corefile", "path": "Corefile"}]),
        ),
    ] {
        assert_eq!(pod.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_restricted(&pod, "base");
    let unprivileged = json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "53"}]);
    assert_eq!(pod["securityContext"]["sysctls"], unprivileged);
}

#[test]
fn cluster_role_permits_list_and_watch_of_four_resources_only() {
    let role = base("ClusterRole");
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
    let binding = base("ClusterRoleBinding");
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "ServiceAccount", "name": APP, "namespace": "kube-system"}])
    );
    assert_eq!(base("ServiceAccount")["metadata"]["name"], APP);
}

#[test]
fn deployed_corefile_is_the_example_with_a_snapshot() {
    let deployed = read("deploy/base/Corefile");
    let example = read("Corefile.example");
    // On the volume that survives a restart of the container.
    let snapshot = "        snapshot /var/lib/lodestone 5s 1h deny\n";
    assert!(deployed.contains(snapshot));
    let without = deployed.replace(snapshot, "");
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
    let unprivileged = read("deploy/overlays/restricted-5353/Corefile");
    let moved = deployed.replace(".:53 {", ".:5353 {");
    assert_eq!(words(&unprivileged), words(&moved));
}

#[test]
fn corefiles_pass_the_check() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("base", read("deploy/base/Corefile")),
        ("5353", read("deploy/overlays/restricted-5353/Corefile")),
        (
            "node-local",
            // This machine has no 169.254.20.10.
            filled(&read("deploy/overlays/node-local/Corefile"), "127.0.0.1"),
        ),
    ] {
        assert!(!text.contains("PILLAR"), "{text}");
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_lodestone"))
            .arg("check")
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("warning"), "{said}");
    }
}

#[test]
fn node_local_pods_serve_the_address_that_they_add() {
    let daemon_set = one(&files("deploy/overlays/node-local"), "DaemonSet");
    let pod = &daemon_set["spec"]["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    let [init, server] = [&pod["initContainers"][0], &pod["containers"][0]];
    assert_eq!(init["image"], server["image"]);
    assert_eq!(
        init["args"],
        json!(["node-address", "__PILLAR__LOCAL__DNS__"])
    );
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(server[probe]["httpGet"]["host"], "__PILLAR__LOCAL__DNS__");
        assert_eq!(server[probe]["httpGet"]["port"], 8080);
    }
    // Only what each is there for.
    for (container, capability) in [(init, "NET_ADMIN"), (server, "NET_BIND_SERVICE")] {
        assert_eq!(
            container["securityContext"]["capabilities"],
            json!({"drop": ["ALL"], "add": [capability]})
        );
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    }
    // A port would be a hostPort, of which a node has one: no second pod during a rollout.
    assert!(server["ports"].is_null());
    assert!(
        server["args"]
            .as_array()
            .unwrap()
            .contains(&json!("-takeover"))
    );
    let rolling = &daemon_set["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(*rolling, json!({"maxSurge": 1, "maxUnavailable": 0}));
    let corefile = read("deploy/overlays/node-local/Corefile");
    assert!(corefile.contains("health __PILLAR__LOCAL__DNS__:8080\n"));
    assert_eq!(
        corefile
            .matches("    bind __PILLAR__LOCAL__DNS__\n")
            .count(),
        2
    );
    assert!(corefile.contains("force_tcp"));
    // Pods of the other overlays are selected by the other name.
    let labels = &daemon_set["spec"]["template"]["metadata"]["labels"];
    assert_ne!(labels["app.kubernetes.io/name"], APP);
}

#[test]
fn examples_of_a_trial_agree() {
    let directory = "deploy/overlays/side-by-side";
    let yaml = |name: &str| -> Value {
        serde_saphyr::from_str(&read(&format!("{directory}/{name}"))).unwrap()
    };
    let pod = &yaml("pod-example.yaml")["spec"];
    let patch = &yaml("workload-patch.yaml")["spec"]["template"]["spec"];
    for field in ["dnsPolicy", "dnsConfig"] {
        assert_eq!(pod[field], patch[field]);
    }
    assert_eq!(pod["dnsPolicy"], "None");
}

#[test]
fn image_has_the_deployments_user_and_name() {
    let file = read("deploy/Containerfile");
    assert!(file.contains("\nFROM scratch\n"));
    assert!(file.contains("\nUSER 65532:65532\n"));
    assert!(file.contains("\nENTRYPOINT [\"/lodestone\"]\n"));
    let version = env!("CARGO_PKG_VERSION");
    let daemon_set = one(&files("deploy/overlays/node-local"), "DaemonSet");
    let node_local = &daemon_set["spec"]["template"]["spec"]["containers"][0];
    for image in [&container()["image"], &node_local["image"]] {
        assert_eq!(*image, format!("{APP}:{version}"));
    }
}

#[test]
fn overlays_render() {
    let Some(render) = kustomize() else {
        return;
    };
    for overlay in OVERLAYS {
        let objects = render(&format!("overlays/{overlay}"));
        let workload = objects
            .iter()
            .find(|it| it["kind"] == "Deployment" || it["kind"] == "DaemonSet")
            .unwrap();
        let template = &workload["spec"]["template"];
        let pod = &template["spec"];
        if overlay != "node-local" {
            assert_restricted(pod, overlay);
        }
        // What refers to other objects of the same directory finds them.
        for (kind, name) in [
            ("ServiceAccount", &pod["serviceAccountName"]),
            ("ConfigMap", &pod["volumes"][0]["configMap"]["name"]),
        ] {
            let mut same = objects.iter().filter(|it| it["kind"] == kind);
            assert_eq!(
                same.any(|it| it["metadata"]["name"] == *name),
                overlay != "replace",
                "{overlay}"
            );
        }
        let selector = workload["spec"]["selector"]["matchLabels"]
            .as_object()
            .unwrap();
        assert!(
            is_subset(selector, &template["metadata"]["labels"]),
            "{overlay}"
        );
        for object in &objects {
            let name = format!(
                "{overlay}: {} {}",
                object["kind"], object["metadata"]["name"]
            );
            let has_none = ["ClusterRole", "ClusterRoleBinding", "Namespace"];
            if !has_none.iter().any(|kind| object["kind"] == *kind) {
                let expected = match overlay {
                    "side-by-side" => "lodestone-trial",
                    "restricted" | "restricted-5353" => "lodestone",
                    _ => "kube-system",
                };
                assert_eq!(object["metadata"]["namespace"], expected, "{name}");
            }
            match object["kind"].as_str().unwrap() {
                "ClusterRoleBinding" => {
                    let namespace = &workload["metadata"]["namespace"];
                    assert_eq!(object["subjects"][0]["namespace"], *namespace, "{name}");
                    assert_eq!(
                        object["subjects"][0]["name"], pod["serviceAccountName"],
                        "{name}"
                    );
                    let role = one(&objects, "ClusterRole");
                    assert_eq!(
                        object["roleRef"]["name"], role["metadata"]["name"],
                        "{name}"
                    );
                }
                "Service" => {
                    let selector = object["spec"]["selector"].as_object().unwrap();
                    assert!(
                        is_subset(selector, &template["metadata"]["labels"]),
                        "{name}"
                    );
                }
                _ => {}
            }
        }
    }
}

/// It is merged into the Deployment of a cluster: what stands in it is overwritten there.
#[test]
fn replacement_contains_what_has_to_change_and_nothing_else() {
    let Some(render) = kustomize() else {
        return;
    };
    let objects = render("overlays/replace");
    assert_eq!(objects.len(), 1);
    let deployment = &objects[0];
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(
        deployment["metadata"],
        json!({"name": "coredns", "namespace": "kube-system"})
    );
    assert_eq!(keys(&deployment["spec"]), ["selector", "template"]);
    assert_eq!(
        deployment["spec"]["selector"],
        json!({"matchLabels": {"k8s-app": "kube-dns"}})
    );
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(
        keys(pod),
        [
            "containers",
            "dnsPolicy",
            "priorityClassName",
            "securityContext",
            "volumes"
        ]
    );
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "coredns");
    for absent in ["ports", "resources", "env"] {
        assert!(container[absent].is_null(), "{absent}");
    }
    assert_eq!(
        pod["volumes"][0],
        json!({"name": "config-volume", "configMap": {"name": "coredns"}})
    );
}

#[test]
fn port_5353_needs_no_sysctl() {
    let Some(render) = kustomize() else {
        return;
    };
    let objects = render("overlays/restricted-5353");
    let deployment = one(&objects, "Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    assert!(pod["securityContext"]["sysctls"].is_null());
    for index in [0, 1] {
        assert_eq!(pod["containers"][0]["ports"][index]["containerPort"], 5353);
    }
    let config = one(&objects, "ConfigMap");
    assert!(
        config["data"]["Corefile"]
            .as_str()
            .unwrap()
            .contains(".:5353 {")
    );
    assert_eq!(one(&objects, "Service")["spec"]["ports"][0]["port"], 53);
}

/// In a directory of the user's own, as README.md says to write one.
#[test]
fn components_combine_with_overlays_in_a_directory_of_ones_own() {
    let Some(render) = kustomize() else {
        return;
    };
    let render = |overlay: &str, component: &str, namespace: &str| {
        let settings = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {namespace}\n\
             resources: [overlays/{overlay}]\ncomponents: [components/{component}]\n\
             images: [{{name: lodestone, newName: registry.example/lodestone, newTag: 9.9.9}}]\n"
        );
        // kustomize accepts relative paths only.
        let directory = tempfile::tempdir().unwrap();
        copy(&root().join("deploy"), directory.path());
        fs::write(directory.path().join("kustomization.yaml"), settings).unwrap();
        let objects = render(directory.path().to_str().unwrap());
        let is_server = |it: &&Value| it["kind"] == "Deployment" && it["metadata"]["name"] == APP;
        let server = objects.iter().find(is_server).unwrap().clone();
        let image = &server["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(image, "registry.example/lodestone:9.9.9");
        for object in &objects {
            let own = &object["metadata"]["namespace"];
            assert!(own.is_null() || own == namespace, "{component}: {object}");
        }
        (server, objects)
    };
    for (overlay, namespace) in [
        ("behind-kube-dns", "kube-system"),
        ("restricted", "lodestone"),
    ] {
        let (server, _) = render(overlay, "file-capability", namespace);
        let pod = &server["spec"]["template"]["spec"];
        assert!(pod["securityContext"]["sysctls"].is_null());
        assert_eq!(
            pod["containers"][0]["securityContext"]["capabilities"],
            json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})
        );
        assert_restricted(pod, "file-capability");
        for component in ["hpa", "proportional-autoscaler"] {
            let (server, objects) = render(overlay, component, namespace);
            // Each apply would reset it.
            assert!(server["spec"]["replicas"].is_null(), "{component}");
            if component == "hpa" {
                let scaler = one(&objects, "HorizontalPodAutoscaler");
                assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], APP);
            } else {
                let binding = objects
                    .iter()
                    .find(|it| it["metadata"]["name"] == "system:lodestone-autoscaler")
                    .unwrap();
                assert_eq!(binding["kind"], "ClusterRole");
                let role = one(&objects, "RoleBinding");
                assert_eq!(role["subjects"][0]["namespace"], namespace);
            }
        }
        for component in ["network-policies", "service-monitor", "pod-monitor"] {
            render(overlay, component, namespace);
        }
    }
}

/// The Pod Security Standard "restricted", in what concerns a pod with these volumes.
fn assert_restricted(pod: &Value, what: &str) {
    for (pointer, expected) in [
        ("/securityContext/runAsNonRoot", json!(true)),
        ("/securityContext/runAsUser", json!(65532)),
        (
            "/securityContext/seccompProfile",
            json!({"type": "RuntimeDefault"}),
        ),
        (
            "/containers/0/securityContext/allowPrivilegeEscalation",
            json!(false),
        ),
        (
            "/containers/0/securityContext/readOnlyRootFilesystem",
            json!(true),
        ),
        (
            "/containers/0/securityContext/capabilities/drop",
            json!(["ALL"]),
        ),
    ] {
        assert_eq!(pod.pointer(pointer), Some(&expected), "{what}: {pointer}");
    }
    for absent in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[absent].is_null(), "{what}: {absent}");
    }
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1, "{what}");
}

fn is_subset(part: &serde_json::Map<String, Value>, of: &Value) -> bool {
    part.iter().all(|(key, value)| of[key] == *value)
}

/// Renders a directory of `deploy/`, or an absolute one, with kubectl's kustomize, if it is installed.
fn kustomize() -> Option<impl Fn(&str) -> Vec<Value>> {
    let version = Command::new("kubectl")
        .args(["version", "--client"])
        .output();
    if !version.is_ok_and(|output| output.status.success()) {
        println!("skipped: kubectl is not installed");
        return None;
    }
    Some(|directory: &str| {
        let output = Command::new("kubectl")
            .arg("kustomize")
            .arg(root().join("deploy").join(directory))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{directory}: {error}");
        // Deprecated fields are warned of.
        assert_eq!(error, "", "{directory}");
        serde_saphyr::from_multiple(std::str::from_utf8(&output.stdout).unwrap()).unwrap()
    })
}

/// The template with its words replaced as README.md says.
fn filled(template: &str, address: &str) -> String {
    template
        .replace("__PILLAR__DNS__DOMAIN__", "cluster.local")
        .replace("__PILLAR__LOCAL__DNS__", address)
        .replace("__PILLAR__CLUSTER__DNS__", "10.96.0.10")
        .replace("__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf")
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
    base("Deployment")["spec"]["template"]["spec"].take()
}

fn container() -> Value {
    let mut pod = pod();
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    pod["containers"][0].take()
}

/// The one object of this kind in `deploy/base`.
fn base(kind: &str) -> Value {
    one(&files("deploy/base"), kind)
}

fn one(objects: &[Value], kind: &str) -> Value {
    let found: Vec<&Value> = objects.iter().filter(|it| it["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found[0].clone()
}

/// The objects in the YAML files of a directory and of those in it.
fn files(directory: &str) -> Vec<Value> {
    let mut objects = Vec::new();
    for name in names(directory) {
        let path = format!("{directory}/{name}");
        if root().join(&path).is_dir() {
            objects.extend(files(&path));
        } else if has_extension(&name, "yaml") && name != "workload-patch.yaml" {
            objects.extend(serde_saphyr::from_multiple::<Value>(&read(&path)).unwrap());
        }
    }
    objects
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|it| it == extension)
}

fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(directory)).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
