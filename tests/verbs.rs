//! The verbs that look at a Corefile and serve nothing: `check`, `fmt`, `diff`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use lodestone::corefile::{Memory, codes, parse};

const STOCK: &str = include_str!("../Corefile.example");

/// A directory with files, in which the program is run.
struct Place(tempfile::TempDir);

impl Place {
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
        // It may end without having read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn check_tells_every_mistake_in_one_run() {
    let wrong = ".:53 {\n    cahce 30\n}\n";
    let wrong_values =
        ".:53 {\n    cache 0\n    health {\n        lameduck 5\n    }\n    proxy . 1.1.1.1\n}\n";
    let place = Place::with(&[("Corefile", wrong), ("values", wrong_values)]);
    let output = place.run("check");
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("did you mean 'cache'?"));
    assert!(output.stdout.is_empty());
    let output = place.run("check values");
    let told = text(&output.stderr);
    for line in [
        "values:2:11",
        "values:4:18",
        "values:6:5",
        "forward . 1.1.1.1",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
}

#[test]
fn check_reads_standard_input_and_tells_warnings_with_exit_code_0() {
    let place = Place::with(&[]);
    let output = place.run_with("check -", ".:53 {\n    cache 30s\n    whoami\n}\n");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("/dev/stdin:2:11"));
    assert_eq!(
        text(&output.stdout),
        "/dev/stdin: accepted with 1 warning, 1 server block\n"
    );
}

#[test]
fn check_tells_programs_what_it_tells_people() {
    let place = Place::with(&[("Corefile", ".:53 {\n    cahce 30\n    log\n}\n")]);
    let output = place.run("check --format json");
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
    let report = json(&place.run_with("check --format json -", twice));
    let one = &report["diagnostics"][0];
    assert_eq!(one["code"], "zone-taken");
    assert_eq!(one["also"]["line"], 1);
    assert_eq!(one["also"]["label"], "first defined here");

    let report = json(&place.run("check --format json nowhere"));
    assert_eq!(report["accepted"], false);
    assert_eq!(report["diagnostics"][0].get("line"), None);
}

#[test]
fn check_looks_into_files_unless_told_not_to() {
    let corefile = "tls://. {\n    tls cert.pem key.pem\n    whoami\n}\n";
    let place = Place::with(&[("Corefile", corefile)]);
    let output = place.run("check --format json");
    assert_eq!(code(&output), 1);
    let report = json(&output);
    assert_eq!(report["diagnostics"][0]["code"], "file");
    assert_eq!(report["diagnostics"][0]["line"], 2);
    assert_eq!(code(&place.run("check --no-files")), 0);
}

#[test]
fn the_codes_are_those_of_the_document() {
    let documented = read("docs/check.md");
    for code in codes() {
        assert!(documented.contains(&format!("`{code}`")), "{code}");
    }
}

#[test]
fn fmt_prints_checks_and_writes() {
    let laid = "# mine\n.:53 {\n    log # all\n    cache 30 {\n        success 9\n    }\n}\n";
    let place = Place::with(&[
        (
            "Corefile",
            "# mine\n.:53 {\n\n log   # all\ncache 30 {\n success  9\n}\n\n}",
        ),
        ("good", laid),
        ("open", ".:53 {\n log \"a\n}\n"),
    ]);
    let output = place.run("fmt");
    assert_eq!((code(&output), text(&output.stdout)), (0, laid));
    assert_eq!(code(&place.run("fmt --check")), 1);
    assert_eq!(code(&place.run("fmt --check good")), 0);
    let before = place.read("Corefile");
    let output = place.run("fmt open");
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("open:2:6"));
    assert_eq!(code(&place.run("fmt nowhere")), 2);
    assert_eq!(place.read("Corefile"), before);
    assert_eq!(code(&place.run("fmt --write")), 0);
    assert_eq!(place.read("Corefile"), laid);
    assert_eq!(place.0.path().read_dir().unwrap().count(), 3);
    let output = place.run_with("fmt -", "a{ {\nlog\n}");
    assert_eq!(text(&output.stdout), "a{ {\n    log\n}\n");
    assert_eq!(code(&place.run_with("fmt --write -", "a {\n}\n")), 2);
}

#[test]
fn fmt_leaves_a_file_alone_that_is_not_in_utf_8() {
    let place = Place::with(&[]);
    let latin1 = b".:53 {\n  whoami # caf\xE9\n}\n";
    let path = place.0.path().join("Corefile");
    fs::write(&path, latin1).unwrap();
    for line in ["fmt", "fmt --check", "fmt --write"] {
        let output = place.run(line);
        assert_eq!(code(&output), 2, "{line}");
        assert!(output.stdout.is_empty(), "{line}");
        assert!(text(&output.stderr).contains("line 2"), "{line}");
    }
    assert_eq!(fs::read(&path).unwrap(), latin1);
    // A comment is of no meaning: it is served all the same.
    assert_eq!(code(&place.run("check")), 0);
}

