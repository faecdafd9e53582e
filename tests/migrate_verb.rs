//! `lodestone migrate` with objects of clusters of several kinds, and with an API server whose Deployment it changes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use serde_json::{Value, json};

const KUBEADM: &str = include_str!("migrate_verb/kubeadm.yaml");
const EKS: &str = include_str!("migrate_verb/eks.yaml");
const K3S: &str = include_str!("migrate_verb/k3s.yaml");

const IMAGE: &str = "registry.example/lodestone:0.1.0";
const OLD_IMAGE: &str = "registry.k8s.io/coredns/coredns:v1.12.1";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/kube-system/deployments/coredns";

fn migrate(line: &str, input: &str, kubeconfig: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lodestone"));
    // The tests may run in a pod, and by somebody who has a cluster.
    for variable in ["KUBERNETES_SERVICE_HOST", "KUBECONFIG", "HOME"] {
        command.env_remove(variable);
    }
    if let Some(file) = kubeconfig {
        command.env("KUBECONFIG", file);
    }
    let mut child = command
        .arg("migrate")
        .args(line.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The process may exit without reading its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Exit code, standard output, standard error.
fn seen(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// The report on objects.
fn report(objects: &str) -> (i32, Value) {
    let output = migrate(
        &format!("-f - --image {IMAGE} --format json"),
        objects,
        None,
    );
    let (code, stdout, stderr) = seen(&output);
    assert!(stderr.is_empty(), "{stderr}");
    (code, serde_json::from_str(&stdout).unwrap())
}

fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} in {findings:#?}"))
}

fn status<'a>(report: &'a Value, check: &str) -> &'a str {
    finding(report, check)["status"].as_str().unwrap()
}

fn situations(report: &Value) -> Vec<&str> {
    let rows = report["corefile"]["differences"].as_array().unwrap();
    rows.iter()
        .map(|row| row["situation"].as_str().unwrap())
        .collect()
}

fn managers(report: &Value) -> Vec<&str> {
    let managers = report["managers"].as_array().unwrap();
    managers
        .iter()
        .map(|manager| manager["name"].as_str().unwrap())
        .collect()
}

#[test]
fn a_cluster_of_kubeadm_differs_in_its_readiness_probe_and_in_documented_rows() {
    let (code, report) = report(KUBEADM);
    assert_eq!(code, 0);
    assert_eq!(report["refused"], false);
    assert_eq!(report["deployment"]["image"], OLD_IMAGE);
    assert_eq!(
        report["corefile"]["source"],
        "ConfigMap coredns, key Corefile"
    );
    for check in [
        "command",
        "livenessProbe",
        "securityContext",
        "resources",
        "dnsPolicy",
        "rollout",
        "replicas",
        "ports",
        "terminationGracePeriodSeconds",
    ] {
        assert_eq!(status(&report, check), "ok", "{}", finding(&report, check));
    }
    // Every 10 s with three failures: docs/reliability.md.
    let readiness = report["findings"].as_array().unwrap().iter();
    let mut readiness =
        readiness.filter(|it| it["check"] == "readinessProbe" && it["status"] == "warn");
    assert!(
        readiness.next().unwrap()["detail"]
            .as_str()
            .unwrap()
            .contains("loses queries")
    );
    assert_eq!(status(&report, "poddisruptionbudget"), "warn");
    assert_eq!(managers(&report), ["kubeadm"]);
    let rows = situations(&report);
    assert!(rows.contains(&"the cluster's names in a block with `cache`"));
    assert!(rows.contains(&"`max_concurrent` is reached"));
    assert!(
        !rows.iter().any(|row| row.contains("`tls://HOST`")),
        "{rows:?}"
    );
    assert!(
        report["corefile"]["same"]
            .as_array()
            .unwrap()
            .contains(&json!("errors"))
    );
    let row = report["corefile"]["differences"].as_array().unwrap().iter();
    let mut row = row.filter(|row| row["situation"] == "`max_concurrent` is reached");
    assert_eq!(
        row.next().unwrap()["at"],
        json!(["/etc/coredns/Corefile:14"])
    );
    let commands = &report["commands"];
    assert_eq!(
        commands["go_in"][0],
        format!(
            "kubectl -n kube-system patch deployment coredns --type strategic -p \
             '{{\"spec\":{{\"template\":{{\"spec\":{{\"containers\":[{{\"image\":\"{IMAGE}\",\"name\":\"coredns\",\
             \"readinessProbe\":{{\"failureThreshold\":1,\"periodSeconds\":1}}}}]}}}}}}}}'"
        )
    );
    let back = commands["go_back"][0].as_str().unwrap();
    for part in [
        OLD_IMAGE,
        "\"failureThreshold\":3",
        "\"periodSeconds\":10",
        "\"lodestone-migrate\":null",
    ] {
        assert!(back.contains(part), "{part}: {back}");
    }
}

