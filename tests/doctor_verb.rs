//! `lodestone doctor` in surroundings of this test: an API server, upstreams, ports and a resolv.conf.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod apiserver;
mod dns;

use std::{
    fs,
    io::Write,
    net::UdpSocket,
    process::{Command, Output, Stdio},
};

use apiserver::ApiServer;
use dns::{Asked, Server, record};
use lodestone::cluster::Kind;
use serde_json::{Value, json};

/// A resolv.conf as a node has it.
const NODE: &str = "nameserver 192.0.2.53\noptions edns0 trust-ad\n";

/// A Corefile with what a test adds to its only block; its port is free.
struct Surroundings {
    corefile: String,
    resolv_conf: String,
}

impl Surroundings {
    fn new(lines: &str) -> Self {
        Self {
            corefile: format!(".:{} {{\n    bind 127.0.0.1\n{lines}\n}}\n", free_port()),
            resolv_conf: NODE.to_owned(),
        }
    }

    fn run(&self, flags: &str) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let corefile = path("Corefile", &self.corefile);
        let resolv_conf = path("resolv.conf", &self.resolv_conf);
        let mut command = doctor();
        command.arg("-conf").arg(corefile);
        command.arg("--resolv-conf").arg(resolv_conf);
        command.args(flags.split_whitespace()).output().unwrap()
    }

    /// The findings, and whether there is nothing to do.
    fn findings(&self) -> (Vec<Value>, bool) {
        let output = self.run("--format json");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.stderr.is_empty(), "{stderr}");
        let findings = serde_json::from_slice(&output.stdout).unwrap();
        (findings, output.status.code() == Some(0))
    }

    /// The findings of one check.
    fn of(&self, check: &str) -> Vec<Value> {
        let (mut findings, _) = self.findings();
        findings.retain(|finding| finding["check"] == check);
        assert!(!findings.is_empty(), "no finding of {check}");
        findings
    }
}

fn doctor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lodestone"));
    // The tests may run in a pod.
    command.env_remove("KUBERNETES_SERVICE_HOST");
    command.env_remove("KUBERNETES_SERVICE_PORT");
    // Servers of other tests are none of its business.
    command.args(["doctor", "--socket", "off"]);
    command
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// Status and detail.
fn verdict(finding: &Value) -> (&str, &str) {
    let text = |key: &str| finding[key].as_str().unwrap();
    (text("status"), text("detail"))
}

fn remedy(finding: &Value) -> &str {
    finding["remedy"].as_str().unwrap()
}

fn empty(query: &[u8], _: bool) -> Vec<Vec<u8>> {
    vec![Asked::new(query).reply(0x8180, [&[], &[], &[]])]
}

fn servfail(query: &[u8], _: bool) -> Vec<Vec<u8>> {
    vec![Asked::new(query).reply(0x8182, [&[], &[], &[]])]
}

fn udp_only(query: &[u8], by_tcp: bool) -> Vec<Vec<u8>> {
    if by_tcp { vec![] } else { empty(query, by_tcp) }
}

fn tcp_only(query: &[u8], by_tcp: bool) -> Vec<Vec<u8>> {
    if by_tcp { empty(query, by_tcp) } else { vec![] }
}

/// Knows an address of every name, like the DNS of a cluster.
fn cluster(query: &[u8], _: bool) -> Vec<Vec<u8>> {
    let address = record(None, 1, 5, &[10, 96, 0, 1]);
    vec![Asked::new(query).reply(0x8580, [&[address], &[], &[]])]
}

/// Has the same address for every name, like a captive portal.
fn wildcard(query: &[u8], _: bool) -> Vec<Vec<u8>> {
    let address = record(None, 1, 5, &[192, 0, 2, 7]);
    vec![Asked::new(query).reply(0x8180, [&[address], &[], &[]])]
}

/// An API server with the Services of a cluster's DNS and of itself.
async fn api() -> ApiServer {
    let api = ApiServer::start().await;
    let service = |namespace: &str, name: &str, ip: &str, labels: Value| {
        json!({
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {"clusterIP": ip, "clusterIPs": [ip]},
        })
    };
    let own = json!({"component": "apiserver", "provider": "kubernetes"});
    let own = service("default", "kubernetes", "10.96.0.1", own);
    api.apply(Kind::Service, &own);
    api
}