#[test]
fn output_that_cannot_be_written_is_an_exit_code_and_no_panic() {
    let place = Place::with(&[("good", ".:53 {\n    whoami\n}\n"), ("bad", ".:53 {\n")]);
    let full = || fs::File::create("/dev/full").unwrap();
    let no_reader = || std::io::pipe().unwrap().1;
    let run = |line: &str, out: Stdio, error: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lodestone"));
        command.args(line.split_whitespace());
        command
            .current_dir(place.0.path())
            .stdout(out)
            .stderr(error);
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
        let told = text(&output.stderr);
        assert_eq!(code(&output), failed, "{line}: {told}");
        let wanted = "error: cannot write to standard output: No space left on device\n";
        assert_eq!(told, wanted, "{line}");
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
fn a_plugin_outside_of_a_block_is_told_to_be_one() {
    let place = Place::with(&[
        ("fragment", "template IN A a.example {\n  match .*\n}\n"),
        ("hosts", ".:53 {\n}\nhosts x {\n  192.0.2.1 a\n}\n"),
        ("option", "cache 30 {\n  success 10\n}\n"),
    ]);
    for name in ["fragment", "hosts", "option"] {
        let output = place.run(&format!("check {name}"));
        assert_eq!(code(&output), 1);
        let told = text(&output.stderr);
        assert!(
            told.contains("between the braces of a server block"),
            "{told}"
        );
    }
}

#[test]
fn a_pipe_is_not_waited_for_where_a_file_is_meant() {
    let place = Place::with(&[]);
    let made = Command::new("mkfifo")
        .arg(place.0.path().join("pipe"))
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
        fs::write(place.0.path().join("Corefile"), corefile).unwrap();
        let output = place.run("check");
        let told = text(&output.stderr);
        assert!(told.contains("it is a pipe, not a file"), "{line}: {told}");
    }
}

#[test]
fn habits_of_other_files_are_pointed_out() {
    for (line, wanted) in [
        ("// comment", "a comment begins with '#'"),
        ("; comment", "a comment begins with '#'"),
        ("forward \u{201c}.\u{201d} 192.0.2.1", "straight quotes"),
        (
            "root nowhere",
            "the directory nowhere cannot be seen: it does not exist",
        ),
        ("forward . 192.0.2.1:99999", "a number from 1 to 65535"),
        (
            "errors {\n consolidate 5m (\n}",
            "not a regular expression: unclosed group",
        ),
        ("forward . //", "\"//\": it is a directory"),
    ] {
        let place = Place::with(&[("Corefile", &format!(".:53 {{\n    {line}\n}}\n"))]);
        let output = place.run("check");
        let told = text(&output.stderr);
        assert!(told.contains(wanted), "{line}: {told}");
    }
}

#[cfg(unix)]
#[test]
fn fmt_writes_through_a_link_and_keeps_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let place = Place::with(&[("real", "a   {\n}\n")]);
    let real = place.0.path().join("real");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real", place.0.path().join("Corefile")).unwrap();
    assert_eq!(code(&place.run("fmt --write")), 0);
    assert_eq!(place.read("real"), "a {\n}\n");
    assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert!(place.0.path().join("Corefile").is_symlink());
}

#[test]
fn the_example_has_the_one_layout() {
    let place = Place::with(&[("Corefile", STOCK)]);
    let output = place.run("fmt --check");
    assert_eq!(code(&output), 0, "{}", text(&place.run("fmt").stdout));
}

#[test]
fn diff_tells_what_changes_and_ends_with_what_that_means() {
    let place = Place::with(&[
        ("old", "import part\n"),
        ("part", ".:53 {\n    cache 30\n}\n"),
        ("same", "# other\n. {\n cache 30\n}\n"),
        ("new", ".:53 {\n    cache 60\n}\n"),
        ("wrong", ".:53 {\n    cahce 60\n}\n"),
        ("foreign", ".:53 {\n    proxy . 1.1.1.1\n}\n"),
    ]);
    let output = place.run("diff old same");
    assert_eq!((code(&output), text(&output.stdout)), (0, ""));
    let output = place.run("diff old new");
    assert_eq!(code(&output), 1);
    assert_eq!(
        text(&output.stdout),
        "~ .:53 {    (part:1) -> (new:1)\n-     cache 30    (part:2)\n+     cache 60    (new:2)\n  }\n"
    );
    let output = place.run("diff old wrong");
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("wrong:2:5"));
    // What is refused here may still be compared: the old file may be for another server.
    assert_eq!(code(&place.run("diff foreign new")), 1);
    assert_eq!(code(&place.run_with("diff - new", &place.read("new"))), 0);
    assert_eq!(code(&place.run("diff - -")), 2);
}

#[test]
fn samples_mean_the_same_in_their_one_layout() {
    let mut samples = vec![STOCK.to_owned()];
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugins");
    for page in fs::read_dir(pages).unwrap() {
        let text = fs::read_to_string(page.unwrap().path()).unwrap();
        let examples = text.split("```corefile\n").skip(1);
        samples.extend(examples.filter_map(|it| Some(it.split_once("```")?.0.to_owned())));
    }
    let words = lodestone::config::order::ORDER.iter().map(|word| word.name);
    let words: Vec<&str> = words.collect();
    let loader = Memory::default();
    for sample in samples {
        let laid = lodestone::corefile::layout("Corefile", &sample, &words).unwrap();
        let read = |text: &str| parse("Corefile", text, &words, &loader).unwrap().blocks;
        assert_eq!(read(&sample), read(&laid), "{sample}");
    }
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}
