//! `lodestone lab`: runs every command of the printed guide in a shell and compares the output of `dig`
//! with the guide.
//!
//! Without `dig` these tests print that and pass. Names outside of the cluster are compared only as far as
//! the result does not depend on the network.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod dig;

use dig::shell;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The expected output of a command.
#[derive(Clone, Copy, Debug)]
enum Shows {
    /// Exactly these lines, in any order.
    Lines(&'static [&'static str]),
    /// This line first; what follows depends on the network.
    First(&'static str),
    /// This status.
    Status(&'static str),
    /// NXDOMAIN, SERVFAIL or REFUSED, depending on the network.
    NotFound,
    /// Any output.
    Anything,
}

use Shows::{Anything, First, Lines, NotFound, Status};

const PAGE: &[(&str, Shows)] = &[
    (
        "+short web-service.payroll.svc.cluster.local",
        Lines(&["10.96.42.10"]),
    ),
    (
        "+short +domain=payroll.svc.cluster.local web-service",
        Lines(&["10.96.42.10"]),
    ),
    (
        "+short +ndots=5 +domain=svc.cluster.local web-service.payroll",
        Lines(&["10.96.42.10"]),
    ),
    (
        "+short +ndots=5 +domain=cluster.local web-service.payroll.svc",
        Lines(&["10.96.42.10"]),
    ),
    (
        "+short hashresponse-svc.default.svc.cluster.local",
        Lines(&["10.43.0.61"]),
    ),
    (
        "+short storefront.shop.svc.cluster.local",
        Lines(&["10.96.30.1"]),
    ),
    (
        "+short catalogue.shop.svc.cluster.local A catalogue.shop.svc.cluster.local AAAA",
        Lines(&["10.96.30.6", "fd00:10:96::1e06"]),
    ),
    (
        "+short db.shop.svc.cluster.local",
        Lines(&["10.244.2.20", "10.244.2.21"]),
    ),
    (
        "+short db-0.db.shop.svc.cluster.local",
        Lines(&["10.244.2.20"]),
    ),
    (
        "+short suppliers.shop.svc.cluster.local",
        First("example.com."),
    ),
    (
        "+short wages.shop.svc.cluster.local",
        Lines(&["web-service.payroll.svc.cluster.local.", "10.96.42.10"]),
    ),
    (
        "+short gift-cards.shop.svc.cluster.local",
        Lines(&["10.96.30.7"]),
    ),
    (
        "gift-wrap.shop.svc.cluster.local | grep status",
        Status("NXDOMAIN"),
    ),
    (
        "+short SRV _http._tcp.web-service.payroll.svc.cluster.local",
        Lines(&["0 100 80 web-service.payroll.svc.cluster.local."]),
    ),
    (
        "+short SRV _postgres._tcp.db.shop.svc.cluster.local",
        Lines(&[
            "0 50 5432 db-0.db.shop.svc.cluster.local.",
            "0 50 5432 db-1.db.shop.svc.cluster.local.",
        ]),
    ),
    (
        "+short -x 10.96.42.10",
        Lines(&["web-service.payroll.svc.cluster.local."]),
    ),
    (
        "+short -x 10.244.2.20",
        Lines(&["db-0.db.shop.svc.cluster.local."]),
    ),
    (
        "+short 10-244-1-10.payroll.pod.cluster.local",
        Lines(&["10.244.1.10"]),
    ),
    (
        "db-2.db.shop.svc.cluster.local | grep status",
        Status("NXDOMAIN"),
    ),
    ("+short example.com", Anything),
    // The command above it, which edits the Corefile, has not been run.
    ("+short wiki.intranet.test", Anything),
    (
        "+ndots=5 +domain=cluster.local web-service.payroll.svc.cluster | grep status",
        NotFound,
    ),
    ("web-service.payroll | grep status", NotFound),
    (
        "web-service.default.svc.cluster.local | grep status",
        Status("NXDOMAIN"),
    ),
];

#[test]
fn every_command_of_the_guide_has_the_described_result() {
    let Some(lab) = Lab::start() else { return };
    let lines: Vec<&str> = lab.lines().collect();
    assert!(lines.len() >= PAGE.len() - 1, "{}", lab.page);
    thread::scope(|scope| {
        for line in lines {
            scope.spawn(|| {
                let arguments = lab.arguments(line);
                let row = PAGE.iter().find(|row| row.0 == arguments);
                let (_, shows) = row.unwrap_or_else(|| panic!("no row for {arguments:?}"));
                shows.check(line, &shell(line));
            });
        }
    });
    lab.end();
}

#[test]
fn pod_that_becomes_ready_is_in_the_next_answers() {
    let Some(lab) = Lab::start() else { return };
    let directory = lab.directory.path().read_dir().unwrap().next().unwrap();
    let path = directory.unwrap().path().join("50-shop.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("status: \"False\"", "status: \"True\"")).unwrap();
    let edited = Instant::now();
    let question = format!("{} +short db.shop.svc.cluster.local", lab.dig);
    let expected = ["10.244.2.20", "10.244.2.21", "10.244.2.22"];
    while sorted(&shell(&question)) != expected {
        // The guide promises a second; the rest is for a busy machine.
        assert!(
            edited.elapsed() < Duration::from_secs(10),
            "{}",
            shell(&question)
        );
    }
    let _directory = lab.interrupt();
    // Edited files are kept.
    assert!(path.is_file());
}