fn kubernetes(api: &ApiServer, options: &str) -> String {
    format!(
        "    kubernetes cluster.local {{\n        endpoint {}\n{options}\n    }}",
        api.url()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_to_do_in_good_surroundings() {
    let (api, upstream) = (api().await, Server::start(empty));
    let good = Surroundings::new(&format!(
        "{}\n    forward . {}\n    cache\n    health 127.0.0.1:{}",
        kubernetes(&api, "        pods verified"),
        upstream.address,
        free_port()
    ));
    let (findings, is_well) = good.findings();
    assert!(is_well, "{findings:#?}");
    let shown = findings.iter().map(|finding| {
        let text = |key: &str| finding[key].as_str().unwrap();
        format!("{} {}", text("status"), text("check"))
    });
    let shown: Vec<String> = shown.collect();
    assert_eq!(
        shown,
        [
            "ok corefile",
            "ok start",
            "ok api",
            "ok rbac",
            "ok rbac",
            "ok rbac",
            "ok rbac",
            "skipped server",
            "ok upstream",
            "ok loop",
            "ok port",
            "ok port",
            "skipped cluster-dns",
            "ok memory",
            "ok resolv.conf",
        ],
        "{findings:#?}"
    );
    assert!(findings.iter().all(|finding| finding["remedy"].is_null()));
    assert_eq!(verdict(&findings[1]).1, "3 plugins can be built");
    let (_, detail) = verdict(&findings[2]);
    assert!(
        detail.starts_with("Kubernetes v1.36.0 answers in "),
        "{detail}"
    );
    let output = good.run("");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("\n13 ok, 0 to do, 2 skipped\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_named_with_the_rule_to_add() {
    let api = api().await;
    api.deny("watch", Kind::EndpointSlice);
    api.deny("list", Kind::Pod);
    api.deny("watch", Kind::Pod);
    let bad = Surroundings::new(&kubernetes(&api, "        pods verified"));
    let (findings, is_well) = bad.findings();
    assert!(!is_well);
    let rbac: Vec<&Value> = findings.iter().filter(|it| it["check"] == "rbac").collect();
    let verdicts: Vec<_> = rbac.iter().map(|finding| verdict(finding)).collect();
    assert_eq!(
        verdicts,
        [
            ("ok", "may be listed and watched"),
            ("ok", "may be listed and watched"),
            ("fail", "missing: watch"),
            ("fail", "missing: list, watch"),
        ]
    );
    let rule = remedy(rbac[2]);
    for part in [
        "- apiGroups: [\"\"]\n  resources: [\"pods\"]\n  verbs: [\"list\", \"watch\"]",
        "- apiGroups: [\"discovery.k8s.io\"]\n  resources: [\"endpointslices\"]",
    ] {
        assert!(rule.contains(part), "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_down_is_one_finding() {
    let down = Surroundings::new(&format!(
        "    kubernetes cluster.local {{\n        endpoint http://127.0.0.1:{}\n    }}",
        free_port()
    ));
    let (status, detail) = (down.of("api"), down.of("rbac"));
    assert_eq!(verdict(&status[0]).0, "fail");
    assert!(
        verdict(&status[0]).1.contains("it refuses the connection"),
        "{status:?}"
    );
    assert_eq!(verdict(&detail[0]).0, "skipped");
}

#[test]
fn upstreams_are_queried_over_udp_and_tcp() {
    let closed = free_port();
    for (answer, status, detail, to_do) in [
        (
            servfail as dns::Answer,
            "warn",
            "UDP SERVFAIL in ",
            "cannot resolve",
        ),
        (udp_only, "warn", "TCP connection closed", "Permit TCP"),
        (tcp_only, "fail", "UDP no reply in 3 s, TCP ", "force_tcp"),
    ] {
        let server = Server::start(answer);
        let found = Surroundings::new(&format!("    forward . {}", server.address));
        let found = found.of("upstream");
        assert_eq!(
            found[0]["subject"],
            format!("{} (forward .)", server.address)
        );
        assert_eq!(verdict(&found[0]).0, status, "{found:?}");
        assert!(verdict(&found[0]).1.contains(detail), "{found:?}");
        assert!(remedy(&found[0]).contains(to_do), "{found:?}");
    }
    let dead = Surroundings::new(&format!("    forward example.org 127.0.0.1:{closed}"));
    let found = dead.of("upstream");
    let refused = "UDP connection refused, TCP connection refused";
    assert_eq!(verdict(&found[0]), ("fail", refused));
    let found = Surroundings::new("    forward . /nowhere/resolv.conf").of("upstream");
    assert_eq!(verdict(&found[0]).0, "fail", "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_that_lead_back_are_found() {
    let (api, back) = (api().await, Server::start(cluster));
    let looping = Surroundings::new(&format!(
        "{}\n    forward . {}",
        kubernetes(&api, ""),
        back.address
    ));
    let found = looping.of("loop");
    assert_eq!(verdict(&found[0]).0, "fail");
    assert!(
        verdict(&found[0])
            .1
            .contains("kubernetes.default.svc.cluster.local."),
        "{found:?}"
    );

    let wildcard = Server::start(wildcard);
    for kubernetes in [
        kubernetes(&api, ""),
        // Nothing is known of this cluster.
        "    kubernetes cluster.local {\n        endpoint http://127.0.0.1:9\n    }".to_owned(),
    ] {
        let text = format!("{kubernetes}\n    forward . {}", wildcard.address);
        let found = Surroundings::new(&text).of("loop");
        assert_eq!(verdict(&found[0]).0, "ok", "{found:?}");
    }

    let port = free_port();
    let mut own = Surroundings::new("");
    own.corefile =
        format!(".:{port} {{\n    rewrite name a b\n    forward . 127.0.0.1:{port}\n}}\n");
    let found = own.of("loop");
    assert_eq!(
        verdict(&found[0]),
        ("fail", "it is an address of this server")
    );
}

#[test]
fn ports_are_free_served_or_taken() {
    let answering = Server::start(servfail);
    let mute_socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mute = mute_socket.local_addr().unwrap().port();
    let mut ports = Surroundings::new("");
    let (served, free) = (answering.address.port(), free_port());
    ports.corefile = format!(
        "a.example:{free} b.example:{served} c.example:{mute} {{\n    bind 127.0.0.1\n    whoami\n}}\n"
    );
    let found = ports.of("port");
    let of = |port: u16| {
        let subject = format!("dns 127.0.0.1:{port}");
        let mut all = found.iter();
        verdict(all.find(|it| it["subject"] == subject).unwrap())
    };
    assert_eq!(of(free), ("ok", "free; no server is running here"));
    assert!(matches!(of(served), ("ok", detail) if detail.starts_with("served: UDP SERVFAIL in ")));
    assert!(matches!(of(mute), ("fail", detail) if detail.starts_with("taken: UDP no reply")));
    drop(mute_socket);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dns_address_of_the_cluster_is_queried() {
    let api = api().await;
    // No DNS server listens on port 53 there.
    let dns = json!({
        "metadata": {"namespace": "kube-system", "name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": "127.0.0.94", "clusterIPs": ["127.0.0.94"]},
    });
    api.apply(Kind::Service, &dns);
    let found = Surroundings::new(&kubernetes(&api, "")).of("cluster-dns");
    assert_eq!(found[0]["subject"], "127.0.0.94 (kube-system/kube-dns)");
    assert_eq!(verdict(&found[0]).0, "fail", "{found:?}");
}

#[test]
fn the_resolv_conf_of_a_pod_is_checked() {
    let mut pod = Surroundings::new("    whoami");
    for (text, expected) in [
        (
            "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
            &[][..],
        ),
        (
            "search default.svc.cluster.local cluster.local\noptions ndots:5\n",
            &["the search list lacks svc.cluster.local."],
        ),
        (
            "search default.svc.cluster.local svc.cluster.local cluster.local\n",
            &["ndots is 1"],
        ),
        (
            "search svc.cluster.local\noptions ndots:9\n",
            &[
                "the search list does not begin with NAMESPACE.svc.cluster.local.",
                "the search list lacks cluster.local.",
                "ndots is 9",
            ],
        ),
        (
            "search cluster.local svc.cluster.local shop.svc.cluster.local\noptions ndots:5\n",
            &["the search list does not begin with shop.svc.cluster.local."],
        ),
        (
            "nameserver 192.0.2.1\nsearch default.svc.cluster.local svc.cluster.local cluster.local\n\
             options ndots:5\n",
            &["it lists 2 nameservers"],
        ),
        (
            "nameserver 2001:db8::53\nsearch default.svc.cluster.local svc.cluster.local \
             cluster.local\noptions ndots:5\n",
            &[],
        ),
        (
            "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:five\n",
            &["ndots is \"five\", which is no number"],
        ),
        ("options ndots:\n", &["ndots is \"\", which is no number"]),
        ("nameserver ten\n", &["nameserver \"ten\" is no address"]),
        (
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n",
            &["it lists 4 nameservers"],
        ),
    ] {
        pod.resolv_conf = format!("nameserver 192.0.2.53\n{text}");
        let found = pod.of("resolv.conf");
        let problems = found.iter().filter(|it| it["status"] == "warn");
        let problems: Vec<&str> = problems.map(|it| verdict(it).1).collect();
        assert_eq!(problems, expected, "{text}");
    }
    pod.resolv_conf = NODE.to_owned();
    let found = pod.of("resolv.conf");
    assert_eq!(
        verdict(&found[0]),
        ("ok", "no pod's; musl ignores the options edns0 trust-ad")
    );
    pod.resolv_conf = String::new();
    assert_eq!(
        verdict(&pod.of("resolv.conf")[0]),
        ("warn", "it lists no nameserver")
    );
}

#[test]
fn the_search_list_that_a_pod_should_have_is_named() {
    let mut pod = Surroundings::new("    whoami");
    pod.resolv_conf =
        "nameserver 192.0.2.53\nsearch shop.svc.cluster.local\noptions ndots:5\n".to_owned();
    let found = pod.of("resolv.conf");
    let wanted = "It should be: search shop.svc.cluster.local. svc.cluster.local. cluster.local.";
    assert!(remedy(&found[0]).ends_with(wanted), "{found:?}");
}

#[test]
fn a_missing_resolv_conf_fails() {
    let output = doctor()
        .args(["-conf", "/dev/null", "--resolv-conf", "/none/resolv.conf"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let wanted = "FAIL    resolv.conf /none/resolv.conf: it does not exist\n        -> ";
    assert!(text.contains(wanted), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_a_start_would_refuse_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    fs::write(folder.path().join("a.yaml"), "kind: Service\nspec: [\n").unwrap();
    for (lines, status, detail) in [
        (
            format!("    tls {path}/cert.pem {path}/key.pem\n    whoami"),
            "fail",
            "cert.pem",
        ),
        (
            "    kubernetes cluster.local".to_owned(),
            "fail",
            "KUBERNETES_SERVICE_HOST",
        ),
        (
            format!("    kubernetes cluster.local {{\n        manifests {path}/none\n    }}"),
            "fail",
            "/none",
        ),
        (
            format!("    kubernetes cluster.local {{\n        manifests {path}\n    }}"),
            "warn",
            "a.yaml line ",
        ),
        (
            format!("    forward . {path}/resolv.conf"),
            "fail",
            "/resolv.conf",
        ),
        (format!("    hosts {path}/hosts"), "warn", "/hosts"),
    ] {
        let found = Surroundings::new(&lines).of("start");
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        assert_eq!(verdict(&found[0]).0, status, "{lines}: {found:?}");
        assert!(verdict(&found[0]).1.contains(detail), "{lines}: {found:?}");
        assert!(!remedy(&found[0]).is_empty(), "{found:?}");
        let subject = found[0]["subject"].as_str().unwrap();
        assert!(subject.contains("Corefile:"), "{subject}");
    }
    let mut interface = Surroundings::new("");
    interface.corefile = format!(
        ".:{} {{\n    bind no-such-if\n    whoami\n}}\n",
        free_port()
    );
    let found = interface.of("corefile");
    assert_eq!(verdict(&found[0]).0, "fail", "{found:?}");
    assert!(verdict(&found[0]).1.contains("no-such-if"), "{found:?}");
}

#[test]
fn without_a_cluster_checks_are_skipped_with_a_reason() {
    let (findings, is_well) = Surroundings::new("    whoami").findings();
    assert!(is_well, "{findings:#?}");
    for (check, reason) in [
        ("api", "no kubernetes block in the Corefile"),
        ("rbac", "no kubernetes block in the Corefile"),
        ("upstream", "no forward line in the Corefile"),
        ("loop", "no upstreams"),
        ("cluster-dns", "no kubernetes block in the Corefile"),
    ] {
        let found = findings.iter().find(|it| it["check"] == check).unwrap();
        assert_eq!(verdict(found), ("skipped", reason));
    }
    let folder = tempfile::tempdir().unwrap();
    let lines = format!(
        "    kubernetes cluster.local {{\n        manifests {}\n    }}",
        folder.path().display()
    );
    let found = Surroundings::new(&lines).of("api");
    assert_eq!(verdict(&found[0]).0, "skipped");
    let found = Surroundings::new("    kubernetes cluster.local").of("api");
    assert_eq!(verdict(&found[0]).0, "skipped");
    assert!(
        verdict(&found[0]).1.contains("this is no pod of a cluster"),
        "{found:?}"
    );
}

#[test]
fn an_unreadable_corefile_is_a_finding_and_the_rest_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str, input: &str| {
        let mut child = doctor()
            .args(line.split_whitespace())
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, text) = run("-conf nowhere", "");
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.starts_with("FAIL    corefile nowhere: cannot read"),
        "{text}"
    );
    assert!(text.contains("\n        -> Name the file"), "{text}");
    assert!(text.contains(" resolv.conf /etc/resolv.conf: "), "{text}");
    let (code, text) = run("-conf -", ".:0 {\n    cahce\n}\n");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("Unknown directive 'cahce'"), "{text}");
    let (code, _) = run("--fromat json", "");
    assert_eq!(code, Some(2));
}

#[test]
fn checks_are_documented() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctor.md");
    let page = fs::read_to_string(page).unwrap();
    let (findings, _) = Surroundings::new("    whoami").findings();
    for finding in findings {
        let check = finding["check"].as_str().unwrap();
        assert!(page.contains(&format!("| `{check}` |")), "{check}");
    }
}

/// `doctor` in a pod of an application, with this resolv.conf, in the namespace `shop`.
fn in_an_application(resolv_conf: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    fs::write(&path, resolv_conf).unwrap();
    let mut command = doctor();
    command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    command
        .args(["--namespace", "shop", "--resolv-conf"])
        .arg(path);
    let output = command.current_dir(folder.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn in_a_pod_of_an_application_its_resolver_is_checked() {
    if std::path::Path::new("/etc/coredns/Corefile").exists() {
        eprintln!("skipped: this machine has a Corefile where a pod has it");
        return;
    }
    let closed = "nameserver 127.0.0.53\n";
    let good = "search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
    let text = in_an_application(&format!("{closed}{good}"));
    assert!(
        text.starts_with("skipped corefile: this pod has none"),
        "{text}"
    );
    assert!(!text.contains("the Corefile cannot be read"), "{text}");
    assert!(text.contains("FAIL    cluster-dns 127.0.0.53"), "{text}");
    assert!(text.contains("ok      resolv.conf"), "{text}");
    for (search, wanted) in [
        (
            "search default.svc.cluster.local svc.cluster.local cluster.local",
            "the search list does not begin with shop.svc.cluster.local.",
        ),
        (
            "search svc.cluster.local cluster.local",
            "the search list does not begin with shop.svc.cluster.local.",
        ),
        (
            "search shop.svc.cluster.local cluster.local",
            "the search list lacks svc.cluster.local.",
        ),
        // dnsPolicy Default
        ("search example.com", "the search list lacks cluster.local."),
    ] {
        let text = in_an_application(&format!("{closed}{search}\noptions ndots:5\n"));
        assert!(text.contains(wanted), "{search}: {text}");
        let remedy =
            "It should be: search shop.svc.cluster.local. svc.cluster.local. cluster.local.";
        assert!(text.contains(remedy), "{search}: {text}");
    }
    let text = in_an_application(&format!("{closed}{}", good.replace(":5", ":1")));
    assert!(text.contains("ndots is 1"), "{text}");
}

#[test]
fn a_port_of_a_server_with_dead_upstreams_is_not_taken() {
    // It answers nothing but questions about itself.
    fn itself(query: &[u8], _: bool) -> Vec<Vec<u8>> {
        let is_own = query.windows(9).any(|it| it == b"lodestone");
        if is_own { empty(query, false) } else { vec![] }
    }
    let server = Server::start(itself);
    let mut surroundings = Surroundings::new("");
    let port = server.address.port();
    surroundings.corefile = format!("a.example:{port} {{\n    bind 127.0.0.1\n    whoami\n}}\n");
    let found = surroundings.of("port");
    assert_eq!(verdict(&found[0]).0, "ok", "{found:?}");
}

#[test]
fn the_first_mistake_of_a_corefile_has_its_position_and_its_help() {
    let wrong = Surroundings::new("    kubernetes cluster.local {\n        ttll 5\n    }");
    let found = wrong.of("corefile");
    let (status, detail) = verdict(&found[0]);
    assert_eq!(status, "fail");
    assert!(detail.contains(":4:9: unknown property 'ttll'"), "{detail}");
    assert!(detail.ends_with("did you mean 'ttl'?"), "{detail}");
}
