//! The guide that the lab prints: every command is run in a shell, and the output of `dig` compared.

use crate::dig::{self, shell};
use crate::running::Lab;
use std::thread;
use std::time::{Duration, Instant};

/// The expected output of a command.
#[derive(Clone, Copy, Debug)]
enum Shows {
    /// Exactly these lines, in any order.
    Lines(&'static [&'static str]),
    /// This status.
    Status(&'static str),
    /// Nothing.
    Nothing,
}

use Shows::{Lines, Nothing, Status};

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
        Lines(&["example.com.", "192.0.2.10"]),
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
        "gift-wrap.shop.svc.cluster.local | grep -E 'status|EDE'",
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
        "db-2.db.shop.svc.cluster.local | grep -E 'status|EDE'",
        Status("NXDOMAIN"),
    ),
    ("+short example.com", Lines(&["192.0.2.10"])),
    // The command above it, which edits the Corefile, has not been run.
    ("+short wiki.intranet.test", Nothing),
    (
        "+ndots=5 +domain=cluster.local web-service.payroll.svc.cluster | grep -E 'status|EDE'",
        Status("NXDOMAIN"),
    ),
    (
        "web-service.payroll | grep -E 'status|EDE'",
        Status("NXDOMAIN"),
    ),
    (
        "web-service.default.svc.cluster.local | grep -E 'status|EDE'",
        Status("NXDOMAIN"),
    ),
];

#[test]
fn every_command_of_the_guide_has_the_described_result() {
    if !dig::is_here() {
        return;
    }
    let lab = Lab::start();
    let lines = lab.page.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| line.starts_with("dig ")).collect();
    let dig = lab.dig();
    assert!(lines.len() >= PAGE.len() - 1, "{}", lab.page);
    thread::scope(|scope| {
        for line in lines {
            scope.spawn(|| {
                let arguments = line.strip_prefix(&dig).unwrap().trim();
                let row = PAGE.iter().find(|row| row.0 == arguments);
                let (_, shows) = row.unwrap_or_else(|| panic!("no row for {arguments:?}"));
                shows.check(line, &shell(line));
            });
        }
    });
    // It removes its directory.
    let parent = lab.interrupt();
    assert_eq!(parent.path().read_dir().unwrap().count(), 0);
}

#[test]
fn pod_that_becomes_ready_is_in_the_next_answers() {
    if !dig::is_here() {
        return;
    }
    let lab = Lab::start();
    let path = lab.directory().join("50-shop.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("status: \"False\"", "status: \"True\"")).unwrap();
    let edited = Instant::now();
    let question = format!("{} +short db.shop.svc.cluster.local", lab.dig());
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
    if !dig::is_here() {
        return;
    }
    let lab = Lab::start();
    let edit = lab
        .page
        .lines()
        .find(|line| line.contains("printf '\\nint"));
    shell(edit.unwrap());
    let edited = Instant::now();
    let question = format!("{} +short wiki.intranet.test", lab.dig());
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
            Status(expected) => {
                assert!(
                    output.contains(&format!("status: {expected},")),
                    "{line}: {output}"
                );
            }
            Nothing => assert_eq!(shown, [""; 0], "{line}"),
        }
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
