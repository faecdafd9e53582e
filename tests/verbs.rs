//! Subcommands that read a Corefile and serve nothing: `check`, `fmt`, `diff`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use lodestone::corefile::{InMemory, codes, parse};

const STOCK: &str = include_str!("../Corefile.example");

/// Working directory with files in which the program runs.
struct Workdir(tempfile::TempDir);

impl Workdir {
    fn with(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self(directory)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn run(&self, line: &str) -> Output {
        self.run_with(line, "")
    }

    fn run_with(&self, line: &str, input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lodestone"))
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The process may exit without reading its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn check_reports_all_mistakes_in_one_run() {
    let wrong = ".:53 {\n    cahce 30\n}\n";
    let wrong_values =
        ".:53 {\n    cache 0\n    health {\n        lameduck 5\n    }\n    proxy . 1.1.1.1\n}\n";
    let dir = Workdir::with(&[("Corefile", wrong), ("values", wrong_values)]);
    let output = dir.run("check");
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("did you mean 'cache'?"));
    assert!(output.stdout.is_empty());
    let output = dir.run("check values");
    let stderr = text(&output.stderr);
    for line in [
        "values:2:11",
        "values:4:18",
        "values:6:5",
        "forward . 1.1.1.1",
    ] {
        assert!(stderr.contains(line), "{line}\n{stderr}");
    }
}

#[test]
fn check_reads_standard_input_and_exits_with_0_on_warnings() {
    let dir = Workdir::with(&[]);
    let output = dir.run_with("check -", ".:53 {\n    cache 30s\n    whoami\n}\n");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("/dev/stdin:2:11"));
    assert_eq!(
        text(&output.stdout),
        "/dev/stdin: accepted with 1 warning, 1 server block\n"
    );
}

#[test]
fn check_json_has_the_same_content_as_text() {
    let dir = Workdir::with(&[("Corefile", ".:53 {\n    cahce 30\n    log\n}\n")]);
    let output = dir.run("check --format json");
    assert_eq!(code(&output), 1);
    assert!(output.stderr.is_empty());
    let expected = serde_json::json!({
        "version": 1,
        "file": "Corefile",
        "accepted": false,
        "errors": 1,
        "warnings": 0,
        "diagnostics": [{
            "severity": "error",
            "code": "unknown-directive",
            "message": "Unknown directive 'cahce'",
            "file": "Corefile",
            "line": 2,
            "column": 5,
            "end": { "line": 2, "column": 10 },
            "label": "expected the name of a plugin",
            "help": "did you mean 'cache'?",
        }],
    });
    assert_eq!(json(&output), expected);
    let documented = read("docs/check.md");
    let example = documented.split("```json\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let example: serde_json::Value = serde_json::from_str(example).unwrap();
    assert_eq!(example, expected);

    let twice = "a:53 {\n    log\n}\na:53 {\n    log\n}\n";
    let report = json(&dir.run_with("check --format json -", twice));
    let one = &report["diagnostics"][0];
    assert_eq!(one["code"], "zone-taken");
    assert_eq!(one["also"]["line"], 1);
    assert_eq!(one["also"]["label"], "first defined here");

    let report = json(&dir.run("check --format json nowhere"));
    assert_eq!(report["accepted"], false);
    assert_eq!(report["diagnostics"][0].get("line"), None);
}

#[test]
fn check_reads_files_unless_no_files_is_set() {
    let corefile = "tls://. {\n    tls cert.pem key.pem\n    whoami\n}\n";
    let dir = Workdir::with(&[("Corefile", corefile)]);
    let output = dir.run("check --format json");
    assert_eq!(code(&output), 1);
    let report = json(&output);
    assert_eq!(report["diagnostics"][0]["code"], "file");
    assert_eq!(report["diagnostics"][0]["line"], 2);
    assert_eq!(code(&dir.run("check --no-files")), 0);
}

#[test]
fn diagnostic_codes_are_documented() {
    let documented = read("docs/check.md");
    for code in codes() {
        assert!(documented.contains(&format!("`{code}`")), "{code}");
    }
}

#[test]
fn fmt_prints_checks_and_writes() {
    let formatted = "# mine\n.:53 {\n    log # all\n    cache 30 {\n        success 9\n    }\n}\n";
    let dir = Workdir::with(&[
        (
            "Corefile",
            "# mine\n.:53 {\n\n log   # all\ncache 30 {\n success  9\n}\n\n}",
        ),
        ("good", formatted),
        ("open", ".:53 {\n log \"a\n}\n"),
    ]);
    let output = dir.run("fmt");
    assert_eq!((code(&output), text(&output.stdout)), (0, formatted));
    assert_eq!(code(&dir.run("fmt --check")), 1);
    assert_eq!(code(&dir.run("fmt --check good")), 0);
    let before = dir.read("Corefile");
    let output = dir.run("fmt open");
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("open:2:6"));
    assert_eq!(code(&dir.run("fmt nowhere")), 2);
    assert_eq!(dir.read("Corefile"), before);
    assert_eq!(code(&dir.run("fmt --write")), 0);
    assert_eq!(dir.read("Corefile"), formatted);
    assert_eq!(dir.0.path().read_dir().unwrap().count(), 3);
    let output = dir.run_with("fmt -", "a{ {\nlog\n}");
    assert_eq!(text(&output.stdout), "a{ {\n    log\n}\n");
    assert_eq!(code(&dir.run_with("fmt --write -", "a {\n}\n")), 2);
}

#[test]
fn fmt_does_not_change_files_that_are_not_utf8() {
    let dir = Workdir::with(&[]);
    let latin1 = b".:53 {\n  whoami # caf\xE9\n}\n";
    let path = dir.0.path().join("Corefile");
    fs::write(&path, latin1).unwrap();
    for line in ["fmt", "fmt --check", "fmt --write"] {
        let output = dir.run(line);
        assert_eq!(code(&output), 2, "{line}");
        assert!(output.stdout.is_empty(), "{line}");
        assert!(text(&output.stderr).contains("line 2"), "{line}");
    }
    assert_eq!(fs::read(&path).unwrap(), latin1);
    // Invalid bytes in a comment are accepted.
    assert_eq!(code(&dir.run("check")), 0);
}

#[test]
fn write_failures_set_the_exit_code() {
    let dir = Workdir::with(&[("good", ".:53 {\n    whoami\n}\n"), ("bad", ".:53 {\n")]);
    let full = || fs::File::create("/dev/full").unwrap();
    let no_reader = || std::io::pipe().unwrap().1;
    let run = |line: &str, out: Stdio, error: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lodestone"));
        command.args(line.split_whitespace());
        command.current_dir(dir.0.path()).stdout(out).stderr(error);
        command.spawn().unwrap().wait_with_output().unwrap()
    };
    for (line, failed, done) in [
        ("check good", 1, 0),
        ("check --format json good", 1, 0),
        ("fmt good", 2, 0),
        ("diff good /dev/null", 2, 1),
        ("-version", 1, 0),
        ("-plugins", 1, 0),
    ] {
        let output = run(line, full().into(), Stdio::piped());
        let stderr = text(&output.stderr);
        assert_eq!(code(&output), failed, "{line}: {stderr}");
        let wanted = "error: cannot write to standard output: No space left on device\n";
        assert_eq!(stderr, wanted, "{line}");
        let output = run(line, no_reader().into(), Stdio::piped());
        assert_eq!((code(&output), text(&output.stderr)), (done, ""), "{line}");
    }
    for (line, code) in [
        ("check bad", 1),
        ("fmt nowhere", 2),
        ("diff bad bad", 2),
        ("-conf bad", 1),
        ("-conf bad -log-format json", 1),
        ("-log-format x", 1),
        ("lab nowhere", 1),
    ] {
        let output = run(line, Stdio::null(), full().into());
        assert_eq!(output.status.code(), Some(code), "{line}");
    }
}