#[test]
fn the_text_has_the_report_and_commands() {
    let (code, stdout, stderr) = seen(&migrate("-f -", KUBEADM, None));
    assert_eq!((code, &*stderr), (0, ""));
    for part in [
        "From standard input: deployment/coredns in kube-system, container coredns",
        "accepted, 0 errors",
        "The same as in CoreDNS: ",
        "Different (docs/differences.md, Cache):",
        "(--all prints them): Cluster names ",
        "warn    readinessProbe: every 10 s, 3 failures",
        "kubeadm (image registry.k8s.io/coredns/coredns:v1.12.1): kubeadm upgrade sets the image again",
        "REGISTRY/lodestone:",
        "Nothing is refused",
    ] {
        assert!(stdout.contains(part), "{part}\n{stdout}");
    }
    let row = "a Service of another type whose `clusterIP` is empty";
    assert!(!stdout.contains(row));
    let (_, all, _) = seen(&migrate("-f - --all", KUBEADM, None));
    assert!(all.contains(row) && all.len() > stdout.len());
}

#[test]
fn a_cluster_of_eks_is_recognized() {
    let (code, report) = report(EKS);
    assert_eq!((code, managers(&report)), (0, vec!["EKS"]));
    assert!(
        report["managers"][0]["evidence"]
            .as_str()
            .unwrap()
            .contains("eks.amazonaws.com/component")
    );
    assert_eq!(
        finding(&report, "poddisruptionbudget")["detail"],
        "coredns: unchanged"
    );
    assert_eq!(status(&report, "ports"), "ok");
}

#[test]
fn a_cluster_of_k3s_keeps_its_only_pod_and_its_imports() {
    let (code, report) = report(K3S);
    assert_eq!((code, managers(&report)), (0, vec!["k3s"]));
    let findings = report["findings"].as_array().unwrap();
    let imports: Vec<&str> = findings
        .iter()
        .filter(|finding| finding["check"] == "import")
        .map(|finding| finding["subject"].as_str().unwrap())
        .collect();
    assert_eq!(
        imports,
        [
            "/etc/coredns/custom/corp.server",
            "/etc/coredns/custom/log.override"
        ]
    );
    let custom = findings
        .iter()
        .find(|it| it["subject"] == "coredns-custom")
        .unwrap();
    assert!(
        custom["detail"]
            .as_str()
            .unwrap()
            .contains("notes.txt (not used by the Corefile)"),
        "{custom}"
    );
    let keys = finding(&report, "configmap")["detail"].as_str().unwrap();
    assert!(
        keys.contains("NodeHosts (a file that the Corefile names)"),
        "{keys}"
    );
    // maxUnavailable is 1 of 1.
    assert_eq!(status(&report, "rollout"), "warn");
    let go_in = report["commands"]["go_in"][0].as_str().unwrap();
    assert!(
        go_in.contains("\"strategy\":{\"rollingUpdate\":{\"maxUnavailable\":0}}"),
        "{go_in}"
    );
    let go_back = report["commands"]["go_back"][0].as_str().unwrap();
    assert!(
        go_back.contains("\"strategy\":{\"rollingUpdate\":{\"maxUnavailable\":1}}"),
        "{go_back}"
    );
    assert!(
        report["commands"]["note"]
            .as_str()
            .unwrap()
            .contains("rollout undo does not work")
    );
    // The imported line counts.
    assert!(situations(&report).contains(&"`log`: NXDOMAIN with a CNAME record"));
    // Without the ConfigMap, which is optional, as the pods start.
    let mut parts = K3S.split("---\n");
    let without = [parts.next().unwrap(), parts.nth(1).unwrap()].join("---\n");
    assert_eq!(self::report(&without).0, 0);
}

