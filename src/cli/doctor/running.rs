//! The running server, by its control socket: whether it is synced, and serves the present Corefile.

use std::time::Duration;

use tokio::time::timeout;

use super::{Facts, report::Finding};
use crate::cli::ControlSocket;
use crate::control::client::{Client, ClientError, ClusterStatus, Status};

const SERVER: &str = "server";

/// Bound on the time for the status.
const DEADLINE: Duration = Duration::from_secs(3);

/// Objects that nothing was heard of for so long are reported, in seconds: a watch has a bookmark every minute.
const MAX_AGE: u64 = 600;

/// Checks the server that is running here, if there is one.
pub async fn check(facts: &Facts) -> Vec<Finding> {
    let address = match &facts.socket {
        Some(ControlSocket::Off) => {
            return vec![Finding::skipped(
                SERVER,
                "",
                "not to be checked (--socket off)",
            )];
        }
        Some(ControlSocket::At(address)) => Some(address),
        None => None,
    };
    let status = async { Client::connect(address).await?.get("status", &[]).await };
    let status: Status = match timeout(DEADLINE, status).await {
        Ok(Ok(status)) => status,
        Ok(Err(error @ (ClientError::NoServer(_) | ClientError::Several(_)))) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            return vec![Finding::skipped(SERVER, "", first.trim_end_matches(':'))];
        }
        Ok(Err(error)) => return vec![silent(error.to_string())],
        Err(_) => return vec![silent(format!("no answer in {} s", DEADLINE.as_secs()))],
    };
    let subject = format!("process {}", status.pid);
    let mut findings = Vec::new();
    if let Some(cluster) = &status.cluster {
        findings.extend(of_cluster(&subject, cluster));
    }
    if let Some(config) = facts.config.as_ref().filter(|_| facts.is_own_corefile) {
        let here = crate::control::configuration(config.hash);
        if here != status.configuration {
            let detail = "serves another configuration than this Corefile";
            let remedy = "Wait for the reload; if it does not come, the log says why the Corefile was refused, \
                          or the block has no 'reload'";
            findings.push(Finding::warn(SERVER, &subject, detail, remedy));
        }
    }
    if findings.is_empty() {
        let detail = format!(
            "version {}, up {} s{}",
            status.version,
            status.uptime_s,
            state(&status)
        );
        findings.push(Finding::ok(SERVER, subject, detail));
    }
    findings
}

fn silent(why: String) -> Finding {
    let remedy = "See its log; a server that does not answer here may not answer queries either";
    Finding::fail(SERVER, "", why, remedy)
}

/// `, synced, 23 services`
fn state(status: &Status) -> String {
    let Some(cluster) = &status.cluster else {
        return String::new();
    };
    let services = cluster.resources.iter().find(|it| it.name == "services");
    let count = services.map_or(0, |it| it.count);
    format!(", {}, {count} services", cluster.state)
}

/// What is wrong with its objects.
fn of_cluster(subject: &str, cluster: &ClusterStatus) -> Vec<Finding> {
    let missing: Vec<&str> = cluster
        .resources
        .iter()
        .filter(|it| it.age_s.is_none())
        .map(|it| it.name.as_str())
        .collect();
    if cluster.state != "synced" {
        let detail = format!("{}: no list yet of {}", cluster.state, missing.join(", "));
        let remedy = "See the lines api and rbac; until all are listed, names of the cluster that are not known yet fail \
                      with SERVFAIL";
        return vec![Finding::fail(SERVER, subject, detail, remedy)];
    }
    let old = cluster.resources.iter().filter_map(|it| {
        let age = it.age_s.filter(|age| *age > MAX_AGE)?;
        let detail = format!("nothing was heard of {} for {age} s", it.name);
        let remedy = "See the lines api and rbac; answers can be out of date";
        Some(Finding::warn(SERVER, subject, detail, remedy))
    });
    old.collect()
}
