//! The course in `docs/lab.md` against a lab on free ports: every command is run and compared, every file
//! written, every change made, in order. And `lodestone lab check`.

use crate::dig;
use crate::document::{Step, edit, is_logged, is_shown, steps};
use crate::running::Lab;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Number of exercises.
const EXERCISES: usize = 12;
/// How long a change may take to be served. The course says two seconds; the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Commands before the lab runs, which the tests do in their own way.
const PREPARATION: [&str; 4] = [
    "cargo build --release",
    "target/release/lodestone lab",
    "export PATH=\"$PWD/target/release:$PATH\"",
    "cd /tmp/lodestone-lab-3f2a91",
];

#[test]
fn every_command_of_the_course_has_the_described_result() {
    if !dig::is_here() {
        return;
    }
    let document = document();
    let course = Course::start();
    let mut preparation = Vec::new();
    let mut pending = Pending::Nothing;
    for step in steps(&document) {
        match step {
            Step::Preparation(line) => preparation.push(line),
            Step::File { name, text } => {
                fs::write(course.path(&name), text).unwrap();
                pending = Pending::Manifests(Instant::now());
            }
            Step::Edit {
                line,
                name,
                from,
                to,
            } => {
                let text = fs::read_to_string(course.path(&name)).unwrap();
                let [from, to] = [from, to].map(|it| course.to_real(&it));
                let text = edit(&text, &from, &to);
                let text = text.unwrap_or_else(|error| panic!("line {line}, {name}: {error}"));
                pending = match name.as_str() {
                    "Corefile" => Pending::Corefile(reloads(&course.lab.log())),
                    _ => Pending::Manifests(Instant::now()),
                };
                fs::write(course.path(&name), text).unwrap();
            }
            Step::Log { line, text } => {
                for logged in text {
                    let logged = course.to_real(&logged);
                    let found = course.lab.wait(PATIENCE, |log| is_logged(log, &logged));
                    found.unwrap_or_else(|log| panic!("line {line}: not logged: {logged}\n{log}"));
                }
            }
            Step::Command {
                line,
                command,
                output,
            } => {
                if command.starts_with("unshare ") && !may_unshare() {
                    eprintln!("skipped: unshare is not permitted here: {command}");
                    continue;
                }
                course.expect(line, &command, &output, &pending);
                // Only the first command after a change waits for it.
                pending = Pending::Nothing;
            }
        }
    }
    assert_eq!(preparation, PREPARATION);
    a_lab_that_has_ended_goes_on(course.lab);
}

/// The edited files are kept, and another lab goes on with them.
fn a_lab_that_has_ended_goes_on(lab: Lab) {
    let directory = lab.directory();
    let mut parent = lab.interrupt();
    assert!(directory.join("60-hello.yaml").is_file());
    assert!(!directory.join("lab.state").exists());
    let arguments = [directory.to_str().unwrap()];
    // Its ports are any that were free, and may be in use by another test for a moment.
    let since = Instant::now();
    let lab = loop {
        let next = tempfile::tempdir().unwrap();
        match Lab::start_in(std::mem::replace(&mut parent, next), &arguments) {
            Ok(lab) => break lab,
            Err(error) => assert!(since.elapsed() < PATIENCE, "{error}"),
        }
    };
    let (text, code) = lab.run(&["lab", "check"]);
    assert_eq!(code, 0, "{text}");
    let (text, code) = lab.run(&["lab", arguments[0]]);
    assert!(text.contains(" is running, at 127.0.0.1:"), "{text}");
    assert_eq!(code, 1);
    drop(lab.interrupt());
}

/// Number of Corefiles that were applied or rejected.
fn reloads(log: &str) -> usize {
    let is_end =
        |line: &&str| line.contains("Reloading complete") || line.contains("reload failed");
    log.lines().filter(is_end).count()
}

/// What a command has to wait for.
enum Pending {
    Nothing,
    /// Changed manifests.
    Manifests(Instant),
    /// A changed Corefile, after this number of reloads.
    Corefile(usize),
}

#[test]
fn no_exercise_is_done_at_the_start() {
    let lab = Lab::start();
    let (text, code) = lab.run(&["lab", "check"]);
    assert_eq!(code, 1, "{text}");
    assert_eq!(text.lines().count(), EXERCISES + 1, "{text}");
    for number in 1..=EXERCISES {
        let (text, code) = lab.run(&["lab", "check", &number.to_string()]);
        assert_eq!(code, 1, "{text}");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(lines[0].starts_with("open "), "{text}");
        assert!(lines[1].starts_with("goal: "), "{text}");
        assert!(lines[2].starts_with("missing: "), "{text}");
    }
    let (text, _) = lab.run(&["lab", "check", "4"]);
    let missing = "    missing: db.shop.svc.cluster.local A: 10.244.2.20, 10.244.2.21; expected: 10.244.2.22\n";
    assert!(text.ends_with(missing), "{text}");
    let (text, _) = lab.run(&["lab", "check", "8"]);
    let missing = "suppliers.shop.svc.cluster.local CNAME: example.com.; expected: example.org.\n";
    assert!(text.ends_with(missing), "{text}");
}