#[test]
fn a_refused_line_of_an_import_has_its_position() {
    let objects = K3S.replace("    log\n", "    geoip /etc/db\n");
    let (code, report) = report(&objects);
    assert_eq!(
        (code, &report["refused"], &report["corefile"]["accepted"]),
        (1, &json!(true), &json!(false))
    );
    let diagnostic = &report["corefile"]["diagnostics"][0];
    assert_eq!(diagnostic["file"], "/etc/coredns/custom/log.override");
    assert_eq!(
        (&diagnostic["line"], &diagnostic["column"]),
        (&json!(1), &json!(1))
    );
    let (code, stdout, _) = seen(&migrate("-f -", &objects, None));
    assert_eq!(code, 1);
    assert!(
        stdout.contains("/etc/coredns/custom/log.override:1:1"),
        "{stdout}"
    );
    assert!(stdout.contains("Refused: "), "{stdout}");
}

#[test]
fn deployments_that_need_more_than_an_image_are_changed_or_refused() {
    let change = |from: &str, to: &str| {
        assert!(KUBEADM.contains(from), "{from}");
        report(&KUBEADM.replace(from, to))
    };
    // No capability: the program could not be executed.
    let (code, report) = change("              add:\n              - NET_BIND_SERVICE\n", "");
    assert_eq!((code, status(&report, "securityContext")), (0, "warn"));
    let go_in = report["commands"]["go_in"][0].as_str().unwrap();
    assert!(
        go_in.contains("\"capabilities\":{\"add\":[\"NET_BIND_SERVICE\"]}"),
        "{go_in}"
    );
    // Not needed with the sysctl.
    let pod = "        dnsPolicy: Default\n";
    let sysctl = "        securityContext:\n          sysctls:\n          - {name: net.ipv4.ip_unprivileged_port_start, value: \"53\"}\n";
    let objects = KUBEADM.replace("              add:\n              - NET_BIND_SERVICE\n", "");
    let (_, report) = self::report(&objects.replace(pod, &format!("{pod}{sysctl}")));
    assert_eq!(status(&report, "securityContext"), "ok");
    // The program of another image.
    let (code, report) = change(
        "        - args:\n",
        "        - command: [/coredns]\n          args:\n",
    );
    assert_eq!((code, status(&report, "command")), (0, "warn"));
    assert!(
        report["commands"]["go_in"][0]
            .as_str()
            .unwrap()
            .contains("\"command\":[\"/lodestone\"]")
    );
    assert!(
        report["commands"]["go_back"][0]
            .as_str()
            .unwrap()
            .contains("\"command\":[\"/coredns\"]")
    );
    for (from, to, check, expected) in [
        (
            "          - -conf\n",
            "          - -confg\n",
            "command",
            "fail",
        ),
        (
            "      type: RollingUpdate",
            "      type: Recreate",
            "rollout",
            "fail",
        ),
        ("memory: 170Mi", "memory: 64Mi", "resources", "warn"),
        (
            "dnsPolicy: Default",
            "dnsPolicy: ClusterFirst",
            "dnsPolicy",
            "warn",
        ),
        (
            "      targetPort: 53\n",
            "      targetPort: 1053\n",
            "ports",
            "warn",
        ),
        (
            "lameduck 5s",
            "lameduck 40s",
            "terminationGracePeriodSeconds",
            "warn",
        ),
        (
            "    replicas: 2\n    revision",
            "    replicas: 1\n    revision",
            "replicas",
            "warn",
        ),
    ] {
        let (code, report) = change(from, to);
        assert_eq!(
            status(&report, check),
            expected,
            "{}",
            finding(&report, check)
        );
        assert_eq!(code, i32::from(expected == "fail"), "{to}");
    }
}

