//! Stub resolvers of programs in pods (glibc, busybox, dig, Go, Node), with a pod's `resolv.conf`.
//!
//! The test runs in its own network and mount namespace, where port 53 is free and `resolv.conf` can be
//! replaced by a bind mount. If that is not permitted, or a program is missing, the test prints what was
//! skipped and passes. Run with `--nocapture` to read it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// Set for the second run of the test, inside the namespace.
const INSIDE: &str = "LODESTONE_TEST_NAMESPACE";

const RESOLV_CONF: &str = "\
nameserver 127.0.0.1
search shop.svc.cluster.local svc.cluster.local cluster.local
options ndots:5
";

const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: payroll}
---
apiVersion: v1
kind: Service
metadata: {name: four, namespace: shop}
spec: {clusterIP: 10.96.0.4, clusterIPs: [10.96.0.4], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: dual, namespace: shop}
spec: {clusterIP: 10.96.0.6, clusterIPs: [10.96.0.6, 'fd00:96::6'], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: wages, namespace: payroll}
spec: {clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: partner, namespace: shop}
spec: {type: ExternalName, externalName: outside.example.net}
";

/// The cluster DNS server.
const COREFILE: &str = ".:53 {
    bind 127.0.0.1
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests cluster
        fallthrough in-addr.arpa ip6.arpa
    }
    forward . 127.0.0.2
    cache 30
}
";

/// Its upstream.
const UPSTREAM: &str = ".:53 {
    bind 127.0.0.2
    hosts {
        192.0.2.80 outside.example.net
        2001:db8::80 outside.example.net
    }
}
";

/// Resolves each argument and prints its addresses in one line.
const GO: &str = r#"package main

import ("fmt"; "net"; "os"; "sort"; "strings")

func main() {
    for _, name := range os.Args[1:] {
        found, err := net.LookupHost(name)
        if err != nil {
            fmt.Println(name, "failed:", err)
            continue
        }
        sort.Strings(found)
        fmt.Println(name, strings.Join(found, " "))
    }
}
"#;

const NODE: &str = r#"
const dns = require("dns").promises;
const shown = async (what, asked) => {
    try { console.log(what, [].concat(await asked).map(it => it.address || it.name || it).sort().join(" ")); }
    catch (error) { console.log(what, error.code); }
};
(async () => {
    for (const name of ["four", "dual", "wages.payroll", "partner", "outside.example.net", "none.cluster.local."])
        await shown(name, dns.lookup(name, {all: true}));
    await shown("A", dns.resolve4("dual.shop.svc.cluster.local"));
    await shown("AAAA", dns.resolve6("dual.shop.svc.cluster.local"));
    await shown("AAAA of four", dns.resolve6("four.shop.svc.cluster.local"));
    await shown("SRV", dns.resolveSrv("_http._tcp.four.shop.svc.cluster.local"));
    await shown("PTR", dns.reverse("10.96.0.4"));
})();
"#;