#[test]
fn exercises_that_do_not_exist_are_an_error() {
    let lab = Lab::start();
    for number in ["0", "13", "one"] {
        let (text, code) = lab.run(&["lab", "check", number]);
        let expected = format!(
            "error: there is no exercise '{number}': write a number from 1 to 12, or none to list them\n"
        );
        assert_eq!((text, code), (expected, 2));
    }
}

#[test]
fn labs_are_found_by_their_directory() {
    let lab = Lab::start();
    let directory = lab.directory();
    let (text, code) = lab.run(&["lab", "check", "1", directory.to_str().unwrap()]);
    assert!(text.starts_with("open  1 "), "{text}");
    assert_eq!(code, 1);
    let (text, code) = lab.run(&["lab", "check", directory.to_str().unwrap()]);
    assert_eq!((text.lines().count(), code), (EXERCISES + 1, 1), "{text}");
    let other = tempfile::tempdir().unwrap();
    let other = other.path().to_str().unwrap();
    let (text, code) = lab.run(&["lab", "check", "1", other]);
    assert!(
        text.starts_with(&format!("error: no lab serves {other}.")),
        "{text}"
    );
    assert_eq!(code, 2);
}

#[test]
fn several_labs_are_told_apart() {
    let lab = Lab::start();
    let one = lab.directory();
    let parent = lab.parent().to_owned();
    // A second one in the same place.
    let other = tempfile::tempdir_in(&parent).unwrap();
    let other = Lab::start_in(other, &["--port", "0"]).unwrap();
    let moved = parent.join("lodestone-lab-other");
    std::os::unix::fs::symlink(other.directory(), moved).unwrap();
    let (text, code) = lab.run(&["lab", "check", "1"]);
    assert!(
        text.starts_with("error: several labs are running."),
        "{text}"
    );
    assert!(text.contains(&format!("\n  {}\n", one.display())), "{text}");
    assert_eq!(code, 2);
    let (text, code) = lab.run(&["lab", "check", "1", one.to_str().unwrap()]);
    assert!(text.starts_with("open  1 "), "{text}");
    assert_eq!(code, 1);
}

#[test]
fn without_a_lab_nothing_is_checked() {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lodestone"));
    command.current_dir(&nowhere).env("TMPDIR", nowhere.path());
    let output = command.args(["lab", "check"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        error,
        "error: no lab is running. Start one in another terminal: lodestone lab\n"
    );
    assert_eq!(output.status.code(), Some(2));
}

/// A lab, with its ports in place of the document's.
struct Course {
    lab: Lab,
    /// The document's port and the lab's, of each server.
    ports: Vec<(String, String)>,
}

impl Course {
    fn start() -> Self {
        let lab = Lab::start();
        let state = fs::read_to_string(lab.directory().join("lab.state")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        let outside = &state["outside"];
        let servers = [
            ("1053", &state["address"]),
            ("1153", &outside["internet"]),
            ("1154", &outside["company"]),
            ("1155", &outside["slow"]),
            ("1156", &outside["dead"]),
        ];
        let ports = servers.map(|(port, address)| {
            let address = address.as_str().unwrap();
            (
                port.to_owned(),
                address.rsplit(':').next().unwrap().to_owned(),
            )
        });
        Self {
            lab,
            ports: ports.to_vec(),
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.lab.directory().join(name)
    }

    /// A text of the document with the lab's ports.
    fn to_real(&self, text: &str) -> String {
        // In one pass: a port of the lab may be one of the document's.
        let mut real = String::new();
        let mut rest = text;
        'text: while let Some(first) = rest.chars().next() {
            for (port, by) in &self.ports {
                if let Some(after) = rest.strip_prefix(port.as_str()) {
                    real += by;
                    rest = after;
                    continue 'text;
                }
            }
            real.push(first);
            rest = &rest[first.len_utf8()..];
        }
        real
    }

    /// Runs a command and compares its output; more than once only after a change of manifests.
    fn expect(&self, line: usize, command: &str, expected: &[String], pending: &Pending) {
        let since = match pending {
            Pending::Manifests(since) => Some(since),
            Pending::Corefile(before) => {
                let reloaded = self.lab.wait(PATIENCE, |log| reloads(log) > *before);
                reloaded.unwrap_or_else(|log| panic!("line {line}: not reloaded\n{log}"));
                None
            }
            Pending::Nothing => None,
        };
        let expected: Vec<String> = expected.iter().map(|it| self.to_real(it)).collect();
        loop {
            let output = self.shell(command);
            if is_shown(&output, &expected) {
                return;
            }
            assert!(
                since.is_some_and(|since| since.elapsed() < PATIENCE),
                "docs/lab.md, line {line}:\n$ {command}\nthe course shows:\n{}\n\nwhat comes back:\n{output}",
                expected.join("\n"),
            );
        }
    }

    /// Runs a command in the lab's directory; its output and errors.
    fn shell(&self, command: &str) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_lodestone")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let script = format!("exec 2>&1; {}", self.to_real(command));
        let output = Command::new("sh")
            .args(["-c", &script])
            .current_dir(self.lab.directory())
            .env("PATH", format!("{}:{path}", program.display()))
            .env("TMPDIR", self.lab.parent())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn may_unshare() -> bool {
    let status = Command::new("unshare").args(["-rm", "true"]).output();
    status.is_ok_and(|it| it.status.success())
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lab.md");
    fs::read_to_string(path).unwrap()
}