#[test]
fn other_managers_are_recognized() {
    let metadata = "    labels:\n      k8s-app: kube-dns\n    name: coredns\n";
    assert!(KUBEADM.contains(metadata));
    for (marks, expected) in [
        (
            "addonmanager.kubernetes.io/mode: Reconcile",
            vec!["addon manager (Reconcile)"],
        ),
        (
            "kubernetes.azure.com/managedby: aks\n      addonmanager.kubernetes.io/mode: Reconcile",
            vec!["AKS"],
        ),
        ("k8s-addon: coredns.addons.k8s.io", vec!["kops"]),
        ("kustomize.toolkit.fluxcd.io/name: dns", vec!["Flux"]),
    ] {
        let objects = KUBEADM.replace(
            metadata,
            &format!("    labels:\n      {marks}\n    name: coredns\n"),
        );
        assert_eq!(managers(&report(&objects).1), expected, "{marks}");
    }
    let node = "- {apiVersion: v1, kind: Node, metadata: {name: a}, spec: {providerID: kind://docker/a}}\n";
    assert_eq!(managers(&report(&format!("{KUBEADM}{node}")).1), ["kind"]);
    let minikube = KUBEADM.replace("          ready\n", "          ready\n          hosts {\n             192.168.49.1 host.minikube.internal\n             fallthrough\n          }\n");
    assert_eq!(managers(&report(&minikube).1), ["minikube"]);
    let rke2 = KUBEADM.replace(
        "registry.k8s.io/coredns/coredns:v1.12.1",
        "rancher/hardened-coredns:v1.12.1",
    );
    assert_eq!(managers(&report(&rke2).1), ["RKE2"]);
    let helm = KUBEADM.replace(
        "    annotations:\n",
        "    annotations:\n      meta.helm.sh/release-name: dns\n",
    );
    let (_, report) = report(&helm);
    assert_eq!(managers(&report), ["Helm"]);
    let go_in = report["commands"]["go_in"].to_string();
    assert!(
        go_in.contains("--set image.repository=registry.example/lodestone --set image.tag=0.1.0"),
        "{go_in}"
    );
}

#[test]
fn files_that_are_not_objects_are_refused() {
    let usage = |line: &str| assert_eq!(seen(&migrate(line, "", None)).0, 2, "{line}");
    usage("--apply");
    usage("-f a --apply --image x");
    usage("--undo --image x");
    usage("--image a;b -f -");
    usage("--timeout never -f -");
    usage("-f - -f -");
    usage("-n Kube_System");
    for (input, part) in [
        ("a: [", "this is neither YAML nor JSON"),
        ("{\"a\"", "this is neither YAML nor JSON"),
        ("just: words", "kind is missing"),
        (
            "{apiVersion: v1, kind: Pod}",
            "no ConfigMap with a Corefile",
        ),
        ("", "no ConfigMap with a Corefile"),
    ] {
        let (code, _, stderr) = seen(&migrate("-f -", input, None));
        assert_eq!(code, 1, "{input}");
        assert!(stderr.contains(part), "{input}: {stderr}");
    }
    let (code, _, stderr) = seen(&migrate("-f /nonexistent", "", None));
    assert!(
        code == 1 && stderr.contains("/nonexistent: it does not exist"),
        "{stderr}"
    );
    let (code, _, stderr) = seen(&migrate("", "", None));
    assert!(code == 1 && stderr.contains("no cluster"), "{stderr}");
}

#[test]
fn options_that_coredns_does_not_know_are_in_the_way_back() {
    let objects = KUBEADM.replace(
        "             ttl 30\n",
        "             snapshot /var/lib/lodestone\n",
    );
    let (code, report) = report(&objects);
    let detail = finding(&report, "way-back")["detail"].as_str().unwrap();
    assert_eq!(code, 0);
    assert!(
        detail.contains("kubernetes { snapshot } (/etc/coredns/Corefile:10)"),
        "{detail}"
    );
}

#[test]
fn a_config_map_alone_is_checked() {
    let map = EKS.split("---\n").next().unwrap();
    let (code, report) = report(map);
    assert_eq!((code, &report["corefile"]["accepted"]), (0, &json!(true)));
    assert_eq!(status(&report, "deployment"), "skipped");
    let json: Value = serde_saphyr::from_str(map).unwrap();
    assert_eq!(self::report(&json.to_string()).0, 0);
}

