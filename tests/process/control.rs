//! The control socket of a running server, by the subcommands that use it, and the page's address.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
};

use hickory_proto::rr::RecordType;

use crate::server::{Server, program};

const MANIFESTS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: pay}
---
apiVersion: v1
kind: Namespace
metadata: {name: idle}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.9, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: bank, namespace: pay}
spec: {clusterIP: 10.96.0.8, ports: [{name: http, port: 80}]}
";

/// A server of two Services with a control socket in its directory.
struct World {
    server: Server,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let manifests = directory.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        std::fs::write(manifests.join("all.yaml"), MANIFESTS).unwrap();
        let corefile = format!(
            ".:0 {{\n bind 127.0.0.1\n kubernetes cluster.local {{\n  manifests {}\n }}\n}}\n",
            manifests.display()
        );
        let socket = directory.path().join("socket");
        let server = Server::start_with(&["-control", socket.to_str().unwrap()], &corefile);
        Self { server, directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).arg("--socket").arg(self.socket());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Sends queries until the command ends: it observes from some time after its start on.
    fn run_with_queries(&self, arguments: &[&str], names: &[&str]) -> (String, Option<i32>) {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let read = thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            text
        });
        while !read.is_finished() {
            for name in names {
                self.server.ask(name, RecordType::A);
            }
        }
        (read.join().unwrap(), child.wait().unwrap().code())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn records_are_listed_as_a_zone_and_as_json() {
    let world = World::new();
    let all = world.run(&["records"]);
    let all = text(&all.stdout);
    assert!(
        all.contains("cluster.local.\t5\tIN\tSOA\tns.dns.cluster.local."),
        "{all}"
    );
    assert!(
        all.contains("web.shop.svc.cluster.local.\t5\tIN\tA\t10.96.0.9\n"),
        "{all}"
    );
    assert!(
        all.contains("bank.pay.svc.cluster.local.\t5\tIN\tA\t10.96.0.8\n"),
        "{all}"
    );
    assert_eq!(all.matches("SOA").count(), 1, "{all}");

    let of_shop = world.run(&["records", "-n", "shop", "--format", "json"]);
    let of_shop = text(&of_shop.stdout);
    let wanted = r#"{"name":"web.shop.svc.cluster.local.","ttl":5,"type":"A","data":"10.96.0.9"}"#;
    assert!(of_shop.lines().any(|line| line == wanted), "{of_shop}");
    assert!(!of_shop.contains("pay"), "{of_shop}");

    for (namespace, why) in [
        (
            "nowhere",
            "no record in namespace nowhere: it is not served\n",
        ),
        (
            "shpo",
            "no record in namespace shpo: it is not served; did you mean shop?\n",
        ),
        ("idle", "no record in namespace idle\n"),
    ] {
        let none = world.run(&["records", "-n", namespace]);
        let printed = (text(&none.stdout), text(&none.stderr));
        assert_eq!(printed, (String::new(), why.to_owned()));
        assert_eq!(none.status.code(), Some(1));
    }
}

#[test]
fn tail_shows_answers_and_reasons_and_ends_by_itself() {
    let world = World::new();
    let names = ["web.shop.svc.cluster.local.", "wep.shop.svc.cluster.local."];
    let (all, code) = world.run_with_queries(&["tail", "--for", "2s"], &names);
    assert_eq!(code, Some(0));
    let answer = "A web.shop.svc.cluster.local.  NOERROR  ";
    let found = all.lines().find(|line| line.contains(answer));
    assert!(
        found.is_some_and(|line| line.ends_with(" us  10.96.0.9")),
        "{all}"
    );
    let mistake = "A wep.shop.svc.cluster.local.  NXDOMAIN  ";
    let found = all.lines().find(|line| line.contains(mistake));
    let reason = "service \"wep\" not found in namespace \"shop\"; nearest: \"web\"";
    assert!(found.is_some_and(|line| line.ends_with(reason)), "{all}");

    let filtered = [
        "tail", "--for", "2s", "--rcode", "nxdomain", "--format", "json",
    ];
    let (filtered, code) = world.run_with_queries(&filtered, &names);
    assert_eq!(code, Some(0));
    for line in filtered.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line.get("missed").is_some() {
            continue;
        }
        assert_eq!(line["name"], "wep.shop.svc.cluster.local.");
        assert_eq!(line["reason"], "no-such-service");
        assert_eq!(line["client"], "127.0.0.1");
    }
    let none = world.run(&["tail", "--for", "10ms"]);
    assert_eq!(
        (text(&none.stdout), none.status.code()),
        (String::new(), Some(1))
    );
}