#[test]
fn plugins_outside_of_a_block_are_explained() {
    let dir = Workdir::with(&[
        ("fragment", "template IN A a.example {\n  match .*\n}\n"),
        ("hosts", ".:53 {\n}\nhosts x {\n  192.0.2.1 a\n}\n"),
        ("option", "cache 30 {\n  success 10\n}\n"),
    ]);
    for name in ["fragment", "hosts", "option"] {
        let output = dir.run(&format!("check {name}"));
        assert_eq!(code(&output), 1);
        let stderr = text(&output.stderr);
        assert!(
            stderr.contains("between the braces of a server block"),
            "{stderr}"
        );
    }
}

#[test]
fn pipes_in_place_of_files_do_not_block() {
    let dir = Workdir::with(&[]);
    let made = Command::new("mkfifo")
        .arg(dir.0.path().join("pipe"))
        .status();
    assert!(made.unwrap().success());
    for (key, line) in [
        (".:53", "import pipe"),
        ("tls://.", "tls pipe pipe"),
        (".:53", "forward . tls://192.0.2.1 {\n tls pipe\n}"),
        (".:53", "forward . ./pipe"),
        (".:53", "prometheus {\n tls pipe\n}"),
        (".:53", "tsig {\n secrets pipe\n}"),
        (
            ".:53",
            "kubernetes cluster.local {\n endpoint https://192.0.2.1\n tls pipe pipe pipe\n}",
        ),
    ] {
        let corefile = format!("{key} {{\n    {line}\n    whoami\n}}\n");
        fs::write(dir.0.path().join("Corefile"), corefile).unwrap();
        let output = dir.run("check");
        let stderr = text(&output.stderr);
        assert!(
            stderr.contains("it is a pipe, not a file"),
            "{line}: {stderr}"
        );
    }
}