#[test]
fn without_the_config_map_what_needs_it_is_skipped_for_that_reason() {
    let (_, others) = EKS.split_once("---\n").unwrap();
    let (code, report) = report(others);
    assert_eq!((code, status(&report, "configmap")), (1, "fail"));
    for check in ["ports", "resources"] {
        let finding = finding(&report, check);
        assert_eq!(finding["status"], "skipped");
        assert_eq!(finding["detail"], "the Corefile cannot be read");
    }
}

/// An API server with the objects of a file. Its Deployment's pods follow a change of the image at the second look:
/// they run, unless the image says otherwise.
struct Cluster {
    shared: Arc<Mutex<Shared>>,
    kubeconfig: tempfile::NamedTempFile,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Shared {
    objects: BTreeMap<String, Value>,
    /// Method, path and query of requests that write.
    writes: Vec<String>,
    /// Looks at the Deployment since its last change.
    looks: usize,
    /// Refuses patches with this message.
    denied: Option<String>,
    /// Changes the Deployment before the patch that follows a dry run.
    interferes: bool,
    /// Runs pods whatever their image says.
    healthy: bool,
    version: u64,
}

impl Cluster {
    fn new(text: &str) -> Self {
        let shared = Shared {
            version: 1000,
            ..Shared::default()
        };
        let shared = Arc::new(Mutex::new(shared));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        let mut list = Vec::new();
        for document in serde_saphyr::from_multiple::<Value>(text).unwrap() {
            match document["items"].as_array() {
                Some(items) => list.extend(items.clone()),
                None => list.push(document),
            }
        }
        for mut object in list {
            let resource = match object["kind"].as_str().unwrap() {
                "ConfigMap" => "/api/v1/namespaces/kube-system/configmaps",
                "Service" => "/api/v1/namespaces/kube-system/services",
                "Deployment" => "/apis/apps/v1/namespaces/kube-system/deployments",
                _ => continue,
            };
            object["metadata"]["resourceVersion"] = json!("1000");
            let path = format!(
                "{resource}/{}",
                object["metadata"]["name"].as_str().unwrap()
            );
            shared.lock().objects.insert(path, object);
        }
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        fs::write(kubeconfig.path(), text.to_string()).unwrap();
        Self {
            shared,
            kubeconfig,
            _runtime: runtime,
        }
    }

    fn migrate(&self, line: &str) -> (i32, String, String) {
        seen(&migrate(line, "", Some(self.kubeconfig.path())))
    }

    fn deployment(&self) -> Value {
        self.shared.lock().objects[DEPLOYMENT].clone()
    }

    fn container(&self) -> Value {
        self.deployment()["spec"]["template"]["spec"]["containers"][0].clone()
    }

    /// Paths of requests that wrote since the last call.
    fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().writes)
    }

    fn saved(&self) -> Option<String> {
        let deployment = self.deployment();
        deployment["metadata"]["annotations"]["lodestone-migrate"]
            .as_str()
            .map(str::to_owned)
    }
}

async fn answer(
    State(shared): State<Arc<Mutex<Shared>>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let mut shared = shared.lock();
    let (path, query) = (
        uri.path().to_owned(),
        uri.query().unwrap_or_default().to_owned(),
    );
    let found = |object: Option<Value>| match object {
        Some(object) => object.to_string().into_response(),
        None => failed(StatusCode::NOT_FOUND, "not found"),
    };
    if method == Method::GET && path.ends_with("/pods") {
        return found(Some(json!({"kind": "PodList", "items": [shared.pod()]})));
    }
    if method == Method::GET && path.ends_with("/log") {
        let is_previous = query.contains("previous=true");
        return if is_previous {
            "error: the Corefile is wrong\n".into_response()
        } else {
            "".into_response()
        };
    }
    if method == Method::GET {
        if path == DEPLOYMENT {
            shared.looks += 1;
            shared.progress();
        }
        return found(shared.objects.get(&path).cloned());
    }
    shared.writes.push(format!("{method} {path}?{query}"));
    if let Some(denied) = &shared.denied {
        return failed(StatusCode::FORBIDDEN, denied);
    }
    assert_eq!(method, Method::PATCH);
    let patch: Value = serde_json::from_slice(&body).unwrap();
    let mut object = shared.objects[&path].clone();
    let version = &patch["metadata"]["resourceVersion"];
    if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
        return failed(StatusCode::CONFLICT, "the object has been modified");
    }
    let before = object["spec"].clone();
    merge(&mut object, &patch);
    let is_dry = query.contains("dryRun=All");
    if is_dry && !shared.interferes {
        return found(Some(object));
    }
    shared.version += 1;
    object["metadata"]["resourceVersion"] = json!(shared.version.to_string());
    if is_dry {
        let mut other = shared.objects[&path].clone();
        other["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        shared.objects.insert(path, other);
        return found(Some(object));
    }
    // As the API server does where a field is removed.
    let probe = &mut object["spec"]["template"]["spec"]["containers"][0]["readinessProbe"];
    for (key, value) in [("periodSeconds", 10), ("failureThreshold", 3)] {
        if probe.is_object() && probe.get(key).is_none() {
            probe[key] = json!(value);
        }
    }
    if object["spec"] != before {
        let generation = object["metadata"]["generation"].as_u64().unwrap();
        object["metadata"]["generation"] = json!(generation + 1);
        shared.looks = 0;
    }
    shared.objects.insert(path, object.clone());
    found(Some(object))
}

