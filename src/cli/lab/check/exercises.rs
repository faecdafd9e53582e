//! The exercises of `docs/lab.md` and their goals, checked with queries to the lab; manifests and the Corefile
//! are read where DNS does not show the difference.

use anyhow::Context;
use hickory_proto::{
    op::ResponseCode,
    rr::{RData, RecordType},
};
use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use crate::cli::lab::{
    ask::{Answer, ask, client_address},
    objects::{Kind, Objects},
    running::RunningLab,
};

/// How long an answer may take: less than `forward` waits for a dead upstream until SERVFAIL, more than it waits
/// until it tries another one.
const PATIENCE: Duration = Duration::from_secs(3);

/// An exercise.
pub(super) struct Exercise {
    /// Its heading in the course.
    pub title: &'static str,
    /// What is to be reached, as in the course.
    pub goal: &'static str,
    /// Asks for what is missing.
    check: fn(&mut Check<'_>) -> anyhow::Result<()>,
}

/// All exercises in order.
pub(super) const EXERCISES: [Exercise; 12] = [
    Exercise {
        title: "Short and full names",
        goal: "a Service hello in the namespace default has an address.",
        check: |check| check.has_address("hello.default.svc.cluster.local."),
    },
    Exercise {
        title: "Across namespaces",
        goal: "web-service exists in the namespace staging too, with another address than in payroll.",
        check: across_namespaces,
    },
    Exercise {
        title: "NodePort and LoadBalancer",
        goal: "echo-service is of type NodePort, and its name still has the address 10.96.88.4.",
        check: node_port,
    },
    Exercise {
        title: "Readiness",
        goal: "db-2 is ready: db in shop has the address 10.244.2.22 too.",
        check: |check| check.shows("db.shop.svc.cluster.local.", RecordType::A, "10.244.2.22"),
    },
    Exercise {
        title: "Headless Services and StatefulSets",
        goal: "db in shop has a fourth pod with the name db-3.",
        check: |check| check.has_address("db-3.db.shop.svc.cluster.local."),
    },
    Exercise {
        title: "Ports: SRV",
        goal: "pay-service in critical-space has an SRV record for its port https, 8282.",
        check: |check| {
            let name = "_https._tcp.pay-service.critical-space.svc.cluster.local.";
            let target = "pay-service.critical-space.svc.cluster.local.";
            check.shows(name, RecordType::SRV, &format!("0 100 8282 {target}"))
        },
    },
    Exercise {
        title: "From an address to a name: PTR",
        goal: "the address 10.244.1.50 has a PTR record.",
        check: |check| {
            let name = "50.1.244.10.in-addr.arpa.";
            check.has(name, RecordType::PTR, "a name below svc.cluster.local")
        },
    },
    Exercise {
        title: "ExternalName",
        goal: "suppliers in shop is an alias of example.org.",
        check: |check| {
            let name = "suppliers.shop.svc.cluster.local.";
            check.shows(name, RecordType::CNAME, "example.org.")
        },
    },
    Exercise {
        title: "Pods by address",
        goal: "every address has a name below pod.cluster.local, as in a cluster made by kubeadm.",
        check: |check| {
            check.shows(
                "10-1-2-3.default.pod.cluster.local.",
                RecordType::A,
                "10.1.2.3",
            )
        },
    },
    Exercise {
        title: "Editing the Corefile",
        goal: "wiki.intranet.test has the address 192.0.2.80, and names outside still work.",
        check: |check| {
            check.shows("wiki.intranet.test.", RecordType::A, "192.0.2.80")?;
            check.outside_works()
        },
    },
    Exercise {
        title: "Stub domains",
        goal: "git.corp.test has the address 198.51.100.7, and names outside still work.",
        check: |check| {
            check.shows("git.corp.test.", RecordType::A, "198.51.100.7")?;
            check.outside_works()
        },
    },
    Exercise {
        title: "Breaking and repairing it",
        goal: "names outside are answered although forward has a dead upstream.",
        check: dead_upstream,
    },
];

impl Exercise {
    /// What is missing for the goal; empty if it is reached.
    pub(super) fn missing(&self, lab: &RunningLab) -> anyhow::Result<Vec<String>> {
        let mut check = Check {
            lab,
            missing: Vec::new(),
        };
        (self.check)(&mut check)?;
        Ok(check.missing)
    }
}

fn across_namespaces(check: &mut Check<'_>) -> anyhow::Result<()> {
    let name = "web-service.staging.svc.cluster.local.";
    check.has_address(name)?;
    let other = check.ask("web-service.payroll.svc.cluster.local.", RecordType::A)?;
    let here = check.ask(name, RecordType::A)?;
    if !here.is_empty() && here == other {
        let shown = name.trim_end_matches('.');
        check.miss(format!(
            "{shown}: {} is the address in payroll",
            here.join(", ")
        ));
    }
    check.has_address("web-service.payroll.svc.cluster.local.")
}

fn node_port(check: &mut Check<'_>) -> anyhow::Result<()> {
    let directory = &check.lab.manifests;
    let objects = Objects::read(directory)
        .with_context(|| format!("cannot read the manifests in {}", directory.display()))?;
    let service = objects.services.iter();
    let mut service = service.filter(|it| it.namespace == "default" && it.name == "echo-service");
    let is_node_port = service.any(|it| matches!(it.kind, Kind::NodePort(_)));
    if !is_node_port {
        check
            .miss("the manifest of echo-service in default does not set type: NodePort".to_owned());
    }
    check.shows(
        "echo-service.default.svc.cluster.local.",
        RecordType::A,
        "10.96.88.4",
    )
}

fn dead_upstream(check: &mut Check<'_>) -> anyhow::Result<()> {
    let (lab, dead) = (check.lab, check.lab.outside.dead.to_string());
    let corefile = std::fs::read_to_string(&lab.corefile)
        .with_context(|| format!("cannot read {}", lab.corefile.display()))?;
    let mut words = corefile.lines().map(str::split_whitespace);
    let is_named =
        words.any(|mut line| line.next() == Some("forward") && line.any(|it| it == dead));
    if !is_named {
        check.miss(format!(
            "no 'forward' in the Corefile names the dead upstream {dead}"
        ));
    }
    check.outside_works()
}

/// A check in progress.
struct Check<'a> {
    lab: &'a RunningLab,
    missing: Vec<String>,
}