#[test]
fn syntax_of_other_servers_is_explained() {
    for (line, wanted) in [
        ("// comment", "a comment begins with '#'"),
        ("; comment", "a comment begins with '#'"),
        ("forward \u{201c}.\u{201d} 192.0.2.1", "straight quotes"),
        (
            "root nowhere",
            "cannot access the directory nowhere: it does not exist",
        ),
        ("forward . 192.0.2.1:99999", "a number from 1 to 65535"),
        (
            "errors {\n consolidate 5m (\n}",
            "not a regular expression: unclosed group",
        ),
        ("forward . //", "\"//\": it is a directory"),
    ] {
        let dir = Workdir::with(&[("Corefile", &format!(".:53 {{\n    {line}\n}}\n"))]);
        let output = dir.run("check");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(wanted), "{line}: {stderr}");
    }
}

#[cfg(unix)]
#[test]
fn fmt_follows_symlinks_and_keeps_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = Workdir::with(&[("real", "a   {\n}\n")]);
    let real = dir.0.path().join("real");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real", dir.0.path().join("Corefile")).unwrap();
    assert_eq!(code(&dir.run("fmt --write")), 0);
    assert_eq!(dir.read("real"), "a {\n}\n");
    assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert!(dir.0.path().join("Corefile").is_symlink());
}

#[test]
fn the_example_is_formatted() {
    let dir = Workdir::with(&[("Corefile", STOCK)]);
    let output = dir.run("fmt --check");
    assert_eq!(code(&output), 0, "{}", text(&dir.run("fmt").stdout));
}

#[test]
fn diff_prints_changes_and_sets_the_exit_code() {
    let dir = Workdir::with(&[
        ("old", "import part\n"),
        ("part", ".:53 {\n    cache 30\n}\n"),
        ("same", "# other\n. {\n cache 30\n}\n"),
        ("new", ".:53 {\n    cache 60\n}\n"),
        ("wrong", ".:53 {\n    cahce 60\n}\n"),
        ("foreign", ".:53 {\n    proxy . 1.1.1.1\n}\n"),
    ]);
    let output = dir.run("diff old same");
    assert_eq!((code(&output), text(&output.stdout)), (0, ""));
    let output = dir.run("diff old new");
    assert_eq!(code(&output), 1);
    assert_eq!(
        text(&output.stdout),
        "~ .:53 {    (part:1) -> (new:1)\n-     cache 30    (part:2)\n+     cache 60    (new:2)\n  }\n"
    );
    let output = dir.run("diff old wrong");
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("wrong:2:5"));
    // Directives that are refused here can be compared: the old file may be for another server.
    assert_eq!(code(&dir.run("diff foreign new")), 1);
    assert_eq!(code(&dir.run_with("diff - new", &dir.read("new"))), 0);
    assert_eq!(code(&dir.run("diff - -")), 2);
}