fn failed(status: StatusCode, message: &str) -> Response {
    let body = json!({"kind": "Status", "code": status.as_u16(), "message": message});
    (status, body.to_string()).into_response()
}

/// A strategic merge patch, as far as it is needed here: lists of objects are merged by name.
fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in fields {
        match (value, &mut object[key]) {
            (Value::Null, _) => drop(object.as_object_mut().unwrap().remove(key)),
            (Value::Array(items), Value::Array(own)) if key == "containers" => {
                for item in items {
                    let mut own = own.iter_mut();
                    merge(own.find(|it| it["name"] == item["name"]).unwrap(), item);
                }
            }
            (value, own) => merge(own, value),
        }
    }
}

impl Shared {
    fn image(&self) -> String {
        let deployment = &self.objects[DEPLOYMENT];
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        container["image"].as_str().unwrap().to_owned()
    }

    /// The controller: sees a change at the first look, and has replaced the pods at the second, if they run.
    fn progress(&mut self) {
        let image = self.image();
        let fails = ["bad", "crash", "slow"]
            .iter()
            .any(|word| image.contains(word));
        let runs = self.healthy || !fails;
        let done = runs && self.looks > 1;
        let deployment = self.objects.get_mut(DEPLOYMENT).unwrap();
        let replicas = deployment["spec"]["replicas"].as_u64().unwrap();
        deployment["status"] = json!({
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": replicas + u64::from(!done),
            "updatedReplicas": if done { replicas } else { 1 },
            "availableReplicas": replicas,
        });
    }

    fn pod(&self) -> Value {
        let image = self.image();
        let (state, last, ready) = match &image {
            it if it.contains("bad") => {
                let waiting =
                    json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image"});
                (json!({ "waiting": waiting }), json!({}), false)
            }
            it if it.contains("crash") => {
                let waiting =
                    json!({"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"});
                let ended = json!({"exitCode": 1, "reason": "Error"});
                (
                    json!({ "waiting": waiting }),
                    json!({ "terminated": ended }),
                    false,
                )
            }
            it => (json!({"running": {}}), json!({}), !it.contains("slow")),
        };
        json!({
            "metadata": {"name": "coredns-new"},
            "spec": {"containers": [{"name": "coredns", "image": image}]},
            "status": {"containerStatuses": [{
                "name": "coredns", "ready": ready, "state": state, "lastState": last,
                "restartCount": u32::from(image.contains("crash")),
            }]},
        })
    }
}

#[test]
fn a_cluster_is_read_and_nothing_is_changed() {
    let cluster = Cluster::new(KUBEADM);
    let (code, stdout, stderr) = cluster.migrate("");
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    assert!(
        stdout.starts_with("From the cluster at 127.0.0.1:"),
        "{stdout}"
    );
    assert!(
        stdout.contains("Service kube-dns: 2 ports lead to 53"),
        "{stdout}"
    );
    assert!(cluster.writes().is_empty());
    let (code, _, stderr) = cluster.migrate("--deployment other");
    assert!(
        code == 1 && stderr.contains("no Deployment other"),
        "{stderr}"
    );
}