#[test]
fn every_stub_resolver_resolves_every_name() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let namespace = ["--user", "--map-root-user", "--net", "--mount"];
    // Checks that the required namespaces are permitted.
    let trial = "ip link set lo up && mount --bind /dev/null /etc/resolv.conf";
    let trial = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", trial])
        .output();
    match trial {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return println!("skipped: no namespace of one's own here: {}", why.trim());
        }
        Err(error) => return println!("skipped: unshare: {error}"),
    }
    let directory = tempfile::tempdir().unwrap();
    build_go(directory.path());
    let mut again = Command::new("unshare");
    again.args(namespace).arg(std::env::current_exe().unwrap());
    again.args([
        "--exact",
        "every_stub_resolver_resolves_every_name",
        "--nocapture",
    ]);
    let output = again
        .env(INSIDE, "1")
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Builds the Go program outside of the namespace, which hides files that the build needs.
fn build_go(directory: &Path) {
    std::fs::write(directory.join("lookup.go"), GO).unwrap();
    let build = Command::new("go")
        .args(["build", "-o", "lookup", "lookup.go"])
        .env("CGO_ENABLED", "0")
        .current_dir(directory)
        .output();
    match build {
        Ok(output) if output.status.success() => {}
        Ok(output) => println!("no Go: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => println!("no Go: {error}"),
    }
}

fn inside() {
    std::fs::write("resolv.conf", RESOLV_CONF).unwrap();
    assert!(shell("ip link set lo up && mount --bind resolv.conf /etc/resolv.conf").is_some());
    std::fs::create_dir("cluster").unwrap();
    std::fs::write("cluster/objects.yaml", CLUSTER).unwrap();
    let _upstream = Server::start("Corefile.upstream", UPSTREAM);
    let _server = Server::start("Corefile", COREFILE);
    glibc();
    busybox();
    dig();
    go();
    node();
}

fn glibc() {
    // Each address three times: SOCK_STREAM, SOCK_DGRAM, SOCK_RAW.
    let command = |name| format!("getent ahosts {name} | cut -d ' ' -f 1 | sort -u");
    for (name, addresses) in [
        ("four", "10.96.0.4"),
        ("dual", "10.96.0.6 fd00:96::6"),
        ("four.shop", "10.96.0.4"),
        ("four.shop.svc", "10.96.0.4"),
        ("four.shop.svc.cluster.local", "10.96.0.4"),
        ("wages.payroll", "10.96.0.7"),
        ("wages", ""),
        ("partner", "192.0.2.80 2001:db8::80"),
        ("outside.example.net", "192.0.2.80 2001:db8::80"),
        ("none.example.net", ""),
    ] {
        check("getent", &command(name), addresses);
    }
    check(
        "getent",
        "getent hosts 10.96.0.4 | tr -s ' '",
        "10.96.0.4 four.shop.svc.cluster.local",
    );
    check(
        "getent",
        "getent hosts fd00:96::6 | tr -s ' '",
        "fd00:96::6 dual.shop.svc.cluster.local",
    );
}

/// Busybox queries both families at once; any complaint about an answer fails the test.
fn busybox() {
    let addresses = |name| format!("busybox nslookup {name} 2>&1 | tail -n +4 | grep .");
    for (name, expected) in [
        (
            "four.shop.svc.cluster.local",
            "Name: four.shop.svc.cluster.local Address: 10.96.0.4",
        ),
        (
            "dual.shop.svc.cluster.local",
            "Name: dual.shop.svc.cluster.local Address: 10.96.0.6 \
             Name: dual.shop.svc.cluster.local Address: fd00:96::6",
        ),
        (
            "none.shop.svc.cluster.local",
            "** server can't find none.shop.svc.cluster.local: NXDOMAIN \
             ** server can't find none.shop.svc.cluster.local: NXDOMAIN",
        ),
    ] {
        check("busybox", &addresses(name), expected);
    }
    check(
        "busybox",
        "busybox nslookup four.shop.svc.cluster.local >/dev/null && echo good",
        "good",
    );
}

fn dig() {
    for (arguments, expected) in [
        ("+search +short four", "10.96.0.4"),
        ("+search +short dual AAAA", "fd00:96::6"),
        ("+search +short wages.payroll", "10.96.0.7"),
        (
            "+search +short _http._tcp.four SRV",
            "0 100 80 four.shop.svc.cluster.local.",
        ),
        ("+search +short outside.example.net", "192.0.2.80"),
        (
            "+search +short partner AAAA",
            "outside.example.net. 2001:db8::80",
        ),
        ("+short -x 10.96.0.4", "four.shop.svc.cluster.local."),
        // Answered without a warning.
        (
            "four.shop.svc.cluster.local | grep -c 'flags: qr aa rd ra;'",
            "1",
        ),
        (
            "four.shop.svc.cluster.local | grep -c 'recursion requested but not available'",
            "0",
        ),
    ] {
        check("dig", &format!("dig {arguments}"), expected);
    }
    // nslookup and host, from the same package.
    let complaints = "nslookup four.shop.svc.cluster.local | grep -ci 'recursion not available'";
    check("nslookup", complaints, "0");
    let search = "nslookup four | grep ^Name";
    check("nslookup", search, "Name: four.shop.svc.cluster.local");
}

fn go() {
    let expected = "\
        four 10.96.0.4 dual 10.96.0.6 fd00:96::6 wages.payroll 10.96.0.7 \
        partner 192.0.2.80 2001:db8::80 outside.example.net 192.0.2.80 2001:db8::80 \
        none.cluster.local. failed: lookup none.cluster.local. on 127.0.0.1:53: no such host";
    let names = "four dual wages.payroll partner outside.example.net none.cluster.local.";
    check(
        "./lookup",
        &format!("GODEBUG=netdns=go ./lookup {names}"),
        expected,
    );
}

fn node() {
    std::fs::write("lookup.js", NODE).unwrap();
    let expected = "\
        four 10.96.0.4 dual 10.96.0.6 fd00:96::6 wages.payroll 10.96.0.7 \
        partner 192.0.2.80 2001:db8::80 outside.example.net 192.0.2.80 2001:db8::80 \
        none.cluster.local. ENOTFOUND A 10.96.0.6 AAAA fd00:96::6 AAAA of four ENODATA \
        SRV four.shop.svc.cluster.local PTR four.shop.svc.cluster.local";
    check("node", "node lookup.js", expected);
}

/// Compares the output of a command, with line breaks and tabs as spaces. Skipped if the program is
/// missing.
fn check(program: &str, command: &str, expected: &str) {
    if shell(&format!("command -v {program}")).is_none() {
        return println!("skipped: there is no {program} for: {command}");
    }
    let printed = shell(&format!("{command} || true")).unwrap();
    let words: Vec<_> = printed.split_whitespace().collect();
    assert_eq!(words.join(" "), expected, "{command}");
}

/// The output of a command, if it succeeds.
fn shell(command: &str) -> Option<String> {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(printed)
}

/// A server in the namespace, killed on drop.
struct Server(Child);

impl Server {
    /// Starts a server, and waits until it logs its listeners.
    fn start(path: &str, corefile: &str) -> Self {
        std::fs::write(path, corefile).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_lodestone"))
            .args(["-conf", path])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let banner = lines.find(|line| line.contains(" on 127.0.0."));
        assert!(banner.is_some(), "{path}: no server");
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