#[test]
fn tail_ends_when_its_reader_does() {
    let world = World::new();
    let mut command = world.command(&["tail", "--for", "1h"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let read = thread::spawn(move || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line // and the pipe is closed
    });
    while !read.is_finished() || child.try_wait().unwrap().is_none() {
        world
            .server
            .ask("web.shop.svc.cluster.local.", RecordType::A);
    }
    assert!(read.join().unwrap().contains("web.shop"));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn top_counts_names_clients_and_what_search_lists_waste() {
    let world = World::new();
    let names = [
        "web.shop.svc.cluster.local.",
        "example.com.shop.svc.cluster.local.",
        "example.com.svc.cluster.local.",
    ];
    let arguments = ["top", "--for", "2s", "--format", "json"];
    let (top, code) = world.run_with_queries(&arguments, &names);
    assert_eq!(code, Some(0));
    let top: serde_json::Value = serde_json::from_str(&top).unwrap();
    let keys = |list: &str| -> Vec<String> {
        let list = top[list].as_array().unwrap().iter();
        let mut keys: Vec<_> = list
            .map(|it| it["key"].as_str().unwrap().to_owned())
            .collect();
        keys.sort();
        keys
    };
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(keys("names"), sorted);
    assert_eq!(keys("clients"), ["127.0.0.1"]);
    assert_eq!(
        keys("nxdomain"),
        ["shop.svc.cluster.local.", "svc.cluster.local."]
    );
    assert_eq!(keys("wasted"), ["example.com."]);
    assert!(top["wasted"][0]["count"].as_u64().unwrap() > 1, "{top}");

    let (shown, _) = world.run_with_queries(&["top", "--for", "1s", "--limit", "1"], &names);
    assert!(shown.contains("queries in 1.0 s"), "{shown}");
    assert_eq!(shown.matches("cluster.local.").count(), 2, "{shown}");
}

#[test]
fn explain_asks_the_running_server() {
    let world = World::new();
    let found = world.run(&["explain", "web", "--from", "shop"]);
    let found = text(&found.stdout);
    assert!(
        found.contains("object: Service shop/web, cluster address 10.96.0.9"),
        "{found}"
    );
    let label = format!("of dns://{}", world.server.address);
    // The Corefile has port 0.
    let label = label.replace(&format!(":{}", world.server.address.port()), ":0");
    assert!(found.contains(&label), "{found}");
    let missing = world.run(&["explain", "web", "--from", "pay", "--format", "json"]);
    assert_eq!(missing.status.code(), Some(1));
    let missing: serde_json::Value = serde_json::from_slice(&missing.stdout).unwrap();
    assert_eq!(missing["queries"][0]["reason"]["name"], "no-such-service");
    let wrong = world.run(&["explain", "web", "--type", "AX"]);
    let wrong = text(&wrong.stderr);
    assert!(wrong.contains("'AX' is no record type"), "{wrong}");
}

#[test]
fn doctor_says_whether_the_running_server_is_synced_and_serves_its_corefile() {
    let world = World::new();
    let of_server = |directory: &std::path::Path| {
        let mut command = world.command(&["doctor"]);
        let output = command.current_dir(directory).output().unwrap();
        let found = text(&output.stdout);
        let lines = found
            .lines()
            .filter(|line| line.contains(" server process"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let line = of_server(world.server.directory());
    assert!(line.starts_with("ok      server process"), "{line}");
    assert!(line.ends_with("synced, 2 services"), "{line}");
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("Corefile"), ".:0 {\n whoami\n}\n").unwrap();
    let line = of_server(other.path());
    let wanted = "serves another configuration than this Corefile";
    assert!(
        line.starts_with("warn    server") && line.ends_with(wanted),
        "{line}"
    );
}

#[test]
fn explain_queries_another_server_from_outside() {
    let world = World::new();
    let server = world.server.address.to_string();
    let arguments = ["explain", "wep", "--from", "shop", "--server", &server];
    let output = program().args(arguments).output().unwrap();
    let found = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{found}");
    assert!(found.contains("1. wep.shop.svc.cluster.local."), "{found}");
    assert!(
        found.contains("receives NXDOMAIN, 0 records, authoritative"),
        "{found}"
    );
    assert!(found.contains("nearest: \"web\""), "{found}");
    // Without a namespace, the search list is that of the resolver's file.
    let file = world.directory.path().join("resolv.conf");
    std::fs::write(&file, "search svc.cluster.local\noptions ndots:2\n").unwrap();
    let mut command = program();
    command.args(["explain", "web.shop", "--server", &server, "--resolv-conf"]);
    let found = text(&command.arg(&file).output().unwrap().stdout);
    let head = "web.shop A, with the search list svc.cluster.local. (ndots 2)\n";
    assert!(found.starts_with(head), "{found}");
    assert!(
        found.contains("Answer: web.shop.svc.cluster.local. (query 1)"),
        "{found}"
    );
    let wrong = program()
        .args(["explain", "web", "--server", "kube-dns"])
        .output();
    let wrong = text(&wrong.unwrap().stderr);
    assert!(wrong.contains("'kube-dns' is no address"), "{wrong}");
}

#[test]
fn wrong_requests_say_what_is_wrong() {
    let world = World::new();
    for (arguments, wanted) in [
        (
            &["tail", "--rcode", "NXDOMIAN"][..],
            "'NXDOMIAN' is no response code; did you mean NXDOMAIN?",
        ),
        (
            &["tail", "--for", "60"],
            "'for': time: missing unit in duration \"60\"; use a duration such as 90s or 5m",
        ),
        (
            &["tail", "--client", "10.0"],
            "'10.0' is no address or network",
        ),
        (&["top", "--for", "0s"], "'for' is from 1ms to 1h"),
    ] {
        let output = world.run(arguments);
        let error = text(&output.stderr);
        assert!(
            error.starts_with("error: ") && error.contains(wanted),
            "{error}"
        );
        assert_eq!(output.status.code(), Some(2), "{error}");
    }
}

#[test]
fn an_unsynced_server_lists_nothing_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let corefile = ".:0 {\n bind 127.0.0.1\n kubernetes cluster.local {\n  endpoint http://127.0.0.1:9\n  \
                    startup_timeout 0s\n }\n}\n";
    let _server = Server::start_with(&["-control", socket.to_str().unwrap()], corefile);
    let output = program()
        .args(["records", "--socket"])
        .arg(&socket)
        .output();
    let output = output.unwrap();
    let error = text(&output.stderr);
    assert!(
        error.contains("not synced: namespaces, services"),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(2));
    let doctor = program().args(["doctor", "--socket"]).arg(&socket).output();
    let found = text(&doctor.unwrap().stdout);
    let wanted = "not synced: no list yet of namespaces, services, endpointslices";
    let mut lines = found.lines();
    let line = lines.find(|line| line.starts_with("FAIL    server process"));
    assert!(line.is_some_and(|line| line.ends_with(wanted)), "{found}");
}

#[test]
fn a_socket_in_use_prevents_the_start_and_an_abstract_name_needs_no_file() {
    let world = World::new();
    let socket = world.socket();
    let socket = socket.to_str().unwrap();
    let corefile = world.directory.path().join("Corefile");
    std::fs::write(&corefile, ".:0 {\n bind 127.0.0.1\n whoami\n}\n").unwrap();
    let second = program()
        .args(["-control", socket, "-conf"])
        .arg(&corefile)
        .output()
        .unwrap();
    let error = text(&second.stderr) + &text(&second.stdout);
    assert!(
        error.contains("cannot listen at the control socket"),
        "{error}"
    );
    assert_eq!(second.status.code(), Some(1), "{error}");
    // The first server still has it.
    assert!(world.run(&["records"]).status.success());

    let name = format!("@lodestone-test-{}", std::process::id());
    let _other = Server::start_with(&["-control", &name], ".:0 {\n bind 127.0.0.1\n whoami\n}\n");
    let output = program()
        .args(["top", "--for", "1ms", "--socket", &name])
        .output();
    assert_eq!(output.unwrap().status.code(), Some(1));
    let output = program()
        .args(["top", "--socket", "/none"])
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert!(
        error.contains("cannot connect to the server at /none"),
        "{error}"
    );
}

#[test]
fn only_the_same_user_may_ask() {
    let name = format!("@lodestone-test-user-{}", std::process::id());
    let _server = Server::start_with(&["-control", &name], ".:0 {\n bind 127.0.0.1\n whoami\n}\n");
    let mut other = Command::new("setpriv");
    other.args([
        "--reuid=12345",
        "--clear-groups",
        "curl",
        "-sS",
        "--abstract-unix-socket",
    ]);
    let output = other
        .args([&name[1..], "http://localhost/api/status"])
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: setpriv is not installed");
        return;
    };
    let error = text(&output.stderr);
    if error.contains("setpriv: ") {
        eprintln!("skipped: this needs root and curl: {error}");
        return;
    }
    assert_eq!(text(&output.stdout), "");
    assert!(!output.status.success());
    let same = Command::new("curl")
        .args([
            "-sS",
            "--abstract-unix-socket",
            &name[1..],
            "http://localhost/api/status",
        ])
        .output()
        .unwrap();
    assert!(text(&same.stdout).contains("\"version\""));
}

#[test]
fn the_page_is_served_where_it_is_asked_for_and_to_no_other_site() {
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let arguments = ["-control", "off", "-page", &address.to_string()];
    let _server = Server::start_with(&arguments, ".:0 {\n bind 127.0.0.1\n whoami\n}\n");
    let get = |path: &str, host: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let page = get("/", "localhost");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(
        page.contains("content-security-policy: default-src 'none'"),
        "{page}"
    );
    assert!(page.contains("<!doctype html>"), "{page}");
    let status = get("/api/status", "localhost:1");
    assert!(status.contains("\"cluster\":null"), "{status}");
    assert!(get("/api/status", "evil.example").starts_with("HTTP/1.1 421"));
    assert!(get("/api/tail?oops=1", "localhost").contains("unknown field `oops`"));
    let wrong = program().args(["-page", "8053"]).output().unwrap();
    let wrong = text(&wrong.stderr);
    assert!(wrong.contains("such as localhost:8053"), "{wrong}");
}