impl Check<'_> {
    fn miss(&mut self, what: String) {
        self.missing.push(what);
    }

    /// The name has an address.
    fn has_address(&mut self, name: &str) -> anyhow::Result<()> {
        self.has(name, RecordType::A, "an address")
    }

    /// The name has a record of this type.
    fn has(&mut self, name: &str, rtype: RecordType, expected: &str) -> anyhow::Result<()> {
        self.find(name, rtype, expected, |_| true)
    }

    /// The name has this record, among others.
    fn shows(&mut self, name: &str, rtype: RecordType, expected: &str) -> anyhow::Result<()> {
        self.find(name, rtype, expected, |it| it == expected)
    }

    /// A name outside of the cluster, which is in no cache, is answered.
    fn outside_works(&mut self) -> anyhow::Result<()> {
        let name = format!("check-{:08x}.example.net.", rand::random::<u32>());
        self.shows(&name, RecordType::A, "192.0.2.30")
    }

    fn find(
        &mut self,
        name: &str,
        rtype: RecordType,
        expected: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let shown = match self.query(name, rtype) {
            Ok(answer) => {
                let data = data(&answer, rtype);
                if data.iter().any(|it| is_wanted(it)) {
                    return Ok(());
                }
                match answer.code {
                    ResponseCode::NoError if data.is_empty() => format!("no {rtype} record"),
                    ResponseCode::NoError => data.join(", "),
                    code => code.to_str().to_owned(),
                }
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => "no answer".to_owned(),
            Err(error) => return Err(self.lost(error)),
        };
        let name = name.trim_end_matches('.');
        self.miss(format!("{name} {rtype}: {shown}; expected: {expected}"));
        Ok(())
    }

    /// The data of the records of one type.
    fn ask(&self, name: &str, rtype: RecordType) -> anyhow::Result<Vec<String>> {
        let answer = self.query(name, rtype).map_err(|error| self.lost(error))?;
        Ok(data(&answer, rtype))
    }

    fn query(&self, name: &str, rtype: RecordType) -> io::Result<Answer> {
        ask(client_address(self.lab.address), name, rtype, PATIENCE)
    }

    fn lost(&self, error: io::Error) -> anyhow::Error {
        let address = self.lab.address;
        anyhow::Error::new(error).context(format!("cannot ask the lab at {address}"))
    }
}

/// The data of the records of one type, in presentation format and sorted.
fn data(answer: &Answer, rtype: RecordType) -> Vec<String> {
    let records = answer.records.iter().filter(|it| it.record_type() == rtype);
    let mut data: Vec<String> = records
        .map(|record| match &record.data {
            RData::CNAME(name) => name.0.to_string(),
            data => data.to_string(),
        })
        .collect();
    data.sort_unstable();
    data
}
