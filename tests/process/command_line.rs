//! CoreDNS's flags, and error messages.

use std::{
    io::Write,
    process::{Output, Stdio},
};

use hickory_proto::rr::RecordType;

use super::server::{Server, program};

fn run(arguments: &[&str]) -> Output {
    let nowhere = tempfile::tempdir().unwrap();
    program()
        .args(arguments)
        .current_dir(nowhere.path())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn version_and_plugins_are_printed_with_one_dash_or_two() {
    for flag in ["-version", "--version", "-version=true"] {
        let output = run(&[flag]);
        assert!(output.status.success());
        assert!(text(&output.stdout).starts_with(concat!("Lodestone-", env!("CARGO_PKG_VERSION"))));
    }
    let plugins = text(&run(&["-plugins"]).stdout);
    for name in [
        "errors",
        "log",
        "health",
        "ready",
        "kubernetes",
        "prometheus",
        "forward",
        "cache",
        "loop",
        "reload",
        "loadbalance",
        "hosts",
    ] {
        assert!(
            plugins.lines().any(|line| line == format!("  dns.{name}")),
            "{name}:\n{plugins}"
        );
    }
}

#[test]
fn invalid_command_line_exits_with_2_and_a_suggestion() {
    let output = run(&["-confg", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("--conf"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(run(&["stray"]).status.code(), Some(2));
    for arguments in [
        &["-p", "abc"][..],
        &["-dns.port=65536"],
        &["check", "-p", "1e3"],
        &["diff", "-p=x", "a", "b"],
        &["lab", "--port", "99999"],
    ] {
        let output = run(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("a number from 0 to 65535"), "{error}");
    }
    // Also `coredns Corefile`, without -conf.
    let output = run(&["/proc/version"]);
    assert!(text(&output.stderr).contains("-conf /proc/version"));
}

#[test]
fn missing_corefile_exits_with_1_and_its_name() {
    let output = run(&["-conf", "/nowhere/Corefile"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nowhere/Corefile"));
}

#[test]
fn corefile_error_is_shown_at_its_position() {
    let directory = tempfile::tempdir().unwrap();
    let corefile = ".:0 {\n    errors\n    cahce 30\n    forward . 127.0.0.1 {\n        max_fail 3\n    }\n}\n";
    std::fs::write(directory.path().join("Corefile"), corefile).unwrap();
    for arguments in [&["-conf", "Corefile"][..], &[], &["check"]] {
        let output = program()
            .args(arguments)
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let error = text(&output.stderr);
        for part in [
            "Unknown directive 'cahce'",
            "Corefile:3:5",
            "^^^^^",
            "cache",
        ] {
            assert!(error.contains(part), "{arguments:?}: no {part} in\n{error}");
        }
    }
}

#[test]
fn check_reads_standard_input_and_opens_nothing() {
    let mut child = program()
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // `check` needs neither the port nor the cluster.
    let corefile = b".:1 {\n    kubernetes cluster.local\n    prometheus 192.0.2.1:9153\n}\n";
    child.stdin.take().unwrap().write_all(corefile).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "/dev/stdin: good, 1 server block\n");
}

#[test]
fn corefile_without_plugins_gives_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("Corefile"), "# nothing\n").unwrap();
    let output = program()
        .arg("check")
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let error = text(&output.stderr);
    assert!(error.contains("Corefile has no server block"), "{error}");
    assert!(error.contains("whoami and log"), "{error}");
}

#[test]
fn pidfile_contains_the_process_id() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let mut child = program()
        .args(["-quiet", "-p", "0", "-pidfile"])
        .arg(&file)
        .arg("-conf=stdin")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let corefile = b". {\n    bind 127.0.0.1\n    whoami\n}\n";
    child.stdin.take().unwrap().write_all(corefile).unwrap();
    let id = format!("{}\n", child.id());
    while std::fs::read_to_string(&file).unwrap_or_default() != id {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn port_in_use_is_named_in_the_error() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let corefile = format!(".:{port} {{\n    bind 127.0.0.1\n    whoami\n}}\n");
    std::fs::write(directory.path().join("Corefile"), corefile).unwrap();
    let output = program().current_dir(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[test]
fn cluster_name_and_hosts_entry_are_answered() {
    let server = Server::start(
        ".:0 {\n    bind 127.0.0.1\n    hosts {\n        192.0.2.7 seven.example\n    }\n}\n",
    );
    assert_eq!(
        server.ask("seven.example.", RecordType::A),
        "NoError 192.0.2.7"
    );
}

#[test]
fn failed_start_prints_one_error_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Corefile");
    let start = |corefile: &[u8]| {
        std::fs::write(&path, corefile).unwrap();
        let output = program()
            .arg("-conf")
            .arg(&path)
            .env_remove("KUBERNETES_SERVICE_HOST")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    let kubernetes = |option: &str| {
        let corefile = format!(".:0 {{\n    kubernetes cluster.local {{\n{option}\n}}\n}}\n");
        start(corefile.as_bytes())
    };
    for (message, wanted) in [
        (
            kubernetes(""),
            &["no pod of a cluster", "kubeconfig FILE"][..],
        ),
        (kubernetes("kubeconfig /nowhere"), &["/nowhere"]),
        (
            kubernetes("endpoint https://127.0.0.1:1\ntls /nowhere b c"),
            &["cannot read /nowhere"],
        ),
        (start(b".:0 {\n\0\n}\n"), &["it is no text"]),
        (
            start(b".:0 {\n    whoami\n    bind 192.0.2.1\n}\n"),
            &["192.0.2.1", "\nhelp: "],
        ),
    ] {
        for wanted in wanted {
            assert!(message.contains(wanted), "{wanted:?} is not in {message}");
        }
        let causes = message.matches("os error").count();
        assert!(causes <= 1, "repeated: {message}");
    }
}

#[test]
fn blocks_on_one_port_with_different_certificates_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let path = |ext: &str| directory.path().join(format!("{name}.{ext}"));
        std::fs::write(path("pem"), made.cert.pem()).unwrap();
        std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
    }
    let block = |zone: &str| {
        format!(
            "tls://{zone}.example:0 {{\n    bind 127.0.0.1\n    tls {zone}.pem {zone}.key\n    \
             whoami\n}}\n"
        )
    };
    let corefile = block("a") + &block("b");
    std::fs::write(directory.path().join("Corefile"), corefile).unwrap();
    let output = program().current_dir(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    for part in [
        "tls://127.0.0.1:0",
        "\"a.example.\"",
        "\"b.example.\"",
        "server certificates differ",
        "Corefile:1:1",
        "Corefile:6:1",
    ] {
        assert!(error.contains(part), "no {part} in {error}");
    }
}