#[test]
fn server_block_added_to_the_corefile_is_served() {
    let Some(lab) = Lab::start() else { return };
    let edit = lab
        .page
        .lines()
        .find(|line| line.contains("printf '\\nint"));
    shell(edit.unwrap());
    let edited = Instant::now();
    let question = format!("{} +short wiki.intranet.test", lab.dig);
    while shell(&question) != "192.0.2.80\n" {
        assert!(
            edited.elapsed() < Duration::from_secs(20),
            "{}",
            shell(&question)
        );
    }
    // Edited files are kept.
    let directory = lab.interrupt();
    let lab = directory.path().read_dir().unwrap().next().unwrap();
    assert!(lab.unwrap().path().join("Corefile").is_file());
}

impl Shows {
    fn check(self, line: &str, output: &str) {
        let shown = sorted(output);
        match self {
            Lines(expected) => {
                let mut expected = expected.to_vec();
                expected.sort_unstable();
                assert_eq!(shown, expected, "{line}");
            }
            First(expected) => assert_eq!(output.lines().next(), Some(expected), "{line}"),
            Status(expected) => {
                assert!(
                    output.contains(&format!("status: {expected},")),
                    "{line}: {output}"
                );
            }
            NotFound => {
                let codes = ["NXDOMAIN", "SERVFAIL", "REFUSED"];
                let found = codes
                    .iter()
                    .any(|it| output.contains(&format!("status: {it},")));
                assert!(found, "{line}: {output}");
            }
            Anything => {}
        }
    }
}

/// A running lab, killed on drop.
struct Lab {
    child: Child,
    /// Parent of the sample's directory.
    directory: tempfile::TempDir,
    page: String,
    /// Common prefix of the commands.
    dig: String,
}

impl Lab {
    /// Starts the lab and reads its guide; None without `dig`.
    fn start() -> Option<Self> {
        if !dig::is_here() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_lodestone"))
            .args(["lab", "--port", "0"])
            .env("TMPDIR", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut page = String::new();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        // The last line of the guide.
        while !page.contains("unshare") {
            let read = reader.read_line(&mut page).unwrap();
            assert!(read > 0, "it ended after {page}");
        }
        // Drain later output, so that the lab does not block.
        thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        let line = page
            .lines()
            .find(|line| line.starts_with("  dig "))
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().take(4).collect();
        Some(Self {
            child,
            directory,
            dig: words.join(" "),
            page,
        })
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.page
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("dig "))
    }

    fn arguments<'a>(&self, line: &'a str) -> &'a str {
        line.strip_prefix(&self.dig).unwrap().trim()
    }

    /// Ends the lab like Ctrl-C; it removes its directory.
    fn end(self) {
        let directory = self.interrupt();
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    fn interrupt(mut self) -> tempfile::TempDir {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(kill.success());
        assert!(self.child.wait().unwrap().success());
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sorted lines, because `loadbalance` shuffles, without dig's comments about `.local`.
fn sorted(output: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = output
        .lines()
        .filter(|line| !line.starts_with(';'))
        .collect();
    lines.sort_unstable();
    lines
}