#[test]
fn formatting_keeps_the_meaning_of_samples() {
    let mut samples = vec![STOCK.to_owned()];
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugins");
    for page in fs::read_dir(pages).unwrap() {
        let text = fs::read_to_string(page.unwrap().path()).unwrap();
        let examples = text.split("```corefile\n").skip(1);
        samples.extend(examples.filter_map(|it| Some(it.split_once("```")?.0.to_owned())));
    }
    let words = lodestone::config::order::ORDER.iter().map(|word| word.name);
    let words: Vec<&str> = words.collect();
    let loader = InMemory::default();
    for sample in samples {
        let formatted = lodestone::corefile::format("Corefile", &sample, &words).unwrap();
        let read = |text: &str| parse("Corefile", text, &words, &loader).unwrap().blocks;
        assert_eq!(read(&sample), read(&formatted), "{sample}");
    }
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Runs a shell command in a network namespace of its own, or says why it cannot.
#[cfg(target_os = "linux")]
fn in_own_network(command: &str) -> Option<Output> {
    let run = |command: &str| {
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sh", "-c", command])
            .env("LODESTONE", env!("CARGO_BIN_EXE_lodestone"))
            .output()
    };
    if !run("ip link set lo up").is_ok_and(|output| output.status.success()) {
        println!("skipped: no network namespace of one's own here");
        return None;
    }
    Some(run(command).unwrap())
}

#[test]
#[cfg(target_os = "linux")]
fn node_address_adds_addresses_to_the_loopback_interface_once() {
    let mut addresses = vec![("169.254.20.10", "inet 169.254.20.10/32 scope host")];
    if Path::new("/proc/sys/net/ipv6").exists() {
        addresses.push(("fd00::10", "inet6 fd00::10/128 "));
    }
    let words: Vec<&str> = addresses.iter().map(|(address, _)| *address).collect();
    let words = words.join(" ");
    let Some(output) = in_own_network(&format!(
        "ip link set lo up && $LODESTONE node-address {words} && $LODESTONE node-address {words} &&
        ip -o address show dev lo"
    )) else {
        return;
    };
    assert_eq!((code(&output), text(&output.stderr)), (0, ""));
    let list = text(&output.stdout);
    for (_, shown) in addresses {
        assert_eq!(list.matches(shown).count(), 1, "{shown}: {list}");
    }
    // IPv6 addresses can be bound at once.
    assert!(!list.contains("tentative"), "{list}");
}

#[test]
#[cfg(target_os = "linux")]
fn node_address_refuses_what_is_no_address_and_names_the_capability() {
    let here = Workdir::with(&[]);
    for wrong in [
        "node-address",
        "node-address __PILLAR__LOCAL__DNS__",
        "node-address 10.0.0.0/8",
    ] {
        let output = here.run(wrong);
        assert_eq!(code(&output), 2, "{wrong}");
        assert!(text(&output.stderr).contains("ADDRESS"), "{wrong}");
    }
    let output = here.run("node-address 0.0.0.0");
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("not an address of one machine"));
    let dropped = "setpriv --bounding-set -net_admin --inh-caps -net_admin $LODESTONE node-address 169.254.20.10";
    if let Some(output) = in_own_network(dropped) {
        assert_eq!(code(&output), 1);
        assert_eq!(
            text(&output.stderr),
            "error: cannot add 169.254.20.10 to the loopback interface: this process has no permission; \
             this requires the capability NET_ADMIN\n"
        );
    }
}