#[test]
fn apply_changes_the_deployment_by_one_patch_and_undo_restores_it() {
    let cluster = Cluster::new(K3S);
    let before = cluster.deployment();
    let others = cluster.shared.lock().objects.clone();
    let (code, stdout, stderr) = cluster.migrate(&format!("--apply --image {IMAGE}"));
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    assert!(
        stdout.ends_with(&format!("deployment/coredns runs image {IMAGE}\n")),
        "{stdout}"
    );
    let patch = format!("PATCH {DEPLOYMENT}?fieldManager=lodestone-migrate");
    assert_eq!(
        cluster.writes(),
        [format!("{patch}&dryRun=All"), patch.clone()]
    );
    let container = cluster.container();
    assert_eq!(container["image"], IMAGE);
    assert_eq!(container["readinessProbe"]["periodSeconds"], 1);
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/ready");
    assert_eq!(
        cluster.deployment()["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"],
        0
    );
    assert!(cluster.saved().is_some());

    // Again: done.
    let (code, stdout, _) = cluster.migrate(&format!("--apply --image {IMAGE}"));
    assert_eq!(code, 0, "{stdout}");
    assert!(
        stdout.ends_with(&format!("has image {IMAGE} already: done\n")),
        "{stdout}"
    );
    assert!(cluster.writes().is_empty());

    // A newer image keeps what was there before the first.
    let newer = "registry.example/lodestone:0.2.0";
    assert_eq!(cluster.migrate(&format!("--apply --image {newer}")).0, 0);
    assert_eq!(cluster.container()["image"], newer);

    let (code, stdout, stderr) = cluster.migrate("--undo");
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    assert!(
        stdout.contains("runs image rancher/mirrored-coredns-coredns:1.12.3 as before"),
        "{stdout}"
    );
    assert_eq!(cluster.deployment()["spec"], before["spec"]);
    assert_eq!(
        cluster.deployment()["metadata"]["annotations"],
        before["metadata"]["annotations"]
    );
    // Neither the ConfigMaps nor the Service.
    let mut now = cluster.shared.lock().objects.clone();
    now.insert(DEPLOYMENT.to_owned(), before);
    assert_eq!(now, others);
    cluster.writes();

    let (code, stdout, _) = cluster.migrate("--undo");
    assert!(
        code == 1 && stdout.contains("has no saved state"),
        "{stdout}"
    );
    assert!(cluster.writes().is_empty());
}

#[test]
fn a_rollout_that_fails_is_taken_back_with_its_reason() {
    for (image, timeout, reason) in [
        (
            "registry.example/bad:1",
            "1m",
            "pod coredns-new: ImagePullBackOff: Back-off pulling image",
        ),
        (
            "registry.example/crash:1",
            "1m",
            "CrashLoopBackOff: back-off 10s restarting; the container ended, Error with exit code 1",
        ),
        (
            "registry.example/slow:1",
            "3s",
            "not over after 3 s: pod coredns-new: it runs and is not ready",
        ),
    ] {
        let cluster = Cluster::new(KUBEADM);
        let before = cluster.deployment();
        let (code, stdout, _) =
            cluster.migrate(&format!("--apply --image {image} --timeout {timeout}"));
        assert_eq!(code, 1, "{stdout}");
        assert!(stdout.contains(reason), "{reason}\n{stdout}");
        assert_eq!(
            stdout.contains("error: the Corefile is wrong"),
            image.contains("crash"),
            "{stdout}"
        );
        assert!(
            stdout.contains(&format!("is as it was before, with image {OLD_IMAGE}")),
            "{stdout}"
        );
        assert_eq!(cluster.deployment()["spec"], before["spec"]);
        assert_eq!(cluster.saved(), None);
    }
}

