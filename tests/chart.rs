//! `deploy/chart` renders what a values file of the coredns chart asks for, and refuses or remarks on what it cannot do.
//! Needs `helm` in the PATH: without it, what has to be rendered is skipped with a message.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use lodestone::config::order::{Kind, ORDER};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Objects by `Kind/name`.
type Objects = BTreeMap<String, Value>;

#[test]
fn chart_has_no_lint() {
    let mut all = vec![None];
    all.extend(["kubeadm", "blocks", "autoscaler", "hpa"].map(Some));
    for values in all {
        let mut command = Command::new("helm");
        command.arg("lint").arg("--strict").arg(chart());
        if let Some(name) = values {
            command.arg("-f").arg(values_file(name));
        }
        let Some(output) = run(command) else { return };
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{values:?}: {text}");
    }
}

#[test]
fn defaults_render_a_cluster_service_under_the_names_of_the_coredns_chart() {
    let Some(objects) = render("coredns", &[]) else {
        return;
    };
    assert_eq!(
        names(&objects),
        [
            "ClusterRole/coredns",
            "ClusterRoleBinding/coredns",
            "ConfigMap/coredns",
            "Deployment/coredns",
            "Service/coredns",
        ]
    );
    let pod_labels = json!({
        "app.kubernetes.io/instance": "coredns",
        "app.kubernetes.io/name": "coredns",
        "k8s-app": "coredns",
    });
    let deployment = &objects["Deployment/coredns"];
    assert_eq!(
        deployment["spec"]["selector"],
        json!({ "matchLabels": pod_labels })
    );
    assert_eq!(
        deployment["spec"]["template"]["metadata"]["labels"],
        pod_labels
    );
    assert_eq!(objects["Service/coredns"]["spec"]["selector"], pod_labels);
    let version = env!("CARGO_PKG_VERSION");
    for (kind, object) in &objects {
        let labels = &object["metadata"]["labels"];
        for (label, value) in [
            ("app.kubernetes.io/managed-by", "Helm"),
            ("helm.sh/chart", &format!("lodestone-{version}")),
            ("kubernetes.io/cluster-service", "true"),
            ("kubernetes.io/name", "CoreDNS"),
        ] {
            assert_eq!(labels[label], value, "{kind} {label}");
        }
        let is_of_cluster = kind.starts_with("ClusterRole");
        assert_eq!(
            object["metadata"]["namespace"].is_null(),
            is_of_cluster,
            "{kind}"
        );
    }
    assert_eq!(
        objects["Service/coredns"]["spec"]["ports"],
        json!([
            {"name": "udp-53", "port": 53, "protocol": "UDP", "targetPort": 53},
            {"name": "tcp-53", "port": 53, "protocol": "TCP", "targetPort": 53},
        ])
    );
    let spec = &deployment["spec"]["template"]["spec"];
    assert_eq!(spec["dnsPolicy"], "Default");
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(
        spec["securityContext"],
        json!({"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "53"}]})
    );
    let container = &spec["containers"][0];
    for (pointer, expected) in [
        ("/name", json!("coredns")),
        ("/image", json!(format!("lodestone:{version}"))),
        ("/args", json!(["-conf", "/etc/coredns/Corefile"])),
        (
            "/ports",
            json!([
                {"name": "udp-53", "containerPort": 53, "protocol": "UDP"},
                {"name": "tcp-53", "containerPort": 53, "protocol": "TCP"},
                {"name": "tcp-9153", "containerPort": 9153, "protocol": "TCP"},
            ]),
        ),
        (
            "/resources",
            json!({
                "limits": {"cpu": "100m", "memory": "128Mi"},
                "requests": {"cpu": "100m", "memory": "40Mi"},
            }),
        ),
        (
            "/securityContext",
            json!({
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true,
            }),
        ),
        (
            "/livenessProbe",
            json!({
                "httpGet": {"path": "/health", "port": 8080, "scheme": "HTTP"},
                "initialDelaySeconds": 60, "periodSeconds": 10, "timeoutSeconds": 5,
                "failureThreshold": 5, "successThreshold": 1,
            }),
        ),
        (
            "/readinessProbe",
            json!({
                "httpGet": {"path": "/ready", "port": 8181, "scheme": "HTTP"},
                "initialDelaySeconds": 0, "periodSeconds": 1, "timeoutSeconds": 5,
                "failureThreshold": 1, "successThreshold": 1,
            }),
        ),
    ] {
        assert_eq!(container.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(
        objects["ClusterRole/coredns"]["rules"],
        json!([
            {"apiGroups": [""], "resources": ["namespaces", "services", "pods"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ])
    );
    assert_eq!(
        corefile(&objects, "coredns"),
        words(
            ".:53 {
                errors
                health {
                    lameduck 10s
                }
                ready
                kubernetes cluster.local in-addr.arpa ip6.arpa {
                    pods insecure
                    fallthrough in-addr.arpa ip6.arpa
                    ttl 30
                }
                prometheus 0.0.0.0:9153
                forward . /etc/resolv.conf
                cache 30
                loop
                reload
                loadbalance
            }"
        )
    );
}

#[test]
fn values_of_a_cluster_dns_service_name_label_place_and_monitor_it() {
    let Some(objects) = render("dns", &["kubeadm"]) else {
        return;
    };
    assert_eq!(
        names(&objects),
        [
            "ClusterRole/coredns",
            "ClusterRoleBinding/coredns",
            "ConfigMap/coredns",
            "Deployment/coredns",
            "PodDisruptionBudget/coredns",
            "Service/coredns-metrics",
            "Service/kube-dns",
            "ServiceAccount/coredns",
            "ServiceMonitor/coredns",
        ]
    );
    let selector = json!({
        "app.kubernetes.io/instance": "dns",
        "app.kubernetes.io/name": "coredns",
        "k8s-app": "kube-dns",
    });
    for (kind, object) in &objects {
        let metadata = &object["metadata"];
        assert_eq!(metadata["labels"]["k8s-app"], "kube-dns", "{kind}");
        assert_eq!(
            metadata["annotations"]["example.org/cluster"], "blue",
            "{kind}"
        );
        // Not on these three: as in the coredns chart.
        let is_plain = kind.starts_with("ClusterRole") || kind.starts_with("ServiceMonitor");
        assert_eq!(metadata["labels"]["team"].is_null(), is_plain, "{kind}");
    }
    let service = &objects["Service/kube-dns"];
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.10");
    assert_eq!(service["spec"]["selector"], selector);
    assert_eq!(
        service["metadata"]["annotations"]["example.org/owner"],
        "platform"
    );
    let metrics = &objects["Service/coredns-metrics"];
    assert_eq!(
        metrics["spec"],
        json!({"selector": selector, "ports": [{"name": "metrics", "port": 9153, "targetPort": 9153}]})
    );
    assert_eq!(
        metrics["metadata"]["annotations"]["prometheus.io/port"],
        "9153"
    );
    assert_eq!(
        objects["PodDisruptionBudget/coredns"]["spec"],
        json!({"maxUnavailable": 1, "selector": {"matchLabels": selector}})
    );
    let monitor = &objects["ServiceMonitor/coredns"];
    assert_eq!(monitor["metadata"]["namespace"], "monitoring");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let mut monitored = selector.clone();
    monitored["app.kubernetes.io/component"] = json!("metrics");
    // It selects the metrics Service.
    for (label, value) in monitored.as_object().unwrap() {
        assert_eq!(&metrics["metadata"]["labels"][label], value, "{label}");
    }
    assert_eq!(
        monitor["spec"],
        json!({
            "namespaceSelector": {"matchNames": ["kube-system"]},
            "selector": {"matchLabels": monitored},
            "endpoints": [{
                "port": "metrics",
                "interval": "30s",
                "honorLabels": true,
                "metricRelabelings": [{
                    "action": "drop",
                    "sourceLabels": ["__name__"],
                    "regex": "coredns_dns_request_size_bytes_bucket",
                }],
            }],
        })
    );
    assert_eq!(
        objects["ServiceAccount/coredns"]["metadata"]["annotations"]["example.org/role"],
        "dns"
    );
    assert_eq!(
        objects["ClusterRoleBinding/coredns"]["subjects"],
        json!([{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}])
    );
    let deployment = &objects["Deployment/coredns"]["spec"];
    assert_eq!(deployment["replicas"], 2);
    assert_eq!(
        deployment["strategy"]["rollingUpdate"],
        json!({"maxUnavailable": 0, "maxSurge": 1})
    );
    let labels = &deployment["template"]["metadata"]["labels"];
    assert_eq!(
        (&labels["tier"], &labels["team"]),
        (&json!("dns"), &json!("platform"))
    );
    let annotations = &deployment["template"]["metadata"]["annotations"];
    assert_eq!(annotations["example.org/pod"], "yes");
    assert_eq!(annotations["checksum/config"].as_str().unwrap().len(), 64);
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    assert_eq!(pod["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    assert_eq!(
        pod["tolerations"][0]["key"],
        "node-role.kubernetes.io/control-plane"
    );
    // Template calls of values, by the names that the coredns chart has for them.
    let term = "/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm";
    let labels = &pod.pointer(term).unwrap()["labelSelector"]["matchLabels"];
    assert_eq!(labels["app.kubernetes.io/name"], "coredns");
    let labels = &pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"];
    assert_eq!(labels["app.kubernetes.io/instance"], "dns");
}

#[test]
fn server_blocks_become_corefile_ports_and_files() {
    let Some(objects) = render("dns", &["blocks"]) else {
        return;
    };
    let config = &objects["ConfigMap/dns-coredns"];
    assert_eq!(
        corefile(&objects, "dns-coredns"),
        words(
            r"import /etc/coredns/more/*.server
            .:53 {
                errors
                health :8080
                ready
                prometheus 0.0.0.0:9253
                forward . 192.0.2.1 192.0.2.2 {
                    max_concurrent 1000
                    policy sequential
                }
                cache 30
            }
            example.com. example.net.:5300 {
                auto {
                    directory /etc/coredns (.*)\.zone {1}
                }
            }
            tls://secure.example.org.:853 {
                tls /etc/tls/tls.crt /etc/tls/tls.key
                whoami
            }"
        )
    );
    let zone = config["data"]["example.com.zone"].as_str().unwrap();
    assert!(
        zone.contains("\nns.example.com. IN A  192.0.2.53\n"),
        "{zone}"
    );
    let service = &objects["Service/dns-coredns"]["spec"];
    assert_eq!(service["type"], "NodePort");
    assert_eq!(service["externalTrafficPolicy"], "Local");
    assert_eq!(service["ipFamilyPolicy"], "PreferDualStack");
    assert_eq!(service["trafficDistribution"], "PreferClose");
    assert_eq!(
        service["selector"],
        json!({"app.kubernetes.io/instance": "dns", "app.kubernetes.io/name": "coredns"})
    );
    assert_eq!(
        service["ports"],
        json!([
            {"name": "udp-53", "port": 5353, "protocol": "UDP", "targetPort": 53, "nodePort": 30053},
            {"name": "tcp-53", "port": 5353, "protocol": "TCP", "targetPort": 53, "nodePort": 30053},
            {"name": "udp-5300", "port": 5300, "protocol": "UDP", "targetPort": 5300},
            {"name": "tcp-853", "port": 853, "protocol": "TCP", "targetPort": 853},
        ])
    );
    let deployment = &objects["Deployment/edge-dns"];
    assert_eq!(
        deployment["metadata"]["annotations"]["example.org/deployment"],
        "edge"
    );
    let pod = &deployment["spec"]["template"]["spec"];
    // Not a cluster service: the cluster's default.
    assert!(pod["dnsPolicy"].is_null());
    assert_eq!(pod["dnsConfig"]["options"][0]["name"], "ndots");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(pod["initContainers"][0]["name"], "wait");
    assert_eq!(pod["containers"][1]["name"], "sidecar");
    assert_eq!(pod["securityContext"]["fsGroup"], 65532);
    let container = &pod["containers"][0];
    assert_eq!(
        container["securityContext"]["capabilities"],
        json!({"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]})
    );
    assert_eq!(
        container["ports"],
        json!([
            {"name": "udp-53", "containerPort": 53, "protocol": "UDP"},
            {"name": "tcp-53", "containerPort": 53, "protocol": "TCP"},
            {"name": "udp-5300", "containerPort": 5300, "protocol": "UDP", "hostPort": 5300},
            {"name": "tcp-853", "containerPort": 853, "protocol": "TCP"},
            {"name": "tcp-9253", "containerPort": 9253, "protocol": "TCP"},
        ])
    );
    assert_eq!(
        container["env"][0],
        json!({"name": "GOMEMLIMIT", "value": "100MiB"})
    );
    assert_eq!(
        container["volumeMounts"],
        json!([
            {"name": "config-volume", "mountPath": "/etc/coredns"},
            {"name": "certificate", "mountPath": "/etc/tls", "readOnly": true},
            {"name": "more", "mountPath": "/etc/coredns/more"},
        ])
    );
    assert_eq!(
        pod["volumes"],
        json!([
            {"name": "config-volume", "configMap": {"name": "dns-coredns", "items": [
                {"key": "Corefile", "path": "Corefile"},
                {"key": "example.com.zone", "path": "example.com.zone"},
            ]}},
            {"name": "certificate", "secret": {"secretName": "certificate", "defaultMode": 288}},
            {"name": "more", "emptyDir": {}},
        ])
    );
    let rules = objects["ClusterRole/edge-dns-reader"]["rules"]
        .as_array()
        .unwrap();
    assert_eq!(
        rules.last().unwrap(),
        &json!({
            "apiGroups": ["multicluster.x-k8s.io"],
            "resources": ["serviceimports"],
            "verbs": ["list", "watch"],
        })
    );
}

#[test]
fn rendered_corefiles_are_accepted_by_the_server() {
    for (release, values) in [
        ("coredns", &[][..]),
        ("dns", &["kubeadm"]),
        ("dns", &["blocks"]),
    ] {
        let Some(objects) = render(release, values) else {
            return;
        };
        let config = objects
            .iter()
            .find(|(name, _)| name.starts_with("ConfigMap/"));
        let data = &config.unwrap().1["data"];
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in data.as_object().unwrap() {
            // Paths inside of the container.
            let content = content.as_str().unwrap();
            let here = folder.path().to_str().unwrap();
            let content = content
                .replace("/etc/coredns", here)
                .replace("/etc/tls", here);
            fs::write(folder.path().join(name), content).unwrap();
        }
        let certificate =
            rcgen::generate_simple_self_signed(["dns.example.org".to_owned()]).unwrap();
        fs::write(folder.path().join("tls.crt"), certificate.cert.pem()).unwrap();
        fs::write(
            folder.path().join("tls.key"),
            certificate.signing_key.serialize_pem(),
        )
        .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lodestone"));
        let output = command
            .arg("check")
            .arg(folder.path().join("Corefile"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{values:?}: {text}");
    }
}

#[test]
fn proportional_autoscaler_scales_the_deployment() {
    let Some(objects) = render("dns", &["autoscaler"]) else {
        return;
    };
    for kind in [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "Deployment",
    ] {
        let object = &objects[&format!("{kind}/dns-coredns-autoscaler")];
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["k8s-app"], "coredns-autoscaler", "{kind}");
        assert_eq!(
            labels["app.kubernetes.io/name"], "coredns-autoscaler",
            "{kind}"
        );
        assert_eq!(labels["team"], "platform", "{kind}");
    }
    // The autoscaler sets it.
    assert!(objects["Deployment/dns-coredns"]["spec"]["replicas"].is_null());
    let config = &objects["ConfigMap/dns-coredns-autoscaler"];
    let linear: Value = serde_json::from_str(config["data"]["linear"].as_str().unwrap()).unwrap();
    assert_eq!(
        linear,
        json!({
            "coresPerReplica": 128, "nodesPerReplica": 16, "min": 2, "max": 10,
            "preventSinglePointFailure": true, "includeUnschedulableNodes": true,
        })
    );
    let pod = &objects["Deployment/dns-coredns-autoscaler"]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(
        container["image"],
        "registry.k8s.io/cpa/cluster-proportional-autoscaler:v1.9.0"
    );
    assert_eq!(
        container["command"],
        json!([
            "/cluster-proportional-autoscaler",
            "--namespace=kube-system",
            "--configmap=dns-coredns-autoscaler",
            "--target=Deployment/dns-coredns",
            "--logtostderr=true",
            "--v=2",
            "--nodelabels=topology.kubernetes.io/zone=a",
        ])
    );
    assert_eq!(pod["serviceAccountName"], "dns-coredns-autoscaler");
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    let rules = objects["ClusterRole/dns-coredns-autoscaler"]["rules"]
        .as_array()
        .unwrap();
    let scale = json!({
        "apiGroups": ["extensions", "apps"],
        "resources": ["deployments/scale", "replicasets/scale"],
        "verbs": ["get", "update"],
    });
    assert!(rules.contains(&scale), "{rules:?}");
}

#[test]
fn horizontal_autoscaler_scales_the_deployment() {
    let Some(objects) = render("dns", &["hpa"]) else {
        return;
    };
    let scaler = &objects["HorizontalPodAutoscaler/dns-coredns"];
    assert_eq!(scaler["apiVersion"], "autoscaling/v2");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "dns-coredns"});
    assert_eq!(scaler["spec"]["scaleTargetRef"], target);
    assert_eq!(scaler["spec"]["maxReplicas"], 6);
    assert_eq!(scaler["spec"]["metrics"][0]["resource"]["name"], "cpu");
    assert_eq!(
        scaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
        600
    );
    assert!(!objects.contains_key("ConfigMap/dns-coredns"));
    let deployment = &objects["Deployment/dns-coredns"]["spec"];
    assert!(deployment["replicas"].is_null());
    assert_eq!(
        deployment["selector"],
        json!({"matchLabels": {"app": "dns"}})
    );
    assert_eq!(
        objects["Service/dns-coredns"]["spec"]["selector"],
        json!({"app": "dns"})
    );
    let container = &deployment["template"]["spec"]["containers"][0];
    assert!(container["livenessProbe"].is_null());
}

#[test]
fn names_follow_the_overrides() {
    for (settings, release, name) in [
        (&[][..], "dns", "dns-coredns"),
        (&[], "my-coredns", "my-coredns"),
        (&["nameOverride=resolver"], "dns", "dns-resolver"),
        (&["fullnameOverride=resolver"], "dns", "resolver"),
    ] {
        let Some(output) = template(release, &[], settings) else {
            return;
        };
        let objects = parse(&output);
        assert!(
            objects.contains_key(&format!("Deployment/{name}")),
            "{settings:?}"
        );
    }
}

#[test]
fn values_without_meaning_are_refused_with_the_reason() {
    for (settings, message) in [
        // What the coredns chart would ignore.
        (
            &["replicas=3"][..],
            "additional properties 'replicas' not allowed",
        ),
        (
            &["service.type=NodePort"],
            "additional properties 'type' not allowed",
        ),
        (
            &["servers[0].plugin=x"],
            "additional properties 'plugin' not allowed",
        ),
        (&["serviceType=Nodeport"], "serviceType"),
        (
            &["image.repository=registry.k8s.io/coredns/coredns"],
            "registry.k8s.io/coredns/coredns is an image of CoreDNS",
        ),
        (
            &["servers[0].plugins[0].name=route53"],
            "servers[0]: Lodestone does not support the plugin \"route53\"",
        ),
        (
            &["deployment.dnsPolicy=None"],
            "deployment.dnsConfig: required",
        ),
    ] {
        let Some(output) = template("dns", &[], settings) else {
            return;
        };
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{settings:?}");
        // Versions of Helm word the schema's refusal differently: the name is in all of them.
        let name = message.split('\'').nth(1).unwrap_or(message);
        assert!(text.contains(name), "{settings:?}: {text}");
    }
}

#[test]
fn values_without_effect_are_named_in_the_notes() {
    let files = ["blocks"];
    let settings = [
        "dnsConfig.a=b",
        "preStopSleep=5",
        "image.tag=1.13.1",
        "x-anchors.a=b",
    ];
    let Some(text) = notes(&files, &settings) else {
        return;
    };
    for note in [
        "image.tag is 1.13.1",
        "rbac.pspEnable has no effect",
        "dnsConfig has no effect: use deployment.dnsConfig",
        "preStopSleep has no effect",
        "env: GOMAXPROCS has no effect",
        "zoneFiles: domain of example.com.zone has no effect",
        "servers[1]: example.com. is served on port 53, not 5300",
    ] {
        assert!(text.contains(note), "{note} is not in {text}");
    }
    assert!(!text.contains("GOMEMLIMIT has"), "{text}");
    assert!(!text.contains("servers[2]"), "{text}");
    let settings = ["servers[0].plugins[0].name=errors"];
    let text = notes(&[], &settings).unwrap();
    assert!(text.contains("no server has the plugin health"), "{text}");
    assert!(text.contains("no server has the plugin ready"), "{text}");
    let both = ["hpa.enabled=true", "autoscaler.enabled=true"];
    assert!(
        notes(&[], &both)
            .unwrap()
            .contains("nothing scales the Deployment")
    );
    // With nothing to remark on.
    assert!(!notes(&[], &[]).unwrap().contains("Look at these values"));
}

#[test]
fn chart_knows_the_plugins_and_the_version_of_the_server() {
    let listed = fs::read_to_string(chart().join("plugins.txt")).unwrap();
    let mut supported: Vec<&str> = ORDER
        .iter()
        .filter(|word| !matches!(word.kind, Kind::Absent(_)))
        .map(|word| word.name)
        .chain(["import"])
        .collect();
    supported.sort_unstable();
    assert_eq!(listed.lines().collect::<Vec<_>>(), supported);
    let about = read_yaml(&chart().join("Chart.yaml"));
    assert_eq!(about["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn schema_knows_every_default_and_every_value_of_the_templates() {
    let schema = fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let known = |path: &str| {
        let mut at = &schema;
        for part in path.split('.') {
            match &at["properties"] {
                Value::Object(properties) => match properties.get(part) {
                    Some(found) => at = found,
                    None => return false,
                },
                _ => return true, // passed on to Kubernetes as it is
            }
        }
        true
    };
    let mut count = 0;
    let defaults = read_yaml(&chart().join("values.yaml"));
    for (name, value) in defaults.as_object().unwrap() {
        assert!(known(name), "{name}");
        for key in value.as_object().into_iter().flat_map(|it| it.keys()) {
            assert!(known(&format!("{name}.{key}")), "{name}.{key}");
            count += 1;
        }
    }
    for entry in fs::read_dir(chart().join("templates")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for part in text.split(".Values.").skip(1) {
            let is_path = |it: char| it.is_ascii_alphanumeric() || it == '.';
            let path = part.split(|it| !is_path(it)).next().unwrap();
            assert!(known(path.trim_end_matches('.')), "{path}");
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

/// The rendered objects; none without Helm.
fn render(release: &str, values: &[&str]) -> Option<Objects> {
    template(release, values, &[]).map(|output| parse(&output))
}

fn parse(output: &Output) -> Objects {
    let text = String::from_utf8_lossy(&output.stdout);
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problem}");
    let objects = serde_saphyr::from_multiple::<Value>(&text).unwrap();
    let name = |object: &Value| {
        let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
        format!("{}/{}", kind.as_str().unwrap(), name.as_str().unwrap())
    };
    objects
        .into_iter()
        .map(|object| (name(&object), object))
        .collect()
}

/// `helm template` with values files of `tests/chart` and `--set` settings.
fn template(release: &str, values: &[&str], settings: &[&str]) -> Option<Output> {
    let mut command = Command::new("helm");
    command.args(["template", release, "--namespace", "kube-system"]);
    command.arg(chart());
    with_values(&mut command, values, settings);
    run(command)
}

/// The text that is shown after an installation. Helm prints it after an installation only, so a copy of the chart has
/// it in a ConfigMap too.
fn notes(values: &[&str], settings: &[&str]) -> Option<String> {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("templates")).unwrap();
    for folder in ["", "templates"] {
        for entry in fs::read_dir(chart().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.file_name().unwrap();
                fs::copy(&path, copy.path().join(folder).join(name)).unwrap();
            }
        }
    }
    let object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\n\
                  data: {text: {{ include \"lodestone.notes\" . | toJson }}}\n";
    fs::write(copy.path().join("templates/notes.yaml"), object).unwrap();
    let notes = fs::read_to_string(chart().join("templates/NOTES.txt")).unwrap();
    assert_eq!(notes, "{{ include \"lodestone.notes\" . }}\n");
    let mut command = Command::new("helm");
    command.args(["template", "dns", "--namespace", "kube-system"]);
    command.arg(copy.path());
    with_values(&mut command, values, settings);
    let objects = parse(&run(command)?);
    let text = objects["ConfigMap/notes"]["data"]["text"].as_str().unwrap();
    Some(text.to_owned())
}

fn with_values(command: &mut Command, values: &[&str], settings: &[&str]) {
    for name in values {
        command.arg("-f").arg(values_file(name));
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
}

/// Nothing where the program is not installed.
fn run(mut command: Command) -> Option<Output> {
    // Without a cluster, whatever the user's settings are.
    command.env("KUBECONFIG", "/dev/null");
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: Helm is not installed");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn names(objects: &Objects) -> Vec<&str> {
    objects.keys().map(String::as_str).collect()
}

/// The lines of the Corefile in a ConfigMap, each as its words.
fn corefile(objects: &Objects, name: &str) -> Vec<Vec<String>> {
    let config = &objects[&format!("ConfigMap/{name}")];
    words(config["data"]["Corefile"].as_str().unwrap())
}

fn words(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

fn read_yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn values_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/chart/{name}.yaml"))
}

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/chart")
}