#[test]
fn a_way_back_to_pods_that_do_not_run_is_ended_by_undo() {
    // Neither the new image nor the old one runs, as with a mistake that both refuse.
    let cluster = Cluster::new(&KUBEADM.replace(OLD_IMAGE, "registry.example/slow:1"));
    let line = "--apply --image registry.example/crash:1 --timeout 2s";
    let (code, stdout, _) = cluster.migrate(line);
    let end = "has image registry.example/slow:1 again, whose pods do not run: not over after 2 s";
    assert!(code == 1 && stdout.contains(end), "{stdout}");
    assert!(stdout.ends_with("end it with migrate --undo\n"), "{stdout}");
    assert_eq!(cluster.container()["image"], "registry.example/slow:1");
    assert!(cluster.saved().is_some());
    cluster.shared.lock().healthy = true;
    let (code, stdout, _) = cluster.migrate("--undo --timeout 30s");
    assert_eq!((code, cluster.saved()), (0, None), "{stdout}");
}

#[test]
fn a_failed_update_goes_back_to_the_image_before_it_and_can_still_be_undone() {
    let cluster = Cluster::new(KUBEADM);
    let before = cluster.deployment();
    assert_eq!(cluster.migrate(&format!("--apply --image {IMAGE}")).0, 0);
    let saved = cluster.saved();
    let line = "--apply --image registry.example/crash:2 --format json";
    let (code, stdout, stderr) = cluster.migrate(line);
    assert_eq!(code, 1, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["result"]["action"], "went-back");
    assert_eq!(
        report["result"]["log"],
        json!(["error: the Corefile is wrong"])
    );
    assert_eq!(
        (cluster.container()["image"].clone(), cluster.saved()),
        (json!(IMAGE), saved)
    );
    let (code, stdout, _) = cluster.migrate("--undo --format json");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["result"]["action"]), (0, &json!("undone")));
    assert_eq!(cluster.deployment()["spec"], before["spec"]);
}

#[test]
fn what_is_refused_is_not_applied() {
    // A Corefile that the server would not start with.
    let cluster =
        Cluster::new(&KUBEADM.replace("          errors\n", "          errors\n          cahce\n"));
    let (code, stdout, _) = cluster.migrate(&format!("--apply --image {IMAGE}"));
    assert!(code == 1 && stdout.contains("Corefile:3:5"), "{stdout}");
    assert!(
        stdout.ends_with("nothing is changed: something is refused\n"),
        "{stdout}"
    );
    assert!(cluster.writes().is_empty());

    // The API server refuses the dry run, or something changes the Deployment after it.
    let cluster = Cluster::new(KUBEADM);
    cluster.shared.lock().denied = Some("admission webhook denied the image".to_owned());
    let (code, stdout, _) = cluster.migrate(&format!("--apply --image {IMAGE}"));
    assert!(
        code == 1 && stdout.contains("admission webhook denied the image"),
        "{stdout}"
    );
    assert_eq!(
        (cluster.writes().len(), &cluster.container()["image"]),
        (1, &json!(OLD_IMAGE))
    );
    cluster.shared.lock().denied = None;
    cluster.shared.lock().interferes = true;
    let (code, stdout, _) = cluster.migrate(&format!("--apply --image {IMAGE}"));
    assert!(
        code == 1 && stdout.contains("another client changed the Deployment meanwhile"),
        "{stdout}"
    );
    assert_eq!(cluster.container()["image"], OLD_IMAGE);
}

#[test]
fn an_image_that_somebody_else_has_set_is_not_undone() {
    let cluster = Cluster::new(KUBEADM);
    assert_eq!(cluster.migrate(&format!("--apply --image {IMAGE}")).0, 0);
    cluster.writes();
    let set = |image: &str| {
        let mut shared = cluster.shared.lock();
        let deployment = shared.objects.get_mut(DEPLOYMENT).unwrap();
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    };
    set("registry.k8s.io/coredns/coredns:v1.13.0");
    let (code, stdout, _) = cluster.migrate("--undo");
    assert!(
        code == 1 && stdout.contains("another client has changed it since"),
        "{stdout}"
    );
    assert!(cluster.writes().is_empty());
    // Put in again: what is there now is what undo restores.
    assert_eq!(cluster.migrate(&format!("--apply --image {IMAGE}")).0, 0);
    assert_eq!(cluster.migrate("--undo").0, 0);
    assert_eq!(
        cluster.container()["image"],
        "registry.k8s.io/coredns/coredns:v1.13.0"
    );
    assert_eq!(cluster.container()["readinessProbe"]["periodSeconds"], 1);
}
